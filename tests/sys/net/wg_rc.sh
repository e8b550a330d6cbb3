#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# rc.d/wireguard with stubs for rc.subr(8), wg and wg-quick, in two shells. With the real ones it runs in kmod/wg_quick.sh.

. "$(atf_get_srcdir)/lab.subr"

# stage shell: the script in ./wireguard, as `make install` would make it, for that shell; programs that write down in
# ./log what they are called with; and an rc.conf.
stage() {
	mkdir -p bin state
	sed -e "1s|.*|#!$1|" -e "s|^\. /etc/rc.subr|. $lab_dir/rc.subr|" -e "s|@PREFIX@|$PWD|g" \
		"$top/contrib/wireguard-tools/rc.d/wireguard.in" >wireguard
	# Interfaces are files. One named broken cannot be set up; one named stuck cannot be taken down.
	cat >bin/wg <<-STUB
		#!/bin/sh
		cd "$PWD/state" || exit
		case \$1 in
		show) ls | tr '\n' ' ' ;;
		syncconf) echo "wg \$*: \$(tr '\n' '|' <\$3)" >>../log ;;
		esac
	STUB
	cat >bin/wg-quick <<-STUB
		#!/bin/sh
		echo "wg-quick \$*\${WG_ENDPOINT_RESOLUTION_RETRIES:+ with \$WG_ENDPOINT_RESOLUTION_RETRIES}" >>"$PWD/log"
		case \$1-\$2 in
		up-broken | down-stuck | strip-bad) exit 1 ;;
		up-*) : >"$PWD/state/\$2" ;;
		down-*) rm "$PWD/state/\$2" ;;
		strip-*) printf '[Interface]\nListenPort = 7\n\n' ;;
		esac
	STUB
	chmod +x wireguard bin/*
	export RC_CONF="$PWD/rc.conf"
	conf 'wireguard_enable=YES' 'wireguard_interfaces="wg0 wg1"'
	: >log
}
conf() { printf '%s\n' "$@" >rc.conf; }
# rc status argument...: its exit status, its output in ./out.
rc() {
	rc_expected=$1
	shift
	./wireguard "$@" >out 2>&1
	rc_status=$?
	cat out
	is $rc_status "$rc_expected" "exit status of wireguard $*"
}
# logged text: what was called since the last time.
logged() {
	is "$(cat log)" "$1" "the calls"
	: >log
}

for shell in /bin/dash '/bin/bash --posix'; do
	lab_name=$(basename "${shell%% *}")
	lab_case "rc_$lab_name" 30 "rc.d/wireguard in $lab_name"
	eval "rc_${lab_name}_body() { all_of_it '$shell'; }"
done
all_of_it() {
	[ -x "${1%% *}" ] || atf_skip "no ${1%% *}"
	stage "$1"
	rc 0 rcvar
	grep -qx 'wireguard_enable="YES"' out || fail "rcvar"
	# All of them, in order; a second time nothing; backwards.
	rc 0 start
	logged 'wg-quick up wg0
wg-quick up wg1'
	rc 0 start
	grep -q 'wg1 is already up' out || fail "no word about it"
	logged ''
	rc 0 status
	is "$(cat out)" 'wireguard wg0 is up.
wireguard wg1 is up.' "the status"
	rc 0 stop
	logged 'wg-quick down wg1
wg-quick down wg0'
	rc 1 status
	rc 0 stop
	logged ''
	# Those that are named.
	rc 0 start wg1 wg7
	logged 'wg-quick up wg1
wg-quick up wg7'
	rc 0 status wg7
	rc 1 status wg0 wg7
	rc 0 restart wg7
	logged 'wg-quick down wg7
wg-quick up wg7'
	rc 0 stop wg7 wg1
	: >log
	# One that fails does not keep the others from it.
	conf 'wireguard_enable=YES' 'wireguard_interfaces="broken wg1"'
	rc 1 start
	logged 'wg-quick up broken
wg-quick up wg1'
	: >state/stuck
	rc 1 stop stuck wg1
	logged 'wg-quick down wg1
wg-quick down stuck'
	# reload needs an interface that is up, and a file that can be read.
	: >state/wg1
	: >state/bad
	rc 0 reload wg1
	logged 'wg-quick strip wg1
wg syncconf wg1 /dev/stdin: [Interface]|ListenPort = 7|'
	rc 1 reload bad
	logged 'wg-quick strip bad'
	rc 1 reload wg0
	logged ''
	# At the start and the end of the system: quietly, and only if enabled.
	conf 'wireguard_interfaces=wg0' 'wireguard_enable=NO'
	rc 0 faststart
	is "$(cat out)" '' "output"
	logged ''
	conf ''
	rc 0 start
	logged ''
	rc 0 onestart wg0
	logged 'wg-quick up wg0'
	conf 'wireguard_enable=yes' 'wireguard_env="WG_ENDPOINT_RESOLUTION_RETRIES=3"'
	rc 0 fastrestart wg0
	logged 'wg-quick down wg0 with 3
wg-quick up wg0 with 3'
	rc 1 start
	grep -q 'wireguard_interfaces is empty' out || fail "no word about it"
	rc 1 sideways
	logged ''
}
