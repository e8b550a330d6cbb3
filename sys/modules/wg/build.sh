#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# build.sh rust OBJECT [MACHINE]      the driver as one object for the kernel, shims missing
# build.sh module FOLDER [MACHINE]    FOLDER/if_wg.ko, and beside it if_wg.ko.debug (DWARF) and if_wg.ko.full (both in one)
#
# MACHINE is amd64 (the default) or arm64. A module is for amd64 a relocatable object, for arm64 a shared one: so the
# kernels' linkers want it. The relocatable object that the latter is linked from is FOLDER/if_wg.kld.
#
# The first is what sys/modules/wg/Makefile calls on FreeBSD. The second needs no FreeBSD: the headers are those of the
# Python package `ziglang`, its clang compiles the shims, and Rust's own lld links. `make kmod` calls it.
#
# environment: ZIG           the program zig (default: of build/venv, of python3, of $PATH)
#              CK_HEADERS    folder with ck_queue.h (default: /usr/include)
#              KMOD_FEATURES features of crate if_wg_kmod: libnv (default: none)
#              KERNBUILDDIR  folder with opt_*.h of one kernel configuration (default: the usual options, see options())
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
shims=$top/sys/kpi/sys/shim
target_dir=${CARGO_TARGET_DIR:-$top/target}

die() {
	echo "build.sh: $*" >&2
	exit 1
}

# arch MACHINE: what is different between the architectures.
arch() {
	machine=$1
	vector_cc=
	case $machine in
	amd64)
		rust_target=x86_64-unknown-none
		# The C compiler that is here makes objects for this very system; for the kernel it is all the same.
		case $(uname) in
		FreeBSD) vector_target=x86_64-unknown-freebsd ;;
		*) vector_target=x86_64-unknown-linux-gnu ;;
		esac
		zig_target=x86_64-freebsd.14.2-none
		emulation=elf_x86_64
		# Calls go through the PLT form of relocation (the kernel's linker knows no GOT), so nothing is position
		# independent.
		rust_machine=-Crelocation-model=static
		vector_machine='-Crelocation-model=static -Ccode-model=kernel -Cno-redzone=yes'
		# The same that the kernel's own makefiles say: no vector register, no red zone, addresses in the top 2 GiB.
		# zig takes the processor's features from -mcpu alone; it accepts -mno-sse and does not obey.
		machine_cflags='-fno-pic -mcmodel=kernel -mno-red-zone -mcpu=x86_64-x87-mmx-sse-sse2-fxsr+soft_float'
		vector_cflags='-fno-pic -mcmodel=kernel -mno-red-zone -fcf-protection=none'
		;;
	arm64)
		rust_target=aarch64-unknown-none-softfloat
		# `ring` would ask Linux for the processor's features; of FreeBSD it believes the least, which is NEON.
		vector_target=aarch64-unknown-freebsd
		zig_target=aarch64-freebsd.14.2-none
		emulation=aarch64elf
		# x18 is the kernel's: its per-CPU data. A shared object is position independent; what may be a VNET variable
		# has to be reached by the GOT, since only what is in a table moves with the vnet. The kernel guards its text
		# where the processor can: an indirect branch has to end at a landing pad (BTI), and return addresses are signed.
		rust_machine='-Crelocation-model=pic -Zfixed-x18 -Zbranch-protection=bti,pac-ret'
		vector_machine=$rust_machine
		machine_cflags='-fPIC -mcpu=generic+reserve_x18-neon-fp_armv8 -mgeneral-regs-only -mno-outline-atomics -mbranch-protection=standard'
		vector_cflags='-fPIC -mcpu=generic+reserve_x18 -mno-outline-atomics -mbranch-protection=standard'
		[ "$(uname)" = FreeBSD ] || vector_cc="$(zig_command) cc -target $zig_target"
		;;
	*) die "unknown architecture $machine" ;;
	esac
}

# The cfgs choose the portable code of the cryptographic crates: others would use vector registers.
rust_flags() {
	# shellcheck disable=SC2086 # words
	printf '%s\037' $rust_machine -Zplt=yes -Cforce-frame-pointers=yes -Cforce-unwind-tables=no \
		-Zemit-stack-sizes '--remap-path-prefix='"$top=" \
		--cfg 'chacha20_backend="soft"' --cfg 'poly1305_backend="soft"' --cfg 'curve25519_dalek_backend="serial"'
	printf '%s' -Cdebuginfo=1
}

