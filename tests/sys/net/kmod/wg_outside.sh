#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# What the network outside of the tunnel sees, and sends: sockets, ports, addresses, keepalives, strangers.

. "$(atf_get_srcdir)/kmod.subr"

# endpoint host: where it finds its only peer.
endpoint() { on "$1" wg show wg0 endpoints | cut -f 2; }
shaken() { on "$1" wg show wg0 latest-handshakes | cut -f 2; }

kmod_case port_taken 60 "an interface whose port is taken does not come up, and does when it is free"
port_taken_body() {
	load
	check ifconfig wg0 create >/dev/null
	check ifconfig wg1 create >/dev/null
	check wg set wg0 listen-port 4444
	check wg set wg1 listen-port 4444
	check ifconfig wg0 up
	# The kernel keeps the driver's error from ifconfig(8).
	ifconfig wg1 up
	soon_said "wg1: cannot come up, errno 48"
	has_not "$(ifconfig wg1)" RUNNING
	# LOWER_UP of ifconfig(8) is no more than UP for this type of interface.
	soon_said "wg1: link state changed to DOWN"
	check wg set wg0 listen-port 4445
	check ifconfig wg1 down
	check ifconfig wg1 up
	has "$(ifconfig wg1)" RUNNING
	# Taken by a program, in one family only: both sockets or none.
	nc -6 -u -l ::1 4446 >/dev/null 2>&1 &
	echo $! >>pids
	# shellcheck disable=SC2317 # called by name
	listens() { sockstat -6lq -P udp -p 4446 | grep -q nc; }
	eventually 5 listens
	refuse wg set wg1 listen-port 4446
	is "$(wg show wg1 listen-port)" 4444 "the port of before"
	has "$(sockstat -46lq -P udp -p 4444)" "*:4444"
	is "$(sockstat -4lq -P udp -p 4446)" "" "what was opened of the port that is taken"
	check ifconfig wg0 down
	is "$(sockstat -46lq -P udp -p 4445)" "" "sockets of an interface that is down"
	stop_floods
}

kmod_case user_cookie 90 "the mark of wg(8) is the cookie of the sockets, which ipfw(4) sees"
user_cookie_body() {
	need ipfw
	other_module ipfw
	pair 4
	on b ipfw -q add 65000 allow ip from any to any
	# ipfw(8) can tell whether there is one.
	check on a ipfw -q add 100 deny udp from any to any out sockarg
	check on a ipfw -q add 65000 allow ip from any to any
	pings a 10.77.0.2
	check on a wg set wg0 fwmark 500
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	# New sockets have it too.
	check on a wg set wg0 listen-port 51821
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a wg set wg0 fwmark off
	pings a 10.77.0.2
	check on a ifconfig wg0 down
	check on a wg set wg0 fwmark 0xffffffff
	check on a ifconfig wg0 up
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on a wg set wg0 fwmark off
	pings a 10.77.0.2
}

kmod_case fib_inside 90 "packets out of the tunnel use the FIB of the interface"
fib_inside_body() {
	pair 4
	[ "$(on b sysctl -n net.fibs)" -gt 1 ] || on b sysctl net.fibs=2 || atf_skip "one FIB"
	# Only FIB 1 of b knows the way back to this address of a.
	check on a ifconfig lo0 inet 198.51.100.7/32 alias
	check on b wg set wg0 peer "$(pub a)" allowed-ips 10.77.0.1/32,fd77::1/128,198.51.100.7/32
	check on b setfib 1 route -q add -host 198.51.100.7 -interface wg0
	pings a 10.77.0.2
	refuse on a ping -nq -S 198.51.100.7 -c 2 -t 3 10.77.0.2
	check on b ifconfig wg0 fib 1
	pings a 10.77.0.2 -S 198.51.100.7
}

kmod_case source_sticks 90 "answers leave from the address that the peer has reached"
source_sticks_body() {
	pair 4
	check on b ifconfig "$right" inet 192.0.2.20/24 alias
	check on b ifconfig "$right" inet6 2001:db8::20/64 no_dad alias
	for address in 192.0.2.20 '[2001:db8::20]' '[2001:db8::2]' 192.0.2.2; do
		check on a wg set wg0 peer "$(pub b)" endpoint "$address:51820"
		pings a 10.77.0.2
		pings b 10.77.0.1
		is "$(endpoint a)" "$address:51820" "where b answers from"
	done
	# An address that goes away: the next packets leave from another one.
	check on a wg set wg0 peer "$(pub b)" endpoint 192.0.2.20:51820
	pings a 10.77.0.2
	check on b ifconfig "$right" inet 192.0.2.20 -alias
	pings b 10.77.0.1
	is "$(endpoint a)" 192.0.2.2:51820 "where b sends from now"
}

