//! The cheapest position for a probe in a function: the first instruction that the kernel emulates
//! while the arguments are still in their registers. A pure function of bytes.
//!
//! The kernel (arch/x86/kernel/uprobes.c) emulates `push reg`, relative `call`, `jmp` and `jcc`, and
//! `nop`. It single-steps all other instructions out of line, which costs about 18 times as much.
//! Multi-byte `nop`s are emulated only since Linux 6.16, and some earlier kernels refuse `66 90`, so
//! it is never chosen.

use heaptide_ebpf::Cookie;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Formatter, Instruction, InstructionInfoFactory,
    Mnemonic, NasmFormatter, OpAccess, OpKind, Register,
};

/// Maximum number of prologue instructions examined.
const MAX_INSTRUCTIONS: usize = 32;

/// What a probe needs at its position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Arguments that must still be in an argument register, by their index.
    pub arguments: Vec<u8>,
    /// A call with NULL in this argument has no effect and may be missed.
    pub null_is_nothing: Option<u8>,
    /// There is also a return probe, so the return address must be at `[rsp]`.
    pub returns: bool,
    /// The kernel emulates multi-byte nops.
    pub long_nops: bool,
}

/// The position of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset from the function's entry in bytes.
    pub offset: u64,
    /// Bytes between the stack pointer there and the return address.
    pub pushed: u16,
    /// The kernel emulates the instruction there.
    pub emulated: bool,
    /// Current location of each argument: the index of the argument whose register holds it.
    pub arguments: [u8; 6],
    /// The reason.
    pub why: String,
}

impl Place {
    /// Location of an argument at this position; [`heaptide_ebpf::Cookie::NONE`] is unchanged.
    pub fn argument(&self, index: u8) -> u8 {
        self.arguments
            .get(usize::from(index))
            .copied()
            .unwrap_or(index)
    }
}

/// The registers from which the kernel programs read arguments, with their index in cookies: those of
/// the first four System V arguments, and one to which compilers move arguments.
const REGISTERS: [(Register, u8); 5] = [
    (Register::RDI, 0),
    (Register::RSI, 1),
    (Register::RDX, 2),
    (Register::RCX, 3),
    (Register::RAX, Cookie::RAX),
];

fn index_of(register: Register) -> Option<u8> {
    let found = REGISTERS.iter().find(|row| row.0 == register);
    found.map(|row| row.1)
}

fn register_at(index: u8) -> Option<Register> {
    let found = REGISTERS.iter().find(|row| row.1 == index);
    found.map(|row| row.0)
}

const UNMOVED: [u8; 6] = [0, 1, 2, 3, 4, 5];

/// Chooses the position of a probe on `name`, whose code is `bytes` at `address`.
pub fn choose(name: &str, bytes: &[u8], address: u64, needs: &Needs) -> Place {
    let entry = first(bytes, address);
    let entry_text = entry.map_or_else(|| "(unreadable)".to_string(), |i| text(&i));
    let reentered = backward_targets(bytes, address);
    match search(bytes, address, needs, &reentered) {
        Ok(found) => {
            let instruction = text(&found.instruction);
            let offset = found.instruction.ip() - address;
            let mut why = format!("{name}+{offset}: `{instruction}` is emulated");
            if offset != 0 {
                let cost = if entry.is_some_and(|i| emulated(&i, bytes, address, needs)) {
                    "count calls twice, or calls without effect"
                } else {
                    "be single-stepped (about 18x)"
                };
                why = format!("{why}; entry `{entry_text}` would {cost}");
            }
            for (index, now) in (0..)
                .zip(found.arguments)
                .filter(|(index, now)| index != now)
            {
                let register = register_at(now).unwrap_or(Register::None);
                why = format!("{why}; argument {index} is in {register:?} there");
            }
            if found.skips_null {
                why += "; calls with NULL are skipped";
            }
            Place {
                offset,
                pushed: found.pushed,
                emulated: true,
                arguments: found.arguments,
                why,
            }
        }
        Err(reason) => Place {
            offset: 0,
            pushed: 0,
            emulated: false,
            arguments: UNMOVED,
            why: format!("{name}+0: `{entry_text}` is single-stepped (about 18x): {reason}"),
        },
    }
}

struct Found {
    instruction: Instruction,
    pushed: u16,
    skips_null: bool,
    arguments: [u8; 6],
}

