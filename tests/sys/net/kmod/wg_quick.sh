#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# wg-quick(8) and rc.d/wireguard.
#
#     host a ---------------- 192.0.2.0/24 ---------------- host b
#   default route by 192.0.2.2                     192.0.2.2 and 192.0.2.3
#   wg0: all traffic                               the endpoint 198.51.100.2 (2001:db8:f::2)
#                                                  "the Internet", 203.0.113.1 (2001:db8:e::1)

. "$(atf_get_srcdir)/kmod.subr"

quick=$dir/wg-quick
need_quick() { [ -x $quick ] || atf_skip "wg-quick was not built (make tools-freebsd)"; }

# net: a and b as drawn.
net() {
	need_quick
	hosts
	check on b ifconfig "$right" inet 192.0.2.3/32 alias
	check on b ifconfig lo0 inet 198.51.100.2/32 alias
	check on b ifconfig lo0 inet 203.0.113.1/32 alias
	check on b ifconfig lo0 inet6 2001:db8:f::2/128 alias
	check on b ifconfig lo0 inet6 2001:db8:e::1/128 alias
	check on a route -q add default 192.0.2.2
	check on a route -q add -inet6 default 2001:db8::2
	on b sysctl -q net.inet.ip.forwarding=1 net.inet6.ip6.forwarding=1 >/dev/null
	key a
	key b
	mkdir -p a b bin
	umask 077
	# Stands for a resolvconf, and keeps what it is told.
	cat >bin/resolvconf <<-STUB
		#!/bin/sh
		echo "\$*" >>$PWD/resolvconf.log
		case \$1 in
		-a) cat >$PWD/dns.\$2 ;;
		-d) rm -f $PWD/dns.\$2 ;;
		-l) cat $PWD/dns.\$2 2>/dev/null ;;
		esac
	STUB
	chmod +x bin/resolvconf
	PATH=$PWD/bin:$PATH
	cat >b/wg0.conf <<-CONF
		[Interface]
		Address = 10.77.0.2/24, fd77::2/64
		PrivateKey = $(cat b.key)
		ListenPort = 51820
		[Peer]
		PublicKey = $(pub a)
		AllowedIPs = 10.77.0.1/32, fd77::1/128
	CONF
}
# conf endpoint allowed-ips [line...]: host a's file, with more lines for [Interface].
conf() {
	conf_end=$1 conf_ips=$2
	shift 2
	{
		echo "[Interface]"
		echo "Address = 10.77.0.1/24, fd77::1/64"
		echo "PrivateKey = $(cat a.key)"
		[ $# -eq 0 ] || printf '%s\n' "$@"
		echo "[Peer]"
		echo "PublicKey = $(pub b)"
		echo "Endpoint = $conf_end"
		echo "AllowedIPs = $conf_ips"
	} >a/wg0.conf
}
# quick host argument...: wg-quick there, in folder /; what it says goes to host.said too.
quick() {
	quick_host=$1
	shift
	on "$quick_host" $quick "$@" >"$quick_host.said" 2>&1
	quick_status=$?
	cat "$quick_host.said"
	return $quick_status
}
# state: what a tunnel changes on host a.
state() {
	on a ifconfig -l
	on a netstat -rn
	ls bin dns.* 2>/dev/null
	on a ps -axo state,command | grep -E 'wg-quick|wireguard-go|^Z' | grep -v grep
}
same_state() {
	state >state.now
	diff state.before state.now
}
unchanged() {
	eventually 5 same_state
}
# way address: where host a's packets to it go.
way() { on a route -n get "${2:--inet}" "$1" 2>/dev/null | awk '$1 == "interface:" { i = $2 } $1 == "gateway:" { g = $2 } END { print i, g }'; }
way_is() {
	quick_way=$(way "$2" "$1")
	[ "$quick_way" = "$3" ] || {
		echo "$2: «$quick_way», not «$3»"
		return 1
	}
}

kmod_case full 120 "a default route through the tunnel, in both families; the monitor follows the uplink"
full_body() {
	net
	check quick b up "$PWD/b/wg0.conf"
	conf 198.51.100.2:51820 0.0.0.0/0,::/0
	state >state.before
	check quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" '[#] ifconfig wg create name wg0
[#] wg addconf wg0 /dev/stdin
[#] ifconfig wg0 inet 10.77.0.1/24 alias
[#] ifconfig wg0 inet6 fd77::1/64 alias
[#] ifconfig wg0 mtu 1420
[#] ifconfig wg0 up
[#] route -q -n add -inet 0.0.0.0/1 -interface wg0
[#] route -q -n add -inet 128.0.0.0/1 -interface wg0
[#] route -q -n add -inet6 ::/1 -interface wg0
[#] route -q -n add -inet6 8000::/1 -interface wg0
[#] route -q -n add -inet 198.51.100.2 -gateway 192.0.2.2
'
	is "$(way 203.0.113.1)" "wg0 " "the way to the Internet"
	is "$(way 198.51.100.2)" "$left 192.0.2.2" "the way to the endpoint"
	pings a 203.0.113.1
	pings a 2001:db8:e::1
	# Keys are in no process's arguments or messages.
	has_not "$(ps -axwwo command; cat a.said)" "$(cat a.key)"
	# Twice.
	refuse quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" "\`wg0' already exists"
	# The uplink gets another gateway, none, and one again.
	check on a route -q change default 192.0.2.3
	eventually 10 way_is -inet 198.51.100.2 "$left 192.0.2.3"
	pings a 203.0.113.1
	check on a route -q delete default
	eventually 10 way_is -inet 198.51.100.2 "lo0 "
	has "$(on a route -n get 198.51.100.2)" BLACKHOLE
	check on a route -q add default 192.0.2.2
	eventually 10 way_is -inet 198.51.100.2 "$left 192.0.2.2"
	pings a 203.0.113.1
	# The endpoint changes: so does the route.
	check on a wg set wg0 peer "$(pub b)" endpoint '[2001:db8:f::2]:51820'
	eventually 20 way_is -inet6 2001:db8:f::2 "$left 2001:db8::2"
	is "$(way 198.51.100.2)" "wg0 " "the way to what is no endpoint any more"
	pings a 203.0.113.1
	check quick a down "$PWD/a/wg0.conf"
	unchanged
	refuse quick a down "$PWD/a/wg0.conf"
	has "$(cat a.said)" "\`wg0' is not a WireGuard interface"
	check quick b down "$PWD/b/wg0.conf"
}

kmod_case split 90 "only some networks; hooks, name servers, MTU, SaveConfig"
split_body() {
	net
	check quick b up "$PWD/b/wg0.conf"
	conf 198.51.100.2:51820 10.77.0.0/24,203.0.113.0/24,fd77::2/128,fd88::/64 'MTU = 1380' 'DNS = 10.77.0.2, corp.example' \
		"PreUp = echo preup %i >>$PWD/hooks" "PostUp = echo postup >>$PWD/hooks # said" \
		"PreDown = echo predown %i >>$PWD/hooks" "PostDown = echo postdown >>$PWD/hooks" 'SaveConfig = true'
	state >state.before
	check quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" '[#] resolvconf -a wg0 -x
[#] route -q -n add -inet6 fd88::/64 -interface wg0
[#] route -q -n add -inet 203.0.113.0/24 -interface wg0
'
	has_not "$(cat a.said)" 10.77.0.0/24
	is "$(cat dns.wg0)" 'nameserver 10.77.0.2
search corp.example' "the name servers"
	has "$(on a ifconfig wg0)" 'mtu 1380'
	is "$(on a pgrep -f route-monitor)" "" "a monitor that nobody needs"
	pings a 203.0.113.1
	pings a fd77::2
	check on a wg set wg0 peer "$(pub b)" persistent-keepalive 21
	check quick a down "$PWD/a/wg0.conf"
	unchanged
	is "$(cat hooks)" 'preup wg0
postup
predown wg0
postdown' "the hooks"
	is "$(stat -f %Lp a/wg0.conf)" 600 "the mode of the saved file"
	has "$(cat a/wg0.conf)" '[Interface]
Address = 10.77.0.1/24
Address = fd77::1/64
DNS = 10.77.0.2
DNS = corp.example
MTU = 1380
SaveConfig = true
PreUp = echo preup %i'
	has "$(cat a/wg0.conf)" 'PersistentKeepalive = 21'
	has "$(cat a/wg0.conf)" "$(cat a.key)"
	# What was saved works.
	check quick a up "$PWD/a/wg0.conf"
	pings a 203.0.113.1
	check quick a save "$PWD/a/wg0.conf"
	check quick a down "$PWD/a/wg0.conf"
	unchanged
	check quick b down "$PWD/b/wg0.conf"
}

kmod_case each_step_fails 240 "whichever command fails, everything is as before"
each_step_fails_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0,::/0,203.0.113.0/24 'DNS = 10.77.0.2' \
		"PostUp = [ \$(cat $PWD/count) != 15 ]"
	# Each command that changes something counts; the one of the number in ./fail does not do its work.
	for program in ifconfig route wg resolvconf; do
		real=$(PATH=$PWD/bin:$dir:/sbin:/usr/bin command -v $program)
		[ $program != resolvconf ] || mv bin/resolvconf "${real:=bin/resolvconf}.real"
		[ $program != resolvconf ] || real=$PWD/bin/resolvconf.real
		cat >bin/$program <<-STUB
			#!/bin/sh
			case "\$*" in
			show*|-l*|-f*|*' -l'*) exec $real "\$@" ;;
			esac
			count=\$((\$(cat $PWD/count) + 1))
			echo \$count >$PWD/count
			[ \$count != "\$(cat $PWD/fail)" ] || { echo "no luck with $program" >&2; exit 1; }
			exec $real "\$@"
		STUB
		chmod +x bin/$program
	done
	# It looks for programs next to itself first.
	cp $quick bin/
	quick=$PWD/bin/wg-quick
	state >state.before
	echo 0 >fail
	echo 0 >count
	check quick a up "$PWD/a/wg0.conf"
	steps=$(grep -c '^\[#\] [irw]' a.said)
	[ "$steps" -ge 13 ] || fail "only $steps steps"
	check quick a down "$PWD/a/wg0.conf"
	unchanged
	for step in $(jot "$steps"); do
		echo 0 >count
		echo "$step" >fail
		refuse quick a up "$PWD/a/wg0.conf"
		has "$(cat a.said)" 'no luck with'
		unchanged
	done
	# And a hook at the very end.
	sed -i '' 's/^PostUp.*/PostUp = false/' a/wg0.conf
	echo 0 >fail
	refuse quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" 'route -q -n delete -inet 198.51.100.2'
	unchanged
}

kmod_case killed 90 "a signal in the middle"
killed_body() {
	net
	state >state.before
	for signal in TERM INT HUP; do
		conf 198.51.100.2:51820 0.0.0.0/0 "PostUp = echo \$\$ >$PWD/hooked; sleep 1000" "PostDown = echo %i >$PWD/cleaned"
		rm -f hooked cleaned
		jexec a $quick up "$PWD/a/wg0.conf" >a.said 2>&1 &
		eventually 10 test -s hooked
		kill -$signal "$(pgrep -f "wg-quick up $PWD/a/wg0.conf" | tail -n 1)"
		wait $!
		is $? 1 "exit status after SIG$signal"
		has "$(cat a.said)" 'interrupted by signal'
		unchanged
		is "$(cat cleaned)" wg0 "PostDown"
	done
}

kmod_case destroyed 90 "the monitor ends with its interface, and its routes with it"
destroyed_body() {
	net
	conf 198.51.100.2:51820 0.0.0.0/0
	state >state.before
	check quick a up "$PWD/a/wg0.conf"
	is "$(on a pgrep -f route-monitor | wc -l | tr -d ' ')" 1 "number of monitors"
	check on a ifconfig wg0 destroy
	unchanged
	# A route to the endpoint that was there before is nobody's to touch.
	check on a route -q add 198.51.100.2 192.0.2.3
	state >state.before
	check quick a up "$PWD/a/wg0.conf"
	is "$(way 198.51.100.2)" "$left 192.0.2.3" "the way to the endpoint"
	check on a ifconfig wg0 destroy
	unchanged
	check on a route -q delete 198.51.100.2
	# Up and down in a row, each with a monitor of its own.
	state >state.before
	for _ in 1 2 3 4 5; do
		check quick a up "$PWD/a/wg0.conf"
		check quick a down "$PWD/a/wg0.conf"
	done
	check quick a up "$PWD/a/wg0.conf"
	is "$(way 198.51.100.2)" "$left 192.0.2.2" "the way to the endpoint"
	sleep 2
	is "$(way 198.51.100.2)" "$left 192.0.2.2" "the way to the endpoint"
	check quick a down "$PWD/a/wg0.conf"
	unchanged
}

kmod_case refused 60 "what cannot be done changes nothing"
refused_body() {
	net
	state >state.before
	conf 198.51.100.2:51820 0.0.0.0/40 'MTU = x' 'Nonsense = 1'
	refuse quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" 'wg0.conf:4: MTU'
	has "$(cat a.said)" 'wg0.conf:5: '
	has "$(cat a.said)" 'wg0.conf:9: '
	conf 198.51.100.2:51820 10.0.0.0/8 'Table = 99'
	refuse quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" 'net.fibs'
	conf 198.51.100.2:51820 10.0.0.0/8 'DNS = 10.0.0.1'
	mv bin/resolvconf bin/not
	refuse quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" 'resolvconf'
	mv bin/not bin/resolvconf
	conf 198.51.100.2:51820 0.0.0.0/0 "PostUp = touch $PWD/hooked"
	check quick a up --dry-run "$PWD/a/wg0.conf"
	has "$(cat a.said)" '[#] route -q -n add -inet 198.51.100.2 -gateway 192.0.2.2'
	[ ! -e hooked ] || fail "the hook ran"
	unchanged
	# A command that finds the name taken leaves the other one alone.
	check on a ifconfig lo7 create >/dev/null
	conf 198.51.100.2:51820 0.0.0.0/0
	mkdir c
	cp a/wg0.conf c/lo7.conf
	refuse quick a up "$PWD/c/lo7.conf"
	has "$(on a ifconfig -l)" lo7
}

kmod_case table 90 "a routing table of its own"
table_body() {
	net
	# Each network stack has its own number of them.
	[ "$(on a sysctl -n net.fibs)" -gt 1 ] || check on a sysctl net.fibs=2 >/dev/null
	check quick b up "$PWD/b/wg0.conf"
	conf 198.51.100.2:51820 0.0.0.0/0,203.0.113.0/24 'Table = 1'
	state >state.before
	on a setfib 1 netstat -rn >fib.before
	check quick a up "$PWD/a/wg0.conf"
	has "$(cat a.said)" '[#] route -q -n add -inet -fib 1 203.0.113.0/24 -interface wg0
[#] route -q -n add -inet -fib 1 0.0.0.0/0 -interface wg0'
	is "$(way 203.0.113.1)" "$left 192.0.2.2" "the way in the usual table"
	eventually 10 on a setfib 1 ping -nq -c 1 -t 2 203.0.113.1
	check quick a down "$PWD/a/wg0.conf"
	unchanged
	on a setfib 1 netstat -rn | diff fib.before - || fail "left routes in the other table"
	check quick b down "$PWD/b/wg0.conf"
}

kmod_case rc 120 "rc.d/wireguard with the system's rc.subr"
rc_body() {
	need_quick
	[ -e /etc/rc.subr ] || atf_skip "no rc.subr here"
	hosts
	key a
	key b
	script=$PWD/wireguard
	sed "s|@PREFIX@/bin|$dir|" "$dir/wireguard.in" >"$script"
	umask 077
	mkdir -p /usr/local/etc/wireguard
	for name in wg0 wg1; do
		cat >/usr/local/etc/wireguard/$name.conf <<-CONF
			[Interface]
			Address = 10.77.${name#wg}.1/24
			PrivateKey = $(cat a.key)
			[Peer]
			PublicKey = $(pub b)
			AllowedIPs = 10.88.${name#wg}.0/24
		CONF
	done
	[ ! -e /etc/rc.conf ] || cp /etc/rc.conf rc.conf.before
	printf '%s\n' 'wireguard_enable="YES"' 'wireguard_interfaces="wg0 wg1"' >/etc/rc.conf
	has "$(on a sh "$script" rcvar)" 'wireguard_enable="YES"'
	refuse on a sh "$script" status
	check on a sh "$script" start
	check on a sh "$script" status
	has "$(on a netstat -rn -f inet)" 10.88.1.0/24
	check on a sh "$script" start
	check on a sh "$script" stop wg1
	refuse on a sh "$script" status wg1
	check on a sh "$script" status wg0
	check on a wg set wg0 peer "$(pub b)" persistent-keepalive 7
	sed -i '' 's/^AllowedIPs/PersistentKeepalive = 8\n&/' /usr/local/etc/wireguard/wg0.conf
	check on a sh "$script" reload wg0
	has "$(on a wg show wg0 persistent-keepalive)" 8
	check on a sh "$script" restart
	check on a sh "$script" status
	# Of the jail's own; the host has none, nor is it asked to.
	is "$(ifconfig -g wg)" "" "interfaces of the host"
	check on a sh "$script" faststop
	refuse on a sh "$script" status
	echo 'wireguard_enable="NO"' >/etc/rc.conf
	has "$(on a sh "$script" start)" "Cannot 'start'"
	is "$(on a ifconfig -g wg)" "" "interfaces of the jail"
	if command -v rcorder >/dev/null; then
		order=$(rcorder /etc/rc.d/* "$script" 2>/dev/null | sed -En \
			's/.*\///; /^(netif|devd|routing|defaultroute|resolv|local_unbound|wireguard|routed|route6d|NETWORKING)$/p')
		echo "$order"
		is "$(echo "$order" | sed '1,/^wireguard$/d' | sort | xargs)" "NETWORKING route6d routed" "what comes after it"
	fi
	rm -f /etc/rc.conf /usr/local/etc/wireguard/wg[01].conf
	[ ! -e rc.conf.before ] || cp rc.conf.before /etc/rc.conf
}
