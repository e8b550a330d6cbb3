#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# The module and its interfaces, without a packet: loading, names, flags, privileges.

. "$(atf_get_srcdir)/kmod.subr"

kmod_case load_unload 120 "loading and unloading again and again leaves nothing behind"
load_unload_body() {
	for _ in 1 2 3 4 5; do
		load
		has "$(kldstat -v)" if_wg
		check ifconfig wg0 create >/dev/null
		check ifconfig wg0 up
		check ifconfig wg0 destroy
		unload
		is "$(vmstat -m | awk '$1 == "wg"')" "" "memory of type wg"
		refuse sysctl net.wg
	done
}

kmod_case unload_busy 60 "unloading the module destroys the interfaces that are left"
unload_busy_body() {
	for _ in 1 2 3; do
		load
		check ifconfig wg0 create >/dev/null
		check ifconfig wg1 create up >/dev/null
		check ifconfig wg create name office >/dev/null
		unload
		refuse ifconfig wg0
		refuse ifconfig office
	done
}

kmod_case names 60 "automatic, chosen and changed names"
names_body() {
	load
	is "$(ifconfig wg create)" wg0 "the first"
	check ifconfig wg7 create
	is "$(ifconfig wg create name tunnel)" tunnel "a name asked for"
	refuse ifconfig wg7 create
	refuse ifconfig wg create name wg0
	check ifconfig wg7 name office >/dev/null
	# The number stays taken.
	refuse ifconfig wg7 create
	has "$(wg show interfaces)" office
	has "$(wg show interfaces)" tunnel
	check wg set office listen-port 12345
	is "$(wg show office listen-port)" 12345 "after the change of name"
	for name in $(ifconfig -g wg); do
		check ifconfig "$name" destroy
	done
	is "$(ifconfig -g wg)" "" "interfaces left"
}

kmod_case settings 60 "MTU, flags, description, group, IPv6 settings, FIBs"
settings_body() {
	load
	check ifconfig wg0 create >/dev/null
	fresh=$(ifconfig wg0)
	has "$fresh" "mtu 1420"
	has "$fresh" NOARP
	has "$fresh" NO_DAD
	has_not "$fresh" AUTO_LINKLOCAL
	has_not "$fresh" fe80
	has_not "$fresh" RUNNING
	# The lower bound is the kernel's own, for any interface.
	for mtu in 72 576 1500 65455; do
		check ifconfig wg0 mtu $mtu
		has "$(ifconfig wg0)" "mtu $mtu"
	done
	refuse ifconfig wg0 mtu 0
	refuse ifconfig wg0 mtu 65456
	has "$(ifconfig wg0)" "mtu 65455"
	check ifconfig wg0 mtu 1420 description 'to the office' group vpn debug
	has "$(ifconfig wg0)" "description: to the office"
	has "$(ifconfig wg0)" DEBUG
	has "$(ifconfig -g vpn)" wg0
	check ifconfig wg0 -debug
	check ifconfig wg0 up
	has "$(ifconfig wg0)" LOWER_UP
	has "$(ifconfig wg0)" RUNNING
	port=$(wg show wg0 listen-port)
	[ "$port" -gt 0 ] || fail "no port was chosen"
	has "$(sockstat -46lq -P udp -p "$port")" "*:$port"
	check ifconfig wg0 down
	has_not "$(ifconfig wg0)" LOWER_UP
	is "$(sockstat -46lq -P udp -p "$port")" "" "sockets of an interface that is down"
	is "$(wg show wg0 listen-port)" "$port" "the port while it is down"
	check ifconfig wg0 inet6 fe80::1/64
	has "$(ifconfig wg0)" fe80::1
	has_not "$(ifconfig wg0)" tentative
	[ "$(sysctl -n net.fibs)" -gt 1 ] || sysctl -q net.fibs=2 >/dev/null || atf_skip "one FIB"
	check ifconfig wg0 fib 1 tunnelfib 1
	has "$(ifconfig wg0)" "fib: 1"
	has "$(ifconfig wg0)" "tunnelfib: 1"
	# ifconfig(8) only warns.
	ifconfig wg0 tunnelfib 100
	has "$(ifconfig wg0)" "tunnelfib: 1"
	check ifconfig wg0 up
	check ifconfig wg0 tunnelfib 0
}

