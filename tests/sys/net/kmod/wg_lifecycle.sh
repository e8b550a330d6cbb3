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

kmod_case module 60 "what the kernel's linker and module system know of it"
module_body() {
	load
	has "$(kldstat -vn if_wg)" if_wg
	check kldstat -qm if_wg
	refuse kldload if_wg
	has "$(cat out)" "already loaded"
	check kldload -n if_wg
	# Nothing of another module's is taken along, and nothing holds it.
	is "$(kldstat | awk '$5 == "if_wg.ko" { print $2 }')" 1 "references"
	unload
	refuse kldstat -qm if_wg
}

kmod_case tunable 90 "the tunable of the cipher chooses a backend, and refuses one that is not there"
tunable_body() {
	need kenv
	loaded && check kldunload if_wg
	for backend in portable ring; do
		check kenv -q net.wg.crypto=$backend >/dev/null
		check kldload if_wg
		is "$(sysctl -n net.wg.crypto)" $backend "the backend"
		pair 4
		pings a fd77::2
		check kldunload if_wg
		check jail -r a
		check jail -r b
		ifconfig "$left" destroy
	done
	kenv -q net.wg.crypto=nonsense >/dev/null
	if kldload if_wg >out 2>&1; then
		kenv -qu net.wg.crypto
		fail "a backend that is not there was taken"
	fi
	kenv -qu net.wg.crypto
	has "$(dmesg | tail -n 5)" nonsense
	loaded && fail "it stays after it refused"
	is "$(vmstat -m | awk '$1 == "wg"')" "" "memory of type wg"
	load
}

kmod_case created_loads 60 "ifconfig(8) loads the module for the first interface"
created_loads_body() {
	loaded && check kldunload if_wg
	is "$(ifconfig wg create)" wg0 "the interface"
	check loaded
	[ "$(sysctl -n net.wg.crypto)" ] || fail "another driver was loaded"
}

# held: what could be left behind, one "name number" a line.
held() {
	vmstat -m | awk '{ for (i = NF; i > 3; i--) if ($i ~ /^[0-9]+$/) n = i; name = $1 }
		$1 == "ifnet" || $1 == "bpf" || $1 == "ifaddr" || $1 == "sysctloid" || $1 == "mbuf_tag" || $1 == "prison" ||
		$1 == "cred" { print $1, $2 }'
	vmstat -z | sed 's/:/,/' | awk -F , '$1 == "socket" || $1 == "udp_inpcb" || $1 == "udp6_inpcb" || $1 == "udpcb" ||
		$1 == "mbuf_jumbo_page" || $1 == "mbuf_jumbo_9k" { gsub(/ /, "_", $1); print $1, $4 + 0 }'
}
# turn: two interfaces with all that an interface can have, and traffic, and nothing of it. The hosts stay, as jails with
# network stacks leave addresses behind when they go, whatever was in them.
turn() {
	load
	tunnel a 1
	tunnel b 2
	peer a b 2 192.0.2.2:51820
	peer b a 1 '[2001:db8::1]:51820'
	check on a ifconfig wg0 inet6 fe80::1/64
	pings a 10.77.0.2
	pings a fd77::2 -s 8000
	unload
}
kmod_case nothing_left 240 "sockets, addresses, sysctls, buffers: the rest of the kernel has nothing of it after unloading"
nothing_left_body() {
	hosts
	turn
	turn
	sleep 2
	held >before
	for _ in 1 2 3 4 5 6; do
		turn
	done
	sleep 2
	held >after
	cat before after
	# One or more a turn is a leak; one or two in all is somebody else's business.
	awk 'NR == FNR { had[$1] = $2; next } $2 - had[$1] >= 6 { print $1 ": " had[$1] " before, " $2 " after" }' before after >leaks
	[ -s before ] || fail "nothing was counted"
	[ ! -s leaks ] || fail "$(cat leaks)"
	is "$(vmstat -m | awk '$1 == "wg"')" "" "memory of type wg"
	is "$(vmstat -z | grep -i '^wg\|wireguard\|noise')" "" "zones"
}

