#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# run-demo.sh: two hosts, a tunnel between them, real traffic through it. This is `make run`.
#
#     left                                                        right
#     wg0 10.77.0.1, fd77::1                     10.77.0.2, fd77::2 wg1
#     eth0 192.0.2.1 ----------------- cable ----------------- 192.0.2.2 eth0
#
# Environment: PEER      what runs on the right: wgd (default), wireguard-go, boringtun-cli, gotatun
#              SECONDS_OF_STREAM   how long the stream runs (5)
#
# The hosts are network namespaces in a sandbox (tools/sandbox), so nothing of this is visible outside
# and all of it disappears with this script, whatever ends it. Where the system forbids that, the same
# driver code is shown on an in-process network.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tools/env.sh"
wgd=${WGD:-$CARGO_TARGET_DIR/release/wgd}
peer=${PEER:-wgd}
stream=${SECONDS_OF_STREAM:-5}

if [[ -t 1 && ! ${NO_COLOR-} ]]; then
	bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m' erase=$'\r\e[K'
	export WG_COLOR_MODE=always
else
	bold='' green='' red='' plain='' erase=''
fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
die() {
	printf '\n%srun: %s%s\n' "$red" "$*" "$plain" >&2
	if [[ -d ${work-} ]]; then tail -n 5 "$work"/*.log >&2 || true; fi
	exit 1
}

outside() {
	local why
	case $peer in
	wgd | wireguard-go | boringtun-cli | gotatun) ;;
	*) die "PEER is wgd, wireguard-go, boringtun-cli or gotatun, not $peer" ;;
	esac
	[[ $peer == wgd ]] || command -v "$peer" >/dev/null || die "$peer is not installed; \`make setup\` brings it"
	[[ -x $wgd ]] || die "there is no $wgd; \`make run\` builds it"
	if why=$("$top/tools/sandbox" --check 2>&1); then
		exec "$top/tools/sandbox" "$0" --inside
	fi
	title "No network namespaces here"
	echo "  Because ${why:-they are not permitted},"
	echo "  the same driver code runs on an in-process network instead."
	exec "$(dirname "$wgd")/wgsim-demo"
}

# on host command...
on() {
	local host=$1
	shift
	ip netns exec "$host" "$@"
}

# start host interface implementation: in the background; returns when it can be configured.
start() {
	local host=$1 interface=$2 command
	case $3 in
	wgd) command=("$wgd" -f "$interface") ;;
	wireguard-go) command=(env WG_PROCESS_FOREGROUND=1 wireguard-go -f "$interface") ;;
	*) command=("$3" -f --disable-drop-privileges "$interface") ;;
	esac
	on "$host" "${command[@]}" >"$work/$interface.log" 2>&1 &
	local pid=$!
	for _ in {1..100}; do
		[[ -S /var/run/wireguard/$interface.sock ]] && return
		kill -0 $pid 2>/dev/null || break
		sleep 0.1
	done
	die "$3 did not start on $host"
}

pings() { # host address
	local summary
	summary=$(on "$1" ping -n -q -c 5 -i 0.2 -w 10 "$2") || die "no answer from $2 on $1"
	ok "$1 → $2: $(sed -n 's/^rtt [^=]*= [^/]*\/\([^/]*\).*/round trip \1 ms/p' <<<"$summary")"
}

# The stream's progress: one line that is drawn again and again, from iperf3's own reports.
progress() {
	local line to rate bar width=30
	while read -r line; do
		[[ $line =~ -\ *([0-9.]+)\ +sec\ +[0-9.]+\ [KMG]?Bytes\ +([0-9.]+)\ Mbits/sec ]] || continue
		to=${BASH_REMATCH[1]%.*} rate=${BASH_REMATCH[2]}
		if [[ $line == *sender* || $line == *receiver* ]]; then
			[[ $line == *receiver* ]] && total=$rate
			continue
		fi
		[[ $erase ]] || continue
		bar=$((to * width / stream))
		printf '%s  [%-*s] %2d of %d s  %6.0f Mb/s' "$erase" $width \
			"$(printf '%*s' $((bar < width ? bar : width)) '' | tr ' ' '=')" "$to" "$stream" "$rate"
	done
	printf '%s' "$erase"
	[[ ${total-} ]] || return 1
	ok "one TCP stream over $stream s: ${bold}$total Mb/s${plain}"
}

inside() {
	work=/run/demo # the sandbox's own /run
	mkdir -m 0700 "$work"
	trap 'exit 130' INT TERM HUP

	title "Two hosts, left and right, and a cable between them"
	ip netns add left
	ip netns add right
	ip link add eth0 netns left type veth peer name eth0 netns right
	for host in left right; do
		ip -n $host link set lo up
		ip -n $host link set eth0 up
	done
	ip -n left addr add 192.0.2.1/24 dev eth0
	ip -n right addr add 192.0.2.2/24 dev eth0
	ok "left 192.0.2.1 ─── 192.0.2.2 right"

	title "A WireGuard interface on each: wgd on the left, $peer on the right"
	start left wg0 wgd
	start right wg1 "$peer"
	local name
	for name in left right; do
		(umask 077 && wg genkey >"$work/$name.key")
		wg pubkey <"$work/$name.key" >"$work/$name.pub"
	done
	(umask 077 && wg genpsk >"$work/psk")
	wg set wg0 listen-port 51820 private-key "$work/left.key" peer "$(<"$work/right.pub")" \
		preshared-key "$work/psk" endpoint 192.0.2.2:51820 allowed-ips 10.77.0.2/32,fd77::2/128
	wg set wg1 listen-port 51820 private-key "$work/right.key" peer "$(<"$work/left.pub")" \
		preshared-key "$work/psk" endpoint 192.0.2.1:51820 allowed-ips 10.77.0.1/32,fd77::1/128
	ok "configured by $(wg --version | cut -d ' ' -f 1,2)"
	up left wg0 10.77.0.1/24 fd77::1/64
	up right wg1 10.77.0.2/24 fd77::2/64
	ok "wg0 10.77.0.1, fd77::1 ─── 10.77.0.2, fd77::2 wg1"

	title "Pings through the tunnel"
	pings left 10.77.0.2
	pings right 10.77.0.1
	pings left fd77::2
	pings right fd77::1

	title "A stream through the tunnel"
	on right iperf3 -s -1 >"$work/server.log" 2>&1 &
	for _ in {1..50}; do
		on right ss -Hnlt sport = 5201 | grep -q . && break
		sleep 0.1
	done
	on left iperf3 -c 10.77.0.2 -t "$stream" -i 0.5 -f m --forceflush 2>&1 | progress ||
		die "the stream broke off"

	title "What wg show says"
	wg show wg0
	echo
	wg show wg1
	title "Done. Both interfaces and hosts are gone again when this ends."
}

up() { # host interface v4/len v6/len
	ip -n "$1" link set "$2" mtu 1420 up
	ip -n "$1" addr add "$3" dev "$2"
	ip -n "$1" addr add "$4" dev "$2" nodad
}

if [[ ${1-} == --inside ]]; then inside; else outside; fi
