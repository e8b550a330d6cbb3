#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# The limits that an operator can set, and what is counted.

. "$(atf_get_srcdir)/kmod.subr"

limit() { sysctl -n "net.wg.$1"; }

kmod_case limits 60 "limits have bounds, and every variable has a description"
limits_body() {
	load
	for name in max_staged max_in_flight max_packets max_handshakes; do
		first=$(limit $name)
		for bad in 0 65537 -1 many; do
			refuse sysctl net.wg.$name=$bad
			is "$(limit $name)" "$first" "$name after $bad"
		done
		for good in 64 65536 "$first"; do
			check sysctl -q net.wg.$name="$good" >/dev/null
			is "$(limit $name)" "$good" "$name"
		done
	done
	refuse sysctl net.wg.handshakes=1
	for name in $(sysctl -N net.wg); do
		[ "$(sysctl -dn "$name")" ] || fail "$name has no description"
	done
}

kmod_case tunables 60 "limits can be set before the module is loaded; what is out of bounds is told and left"
tunables_cleanup() {
	kenv -qu net.wg.max_staged
	kenv -qu net.wg.max_packets
	clean_up
}
tunables_body() {
	need kenv
	loaded && check kldunload if_wg
	check kenv -q net.wg.max_staged=7 >/dev/null
	check kenv -q net.wg.max_packets=99999999 >/dev/null
	check kldload if_wg
	is "$(limit max_staged)" 7 "a tunable"
	is "$(limit max_packets)" 1024 "one that is out of bounds"
	has "$(dmesg | tail -n 5)" net.wg.max_packets
}

kmod_case staged 60 "no more packets wait for a handshake than are allowed"
staged_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	check wg set wg0 private-key "$PWD/a.key" peer "$(pub b)" endpoint 127.0.0.1:9 allowed-ips 10.9.0.0/24
	check ifconfig wg0 inet 10.9.0.1/24 up
	check sysctl -q net.wg.max_staged=3 >/dev/null
	before=$(counter drop_no_session)
	ping -nq -c 10 -i 0.1 -t 2 10.9.0.2 >/dev/null
	is "$(($(counter drop_no_session) - before))" 7 "packets dropped of ten"
	[ "$(counter handshake_initiations_sent)" -ge 1 ] || fail "no initiation was counted"
	unload
}
