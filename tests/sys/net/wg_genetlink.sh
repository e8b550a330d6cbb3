#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Our wg(8), the static one, and the stock one beside it, on the Linux kernel's generic netlink family: in an emulated
# machine that boots Debian's cloud kernel. What they say must be the same byte for byte, and what they do must leave
# the kernel in the same state.
#
# Environment: WG_STATIC  our program (build/tools/linux-static/wg)

. "$(atf_get_srcdir)/lab.subr"
# shellcheck source=linux_kernel/guest.subr
. "$lab_dir/linux_kernel/guest.subr"

WG_STATIC=${WG_STATIC:-$top/build/tools/linux-static/wg}

# guest: boots a machine in which `wg` is the stock program and `ours` is ours, with the files of folder root.
guest() {
	[ -x "$WG_STATIC" ] || fail "no static wg at $WG_STATIC (tools/cross.py static)"
	mkdir -p root/bin
	cp "$WG_STATIC" root/bin/ours
	cp "$lab_dir/linux_kernel/same.sh" root/same.sh
	boot root
}

# inside script...: runs it in the machine with what same.sh defines.
inside() { check peer ". /same.sh
$*"; }

lab_case same_words 300 "every subcommand beside the stock one: words, exit codes, and the kernel's state"
same_words_body() {
	guest
	# Two interfaces that talk to each other, so that there are handshakes, endpoints and counters to show.
	inside '
		for i in 1 2; do
			wg genkey >$i.key; wg pubkey <$i.key >$i.pub; wg genpsk >psk
			ip link add wg$i type wireguard || exit
		done
		ours set wg1 listen-port 1001 private-key 1.key fwmark 0x21 peer $(cat 2.pub) preshared-key psk \
			endpoint 127.0.0.1:1002 persistent-keepalive 25 allowed-ips 10.1.0.2/32,fd01::2/128,0.0.0.0/0 &&
		ours set wg2 listen-port 1002 private-key 2.key peer $(cat 1.pub) preshared-key psk \
			endpoint [::1]:1001 allowed-ips 10.1.0.0/24,::/0 || exit
		ip addr add 10.1.0.1/24 dev wg1; ip link set wg1 up; ip link set wg2 up
		eventually "wg show wg2 transfer | grep -v \"	0\""
		wg show wg1 latest-handshakes | grep -v "	0$" || exit
		ip link set wg1 down; ip link set wg2 down
		wg set wg1 fwmark 0
		ip link add empty type wireguard'
	inside '
		for field in public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips \
			latest-handshakes transfer persistent-keepalive dump; do
			same show wg1 $field
			# Here the stock program of that version forgets names and line ends; ours follows a newer one.
			[ $field = endpoints ] || same show all $field
		done
		for name in wg2 empty; do same show $name dump; same showconf $name; done
		# Not a name of 16 letters either: the newer one says that it is too long.
		for name in nosuch lo eth0 "" wg1x no/such; do
			same show "$name" dump; same showconf "$name"; same set "$name" listen-port 0
		done
		same setconf nosuch /dev/null
		same show interfaces'
	# The time since a handshake is part of this output, so that once may be between two seconds.
	inside '
		for mode in always never; do
			for name in wg1 empty all; do
				again 5 same_pretty "WG_COLOR_MODE=$mode WG_HIDE_KEYS=never" show $name
				again 5 same_pretty "WG_COLOR_MODE=$mode" show $name
			done
		done'
	# Whoever changes the kernel, it is the same afterwards.
	inside '
		ip link del wg1; ip link del wg2; ip link del empty
		ip link add wga type wireguard; ip link add wgb type wireguard
		K1=$(cat 1.pub) K2=$(cat 2.pub) K3=$(wg genkey | wg pubkey)
		state listen-port 1234 fwmark 7 private-key 1.key
		state peer $K2 allowed-ips 10.0.0.0/8,fd00::/8 endpoint 192.0.2.7:7 preshared-key psk
		state peer $K3 allowed-ips 10.0.0.0/9,10.0.0.0/8 endpoint [2001:db8::7]:7 persistent-keepalive 65535
		state peer $K3 endpoint [fe80::7%eth0]:9
		state peer $K2 allowed-ips 192.0.2.0/24,192.0.2.128/25,::/0
		state peer $K2 preshared-key /dev/null persistent-keepalive off
		state peer $K3 allowed-ips ""
		state peer $K1 allowed-ips 10.9.0.0/16
		state peer $K3 remove peer $K3 remove
		state peer $K3 remove peer $K2 allowed-ips 10.0.0.0/8 peer $K3 allowed-ips 10.0.0.0/8
		state private-key 2.key
		state fwmark off listen-port 1235
		state private-key /dev/null'
	# Adding and removing single prefixes is newer than the stock program, and than some kernels.
	inside '
		K=$(cat 2.pub)
		ours set wga peer $K allowed-ips 10.0.0.0/8,10.1.0.0/16 &&
		ours set wga peer $K allowed-ips +10.2.0.0/16 || exit
		[ "$(wg show wga allowed-ips | grep "^$K" | wc -w)" = 4 ] || exit
		ours set wga peer $K allowed-ips -10.1.0.0/16 2>answer
		case $?:$(cat answer) in
		0:) [ "$(wg show wga allowed-ips | grep -c 10.1.0.0)" = 0 ] ;;
		1:*"Invalid argument") [ "$(wg show wga allowed-ips | grep -c 10.1.0.0)" = 1 ] ;;
		*) cat answer; false ;;
		esac'
	# Whoever may not, is told so; and a kernel without the family has its own words.
	inside '
		ip link del wga; ip link del wgb
		ip link add wg0 type wireguard
		adduser -D -H somebody 2>/dev/null || echo "somebody:x:99:99::/:/bin/sh" >>/etc/passwd
		same_as_somebody show wg0; same_as_somebody show interfaces; same_as_somebody set wg0 listen-port 1
		ip link del wg0; rmmod wireguard || exit
		same show interfaces; same show
		# The stock program says "Protocol not supported", whatever is missing.
		for words in "show wg0" "set wg0 listen-port 1"; do
			if ours $words 2>answer || ! grep "No such device" answer; then
				cat answer
				exit 1
			fi
		done'
}

