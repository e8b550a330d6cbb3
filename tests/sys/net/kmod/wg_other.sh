#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Tunnels to another machine with another driver. Two of the same name cannot be in one kernel, so here a host is a
# machine: a is this one, and b runs right.sh.
#
#        a, vtnet0 ------------- 192.0.2.0/24, 2001:db8::/64 ------------- b, vtnet0
#
# environment: WG_OTHER  address of b

. "$(atf_get_srcdir)/kmod.subr"

# --- what kmod.subr does with jails ---------------------------------------------------------------

# quoted word...: as a line for a shell.
quoted() {
	for kmod_word; do
		printf "'%s' " "$(printf '%s' "$kmod_word" | sed "s/'/'\\\\''/g")"
	done
}
# on host command...
on() {
	if [ "$1" = a ]; then
		shift
		"$@"
		return
	fi
	shift
	{
		printf 'mkdir -p %s; cd %s\n' "$PWD" "$PWD"
		quoted "$@"
		# nc(1) there tells its shell of no end, and hangs up at once when it hears of one.
		# shellcheck disable=SC2016 # for the other shell
		printf '\nprintf "\\n%%s" $?\nexit\n'
	} >question
	# It takes a moment until the last answer was sent and it listens again.
	: >answer
	for _ in $(jot 100); do
		timeout 120 nc "$WG_OTHER" 7000 <question >answer 2>trouble && [ -s answer ] && break
		sleep 0.2
	done
	[ -s answer ] || fail "b does not answer: $( (cat trouble; ping -c 1 -t 3 "$WG_OTHER") 2>&1 | tr "\n" " ")"
	sed '$d' answer
	return "$(tail -n 1 answer)"
}
# given file: b has it too.
given() { check on b sh -c "umask 077; echo '$(cat "$1")' >$1"; }
key() {
	[ -e "$1.key" ] || (
		umask 077
		wg genkey >"$1.key"
	)
	given "$1.key"
}
hosts() {
	[ "$WG_OTHER" ] || atf_skip "no other machine here"
	load
	left=vtnet0
}
clean_up() {
	[ "$WG_OTHER" ] || return 0
	stop_floods
	ifconfig wg0 destroy 2>/dev/null
	kldunload if_wg 2>/dev/null
	on b ifconfig wg0 destroy >/dev/null 2>&1
	true
}

# --- tests ----------------------------------------------------------------------------------------

# anew: both tunnels made anew, without a session.
anew() {
	check on a ifconfig wg0 destroy
	check on b ifconfig wg0 destroy
	pair "$1"
}
shaken() {
	on "$1" wg show wg0 latest-handshakes | cut -f 2
}

kmod_case handshakes4 200 "either side begins, over IPv4; packets of all sizes"
handshakes4_body() {
	pair 4
	all_ways
	for host in a b; do
		[ "$(shaken $host)" -gt 0 ] || fail "no handshake on $host"
	done
	anew 4
	pings b 10.77.0.1
	all_ways
}

kmod_case handshakes6 200 "either side begins, over IPv6; packets of all sizes"
handshakes6_body() {
	pair 6
	all_ways
	anew 6
	pings b fd77::1
	all_ways
}

kmod_case preshared 120 "a preshared key, used by whoever begins"
preshared_body() {
	pair 4
	wg genpsk >psk
	given psk
	check on a wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk"
	refuse on a ping -nq -c 2 -t 3 10.77.0.2
	check on b wg set wg0 peer "$(pub a)" preshared-key "$PWD/psk"
	pings a 10.77.0.2
	anew 4
	check on a wg set wg0 peer "$(pub b)" preshared-key "$PWD/psk"
	check on b wg set wg0 peer "$(pub a)" preshared-key "$PWD/psk"
	pings b 10.77.0.1
}

