#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Configuration by a stock wg(8), in every form it has, on a running interface.

. "$(atf_get_srcdir)/lab.subr"

# one: host a with wg0, unconfigured.
one() {
	hosts a
	tunnel a wg0
}

# allowed interface key: the allowed IPs, one space between, sorted.
allowed() { show "$1" allowed-ips "$2" | tr ' ' '\n' | sort | tr '\n' ' ' | sed 's/ $//'; }

lab_case show 60 "wg show in all its forms"
show_body() {
	pair 4
	check wg set wg0 fwmark 0x4d2
	check wg set wg0 peer "$(pub b)" persistent-keepalive 25
	pings a 10.77.0.2
	is "$(wg show interfaces | tr ' ' '\n' | sort | tr '\n' ' ')" "wg0 wg1 " "wg show interfaces"
	is "$(wg show wg0 public-key)" "$(pub a)" public-key
	is "$(wg show wg0 private-key)" "$(cat a.key)" private-key
	is "$(wg show wg0 listen-port)" 51820 listen-port
	is "$(wg show wg0 fwmark)" 0x4d2 fwmark
	is "$(wg show wg0 peers)" "$(pub b)" peers
	is "$(show wg0 preshared-keys "$(pub b)")" "(none)" preshared-keys
	is "$(show wg0 endpoints "$(pub b)")" 192.0.2.2:51820 endpoints
	is "$(allowed wg0 "$(pub b)")" "10.77.0.2/32 fd77::2/128" allowed-ips
	is "$(show wg0 persistent-keepalive "$(pub b)")" 25 persistent-keepalive
	[ "$(show wg0 latest-handshakes "$(pub b)")" -gt $(($(date +%s) - 30)) ] || fail latest-handshakes
	[ "$(show wg0 transfer "$(pub b)")" -gt 0 ] || fail transfer
	is "$(wg show wg0 dump | wc -l)" 2 "lines of wg show wg0 dump"
	is "$(wg show all dump | wc -l)" 4 "lines of wg show all dump"
	is "$(wg show all peers | wc -l)" 2 "lines of wg show all peers"
	wg show wg0 >human
	cat human
	for text in "interface: wg0" "public key: $(pub a)" "listening port: 51820" "fwmark: 0x4d2" \
		"peer: $(pub b)" "endpoint: 192.0.2.2:51820" "latest handshake:" "transfer:" \
		"persistent keepalive: every 25 seconds"; do
		grep -qF "$text" human || fail "wg show lacks «$text»"
	done
	check wg show
	check wg
}

lab_case fresh 60 "an interface that nobody has configured"
fresh_body() {
	one
	is "$(wg show wg0 private-key)" "(none)" private-key
	is "$(wg show wg0 public-key)" "(none)" public-key
	is "$(wg show wg0 fwmark)" off fwmark
	is "$(wg show wg0 peers)" "" peers
}

lab_case set_interface 60 "wg set: keys, port and mark, set and taken away again"
set_interface_body() {
	one
	new_key k
	check wg set wg0 private-key k.key listen-port 12345 fwmark 7
	is "$(wg show wg0 public-key)" "$(pub k)" public-key
	is "$(wg show wg0 listen-port)" 12345 listen-port
	is "$(wg show wg0 fwmark)" 0x7 fwmark
	check wg set wg0 fwmark off
	is "$(wg show wg0 fwmark)" off fwmark
	check wg set wg0 private-key /dev/null
	is "$(wg show wg0 public-key)" "(none)" "public-key without a private one"
	check wg set wg0 listen-port 0
	[ "$(wg show wg0 listen-port)" != 12345 ] || fail "still at the old port"
}

