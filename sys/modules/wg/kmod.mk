# SPDX-License-Identifier: BSD-2-Clause
#
# The kernel module's part of the Makefile at the top, which includes this.

# kmod: if_wg.ko for FreeBSD/amd64 and arm64, in build/kmod, and what can be checked about them
kmod: kmod-amd64 kmod-arm64
	@tools/in-env cargo run --quiet --release -p kmod-check -- \
	    sys/kpi/sys/SYMBOLS.md build/kmod/amd64 build/kmod/arm64

kmod-amd64 kmod-arm64:
	@tools/setup.sh build
	@machine=$@ && tools/in-env sys/modules/wg/build.sh module build/kmod/$${machine#kmod-} $${machine#kmod-}

# ko: every scenario of tests/sim once more, over the very if_wg.ko, loaded into a process
ko: kmod-amd64
	@IF_WG_KO=$$PWD/build/kmod/amd64/if_wg.ko tools/in-env cargo test --quiet \
	    -p wgsim-tests -p kmod-loader --features kmod-loader/ko

# vm-test: the tests of the module in a virtual machine; KERNEL=file ROOT=tree, or IMAGE=disk; CPUS=n; PEER_MODULE=file
vm-test: kmod-amd64 tools-freebsd
	@tools/setup.sh vm
	@tools/in-env tools/vm-test.py $(KERNEL:%=--kernel %) $(ROOT:%=--root %) $(IMAGE:%=--image %) $(CPUS:%=--cpus %) \
		$(PEER_MODULE:%=--peer-module %) $(TESTS:%=--tests %)

.PHONY: kmod kmod-amd64 kmod-arm64 ko vm-test
