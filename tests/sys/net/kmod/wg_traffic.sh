#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Packets through tunnels between two hosts.

. "$(atf_get_srcdir)/kmod.subr"

kmod_case over4 120 "both families over IPv4"
over4_body() {
	pair 4
	all_ways
}

kmod_case over6 120 "both families over IPv6"
over6_body() {
	pair 6
	all_ways
}

kmod_case preshared 120 "a preshared key is used: without the same on both sides nothing passes"
preshared_body() {
	pair 4
	wg genpsk >psk
	check on a wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk"
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on b wg set wg0 peer "$(pub a)" preshared-key "$PWD/psk"
	pings a 10.77.0.2
}

kmod_case jumbo 120 "tunnels with large MTUs, whose packets no cluster holds"
jumbo_body() {
	pair 4 9000
	for mtu in 4000 8920 16000 65455; do
		check on a ifconfig wg0 mtu $mtu
		check on b ifconfig wg0 mtu $mtu
		pings a 10.77.0.2 -s $((mtu - 28))
		pings a fd77::2 -b 131072 -s 60000
	done
	# As small as it gets.
	check on a ifconfig wg0 mtu 1280
	check on b ifconfig wg0 mtu 1280
	pings a fd77::2 -s 3000
}

kmod_case counters 60 "interface and peer counters agree with what was sent"
counters_body() {
	pair 4
	pings a 10.77.0.2
	# The line ends with: packets in, errors, drops, bytes, packets out, errors, bytes, collisions.
	packets() { on a netstat -I wg0 -bn -f link | awk -v back="$1" 'NR == 2 { print $(NF - back) }'; }
	before_in=$(packets 7) before_out=$(packets 3)
	on a ping -nq -c 10 -i 0.1 10.77.0.2 >/dev/null
	[ $(($(packets 7) - before_in)) -ge 10 ] || fail "packets in"
	[ $(($(packets 3) - before_out)) -ge 10 ] || fail "packets out"
	# A message has 32 bytes more than a packet, whose length is rounded up to a multiple of 16 before it leaves: 1028
	# bytes of IP are 1072 to send, and 1060 when they came. Beside the echoes there may be a keepalive.
	transfer() { on a wg show wg0 transfer | cut -f "$1"; }
	received=$(transfer 2) sent=$(transfer 3)
	before_in=$(packets 4) before_out=$(packets 1)
	on a ping -nq -c 10 -i 0.1 -s 1000 10.77.0.2 >/dev/null
	for pair in "$(($(transfer 3) - sent)) 10720 sent" "$(($(transfer 2) - received)) 10600 received" \
		"$(($(packets 4) - before_in)) 10600 in" "$(($(packets 1) - before_out)) 10720 out"; do
		# shellcheck disable=SC2086 # three words
		set -- $pair
		if [ "$1" -lt "$2" ] || [ "$1" -gt $(($2 + 64)) ]; then
			fail "bytes $3: $1, expected $2"
		fi
	done
}

kmod_case no_peer 60 "packets for nobody, and for a peer without endpoint, are answered with an error"
no_peer_body() {
	pair 4
	before=$(counter drop_no_peer)
	out=$(on a ping -c 1 -t 2 10.77.0.99 2>&1)
	has "$out" "unreachable"
	has "$(on a ping -6 -c 1 -t 2 fd77::99 2>&1)" "nreachable"
	[ "$(counter drop_no_peer)" -gt $((before + 1)) ] || fail "not counted"
	key nobody
	check on a wg set wg0 peer "$(pub nobody)" allowed-ips 10.77.0.50/32,fd77::50/128
	before=$(counter drop_no_endpoint)
	on a ping -c 1 -t 2 10.77.0.50
	on a ping -c 1 -t 2 fd77::50
	[ "$(counter drop_no_endpoint)" -gt $((before + 1)) ] || fail "not counted"
}

kmod_case forwarded_errors 90 "a host behind the tunnel's end is told that a packet is too big or nobody's"
forwarded_errors_body() {
	pair 4
	cable
	jailed c vnet.interface="$right"
	check ifconfig "$left" vnet a
	check on a ifconfig "$left" inet 198.51.100.1/24 up
	check on c ifconfig "$right" inet 198.51.100.2/24 up
	check on a sysctl net.inet.ip.forwarding=1
	check on c route add -net 10.77.0.0/24 198.51.100.1
	check on b wg set wg0 peer "$(pub a)" allowed-ips 10.77.0.1/32,198.51.100.0/24
	check on b route add -net 198.51.100.0/24 -interface wg0
	pings c 10.77.0.2
	out=$(on c ping -c 1 -t 3 -D -s 1450 10.77.0.2 2>&1)
	has "$out" "frag needed"
	out=$(on c ping -c 1 -t 3 10.77.0.99 2>&1)
	has "$out" "Unreachable"
	check on a ifconfig "$left" inet6 2001:db8:1::1/64 no_dad
	check on c ifconfig "$right" inet6 2001:db8:1::2/64 no_dad
	check on a sysctl net.inet6.ip6.forwarding=1
	check on c route add -inet6 fd77::/64 2001:db8:1::1
	check on b wg set wg0 peer "$(pub a)" allowed-ips 10.77.0.1/32,198.51.100.0/24,fd77::1/128,2001:db8:1::/64
	check on b route add -inet6 2001:db8:1::/64 -interface wg0
	pings c fd77::2
	out=$(on c ping -6 -v -c 1 -t 3 -D -s 1450 fd77::2 2>&1)
	has "$out" "oo big"
	out=$(on c ping -6 -v -c 1 -t 3 fd77::99 2>&1)
	has "$out" "nreachable"
}

