#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# wg-quick(8) on Linux, with wgd.
#
#     host a ---------------- 192.0.2.0/24 ---------------- host b
#   default route by 192.0.2.2                     the endpoint, 198.51.100.2 (2001:db8:f::2)
#   wg0: what wg-quick makes                       "the Internet", 203.0.113.1 (2001:db8:e::1)
#                                                  wg1: a plain wgd

. "$(atf_get_srcdir)/lab.subr"

QUICK=${QUICK:-$CARGO_TARGET_DIR/release/wg-quick}

# net: both hosts, and a folder of programs that wg-quick finds before all others: itself, our wg, the wgd under test, and
# a resolvconf that keeps what it is told.
net() {
	[ "$WGD_KIND" = wgd ] || atf_skip "about wgd itself"
	[ -x "$QUICK" ] || fail "no wg-quick at $QUICK"
	require wgd
	two_hosts
	address b lo 198.51.100.2/32 203.0.113.1/32 2001:db8:f::2/128 2001:db8:e::1/128
	ip -n a route add default via 192.0.2.2
	ip -n a -6 route add default via 2001:db8::2
	on b sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	new_key a
	new_key b
	mkdir -m 700 bin etc
	ln "$QUICK" bin/wg-quick 2>/dev/null || cp "$QUICK" bin/wg-quick
	cp "$WGD" bin/wgd
	cp "$CARGO_TARGET_DIR/release/wg" bin/wg
	cat >bin/resolvconf <<-STUB
		#!/bin/sh
		echo "\$*" >>"$PWD/resolvconf.log"
		case \$1 in
		-a) cat >"$PWD/dns.\$2" ;;
		-d) rm -f "$PWD/dns.\$2" ;;
		-l) cat "$PWD/dns.\$2" 2>/dev/null ;;
		esac
	STUB
	chmod +x bin/resolvconf
	tunnel b wg1
	check wg set wg1 listen-port 51820 private-key b.key peer "$(pub a)" allowed-ips 10.77.0.1/32,fd77::1/128
	up b wg1 10.77.0.2/24 fd77::2/64
}
# conf endpoint allowed-ips [line...]: etc/wg0.conf, with more lines for [Interface].
conf() {
	conf_end=$1 conf_ips=$2
	shift 2
	(
		umask 077
		echo "[Interface]"
		echo "Address = 10.77.0.1/24, fd77::1/64"
		echo "PrivateKey = $(cat a.key)"
		[ $# -eq 0 ] || printf '%s\n' "$@"
		echo "[Peer]"
		echo "PublicKey = $(pub b)"
		echo "Endpoint = $conf_end"
		echo "AllowedIPs = $conf_ips"
	) >etc/wg0.conf
	chmod 600 etc/wg0.conf
}
# quick argument...: on host a. What it says goes to ./said too.
quick() {
	on a "$PWD/bin/wg-quick" "$@" >said 2>&1
	quick_status=$?
	cat said
	return $quick_status
}
refuse() {
	if "$@" >refuse.out 2>&1; then
		cat refuse.out
		fail "succeeded: $*"
	fi
}
# says text: the last wg-quick did; lines as they are.
says() {
	case "
$(cat said)
" in
	*"
$1
"*) ;;
	*)
		cat said
		fail "not said: $1"
		;;
	esac
}
mentions() { grep -qF -- "$1" said || fail "«$1» is not in: $(cat said)"; }

# state: all that a tunnel changes on host a.
state() {
	ip -n a -o link show | sed 's/^[0-9]*: //; s/ mtu .*//'
	for family in -4 -6; do
		ip -n a $family rule show
		ip -n a $family route show table all | grep -v 'table local' | sed 's/ expires.*//'
	done
	on a nft list ruleset
	on a sysctl net.ipv4.conf.all.src_valid_mark
	ls etc bin /run/wireguard dns.* 2>/dev/null
	pgrep -af 'wg-quick|wgd wg0'
	ps -A -o stat= -o args= | grep '^Z'
}
same_state() {
	state >state.now 2>&1
	diff state.before state.now
}
unchanged() { eventually 5 same_state; }
# way address: by which interface host a sends there.
way() { ip -n a -o route get "$1" | sed -n 's/.* dev \([^ ]*\).*/\1/p'; }

