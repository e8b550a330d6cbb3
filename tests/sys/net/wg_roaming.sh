#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Endpoints that move: a peer is where its last authentic packet came from, and is answered from the
# address it wrote to.

. "$(atf_get_srcdir)/lab.subr"

lab_case source_address 60 "the other side's address changes"
source_address_body() {
	pair 4
	pings a 10.77.0.2
	show_is wg1 endpoints "$(pub a)" 192.0.2.1:51820 || fail "wrong endpoint"
	address a ea 192.0.2.11/24
	ip -n a addr del 192.0.2.1/24 dev ea
	# Deleting the primary address may take the others of its network along.
	ip -n a addr replace 192.0.2.11/24 dev ea
	pings a 10.77.0.2
	show_is wg1 endpoints "$(pub a)" 192.0.2.11:51820 || fail "wg1 did not follow"
	pings b 10.77.0.1
}

lab_case source_port 60 "the other side's port changes"
source_port_body() {
	pair 6
	pings a 10.77.0.2
	check wg set wg0 listen-port 40000
	pings a 10.77.0.2
	show_is wg1 endpoints "$(pub a)" '[2001:db8::1]:40000' || fail "wg1 did not follow"
	pings b fd77::1
}

lab_case both_ends 60 "both sides move, one after the other"
both_ends_body() {
	pair 4
	pings a 10.77.0.2
	check wg set wg0 listen-port 40000
	pings a 10.77.0.2
	check wg set wg1 listen-port 40001
	pings b 10.77.0.1
	show_is wg0 endpoints "$(pub b)" 192.0.2.2:40001 || fail "wg0 did not follow"
	show_is wg1 endpoints "$(pub a)" 192.0.2.1:40000 || fail "wg1 did not follow"
	pings a fd77::2
}

lab_case family 60 "an endpoint moves from IPv4 to IPv6 and back"
family_body() {
	pair 4
	pings a 10.77.0.2
	check wg set wg0 peer "$(pub b)" endpoint '[2001:db8::2]:51820'
	pings a 10.77.0.2
	show_is wg1 endpoints "$(pub a)" '[2001:db8::1]:51820' || fail "wg1 did not follow to IPv6"
	check wg set wg1 peer "$(pub a)" endpoint 192.0.2.1:51820
	pings b 10.77.0.1
	show_is wg0 endpoints "$(pub b)" 192.0.2.2:51820 || fail "wg0 did not follow to IPv4"
}

lab_case forged 60 "packets without a valid tag do not move an endpoint"
forged_body() {
	pair 4
	pings a 10.77.0.2
	address a ea 192.0.2.66/24
	# Data messages to every session index that is likely, and handshake messages, all of them garbage.
	check on a "$lab_dir/forge.py" 192.0.2.66 192.0.2.2 51820
	show_is wg1 endpoints "$(pub a)" 192.0.2.1:51820 || fail "garbage moved the endpoint"
	pings b 10.77.0.1
}

lab_case replayed 60 "copies of authentic packets from elsewhere do not move an endpoint"
replayed_body() {
	pair 4
	on b "$lab_dir/forge.py" --record 192.0.2.1 >recorded 2>record.log &
	recorder=$!
	eventually 5 grep -q ready record.log
	pings a 10.77.0.2 -c 5
	kill $recorder
	wait $recorder
	address a ea 192.0.2.66/24
	check on a "$lab_dir/forge.py" --replay recorded 192.0.2.66 192.0.2.2 51820
	show_is wg1 endpoints "$(pub a)" 192.0.2.1:51820 || fail "a replay moved the endpoint"
	pings b 10.77.0.1
}

lab_case sticky_source 60 "answers come from the address that was written to"
sticky_source_body() {
	pair 4
	address b eb 192.0.2.22/24 2001:db8::22/64
	check wg set wg0 peer "$(pub b)" endpoint 192.0.2.22:51820
	pings a 10.77.0.2
	pings b 10.77.0.1
	show_is wg0 endpoints "$(pub b)" 192.0.2.22:51820 || fail "answered from another address"
	check wg set wg0 peer "$(pub b)" endpoint '[2001:db8::22]:51820'
	pings a 10.77.0.2
	pings b 10.77.0.1
	show_is wg0 endpoints "$(pub b)" '[2001:db8::22]:51820' || fail "answered from another IPv6 address"
}

