//! Decodes kernel bytes. Every tag is checked here; later code relies on this.
//!
//! Pure: no kernel, no clock. An invalid record is an error that the source counts.

use heaptide_ebpf::{
    GoBlockRecord, LifeRecord, RequestRecord, StackCopy, VmRecord, binding, kind, life,
    request_flags, tail::FILTER_BITS, vm,
};
use thiserror::Error;

use heaptide_judge::events::{Binding, Fingerprint, Nanos, Request, RequestId};
use heaptide_runtimes::door::PickedObject;

/// A record that violates the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Its kind is unknown.
    #[error("a record of unknown kind {0}")]
    Kind(u32),
    /// Its length does not match its kind.
    #[error("a record of kind {kind} with {len} bytes")]
    Length {
        /// Its kind.
        kind: u32,
        /// Its length.
        len: usize,
    },
    /// A tag inside it is unknown.
    #[error("a record of kind {kind} with unknown tag {tag}")]
    Tag {
        /// Its kind.
        kind: u32,
        /// The tag.
        tag: u32,
    },
}

/// A decoded ring record and its process.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Process.
    pub tgid: u32,
    /// Its contents.
    pub event: Event,
}

/// Contents of a ring record.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request.
    Request {
        /// The request.
        request: Request,
        /// For a handler scope the number of the handler, in place of a path.
        handler: Option<u32>,
        /// The window by which its credential is found in memory.
        window: Option<TokenWindow>,
    },
    /// A change of the mappings.
    Mapping(Mapping),
    /// A stack that the kernel could not unwind.
    Stack(RawStack),
    /// A process event.
    Life(Life),
    /// A sampled object of a runtime's own heap.
    Picked(PickedObject),
}

/// The keyed fingerprint of a credential's window (`heaptide_ebpf::tail`). Only the search of memory
/// uses it; it is in no capture and no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenWindow {
    /// Never 0.
    pub fingerprint: u64,
    /// 24 bits of a keyed filter.
    pub filter: u32,
}

/// A change of the mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What changed.
    pub change: Change,
    /// Site id.
    pub site: u64,
    /// Request that was current.
    pub request: Option<RequestId>,
    /// When.
    pub at: Nanos,
    /// Address space.
    pub space: u64,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An anonymous mapping `[start, end)` appeared.
    Map(u64, u64),
    /// `[start, end)` is unmapped.
    Unmap(u64, u64),
    /// `[old start, old end)` became `[start, end)`.
    Move(u64, u64, u64, u64),
    /// The program break moved to this address.
    Break(u64),
}

/// A stack that the kernel could not unwind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// Provisional site id.
    pub site: u64,
    /// First program counter.
    pub pc: u64,
    /// `pc` is an interrupted instruction, not a return address.
    pub exact_pc: bool,
    /// Stack pointer; `bytes` begin here.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// The return address that had no rule.
    pub missing: u64,
    /// Layout id.
    pub layout: u32,
    /// The copied stack.
    pub bytes: Vec<u8>,
}

/// A process event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// A task was created, which may be a thread.
    Fork {
        /// Its id.
        child: u32,
    },
    /// The address space was replaced.
    Exec {
        /// When.
        at: Nanos,
        /// The new address space.
        space: u64,
    },
    /// The process ended.
    Exit {
        /// When.
        at: Nanos,
    },
}

const PAGE: u64 = 4096;

/// Decodes one ring record.
pub fn record(bytes: &[u8]) -> Result<Record, DecodeError> {
    let kind = bytes
        .first_chunk()
        .map_or(0, |head| u32::from_ne_bytes(*head));
    match kind {
        kind::REQUEST => request(&read::<RequestRecord>(kind, bytes)?),
        kind::VM => mapping(&read::<VmRecord>(kind, bytes)?),
        kind::STACK => stack(bytes),
        kind::LIFE => process(&read::<LifeRecord>(kind, bytes)?),
        kind::GO_BLOCK => picked(&read::<GoBlockRecord>(kind, bytes)?),
        _ => Err(DecodeError::Kind(kind)),
    }
}

