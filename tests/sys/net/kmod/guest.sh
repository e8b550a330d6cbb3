#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# guest.sh [program...]: runs the tests in a FreeBSD that was booted for nothing else, as the first process's first action
# or by hand from a console. tools/vm-test.py reads what it prints:
#
#   TEST program:case result [seconds]
#   LEAK text, REPORT text        what is wrong beside the tests
#   TOTAL passed P, failed F, skipped S
#   VM-TEST-EXIT status           the last line
#
# environment: TIMEOUT  seconds that a test case may take (default: 300)
dir=$(cd "$(dirname "$0")" && pwd)
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/libexec:/usr/local/sbin:/usr/local/bin
export PATH HOME=/root
passed=0 failed=0 skipped=0

finish() {
	echo "VM-TEST-EXIT $1"
	sync
	exit "$1"
}

mount -u -o rw / 2>/dev/null
mount -t tmpfs tmpfs /tmp 2>/dev/null
mkdir -p /tmp/vm-test
cd /tmp/vm-test || finish 3
ifconfig lo0 inet 127.0.0.1/8 up
[ -e /boot/modules/if_wg.ko ] && kldxref /boot/modules 2>/dev/null
atf_sh=$(command -v atf-sh) || {
	echo "REPORT no atf-sh: this FreeBSD was built without its test tools"
	finish 3
}
# shellcheck disable=SC2046 # words
[ $# -gt 0 ] || set -- $(sed -n 's/^atf_test_program{name="\([^"]*\)".*/\1/p' "$dir/Kyuafile")

# mbufs: those in use, which is what a driver of packets would leak. vmstat -z counts cached packets among them.
mbufs() { netstat -m | awk -F / 'NR == 1 { print $1 + 0 }'; }

result() {
	echo "TEST $1 $2 [$3s]"
	case $2 in
	passed* | expected_*) passed=$((passed + 1)) ;;
	skipped*) skipped=$((skipped + 1)) ;;
	*)
		failed=$((failed + 1))
		sed 's/^/    /' out err 2>/dev/null | tail -n 60
		;;
	esac
}

# one program case: what Kyua would do with it.
one() {
	rm -rf work
	mkdir work
	cd work || finish 3
	begin=$(date +%s)
	timeout -k 10 "${TIMEOUT:-300}" "$atf_sh" "$dir/$1" -s "$dir" -r ../result "$2:body" >../out 2>../err </dev/null
	status=$?
	text=$(cat ../result 2>/dev/null)
	[ "$text" ] || text="broken: exit status $status without a result"
	timeout -k 10 60 "$atf_sh" "$dir/$1" -s "$dir" -r ../cleaned "$2:cleanup" >/dev/null 2>&1 </dev/null ||
		text="failed: cleanup after: $text"
	cd .. || finish 3
	result "$1:$2" "$text" $(($(date +%s) - begin))
	rm -f result cleaned
}

with_kyua() {
	for program; do
		# shellcheck disable=SC2094 # one after the other
		kyua test -k "$dir/Kyuafile" -r results.db "$program"
		# shellcheck disable=SC2094
		kyua report --verbose --results-filter=failed,broken --results-file=results.db >>report
	done >lines 2>&1
	while read -r name _ text; do
		case $name in
		*.sh:*) result "$name" "${text%  *}" 0 ;;
		esac
	done <lines
	[ $failed = 0 ] || sed 's/^/    /' report
}

before=$(mbufs)
if command -v kyua >/dev/null; then
	with_kyua "$@"
else
	for program; do
		for case in $("$atf_sh" "$dir/$program" -s "$dir" -l 2>/dev/null | sed -n 's/^ident: //p'); do
			one "$program" "$case"
		done
	done
fi

kldstat -qn if_wg && ! kldunload if_wg && echo "LEAK the module cannot be unloaded" && failed=$((failed + 1))
leaked=$(vmstat -m | awk '$1 == "wg"')
[ "$leaked" ] && echo "LEAK memory of the unloaded module: $leaked" && failed=$((failed + 1))
dmesg | grep 'memory type wg leaked' | sed 's/^/LEAK /'
# What other parts of the system hold is a few dozen; every test has sent thousands.
sleep 3
after=$(mbufs)
[ $((after - before)) -gt 500 ] && echo "LEAK mbufs in use: $before before, $after after" && failed=$((failed + 1))
bad=$(dmesg | grep -cE '^lock order reversal|^acquiring duplicate lock|with the following non-sleepable|^Sleeping (thread|on)|^uma_zalloc_debug|^Memory modified after free|memory type wg leaked')
[ "$bad" -gt 0 ] && echo "REPORT $bad lines of WITNESS or INVARIANTS" && failed=$((failed + bad))
echo "TOTAL passed $passed, failed $failed, skipped $skipped"
[ $failed = 0 ] && finish 0
finish 1
