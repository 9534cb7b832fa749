//! Where a function's result is known, for functions without a return probe: a C++ exception that
//! unwinds through one would end the process.
//!
//! Every path through the function is followed to its `ret`, including tail calls. The `ret` itself
//! would be single-stepped. The last conditional jump before it is emulated, and the result is
//! usually in a register there already.

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::Cookie;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::prologue::Place;
use crate::Elf;

/// Maximum number of paths.
const MAX_WAYS: usize = 256;
/// Maximum instructions of a path.
const MAX_LENGTH: usize = 512;
/// Maximum number of returns: a function with more is not a plain `operator new`.
const MAX_RETURNS: usize = 24;

/// Maximum instructions of a function that only moves its arguments.
const MAX_MOVES: usize = 12;

/// Functions that do not return to their caller.
const NEVER_RETURN: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "__cxa_throw",
    "__cxa_rethrow",
    "_Unwind_Resume",
    "__stack_chk_fail",
    "__assert_fail",
    "_ZSt17__throw_bad_allocv",
    "_ZSt9terminatev",
];

/// A position where a function's result is known and its return is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// Address in the file.
    pub(super) address: u64,
    /// Number of the register with the result.
    pub(super) register: u8,
    /// Condition under which the function returns from there, or [`Cookie::NONE`].
    pub(super) condition: u8,
    /// Bytes between the stack pointer there and the return address.
    pub(super) pushed: u16,
}

impl Exit {
    /// The same as a position in the function `name`.
    pub(super) fn place(&self, name: &str) -> Place {
        let emulated = self.condition != Cookie::NONE;
        let how = if emulated {
            "its last jump, which is emulated"
        } else {
            "its return, which is single-stepped"
        };
        Place {
            offset: 0,
            pushed: self.pushed,
            emulated,
            arguments: [0, 1, 2, 3, 4, 5],
            why: format!("{name} may throw and has no return probe; its result is known at {how}"),
        }
    }
}

/// A module's code and the tables of its indirect calls.
pub(super) struct Code<'a> {
    elf: &'a Elf,
    /// GOT entry -> name of the function.
    imports: HashMap<u64, String>,
    /// Functions of the module itself.
    own: HashMap<String, u64>,
}

impl<'a> Code<'a> {
    pub(super) fn new(elf: &'a Elf) -> Self {
        let imports: HashMap<u64, String> = elf.imports().into_iter().collect();
        let wanted: HashSet<&str> = imports.values().map(String::as_str).collect();
        let mut own = HashMap::new();
        elf.functions(|symbol| {
            if wanted.contains(symbol.name) {
                own.entry(symbol.name.to_owned()).or_insert(symbol.address);
            }
        });
        Self { elf, imports, own }
    }

