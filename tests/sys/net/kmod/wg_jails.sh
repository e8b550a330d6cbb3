#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Tunnels and jails with network stacks of their own.

. "$(atf_get_srcdir)/kmod.subr"

# gone name: the jail is not even dying any more.
gone() { ! jls -d name | grep -qx "$1"; }

kmod_case moved 90 "the sockets of an interface stay where it was made when it moves into a jail"
moved_body() {
	hosts
	jailed inner
	tunnel b 2
	check on a ifconfig wg0 create >/dev/null
	key a
	check on a wg set wg0 private-key "$PWD/a.key" listen-port 51820 peer "$(pub b)" \
		endpoint 192.0.2.2:51820 allowed-ips 10.77.0.2/32,fd77::2/128
	peer b a 1 192.0.2.1:51820
	# A jail of host a has no road to 192.0.2.0/24 but through the tunnel's sockets outside.
	check on a jail -c name=within persist vnet
	check on a ifconfig wg0 vnet within
	check on a jexec within ifconfig wg0 inet 10.77.0.1/24 up
	eventually 10 on a jexec within ping -nq -c 1 -t 2 10.77.0.2
	has "$(on a sockstat -46lq -P udp -p 51820)" 51820
	is "$(on a jexec within sockstat -46lq -P udp -p 51820)" "" "sockets inside"
	# Its root configures it, but the sockets are another's.
	check on a jexec within wg set wg0 peer "$(pub b)" persistent-keepalive 25
	check on a jexec within wg set wg0 listen-port 51820
	refuse on a jexec within wg set wg0 listen-port 51821
	refuse on a jexec within wg set wg0 fwmark 7
	# ifconfig(8) only warns of it.
	has "$(on a jexec within ifconfig wg0 tunnelfib 1 2>&1)" SIOCSTUNFIB
	has_not "$(on a jexec within ifconfig wg0)" tunnelfib:
	has "$(on a sockstat -46lq -P udp -p 51820)" 51820
	eventually 10 on a jexec within ping -nq -c 1 -t 2 10.77.0.2
	check on a ifconfig wg0 -vnet within
	check on a wg set wg0 listen-port 51821
	has "$(on a ifconfig -l)" wg0
	check on a jail -r within
}

kmod_case removed 90 "removing a jail takes its tunnels with it, under traffic, and nothing holds it back"
removed_body() {
	for _ in 1 2 3; do
		pair 4
		pings a 10.77.0.2
		flood a 10.77.0.2
		flood b 10.77.0.1
		sleep 1
		check jail -r a
		check jail -r b
		stop_floods
		eventually 20 gone a
		eventually 20 gone b
		ifconfig "$left" destroy
	done
	unload
}

kmod_case removed_amid_create 90 "a jail goes while its root makes interfaces, and none holds it back"
removed_amid_create_body() {
	load
	for _ in 1 2 3 4 5 6 7 8; do
		jailed busy
		for _ in 1 2 3; do
			on busy sh -c 'while :; do n=$(ifconfig wg create) && ifconfig "$n" up; done' >/dev/null 2>&1 &
		done
		sleep 1
		check jail -r busy
		eventually 20 gone busy
		wait
	done
	unload
}

kmod_case home_removed 90 "the home of an interface's sockets goes while it is elsewhere"
home_removed_body() {
	load
	jailed home
	check on home ifconfig wg0 create >/dev/null
	key a
	key b
	check on home wg set wg0 private-key "$PWD/a.key" listen-port 51820 peer "$(pub b)" allowed-ips 10.77.0.0/24 \
		endpoint 127.0.0.1:9
	check on home jail -c name=away persist vnet
	check on home ifconfig wg0 vnet away
	check on home jexec away ifconfig wg0 inet 10.77.0.1/24 up
	on home jexec away ping -nq -c 1 -t 1 10.77.0.2 >/dev/null
	check jail -r home
	eventually 20 gone home
	unload
}

