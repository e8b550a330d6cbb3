#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Configuration: who may do what, what is refused, and what is there afterwards.

. "$(atf_get_srcdir)/kmod.subr"

# one: wg0 with key a and one peer b.
one() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	check wg set wg0 private-key "$PWD/a.key" peer "$(pub b)" allowed-ips 10.9.0.0/24,fd09::/64 endpoint 192.0.2.1:4444
}

kmod_case ioctl_protocol 60 "sizes, pointers and names as the ioctls take them"
ioctl_protocol_body() {
	need_probe
	one
	check probe protocol wg0
	check ifconfig wg0 up
	check probe protocol wg0
}

kmod_case ioctl_refused 60 "what is wrong in a configuration has its errno, and changes nothing, in an interface up or down"
ioctl_refused_body() {
	need_probe
	one
	check probe refused wg0
	# The last message of it was right: it replaced the peers, and set port 1.
	is "$(wg show wg0 peers | wc -l | tr -d ' ')" 2 "peers"
	is "$(wg show wg0 listen-port)" 1 "port"
	check ifconfig wg0 up
	check probe refused wg0
	# A jail's root gets there too.
	jailed cell
	check on cell ifconfig wg0 create >/dev/null
	check on cell "$dir/probe" refused wg0
}

kmod_case hostile 60 "configuration messages with every bit wrong in turn, and lies about sizes"
hostile_body() {
	need_probe
	one
	wg genpsk >psk
	check wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk" persistent-keepalive 25
	check probe configure wg0
	check ifconfig wg0 destroy
	unload
}

kmod_case other_users 60 "other users than root see no secret and change nothing"
other_users_body() {
	need_probe
	one
	wg genpsk >psk
	check wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk"
	for user in 65534 1; do
		is "$(probe as $user wg show wg0 public-key)" "$(pub a)" "public key"
		is "$(probe as $user wg show wg0 private-key)" "(none)" "private key"
		is "$(probe as $user wg show wg0 preshared-keys | cut -f 2)" "(none)" "preshared key"
		seen=$(probe as $user wg show all dump)
		has "$seen" "$(pub b)"
		for secret in "$(cat a.key)" "$(cat psk)"; do
			has_not "$seen" "$secret"
		done
		refuse probe as $user wg set wg0 listen-port 1234
		refuse probe as $user wg set wg0 peer "$(pub b)" remove
		refuse probe as $user ifconfig wg0 up
		refuse probe as $user ifconfig wg0 mtu 1400
		refuse probe as $user ifconfig wg1 create
		refuse probe as $user ifconfig wg0 destroy
		# ifconfig(8) only warns of this one.
		probe as $user ifconfig wg0 tunnelfib 1
		has_not "$(ifconfig wg0)" "tunnelfib: 1"
	done
	is "$(wg show wg0 listen-port)" 0 port
	has "$(wg show wg0 dump)" "$(cat psk)"
}

kmod_case commands 60 "every command of wg(8) that knows interfaces"
commands_body() {
	one
	wg genpsk >psk
	check wg set wg0 listen-port 4000 fwmark 0x10 peer "$(pub b)" preshared-key "$PWD/psk" persistent-keepalive 25
	is "$(wg show interfaces)" wg0 interfaces
	is "$(wg show wg0 fwmark)" 0x10 fwmark
	is "$(wg show wg0 endpoints | cut -f 2)" 192.0.2.1:4444 endpoint
	is "$(wg show wg0 persistent-keepalive | cut -f 2)" 25 keepalive
	is "$(wg show wg0 latest-handshakes | cut -f 2)" 0 handshake
	is "$(wg show wg0 transfer | cut -f 2,3)" "0	0" transfer
	has "$(wg show wg0 allowed-ips)" "10.9.0.0/24"
	check wg show wg0 >shown
	check wg showconf wg0 >whole
	check ifconfig wg1 create >/dev/null
	check wg setconf wg1 whole
	# Allowed IPs are shown in the order of a stack.
	words() { wg showconf "$1" | tr -s ', ' '\n' | sort; }
	is "$(words wg1)" "$(words wg0)" "the copy"
	# A change by synchronisation leaves alone what is the same.
	key c
	{
		cat whole
		printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.10.0.0/16\n' "$(pub c)"
	} >larger
	check wg syncconf wg1 larger
	is "$(wg show wg1 peers | wc -l | tr -d ' ')" 2 "peers"
	check wg syncconf wg1 whole
	is "$(wg show wg1 peers)" "$(pub b)" "peers"
	printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.10.0.0/16\n' "$(pub c)" >added
	check wg addconf wg1 added
	is "$(wg show wg1 peers | wc -l | tr -d ' ')" 2 "peers"
	# A file without them takes key, port and mark away.
	check wg setconf wg1 added
	is "$(wg show wg1 peers)" "$(pub c)" "peers"
	is "$(wg show wg1 private-key)" "(none)" "private key"
	is "$(wg show wg1 fwmark)" off fwmark
}

kmod_case no_key 90 "without a private key there is no tunnel, and with it again there is"
no_key_body() {
	pair 4
	pings a 10.77.0.2
	check on a wg set wg0 private-key /dev/null
	is "$(on a wg show wg0 public-key)" "(none)" "public key"
	is "$(on a wg show wg0 peers)" "$(pub b)" "peers"
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	refuse on b ping -nq -c 2 -t 3 10.77.0.1
	check on a wg set wg0 private-key "$PWD/a.key"
	pings a 10.77.0.2
}