fn read<T: bytemuck::AnyBitPattern>(kind: u32, bytes: &[u8]) -> Result<T, DecodeError> {
    bytemuck::try_pod_read_unaligned(bytes).map_err(|_| DecodeError::Length {
        kind,
        len: bytes.len(),
    })
}

/// The binding of a kernel tag.
pub fn binding_of(tag: u8) -> Option<Binding> {
    match tag {
        binding::NONE => Some(Binding::None),
        binding::EXACT => Some(Binding::Exact),
        binding::INFERRED => Some(Binding::Inferred),
        _ => None,
    }
}

fn request(raw: &RequestRecord) -> Result<Record, DecodeError> {
    let binding = binding_of(raw.binding).ok_or(DecodeError::Tag {
        kind: kind::REQUEST,
        tag: u32::from(raw.binding),
    })?;
    let path = &raw.path[..(raw.path_len as usize).min(raw.path.len())];
    let request = Request {
        id: RequestId(raw.request),
        start: Nanos(raw.start_ns),
        end: Nanos(raw.end_ns.max(raw.start_ns)),
        head: String::from_utf8_lossy(path).into_owned(),
        path_cut: raw.flags & request_flags::PATH_CUT != 0,
        token: (raw.token != 0).then_some(Fingerprint(raw.token)),
        status: (raw.status != 0).then_some(raw.status),
        binding,
        body_bytes: u64::from(raw.body_bytes),
        token_uncertain: raw.flags & request_flags::HEAD_CUT != 0 && raw.token == 0,
        again: raw.flags & request_flags::STREAMING != 0,
    };
    let handler = (raw.fd == -1).then_some(raw.handler);
    Ok(Record {
        tgid: raw.tgid,
        event: Event::Request {
            request,
            handler,
            window: (raw.tail != 0).then_some(TokenWindow {
                fingerprint: raw.tail,
                filter: raw.tail_filter & ((1 << FILTER_BITS) - 1),
            }),
        },
    })
}

fn mapping(raw: &VmRecord) -> Result<Record, DecodeError> {
    let end =
        |start: u64, len: u64| start.saturating_add(len.saturating_add(PAGE - 1) / PAGE * PAGE);
    let change = match raw.op {
        vm::MMAP => Change::Map(raw.addr, end(raw.addr, raw.len)),
        vm::MUNMAP => Change::Unmap(raw.addr, end(raw.addr, raw.len)),
        vm::MREMAP => Change::Move(
            raw.old_addr,
            end(raw.old_addr, raw.old_len),
            raw.addr,
            end(raw.addr, raw.len),
        ),
        vm::BRK => Change::Break(raw.addr),
        tag => {
            return Err(DecodeError::Tag {
                kind: kind::VM,
                tag,
            });
        }
    };
    let mapping = Mapping {
        change,
        site: raw.site,
        request: (raw.request != 0).then_some(RequestId(raw.request)),
        at: Nanos(raw.at_ns),
        space: raw.space,
    };
    Ok(Record {
        tgid: raw.tgid,
        event: Event::Mapping(mapping),
    })
}

fn stack(bytes: &[u8]) -> Result<Record, DecodeError> {
    let raw: StackCopy = read(kind::STACK, bytes)?;
    let len = (raw.len as usize).min(raw.bytes.len());
    let stack = RawStack {
        site: raw.site,
        pc: raw.pc,
        exact_pc: raw.exact_pc != 0,
        sp: raw.sp,
        bp: raw.bp,
        missing: raw.missing,
        layout: raw.layout,
        bytes: raw.bytes[..len].to_vec(),
    };
    Ok(Record {
        tgid: raw.tgid,
        event: Event::Stack(stack),
    })
}

