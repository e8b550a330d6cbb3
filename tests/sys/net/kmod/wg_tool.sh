#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Our wg(8) beside the base system's, on the same interfaces: each sees what the other has set, in the same words.

. "$(atf_get_srcdir)/kmod.subr"

# ours argument...: tools/vm-test.py puts it here.
ours() { "$dir/wg" "$@"; }
need_ours() { [ -x "$dir/wg" ] || atf_skip "our wg(8) was not built"; }

# both what argument...: runs both programs, which must do and say the same.
both() {
	tool_what=$1
	shift
	wg "$@" >stock.out 2>stock.err
	tool_status=$?
	ours "$@" >ours.out 2>ours.err
	is "$?" "$tool_status" "status of $tool_what"
	cmp stock.out ours.out || fail "$tool_what: $(diff stock.out ours.out | head -n 4)"
	cmp stock.err ours.err || fail "$tool_what: $(diff stock.err ours.err | head -n 4)"
}

fields="public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips latest-handshakes
transfer persistent-keepalive dump"

# both_see interface: in every form.
both_see() {
	both "show $1" show "$1"
	both "showconf $1" showconf "$1"
	for tool_field in $fields; do
		both "show $1 $tool_field" show "$1" "$tool_field"
		# The interface's name on every line of this one came after this base system's.
		[ "$tool_field" = endpoints ] || both "show all $tool_field" show all "$tool_field"
	done
	both show show
	both "show interfaces" show interfaces
}

# file name: a configuration in name.conf, of six peers.
file() {
	{
		printf '[Interface]\nPrivateKey = %s\nListenPort = 7001\nFwMark = 0x1f\n' "$(cat a.key)"
		for tool_n in 1 2 3 4 5 6; do
			key "$1$tool_n"
			printf '[Peer]\nPublicKey = %s\nPresharedKey = %s\n' "$(pub "$1$tool_n")" "$(cat "$1$tool_n.key")"
			printf 'AllowedIPs = 10.%s.0.0/16, fd00:%s::/32, 0.0.0.0/0\n' $tool_n $tool_n
			printf 'AllowedIPs = ::%s/128, ::1.2.3.%s/127\nPersistentKeepalive = %s\n' $tool_n $tool_n $((tool_n * 3 % 4))
			case $((tool_n % 3)) in
			0) echo "Endpoint = 127.0.0.1:$tool_n" ;;
			1) echo "Endpoint = [2001:db8::$tool_n]:$tool_n" ;;
			esac
		done
	} >"$1.conf"
}

kmod_case tool_show 300 "the same is shown of interfaces in every state"
tool_show_body() {
	need_ours
	load
	both_see_nothing
	check ifconfig wg0 create >/dev/null
	check ifconfig wg create name home >/dev/null
	both_see wg0
	key a
	file p
	check wg setconf wg0 p.conf
	both_see wg0
	# Down again, so that the counters stand still.
	check ifconfig wg0 up
	eventually 10 counted
	check ifconfig wg0 down
	check wg set home private-key "$PWD/a.key" peer "$(pub p1)"
	both_see wg0
	both "show home" show home dump
	# What another user may see.
	if command -v runas >/dev/null; then
		runas nobody wg show wg0 dump >stock.out
		runas nobody "$dir/wg" show wg0 dump >ours.out
	else
		su -m nobody -c 'wg show wg0 dump' >stock.out
		su -m nobody -c "$dir/wg show wg0 dump" >ours.out
	fi
	cmp stock.out ours.out || fail "another user sees other things: $(diff stock.out ours.out)"
	has "$(cat ours.out)" "(none)"
	has_not "$(cat ours.out)" "$(cat a.key)"
}
counted() { wg show wg0 transfer | awk '$3 > 0 { found = 1 } END { exit !found }'; }
both_see_nothing() {
	both show show
	both "show interfaces" show interfaces
	for tool_if in none lo0 a-name-that-is-too-long-for-this; do
		both "show $tool_if" show $tool_if
		both "showconf $tool_if" showconf $tool_if
		both "set $tool_if" set $tool_if fwmark 1
	done
}

kmod_case tool_change 120 "the same changes have the same effect, whoever makes them"
tool_change_body() {
	need_ours
	load
	key a
	file p
	file q
	head -n 17 p.conf >some.conf
	sed -n '5,11p' q.conf >more.conf
	echo '[Peer]' >bad.conf
	for tool_by in wg ours; do
		check ifconfig wg0 create >/dev/null
		for tool_step in "setconf wg0 p.conf" "syncconf wg0 some.conf" "addconf wg0 more.conf" "setconf wg0 bad.conf" \
			"set wg0 peer $(pub p1) allowed-ips 10.1.0.0/24,10.2.0.0/16 endpoint 198.51.100.7:9" \
			"set wg0 peer $(pub p2) remove" "set wg0 fwmark off listen-port 0" "set wg0 peer $(pub q5) persistent-keepalive 9" \
			"set wg0 peer $(pub p1) allowed-ips 10.1.0.0/33" "set wg0 private-key /dev/null" "syncconf wg0 q.conf"; do
			# shellcheck disable=SC2086 # words
			$tool_by $tool_step 2>>$tool_by.said
			echo "$tool_step: $?" >>$tool_by.state
			wg show wg0 dump >>$tool_by.state
		done
		check ifconfig wg0 destroy
	done
	cmp wg.said ours.said || fail "$(diff wg.said ours.said)"
	cmp wg.state ours.state || fail "$(diff wg.state ours.state)"
}