# tool RUST SYSTEM argument...: a program of the Rust toolchain, or of the system where the toolchain has none.
tool() {
	sysroot=$(cd "$top" && rustc --print sysroot)
	program=$sysroot/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/$1
	[ -x "$program" ] || program=$(command -v "$2") || die "neither $1 of the Rust toolchain nor $2 is here"
	shift 2
	# Where rustup's own programs have their libLLVM.
	LD_LIBRARY_PATH=$sysroot/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$program" "$@"
}

# linker argument...
linker() {
	# rust-lld is many linkers in one and has to be told.
	# shellcheck disable=SC2086 # words
	tool rust-lld ld.lld $flavor -m $emulation "$@"
}

# link OUTPUT input...: into one relocatable object.
link() {
	output=$1
	shift
	linker -r -T "$here/kmod.ld" -o "$output" "$@"
}
flavor=
case $(uname) in Linux) flavor='-flavor gnu' ;; esac

# rust OBJECT: the driver, with its entry points as the only names that others can see.
rust() {
	# The core library is built with the flags above too: the toolchain's copy has other relocations. A small one has
	# no sort that can panic. memcpy(3) and its like are the kernel's.
	(
		cd "$top"
		CARGO_ENCODED_RUSTFLAGS=$(rust_flags) CARGO_TARGET_DIR=$target_dir RUSTC_BOOTSTRAP=1 \
			cargo build --quiet --profile kmod -p if_wg_kmod --features "${KMOD_FEATURES:-}" --target "$rust_target" \
			-Zbuild-std=core,compiler_builtins -Zbuild-std-features=optimize_for_size
	)
	# All of it is one member. The other one has what a processor without a system needs, memcpy(3) among it, which is
	# not wanted: names that only it has would be found by tests/kmod.
	library=$target_dir/$rust_target/kmod/libif_wg_kmod.a
	ar p "$library" "$(ar t "$library" | grep '^if_wg_kmod')" >"$1.whole"
	vector "$1.vector"
	link "$1" "$1.whole" "$1.vector"
	rm "$1.whole" "$1.vector"
}

# vector OBJECT: the packet cipher in vector code. `ring` knows no target without a system, so it is compiled for this one and
# told that nothing of it is there. Its code gets a section of its own, in which vector registers are allowed.
vector() {
	(
		cd "$top"
		cflags="$vector_cflags -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables"
		flags=$(vector_flags)
		name=$(echo $vector_target | tr - _)
		export "CFLAGS_$name=$cflags -fno-builtin -U_FORTIFY_SOURCE"
		[ -z "$vector_cc" ] || export "CC_$name=$vector_cc"
		CARGO_ENCODED_RUSTFLAGS=$flags CARGO_TARGET_DIR=$target_dir RUSTC_BOOTSTRAP=1 \
			cargo rustc --quiet --profile kmod -p wg_vector --crate-type staticlib \
			--target "$vector_target" -Zbuild-std=core,alloc,compiler_builtins
	)
	link "$1" --undefined=wg_vector_seal --undefined=wg_vector_open --undefined=wg_vector_wipe \
		"$target_dir/$vector_target/kmod/libwg_vector.a"
	objcopy --rename-section=.text=.vector,alloc,load,readonly,code \
		--keep-global-symbol=wg_vector_seal --keep-global-symbol=wg_vector_open \
		--keep-global-symbol=wg_vector_wipe "$1"
}
vector_flags() {
	# shellcheck disable=SC2086 # words
	printf '%s\037' $vector_machine -Zplt=yes -Cforce-frame-pointers=yes \
		-Cforce-unwind-tables=no -Zemit-stack-sizes '--remap-path-prefix='"$top="
	printf '%s' -Cdebuginfo=1
}

# zig argument...: the program, wherever it is.
zig() {
	# shellcheck disable=SC2046 # words
	$(zig_command) "$@"
}
zig_command() {
	if [ "${ZIG:-}" ]; then
		echo "$ZIG"
	elif [ -x "$top/build/venv/bin/python3" ] && "$top/build/venv/bin/python3" -c 'import ziglang' 2>/dev/null; then
		echo "$top/build/venv/bin/python3 -m ziglang"
	elif python3 -c 'import ziglang' 2>/dev/null; then
		echo python3 -m ziglang
	else
		echo zig
	fi
}