lab_case set_peer 60 "wg set: every property of a peer, set, changed and taken away"
set_peer_body() {
	one
	new_key k
	new_key p
	wg genpsk >psk
	check wg set wg0 private-key k.key peer "$(pub p)" preshared-key psk \
		endpoint '[2001:db8::7]:77' persistent-keepalive 5 allowed-ips 10.0.0.0/8,fd00::/8
	is "$(show wg0 preshared-keys "$(pub p)")" "$(cat psk)" preshared-key
	is "$(show wg0 endpoints "$(pub p)")" '[2001:db8::7]:77' endpoint
	is "$(show wg0 persistent-keepalive "$(pub p)")" 5 keepalive
	is "$(allowed wg0 "$(pub p)")" "10.0.0.0/8 fd00::/8" allowed-ips
	# Naming one property leaves the others alone.
	check wg set wg0 peer "$(pub p)" endpoint 192.0.2.7:78
	is "$(show wg0 preshared-keys "$(pub p)")" "$(cat psk)" "preshared-key after another change"
	is "$(allowed wg0 "$(pub p)")" "10.0.0.0/8 fd00::/8" "allowed-ips after another change"
	check wg set wg0 peer "$(pub p)" preshared-key /dev/null persistent-keepalive off
	is "$(show wg0 preshared-keys "$(pub p)")" "(none)" "no preshared-key"
	is "$(show wg0 persistent-keepalive "$(pub p)")" off "no keepalive"
	# A list of allowed IPs replaces the one before; bits after the prefix are cleared.
	check wg set wg0 peer "$(pub p)" allowed-ips 10.1.2.3/16,fd00:1::5/32
	is "$(allowed wg0 "$(pub p)")" "10.1.0.0/16 fd00:1::/32" "replaced allowed-ips"
	check wg set wg0 peer "$(pub p)" allowed-ips ''
	is "$(allowed wg0 "$(pub p)")" "(none)" "no allowed-ips"
	check wg set wg0 peer "$(pub p)" remove
	is "$(wg show wg0 peers)" "" peers
	check wg set wg0 peer "$(pub p)" remove
}

lab_case own_key_as_peer 60 "the interface's own public key is no peer"
own_key_as_peer_body() {
	one
	new_key k
	new_key p
	check wg set wg0 private-key k.key peer "$(pub k)" allowed-ips 10.0.0.0/8
	is "$(wg show wg0 peers)" "" "peers after adding the own key"
	# A peer whose key becomes the interface's own goes.
	check wg set wg0 peer "$(pub p)" allowed-ips 10.0.0.0/8
	check wg set wg0 private-key p.key
	is "$(wg show wg0 peers)" "" "peers after taking a peer's key"
}

lab_case setconf 60 "wg setconf replaces everything"
setconf_body() {
	one
	new_key k
	new_key p
	new_key q
	check wg set wg0 private-key k.key peer "$(pub p)" allowed-ips 10.0.0.0/8
	cat >conf <<-EOF
		[Interface]
		PrivateKey = $(cat q.key)
		ListenPort = 1234
		FwMark = 0x99
		[Peer]
		PublicKey = $(pub k)
		AllowedIPs = 10.1.0.0/16, fd01::/16
		Endpoint = 192.0.2.9:9
		PersistentKeepalive = 99
	EOF
	check wg setconf wg0 conf
	is "$(wg show wg0 peers)" "$(pub k)" peers
	is "$(wg show wg0 public-key)" "$(pub q)" public-key
	is "$(wg show wg0 listen-port)" 1234 port
	is "$(allowed wg0 "$(pub k)")" "10.1.0.0/16 fd01::/16" allowed-ips
	# What showconf prints is the same configuration.
	wg showconf wg0 >again
	check wg setconf wg0 again
	# The order of the allowed IPs is no part of it.
	wg showconf wg0 | tr -s ', ' '\n' | sort >third
	tr -s ', ' '\n' <again | sort | cmp - third || fail "showconf changed by its own setconf"
}

lab_case addconf 60 "wg addconf adds and changes, and removes nothing"
addconf_body() {
	one
	new_key k
	new_key p
	new_key q
	check wg set wg0 private-key k.key peer "$(pub p)" allowed-ips 10.0.0.0/8
	printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.1.0.0/16\n' "$(pub q)" >conf
	check wg addconf wg0 conf
	is "$(wg show wg0 peers | wc -l)" 2 "number of peers"
	is "$(wg show wg0 public-key)" "$(pub k)" public-key
	is "$(allowed wg0 "$(pub p)")" 10.0.0.0/8 "the first peer's allowed-ips"
	is "$(allowed wg0 "$(pub q)")" 10.1.0.0/16 "the second peer's allowed-ips"
}

