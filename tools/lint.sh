#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# lint.sh [check ...]: everything that can be said about the source without running it. All checks run
# even when one fails; the last line counts them. Without arguments all of them, in this order.
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tools/env.sh"
cd "$top" || exit

# The files that are or will be in the repository.
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [[ ! -e $f ]] || echo "$f"; done; }
# none message command...: fails with what the command prints, if it prints anything.
none() {
	local found
	found=$("${@:2}")
	[[ ! $found ]] && return
	printf '%s\n%s\n' "$1" "$found"
	return 1
}

check_rustfmt() { cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check; }
check_clippy() { cargo clippy --quiet --workspace --all-targets --features "$HOST_FEATURES" -- -D warnings; }
check_rustdoc() {
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
		cargo doc --quiet --workspace --no-deps --document-private-items --features "$HOST_FEATURES"
}
check_shellcheck() {
	files | while read -r f; do
		[[ $f != *.sh && $f != *.bash && $(head -c 64 "$f" | head -n 1) != '#!'*sh ]] || echo "$f"
	done | xargs -r shellcheck -x -P SCRIPTDIR -S warning
}
check_ruff() { files '*.py' | xargs -r build/venv/bin/ruff check --quiet --output-format concise; }
check_typos() { build/venv/bin/typos --format brief; }
# The protocol, the driver and the codec are safe code without std; only kpi and hostkern touch the
# kernel's or the system's C interface.
check_unsafe() {
	local crate attribute ok=0
	for crate in nv wg if_wg; do
		for attribute in 'forbid(unsafe_code)' no_std; do
			grep -qxF "#![$attribute]" "sys/dev/wg/$crate/src/lib.rs" && continue
			echo "sys/dev/wg/$crate/src/lib.rs has no #![$attribute]"
			ok=1
		done
	done
	none 'unsafe in crates that are to have none:' unsafe_lines || ok=1
	return $ok
}
# shellcheck disable=SC2016 # awk's, not the shell's
unsafe_lines() {
	files 'sys/dev/*/src/*.rs' | xargs -r awk '
		/\<unsafe\>/ && !/forbid\(unsafe_code\)/ && !/^ *\/\// { print FILENAME ":" FNR ": " $0 }'
}

check_leftovers() { none 'unfinished work:' leftovers; }
leftovers() {
	files '*.rs' '*.sh' '*.py' '*.c' '*.h' | grep -vx tools/lint.sh |
		xargs -r grep -nE '(todo|unimplemented)!\(\)|#\[ignore|\b(TODO|FIXME|XXX)\b'
}

# Nothing may depend on where this checkout lies or on one site's mirror of a package registry.
check_places() { none 'places of one machine or one registry:' places; }
places() {
	files | grep -vxE '(fuzz/)?Cargo\.lock|tools/lint\.sh' |
		xargs -r grep -InE '(^|[^[:alnum:]_.])/(home|root|work|Users)/|\b(rust-lang|pypi|crates|debian)\.(org|io)\b'
}

check_manuals() { files 'share/man/*' 'contrib/wireguard-tools/man/*' | xargs -r mandoc -T lint -W warning; }
# Every message and sysctl of the driver is in wg(4), and nothing else.
check_messages() { python3 tools/check-manual.py; }

check_licence() { none 'no SPDX-License-Identifier in the first lines of:' unlicensed; }
unlicensed() {
	files '*.rs' '*.sh' '*.py' '*.c' '*.h' '*Cargo.toml' Makefile | while read -r f; do
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || echo "$f"
	done
}

check_length() { none 'more than one concept in a file (over 700 lines)?' long_files; }
long_files() {
	files '*.rs' | grep -vE '(^|/)tests?(/|\.rs$|_)' | while read -r f; do
		n=$(wc -l <"$f")
		((n <= 700)) || echo "$n $f"
	done
}

(($#)) || set -- rustfmt clippy rustdoc shellcheck ruff typos unsafe leftovers places manuals messages licence length
passed=0 failed=0
for check; do
	if output=$("check_$check" 2>&1); then
		echo "$check: ok"
		passed=$((passed + 1))
	else
		printf '%s\n%s: FAILED\n' "$output" "$check"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
((failed == 0))