kmod_case tool_users 60 "other users change nothing, and jails have interfaces of their own"
tool_users_body() {
	need_ours
	load
	check ifconfig wg0 create >/dev/null
	jailed cell
	is "$(on cell "$dir/wg" show interfaces)" "" "interfaces of a jail"
	check on cell ifconfig wg0 create >/dev/null
	check on cell "$dir/wg" set wg0 fwmark 7
	is "$(on cell "$dir/wg" show wg0 fwmark)" 0x7 "mark in the jail"
	is "$(ours show wg0 fwmark)" off "mark outside of it"
	command -v runas >/dev/null || atf_skip "no runas here"
	refuse runas nobody "$dir/wg" set wg0 fwmark 1
	has "$(cat out)" "Unable to modify interface: Operation not permitted"
}

kmod_case tool_prefix 60 "allowed IPs are added and taken away one by one"
tool_prefix_body() {
	need_ours
	load
	check ifconfig wg0 create >/dev/null
	key a
	check ours set wg0 peer "$(pub a)" allowed-ips 10.0.0.0/8,10.1.0.0/16,fd00::/8
	check ours set wg0 peer "$(pub a)" allowed-ips -10.1.0.0/16,+192.0.2.0/24
	is "$(ours show wg0 allowed-ips | cut -f 2 | tr ' ' '\n' | sort | tr '\n' ' ')" "10.0.0.0/8 192.0.2.0/24 fd00::/8 " prefixes
}

kmod_case tool_growing 120 "an interface that grows while it is looked at is shown nevertheless"
tool_growing_body() {
	need_ours
	load
	check ifconfig wg0 create >/dev/null
	awk 'BEGIN {
		while (length(zeros) < 39) zeros = zeros "A"
		for (n = 0; n < 300; n++)
			printf "[Peer]\nPublicKey = %04d%s=\nAllowedIPs = 10.%d.%d.0/24\n", n, zeros, n / 256, n % 256
	}' >many.conf
	head -n 3 many.conf >one.conf
	while [ ! -e enough ]; do
		ours setconf wg0 many.conf
		ours setconf wg0 one.conf
	done &
	tool_failed=0
	for tool_n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
		ours show wg0 dump >out 2>&1 || fail "$(cat out)"
		tool_lines=$(wc -l <out | tr -d ' ')
		# All of the one or of the other, or what was there before the first.
		case $tool_lines in
		1 | 2 | 301) ;;
		*) fail "$tool_lines lines" ;;
		esac
		wg show wg0 dump >/dev/null 2>&1 || tool_failed=$((tool_failed + 1))
	done
	: >enough
	wait
	echo "stock wg(8) failed $tool_failed times of 30"
}

# seconds file: of user time, as time -p says.
seconds() { awk '$1 == "user" { print $2 }' "$1"; }

kmod_case tool_scale 300 "a thousand peers and two thousand prefixes take less of a processor than stock wg(8) needs"
tool_scale_body() {
	need_ours
	load
	check ifconfig wg0 create >/dev/null
	awk 'BEGIN {
		while (length(zeros) < 39) zeros = zeros "A"
		for (n = 0; n < 1000; n++) {
			printf "[Peer]\nPublicKey = %04d%s=\n", n, zeros
			printf "AllowedIPs = 10.%d.%d.0/24, fd00:%x::/32\n", n / 256, n % 256, n
		}
	}' >many.conf
	check time -p wg setconf wg0 many.conf 2>stock.time
	check wg show wg0 dump >stock.dump
	check time -p "$dir/wg" setconf wg0 many.conf 2>ours.time
	check time -p "$dir/wg" show wg0 dump >ours.dump 2>show.time
	is "$(wc -l <ours.dump | tr -d ' ')" 1001 "lines of the dump"
	cmp stock.dump ours.dump || fail "the dumps differ"
	echo "user time: stock $(seconds stock.time) s, ours $(seconds ours.time) s; show dump $(seconds show.time) s"
	[ "$(awk -v a="$(seconds ours.time)" -v b="$(seconds stock.time)" 'BEGIN { print (a < b) }')" = 1 ] ||
		fail "ours takes longer than stock wg(8)"
}
