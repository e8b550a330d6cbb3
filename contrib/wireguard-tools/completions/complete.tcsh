# SPDX-License-Identifier: BSD-2-Clause
# Completion of wg(8) and wg-quick(8) for csh and tcsh: source this file from ~/.cshrc.
# FreeBSD's sh(1) completes names of programs and files, and has no way to be told more.

complete wg \
	'p/1/(show showconf set setconf addconf syncconf check genkey genpsk pubkey help version)/' \
	'n/show/`sh -c "wg show interfaces; echo all interfaces" |& grep -v :`/' \
	'n/{showconf,set,setconf,addconf,syncconf}/`wg show interfaces`/' \
	'n/check/f/' \
	'n/{private-key,preshared-key}/f/' \
	'n/peer/`wg show $:3 peers`/' \
	'n/fwmark/(off)/' \
	'n/persistent-keepalive/(off 25)/' \
	'N/{setconf,addconf,syncconf}/f/' \
	'N/show/(public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips latest-handshakes transfer persistent-keepalive dump)/' \
	'N/peer/(remove preshared-key endpoint persistent-keepalive allowed-ips peer)/' \
	'N/set/(listen-port fwmark private-key peer)/'

complete wg-quick \
	'p/1/(up down save strip)/' \
	'n/{up,strip}/`sh -c "ls /etc/wireguard /usr/local/etc/wireguard" |& sed -n "s,\.conf,,p"`/' \
	'n/{down,save}/`wg show interfaces`/'
