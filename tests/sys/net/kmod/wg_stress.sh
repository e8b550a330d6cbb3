#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Taking things away while they are in use.

. "$(atf_get_srcdir)/kmod.subr"

# busy: a pair with traffic in both directions.
busy() {
	pair 4
	pings a 10.77.0.2
	flood a 10.77.0.2
	flood b 10.77.0.1
	flood a fd77::2
}

kmod_case destroy 240 "destroying and making an interface anew under traffic"
destroy_body() {
	busy
	for _ in 1 2 3 4 5 6; do
		sleep 1
		check on a ifconfig wg0 destroy
		tunnel a 1
		peer a b 2 192.0.2.2:51820
	done
	stop_floods
	pings a 10.77.0.2
}

kmod_case peers 240 "removing and adding a peer under traffic and handshakes"
peers_body() {
	busy
	for _ in $(jot 40); do
		check on a wg set wg0 peer "$(pub b)" remove
		peer a b 2 192.0.2.2:51820
		check on b wg set wg0 peer "$(pub a)" remove
		peer b a 1 192.0.2.1:51820
	done
	stop_floods
	pings a 10.77.0.2
}

kmod_case flapping 240 "down and up, other keys, other ports, under traffic"
flapping_body() {
	busy
	for i in $(jot 20); do
		check on a ifconfig wg0 down
		check on a ifconfig wg0 up
		check on b wg set wg0 listen-port $((40000 + i))
		peer a b 2 "192.0.2.2:$((40000 + i))"
		wg genkey >other.key
		check on a wg set wg0 private-key "$PWD/other.key"
		check on a wg set wg0 private-key "$PWD/a.key"
	done
	stop_floods
	pings a 10.77.0.2
}

kmod_case unload_busy 240 "forced unloading under traffic"
unload_busy_body() {
	for _ in 1 2 3; do
		busy
		sleep 1
		check kldunload if_wg
		stop_floods
		is "$(dmesg | grep 'memory type wg leaked')" "" leak
		check jail -r a
		check jail -r b
		ifconfig "$left" destroy
	done
}
