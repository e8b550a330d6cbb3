#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# Our wg(8): beside the stock one of this system and the newest, and instead of it. conform.py and tool.py say what is compared; the cases of wg_config.sh
# run here once more, with ours.

. "$(atf_get_srcdir)/wg_config.sh"

STOCK_WG=$(command -v wg)
NEW_WG=${NEW_WG:-$top/build/stock-sid/bin/wg}
OUR_WG=${OUR_WG:-$CARGO_TARGET_DIR/release/wg}
# What `wg` is from here on.
wg() { "$OUR_WG" "$@"; }

[ -x "$OUR_WG" ] || case " $* " in
*" -l "*) ;;
*) atf_fail "no program under test at $OUR_WG" ;;
esac

# compare program batch [stock]: runs a batch of comparisons.
compare() {
	"$lab_dir/$1" "$OUR_WG" "${3:-$STOCK_WG}" "$2" >compare.out 2>&1 || {
		cut -c 1-2000 compare.out
		fail "ours and stock wg(8) differ"
	}
	cat compare.out
}

for lab_batch in grammar hostile arguments show times replies usage keys resolver differences; do
	lab_case "conform_$lab_batch" 300 "ours and stock wg(8): $lab_batch"
	eval "conform_${lab_batch}_body() { compare conform.py $lab_batch; }"
	lab_case "conform_newest_$lab_batch" 300 "ours and the newest stock wg(8): $lab_batch"
	eval "conform_newest_${lab_batch}_body() { compare_newest $lab_batch; }"
done
compare_newest() {
	[ -e "${NEW_WG%/bin/wg}/ready" ] || atf_skip "the newest stock wg(8) could not be had (make setup)"
	compare conform.py "$1" "$NEW_WG"
}

lab_case conform_wgd 300 "ours and stock wg(8) bring a real interface into the same state, and see the same in it"
conform_wgd_body() {
	hosts a
	tunnel a wg0
	compare conform.py wgd
}
lab_case conform_newest_wgd 300 "the same with the newest stock wg(8)"
conform_newest_wgd_body() {
	hosts a
	tunnel a wg0
	compare_newest wgd
}

for lab_batch in show_json watch terminal check secrets; do
	lab_case "$lab_batch" 120 "what only ours has: $lab_batch"
	eval "${lab_batch}_body() { compare tool.py $lab_batch; }"
done

lab_case many 120 "thousands of peers and prefixes, by ours and by stock wg(8)"
many_body() {
	hosts a
	tunnel a wg0
	for lab_what in "peers 5000" "prefixes 20000"; do
		# shellcheck disable=SC2086 # two words
		"$lab_dir/gen.py" $lab_what >many.conf
		for lab_wg in "$STOCK_WG" "$OUR_WG"; do
			check "$STOCK_WG" setconf wg0 /dev/null
			check "$lab_wg" setconf wg0 many.conf
			"$STOCK_WG" show wg0 dump >stock.dump
			"$OUR_WG" show wg0 dump >ours.dump
			cmp stock.dump ours.dump || fail "the dumps differ"
			sort ours.dump | sed 1d >"dump.$(basename "$(dirname "$lab_wg")")"
		done
		"$OUR_WG" showconf wg0 >shown.conf
		check "$OUR_WG" setconf wg0 shown.conf
		check "$OUR_WG" syncconf wg0 shown.conf
	done
	[ "$(wc -l <ours.dump)" -eq 3 ] || fail "lines of the dump"
}