/// The registers that hold each needed argument: compilers move arguments before a tail call.
struct Held(Vec<(u8, Vec<Register>)>);

impl Held {
    fn new(needs: &Needs) -> Self {
        let register = |i: u8| register_at(i).into_iter().collect();
        Self(
            needs
                .arguments
                .iter()
                .map(|index| (*index, register(*index)))
                .collect(),
        )
    }

    fn holds(&self, index: u8, register: Register) -> bool {
        self.0
            .iter()
            .any(|(i, at)| *i == index && at.contains(&register))
    }

    fn arguments(&self) -> [u8; 6] {
        let mut arguments = UNMOVED;
        for (index, at) in &self.0 {
            let places = at.iter().filter_map(|r| index_of(*r));
            let best = places.min_by_key(|place| (place != index, *place));
            if let (Some(slot), Some(best)) = (arguments.get_mut(usize::from(*index)), best) {
                *slot = best;
            }
        }
        arguments
    }

    /// Updates them for an instruction; returns the index of an argument that is lost.
    fn follow(&mut self, info: &mut InstructionInfoFactory, i: &Instruction) -> Option<u8> {
        let copy = matches!(i.code(), Code::Mov_r64_rm64 | Code::Mov_rm64_r64)
            && i.op1_kind() == OpKind::Register
            && i.op0_kind() == OpKind::Register
            && index_of(i.op0_register()).is_some();
        let writes = |access: OpAccess| {
            use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
            matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
        };
        let used = info.info(i).used_registers();
        let written: Vec<Register> = used
            .iter()
            .filter(|u| writes(u.access()))
            .map(|u| u.register().full_register())
            .collect();
        for (_, at) in &mut self.0 {
            let copied = copy && at.contains(&i.op1_register());
            at.retain(|r| !written.contains(r));
            if copied && !at.contains(&i.op0_register()) {
                at.push(i.op0_register());
            }
        }
        self.0
            .iter()
            .find(|(_, at)| at.is_empty())
            .map(|(index, _)| *index)
    }
}

/// Walks the code up to the first branch.
fn search(bytes: &[u8], address: u64, needs: &Needs, reentered: &[u64]) -> Result<Found, String> {
    let mut info = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut pushed: u16 = 0;
    let mut held = Held::new(needs);
    let mut before: Option<Instruction> = None;
    // A `je` taken for NULL can be probed itself if no later instruction can.
    let mut at_null_jump: Option<Found> = None;
    let none = |reason: String, fallback: Option<Found>| fallback.ok_or(reason);
    for _ in 0..MAX_INSTRUCTIONS {
        if !decoder.can_decode() {
            break;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return none("its code cannot be decoded".to_string(), at_null_jump);
        }
        let offset = instruction.ip() - address;
        let stack_check = is_go_stack_check(before.as_ref(), &instruction);
        // A jump back to between the entry and here would count one call twice.
        let twice = reentered
            .iter()
            .any(|t| *t > address && *t <= instruction.ip());
        if twice {
            return none(
                format!("a loop jumps back to before +{offset}"),
                at_null_jump,
            );
        }
        let usable = !stack_check && (pushed == 0 || !needs.returns);
        if usable && emulated(&instruction, bytes, address, needs) {
            let null_jump = is_null_jump(before.as_ref(), &instruction, needs, &held);
            let skips_null = at_null_jump.is_some();
            let arguments = held.arguments();
            let found = Found {
                instruction,
                pushed,
                skips_null,
                arguments,
            };
            if !null_jump {
                return Ok(found);
            }
            at_null_jump = Some(found);
        } else if instruction.flow_control() != FlowControl::Next && !stack_check {
            return none(
                format!("`{}` leaves the function", text(&instruction)),
                at_null_jump,
            );
        }
        let Some(sum) = stack_change(&instruction).and_then(|bytes| pushed.checked_add(bytes))
        else {
            return none(
                format!("`{}` moves the stack", text(&instruction)),
                at_null_jump,
            );
        };
        pushed = sum;
        if let Some(lost) = held.follow(&mut info, &instruction) {
            let what = text(&instruction);
            return none(
                format!("`{what}` overwrites argument {lost} first"),
                at_null_jump,
            );
        }
        before = Some(instruction);
    }
    none(
        "no emulated instruction in the prologue".to_string(),
        at_null_jump,
    )
}

fn first(bytes: &[u8], address: u64) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let instruction = decoder.can_decode().then(|| decoder.decode())?;
    (!instruction.is_invalid()).then_some(instruction)
}

