#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# setup.sh [build] [run] [lint] [miri] [test] [cross] [package] [bench] [fuzz]        (default: all but fuzz)
#
# Installs what the named jobs need and the machine lacks, and says so line by line; when nothing is
# lacking it says nothing and takes a fraction of a second. Debian packages are installed with apt-get,
# a Rust toolchain with rustup, and everything else goes below build/ in this tree.
#
#   build   C compiler, libclang, FreeBSD's headers (PyPI ziglang + libck-dev), the Rust toolchain
#   run     wg(8), ip(8), iperf3, ping, wireguard-go
#   lint    shellcheck, mandoc, ruff, typos
#   miri    a nightly toolchain with Miri
#   test    run + kyua, zsh, fish, tcsh, QEMU, boringtun-cli; only unpacked: Debian's cloud kernel, and the newest
#           wireguard-tools
#   cross   Rust's standard library for FreeBSD and for Linux with musl
#   package dpkg-dev, binutils
#   bench   run + boringtun-cli, gotatun
#   fuzz    C++ compiler, a nightly toolchain, cargo-fuzz (not among the default jobs)
#   vm      QEMU and makefs, for make vm-test (not among the default jobs)
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
. "$top/tools/env.sh"

# Versions that results depend on. The headers are FreeBSD 14's; the peers are what bench tables name.
ziglang=0.15.2
boringtun=0.7.1
gotatun=0.10.2
cargo_fuzz=0.13.2
ruff=0.17.6
typos=1.52.0

say() { printf '\033[1msetup:\033[0m %s\n' "$*" >&2; }
die() {
	printf '\033[1;31msetup:\033[0m %s\n' "$*" >&2
	exit 1
}