    fn decode(&self, address: u64) -> Option<Instruction> {
        let bytes = self.elf.at(address, 16)?;
        let mut decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// The function that an instruction calls or jumps to through the GOT.
    fn import(&self, address: u64) -> Option<&str> {
        let mut instruction = self.decode(address)?;
        if instruction.mnemonic() == Mnemonic::Endbr64 {
            instruction = self.decode(instruction.next_ip())?;
        }
        let through_table = instruction.flow_control() == FlowControl::IndirectBranch
            && instruction.is_ip_rel_memory_operand();
        let place = through_table.then(|| instruction.ip_rel_memory_address())?;
        self.imports.get(&place).map(String::as_str)
    }

    /// Target of a jump within the module, also through the GOT.
    fn target(&self, jump: &Instruction) -> Option<u64> {
        let direct = match jump.flow_control() {
            FlowControl::UnconditionalBranch => jump.near_branch_target(),
            _ => jump.ip(),
        };
        match self.import(direct) {
            Some(name) => self.own.get(name).copied(),
            None => (direct != jump.ip()).then_some(direct),
        }
    }

    /// The target of a function that only jumps, possibly after moving its arguments. It computes
    /// nothing, so both are called with the same size.
    pub(super) fn stands_for(&self, address: u64) -> Option<u64> {
        let mut at = address;
        for _ in 0..MAX_MOVES {
            let instruction = self.decode(at)?;
            at = instruction.next_ip();
            let to_register = instruction.op_count() > 0
                && instruction.op0_kind() == OpKind::Register
                && instruction.op0_register().full_register() != Register::RSP;
            match instruction.mnemonic() {
                Mnemonic::Jmp => return self.target(&instruction),
                Mnemonic::Endbr64 => {}
                Mnemonic::Mov if to_register => {}
                Mnemonic::Xor if to_register => {
                    if instruction.op1_kind() != OpKind::Register
                        || instruction.op0_register() != instruction.op1_register()
                    {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        None
    }
}

/// A path that begins after a conditional jump (its address and the condition of this path), or at
/// the function's entry.
struct Way {
    behind: Option<(u64, u8)>,
    path: Vec<Instruction>,
}

/// The exits of the function at `entry`; `None` if not all can be found. `taken` has those of earlier
/// functions, which may share code.
pub(super) fn of(code: &Code<'_>, entry: u64, taken: &mut HashMap<u64, Exit>) -> Option<Vec<Exit>> {
    let mut returns: HashMap<u64, Vec<Way>> = HashMap::new();
    let mut jumps = HashSet::new();
    let mut open = vec![(None, entry)];
    let mut ways = 0;
    while let Some((behind, start)) = open.pop() {
        ways += 1;
        if ways > MAX_WAYS {
            return None;
        }
        let mut path = Vec::new();
        let mut at = start;
        loop {
            let instruction = code.decode(at)?;
            if path.len() > MAX_LENGTH {
                break; // an endless loop does not return
            }
            at = instruction.next_ip();
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::IndirectCall => path.push(instruction),
                FlowControl::Call => {
                    let called = code.import(instruction.near_branch_target());
                    if called.is_some_and(|name| NEVER_RETURN.contains(&name)) {
                        break;
                    }
                    path.push(instruction);
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    path.push(instruction);
                    at = code.target(&instruction)?;
                }
                FlowControl::ConditionalBranch => {
                    if jumps.insert(instruction.ip()) {
                        let condition = instruction.condition_code() as u8;
                        // iced counts from 1 (overflow), in the order of the opcodes
                        let condition = condition.checked_sub(1)?;
                        let ip = instruction.ip();
                        open.push((Some((ip, condition)), instruction.near_branch_target()));
                        open.push((Some((ip, condition ^ 1)), at));
                    }
                    break;
                }
                FlowControl::Return => {
                    let ways = returns.entry(instruction.ip()).or_default();
                    ways.push(Way { behind, path });
                    break;
                }
                _ => break,
            }
        }
    }
    if returns.is_empty() || returns.len() > MAX_RETURNS {
        return None;
    }
    let mut found = Vec::new();
    let mut addresses: Vec<u64> = returns.keys().copied().collect();
    addresses.sort_unstable();
    for address in addresses {
        let ret = Exit {
            address,
            register: 0,
            condition: Cookie::NONE,
            pushed: 0,
        };
        let exits = if taken.get(&address) == Some(&ret) {
            vec![ret]
        } else {
            early(&returns[&address], taken).unwrap_or_else(|| vec![ret])
        };
        for exit in exits {
            taken.insert(exit.address, exit);
            found.push(exit);
        }
    }
    Some(found)
}

/// The last conditional jumps before a `ret`, if every path to it has one where the result is known.
fn early(ways: &[Way], taken: &HashMap<u64, Exit>) -> Option<Vec<Exit>> {
    let mut exits: Vec<Exit> = Vec::new();
    for way in ways {
        let (address, condition) = way.behind?;
        let (register, pushed) = result_before(&way.path)?;
        let exit = Exit {
            address,
            register,
            condition,
            pushed,
        };
        // a probe has one cookie, so this jump cannot serve a second exit
        let other = |place: &Exit| place.address == address && *place != exit;
        if taken.get(&address).is_some_and(other) || exits.iter().any(other) {
            return None;
        }
        exits.push(exit);
    }
    Some(exits)
}

/// The register that holds the result before the path to a `ret`, and the distance to the return
/// address there.
fn result_before(path: &[Instruction]) -> Option<(u8, u16)> {
    let mut info = InstructionInfoFactory::new();
    let mut holder = Register::RAX;
    let mut pushed: i32 = 0;
    for instruction in path.iter().rev() {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => continue,
            _ => return None,
        }
        let is_stack = |register: Register| register.full_register() == Register::RSP;
        let register_at = |operand: u32| {
            (instruction.op_kind(operand) == OpKind::Register)
                .then(|| instruction.op_register(operand))
        };
        let touches_stack = instruction.op_count() > 0 && register_at(0).is_some_and(is_stack);
        pushed += match instruction.mnemonic() {
            Mnemonic::Push | Mnemonic::Pop => instruction.stack_pointer_increment(),
            Mnemonic::Add if touches_stack && register_at(1).is_none() => {
                i32::try_from(instruction.immediate(1)).ok()?
            }
            Mnemonic::Cmp | Mnemonic::Test => 0,
            _ if touches_stack || instruction.stack_pointer_increment() != 0 => return None,
            _ => 0,
        };
        if instruction.mnemonic() == Mnemonic::Mov
            && register_at(0) == Some(holder)
            && let Some(from) = register_at(1)
            && from.is_gpr64()
        {
            holder = from;
            continue;
        }
        let writes = |access: OpAccess| {
            matches!(
                access,
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            )
        };
        let used = info.info(instruction).used_registers();
        if used
            .iter()
            .any(|u| writes(u.access()) && u.register().full_register() == holder)
        {
            return None;
        }
    }
    // the stack pointer cannot be a result, and the kernel programs do not support it
    (holder != Register::RSP).then_some(())?;
    Some((holder.number() as u8, u16::try_from(pushed).ok()?))
}
