// SPDX-License-Identifier: BSD-2-Clause
//! Instructions of arm64 that touch registers which are not the module's.

use yaxpeax_arch::{Arch, Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{ARMv8, Instruction, Opcode, Operand, SizeCode};

/// The kernel's pointer to its per-CPU data. It may be followed, and nothing else.
const PER_CPU: u16 = 18;
const SP: u16 = 31;
const STACK: Operand = Operand::RegisterOrSP(SizeCode::X, SP);

fn instructions(code: &[u8]) -> impl Iterator<Item = (u32, Option<Instruction>)> {
    let decoder = <ARMv8 as Arch>::Decoder::default();
    code.chunks(4).map(move |bytes| {
        let word = bytes.first_chunk().map_or(0, |w| u32::from_le_bytes(*w));
        (word, decoder.decode(&mut U8Reader::new(bytes)).ok())
    })
}

/// Whether an instruction is of the SIMD and floating-point ones.
///
/// The decoder tells by the operands, and the encoding by two bits: of the groups that "A64 instruction set encoding" of the
/// Arm Architecture Reference Manual has, only "Data Processing, Scalar Floating-Point and Advanced SIMD" and the loads
/// and stores whose bit V is set have bits 27 and 26 both set. Either is enough for us.
fn is_vector(word: u32, instruction: &Instruction) -> bool {
    let names_one = instruction.operands.iter().any(|operand| {
        matches!(
            operand,
            Operand::SIMDRegister(..)
                | Operand::SIMDRegisterElements(..)
                | Operand::SIMDRegisterElementsLane(..)
                | Operand::SIMDRegisterElementsMultipleLane(..)
                | Operand::SIMDRegisterGroup(..)
                | Operand::SIMDRegisterGroupLane(..)
        )
    });
    names_one || word >> 26 & 3 == 3
}

/// Whether an instruction writes to the register of the per-CPU data: it is the first operand, or the second of a load of
/// two.
fn writes_per_cpu(instruction: &Instruction) -> bool {
    let pair = matches!(
        instruction.opcode,
        Opcode::LDP | Opcode::LDNP | Opcode::LDPSW | Opcode::LDXP | Opcode::LDAXP
    );
    let written = &instruction.operands[..if pair { 2 } else { 1 }];
    written.iter().any(|operand| {
        matches!(
            operand,
            Operand::Register(_, PER_CPU) | Operand::RegisterOrSP(_, PER_CPU)
        )
    })
}

/// Whether a call by address may end here: the first instruction is `bti c`, `bti jc`, `paciasp` or `pacibsp`.
pub(crate) fn is_landing_pad(code: &[u8]) -> bool {
    let pads: [u32; 4] = [0xd503_245f, 0xd503_24df, 0xd503_233f, 0xd503_237f];
    code.first_chunk()
        .is_some_and(|w| pads.contains(&u32::from_le_bytes(*w)))
}

/// The first instruction of `code` that is a vector one or cannot be decoded, as text.
pub(crate) fn first_use(code: &[u8]) -> Option<String> {
    instructions(code).find_map(|(word, decoded)| match decoded {
        None => Some(format!("{word:#010x}, which is no instruction")),
        Some(i) if is_vector(word, &i) => Some(i.to_string()),
        Some(_) => None,
    })
}

/// The first instruction of `code` that writes to x18, as text.
pub(crate) fn per_cpu_use(code: &[u8]) -> Option<String> {
    let mut decoded = instructions(code).filter_map(|(_, i)| i);
    decoded.find(writes_per_cpu).map(|i| i.to_string())
}

/// Calls and jumps out of a function: where in the section the instruction is, and where it leads.
pub(crate) fn branches(code: &[u8], address: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for (at, (_, decoded)) in (address..).step_by(4).zip(instructions(code)) {
        if let Some(i) = decoded
            && matches!(i.opcode, Opcode::B | Opcode::BL)
            && let Operand::PCOffset(distance) = i.operands[0]
        {
            found.push((at, at.wrapping_add_signed(distance)));
        }
    }
    found
}

/// How far an operand moves the stack pointer down.
fn below(operand: &Operand) -> u64 {
    match operand {
        Operand::RegPreIndex(SP, offset, true) => {
            u64::from(offset.saturating_neg().max(0).cast_unsigned())
        }
        _ => 0,
    }
}

/// Bytes that a function takes from the stack: what it subtracts from the stack pointer, or stores below it while moving
/// it.
pub(crate) fn frame(code: &[u8]) -> u64 {
    let mut taken = 0;
    for i in instructions(code).filter_map(|(_, i)| i) {
        taken += match (i.opcode, i.operands) {
            (Opcode::SUB, [STACK, STACK, Operand::Immediate(n), _]) => u64::from(n),
            (Opcode::SUB, [STACK, STACK, Operand::ImmShift(n, shift), _]) => {
                u64::from(n) << (shift & 31)
            }
            // A register: more than fits into an instruction.
            (Opcode::SUB, [STACK, ..]) => 1 << 24,
            (_, operands) => operands.iter().map(below).sum(),
        };
    }
    taken
}