lab_case full 60 "a default route through the tunnel, in both families"
full_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0,::/0
	state >state.before
	check quick up etc/wg0.conf
	says '[#] wgd wg0
[#] wg addconf wg0 /dev/stdin
[#] ip -4 address add 10.77.0.1/24 dev wg0
[#] ip -6 address add fd77::1/64 dev wg0
[#] ip link set mtu 1420 up dev wg0
[#] wg set wg0 fwmark 51820
[#] nft -f -
[#] sysctl -q net.ipv4.conf.all.src_valid_mark=1
[#] ip -4 rule add not fwmark 51820 table 51820
[#] ip -4 rule add table main suppress_prefixlength 0
[#] ip -4 route add 0.0.0.0/0 dev wg0 table 51820
[#] nft -f -
[#] ip -6 rule add not fwmark 51820 table 51820
[#] ip -6 rule add table main suppress_prefixlength 0
[#] ip -6 route add ::/0 dev wg0 table 51820'
	is "$(way 203.0.113.1)" wg0 "the way to the Internet"
	is "$(way 2001:db8:e::1)" wg0 "the way to the Internet"
	is "$(way 192.0.2.2)" ea "the way to what the usual table knows"
	pings a 203.0.113.1
	pings a 2001:db8:e::1
	ps -A -o args= >processes
	grep -F "$(cat a.key)" processes said && fail "the key is in a process's arguments or a message"
	refuse quick up etc/wg0.conf
	says "wg-quick: \`wg0' already exists"
	check quick down etc/wg0.conf
	says '[#] nft delete table ip wg-quick-wg0
[#] nft delete table ip6 wg-quick-wg0
[#] ip -4 rule delete table 51820
[#] ip -4 rule delete table main suppress_prefixlength 0
[#] ip -6 rule delete table 51820
[#] ip -6 rule delete table main suppress_prefixlength 0
[#] ip link delete dev wg0'
	# As the stock script has it, the setting of the reverse path check stays.
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
	refuse quick down etc/wg0.conf
	says "wg-quick: \`wg0' is not a WireGuard interface"
}

lab_case full6 60 "a default route for IPv6 alone, the endpoint by IPv6"
full6_body() {
	net
	# With the stock wg this time.
	rm bin/wg
	conf '[2001:db8:f::2]:51820' ::/0
	state >state.before
	check quick up etc/wg0.conf
	is "$(way 2001:db8:e::1)" wg0 "the way to the Internet"
	is "$(way 203.0.113.1)" ea "the way to the other Internet"
	pings a 2001:db8:e::1
	check quick down etc/wg0.conf
	unchanged
}

lab_case split 60 "only some networks; hooks, name servers, MTU, SaveConfig"
split_body() {
	net
	conf 198.51.100.2:51820 10.77.0.0/24,203.0.113.0/24,fd77::2/128,fd88::/64 'MTU = 1380' 'DNS = 10.77.0.2, corp.example' \
		"PreUp = echo preup %i >>$PWD/hooks" "PostUp = echo postup >>$PWD/hooks # said" \
		"PreDown = echo predown %i; cat >>$PWD/hooks" "PostDown = ps -o args= -p \$\$ >>$PWD/hooks" 'SaveConfig = true'
	state >state.before
	check quick up etc/wg0.conf
	says '[#] resolvconf -a wg0 -m 0 -x
[#] ip -6 route add fd88::/64 dev wg0
[#] ip -4 route add 203.0.113.0/24 dev wg0'
	is "$(cat dns.wg0)" 'nameserver 10.77.0.2
search corp.example' "the name servers"
	is "$(cat /sys/class/net/wg0/mtu 2>/dev/null || on a cat /sys/class/net/wg0/mtu)" 1380 "the MTU"
	pings a 203.0.113.1
	pings a fd77::2
	check wg set wg0 peer "$(pub b)" persistent-keepalive 21
	echo 'standard input' | quick down etc/wg0.conf || fail "down"
	unchanged
	# The shell gets the code neither as an argument nor at the cost of its input.
	grep -q 'hooks' hooks && fail "the code of a hook is in the arguments of its shell: $(cat hooks)"
	is "$(head -n 3 hooks)" 'preup wg0
postup
standard input' "the hooks"
	is "$(stat -c '%a %n' etc/*)" '600 etc/wg0.conf' "the saved file"
	is "$(sed -n 1,6p etc/wg0.conf)" '[Interface]
Address = 10.77.0.1/24
Address = fd77::1/64
DNS = 10.77.0.2
DNS = corp.example
MTU = 1380' "what was saved"
	grep -qx 'PersistentKeepalive = 21' etc/wg0.conf || fail "the peer is as before"
	grep -qx "PrivateKey = $(cat a.key)" etc/wg0.conf || fail "no key"
	# What was saved works, and saving it again changes nothing.
	check quick up etc/wg0.conf
	pings a 203.0.113.1
	cp etc/wg0.conf saved
	check quick save etc/wg0.conf
	diff saved etc/wg0.conf || fail "saved something else"
	check quick down etc/wg0.conf
	unchanged
}

# A command that changes something adds one to ./count; the one with the number in ./fail does not do its work.
trap_commands() {
	echo 0 >count
	for program in ip wg nft sysctl resolvconf wgd; do
		real=$(PATH=$PWD/bin:$PATH command -v $program)
		[ "$real" != "$PWD/bin/$program" ] || {
			mv "$real" "$real.real"
			real=$real.real
		}
		cat >bin/$program <<-STUB
			#!/bin/sh
			case "\$*" in
			-j*|*show*|list*|-n*|-l*|*'type wireguard') exec "$real" "\$@" ;;
			esac
			[ "\$1" != --report-ready ] || exec "$real" "\$@"
			count=\$((\$(cat "$PWD/count") + 1))
			echo \$count >"$PWD/count"
			[ \$count != "\$(cat "$PWD/fail")" ] || { echo "no luck with $program" >&2; exit 1; }
			exec "$real" "\$@"
		STUB
		chmod +x bin/$program
	done
}

lab_case each_step_fails 120 "whichever command fails, everything is as before"
each_step_fails_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0,::/0,203.0.113.0/24 'DNS = 10.77.0.2'
	trap_commands
	state >state.before
	echo 0 >fail
	check quick up etc/wg0.conf
	steps=$(cat count)
	is "$steps" "$(grep '^\[#\]' said | grep -vc 'type wireguard')" "number of steps"
	check quick down etc/wg0.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
	for step in $(seq "$steps"); do
		echo 0 >count
		echo "$step" >fail
		refuse quick up etc/wg0.conf
		mentions 'no luck with'
		unchanged
	done
	# And hooks, the first and the last.
	echo 0 >fail
	for hook in PreUp PostUp; do
		conf 198.51.100.2:51820 0.0.0.0/0 "$hook = false | cat" "PostDown = touch $PWD/cleaned"
		refuse quick up etc/wg0.conf
		mentions "\`false | cat' failed"
		unchanged
		[ -e cleaned ] || fail "PostDown was not run"
		rm cleaned
	done
}

lab_case killed 60 "a signal in the middle"
killed_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0
	state >state.before
	for signal in TERM INT HUP; do
		for hook in PreUp PostUp; do
			conf 198.51.100.2:51820 0.0.0.0/0 'DNS = 10.77.0.2' "$hook = echo \$\$ >$PWD/hooked; sleep 1000" \
				"PostDown = sleep 0.3; echo %i >$PWD/cleaned"
			rm -f hooked cleaned
			# A non-interactive shell would start a background command with SIGINT ignored. All of the terminal's
			# processes get it, and again while things are being cleaned up.
			setsid ip netns exec a env --default-signal=INT "$PWD/bin/wg-quick" up etc/wg0.conf >said 2>&1 &
			eventually 10 test -s hooked
			pid=$(pgrep -f "wg-quick up etc/wg0.conf" | head -n 1)
			kill -$signal -- -"$pid"
			sleep 0.2
			kill -$signal -- -"$pid" 2>/dev/null
			wait $!
			is $? 1 "exit status after SIG$signal"
			mentions 'interrupted by signal'
			unchanged
			is "$(cat cleaned)" wg0 "PostDown after SIG$signal in $hook"
		done
	done
	# Nobody can do anything about this one; but down can, afterwards.
	conf 198.51.100.2:51820 0.0.0.0/0 "PostUp = echo \$\$ >$PWD/hooked; sleep 1000"
	rm -f hooked
	on a "$PWD/bin/wg-quick" up etc/wg0.conf >said 2>&1 &
	eventually 10 test -s hooked
	kill -9 "$(pgrep -f 'wg-quick up' | head -n 1)" "$(cat hooked)"
	wait $!
	sed -i '/^PostUp/d' etc/wg0.conf
	check quick down etc/wg0.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	pkill -f 'sleep 1000'
	unchanged
}

lab_case nested 60 "two default routes; the older tunnel goes first"
nested_body() {
	net
	new_key c
	conf 198.51.100.2:51820 0.0.0.0/0
	state >state.before
	sed "s|^PrivateKey.*|PrivateKey = $(cat c.key)|; s|^Address.*|Address = 10.66.0.1/24|; s|fd77.*||" etc/wg0.conf >etc/wg5.conf
	chmod 600 etc/wg5.conf
	check quick up etc/wg0.conf
	check quick up etc/wg5.conf
	mentions 'fwmark 51821'
	is "$(way 203.0.113.1)" wg5 "the way to the Internet"
	is "$(way 192.0.2.2)" ea "the way to what the usual table knows"
	check quick down etc/wg0.conf
	is "$(way 203.0.113.1)" wg5 "the way to the Internet"
	is "$(way 192.0.2.2)" ea "the way to what the usual table knows"
	check quick down etc/wg5.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	rm etc/wg5.conf
	unchanged
}

# other_ip kind: from now on ip(8) is BusyBox's, or an old one that knows no JSON, or one that fails at every question.
other_ip() {
	real=$(command -v ip)
	busybox=$(command -v busybox || echo "$top/build/kernel-peer/root/bin/busybox")
	[ "$1" != busybox ] || [ -x "$busybox" ] || atf_skip "busybox is not installed"
	case $1 in
	busybox) instead='' real="$busybox\" \"ip" ;;
	old) instead='*" -j "* | *" -N "*) echo "Option \"$1\" is unknown" >&2; exit 255 ;;' ;;
	failing) instead='*" show "* | *" get "*) exit 3 ;;' ;;
	esac
	cat >bin/ip <<-STUB
		#!/bin/sh
		case " \$* " in
		$instead
		esac
		exec "$real" "\$@"
	STUB
	chmod +x bin/ip
}

lab_case old_ip 60 "with an ip(8) that knows no JSON everything is the same"
old_ip_body() {
	net
	other_ip old
	ip -n a link set ea mtu 9000
	conf 198.51.100.2:51820 0.0.0.0/0,::/0
	# Somebody has the first table.
	ip -n a route add 192.0.2.99/32 dev ea table 51820
	state >state.before
	check quick up etc/wg0.conf
	says '[#] ip link set mtu 8920 up dev wg0
[#] wg set wg0 fwmark 51821'
	is "$(way 203.0.113.1)" wg0 "the way to the Internet"
	pings a 203.0.113.1
	check quick save etc/wg0.conf
	is "$(grep -c '^Address = ' etc/wg0.conf)" 2 "addresses in the saved file"
	check quick down etc/wg0.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
}

lab_case busybox 60 "with BusyBox's ip(8)"
busybox_body() {
	net
	other_ip busybox
	ip -n a link set ea mtu 9000
	conf 198.51.100.2:51820 10.77.0.0/24,203.0.113.0/24,fd77::2/128,fd88::/64
	state >state.before
	check quick up etc/wg0.conf
	says '[#] ip link set mtu 8920 up dev wg0
[#] ip -6 route add fd88::/64 dev wg0
[#] ip -4 route add 203.0.113.0/24 dev wg0'
	pings a 203.0.113.1
	check quick save etc/wg0.conf
	is "$(sed -n '/^Address/p' etc/wg0.conf)" 'Address = 10.77.0.1/24
Address = fd77::1/64' "addresses in the saved file"
	check quick down etc/wg0.conf
	unchanged
	# It has neither "not" for rules nor tables over 255.
	conf 198.51.100.2:51820 0.0.0.0/0
	refuse quick up etc/wg0.conf
	mentions "\`ip -4 rule add not fwmark 51820 table 51820' failed"
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
}

lab_case failing_ip 60 "an ip(8) that answers nothing costs no data"
failing_ip_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0 'SaveConfig = true'
	state >state.before
	check quick up etc/wg0.conf
	cp etc/wg0.conf before
	other_ip failing
	for order in save down; do
		refuse quick $order etc/wg0.conf
		mentions "etc/wg0.conf' is as it was"
		diff before etc/wg0.conf || fail "$order changed the file"
	done
	# Without having to save, it goes down, and what may be left is told.
	sed -i /SaveConfig/d etc/wg0.conf
	refuse quick down etc/wg0.conf
	mentions "\`ip -4 rule show' failed"
	ip -n a link show dev wg0 2>/dev/null && fail "the interface is still there"
	is "$(on a nft list tables)" "" "tables of nft"
	# What it left is what it told.
	rm bin/ip
	for family in -4 -6; do
		while ip -n a $family rule delete table 51820 2>/dev/null; do :; done
		while ip -n a $family rule delete table main suppress_prefixlength 0 2>/dev/null; do :; done
	done
	other_ip failing
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	refuse quick up etc/wg0.conf
	mentions "\`ip route get 198.51.100.2' failed"
	rm bin/ip
	unchanged
}

lab_case at_once 60 "tunnels that are set up at the same time have a table each"
at_once_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0,::/0
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	state >state.before
	names='wg10 wg11 wg12 wg13 wg14 wg15 wg16 wg17'
	for name in $names; do
		sed "s|^Address.*|Address = 10.66.${name#wg}.1/24|" etc/wg0.conf >"$name.conf"
	done
	chmod 600 ./*.conf
	for action in up down; do
		pids=
		for name in $names; do
			on a "$PWD/bin/wg-quick" $action "$PWD/$name.conf" >"$name.said" 2>&1 &
			pids="$pids $!"
		done
		for pid in $pids; do
			wait "$pid" || {
				tail ./*.said
				fail "$action of one of them"
			}
		done
		[ $action = up ] || break
		for name in $names; do
			on a wg show "$name" fwmark
		done >marks
		is "$(sort -u marks | wc -l)" 8 "tables of 8 tunnels"
		for family in -4 -6; do
			for mark in $(cat marks); do
				ip -n a $family rule show | grep -c "not from all fwmark $mark lookup $((mark))"
				ip -n a $family route show table $((mark)) | wc -l
			done | sort -u >seen
			is "$(cat seen)" 1 "rules and routes of each tunnel"
		done
	done
	unchanged
}

lab_case hooked_addresses 60 "addresses and routes of hooks count"
hooked_addresses_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0,10.66.0.0/24,10.67.0.0/16,10.68.0.0/16 \
		'PreUp = ip addr add 10.66.0.2/24 dev %i; ip addr add 10.68.0.2/16 dev %i noprefixroute' \
		'PreUp = ip link set up dev %i; ip route add 10.67.0.0/16 dev %i'
	state >state.before
	check quick up etc/wg0.conf
	says '[#] ip -4 route add 10.68.0.0/16 dev wg0
[#] wg set wg0 fwmark 51820'
	for ip in 10.66.0.2 10.68.0.2 10.77.0.1; do
		on a nft list ruleset | grep -qF "ip daddr $ip fib saddr type != local drop" || fail "$ip is not guarded"
	done
	check quick down etc/wg0.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
}

lab_case narrowest_way 60 "the MTU is that of the narrowest way to an endpoint"
narrowest_way_body() {
	net
	ip -n a link set ea mtu 9000
	ip -n a route add 198.51.100.3/32 via 192.0.2.2 mtu 1492
	conf 198.51.100.2:51820 10.77.0.0/24
	printf '[Peer]\nPublicKey = %s\nEndpoint = 198.51.100.3:1\n' "$(wg genkey | wg pubkey)" >>etc/wg0.conf
	state >state.before
	check quick up etc/wg0.conf
	says '[#] ip link set mtu 1412 up dev wg0'
	check quick down etc/wg0.conf
	unchanged
}

lab_case read_only 60 "a setting that is right already need not be written"
read_only_body() {
	net
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	printf '#!/bin/sh\necho "Read-only file system" >&2\nexit 255\n' >bin/sysctl
	chmod +x bin/sysctl
	conf 198.51.100.2:51820 0.0.0.0/0
	state >state.before
	check quick up etc/wg0.conf
	check quick down etc/wg0.conf
	unchanged
}

lab_case named_table 60 "a routing table that has a name"
named_table_body() {
	net
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	mkdir iproute2
	mount --bind iproute2 /etc/iproute2 || fail "no /etc/iproute2"
	printf '254 main\n255 local\n253 default\n51820 vpn\n' >iproute2/rt_tables
	conf 198.51.100.2:51820 0.0.0.0/0,::/0
	state >state.before
	check quick up etc/wg0.conf
	is "$(ip -n a rule show | grep -c 'lookup vpn')" 1 "rules with the table's name"
	check quick down etc/wg0.conf
	unchanged
}

lab_case keywords 60 "interfaces with names that are words of ip(8)"
keywords_body() {
	net
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	conf 198.51.100.2:51820 0.0.0.0/0
	state >state.before
	for name in br dev type link; do
		sed 's/^AllowedIPs.*/AllowedIPs = 0.0.0.0\/0, 10.99.0.0\/16/' etc/wg0.conf >etc/$name.conf
		chmod 600 etc/$name.conf
		check quick up etc/$name.conf
		says "[#] ip link add dev $name type wireguard"
		check quick down etc/$name.conf
		rm etc/$name.conf
	done
	unchanged
}

lab_case no_name_server 60 "a plan does not wait for a name server"
no_name_server_body() {
	net
	conf peer.example:51820 10.77.0.0/24,203.0.113.0/24
	# On the cable, nobody answers there.
	echo 'nameserver 192.0.2.77' >resolv.conf
	mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)" || fail "no /etc/resolv.conf"
	state >state.before
	check quick up --dry-run etc/wg0.conf
	says '[#] ip -4 route add 203.0.113.0/24 dev wg0'
	mentions "peer.example:51820'; the plan is made without this endpoint"
	unchanged
}

lab_case failed_inside 60 "a tunnel that fails when another one was set up on top of it"
failed_inside_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	state >state.before
	sed 's|^Address.*|Address = 10.66.0.1/24|' etc/wg0.conf >wg5.conf
	chmod 600 wg5.conf
	conf 198.51.100.2:51820 0.0.0.0/0 "PostUp = wg-quick up $PWD/wg5.conf; false"
	refuse quick up etc/wg0.conf
	is "$(way 203.0.113.1)" wg5 "the way to the Internet"
	is "$(way 192.0.2.2)" ea "the way to what the usual table knows"
	check quick down "$PWD/wg5.conf"
	unchanged
}

lab_case refused 60 "what cannot be done changes nothing"
refused_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/40 'MTU = x' 'Nonsense = 1'
	state >state.before
	refuse quick up etc/wg0.conf
	for line in 4 5 9; do
		mentions "etc/wg0.conf:$line: "
	done
	is "$(grep -c 'wg0.conf:' said)" 3 "number of errors"
	conf 198.51.100.2:51820 10.0.0.0/8 'DNS = 10.0.0.1'
	mv bin/resolvconf not
	refuse quick up etc/wg0.conf
	mentions resolvconf
	mv not bin/resolvconf
	# What is missing in the system.
	conf 198.51.100.2:51820 0.0.0.0/0
	mkdir few
	ln -s "$(command -v wg)" "$(command -v ip)" "$(command -v env)" few/
	cp bin/wg-quick few/
	refuse on a env -i PATH="$PWD/few" "$PWD/few/wg-quick" up etc/wg0.conf
	grep -q nft refuse.out || fail "no word about nft"
	echo 'Table = off' >>etc/wg0.conf
	sed -i 's/^Table.*//; s/^Address/Table = off\nAddress/' etc/wg0.conf
	refuse on a env -i PATH="$PWD/few" "$PWD/few/wg-quick" up etc/wg0.conf
	grep -q "no .wgd'" refuse.out || fail "no word about wgd"
	# Only told.
	conf 198.51.100.2:51820 0.0.0.0/0 "PostUp = touch $PWD/hooked" 'DNS = 10.0.0.1'
	check quick up --dry-run etc/wg0.conf
	[ ! -e hooked ] || fail "the hook ran"
	unchanged
	grep '^\[#\]' said >dry
	check quick up etc/wg0.conf
	grep '^\[#\]' said | grep -v '^\[#\] wgd' | diff dry - || fail "something else was told than done"
	# A name that is taken.
	cp etc/wg0.conf etc/ea.conf
	refuse quick up etc/ea.conf
	says "wg-quick: \`ea' already exists"
	refuse quick down etc/ea.conf
	check quick down etc/wg0.conf
	rm etc/ea.conf
	on a sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	unchanged
	# Others may read it.
	chmod 644 etc/wg0.conf
	chmod 755 etc
	check quick up --dry-run etc/wg0.conf
	grep -q "^Warning: .*/etc/wg0.conf' is world accessible" said || fail "no warning"
}

lab_case not_root 30 "somebody else than root is told so, or asked by sudo"
not_root_body() {
	[ "$WGD_KIND" = wgd ] || atf_skip "about wgd itself"
	mkdir -m 755 pub bin
	chmod 755 .
	cp "$QUICK" bin/
	printf '[Interface]\nAddress = 10.0.0.1/24\nListenPort = 1\n' >pub/wg9.conf
	chmod 644 pub/wg9.conf
	as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH="$PWD/bin:/usr/bin:/bin" "$PWD/bin/wg-quick" "$@"; }
	as_nobody strip pub/wg9.conf >out || atf_skip "no other user can be had in this sandbox"
	is "$(cat out)" '[Interface]
ListenPort = 1' "what strip prints"
	command -v sudo >/dev/null || {
		as_nobody up pub/wg9.conf >out 2>&1 && fail "it worked"
		is "$(cat out)" "wg-quick: must be run as root, and there is no sudo to become it" "the message"
	}
	printf '#!/bin/sh\necho "$@"\n' >bin/sudo
	chmod +x bin/sudo
	as_nobody down pub/wg9.conf >out
	is "$(cat out)" "-p wg-quick has to be root. Password of %u:  -- $PWD/bin/wg-quick down pub/wg9.conf" "what sudo gets"
}

lab_case strip 60 "strip prints what the stock script prints, byte by byte"
strip_body() {
	stock=$(command -v wg-quick) || atf_skip "no stock wg-quick"
	"$lab_dir/strip.py" "$QUICK" "$stock" || fail "see above"
}

lab_case strip_newest 60 "and what the newest stock script prints"
strip_newest_body() {
	[ -e "$top/build/stock-sid/ready" ] || atf_skip "the newest stock wg-quick could not be had (make setup)"
	"$lab_dir/strip.py" "$QUICK" "$top/build/stock-sid/bin/wg-quick" || fail "see above"
}
