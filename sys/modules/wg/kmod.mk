# SPDX-License-Identifier: BSD-2-Clause
#
# The kernel module's part of the Makefile at the top, which includes this.

# kmod: if_wg.ko for FreeBSD/amd64, in build/kmod/amd64, and what can be checked about it
kmod:
	@tools/setup.sh build
	@tools/in-env sys/modules/wg/build.sh module build/kmod/amd64
	@tools/in-env cargo run --quiet --release -p kmod-check -- build/kmod/amd64/if_wg.ko.full sys/kpi/sys/SYMBOLS.md

# ko: every scenario of tests/sim once more, over the very if_wg.ko, loaded into a process
ko: kmod
	@IF_WG_KO=$$PWD/build/kmod/amd64/if_wg.ko tools/in-env cargo test --quiet -p wgsim-tests

# vm-test: the tests of the module in a virtual machine; KERNEL=file ROOT=tree, or IMAGE=disk; CPUS=n
vm-test: kmod
	@tools/setup.sh vm
	@tools/in-env tools/vm-test.py $(KERNEL:%=--kernel %) $(ROOT:%=--root %) $(IMAGE:%=--image %) $(CPUS:%=--cpus %)

.PHONY: kmod ko vm-test