kmod_case crossed_next_hop 60 "an IPv4 route whose next hop is an IPv6 address of the tunnel"
crossed_next_hop_body() {
	pair 4
	check on b ifconfig lo0 inet 203.0.113.9/32 alias
	check on a wg set wg0 peer "$(pub b)" allowed-ips 203.0.113.9/32,10.77.0.2/32,fd77::2/128
	check on a route add -inet 203.0.113.9/32 -inet6 fd77::2
	pings a 203.0.113.9
}

kmod_case ipv6_disabled 60 "an interface without IPv6 address takes IPv6 out of the tunnel only after -ifdisabled"
ipv6_disabled_body() {
	hosts
	tunnel a 1
	key b
	check on b ifconfig wg0 create >/dev/null
	check on b wg set wg0 private-key "$PWD/b.key" listen-port 51820
	check on b ifconfig wg0 inet 10.77.0.2/24 up
	check on b ifconfig lo0 inet6 2001:db8:9::1/128
	peer a b 2 192.0.2.2:51820 allowed-ips 10.77.0.2/32,2001:db8:9::1/128
	peer b a 1 192.0.2.1:51820
	check on a route add -inet6 2001:db8:9::1/128 -interface wg0
	check on b route add -inet6 fd77::/64 -interface wg0
	pings a 10.77.0.2
	has "$(on b ifconfig wg0)" IFDISABLED
	received() { on b netstat -I wg0 -n -f link | awk 'NR == 2 { print $(NF - 5) }'; }
	before=$(received)
	refuse on a ping -6 -nq -c 2 -t 3 2001:db8:9::1
	[ "$(received)" -ge $((before + 2)) ] || fail "not received: $(received) after $before"
	# The other direction works, so that only the answer is missing.
	on b ping -6 -nq -c 2 -t 3 -S 2001:db8:9::1 fd77::1 >/dev/null
	has "$(on a netstat -s -p icmp6)" "echo reply: 2"
	check on b ifconfig wg0 inet6 -ifdisabled
	pings a 2001:db8:9::1
	pings b fd77::1 -S 2001:db8:9::1
}

kmod_case roaming 60 "a peer that moves to another port is followed"
roaming_body() {
	pair 4
	pings a 10.77.0.2
	check on b wg set wg0 listen-port 40000
	pings b 10.77.0.1
	is "$(on a wg show wg0 endpoints | cut -f 2)" 192.0.2.2:40000 endpoint
	pings a 10.77.0.2
}

kmod_case stealing 60 "a prefix belongs to the peer that got it last; what others send from it is dropped"
stealing_body() {
	pair 4
	pings a 10.77.0.2
	key thief
	check on a wg set wg0 peer "$(pub thief)" allowed-ips 10.77.0.2/32
	is "$(on a wg show wg0 allowed-ips | grep -F "$(pub b)" | cut -f 2)" fd77::2/128 "what is left"
	before=$(counter drop_source_not_allowed)
	refuse on b ping -nq -c 2 -t 3 10.77.0.1
	[ "$(counter drop_source_not_allowed)" -gt "$before" ] || fail "not counted"
	pings a fd77::2
	check on a wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,fd77::2/128
	pings a 10.77.0.2
}

kmod_case capture 60 "bpf(4) sees packets in both directions, with the family in front"
capture_body() {
	need tcpdump
	pair 4
	pings a 10.77.0.2
	on a tcpdump -ni wg0 -c 4 -y NULL icmp >seen 2>err &
	sleep 2
	on a ping -nq -c 3 -i 0.2 10.77.0.2 >/dev/null
	wait $!
	cat seen err
	[ "$(grep -c 'echo request' seen)" -ge 2 ] || fail "no packets out"
	[ "$(grep -c 'echo reply' seen)" -ge 1 ] || fail "no packets in"
	on a tcpdump -ni wg0 -c 4 -y NULL icmp6 >seen 2>err &
	sleep 2
	on a ping -nq -c 3 -i 0.2 fd77::2 >/dev/null
	wait $!
	cat seen err
	[ "$(grep -c 'IP6 fd77::1 > fd77::2: ICMP6, echo request' seen)" -ge 2 ] || fail "no IPv6 packets out"
	[ "$(grep -c 'IP6 fd77::2 > fd77::1: ICMP6, echo reply' seen)" -ge 1 ] || fail "no IPv6 packets in"
	# And nothing of the kind outside.
	on a tcpdump -ni "$left" -c 6 >seen 2>err &
	sleep 2
	on a ping -nq -c 6 -i 0.2 10.77.0.2 >/dev/null
	wait $!
	has "$(cat seen)" "51820: UDP"
	has_not "$(cat seen)" ICMP
}