kmod_case link_local 90 "endpoints may be link-local addresses"
link_local_body() {
	pair 4
	check on a ifconfig "$left" inet6 fe80::a/64 no_dad
	check on b ifconfig "$right" inet6 fe80::b/64 no_dad
	check on a wg set wg0 peer "$(pub b)" endpoint "[fe80::b%$left]:51820"
	pings a 10.77.0.2
	is "$(endpoint a)" "[fe80::b%$left]:51820" "where a finds b"
	is "$(endpoint b)" "[fe80::a%$right]:51820" "where b finds a"
	pings b fd77::1
}

kmod_case families 90 "a peer is followed from one address family to the other"
families_body() {
	pair 4
	pings a 10.77.0.2
	check on a wg set wg0 peer "$(pub b)" endpoint '[2001:db8::2]:51820'
	pings a 10.77.0.2
	is "$(endpoint b)" '[2001:db8::1]:51820' "where b finds a"
	check on b wg set wg0 peer "$(pub a)" endpoint 192.0.2.1:51820
	pings b fd77::1
	is "$(endpoint a)" 192.0.2.2:51820 "where a finds b"
}

kmod_case keepalives 90 "keepalives tell a peer where we are, as often as was asked for, and while the interface is up"
keepalives_body() {
	hosts
	tunnel a 1
	tunnel b 2
	# b learns a's address from the first message, as behind NAT.
	peer b a 1 ""
	peer a b 2 192.0.2.2:51820 persistent-keepalive 1
	# shellcheck disable=SC2317 # called by name
	known() { [ "$(endpoint b)" = 192.0.2.1:51820 ]; }
	eventually 10 known
	pings b 10.77.0.1
	sleep 1
	# The transfer is of messages: a keepalive has 32 bytes.
	received() { on b wg show wg0 transfer | cut -f 2; }
	before=$(received)
	sleep 6
	got=$(($(received) - before))
	if [ $got -lt $((4 * 32)) ] || [ $got -gt $((9 * 32)) ]; then
		fail "$got bytes of keepalives in 6 seconds"
	fi
	check on a ifconfig wg0 down
	sleep 1
	before=$(received)
	sleep 3
	is "$(received)" "$before" "bytes of an interface that is down"
	check on a ifconfig wg0 up
	before=$(shaken b)
	# Up again there is a new session at once, without a packet to send.
	# shellcheck disable=SC2317 # called by name
	anew() { [ "$(received)" -gt "$1" ]; }
	eventually 15 anew "$(received)"
	check on a wg set wg0 peer "$(pub b)" persistent-keepalive off
	sleep 2
	before=$(received)
	sleep 4
	is "$(received)" "$before" "bytes after they were turned off"
}

kmod_case strangers 120 "datagrams of all lengths and kinds, from anybody, do no harm and are counted"
strangers_body() {
	need_probe
	pair 4
	pings a 10.77.0.2
	before=$(($(counter drop_malformed) + $(counter drop_bad_mac) + $(counter drop_unknown_index)))
	check on a "$dir/probe" spray 192.0.2.2 51820 20000
	check on a "$dir/probe" spray 2001:db8::2 51820 5000
	pings a 10.77.0.2
	pings b fd77::1
	after=$(($(counter drop_malformed) + $(counter drop_bad_mac) + $(counter drop_unknown_index)))
	# Some are lost before they get there, which is nothing of ours.
	[ $((after - before)) -gt 5000 ] || fail "$((after - before)) were counted"
	is "$(endpoint b)" 192.0.2.1:51820 "where b finds a"
}

kmod_case repeated 90 "a data packet that comes again is dropped and counted"
repeated_body() {
	need_probe
	pair 4
	pings a 10.77.0.2
	before=$(counter drop_replayed)
	received() { on b netstat -I wg0 -bn -f link | awk 'NR == 2 { print $(NF - 7) }'; }
	on a "$dir/probe" repeat "$left" 5 &
	sleep 1
	on a ping -nq -c 20 -i 0.1 10.77.0.2 >pinged
	wait $! || fail "nothing was repeated"
	# shellcheck disable=SC2317 # called by name
	counted() { [ "$(counter drop_replayed)" -ge $((before + 5)) ]; }
	eventually 5 counted
	has_not "$(cat pinged)" duplicates
	pings a 10.77.0.2
}

kmod_case streams 200 "TCP in both directions, in both families, brings what was sent"
streams_body() {
	pair 4
	stream a b 10.77.0.2 8
	stream b a fd77::1 8
	stream a b fd77::2 4
	stream b a 10.77.0.1 4
}

kmod_case renewed 280 "sessions are renewed under traffic without loss"
renewed_body() {
	pair 4
	pings a 10.77.0.2
	before_a=$(shaken a) before_b=$(shaken b) handshakes=$(counter handshakes)
	on a ping -nq -c 130 -i 1 10.77.0.2 >pinged || fail "ping: $(cat pinged)"
	cat pinged
	has "$(cat pinged)" "130 packets received"
	[ "$(shaken a)" -ge $((before_a + 100)) ] || fail "no new session on a"
	[ "$(shaken b)" -ge $((before_b + 100)) ] || fail "no new session on b"
	[ "$(counter handshakes)" -gt "$handshakes" ] || fail "not counted"
}
