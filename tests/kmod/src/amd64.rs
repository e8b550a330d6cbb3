// SPDX-License-Identifier: BSD-2-Clause
//! Instructions of amd64 that touch registers which the kernel does not save.

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, Formatter, Instruction, InstructionInfoFactory,
    IntelFormatter, Mnemonic, OpKind, Register,
};

fn is_foreign(register: Register) -> bool {
    register.is_xmm()
        || register.is_ymm()
        || register.is_zmm()
        || register.is_mm()
        || register.is_st()
        || register.is_k()
        || register.is_tmm()
}

/// The first instruction of `code` that names such a register or cannot be decoded, as text.
pub(crate) fn first_use(code: &[u8], address: u64) -> Option<String> {
    let mut info = InstructionInfoFactory::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter() {
        let foreign = info
            .info(&instruction)
            .used_registers()
            .iter()
            .any(|used| is_foreign(used.register()));
        // Some x87 instructions name no register: the top of its stack is meant.
        let x87 = instruction.cpuid_features().contains(&CpuidFeature::FPU);
        if foreign || x87 || instruction.is_invalid() {
            return Some(text(&instruction));
        }
    }
    None
}

/// Bytes that a function takes from the stack: the largest constant that it subtracts from the stack
/// pointer, and its pushes.
pub(crate) fn frame(code: &[u8]) -> u64 {
    let (mut largest, mut pushes) = (0, 0);
    for i in Decoder::new(64, code, DecoderOptions::NONE).iter() {
        match i.mnemonic() {
            Mnemonic::Push => pushes += 8,
            Mnemonic::Sub
                if i.op0_register() == Register::RSP && i.op1_kind() != OpKind::Register =>
            {
                largest = largest.max(i.immediate(1));
            }
            Mnemonic::Lea
                if i.op0_register() == Register::RSP && i.memory_base() == Register::RSP =>
            {
                largest = largest.max(i.memory_displacement64().wrapping_neg().min(1 << 20));
            }
            _ => {}
        }
    }
    largest + pushes
}

/// Calls and jumps out of a function: where in the section the distance is, and where they lead.
pub(crate) fn branches(code: &[u8], address: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for i in Decoder::with_ip(64, code, address, DecoderOptions::NONE).iter() {
        // Four bytes of distance are the last ones of the instruction.
        if i.is_call_near() || i.is_jmp_near() {
            found.push((i.next_ip().wrapping_sub(4), i.near_branch_target()));
        }
    }
    found
}

fn text(instruction: &Instruction) -> String {
    let mut out = String::new();
    IntelFormatter::new().format(instruction, &mut out);
    out
}