kmod_case returned 90 "an interface comes home, down and as it was, when the jail goes that it was moved to"
returned_body() {
	pair 4
	pings a 10.77.0.2
	check on a jail -c name=within persist vnet
	check on a ifconfig wg0 vnet within
	has_not "$(on a jexec within ifconfig wg0)" RUNNING
	check on a jexec within ifconfig wg0 inet 10.77.0.1/24 up
	eventually 10 on a jexec within ping -nq -c 1 -t 2 10.77.0.2
	check on a jail -r within
	# shellcheck disable=SC2317 # called by name
	home() { on a ifconfig wg0; }
	eventually 20 home
	has_not "$(on a ifconfig wg0)" RUNNING
	has_not "$(on a ifconfig wg0)" 10.77.0.1
	is "$(on a wg show wg0 peers)" "$(pub b)" "peers"
	check on a ifconfig wg0 inet 10.77.0.1/24 up
	pings a 10.77.0.2
}

kmod_case by_netlink 60 "a jail that asks by netlink(4) gets no socket in the host's network stack"
by_netlink_body() {
	need_probe
	load
	jailed asks
	cp "$dir/probe" .
	# Whatever the kernel's thread may do, and whatever port.
	refuse on asks "$PWD/probe" netlink-create wg0
	has "$(cat out)" "Operation not permitted"
	refuse on asks ifconfig wg0
	check on asks ifconfig wg0 create >/dev/null
	check on asks ifconfig wg0 up
	port=$(on asks wg show wg0 listen-port)
	[ "$port" -gt 0 ] || fail "no port"
	has "$(on asks sockstat -46lq -P udp -p "$port")" "*:$port"
	is "$(sockstat -46lq -P udp -p "$port")" "" "the host's sockets of that port"
	# The host has one by the same road.
	check probe netlink-create wg6
	check ifconfig wg6 up
	port=$(wg show wg6 listen-port)
	has "$(sockstat -46lq -P udp -p "$port")" "*:$port"
	check ifconfig wg6 destroy
}

kmod_case reserved_port 60 "a jail that may not have ports below 1024 has none by its tunnel"
reserved_port_body() {
	load
	jailed small allow.noreserved_ports || atf_skip "no such rule here"
	key a
	check on small ifconfig wg0 create >/dev/null
	check on small wg set wg0 private-key "$PWD/a.key" listen-port 53
	on small ifconfig wg0 up
	has_not "$(on small ifconfig wg0)" RUNNING
	check on small ifconfig wg0 down
	check on small wg set wg0 listen-port 5353
	check on small ifconfig wg0 up
	has "$(on small ifconfig wg0)" RUNNING
}

kmod_case not_loaded 60 "a jail cannot load the module, and has its tunnel as soon as the host has"
not_loaded_body() {
	loaded && check kldunload if_wg
	jailed early
	refuse on early kldload if_wg
	refuse on early ifconfig wg create
	loaded && fail "a jail has loaded it"
	is "$(ifconfig wg create)" wg0 "the host's"
	is "$(on early ifconfig wg create)" wg0 "the jail's"
	check on early ifconfig wg0 up
	# They know nothing of each other.
	check on early ifconfig wg0 destroy
	has "$(ifconfig -l)" wg0
}

kmod_case loaded_later 60 "a jail that was there before the module has tunnels too"
loaded_later_body() {
	loaded && check kldunload if_wg
	jailed early
	refuse on early ifconfig wg0 create
	load
	check on early ifconfig wg0 create >/dev/null
	key a
	check on early wg set wg0 private-key "$PWD/a.key"
	is "$(on early wg show wg0 private-key)" "$(cat a.key)" "what a jail's root sees"
	is "$(ifconfig -g wg)" "" "what the host sees"
	check on early ifconfig wg0 up
	check kldunload if_wg
	refuse on early ifconfig wg0
}