kmod_case roaming 120 "each follows the other to another port and another family"
roaming_body() {
	pair 4
	pings a 10.77.0.2
	check on b wg set wg0 listen-port 40000
	pings b 10.77.0.1
	is "$(on a wg show wg0 endpoints | cut -f 2)" 192.0.2.2:40000 "where a finds b"
	check on a wg set wg0 listen-port 41000
	pings a 10.77.0.2
	is "$(on b wg show wg0 endpoints | cut -f 2)" 192.0.2.1:41000 "where b finds a"
	check on a wg set wg0 peer "$(pub b)" endpoint '[2001:db8::2]:40000'
	pings a 10.77.0.2
	is "$(on b wg show wg0 endpoints | cut -f 2)" '[2001:db8::1]:41000' "where b finds a"
	check on b wg set wg0 peer "$(pub a)" endpoint 192.0.2.1:41000
	pings b fd77::1
	is "$(on a wg show wg0 endpoints | cut -f 2)" 192.0.2.2:40000 "where a finds b"
}

kmod_case keepalives 120 "keepalives from either side tell the other where it is"
keepalives_body() {
	hosts
	tunnel a 1
	tunnel b 2
	# shellcheck disable=SC2317 # called by name
	known() { [ "$(on "$1" wg show wg0 endpoints | cut -f 2)" = "$2" ]; }
	peer b a 1 ""
	peer a b 2 192.0.2.2:51820 persistent-keepalive 1
	eventually 10 known b 192.0.2.1:51820
	pings b 10.77.0.1
	anew 4
	check on a wg set wg0 peer "$(pub b)" remove
	peer a b 2 ""
	check on b wg set wg0 peer "$(pub a)" persistent-keepalive 1
	eventually 15 known a 192.0.2.2:51820
	pings a 10.77.0.2
	received=$(on a wg show wg0 transfer | cut -f 2)
	sleep 5
	[ "$(on a wg show wg0 transfer | cut -f 2)" -ge $((received + 4 * 32)) ] || fail "no keepalives came"
}

kmod_case streams 200 "TCP in both directions brings what was sent"
streams_body() {
	pair 4
	stream a b 10.77.0.2 8
	stream b a 10.77.0.1 8
	stream a b fd77::2 8
	stream b a fd77::1 8
}

kmod_case fragments 120 "tunnels whose packets the network has to cut up"
fragments_body() {
	pair 4
	check on a ifconfig wg0 mtu 8000
	check on b ifconfig wg0 mtu 8000
	pings a 10.77.0.2 -s 7972
	pings b fd77::1 -s 7900
	stream a b 10.77.0.2 4
}

kmod_case restarted 120 "a peer that has forgotten its session is found again"
restarted_body() {
	pair 4
	pings a 10.77.0.2
	check on b ifconfig wg0 destroy
	tunnel b 2
	peer b a 1 ""
	eventually 40 on a ping -nq -c 1 -t 2 10.77.0.2
	check on a ifconfig wg0 destroy
	tunnel a 1
	peer a b 2 ""
	eventually 40 on b ping -nq -c 1 -t 2 10.77.0.1
}

kmod_case other_key 120 "another private key on either side"
other_key_body() {
	pair 4
	pings a 10.77.0.2
	key c
	check on b wg set wg0 private-key "$PWD/c.key"
	check on a wg set wg0 peer "$(pub b)" remove
	peer a c 2 192.0.2.2:51820
	pings a 10.77.0.2
	key d
	check on a wg set wg0 private-key "$PWD/d.key"
	check on b wg set wg0 peer "$(pub a)" remove
	peer b d 1 192.0.2.1:51820
	pings b 10.77.0.1
}

kmod_case rekeyed 280 "sessions are renewed under traffic without loss, whoever began"
rekeyed_body() {
	pair 4
	pings a 10.77.0.2
	before_a=$(shaken a) before_b=$(shaken b)
	on a ping -nq -c 130 -i 1 10.77.0.2 >pinged || fail "ping: $(cat pinged)"
	cat pinged
	[ "$(sed -n 's/^\([0-9]*\) packets.* \([0-9]*\) packets received.*/\2/p' pinged)" -ge 128 ] || fail "lost"
	[ "$(shaken a)" -ge $((before_a + 100)) ] || fail "no new session on a"
	[ "$(shaken b)" -ge $((before_b + 100)) ] || fail "no new session on b"
	pings b 10.77.0.1
}
