#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# build.sh: what `make install` installs, compiled for this system. On Debian tools/setup.sh gets what is missing first; on
# FreeBSD that is for ports (pkg install rust), and the kernel's source is in /usr/src.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
case $(uname) in
FreeBSD) ;;
*) "$top/tools/setup.sh" build ;;
esac
. "$top/tools/env.sh"
cd "$top"
command -v cargo >/dev/null || {
	echo "build: there is no cargo; get one with pkg install rust, or with rustup" >&2
	exit 1
}
case $(uname) in
FreeBSD)
	cargo build --release -p wg-cli -p wg-quick
	make -C sys/modules/wg
	;;
*) cargo build --release -p wgd -p wg-cli -p wg-quick ;;
esac