fn picked(raw: &GoBlockRecord) -> Result<Record, DecodeError> {
    let wrong = |tag| DecodeError::Tag {
        kind: kind::GO_BLOCK,
        tag,
    };
    let binding = u8::try_from(raw.binding).map_err(|_| wrong(raw.binding))?;
    binding_of(binding).ok_or(wrong(raw.binding))?;
    if raw.size == 0 {
        return Err(wrong(0));
    }
    let object = PickedObject {
        addr: raw.addr,
        span: raw.span,
        size: raw.size,
        site: raw.site,
        request: raw.request,
        born: Nanos(raw.born_ns),
        interval: raw.interval,
        sweep: raw.sweep,
        room: raw.slots as u16,
        used: (raw.slots >> 16) as u16,
        binding,
        space: raw.space,
    };
    Ok(Record {
        tgid: raw.tgid,
        event: Event::Picked(object),
    })
}

fn process(raw: &LifeRecord) -> Result<Record, DecodeError> {
    let at = Nanos(raw.at_ns);
    let life = match raw.op {
        life::FORK => Life::Fork { child: raw.child },
        life::EXEC => Life::Exec {
            at,
            space: raw.space,
        },
        life::EXIT => Life::Exit { at },
        tag => {
            return Err(DecodeError::Tag {
                kind: kind::LIFE,
                tag,
            });
        }
    };
    Ok(Record {
        tgid: raw.tgid,
        event: Event::Life(life),
    })
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn a_request_is_read_whole() {
        let mut raw = RequestRecord::zeroed();
        raw.kind = kind::REQUEST;
        raw.tgid = 7;
        raw.request = 3;
        raw.start_ns = 10;
        raw.end_ns = 20;
        raw.token = 99;
        raw.status = 200;
        raw.binding = binding::EXACT;
        raw.path[..13].copy_from_slice(b"GET /api/data");
        raw.path_len = 13;
        let Record {
            tgid,
            event:
                Event::Request {
                    request,
                    handler,
                    window,
                },
        } = record(bytemuck::bytes_of(&raw)).unwrap()
        else {
            panic!("not a request")
        };
        assert_eq!((tgid, handler, window), (7, None, None));
        assert_eq!(request.head, "GET /api/data");
        assert_eq!(request.token, Some(Fingerprint(99)));
        assert_eq!(request.status, Some(200));
        assert_eq!(request.binding, Binding::Exact);
    }

    #[test]
    fn bad_records_are_errors_not_panics() {
        assert_eq!(record(&[]), Err(DecodeError::Kind(0)));
        assert_eq!(record(&77u32.to_ne_bytes()), Err(DecodeError::Kind(77)));
        let short = kind::REQUEST.to_ne_bytes();
        assert_eq!(
            record(&short),
            Err(DecodeError::Length {
                kind: kind::REQUEST,
                len: 4
            })
        );
        let mut raw = RequestRecord::zeroed();
        raw.kind = kind::REQUEST;
        raw.binding = 9;
        assert_eq!(
            record(bytemuck::bytes_of(&raw)),
            Err(DecodeError::Tag {
                kind: kind::REQUEST,
                tag: 9
            })
        );
        raw.binding = binding::NONE;
        raw.path_len = u32::MAX;
        assert!(
            record(bytemuck::bytes_of(&raw)).is_ok(),
            "a length beyond the field is cut"
        );
        let mut life = LifeRecord::zeroed();
        life.kind = kind::LIFE;
        life.op = 44;
        assert!(matches!(
            record(bytemuck::bytes_of(&life)),
            Err(DecodeError::Tag { .. })
        ));
    }

    #[test]
    fn mappings_cover_whole_pages() {
        let mut raw = VmRecord::zeroed();
        raw.kind = kind::VM;
        raw.op = vm::MMAP;
        raw.addr = 0x10_0000;
        raw.len = 5000;
        let Event::Mapping(mapping) = record(bytemuck::bytes_of(&raw)).unwrap().event else {
            panic!("not a mapping")
        };
        assert_eq!(mapping.change, Change::Map(0x10_0000, 0x10_2000));
    }
}
