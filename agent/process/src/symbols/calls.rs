//! The unwind rules of all return addresses of a file, found by decoding its code once.

use heaptide_ebpf::UnwindRule;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use super::rules::Rules;
use crate::Elf;

/// Maximum bytes of code decoded per file.
const MAX_CODE: u64 = 256 << 20;

/// Appends (return address in the file, rule) for every call, at most `max` in all.
pub(super) fn collect(elf: &Elf, rules: &mut Rules, max: usize, out: &mut Vec<(u64, UnwindRule)>) {
    let mut instruction = Instruction::default();
    // overlapping functions would be decoded repeatedly
    let executable = elf.segments().iter().filter(|s| s.executable);
    let code = executable.fold(0_u64, |sum, s| sum.saturating_add(s.size));
    let mut left = code.min(MAX_CODE);
    rules.functions(|start, end, rows| {
        if out.len() >= max || rows.is_empty() {
            return;
        }
        let len = end.saturating_sub(start).min(left) as usize;
        let Some(code) = elf.at(start, len) else {
            return;
        };
        left -= code.len() as u64;
        let mut decoder = Decoder::with_ip(64, &code, start, DecoderOptions::NO_INVALID_CHECK);
        let mut row = 0;
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let call = matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            );
            if !call {
                continue;
            }
            let after = instruction.next_ip();
            // The row of the call itself, because a call that never returns may end its function.
            while rows.get(row + 1).is_some_and(|next| next.0 < after) {
                row += 1;
            }
            if out.len() < max {
                out.push((after, rows[row].1));
            }
        }
    });
}