# options FOLDER: the headers that a kernel build generates. Without one kernel's own we say what every GENERIC has, and
# leave out INVARIANTS and WITNESS: a KLD_MODULE calls the kernel's functions for locks and epochs, which check by
# themselves, and no structure that we know the inside of has other places with them (sys/kpi/sys/build.rs compares), so one
# module serves kernels with and without.
options() {
	for name in bus_if device_if opt_bpf opt_global opt_inet opt_inet6 opt_kern_tls opt_mac opt_rss; do
		: >"$1/$name.h"
	done
	echo '#define INET 1' >"$1/opt_inet.h"
	echo '#define INET6 1' >"$1/opt_inet6.h"
	printf '#define %s 1\n' VIMAGE SMP MAC NETLINK >"$1/opt_global.h"
	mkdir -p "$1/ck"
	ck=${CK_HEADERS:-/usr/include}
	[ -e "$ck/ck_queue.h" ] || die "no $ck/ck_queue.h: install libck-dev or set CK_HEADERS"
	for name in "$ck"/ck_*.h "$ck/gcc" "$ck/spinlock"; do
		ln -sfn "$name" "$1/ck/"
	done
	# Not among the installed headers, and wanted by crypto/cryptodev.h.
	mkdir -p "$1/opencrypto"
	printf '#pragma once\ntypedef struct crypto_session *crypto_session_t;\n' >"$1/opencrypto/_cryptodev.h"
}

# shims FOLDER: compiles them into it.
shims() {
	include=$1/include
	mkdir -p "$include"
	options "$include"
	[ -z "${KERNBUILDDIR:-}" ] || cp "$KERNBUILDDIR"/opt_*.h "$include/"
	case " ${KMOD_FEATURES:-} " in
	*' libnv '*) libnv=-DKPI_LIBNV ;;
	*) libnv= ;;
	esac
	for source in "$shims"/*.c; do
		# shellcheck disable=SC2086 # words
		zig cc -target $zig_target -c -O2 -g -std=gnu17 $machine_cflags -ffreestanding -fwrapv -fno-common \
			-fno-strict-aliasing -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-stack-protector \
			-fno-sanitize=all -fstack-size-section -fdebug-prefix-map="$top=" -fmacro-prefix-map="$top/=" -D_KERNEL -DKLD_MODULE $libnv \
			-D__printf__=__freebsd_kprintf__ \
			-I"$include" -I"$include/ck" -include "$include/opt_global.h" -I"$shims" \
			-Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual \
			-Wno-unused-parameter -Wno-pointer-sign -Wno-sign-compare -Wno-missing-field-initializers -Wno-format \
			"$source" -o "$1/$(basename "$source" .c).o"
	done
}

# module FOLDER
module() {
	work=$1/objects
	mkdir -p "$work"
	rust "$work/if_wg_rs.o"
	shims "$work"
	# Names of ours are nobody else's: all become local (any name after the option will do).
	case $machine in
	amd64)
		link "$1/if_wg.ko.full" --build-id=sha1 "$work"/*.o
		objcopy --keep-global-symbol=no_global_symbols "$1/if_wg.ko.full"
		;;
	arm64)
		link "$1/if_wg.kld" "$work"/*.o
		objcopy --keep-global-symbol=no_global_symbols "$1/if_wg.kld"
		# As the kernel's makefiles do it. A relaxed reference would miss the vnet's copy of a variable.
		linker -shared -z notext -z norelro --no-relax --hash-style=sysv --build-id=sha1 \
			-o "$1/if_wg.ko.full" "$1/if_wg.kld"
		;;
	esac
	objcopy --only-keep-debug "$1/if_wg.ko.full" "$1/if_wg.ko.debug"
	objcopy --strip-debug --remove-section=.stack_sizes --add-gnu-debuglink="$1/if_wg.ko.debug" \
		"$1/if_wg.ko.full" "$1/if_wg.ko"
}

objcopy() { tool rust-objcopy llvm-objcopy "$@"; }

[ $# -ge 2 ] || die 'usage: build.sh rust OBJECT [amd64 | arm64] | module FOLDER [amd64 | arm64]'
arch "${3:-amd64}"
case $1 in
rust | module) "$1" "$2" ;;
*) die "no such job: $1" ;;
esac
