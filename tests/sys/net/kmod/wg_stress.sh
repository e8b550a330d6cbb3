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

# background command...: again and again, until the end of the test or stop_floods.
background() {
	(
		trap 'exit 0' TERM
		while :; do
			"$@" >/dev/null 2>&1
		done
	) &
	echo $! >>pids
}

kmod_case readers 240 "reading the configuration while peers come and go under traffic"
readers_body() {
	busy
	background jexec a wg show wg0 dump
	background jexec a wg showconf wg0
	background jexec b wg show all
	background jexec a ifconfig wg0
	background sysctl net.wg
	jot 300 1 | awk '{ printf "[Peer]\nPublicKey = %042d0=\nAllowedIPs = 10.%d.%d.0/24\n", $1, 100 + $1 / 256, $1 % 256 }' >peers.conf
	for _ in $(jot 15); do
		check on a wg addconf wg0 "$PWD/peers.conf"
		sed -n 's/^PublicKey = //p' peers.conf | sed 's/.*/peer & remove/' | xargs jexec a wg set wg0
		check on a wg set wg0 peer "$(pub b)" remove
		peer a b 2 192.0.2.2:51820
	done
	stop_floods
	pings a 10.77.0.2
}

kmod_case writers 240 "several who configure, and interfaces that come and go, at once"
writers_body() {
	busy
	key c
	background jexec a wg set wg0 peer "$(pub c)" allowed-ips 10.9.0.0/16 persistent-keepalive 1 endpoint 192.0.2.2:9
	background jexec a wg set wg0 peer "$(pub c)" remove
	background jexec a sh -c 'ifconfig wg5 create && ifconfig wg5 up && ifconfig wg5 destroy'
	background jexec a sh -c 'ifconfig wg6 create; ifconfig wg6 destroy'
	background jexec b sh -c 'ifconfig wg6 create up; ifconfig wg6 name wg7; ifconfig wg7 destroy'
	background jexec a ifconfig wg0 mtu 1400
	sleep 20
	stop_floods
	sleep 1
	pings a 10.77.0.2
}

kmod_case moving 240 "moving an interface into a jail and back under traffic"
moving_body() {
	# Only what comes out of the tunnel. rip6_send() of 14.2 looks into if_afdata of the interface that it has sent by after
	# its epoch section; while an interface moves that is a null pointer, whichever driver it has.
	pair 4
	pings a 10.77.0.2
	flood b 10.77.0.1
	flood b fd77::1
	check on a jail -c name=within persist vnet
	for _ in $(jot 10); do
		check on a ifconfig wg0 vnet within
		check on a jexec within ifconfig wg0 inet 10.77.0.1/24 up
		sleep 0.5
		check on a ifconfig wg0 -vnet within
		check on a ifconfig wg0 inet 10.77.0.1/24 up
		check on a ifconfig wg0 inet6 fd77::1/64
		sleep 0.5
	done
	stop_floods
	pings a 10.77.0.2
	pings b fd77::1
}

kmod_case load_races 240 "loading and unloading while jails with interfaces come and go"
load_races_body() {
	load
	# Should one of them be there at the end.
	printf 'one\ntwo\n' >>jails
	background sh -c 'jail -c name=one vnet command=sh -c "ifconfig wg0 create && ifconfig wg0 up"'
	background sh -c 'jail -c name=two vnet command=sh -c "ifconfig wg0 create up; ifconfig wg0 destroy"'
	background sh -c 'ifconfig wg9 create; ifconfig wg9 up'
	background sysctl net.wg
	for _ in $(jot 15); do
		sleep 0.5
		# It may be busy just now, which is an answer.
		kldunload if_wg
		kldload -n if_wg
	done
	stop_floods
	sleep 1
	load
	pair 4
	pings a 10.77.0.2
}
