#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# wg-quick(8) on Linux and the person who uses it: hooks, messages, exit status, a file that is saved again and again.
# Hosts and helpers are those of wg_quick.sh.

. "$(atf_get_srcdir)/wg_quick.sh"
lab_cases=

lab_case hook_variables 60 "hooks know their tunnel, and no key"
hook_variables_body() {
	net
	all='printf "%s|" "$CONFIG_FILE" "$INTERFACE" "${ADDRESSES[*]}" "${#ADDRESSES[@]}" "${ADDRESSES[1]}" "${DNS[*]}" "${#DNS[@]}" "${DNS_SEARCH[0]}" "$MTU" "$TABLE" "$SAVE_CONFIG" "$PROGRAM"'
	conf 198.51.100.2:51820 10.77.0.0/24 'MTU = 1380' 'DNS = 10.77.0.2, ~corp.example, *' 'Table = 77' \
		"PreUp = $all >$PWD/known" "PreUp = env >$PWD/environment" "PostUp = test -n \"\$MTU\" # é and more" \
		"PostDown = $all >>$PWD/known"
	check quick up etc/wg0.conf
	known="$PWD/etc/wg0.conf|wg0|10.77.0.1/24 fd77::1/64|2|fd77::1/64|10.77.0.2|1|~corp.example|1380|77|0|wg-quick|"
	is "$(cat known)" "$known" "what a hook knows"
	is "$(cat dns.wg0)" 'nameserver 10.77.0.2
search ~corp.example *' "what resolvconf got"
	grep -F "$(cat a.key)" environment && fail "the key is in the environment of a hook"
	check quick down etc/wg0.conf
	is "$(cat known)" "$known$known" "what a hook knows"
	# Without bash, lists are words.
	mkdir few
	for program in sh cat ip env nft sysctl grep; do
		ln -s "$(command -v $program)" few/ 2>/dev/null
	done
	conf 198.51.100.2:51820 10.77.0.0/24 'Table =' 'MTU =' "PostUp = printf '%s|' \"\$INTERFACE\" \"\$ADDRESSES\" \"\$TABLE\" \"\$MTU\" >$PWD/known"
	cp bin/* few/
	check on a env PATH="$PWD/few" "$PWD/few/wg-quick" up etc/wg0.conf
	is "$(cat known)" "wg0|10.77.0.1/24 fd77::1/64|||" "what a hook of sh knows"
	check quick down etc/wg0.conf
}

lab_case hook_status 60 "the exit status is that of the hook that failed"
hook_status_body() {
	net
	status() {
		quick "$1" etc/wg0.conf
		is $? "$2" "the exit status of $1"
	}
	for hook in PreUp PostUp; do
		conf 198.51.100.2:51820 10.77.0.0/24 "$hook = exit 7" "PostDown = exit 9"
		state >state.before
		status up 7
		unchanged
	done
	conf 198.51.100.2:51820 10.77.0.0/24 'PreUp = kill -KILL $$'
	status up 137
	conf 198.51.100.2:51820 10.77.0.0/24
	status up 0
	conf 198.51.100.2:51820 10.77.0.0/24 'PreDown = exit 3' 'PostDown = exit 4'
	status down 3
	conf 198.51.100.2:51820 10.77.0.0/24 'PostDown = exit 4' 'PostDown = exit 5' "PostDown = touch $PWD/last"
	status down 4
	[ -e last ] || fail "a hook that failed kept the next one from running"
	status down 1
}

lab_case any_bytes 60 "what is no UTF-8, and a mask in an address"
any_bytes_body() {
	net
	conf 198.51.100.2:51820 10.77.0.0/24 "PostUp = true # $(printf '\351')" "PostUp = printf '%s' '$(printf '\377')%i' >$PWD/bytes" \
		'Address = 10.5.0.2/255.255.255.0' 'SaveConfig = true'
	check quick up etc/wg0.conf
	is "$(od -An -tx1 bytes | tr -d ' ')" ff776730 "what the hook wrote"
	is "$(ip -n a -o -4 address show dev wg0 | sed -n 's/.* inet \(10.5[^ ]*\).*/\1/p')" 10.5.0.2/24 "the address"
	check quick down etc/wg0.conf
	is "$(LC_ALL=C grep -c "$(printf 'true # \351')" etc/wg0.conf)" 1 "the hook in the saved file"
}

lab_case cycles 60 "a file that is saved at every cycle stays as it is"
cycles_body() {
	net
	conf 198.51.100.2:51820 10.9.0.0/16,10.77.0.0/24,fd77::2/128,10.8.0.0/16,192.168.7.0/24 'SaveConfig = true' 'ListenPort = 51821'
	grep '^AllowedIPs' etc/wg0.conf | sed 's/,/, /g' >wanted
	for cycle in 1 2 3; do
		check quick up etc/wg0.conf
		check quick down etc/wg0.conf
		grep '^AllowedIPs' etc/wg0.conf | diff wanted - || fail "another order after cycle $cycle"
		[ "$cycle" = 1 ] && cp etc/wg0.conf first
	done
	diff first etc/wg0.conf || fail "the file changes from cycle to cycle"
}

lab_case messages 60 "what is said of names, readers that leave, and disks that are full"
messages_body() {
	net
	refuse quick up a-tunnel-of-17-by
	mentions "\`a-tunnel-of-17-by' is no file, and no interface can have that name"
	conf 198.51.100.2:51820:51820 10.77.0.0/24
	state >state.before
	refuse quick up etc/wg0.conf
	mentions "Host of endpoint is neither a name nor an IP address: \`198.51.100.2:51820:51820'"
	refuse grep -q '^\[#\]' said
	conf 198.51.100.2:51820 10.77.0.0/24
	printf '\357\273\277' | cat - etc/wg0.conf >etc/bom.conf
	chmod 600 etc/bom.conf
	refuse quick up etc/bom.conf
	mentions "etc/bom.conf:1: Line unrecognized: \`\\u{feff}[Interface]'"
	rm etc/bom.conf
	unchanged
	# More than a pipe holds, and nobody who reads it.
	{ cat etc/wg0.conf && yes '# nothing' | head -n 20000; } >etc/wg7.conf
	chmod 600 etc/wg7.conf
	for command in 'strip wg7' 'up --dry-run wg0'; do
		# shellcheck disable=SC2086,SC2030 # two words; only for this
		{
			set -- ${command% *}
			on a "$PWD/bin/wg-quick" "$@" "etc/${command##* }.conf" 2>left
			echo $? >status
		} | head -c 0
		is "$(cat left)" "" "what is said of a reader that left"
		[ "$command" != 'strip wg7' ] || is "$(cat status)" 141 "the exit status when the reader left (SIGPIPE)"
	done
	rm etc/wg7.conf status
	# A folder that cannot be written.
	check quick up etc/wg0.conf
	mount --bind etc etc && mount -o remount,bind,ro etc || atf_skip "nothing can be mounted read-only here"
	refuse quick save etc/wg0.conf
	mentions "cannot write \`$PWD/etc/wg0.conf': Read-only file system"
	refuse grep -q 'os error' said
	umount etc
	check quick down etc/wg0.conf
}
