#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# wgd as a program: its options, its life and end, and what it says when it cannot start.

. "$(atf_get_srcdir)/lab.subr"

only_wgd() { [ "$WGD_KIND" = wgd ] || atf_skip "about wgd itself"; }
sock=/var/run/wireguard/wg0.sock

# complains pattern host command...: ends with status 1 within 5 s and one line on standard error that
# matches.
complains() {
	lab_pattern=$1 lab_host=$2
	shift 2
	on "$lab_host" timeout 5 "$@" >complains.out 2>complains.err
	lab_status=$?
	cat complains.out complains.err
	is "$lab_status" 1 "exit status of $*"
	is "$(wc -l <complains.err)" 1 "number of lines"
	grep -Eqi "$lab_pattern" complains.err || fail "the message does not say «$lab_pattern»"
}
gone() { ! kill -0 "$1" 2>/dev/null; }
link_exists() { ip -n "$1" link show "$2"; }
no_link() { ! link_exists "$1" "$2"; }

lab_case help_version 20 "--help, --version and wrong options"
help_version_body() {
	only_wgd
	check "$WGD" --help
	grep -qi usage check.out || fail "no usage"
	check "$WGD" --version
	grep -Eq '[0-9]+\.[0-9]+' check.out || fail "no version"
	for wrong in "" "--nonsense wg0" "wg0 wg1"; do
		# shellcheck disable=SC2086 # a list
		if "$WGD" $wrong >out 2>&1; then fail "accepted «$wrong»"; fi
		grep -qi usage out || fail "no usage after «$wrong»"
	done
}

lab_case daemon 30 "without -f it goes to the background, ready to be configured"
daemon_body() {
	only_wgd
	hosts a
	check on a timeout 10 "$WGD" wg0
	# No waiting: when the command returns, the socket is there.
	check wg show wg0
	check link_exists a wg0
	is "$(stat -c %a $sock)" 600 "mode of the socket"
	is "$(stat -c %a /var/run/wireguard)" 700 "mode of its folder"
	rm $sock
	eventually 5 no_link a wg0
}

lab_case foreground 30 "with -f it stays, and its standard error tells with -v"
foreground_body() {
	only_wgd
	hosts a
	on a "$WGD" -f -v wg0 >wg0.log 2>&1 &
	eventually 5 test -S $sock
	pid=$(ip netns pids a | head -n 1)
	kill -0 "$pid" || fail "gone"
	new_key k
	check wg set wg0 private-key k.key listen-port 4000
	[ -s wg0.log ] || fail "said nothing with -v"
	if grep -qF "$(cat k.key)" wg0.log; then fail "the private key is in the log"; fi
	kill "$pid"
	eventually 5 gone "$pid"
}

for signal in TERM INT HUP; do
	lab_case "signal_$signal" 30 "SIG$signal takes the interface down cleanly"
	eval "signal_${signal}_body() { ends_by_signal $signal; }"
done
ends_by_signal() {
	only_wgd
	hosts a
	# A non-interactive shell would start a background command with SIGINT ignored.
	setsid sh -c "exec ip netns exec a env --default-signal=INT $WGD -f wg0" >wg0.log 2>&1 &
	eventually 5 test -S $sock
	pid=$(ip netns pids a | head -n 1)
	kill -"$1" "$pid"
	eventually 5 gone "$pid"
	wait $!
	is $? 0 "exit status"
	[ ! -e $sock ] || fail "the socket is still there"
	no_link a wg0 || fail "the interface is still there"
	# And the name can be used again.
	tunnel a wg0
}

lab_case signal_under_traffic 60 "SIGTERM while both directions are full"
signal_under_traffic_body() {
	only_wgd
	pair 4
	pings a 10.77.0.2
	on a ping -q -f 10.77.0.2 >/dev/null 2>&1 &
	on b ping -q -f fd77::1 >/dev/null 2>&1 &
	sleep 1
	pid=$(pgrep -f "^$WGD .*wg0\$")
	kill "$pid"
	eventually 5 gone "$pid"
	wait "$pid_a"
	is $? 0 "exit status"
	[ ! -e $sock ] || fail "the socket is still there"
}

lab_case socket_removed 30 "removing the socket takes the interface down"
socket_removed_body() {
	only_wgd
	hosts a
	tunnel a wg0
	rm $sock
	eventually 5 no_link a wg0
	wait "$lab_pid"
	is $? 0 "exit status"
}

lab_case interface_deleted 30 "deleting the interface from outside ends the daemon"
interface_deleted_body() {
	only_wgd
	hosts a
	tunnel a wg0
	check ip -n a link del wg0
	eventually 5 gone "$lab_pid"
	[ ! -e $sock ] || fail "the socket is still there"
}

lab_case stale_socket 30 "a socket that nobody serves is replaced"
stale_socket_body() {
	only_wgd
	hosts a
	tunnel a wg0
	kill -9 "$lab_pid"
	wait "$lab_pid"
	[ -S $sock ] || fail "there is no stale socket to test with"
	on a "$WGD" -f wg0 >wg0.log 2>&1 &
	eventually 5 wg show wg0
}

lab_case second 30 "a second wgd of the same name leaves the first alone"
second_body() {
	only_wgd
	hosts a b
	tunnel a wg0
	complains 'wg0|in use|running|exists' a "$WGD" -f wg0
	complains 'wg0|in use|running|exists' a "$WGD" wg0
	# The control sockets are of the whole machine, so another host does not help.
	complains 'wg0|in use|running|exists' b "$WGD" -f wg0
	check wg show wg0
	check link_exists a wg0
}

lab_case name_taken 30 "a name that another interface has"
name_taken_body() {
	only_wgd
	hosts a
	ip -n a link add wg0 type dummy 2>/dev/null || ip -n a link add wg0 type veth peer name other
	complains 'wg0.*(exists|in use|taken)|(exists|in use|taken).*wg0' a "$WGD" -f wg0
	complains 'wg0.*(exists|in use|taken)|(exists|in use|taken).*wg0' a "$WGD" wg0
	check link_exists a wg0
	[ ! -e $sock ] || fail "left a socket behind"
}

lab_case bad_names 30 "names that no interface can have"
bad_names_body() {
	only_wgd
	hosts a
	complains 'long|15' a "$WGD" -f abcdefghijklmnop
	complains 'name' a "$WGD" -f ../wg0
	complains 'name' a "$WGD" -f 'w g'
	complains 'name' a "$WGD" -f .
	complains 'name' a "$WGD" -f ''
	# Fifteen characters are allowed.
	tunnel a abcdefghijklmno
}

lab_case no_privileges 30 "without privileges"
no_privileges_body() {
	only_wgd
	hosts a
	mkdir -m 0777 /run/wireguard
	complains 'privilege|permi|root|CAP_NET_ADMIN' a setpriv --bounding-set=-all --inh-caps=-all "$WGD" -f wg0
}

lab_case no_tun 30 "without a TUN device"
no_tun_body() {
	only_wgd
	hosts a
	# shellcheck disable=SC2016 # the inner shell's
	complains '/dev/net/tun' a unshare -m sh -c 'mount -t tmpfs none /dev/net; exec "$0" -f wg0' "$WGD"
}

lab_case no_run_folder 30 "when the folder for the sockets cannot be made"
no_run_folder_body() {
	only_wgd
	hosts a
	: >/run/wireguard
	complains '/run/wireguard' a "$WGD" -f wg0
	no_link a wg0 || fail "left the interface behind"
}
