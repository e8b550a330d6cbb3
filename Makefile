# SPDX-License-Identifier: BSD-2-Clause
#
# Every command a person needs. Each target first installs what it lacks (tools/setup.sh), and says so.
# Only what GNU make and FreeBSD's make both understand is used here.

HELP = @sed -n 's/^\# \([a-z-]*\): /  make \1\t/p' Makefile sys/modules/wg/kmod.mk | expand -t 22

help:
	$(HELP)

# setup: install everything that the other targets need
setup:
	@tools/setup.sh

# build: the daemon wgd, wg and wg-quick, in target/release (on FreeBSD the tools and the module)
build:
	@tools/build.sh

# install: what is built, into DESTDIR and PREFIX (/usr/local); compiles nothing
install:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" tools/install.sh install

# uninstall: what install has put there; configuration stays
uninstall:
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" tools/install.sh uninstall

# tools-freebsd: wg and wg-quick for FreeBSD/amd64, in build/tools/freebsd-amd64
tools-freebsd:
	@tools/setup.sh build cross
	@tools/in-env tools/cross.py freebsd

# tools-static: wg and wg-quick for any Linux, without libraries, in build/tools/linux-static
tools-static:
	@tools/setup.sh build cross
	@tools/in-env tools/cross.py static

# package: packages for FreeBSD (pkg) and Debian (deb), in build/packages
package: build kmod-amd64 tools-freebsd
	@tools/setup.sh package
	@tools/in-env tools/package.py freebsd
	@tools/in-env tools/package.py debian

# run: two hosts, a tunnel, real traffic; PEER=wireguard-go puts another implementation on the right
run: build
	@tools/setup.sh run
	@PEER=$(PEER) tools/run-demo.sh

# test: everything below in its order, with times; the last line counts
test:
	@tools/setup.sh build run lint test miri cross package
	@tools/in-env tools/test.py

# lint: formatting, clippy, rustdoc, shellcheck, rules of the house
lint:
	@tools/setup.sh build lint
	@tools/in-env tools/test.py --verbose lint

# unit: vectors, models, handshakes: every crate's own tests
unit:
	@tools/setup.sh build
	@tools/in-env tools/test.py --verbose unit

# sim: scenarios in virtual time on a virtual network
sim:
	@tools/setup.sh build
	@tools/in-env tools/test.py --verbose sim

# loom: every interleaving of the lock-free parts
loom:
	@tools/setup.sh build
	@tools/in-env tools/test.py --verbose loom

# net: wgd in network namespaces, against wireguard-go, boringtun and the Linux kernel
net:
	@tools/setup.sh build cross test
	@tools/in-env tools/test.py --verbose net

# miri: undefined behaviour in wg, nv and what of kpi it can run
miri:
	@tools/setup.sh build miri
	@tools/in-env tools/test.py --verbose miri

# pkg: installation, packages, manuals with their examples, completions
pkg:
	@tools/setup.sh build cross package test
	@tools/in-env tools/test.py --verbose pkg

# fuzz: every parser for a minute; FUZZ_SECONDS=n for another time, FUZZ=target for one of them
fuzz:
	@tools/setup.sh build fuzz
	@tools/in-env tools/fuzz.py $(FUZZ)

# bench: speed and memory beside wireguard-go, boringtun and gotatun, in one run
bench: build
	@tools/setup.sh bench
	@tools/in-env tools/bench.py $(BENCH)

# clean: remove target and build; what setup installed elsewhere stays
clean:
	rm -rf target build

include sys/modules/wg/kmod.mk

.PHONY: help setup build install uninstall tools-freebsd tools-static package pkg
.PHONY: run test lint unit sim loom net miri fuzz bench clean