kmod_case link_messages 60 "debug messages name the peer by a number and hold no key"
link_messages_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	check wg set wg0 private-key "$PWD/a.key" peer "$(pub b)" endpoint 127.0.0.1:9 allowed-ips 10.9.0.0/24 \
		preshared-key "$PWD/b.key"
	check ifconfig wg0 inet 10.9.0.1/24 debug up
	ping -c 1 -t 1 10.9.0.2 >/dev/null
	eventually 5 sh -c 'dmesg | grep "wg0: peer [0-9]*: "'
	for secret in "$(cat a.key)" "$(cat b.key)"; do
		is "$(dmesg | grep -F "$secret")" "" "a key in a message"
	done
}

kmod_case privileges 60 "keys are shown to those who may change them, and to nobody else"
privileges_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	wg genpsk >psk
	check wg set wg0 private-key "$PWD/a.key" peer "$(pub b)" preshared-key "$PWD/psk" allowed-ips 10.9.0.0/24
	is "$(wg show wg0 private-key)" "$(cat a.key)" "root's private key"
	is "$(wg show wg0 preshared-keys | cut -f 2)" "$(cat psk)" "root's preshared key"
	# A jail without a network stack of its own: its root is not root here, and its nobody is nobody.
	echo guest >>jails
	check jail -c name=guest persist path=/ ip4=inherit ip6=inherit
	for who in root nobody; do
		is "$(jexec -U $who guest wg show wg0 public-key)" "$(pub a)" "public key as $who"
		is "$(jexec -U $who guest wg show wg0 private-key)" "(none)" "private key as $who"
		is "$(jexec -U $who guest wg show wg0 preshared-keys | cut -f 2)" "(none)" "preshared key as $who"
		refuse jexec -U $who guest wg set wg0 listen-port 1234
	done
}

kmod_case refused_changes 60 "a change that is refused leaves the interface as it was"
refused_changes_body() {
	load
	check ifconfig wg0 create >/dev/null
	key a
	key b
	check wg set wg0 private-key "$PWD/a.key" listen-port 4444 peer "$(pub b)" allowed-ips 10.9.0.0/24
	check ifconfig wg0 up
	wg showconf wg0 >before
	check ifconfig wg1 create >/dev/null
	check wg set wg1 listen-port 5555
	check ifconfig wg1 up
	# The port is taken, so nothing of this may happen.
	key c
	refuse wg set wg0 listen-port 5555 peer "$(pub c)" allowed-ips 10.9.1.0/24
	wg showconf wg0 >after
	check cmp before after
}

kmod_case many_peers 300 "5,000 peers come and go, and a dump has all of them"
many_peers_body() {
	load
	check ifconfig wg0 create >/dev/null
	check ifconfig wg0 up
	# Any 32 bytes are a public key.
	jot 5000 1 | awk '{
		printf "[Peer]\nPublicKey = %042d0=\nAllowedIPs = 10.%d.%d.0/24, fd00:%x::/64\n", $1, $1 / 256, $1 % 256, $1
	}' >peers
	check wg addconf wg0 peers
	is "$(wg show wg0 peers | wc -l | tr -d ' ')" 5000 peers
	is "$(wg show wg0 dump | wc -l | tr -d ' ')" 5001 "lines of the dump"
	is "$(wg show wg0 allowed-ips | awk '{ n += NF - 1 } END { print n }')" 10000 "allowed IPs"
	check ifconfig wg0 down
	check ifconfig wg0 up
	echo >none
	check wg setconf wg0 none
	is "$(wg show wg0 peers)" "" "peers after all were removed"
	check wg addconf wg0 peers
	check ifconfig wg0 destroy
	unload
}

kmod_case sysctls 60 "the tree net.wg, with a description of everything"
sysctls_body() {
	load
	[ "$(sysctl -n net.wg.crypto)" ] || fail "no backend is named"
	for name in $(sysctl -N net.wg); do
		[ "$(sysctl -nd "$name")" ] || fail "$name has no description"
	done
	refuse sysctl net.wg.crypto=other
}
