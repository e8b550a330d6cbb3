// SPDX-License-Identifier: BSD-2-Clause
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wg_fuzz_targets::netlink_dump(input));