kmod_case unread 120 "packets that nobody has read stay when the module goes, and are freed without it"
unread_body() {
	need_probe
	# Of a datagram of 60,000 bytes no more fragments than the kernel puts together again.
	pair 4 9000
	check on a ifconfig wg0 mtu 65455
	check on b ifconfig wg0 mtu 65455
	pings a 10.77.0.2
	jexec b "$dir/probe" hold 7777 &
	holder=$!
	# waiting: bytes that the socket has not been read of.
	# shellcheck disable=SC2317 # called by name
	waiting() { on b netstat -an -p udp | awk '$4 ~ /[.]7777$/ { print $2 }'; }
	# shellcheck disable=SC2317 # called by name
	holds() { [ "$(waiting)" -ge "$1" ]; }
	eventually 10 holds 0
	for len in 1000 8000 16000 30000 60000; do
		check on a "$dir/probe" lump 10.77.0.2 7777 $len
	done
	eventually 10 holds 115000
	unload
	holds 115000 || fail "$(waiting) bytes are left"
	kill $holder
	wait $holder || true
	# Whatever freed them did not need the module. Once more, to see that all is well.
	load
	check ifconfig wg0 create >/dev/null
	check ifconfig wg0 destroy
	unload
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
	has "$(ifconfig -g wg)" wg0
	check ifconfig wg0 -debug -description -group vpn
	has_not "$(ifconfig wg0)" DEBUG
	has_not "$(ifconfig wg0)" "description:"
	is "$(ifconfig -g vpn)" "" "the group after it was left"
	check ifconfig wg0 up
	has "$(ifconfig wg0)" RUNNING
	soon_said "wg0: link state changed to UP"
	port=$(wg show wg0 listen-port)
	[ "$port" -gt 0 ] || fail "no port was chosen"
	has "$(sockstat -46lq -P udp -p "$port")" "*:$port"
	check ifconfig wg0 down
	has_not "$(ifconfig wg0)" RUNNING
	soon_said "wg0: link state changed to DOWN"
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

kmod_case messages 120 "debug messages name the peer by a number and hold no key"
messages_body() {
	pair 4
	wg genpsk >psk
	check on a wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk"
	check on b wg set wg0 peer "$(pub a)" preshared-key "$PWD/psk"
	check on a ifconfig wg0 debug
	check on b ifconfig wg0 debug
	pings a 10.77.0.2
	# said words: the message came.
	# shellcheck disable=SC2317 # called by name
	said() { dmesg | grep -q "$1"; }
	eventually 5 said 'wg0: peer [0-9]*: sending initiation'
	eventually 5 said 'wg0: peer [0-9]*: initiation received, answering'
	eventually 5 said 'wg0: peer [0-9]*: handshake complete'
	check on a wg set wg0 peer "$(pub b)" persistent-keepalive 1
	eventually 5 said 'wg0: peer [0-9]*: keepalive received'
	check on a wg set wg0 peer "$(pub b)" persistent-keepalive off
	check on b wg set wg0 peer "$(pub a)" allowed-ips 10.77.0.99/32
	on a ping -nq -c 1 -t 1 10.77.0.2
	eventually 5 said 'wg0: peer [0-9]*: dropped a packet from 10.77.0.1, not among its allowed IPs'
	key c
	check on a wg set wg0 peer "$(pub c)" allowed-ips 10.77.0.50/32
	on a ping -nq -c 1 -t 1 10.77.0.50
	eventually 5 said 'wg0: peer [0-9]*: no endpoint is known'
	check on a wg set wg0 private-key /dev/null peer "$(pub c)" endpoint 192.0.2.9:9
	on a ping -nq -c 1 -t 1 10.77.0.50
	eventually 5 said 'wg0: peer [0-9]*: no private key is set'
	check on a wg set wg0 private-key "$PWD/a.key" peer "$(pub c)" remove
	check on a ifconfig wg0 -debug
	for key in a.key b.key c.key psk; do
		hex=$(b64decode -r <$key | hexdump -v -e '/1 "%02x"')
		is "$(dmesg | grep -F "$(cat $key)")" "" "a key in a message"
		is "$(dmesg | grep -iF "$hex")" "" "a key in a message"
	done
	before=$(dmesg | grep -c 'wg0: peer')
	check on b ifconfig wg0 -debug
	check on b wg set wg0 peer "$(pub a)" allowed-ips 10.77.0.1/32,fd77::1/128
	pings b fd77::1
	is "$(dmesg | grep -c 'wg0: peer')" "$before" "messages without debug"
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
	# Any 32 bytes are a public key. In parts, as wg(8) takes time in proportion to the square of their number.
	jot 5000 1 | awk '{
		printf "[Peer]\nPublicKey = %042d0=\nAllowedIPs = 10.%d.%d.0/24, fd00:%x::/64\n", $1, $1 / 256, $1 % 256, $1 \
			> ("peers." int(($1 - 1) / 250))
	}'
	add_all() {
		for part in peers.*; do
			check wg addconf wg0 "$part"
		done
	}
	add_all
	is "$(wg show wg0 peers | wc -l | tr -d ' ')" 5000 peers
	is "$(wg show wg0 dump | wc -l | tr -d ' ')" 5001 "lines of the dump"
	is "$(wg show wg0 allowed-ips | awk '{ n += NF - 1 } END { print n }')" 10000 "allowed IPs"
	check ifconfig wg0 down
	check ifconfig wg0 up
	echo >none
	check wg setconf wg0 none
	is "$(wg show wg0 peers)" "" "peers after all were removed"
	add_all
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
