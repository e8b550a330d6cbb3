# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# Sourced by every script here; needs $top, the top of the source tree. Finds what tools/setup.sh put
# under build/ and prefers it to what the machine has, so that no script depends on an activated shell.

# shellcheck disable=SC2154 # $top is the sourcing script's
if [ -x "$top/build/rust/cargo/bin/rustup" ]; then
	CARGO_HOME=$top/build/rust/cargo RUSTUP_HOME=$top/build/rust/rustup
	export CARGO_HOME RUSTUP_HOME
fi
PATH=$top/build/peers/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

# Where cargo puts its output; people who share one target folder between trees set the variable.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$top/target}
export CARGO_TARGET_DIR

# The features that make sense on a host, all of them.
HOST_FEATURES=wg/ring,if_wg/ring,hostkern/real
export HOST_FEATURES
