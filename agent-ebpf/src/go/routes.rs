//! Route templates of Go's routers: the pattern that net/http's router or Echo's has matched.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{
    METHOD_LEN, PATH_LEN, TaskKey,
    head::{OPENING, begins_request},
};

use super::{
    path::take,
    requests::{GO_REQUESTS, watched},
    scan::scan_of_thread,
};
use crate::{maps::Pending, probe::register, user::words};

// Go's type descriptions, which every program contains (internal/abi/type.go, iface.go; the same from Go 1.21 to
// 1.27). With them neither DWARF nor a table of Echo's versions is needed for offsets.
/// `abi.Type.Kind_`, and the mask of its bits that hold the kind.
const KIND: u64 = 23;
const KINDS: u8 = 31;
const POINTER: u8 = 22;
const STRING: u8 = 24;
const STRUCT: u8 = 25;
/// `abi.ITab.Type`, `abi.PtrType.Elem`, `abi.StructType.Fields`.
const ITAB_TYPE: u64 = 8;
const ELEMENT: u64 = 48;
const FIELDS: u64 = 56;
/// Size of `abi.StructField`: name, type, offset.
const FIELD_BYTES: u64 = 24;
/// Most fields that are searched: Echo's context has about 14.
const MOST_FIELDS: u32 = 32;

/// Offset of the route's template in Echo's context plus 1, or 0 if there is none; by method table and address
/// space.
#[map]
static GO_CONTEXTS: LruHashMap<TaskKey, u64> = LruHashMap::with_max_entries(256, 0);

/// `(*Router).Find(method, path, context)` of Echo: the context is in R8 (its method table) and R9. The template is
/// set when the router has returned. It is read at the end of the request; it is wrong only in the rare case that
/// another request has taken the context from Echo's pool in between.
#[uprobe]
pub fn go_route(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else { return 0 };
    let regs: *const pt_regs = ctx.regs;
    let key = TaskKey {
        task: register!(regs, r14),
        tgid: bpf_get_current_pid_tgid() >> 32,
    };
    let Some(pending) = GO_REQUESTS.get_ptr_mut(key) else {
        return 0;
    };
    let kind = TaskKey {
        task: register!(regs, r8),
        tgid: config.space,
    };
    // SAFETY: a plain integer.
    let place = match unsafe { GO_CONTEXTS.get(kind) } {
        Some(place) => *place,
        None => {
            let place = path_field(kind.task);
            // A full LRU map drops the entry that was unused longest; it is determined again when needed.
            let _ = GO_CONTEXTS.insert(kind, place, 0);
            place
        }
    };
    if place != 0 {
        let context = register!(regs, r9);
        // SAFETY: a map value; only this goroutine's probes touch it.
        unsafe { (*pending).route = context.wrapping_add(place - 1) };
    }
    0
}

/// Offset plus 1 of the string field `path` in the structure that a method table belongs to, else 0.
#[inline(never)]
fn path_field(itab: u64) -> u64 {
    let Some([pointer]) = words(itab.wrapping_add(ITAB_TYPE)) else {
        return 0;
    };
    let Some([structure]) = words(pointer.wrapping_add(ELEMENT)) else {
        return 0;
    };
    if !is_kind(pointer, POINTER) || !is_kind(structure, STRUCT) {
        return 0;
    }
    let Some([from, number]) = words(structure.wrapping_add(FIELDS)) else {
        return 0;
    };
    let mut search = Search { from, found: 0 };
    let most = if number > u64::from(MOST_FIELDS) {
        MOST_FIELDS
    } else {
        number as u32
    };
    // SAFETY: `field` has the signature the helper requires, and its context is a `Search`, which outlives the call.
    unsafe {
        generated::bpf_loop(most, field as *mut _, (&raw mut search).cast(), 0);
    }
    search.found
}

/// The search for a field.
struct Search {
    from: u64,
    found: u64,
}

/// Looks at one field of the structure. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Search`] that nothing else uses during the call.
unsafe extern "C" fn field(index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let search = unsafe { &mut *context.cast::<Search>() };
    let Some([name, kind, offset]) =
        words(search.from.wrapping_add(u64::from(index) * FIELD_BYTES))
    else {
        return 1;
    };
    // A name is encoded as flags, length, text.
    // SAFETY: the helper checks the address.
    let Ok(text) = (unsafe { bpf_probe_read_user(name as *const [u8; 6]) }) else {
        return 1;
    };
    if text[1] == 4 && &text[2..6] == b"path" && is_kind(kind, STRING) {
        search.found = offset.wrapping_add(1);
        return 1;
    }
    0
}

#[inline(always)]
fn is_kind(description: u64, kind: u8) -> bool {
    // SAFETY: the helper checks the address.
    let read = unsafe { bpf_probe_read_user(description.wrapping_add(KIND) as *const u8) };
    read.is_ok_and(|byte| byte & KINDS == kind)
}

/// Replaces a request's path by the router's pattern that it has matched, whose string is at `at`. A pattern that
/// matches a whole tree of paths is not used.
#[inline(never)]
pub fn template(pending: &mut Pending, at: u64) -> u32 {
    let Some([text, len]) = words(at) else {
        return 0;
    };
    if len < 2 || len > PATH_LEN as u64 - 16 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    let Ok(end) = (unsafe { bpf_probe_read_user((text + len - 1) as *const u8) }) else {
        return 0;
    };
    if matches!(end, b'/' | b'*') {
        return 0;
    }
    if end == b'}' && len > 4 {
        // `{path...}`
        // SAFETY: as above.
        let Ok(dots) = (unsafe { bpf_probe_read_user((text + len - 4) as *const [u8; 3]) }) else {
            return 0;
        };
        if &dots == b"..." {
            return 0;
        }
    }
    let Some(scan) = scan_of_thread() else {
        return 0;
    };
    let size = ((len as u32).min(OPENING as u32).wrapping_sub(1) & (OPENING as u32 - 1)) + 1;
    let data = (&raw mut scan.scan.data).cast::<[u8; OPENING]>();
    // SAFETY: `data` is longer than that; the helper checks the user address.
    let with_method = unsafe {
        if generated::bpf_probe_read_user(data.cast(), size, text as *const _) != 0 {
            return 0;
        }
        begins_request(&*data, size)
    };
    if with_method {
        take(pending, scan, 0, text, len);
        return 0;
    }
    let mut at = 0_u32;
    for index in 0..=METHOD_LEN as usize {
        let byte = pending.path[index];
        scan.scan.data[index] = byte;
        if byte == b' ' {
            at = index as u32 + 1;
            break;
        }
    }
    if at > 0 && u64::from(at) + len <= PATH_LEN as u64 {
        take(pending, scan, at, text, len);
    }
    0
}