kmod_case bpf_writes 60 "writes to bpf(4) of any length and family get an answer, and no panic"
bpf_writes_body() {
	need_probe
	pair 4
	pings a 10.77.0.2
	check on a "$dir/probe" bpf-write wg0
	check on a ifconfig wg0 down
	check on a "$dir/probe" bpf-write wg0
	check on a ifconfig wg0 up
	pings a 10.77.0.2
}

kmod_case forged 60 "a data packet with a wrong tag is dropped and counted, and moves nothing"
forged_body() {
	need_probe
	pair 4
	pings a 10.77.0.2
	forge
}

kmod_case multicast 60 "multicast and MLD on a tunnel do no harm"
multicast_body() {
	pair 4
	check on a ifconfig wg0 inet6 fe80::1/64
	check on b ifconfig wg0 inet6 fe80::2/64
	on a ping -nq -c 2 -t 3 ff02::1%wg0 >/dev/null
	on a ping -nq -c 2 -t 3 -I wg0 224.0.0.1 >/dev/null
	check on a wg set wg0 peer "$(pub b)" allowed-ips 0.0.0.0/0,::/0
	on a ping -nq -c 2 -t 3 ff02::1%wg0 >/dev/null
	on a ping -nq -c 2 -t 3 -I wg0 224.0.0.1 >/dev/null
	pings a 10.77.0.2
}

kmod_case loop 90 "a tunnel whose own packets are routed into it is cut off"
loop_body() {
	pair 4
	pings a 10.77.0.2
	before=$(counter drop_loop)
	check on a wg set wg0 peer "$(pub b)" allowed-ips 10.77.0.2/32,192.0.2.2/32
	check on a route -q add -host 192.0.2.2 -interface wg0
	refuse on a ping -nq -c 3 -t 4 10.77.0.2
	[ "$(counter drop_loop)" -gt "$before" ] || fail "not counted"
	check on a route -q delete -host 192.0.2.2
	pings a 10.77.0.2
}

kmod_case fibs 90 "the tunnel's own packets use the FIB of tunnelfib"
fibs_body() {
	pair 4
	# Each network stack has its own number of them.
	[ "$(on a sysctl -n net.fibs)" -gt 1 ] || on a sysctl net.fibs=2 || atf_skip "one FIB"
	# Only FIB 1 knows the way to this address of b.
	check on b ifconfig lo0 inet 198.51.100.7/32 alias
	check on a setfib 1 route -q add -net 192.0.2.0/24 -interface "$left"
	check on a setfib 1 route -q add -host 198.51.100.7 192.0.2.2
	check on a wg set wg0 peer "$(pub b)" endpoint 198.51.100.7:51820
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a ifconfig wg0 tunnelfib 1
	pings a 10.77.0.2
}

kmod_case pf 90 "pf(4) on the tunnel and on the outer packets"
pf_body() {
	other_module pf
	need pfctl
	pair 4
	# The status also tells whether there is a list of fingerprints of systems, which is not of interest.
	rules() {
		echo "$1" | on a pfctl -q -f - 2>err
		on a pfctl -s rules | grep -q block || atf_skip "pf does not run in a jail: $(cat err)"
	}
	rules 'block drop quick on wg0 inet6'
	check on a pfctl -q -e
	pings a 10.77.0.2
	refuse on a ping -nq -c 2 -t 3 fd77::2
	rules 'block drop quick proto udp to port 51820'
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a pfctl -q -d
	pings a 10.77.0.2
}

kmod_case ipfw 90 "ipfw(4) on the tunnel and on the outer packets"
ipfw_body() {
	need ipfw
	other_module ipfw
	pair 4
	on a ipfw -q add 65000 allow ip from any to any
	on b ipfw -q add 65000 allow ip from any to any
	pings a 10.77.0.2
	check on a ipfw -q add 100 deny ip from any to any via wg0
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a ipfw -q delete 100
	check on a ipfw -q add 100 deny udp from any to any dst-port 51820
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a ipfw -q delete 100
	pings a 10.77.0.2
}

kmod_case netmap 90 "a tunnel in emulated netmap mode, bridged to its own host rings"
netmap_body() {
	bridge=$(command -v bridge || ls /usr/tests/sys/net/bridge 2>/dev/null) || atf_skip "no program bridge here"
	pair 4
	pings a 10.77.0.2
	on a "$bridge" -w 0 -i netmap:wg0 -i netmap:wg0^ >bridge.log 2>&1 &
	echo $! >>pids
	sleep 4
	pings a 10.77.0.2
	pings b fd77::1
	stop_floods
	sleep 1
	pings a 10.77.0.2
}
