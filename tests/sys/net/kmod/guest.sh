#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# guest.sh [program...]: runs the tests in a FreeBSD that was booted for nothing else, as the first process's first action
# or by hand from a console. tools/vm-test.py reads what it prints:
#
#   VM-TEST-BEGIN                 the first line
#   TEST program:case result [seconds]
#   LEAK text, REPORT text        what is wrong beside the tests
#   TOTAL passed P, failed F, skipped S
#   VM-TEST-EXIT status           the last line
#
# Without arguments it runs what is in Kyuafile but for the programs that need more than one machine.
#
# environment: TIMEOUT   seconds that a test case may take (default: 300)
#              WG_OTHER  address of another machine on the network of vtnet0, which runs right.sh (default: there is none)
dir=$(cd "$(dirname "$0")" && pwd)
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/libexec:/usr/local/sbin:/usr/local/bin
export PATH HOME=/root
passed=0 failed=0 skipped=0
echo VM-TEST-BEGIN

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
if [ "$WG_OTHER" ]; then
	ifconfig vtnet0 inet "${WG_OTHER%.*}.1/24" up
	ifconfig vtnet0 inet6 2001:db8::1/64 no_dad
fi
# The base system may have a driver of this name in /boot/kernel.
sysctl -q kern.module_path='/boot/modules;/boot/kernel' >/dev/null
kldxref /boot/modules 2>/dev/null
atf_sh=$(command -v atf-sh) || {
	echo "REPORT no atf-sh: this FreeBSD was built without its test tools"
	finish 3
}
# shellcheck disable=SC2046 # words
[ $# -gt 0 ] || set -- $(sed -n '/-- needs/d; s/^atf_test_program{name="\([^"]*\)".*/\1/p' "$dir/Kyuafile")
for program; do
	[ -e "$dir/$program" ] && continue
	echo "REPORT there is no program $program"
	finish 3
done
# A module that came with the kernel is of no interest, if it is not ours.
if ! kldstat -qn if_wg; then
	kldload if_wg || {
		echo "REPORT the module cannot be loaded"
		dmesg | tail -n 5
		finish 3
	}
fi
if ! sysctl -nq net.wg.crypto >/dev/null; then
	echo "REPORT another driver was loaded: $(kldstat -vn if_wg | grep -o '/[^ )]*if_wg.ko')"
	finish 3
fi

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

# with_kyua program...: lines of kyua-test(1) as they come, "program:case  ->  result  [seconds]".
with_kyua() {
	mkfifo lines
	for program; do
		rm -f results.db
		kyua test -k "$dir/Kyuafile" -r results.db "$program" >lines 2>&1 &
		while read -r name arrow text; do
			case $name:$arrow in
			*.sh:*:'->') ;;
			*) continue ;;
			esac
			seconds=${text##*\[}
			rm -f out err
			result "$name" "${text%  \[*}" "${seconds%s]}"
		done <lines
		# shellcheck disable=SC2094 # one after the other
		wait $! || kyua report --verbose --results-filter=failed,broken --results-file=results.db | sed 's/^/    /'
	done
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
if [ $((passed + failed + skipped)) = 0 ]; then
	echo "REPORT no test was run"
	failed=1
fi
bad=$(dmesg | grep -cE '^lock order reversal|^acquiring duplicate lock|with the following non-sleepable|^Sleeping (thread|on)|^uma_zalloc_debug|^Memory modified after free|memory type wg leaked')
[ "$bad" -gt 0 ] && echo "REPORT $bad lines of WITNESS or INVARIANTS" && failed=$((failed + bad))
echo "TOTAL passed $passed, failed $failed, skipped $skipped"
[ $failed = 0 ] && finish 0
finish 1
