#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Our nvlist codec against FreeBSD's own.

. "$(atf_get_srcdir)/kmod.subr"

kmod_case both_ways 240 "what one codec packs the other unpacks, and both refuse the same damaged messages"
both_ways_body() {
	[ -x "$dir/nvdiff" ] || atf_skip "nvdiff was not built"
	for seed in 1 2; do
		check "$dir/nvdiff" $seed
	done
}
