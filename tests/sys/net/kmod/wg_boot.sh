#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# The module as the boot loader brings it, with if_wg_load="YES" and net.wg.crypto="portable" in loader.conf(5).

. "$(atf_get_srcdir)/kmod.subr"

kmod_case preloaded 120 "the module is there from the start, obeys its tunable, and works"
preloaded_body() {
	# Whoever calls kldload(8) first has spoiled this test, so it does not call load.
	loaded || atf_skip "the boot loader has not loaded if_wg"
	is "$(kenv -q if_wg_load)" YES "the boot loader's variable"
	has "$(kldstat -v)" if_wg.ko
	is "$(kenv -q net.wg.crypto)" portable "the tunable"
	is "$(sysctl -n net.wg.crypto)" portable "the backend"
	pair 4
	all_ways
	clean_up
	loaded && fail "it cannot be unloaded"
	is "$(vmstat -m | awk '$1 == "wg"')" "" "memory of type wg"
	# And once more, as it is usually loaded.
	pair 6
	all_ways
}