lab_case syncconf 60 "wg syncconf changes what differs and keeps sessions"
syncconf_body() {
	pair 4
	new_key x
	check wg set wg0 peer "$(pub x)" allowed-ips 10.99.0.0/16
	pings a 10.77.0.2
	handshake=$(show wg0 latest-handshakes "$(pub b)")
	cat >conf <<-EOF
		[Interface]
		PrivateKey = $(cat a.key)
		ListenPort = 51820
		[Peer]
		PublicKey = $(pub b)
		Endpoint = 192.0.2.2:51820
		AllowedIPs = 10.77.0.2/32, 10.98.0.0/16
	EOF
	sleep 1
	check wg syncconf wg0 conf
	is "$(wg show wg0 peers)" "$(pub b)" peers
	is "$(allowed wg0 "$(pub b)")" "10.77.0.2/32 10.98.0.0/16" allowed-ips
	pings a 10.77.0.2
	is "$(show wg0 latest-handshakes "$(pub b)")" "$handshake" "time of the handshake"
}

lab_case key_change 60 "a private key changed while traffic flows"
key_change_body() {
	pair 4
	pings a 10.77.0.2
	new_key n
	check wg set wg0 private-key n.key
	# b does not know the new key yet.
	silent a 10.77.0.2
	check wg set wg1 peer "$(pub a)" remove peer "$(pub n)" \
		endpoint 192.0.2.1:51820 allowed-ips 10.77.0.1/32,fd77::1/128
	pings a 10.77.0.2
	pings b fd77::1
	# The same key again changes nothing: the session lives on.
	sleep 1
	handshake=$(show wg0 latest-handshakes "$(pub b)")
	check wg set wg0 private-key n.key
	pings a 10.77.0.2
	is "$(show wg0 latest-handshakes "$(pub b)")" "$handshake" "time of the handshake"
}

lab_case key_removed 60 "without a private key nothing passes; with it all is well again"
key_removed_body() {
	pair 4
	pings a 10.77.0.2
	check wg set wg0 private-key /dev/null
	silent a 10.77.0.2
	silent b 10.77.0.1
	check wg set wg0 private-key a.key
	pings a 10.77.0.2
	pings b 10.77.0.1
}

lab_case port_taken 60 "a port that is in use is refused and the old one stays"
port_taken_body() {
	pair 4
	pings a 10.77.0.2
	on a "$lab_dir/echo.py" serve 0.0.0.0 7777 &
	eventually 5 sh -c 'ip netns exec a ss -Hnlu sport = 7777 | grep -q .'
	if wg set wg0 listen-port 7777 2>err; then
		fail "no error for a port that is in use"
	fi
	cat err
	grep -qi "in use" err || fail "wrong error"
	is "$(wg show wg0 listen-port)" 51820 "port after the refusal"
	pings a 10.77.0.2
	pings b fd77::1
}

lab_case port_free_again 60 "a port that was given up can be had again, by us and by others"
port_free_again_body() {
	pair 4
	for port in 40000 51820 40000 51820; do
		check wg set wg0 listen-port $port
		is "$(wg show wg0 listen-port)" $port port
	done
	pings a 10.77.0.2
	is "$(on a ss -Hnlu | wc -l)" 2 "UDP sockets (one a family)"
	ip -n a link set wg0 down
	# wireguard-go keeps its sockets while it is down.
	[ "$WGD_KIND" = wireguard-go ] || eventually 5 no_udp_sockets a
}
no_udp_sockets() { [ "$(on "$1" ss -Hnlu | wc -l)" -eq 0 ]; }

lab_case allowed_move 60 "an allowed IP moves from peer to peer, in both families"
allowed_move_body() {
	one
	new_key k
	new_key p
	new_key q
	check wg set wg0 private-key k.key peer "$(pub p)" allowed-ips 10.0.0.0/8,10.1.0.0/16,fd00::/8
	check wg set wg0 peer "$(pub q)" allowed-ips 10.1.0.0/16,fd00::/8
	is "$(allowed wg0 "$(pub p)")" 10.0.0.0/8 "the old owner's"
	is "$(allowed wg0 "$(pub q)")" "10.1.0.0/16 fd00::/8" "the new owner's"
	check wg set wg0 peer "$(pub q)" remove
	is "$(allowed wg0 "$(pub p)")" 10.0.0.0/8 "after the new owner has gone"
}

