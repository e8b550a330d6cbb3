#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Between the host and wgd: no packet is lost without a count, whatever the MTU, and wherever the interface is; and
# the host's clock.

. "$(atf_get_srcdir)/lab.subr"

only_wgd() { [ "$WGD_KIND" = wgd ] || atf_skip "about wgd itself"; }

# statistics interface pid: what wgd says of itself, one counter a line.
statistics() {
	lab_lines=$(grep -c ' statistics: ' "$1.log")
	kill -USR1 "$2"
	eventually 5 more_statistics "$1.log" "$lab_lines"
	grep ' statistics: ' "$1.log" | tail -n 1 | tr ' ' '\n'
}
more_statistics() { [ "$(grep -c ' statistics: ' "$1")" -gt "$2" ]; }
# counter file name: its value in what statistics said, 0 if it says nothing of it.
counter() { awk -F= -v name="$2" '$1 == name { n = $2 } END { print n + 0 }' "$1"; }
# grown name: by how much wg0's counter has grown between «before» and «after».
grown() { echo $(($(counter after "$1") - $(counter before "$1"))); }
# no_drops file-before file-after: nothing was dropped meanwhile but what no peer is to have, such as the host's
# multicasts.
no_drops() {
	# shellcheck disable=SC2013 # words
	for lab_name in $(sed -n 's/^\(drop_[a-z_]*\|ierrors\|[io]qdrops\)=.*/\1/p' "$2"); do
		[ "$lab_name" = drop_no_peer ] || is "$(counter "$2" "$lab_name")" "$(counter "$1" "$lab_name")" "$lab_name"
	done
}
host_sent() { on "$1" cat /sys/class/net/wg0/statistics/tx_packets; }

# every_packet_counted host mtu...: datagrams that fill the interface, there and back, for each MTU in turn. All that
# the host has sent into wg0 must have reached the driver, and have been sent by it.
every_packet_counted() {
	lab_host=$1
	shift
	for mtu; do
		check ip -n "$lab_host" link set wg0 mtu "$mtu"
		check ip -n b link set wg1 mtu "$mtu"
		statistics wg0 "$pid_a" >before
		statistics wg1 "$pid_b" >before.b
		before_host=$(host_sent "$lab_host")
		full=$((mtu - 28))
		echo_sizes "$lab_host" b 10.77.0.2 1 "$full" $((full - 1)) "$full" 40000
		pings "$lab_host" 10.77.0.2 -s "$full" -M "do"
		if [ "$mtu" -ge 1280 ]; then
			# A smaller MTU has taken these addresses away.
			ip -n "$lab_host" addr replace fd77::1/64 dev wg0 nodad
			ip -n b addr replace fd77::2/64 dev wg1 nodad
			pings "$lab_host" fd77::2 -s $((mtu - 48)) -M "do"
		fi
		after_host=$(host_sent "$lab_host")
		statistics wg0 "$pid_a" >after
		statistics wg1 "$pid_b" >after.b
		is "$(grown device_reads)" $((after_host - before_host)) "MTU $mtu: packets that wgd has read"
		is "$(grown device_in)" $((after_host - before_host)) "MTU $mtu: packets that the driver got"
		# Beside them the driver sends its own.
		[ $(($(grown opackets) + $(grown oerrors))) -ge $((after_host - before_host)) ] ||
			fail "MTU $mtu: some that the driver got were neither sent nor counted as dropped"
		no_drops before after
		no_drops before.b after.b
	done
}

# driver_has pid name value
driver_has() {
	statistics wg0 "$1" >now
	cat now
	[ "$(counter now "$2")" = "$3" ]
}

# move from to: the interface goes to another host, and is made ready there.
move() {
	check ip -n "$1" link set wg0 netns "$2"
	up "$2" wg0 10.77.0.1/24
	ip -n "$2" addr add fd77::1/64 dev wg0 nodad 2>/dev/null
}

lab_case mtus 120 "MTUs from the smallest to the largest: the driver counts what the host has sent"
mtus_body() {
	only_wgd
	pair 4
	pings a 10.77.0.2
	every_packet_counted a 576 1280 1420 1500 9000 65455 577
}

