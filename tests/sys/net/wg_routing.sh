#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Allowed IPs as routing table and as filter, and what happens to packets that no peer serves.

. "$(atf_get_srcdir)/lab.subr"

lab_case foreign_source 60 "packets from an address that the peer may not use are dropped"
foreign_source_body() {
	pair 4
	pings a 10.77.0.2
	address a wg0 10.77.0.3/24 fd77::3/64
	silent_from 10.77.0.3 10.77.0.2
	silent_from fd77::3 fd77::2
	check wg set wg1 peer "$(pub a)" allowed-ips 10.77.0.1/32,fd77::1/128,10.77.0.3/32,fd77::3/128
	pings a 10.77.0.2 -I 10.77.0.3
	pings a fd77::2 -I fd77::3
}
silent_from() {
	on a ping -n -q -c 3 -W 1 -i 0.25 -I "$1" "$2" >silent.out 2>&1 && fail "answered $1"
	:
}

lab_case unreachable 60 "a packet that no peer serves is answered with an ICMP error"
unreachable_body() {
	[ "$WGD_KIND" = wgd ] || atf_skip "$WGD_KIND drops silently"
	pair 4
	on a ping -n -c 2 -W 2 10.77.0.9 >out.4 2>&1
	on a ping -n -c 2 -W 2 fd77::9 >out.6 2>&1
	cat out.4 out.6
	grep -qi unreachable out.4 || fail "no ICMP error"
	grep -qi unreachable out.6 || fail "no ICMPv6 error"
}

lab_case no_endpoint 60 "a peer without an endpoint: an error, until it has called"
no_endpoint_body() {
	[ "$WGD_KIND" = wgd ] || atf_skip "$WGD_KIND drops silently"
	pair 4
	check wg set wg1 peer "$(pub a)" remove
	check wg set wg1 peer "$(pub a)" allowed-ips 10.77.0.1/32
	on b ping -n -c 2 -W 2 10.77.0.1 >out 2>&1 && fail "answered without an endpoint"
	cat out
	grep -qi unreachable out || fail "no ICMP error"
	pings a 10.77.0.2
	pings b 10.77.0.1
}

lab_case longest_prefix 60 "the most specific allowed IP wins, in both families"
longest_prefix_body() {
	pair 4
	new_key c
	hosts c
	cable a ea2 c ec
	address a ea2 198.51.100.1/24
	address c ec 198.51.100.3/24
	tunnel c wg2
	check wg set wg2 listen-port 51820 private-key c.key \
		peer "$(pub a)" endpoint 198.51.100.1:51820 allowed-ips 10.77.0.1/32,fd77::1/128
	up c wg2 10.77.9.3/24 fd77:9::3/64
	ip -n c route add 10.77.0.1 dev wg2
	ip -n c route add fd77::1 dev wg2
	check wg set wg0 peer "$(pub b)" allowed-ips 10.0.0.0/8,fd77::/16
	check wg set wg0 peer "$(pub c)" endpoint 198.51.100.3:51820 allowed-ips 10.77.9.0/24,fd77:9::/32
	ip -n a route add 10.0.0.0/8 dev wg0
	ip -n a route add fd77::/16 dev wg0
	pings a 10.77.0.2
	pings a 10.77.9.3
	pings a fd77::2
	pings a fd77:9::3
	# Without the specific one the traffic goes to b, which does not know the address.
	check wg set wg0 peer "$(pub c)" allowed-ips ''
	silent a 10.77.9.3
	silent a fd77:9::3
}

lab_case tunnel_in_tunnel 60 "a tunnel whose outer packets travel in another tunnel"
tunnel_in_tunnel_body() {
	pair 4
	new_key ia
	new_key ib
	tunnel a wg2
	tunnel b wg3
	check wg set wg2 private-key ia.key peer "$(pub ib)" endpoint 10.77.0.2:51821 \
		allowed-ips 10.78.0.2/32
	check wg set wg3 private-key ib.key listen-port 51821 peer "$(pub ia)" allowed-ips 10.78.0.1/32
	up a wg2 10.78.0.1/24
	up b wg3 10.78.0.2/24
	ip -n a link set wg2 mtu 1340
	ip -n b link set wg3 mtu 1340
	pings a 10.78.0.2 -s 1312 -M "do"
	pings b 10.78.0.1 -s 1312 -M "do"
	echo_sizes a b 10.78.0.2 0 1 1312 1313 9000
}

lab_case own_tunnel_loop 60 "an endpoint that lies behind its own tunnel neither hangs nor floods"
own_tunnel_loop_body() {
	pair 4
	pings a 10.77.0.2
	# The route to b's outer address now leads into the tunnel.
	ip -n a route add 192.0.2.2/32 dev wg0
	check wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,192.0.2.2/32
	on a ping -n -q -c 3 -W 1 -i 0.25 10.77.0.2 >loop.out 2>&1
	sleep 1
	before=$(on a cat /sys/class/net/wg0/statistics/tx_packets)
	sleep 1
	after=$(on a cat /sys/class/net/wg0/statistics/tx_packets)
	[ $((after - before)) -lt 1000 ] || fail "$((after - before)) packets a second circle"
	ip -n a route del 192.0.2.2/32 dev wg0
	check wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,fd77::2/128
	pings a 10.77.0.2
}

lab_case forwarded 60 "packets of networks behind the peers, TCP included"
forwarded_body() {
	command -v iperf3 >/dev/null || atf_skip "iperf3 is not installed (make setup)"
	pair 4
	address b lo 10.88.0.1/32 fd88::1/128
	check wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,10.88.0.0/16,fd88::/16
	ip -n a route add 10.88.0.0/16 dev wg0
	ip -n a route add fd88::/16 dev wg0
	on b iperf3 -s >iperf.log 2>&1 &
	eventually 5 on a iperf3 -c 10.88.0.1 -n 8M
	check on a iperf3 -c 10.88.0.1 -n 32M -P 4
	check on a iperf3 -c fd88::1 -n 32M -R
	check on a iperf3 -c 10.77.0.2 -u -b 20M -l 1372 -t 2
}

lab_case down_up 60 "the interface goes down and up again"
down_up_body() {
	pair 4
	pings a 10.77.0.2
	ip -n a link set wg0 down
	silent b 10.77.0.1
	ip -n a link set wg0 up
	address a wg0 fd77::1/64
	pings a 10.77.0.2
	pings b fd77::1
}
