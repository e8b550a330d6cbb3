#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# install.sh install | uninstall | list    what `make install` and `make uninstall` call; nothing is compiled here
#
# Puts what was built into the system, or says what is missing and does nothing. `list` prints what would be installed, a
# line each: mode, kind (file, gone after uninstall; dir, kept if it is not empty), target, source. The packages are made of
# it too (tools/package.py), so there is no other list.
#
# environment: DESTDIR  folder that stands for the root of the system (empty)
#              PREFIX   below which most of it goes (/usr/local)
#              SYSTEM   linux or freebsd (this one)
#              BUILT    folder with the programs (target/release; for another FreeBSD build/tools/freebsd-amd64)
#              KMOD     the kernel module, for FreeBSD
#              UNITDIR, ZSHDIR  where Linux distributions have systemd's units and zsh's functions, if not below PREFIX
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tools/env.sh"
tools=contrib/wireguard-tools

die() {
	printf 'install: %s\n' "$*" >&2
	exit 1
}

here=$(uname | tr '[:upper:]' '[:lower:]')
case ${SYSTEM:=$here} in
linux | freebsd) ;;
*) die "there is no list of files for $SYSTEM, only for linux and freebsd" ;;
esac
umask 022
PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR-}
BUILT=${BUILT:-$CARGO_TARGET_DIR/release}
UNITDIR=${UNITDIR:-$PREFIX/lib/systemd/system}
ZSHDIR=${ZSHDIR:-$PREFIX/share/zsh/site-functions}
case $PREFIX in
*[[:space:]]*) die "PREFIX=$PREFIX has a blank in it, which units of systemd cannot have" ;;
/*) ;;
*) die "PREFIX=$PREFIX is not an absolute path" ;;
esac
DESTDIR=${DESTDIR%/}

# kmod: the module, from where the two ways to build it leave it.
kmod() {
	for file in "${KMOD-}" "$top/build/kmod/amd64/if_wg.ko" "$top/sys/modules/wg/if_wg.ko" \
		"/usr/obj$top/sys/modules/wg/if_wg.ko" "/usr/obj$top/$(uname -m).$(uname -m)/sys/modules/wg/if_wg.ko"; do
		if [ "$file" ] && [ -e "$file" ]; then
			echo "$file"
			return
		fi
	done
	echo "$top/build/kmod/amd64/if_wg.ko"
}

# The list. A source that ends in .in has @PREFIX@ in it.
list() {
	share=$PREFIX/share
	echo "0755 file $PREFIX/bin/wg $BUILT/wg"
	echo "0755 file $PREFIX/bin/wg-quick $BUILT/wg-quick"
	programs='wg wg-quick'
	case $SYSTEM in
	linux)
		programs="$programs wgd"
		echo "0755 file $PREFIX/sbin/wgd $BUILT/wgd"
		echo "0700 dir /etc/wireguard -"
		for unit in wg-quick.target wg-quick@.service.in wgd@.service.in; do
			echo "0644 file $UNITDIR/${unit%.in} $top/$tools/systemd/$unit"
		done
		;;
	freebsd)
		echo "0555 file /boot/modules/if_wg.ko $(kmod)"
		echo "0644 file $share/man/man4/wg.4 $top/share/man/man4/wg.4"
		echo "0555 file $PREFIX/etc/rc.d/wireguard $top/$tools/rc.d/wireguard.in"
		echo "0700 dir $PREFIX/etc/wireguard -"
		echo "0644 file $share/examples/wireguard-tools/complete.tcsh $top/$tools/completions/complete.tcsh"
		;;
	esac
	for program in $programs; do
		echo "0644 file $share/man/man8/$program.8 $top/$tools/man/$program.8"
		echo "0644 file $share/bash-completion/completions/$program $top/$tools/completions/$program.bash"
		echo "0644 file $ZSHDIR/_$program $top/$tools/completions/_$program"
		echo "0644 file $share/fish/vendor_completions.d/$program.fish $top/$tools/completions/$program.fish"
	done
}

# writable FOLDER: whether it, or the nearest folder above it that exists, can be written to.
writable() {
	folder=$1
	until [ -e "$folder" ]; do folder=$(dirname "$folder"); done
	[ -d "$folder" ] && [ -w "$folder" ] && return
	die "cannot write to $folder, for $1: be root (sudo make $job), or say DESTDIR= or PREFIX="
}

# Everything that can go wrong is found before anything is changed.
check() {
	list | while read -r _ kind target source; do
		if [ "$kind" = file ]; then
			[ -e "$source" ] || die "$(missing "$source")"
			[ ! -d "$DESTDIR$target" ] || die "$DESTDIR$target is a folder"
		fi
		writable "$DESTDIR$(dirname "$target")"
	done
}
missing() {
	case $1 in
	"$CARGO_TARGET_DIR"/release/*)
		echo "$1 is not built: run 'make build' first, as an ordinary user. (Where CARGO_TARGET_DIR is set," \
			"give it to sudo too: sudo make install CARGO_TARGET_DIR=...)"
		;;
	*.ko) echo "the module is not built (no $1): run 'make kmod' first, or make in sys/modules/wg on FreeBSD" ;;
	"$top"/build/tools/*) echo "$1 is not built: run 'make tools-freebsd' first" ;;
	*) echo "$1 is missing" ;;
	esac
}

# put MODE TARGET SOURCE: in place at once, so that a program that runs keeps its old file.
put() {
	mkdir -p "$(dirname "$2")"
	case $3 in
	*.in) sed "s|@PREFIX@|$PREFIX|g" "$3" >"$2.new" ;;
	*) cp "$3" "$2.new" ;;
	esac
	case $3 in
	# Without strip(1) it is only larger. That of another system would take the brand away.
	"$BUILT"/*) [ "$SYSTEM" != "$here" ] || strip "$2.new" 2>/dev/null || : ;;
	esac
	chmod "$1" "$2.new"
	mv -f "$2.new" "$2"
	echo "  $2"
}

install() {
	check
	list | while read -r mode kind target source; do
		if [ "$kind" = file ]; then
			put "$mode" "$DESTDIR$target" "$source"
		elif [ ! -d "$DESTDIR$target" ]; then
			mkdir -p "$DESTDIR$target"
			chmod "$mode" "$DESTDIR$target"
			echo "  $DESTDIR$target/"
		fi
	done
	refresh
}

uninstall() {
	list | while read -r _ kind target _; do
		[ "$kind" = dir ] || [ -e "$DESTDIR$target" ] || continue
		writable "$DESTDIR$(dirname "$target")"
	done
	list | while read -r _ kind target _; do
		if [ "$kind" = dir ]; then
			# Configuration is the administrator's.
			rmdir "$DESTDIR$target" 2>/dev/null || :
		elif [ -e "$DESTDIR$target" ]; then
			rm -f "$DESTDIR$target"
			echo "  $DESTDIR$target"
		fi
	done
	rmdir "$DESTDIR$PREFIX/share/examples/wireguard-tools" 2>/dev/null || :
	refresh
}

# What the system keeps about these files; not about those of another root.
refresh() {
	[ ! "$DESTDIR" ] || return 0
	case $SYSTEM in
	linux) [ ! -d /run/systemd/system ] || systemctl daemon-reload || : ;;
	freebsd) kldxref /boot/modules || : ;;
	esac
}

job=${1-}
case $job in
install | uninstall | list) "$job" ;;
*) die 'usage: install.sh install | uninstall | list' ;;
esac
