# SPDX-License-Identifier: BSD-2-Clause
#
# Every command a person needs. Each target first installs what it lacks (tools/setup.sh), and says so.
# Only what GNU make and FreeBSD's make both understand is used here.

HELP = @sed -n 's/^\# \([a-z-]*\): /  make \1\t/p' Makefile sys/modules/wg/kmod.mk | expand -t 16

help:
	$(HELP)

# setup: install everything that the other targets need
setup:
	@tools/setup.sh

# build: the daemon wgd, in target/release
build:
	@tools/setup.sh build
	@tools/in-env cargo build --release -p wgd

# run: two hosts, a tunnel, real traffic; PEER=wireguard-go puts another implementation on the right
run: build
	@tools/setup.sh run
	@PEER=$(PEER) tools/run-demo.sh

# test: everything below in its order, with times; the last line counts
test:
	@tools/setup.sh build run lint test miri
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
	@tools/setup.sh build test
	@tools/in-env tools/test.py --verbose net

# miri: undefined behaviour in wg, nv and what of kpi it can run
miri:
	@tools/setup.sh build miri
	@tools/in-env tools/test.py --verbose miri

# bench: speed and memory beside wireguard-go, boringtun and gotatun, in one run
bench: build
	@tools/setup.sh bench
	@tools/in-env tools/bench.py $(BENCH)

# clean: remove target and build; what setup installed elsewhere stays
clean:
	rm -rf target build

include sys/modules/wg/kmod.mk

.PHONY: help setup build run test lint unit sim loom net miri bench clean