/// As the kernel decides it: `branch_setup_xol_ops` and `push_setup_xol_ops`.
fn emulated(instruction: &Instruction, bytes: &[u8], address: u64, needs: &Needs) -> bool {
    let start = (instruction.ip() - address) as usize;
    let Some(code) = bytes.get(start..start + instruction.len()) else {
        return false;
    };
    // the kernel ignores bnd and segment (branch hint) prefixes, but not 66
    let opcode = code
        .iter()
        .position(|b| !matches!(b, 0xf2 | 0x2e | 0x3e))
        .unwrap_or(0);
    match code[opcode..] {
        [0x50..=0x57 | 0x90] | [0x41, 0x50..=0x57] => opcode == 0,
        [0xeb | 0x70..=0x7f, _] | [0xe8 | 0xe9, _, _, _, _] | [0x0f, 0x80..=0x8f, _, _, _, _] => {
            true
        }
        [0x0f, 0x1f, ..] => opcode == 0 && needs.long_nops && is_standard_nop(code),
        _ => false,
    }
}

/// The kernel compares with its own table of nops.
fn is_standard_nop(code: &[u8]) -> bool {
    matches!(
        code,
        [0x0f, 0x1f, 0x00]
            | [0x0f, 0x1f, 0x40, 0x00]
            | [0x0f, 0x1f, 0x44, 0x00, 0x00]
            | [0x0f, 0x1f, 0x80, 0, 0, 0, 0]
            | [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]
    )
}

/// `test p, p; je`: taken only for NULL in the pointer argument.
fn is_null_jump(
    before: Option<&Instruction>,
    jump: &Instruction,
    needs: &Needs,
    held: &Held,
) -> bool {
    let (Some(pointer), Some(test)) = (needs.null_is_nothing, before) else {
        return false;
    };
    matches!(jump.code(), Code::Je_rel8_64 | Code::Je_rel32_64)
        && test.code() == Code::Test_rm64_r64
        && test.op0_kind() == OpKind::Register
        && test.op0_register() == test.op1_register()
        && held.holds(pointer, test.op0_register())
}

/// `cmp rsp|r12, [r14+16]; jbe`: Go grows the stack and restarts the function, so a probe on the jump
/// would count the call twice.
fn is_go_stack_check(before: Option<&Instruction>, jump: &Instruction) -> bool {
    matches!(jump.code(), Code::Jbe_rel8_64 | Code::Jbe_rel32_64)
        && before.is_some_and(|cmp| {
            cmp.mnemonic() == Mnemonic::Cmp
                && matches!(
                    cmp.op0_register(),
                    Register::RSP | Register::R12 | Register::R13
                )
                && cmp.memory_base() == Register::R14
                && cmp.memory_displacement64() == 16
        })
}

/// Bytes by which the stack grew; `None` for an unsupported change of the stack pointer.
fn stack_change(instruction: &Instruction) -> Option<u16> {
    match instruction.mnemonic() {
        Mnemonic::Push => u16::try_from(-instruction.stack_pointer_increment()).ok(),
        Mnemonic::Sub if instruction.op0_register() == Register::RSP => {
            (instruction.op1_kind() != OpKind::Register && instruction.op1_kind() != OpKind::Memory)
                .then(|| u16::try_from(instruction.immediate(1)).ok())?
        }
        _ => {
            let moved = instruction.stack_pointer_increment() != 0
                || (instruction.op_count() > 0
                    && instruction.op0_kind() == OpKind::Register
                    && instruction.op0_register().full_register() == Register::RSP
                    && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test));
            (!moved).then_some(0)
        }
    }
}

/// Targets of backward jumps within the function, ascending.
fn backward_targets(bytes: &[u8], address: u64) -> Vec<u64> {
    let mut targets: Vec<u64> = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE)
        .into_iter()
        .filter(|i| {
            let flow = i.flow_control();
            matches!(
                flow,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            )
        })
        .filter(|i| (address..=i.ip()).contains(&i.near_branch_target()))
        .map(|i| i.near_branch_target())
        .collect();
    targets.sort_unstable();
    targets
}

fn text(instruction: &Instruction) -> String {
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    // branch targets are not informative
    if instruction.flow_control() != FlowControl::Next {
        text.truncate(text.find(' ').unwrap_or(text.len()));
    }
    text
}

#[cfg(test)]
mod tests;