lab_case allowed_move_traffic 60 "traffic follows an allowed IP to its new owner"
allowed_move_traffic_body() {
	pair 4
	new_key c
	pings a 10.77.0.2
	check wg set wg0 peer "$(pub c)" allowed-ips 10.77.0.2/32
	silent a 10.77.0.2
	pings a fd77::2
	check wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,fd77::2/128
	pings a 10.77.0.2
}

lab_case remove_under_traffic 60 "peers removed and added again while traffic flows"
remove_under_traffic_body() {
	pair 4
	pings a 10.77.0.2
	on a ping -n -q -f -w 30 10.77.0.2 >/dev/null 2>&1 &
	on b ping -n -q -f -w 30 fd77::1 >/dev/null 2>&1 &
	for _ in $(seq 30); do
		forget_sessions
		sleep 0.1
	done
	pings a 10.77.0.2
	pings b fd77::1
}

lab_case keepalive 60 "persistent keepalive: on, off, and without traffic otherwise"
keepalive_body() {
	pair 4
	is "$(show wg0 latest-handshakes "$(pub b)")" 0 "handshake before any traffic"
	check wg set wg0 peer "$(pub b)" persistent-keepalive 1
	eventually 10 handshaken wg0 "$(pub b)"
	before=$(received wg1)
	sleep 3
	after=$(received wg1)
	# Empty packets of 32 bytes, one a second.
	[ $((after - before)) -ge 64 ] || fail "only $((after - before)) bytes in 3 s"
	[ $((after - before)) -le 256 ] || fail "$((after - before)) bytes in 3 s"
	check wg set wg0 peer "$(pub b)" persistent-keepalive off
	sleep 1.5
	before=$(received wg1)
	sleep 3
	is "$(received wg1)" "$before" "bytes received after the keepalive was turned off"
}
received() { wg show "$1" transfer | cut -f 2; }

lab_case transfer 60 "byte counters count what passes"
transfer_body() {
	pair 4
	pings a 10.77.0.2
	before=$(wg show wg0 transfer | cut -f 3)
	check on a ping -n -q -c 10 -i 0.05 -s 1000 10.77.0.2
	after=$(wg show wg0 transfer | cut -f 3)
	# 1028 bytes padded to 1040, and 32 of header and tag.
	[ $((after - before)) -ge 10720 ] || fail "sent only $((after - before))"
	[ $((after - before)) -le 11500 ] || fail "sent $((after - before))"
}

# peers_conf number: a configuration with that many further peers of two allowed IPs each.
peers_conf() {
	"$lab_dir/gen.py" peers "$1"
}

lab_case thousand_peers 120 "1,000 peers, one of them real"
thousand_peers_body() {
	pair 4
	peers_conf 999 >conf
	check wg addconf wg0 conf
	is "$(wg show wg0 peers | wc -l)" 1000 "number of peers"
	is "$(wg show wg0 allowed-ips | wc -w)" 3000 "keys and allowed IPs"
	pings a 10.77.0.2
	pings b fd77::1
	wg showconf wg0 >all
	check wg setconf wg0 all
	is "$(wg show wg0 peers | wc -l)" 1000 "number of peers after setconf"
	# setconf replaced all peers, so it is for a to begin: b would only doubt its session after 15 s.
	pings a 10.77.0.2
	check wg syncconf wg0 all
	pings b 10.77.0.1
	check wg set wg0 peer "$(pub b)" remove
	is "$(wg show wg0 peers | wc -l)" 999 "number of peers after a removal"
}

lab_case dump 120 "130,561 allowed IPs on three peers, dumped whole"
dump_body() {
	pair 4
	pings a 10.77.0.2
	"$lab_dir/gen.py" prefixes 130559 >conf
	check wg addconf wg0 conf
	wg show wg0 allowed-ips | cut -f 2 | tr ' ' '\n' | sort >got
	{
		sed -n 's/^AllowedIPs = //p' conf
		echo 10.77.0.2/32
		echo fd77::2/128
	} | sort >want
	is "$(wc -l <want)" 130561 "number of allowed IPs wanted"
	cmp got want || fail "$(wc -l <got) allowed IPs came back"
	# The interface still carries traffic, and lets go of all of them.
	pings a 10.77.0.2
	pings b fd77::1
	check wg set wg0 peer "$(sed -n '/^PublicKey = /{s///p;q}' conf)" remove
	pings a 10.77.0.2
}
