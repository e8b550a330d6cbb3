#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# wgd against the Linux kernel's own WireGuard, in an emulated machine that boots Debian's cloud kernel.
#
#        host a -- t0: 192.0.2.1, 2001:db8::1 ------ eth0: 192.0.2.2, 2001:db8::2 -- emulated machine
#     wg0: 10.77.0.1, fd77::1                                     wg1: 10.77.0.2, fd77::2

. "$(atf_get_srcdir)/lab.subr"
# shellcheck source=linux_kernel/guest.subr
. "$lab_dir/linux_kernel/guest.subr"

# against_kernel outer [word...]: both ends configured; the words go into both ends' `wg set ... peer`.
against_kernel() {
	case $1 in
	4) lab_addr_a=192.0.2.1 lab_addr_b=192.0.2.2 ;;
	6) lab_addr_a='[2001:db8::1]' lab_addr_b='[2001:db8::2]' ;;
	esac
	shift
	boot
	new_key a
	new_key b
	tunnel a wg0
	check wg set wg0 listen-port 51820 private-key a.key peer "$(pub b)" \
		endpoint "$lab_addr_b:51820" allowed-ips 10.77.0.2/32,fd77::2/128 "$@"
	up a wg0 10.77.0.1/24 fd77::1/64
	psk=
	case "$*" in *preshared-key*) psk="preshared-key /tmp/psk" ;; esac
	check peer "
		echo '$(cat b.key)' >/tmp/key
		echo '$(cat psk 2>/dev/null)' >/tmp/psk
		ip link add wg1 type wireguard &&
		wg set wg1 listen-port 51820 private-key /tmp/key peer '$(pub a)' \
			endpoint '$lab_addr_a:51820' allowed-ips 10.77.0.1/32,fd77::1/128 $psk &&
		ip addr add 10.77.0.2/24 dev wg1 && ip addr add fd77::2/64 dev wg1 && ip link set wg1 mtu 1420 up"
}

# A packet of any size, as the only one and many together; busybox's ping compares the contents.
from_peer() { check peer "ping -q -c 1 -w 15 $*"; }

lab_case v4 180 "over IPv4: each side beginning, both families inside, edge sizes"
v4_body() {
	against_kernel 4
	pings a 10.77.0.2
	from_peer 10.77.0.1
	from_peer fd77::1
	for size in 0 1 15 16 17 1391 1392 1393 1419 1420 9000; do
		pings a 10.77.0.2 -s $size
		from_peer "-s $size 10.77.0.1"
	done
	# The kernel forgets its session and begins a new one.
	check peer "wg set wg1 peer '$(pub a)' remove && wg set wg1 peer '$(pub a)' \
		endpoint 192.0.2.1:51820 allowed-ips 10.77.0.1/32,fd77::1/128"
	from_peer 10.77.0.1
	pings a fd77::2
	check peer "wg show wg1 latest-handshakes | grep -v '	0\$'"
}

lab_case v6_psk 180 "over IPv6 with a preshared key: each side beginning, edge sizes"
v6_psk_body() {
	wg genpsk >psk
	against_kernel 6 preshared-key psk
	# The kernel begins.
	from_peer fd77::1
	pings a fd77::2
	pings a 10.77.0.2
	for size in 0 1 15 16 17 1371 1372 1373 9000; do
		pings a fd77::2 -s $size
		from_peer "-s $size fd77::1"
	done
	# And now wgd does.
	check wg set wg0 peer "$(pub b)" remove
	check wg set wg0 peer "$(pub b)" preshared-key psk endpoint '[2001:db8::2]:51820' \
		allowed-ips 10.77.0.2/32,fd77::2/128
	pings a 10.77.0.2
	from_peer 10.77.0.1
}

lab_case roaming 180 "both ends change their ports, the kernel its address"
roaming_body() {
	against_kernel 4
	pings a 10.77.0.2
	check wg set wg0 listen-port 40000
	pings a 10.77.0.2
	check peer "wg show wg1 endpoints | grep 192.0.2.1:40000"
	check peer "wg set wg1 listen-port 40001"
	from_peer 10.77.0.1
	show_is wg0 endpoints "$(pub b)" 192.0.2.2:40001 || fail "wg0 did not follow the port"
	check wg set wg0 peer "$(pub b)" endpoint '[2001:db8::2]:40001'
	pings a fd77::2
	check peer "wg show wg1 endpoints | grep -F '[2001:db8::1]:40000'"
}

