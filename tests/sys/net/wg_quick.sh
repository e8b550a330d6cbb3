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
	grep -v AllowedIPs etc/wg0.conf >saved
	check quick save etc/wg0.conf
	grep -v AllowedIPs etc/wg0.conf | diff saved - || fail "saved something else"
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
