//! Unwind rules of one ELF file: rows of its `.eh_frame` in the kernel programs' format.

use std::{ops::Range, sync::Arc};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry,
    LittleEndian, ParsedEhFrameHdr, RegisterRule, UnwindContext, UnwindSection, UnwindTableRow,
    X86_64,
};
use heaptide_ebpf::{UnwindRule, rule};

use super::frames;
use crate::Elf;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The rule for addresses at which unwinding stops.
pub(super) const UNKNOWN: UnwindRule = UnwindRule {
    cfa_offset: 0,
    rbp_offset: 0,
    kind: rule::UNKNOWN,
    reserved: 0,
};
const END: UnwindRule = UnwindRule {
    kind: rule::END,
    ..UNKNOWN
};

/// Functions of musl that call the first function of a program or thread. musl has no unwind information that
/// marks the end of the stack there (`src/env/__libc_start_main.c`, `src/thread/pthread_create.c`).
const FIRST: &[&str] = &["libc_start_main_stage2", "start", "start_c11"];

/// Maximum bytes of `.eh_frame` scanned for one address without an index.
const MAX_UNSORTED: usize = 4 << 20;

/// The unwind sections of a file.
pub(super) struct Rules {
    elf: Arc<Elf>,
    bases: BaseAddresses,
    context: UnwindContext<usize>,
    /// The ranges of [`FIRST`]; `None`: not searched yet.
    first: Option<Vec<Range<u64>>>,
}

impl Rules {
    pub(super) fn new(elf: Arc<Elf>) -> Self {
        let mut bases = BaseAddresses::default();
        let address = |name: &str| elf.section(name).map(|s| s.address);
        if let Some(address) = address(".eh_frame") {
            bases = bases.set_eh_frame(address);
        }
        if let Some(address) = address(".eh_frame_hdr") {
            bases = bases.set_eh_frame_hdr(address);
        }
        if let Some(address) = address(".text") {
            bases = bases.set_text(address);
        }
        if let Some(address) = address(".got") {
            bases = bases.set_got(address);
        }
        Self {
            elf,
            bases,
            context: UnwindContext::new(),
            first: None,
        }
    }

    /// The rule at an address of the file.
    pub(super) fn at(&mut self, address: u64) -> UnwindRule {
        let Self {
            elf,
            bases,
            context,
            first,
        } = self;
        let Some(bytes) = frames::section(elf, ".eh_frame") else {
            return UNKNOWN;
        };
        let frame = eh_frame(&bytes);
        let sorted = frames::section(elf, ".eh_frame_hdr");
        let found = match sorted
            .as_deref()
            .and_then(|bytes| header(bytes, bases))
            .as_ref()
            .and_then(ParsedEhFrameHdr::table)
        {
            Some(table) => table.fde_for_address(&frame, bases, address, EhFrame::cie_from_offset),
            None if bytes.len() > MAX_UNSORTED => return UNKNOWN,
            None => frame.fde_for_address(bases, address, EhFrame::cie_from_offset),
        };
        let row = found.and_then(|fde| {
            fde.unwind_info_for_address(&frame, bases, context, address)
                .map(translate)
        });
        row.unwrap_or_else(|_| {
            let first = first.get_or_insert_with(|| first_functions(elf));
            let ends = first.iter().any(|function| function.contains(&address));
            if ends { END } else { UNKNOWN }
        })
    }

    /// Calls `visit` with every function that has unwind information, in section order: its range, and its
    /// rows as (first address, rule), ascending.
    pub(super) fn functions(&mut self, mut visit: impl FnMut(u64, u64, &[(u64, UnwindRule)])) {
        let Self {
            elf,
            bases,
            context,
            ..
        } = self;
        let Some(bytes) = frames::section(elf, ".eh_frame") else {
            return;
        };
        let frame = eh_frame(&bytes);
        let mut entries = frame.entries(bases);
        let mut rows = Vec::new();
        let mut cie = None;
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let offset = partial.cie_offset();
            // neighbours usually share their CIE
            let parsed = partial.parse(|section: &EhFrame<Slice<'_>>, bases, at| match &cie {
                Some((known, cie)) if *known == offset => {
                    Ok(gimli::CommonInformationEntry::clone(cie))
                }
                _ => section.cie_from_offset(bases, at),
            });
            let Ok(fde) = parsed else { continue };
            if !matches!(&cie, Some((known, _)) if *known == offset) {
                cie = Some((offset, fde.cie().clone()));
            }
            rows.clear();
            collect_rows(&fde, &frame, bases, context, &mut rows);
            visit(fde.initial_address(), fde.end_address(), &rows);
        }
    }
}

fn first_functions(elf: &Elf) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    elf.functions(|symbol| {
        if FIRST.contains(&symbol.name) {
            found.push(symbol.address..symbol.address.saturating_add(symbol.size));
        }
    });
    found
}

fn collect_rows<'a>(
    fde: &FrameDescriptionEntry<Slice<'a>>,
    frame: &EhFrame<Slice<'a>>,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    rows: &mut Vec<(u64, UnwindRule)>,
) {
    let Ok(mut table) = fde.rows(frame, bases, context) else {
        return;
    };
    while let Ok(Some(row)) = table.next_row() {
        rows.push((row.start_address(), translate(row)));
    }
}

fn eh_frame(bytes: &[u8]) -> EhFrame<Slice<'_>> {
    let mut frame = EhFrame::new(bytes, LittleEndian);
    frame.set_address_size(8);
    frame
}

fn header<'a>(bytes: &'a [u8], bases: &BaseAddresses) -> Option<ParsedEhFrameHdr<Slice<'a>>> {
    EhFrameHdr::new(bytes, LittleEndian).parse(bases, 8).ok()
}

/// A row in the kernel programs' format; [`UNKNOWN`] if it does not fit.
fn translate(row: &UnwindTableRow<usize>) -> UnwindRule {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return END,
        Some(RegisterRule::Offset(-8)) => {}
        _ => return UNKNOWN,
    }
    let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else {
        return UNKNOWN;
    };
    let kind = match register {
        X86_64::RSP => rule::SP,
        X86_64::RBP => rule::BP,
        _ => return UNKNOWN,
    };
    let rbp_offset = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(0),
        // offset 0 means "unchanged" in the kernel programs, and no frame saves rbp there
        Some(RegisterRule::Offset(offset)) if offset != 0 => i16::try_from(offset).ok(),
        _ => None,
    };
    match (i32::try_from(offset), rbp_offset) {
        (Ok(cfa_offset), Some(rbp_offset)) => UnwindRule {
            cfa_offset,
            rbp_offset,
            kind,
            reserved: 0,
        },
        _ => UNKNOWN,
    }
}
