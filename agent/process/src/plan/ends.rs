//! The ends of a function: its returns and tail calls.
//!
//! A return probe would be one probe instead of several. But it replaces the return address, so an
//! exception cannot unwind through it and the target would abort.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use super::prologue::Place;

/// Maximum number of ends of a function.
const MAX_ENDS: usize = 64;

/// The ends of the function `name` whose code is `bytes` at `address`. A jump into one of the
/// `cold` ranges stays within the function.
pub(super) fn of(name: &str, bytes: &[u8], address: u64, cold: &[Range<u64>]) -> Vec<Place> {
    let own = address..address + bytes.len() as u64;
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut ends = Vec::new();
    while decoder.can_decode() && ends.len() < MAX_ENDS {
        let instruction = decoder.decode();
        let leaves = match instruction.flow_control() {
            FlowControl::Return => "returns",
            FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target();
                if own.contains(&target) || cold.iter().any(|range| range.contains(&target)) {
                    continue;
                }
                "jumps to its last call"
            }
            // A jump through the GOT; switches jump through a register.
            FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => {
                "jumps to its last call"
            }
            _ => continue,
        };
        let offset = instruction.ip() - address;
        ends.push(Place {
            offset,
            pushed: 0,
            emulated: instruction.is_jmp_short_or_near(),
            arguments: [0, 1, 2, 3, 4, 5],
            why: format!("{name}+{offset}: {leaves} here"),
        });
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_and_tail_calls_but_no_inner_jumps() {
        // test edi,edi; js +3; jmp +1 (to the second ret); ret; ret; jmp far; jmp cold
        let code = [
            0x85, 0xff, 0x78, 0x03, 0xeb, 0x01, 0xc3, 0xc3, 0xe9, 0x00, 0x10, 0x00, 0x00, 0xe9,
            0x00, 0x20, 0x00, 0x00,
        ];
        let cold: Vec<_> = std::iter::once(0x3000..0x3100).collect();
        let offsets = |ends: Vec<Place>| ends.iter().map(|end| end.offset).collect::<Vec<_>>();
        assert_eq!(offsets(of("f", &code, 0x1000, &cold)), [6, 7, 8]);
        assert_eq!(offsets(of("f", &code, 0x1000, &[])), [6, 7, 8, 13]);
        assert!(of("f", &[], 0x1000, &[]).is_empty());
    }
}
