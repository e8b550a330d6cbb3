#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# wgd against itself and against independent implementations: each side beginning the handshake, both
# address families outside and inside, with and without a preshared key, packets of every edge size.

. "$(atf_get_srcdir)/lab.subr"

# Inner packets at the edges of padding and MTU, and UDP payloads from nothing to many fragments.
# 1392 and 1372 are the ICMP payloads that fill the MTU of 1420 over IPv4 and IPv6.
payloads="0 1 15 16 17 1371 1372 1373 1391 1392 1393 1419 1420 9000"

both_ways() {
	pings a 10.77.0.2
	pings a fd77::2
	pings b 10.77.0.1
	pings b fd77::1
}

each_side_begins() {
	pings a 10.77.0.2
	both_ways
	forget_sessions
	pings b fd77::1
	both_ways
	handshaken wg0 "$(pub b)" || fail "wg0 reports no handshake"
}

with_psk() { # implementation
	wg genpsk >psk
	pair 4 wgd "$1" preshared-key psk
	each_side_begins
	# A wrong key on one side: nothing passes until it is right again.
	wg genpsk >other
	check wg set wg0 peer "$(pub b)" remove
	check wg set wg0 peer "$(pub b)" preshared-key other endpoint 192.0.2.2:51820 \
		allowed-ips 10.77.0.2/32,fd77::2/128
	silent a 10.77.0.2
	check wg set wg0 peer "$(pub b)" remove
	check wg set wg0 peer "$(pub b)" preshared-key psk endpoint 192.0.2.2:51820 \
		allowed-ips 10.77.0.2/32,fd77::2/128
	pings a 10.77.0.2
}

sizes() { # implementation
	pair 4 wgd "$1"
	pings a 10.77.0.2
	# shellcheck disable=SC2086 # a list
	echo_sizes a b 10.77.0.2 $payloads
	# shellcheck disable=SC2086
	echo_sizes b a fd77::1 $payloads
	for size in 0 1 15 16 17 1391 1392; do
		pings b 10.77.0.1 -M "do" -s $size
	done
	for size in 0 1 15 16 17 1371 1372; do
		pings a fd77::2 -M "do" -s $size
	done
}

for kind in wgd wireguard-go boringtun-cli gotatun; do
	case $kind in
	wireguard-go) name=wireguard_go ;;
	boringtun-cli) name=boringtun ;;
	*) name=$kind ;;
	esac
	lab_case ${name}_v4 60 "against $kind over IPv4, each side beginning"
	lab_case ${name}_v6 60 "against $kind over IPv6, each side beginning"
	lab_case ${name}_psk 60 "against $kind with a preshared key, and with a wrong one"
	lab_case ${name}_sizes 120 "against $kind, payload sizes at the edges of padding and MTU"
	eval "
	${name}_v4_body() { pair 4 wgd $kind; each_side_begins; }
	${name}_v6_body() { pair 6 wgd $kind; each_side_begins; }
	${name}_psk_body() { with_psk $kind; }
	${name}_sizes_body() { sizes $kind; }"
done
