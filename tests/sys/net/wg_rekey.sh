#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Rekeying after 120 s in real time, once in each direction; everything finer is done in virtual time by
# the sim tests. The case mostly waits, so it runs beside the other programs.

. "$(atf_get_srcdir)/lab.subr"

# One packet a second keeps a session in use; only the initiator of a session renews it.
renewal() { # sender interface-of-sender peer address
	pings "$1" "$4"
	first=$(show "$2" latest-handshakes "$3")
	on "$1" ping -n -q -i 0.5 -w 135 "$4" >stream.out 2>&1 || fail "ping failed: $(cat stream.out)"
	second=$(show "$2" latest-handshakes "$3")
	[ $((second - first)) -ge 119 ] || fail "no new handshake within 135 s ($first, $second)"
	[ $((second - first)) -le 130 ] || fail "the handshake came late ($first, $second)"
	# A packet may be lost in the moment of the change; a stall would lose a dozen.
	lost=$(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 - \2/p' stream.out)
	[ $((lost)) -le 3 ] || fail "lost $lost: $(cat stream.out)"
}

lab_case ours_wgd 200 "wgd renews a session that it began, with wgd on the other side"
ours_wgd_body() {
	pair 4 wgd wgd
	renewal a wg0 "$(pub b)" 10.77.0.2
}

lab_case ours_wireguard_go 200 "wgd renews a session that it began, with wireguard-go on the other side"
ours_wireguard_go_body() {
	pair 6 wgd wireguard-go
	renewal a wg0 "$(pub b)" 10.77.0.2
}

lab_case theirs_wireguard_go 200 "wireguard-go renews a session that it began"
theirs_wireguard_go_body() {
	pair 4 wgd wireguard-go
	renewal b wg1 "$(pub a)" fd77::1
}