kmod_case shared_key 60 "a peer with the interface's own key is not taken, and goes when the key comes"
shared_key_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	key c
	check wg set wg0 private-key "$PWD/a.key"
	wg set wg0 peer "$(pub a)" allowed-ips 10.9.0.0/24
	is "$(wg show wg0 peers)" "" "a peer with our key"
	check wg set wg0 peer "$(pub b)" allowed-ips 10.9.0.0/24 peer "$(pub c)" allowed-ips 10.9.1.0/24
	# In one request: our own is left out, the other one changed.
	check wg set wg0 peer "$(pub a)" allowed-ips 10.9.2.0/24 peer "$(pub c)" persistent-keepalive 5
	is "$(wg show wg0 peers | wc -l | tr -d ' ')" 2 "peers with other keys"
	check ifconfig wg0 up
	check wg set wg0 private-key "$PWD/b.key"
	is "$(wg show wg0 peers)" "$(pub c)" "peers, when the key of one became ours"
	# Its prefixes are nobody's.
	check wg set wg0 peer "$(pub a)" allowed-ips 10.9.0.0/24
	is "$(wg show wg0 allowed-ips | grep -F "$(pub a)" | cut -f 2)" 10.9.0.0/24 "the prefix"
	# Two interfaces may have one key.
	check ifconfig wg1 create >/dev/null
	check wg set wg1 private-key "$PWD/b.key" peer "$(pub a)" allowed-ips 10.9.0.0/24
	check ifconfig wg1 up
	is "$(wg show wg1 peers)" "$(pub a)" "peers of the other interface"
}

kmod_case incremental 60 "allowed IPs one by one: given, taken, moved to another peer"
incremental_body() {
	need_probe
	one
	key c
	check wg set wg0 peer "$(pub c)" allowed-ips 10.10.0.0/16
	hex() { pub "$1" | b64decode -r | hexdump -v -e '/1 "%02x"'; }
	# of peer: its allowed IPs, in order.
	of() { wg show wg0 allowed-ips | grep -F "$(pub "$1")" | cut -f 2 | tr ' ' '\n' | sort | xargs; }
	check probe allowed wg0 "$(hex b)" + 10.9.1.0/24
	check probe allowed wg0 "$(hex b)" + fd09:1::/64
	is "$(of b)" "10.9.0.0/24 10.9.1.0/24 fd09:1::/64 fd09::/64" "b's after two more"
	check probe allowed wg0 "$(hex b)" - 10.9.0.0/24
	check probe allowed wg0 "$(hex b)" - fd09::/64
	is "$(of b)" "10.9.1.0/24 fd09:1::/64" "b's after two fewer"
	# What is not there, or is another's, is not taken.
	check probe allowed wg0 "$(hex b)" - 10.9.0.0/24
	check probe allowed wg0 "$(hex b)" - 10.10.0.0/16
	check probe allowed wg0 "$(hex b)" - 10.9.1.0/25
	is "$(of b)" "10.9.1.0/24 fd09:1::/64" "b's after none fewer"
	is "$(of c)" "10.10.0.0/16" "c's"
	check probe allowed wg0 "$(hex c)" + 10.9.1.0/24
	check probe allowed wg0 "$(hex c)" + fd09:1::/64
	is "$(of b)" "(none)" "b's after c got them"
	is "$(of c)" "10.10.0.0/16 10.9.1.0/24 fd09:1::/64" "c's after that"
	# Host bits do not count, and the whole of either family is a prefix too.
	check probe allowed wg0 "$(hex b)" + 10.9.1.77/24
	check probe allowed wg0 "$(hex b)" + 0.0.0.0/0
	check probe allowed wg0 "$(hex b)" + ::/0
	is "$(of b)" "0.0.0.0/0 10.9.1.0/24 ::/0" "b's at the end"
}

kmod_case huge_dump 300 "130,561 allowed IPs are taken, shown and taken away"
huge_dump_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	check wg set wg0 private-key "$PWD/a.key"
	check ifconfig wg0 up
	# Any 32 bytes are a public key. 1,305 peers have a hundred each, one the rest. They come in parts, as wg(8) takes time
	# in proportion to the square of numbers.
	awk 'BEGIN {
		for (p = 0; p < 1306; p++) {
			file = "many." int(p / 20)
			printf "[Peer]\nPublicKey = %042d0=\nAllowedIPs = ", p + 1 > file
			n = p < 1305 ? 100 : 61
			for (i = 0; i < n; i++)
				printf "%s10.%d.%d.%d/32", (i ? ", " : ""), p / 256, p % 256, i > file
			printf "\n" > file
		}
	}'
	for part in many.*; do
		check wg addconf wg0 "$part"
	done
	# As often as one looks it is the same.
	for _ in 1 2; do
		is "$(wg show wg0 allowed-ips | awk '{ n += NF - 1 } END { print n, NR }')" "130561 1306" "allowed IPs and peers"
	done
	# One of the last peer's given to another, instead of its own, and the first peer gone.
	check wg set wg0 peer "$(printf '%042d0=' 2)" allowed-ips 10.5.25.0/32
	check wg set wg0 peer "$(printf '%042d0=' 1)" remove
	is "$(wg show wg0 allowed-ips | awk '{ n += NF - 1 } END { print n, NR }')" "130361 1305" "allowed IPs and peers"
	check ifconfig wg0 destroy
	unload
}