lab_case many 300 "2,000 peers, a sync of them, and 130,561 allowed IPs of one peer"
many_body() {
	mkdir -p root
	"$lab_dir/gen.py" peers 2000 >root/peers.conf
	# Half of them go, some change, some come.
	sed 's/51820$/51821/; s|/128$|/127|' root/peers.conf | awk 'BEGIN { RS = "\\[Peer\\]\n"; ORS = "" }
		NR > 1 && NR % 2 { print "[Peer]\n" $0 }' >root/fewer.conf
	"$lab_dir/gen.py" peers 2100 | tail -n 400 >>root/fewer.conf
	awk 'BEGIN {
		print "[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
		for (n = 0; n < 130561; n++)
			printf "AllowedIPs = 11.%d.%d.%d/32\n", int(n / 65536), int(n / 256) % 256, n % 256
	}' >root/prefixes.conf
	guest
	inside '
		ip link add wga type wireguard; ip link add wgb type wireguard
		for do in "setconf peers" "setconf peers" "syncconf fewer" "addconf peers" "setconf fewer"; do
			set -- $do
			ours $1 wga /$2.conf && wg $1 wgb /$2.conf || exit
			same_state || exit
			[ $(wg show wga peers | wc -l) -gt 999 ] || exit
		done
		same show wga dump; same showconf wga; same show wga allowed-ips
		wg show wga peers | tail -n 700 | sed "s/.*/peer & remove/" | xargs ours set wga
		wg show wgb peers | tail -n 700 | sed "s/.*/peer & remove/" | xargs wg set wgb
		same_state'
	inside '
		ours setconf wga /prefixes.conf || exit
		[ $(wg show wga allowed-ips | wc -w) = 130562 ] || exit
		same show wga dump; same show wga allowed-ips; same showconf wga
		ip link del wgb'
	# While somebody else changes the interface a dump is begun anew until it is of one piece.
	inside '
		(for i in 1 2 3 4 5 6; do wg set wga peer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI= \
			allowed-ips 12.0.0.$i/32; usleep 100000; done) &
		for i in 1 2 3; do
			[ $(ours show wga allowed-ips | head -n 1 | wc -w) = 130562 ] || exit
		done
		wait'
}