lab_case moved 120 "the same after a move to another host, and on the way back"
moved_body() {
	only_wgd
	pair 4
	hosts c d
	pings a 10.77.0.2
	move a c
	pings c 10.77.0.2
	every_packet_counted c 9000 576 65455
	eventually 5 driver_has "$pid_a" mtu 65455
	move c d
	every_packet_counted d 1280 9000
	eventually 5 driver_has "$pid_a" mtu 9000
	move d a
	every_packet_counted a 1420 9001
	eventually 5 driver_has "$pid_a" mtu 9001
	check ip -n a link del wg0
	eventually 5 sh -c "! kill -0 $pid_a"
}

lab_case moved_streams 120 "TCP after a move and with a larger MTU, both ways"
moved_streams_body() {
	only_wgd
	command -v iperf3 >/dev/null || atf_skip "iperf3 is not installed (make setup)"
	pair 4
	hosts c
	pings a 10.77.0.2
	move a c
	check ip -n c link set wg0 mtu 9000
	check ip -n b link set wg1 mtu 9000
	on b iperf3 -s >iperf.log 2>&1 &
	eventually 5 on c iperf3 -c 10.77.0.2 -n 8M
	check on c iperf3 -c fd77::2 -n 32M
	check on c iperf3 -c 10.77.0.2 -n 32M -R
	# A segment of 48 bytes: over a thousand in one packet of the host.
	check on c iperf3 -c 10.77.0.2 -n 256K -M 88
	statistics wg0 "$pid_a" >after
	is "$(counter after drop_device_split)" 0 "packets that could not be taken apart"
	[ "$(counter after device_in)" -gt "$(counter after device_reads)" ] || fail "nothing came as segments"
}

lab_case namesake 60 "an interface of the same name, where the moved one was, is left alone"
namesake_body() {
	only_wgd
	two_hosts
	hosts c
	tunnel a wg0
	ip -n a link set wg0 netns c
	ip -n a link add wg0 type veth peer name other
	ip -n a link set wg0 mtu 1234 up
	check wg set wg0 listen-port 4567
	# Somebody has the port where the sockets are: the interface cannot come up.
	on a "$lab_dir/echo.py" serve 0.0.0.0 4567 >echo.log 2>&1 &
	eventually 5 port_in_use a 4567
	ip -n c link set wg0 mtu 2000 up
	eventually 5 grep -q "cannot set the interface up" wg0.log
	ip -n a link show wg0 >shown
	cat shown
	grep -q 'UP' shown && grep -q 'mtu 1234' shown || fail "another interface was changed"
}
port_in_use() { on "$1" ss -Hlun "sport = :$2" | grep -q .; }

lab_case host_of_another_user 60 "in a namespace that we may not look into, packets of any size pass"
host_of_another_user_body() {
	only_wgd
	pair 4
	pings a 10.77.0.2
	unshare --user --map-root-user --net sleep 100 &
	other=$!
	eventually 5 other_net "$other"
	check ip -n a link set wg0 netns "$other"
	inside="nsenter --target $other --user --net --preserve-credentials"
	# shellcheck disable=SC2086 # a list
	check $inside ip addr add 10.77.0.1/24 dev wg0
	# shellcheck disable=SC2086 # a list
	check $inside ip link set wg0 mtu 9000 up
	check ip -n b link set wg1 mtu 9000
	# shellcheck disable=SC2086 # a list
	check $inside ping -n -q -c 3 -i 0.25 -w 12 -s 8972 -M "do" 10.77.0.2
	statistics wg0 "$pid_a" >after
	is "$(counter after drop_device_split)" 0 "packets that could not be taken apart"
}
other_net() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

lab_case suspend 60 "the driver's clock counts the time that the machine was suspended"
suspend_body() {
	only_wgd
	hosts a
	# A day of suspend: the clock that counts it is a day ahead of the one that does not.
	day=86400
	unshare -T --boottime "$day" true 2>/dev/null || atf_skip "no time namespaces here"
	on a unshare -T --boottime "$day" "$WGD" -f wg0 >wg0.log 2>&1 &
	eventually 5 test -S /var/run/wireguard/wg0.sock
	eventually 5 statistics_of_daemon
	[ "$(counter now uptime)" -ge "$day" ] || fail "the uptime lacks the suspend"
}
statistics_of_daemon() { statistics wg0 "$(pgrep -f "^$WGD -f wg0\$")" >now; }
