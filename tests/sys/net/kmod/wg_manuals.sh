#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# The examples of the manual pages, as the pages have them: tools/vm-test.py makes scripts of them.

. "$(atf_get_srcdir)/kmod.subr"

# examples program: does what its page says, in a host of its own. The folder is the test's; a resolvconf that only listens
# stands for the system's.
examples() {
	[ -x "$dir/$1" ] || atf_skip "our $1 was not built"
	hosts
	mkdir bin
	printf '#!/bin/sh\ncat >/dev/null\n' >bin/resolvconf
	chmod 755 bin/resolvconf
	# shellcheck disable=SC2016 # the inner shell's
	on a sh -c 'cd "$1" && PATH=$2:$1/bin:$PATH exec sh "$2/examples/$3.sh"' sh "$PWD" "$dir" "$1" >examples.out 2>&1 || {
		cat examples.out
		fail "an example of $1(8)"
	}
	grep -q "^$1.8:" examples.out || fail "nothing was run"
}

kmod_case manual_wg 120 "wg(8)"
manual_wg_body() { examples wg; }

kmod_case manual_wg_quick 120 "wg-quick(8)"
manual_wg_quick_body() { examples wg-quick; }

# It loads the module, which no jail can, so it is done by the machine itself.
kmod_case manual_driver 120 "wg(4)"
manual_driver_body() {
	load
	echo cell >>jails
	sh "$dir/examples/driver.sh" >examples.out 2>&1 || {
		cat examples.out
		fail "an example of wg(4)"
	}
	cat examples.out
	has "$(cat examples.out)" wg.4:
	ifconfig lo0 inet 192.0.2.1 -alias
}