# apt package...: installs those that are missing.
apt_updated=
apt() {
	local missing=() root=()
	local package
	for package; do
		[[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] ||
			missing+=("$package")
	done
	((${#missing[@]})) || return 0
	if ((EUID)); then
		command -v sudo >/dev/null ||
			die "these Debian packages are missing, and only root can install them: ${missing[*]}"
		root=(sudo)
	fi
	say "Debian packages: ${missing[*]}"
	apt_update "${root[@]}"
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "${missing[@]}" >"$build/apt.log" 2>&1 || {
		tail -n 20 "$build/apt.log" >&2
		die "apt-get could not install: ${missing[*]}"
	}
}

apt_update() {
	[[ $apt_updated ]] || "$@" apt-get update -qq >&2 || die "apt-get update failed"
	apt_updated=yes
}

# pip wheel[==version] module...: into build/venv.
pip() {
	[[ -x $build/venv/bin/python ]] || {
		say "Python environment in build/venv"
		python3 -m venv "$build/venv" || die "python3 -m venv failed"
	}
	say "Python package $1 into build/venv"
	"$build/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$1" ||
		die "pip could not install $1"
}

# peer crate version program: another WireGuard implementation, built into build/peers.
peer() {
	[[ -x $build/peers/bin/$3 ]] && "$build/peers/bin/$3" --version 2>/dev/null | grep -qF "$2" && return
	say "$1 $2 from the Rust package registry into build/peers (compiles for some minutes)"
	(cd "$build" && cargo install --quiet --locked --force --root "$build/peers" \
		--target-dir "$build/peers/target" --version "$2" "$1") || die "cargo could not install $1"
}

toolchain() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "$top/rust-toolchain.toml"; }

setup_rust() {
	if ! command -v rustup >/dev/null && apt-cache policy rustup | grep -q '^ *Candidate: [0-9]'; then
		apt rustup
	fi
	if ! command -v rustup >/dev/null; then
		# Debian 12 has no rustup. This package fetches the official installer.
		pip puccinialin
		say "rustup into build/rust"
		(cd "$build" && venv/bin/python -m puccinialin --location "$build/rust" >/dev/null) ||
			die "rustup could not be installed; install it by hand and come back"
		. "$top/tools/env.sh"
	fi
	local channel have
	channel=$(toolchain)
	have=$(rustup component list --installed --toolchain "$channel" 2>/dev/null || true)
	local component missing=()
	for component in rustc cargo rust-std rustfmt clippy rust-src; do
		grep -q "^$component" <<<"$have" || missing+=("$component")
	done
	((${#missing[@]})) || return 0
	say "Rust $channel by rustup: ${missing[*]}"
	rustup --quiet toolchain install "$channel" --profile minimal --no-self-update \
		-c rustfmt -c clippy -c rust-src >&2 || die "rustup could not install Rust $channel"
}

setup_build() {
	apt gcc libc6-dev make ca-certificates python3 python3-venv libclang-dev libck-dev
	compgen -G "$build/venv/lib/python3*/site-packages/ziglang-$ziglang.dist-info" >/dev/null ||
		pip "ziglang==$ziglang"
	setup_rust
}

setup_run() { apt wireguard-tools wireguard-go iproute2 iperf3 iputils-ping util-linux procps; }

setup_lint() {
	apt shellcheck git mandoc python3 python3-venv
	local wheel
	for wheel in "ruff==$ruff" "typos==$typos"; do
		compgen -G "$build/venv/lib/python3*/site-packages/${wheel/==/-}.dist-info" >/dev/null || pip "$wheel"
	done
}

setup_vm() { apt qemu-system-x86 makefs; }

# A toolchain with Miri is the one thing that a machine may be unable to get (only nightlies have it, and
# not every mirror carries those). `make miri` then says that it was skipped, loudly.
setup_miri() {
	local have
	have=$(rustup component list --installed --toolchain nightly 2>/dev/null || true)
	grep -q '^miri' <<<"$have" && grep -q '^rust-src' <<<"$have" && return
	say "Rust nightly with Miri by rustup"
	rustup --quiet toolchain install nightly --profile minimal --no-self-update -c miri -c rust-src >&2 ||
		say "no nightly toolchain with Miri can be had here"
}

# The other end for tests against the Linux kernel's own WireGuard. Nothing of it is installed: the
# packages are only unpacked, and the kernel runs in an emulator.
setup_kernel_peer() {
	[[ $(dpkg --print-architecture) == amd64 ]] || {
		say "the Linux kernel peer is only set up for amd64"
		return 0
	}
	apt qemu-system-x86 cpio kmod
	local out=$build/kernel-peer kernel
	[[ -e $out/ready ]] && return
	kernel=$(kernel_package)
	if [[ ! $kernel ]]; then
		if ((EUID)); then apt_update sudo; else apt_update; fi
		kernel=$(kernel_package)
	fi
	[[ $kernel ]] || die "apt knows no linux-image-cloud-amd64"
	say "Debian's $kernel and busybox-static, unpacked into build/kernel-peer"
	rm -rf "$out"
	mkdir -p "$out/unpacked"
	(
		set -e
		cd "$out"
		apt-get download -qq "$kernel" busybox-static 2>/dev/null
		for package in *.deb; do dpkg-deb -x "$package" unpacked; done
		rm -f ./*.deb
		"$top/tests/sys/net/linux_kernel/build.sh" "$out" && touch ready
	) || die "could not download or unpack $kernel and busybox-static"
}
kernel_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1
}

# The newest wireguard-tools beside the machine's own: what Debian's sid has, with the libc that it wants, unpacked into
# build/stock-sid. The lists are read into a folder of their own, from the mirror that the machine uses anyway.
setup_stock_sid() {
	local out=$build/stock-sid mirror
	[[ -e $out/ready ]] && return
	rm -rf "$out"
	mkdir -p "$out"/{bin,lib,apt/state/lists/partial,apt/cache/archives/partial,unpacked}
	mirror=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		sed -n 's/^Debian main //p' | head -n 1)
	say "wireguard-tools and libc6 of Debian's sid, unpacked into build/stock-sid"
	# On its own line: within a condition the shell would go on after an error.
	set +e
	(
		set -e
		cd "$out/apt"
		: >state/status
		printf '%s\n' "Types: deb" "URIs: ${mirror:?}" "Suites: sid" "Components: main" "Targets: Packages" \
			"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" >sid.sources
		cat >apt.conf <<-CONF
			Dir::State "$PWD/state";
			Dir::State::status "$PWD/state/status";
			Dir::Cache "$PWD/cache";
			Dir::Etc::sourcelist "$PWD/sid.sources";
			Dir::Etc::sourceparts "-";
			Acquire::Languages "none";
		CONF
		export APT_CONFIG=$PWD/apt.conf
		apt-get update -qq
		apt-get download -qq wireguard-tools libc6
		for package in *.deb; do dpkg-deb -x "$package" ../unpacked; done
		cd "$out"
		cp -L unpacked/usr/bin/wg lib/wg
		find unpacked \( -name 'ld-linux*.so*' -o -name 'libc.so.6' \) -exec cp -L {} lib/ \;
		cp unpacked/usr/bin/wg-quick bin/
		cat >bin/wg <<-'WRAPPER'
			#!/bin/sh
			# The program with its own libc, by the loader of that libc.
			lib=${0%/*}/../lib
			exec "$lib"/ld-linux*.so* --argv0 wg --library-path "$lib" "$lib/wg" "$@"
		WRAPPER
		chmod +x bin/wg
		bin/wg --version >ready.new
		mv ready.new ready
		rm -rf apt unpacked
	) >"$build/stock-sid.log" 2>&1
	set -e
	[[ -e $out/ready ]] || {
		tail -n 5 "$build/stock-sid.log" >&2
		say "no newest wireguard-tools can be had here; the comparisons with them are skipped"
	}
}

setup_test() {
	setup_run
	apt kyua atf-sh nftables zsh fish tcsh
	setup_kernel_peer
	setup_stock_sid
	peer boringtun-cli "$boringtun" boringtun-cli
}

setup_cross() {
	local target have
	have=$(rustup target list --installed --toolchain "$(toolchain)" 2>/dev/null || true)
	for target in x86_64-unknown-freebsd "$(uname -m)-unknown-linux-musl"; do
		grep -qx "$target" <<<"$have" && continue
		say "Rust's standard library for $target by rustup"
		rustup --quiet target add --toolchain "$(toolchain)" "$target" >&2 || die "rustup could not install $target"
	done
}

setup_package() { apt dpkg-dev binutils git; }

setup_bench() {
	setup_run
	peer boringtun-cli "$boringtun" boringtun-cli
	peer gotatun-cli "$gotatun" gotatun
}

# libFuzzer comes with the Rust package, as source. Sanitizers are a nightly's; a machine that cannot get one builds the
# targets without.
setup_fuzz() {
	apt g++
	if ! rustup run nightly rustc --version >/dev/null 2>&1; then
		say "Rust nightly by rustup"
		rustup --quiet toolchain install nightly --profile minimal --no-self-update >&2 ||
			say "no nightly toolchain can be had here"
	fi
	peer cargo-fuzz "$cargo_fuzz" cargo-fuzz
}

command -v apt-get >/dev/null || die "this is made for Debian: apt-get is not here"
mkdir -p "$build"
(($#)) || set -- build run lint miri test cross package bench
for job; do
	case $job in
	build | run | lint | miri | test | cross | package | bench | fuzz | vm) "setup_$job" ;;
	*) die "unknown job $job" ;;
	esac
done