lab_case sticky_link_local 60 "answers come from the link-local address that was written to, whoever wrote"
sticky_link_local_body() {
	pair 4
	address b eb fe80::21/64 fe80::22/64
	link=$(on a cat /sys/class/net/ea/ifindex)
	written_to() {
		for to in fe80::22 fe80::21; do
			check wg set wg0 peer "$(pub b)" endpoint "[$to%$link]:51820"
			pings a 10.77.0.2
			pings b 10.77.0.1
			show wg0 endpoints "$(pub b)" >endpoint
			cat endpoint
			grep -q "^\[$to%" endpoint || fail "$1: answered from another address"
		done
	}
	written_to "from a link-local address"
	ip -n a -6 addr flush dev ea scope link
	ip -n a -6 route replace fe80::/64 dev ea
	written_to "from a global address"
	show wg1 endpoints "$(pub a)" | grep -qF '[2001:db8::1]' || fail "a has not written from its global address"
}

lab_case sticky_source_gone 60 "when that address disappears, another one serves"
sticky_source_gone_body() {
	pair 4
	address b eb 192.0.2.22/24
	check wg set wg0 peer "$(pub b)" endpoint 192.0.2.22:51820
	pings a 10.77.0.2
	ip -n b addr del 192.0.2.22/24 dev eb
	pings b 10.77.0.1
	show_is wg0 endpoints "$(pub b)" 192.0.2.2:51820 || fail "wg0 did not follow"
	pings a 10.77.0.2
}

# a --- nat --- b: a's address is hidden behind the router's.
behind_nat() {
	hosts a nat b
	cable a ea nat inside
	cable b eb nat outside
	address a ea 198.51.100.1/24
	address nat inside 198.51.100.254/24
	address nat outside 192.0.2.254/24
	address b eb 192.0.2.2/24
	ip -n a route add default via 198.51.100.254
	check on nat sysctl -qw net.ipv4.ip_forward=1
	check on nat nft 'table ip nat { chain out { type nat hook postrouting priority 100;
		oifname "outside" masquerade; }; }'
	on nat sysctl -qw net.netfilter.nf_conntrack_udp_timeout=2 \
		net.netfilter.nf_conntrack_udp_timeout_stream=2
	new_key a
	new_key b
	tunnel a wg0
	tunnel b wg1
	check wg set wg0 private-key a.key peer "$(pub b)" endpoint 192.0.2.2:51820 \
		allowed-ips 10.77.0.2/32 "$@"
	check wg set wg1 listen-port 51820 private-key b.key peer "$(pub a)" allowed-ips 10.77.0.1/32
	up a wg0 10.77.0.1/24
	up b wg1 10.77.0.2/24
}

lab_case nat_keepalive 60 "persistent keepalive holds a NAT mapping open"
nat_keepalive_body() {
	command -v nft >/dev/null || atf_skip "nft is not installed (make setup)"
	behind_nat persistent-keepalive 1
	# The keepalive alone makes the handshake, and only then can b reach a.
	eventually 10 handshaken wg1 "$(pub a)"
	pings b 10.77.0.1
	sleep 5
	check on b ping -n -q -c 1 -W 2 10.77.0.1
}

lab_case nat_rebinding 60 "a NAT that forgets its mapping and makes a new one"
nat_rebinding_body() {
	command -v nft >/dev/null || atf_skip "nft is not installed (make setup)"
	behind_nat persistent-keepalive 1
	eventually 10 handshaken wg1 "$(pub a)"
	before=$(show wg1 endpoints "$(pub a)")
	check on nat nft flush ruleset
	check on nat nft 'table ip nat { chain out { type nat hook postrouting priority 100;
		oifname "outside" udp dport 51820 masquerade to :61000-61999; }; }'
	# Only flows without traffic are forgotten: the keepalive must rest until the old one is gone.
	check wg set wg0 peer "$(pub b)" persistent-keepalive off
	sleep 4
	check wg set wg0 peer "$(pub b)" persistent-keepalive 1
	eventually 10 pings_once b 10.77.0.1
	after=$(show wg1 endpoints "$(pub a)")
	[ "$before" != "$after" ] || fail "still at $before: the mapping did not change"
	pings a 10.77.0.2
}
pings_once() { on "$1" ping -n -q -c 1 -W 1 "$2"; }
