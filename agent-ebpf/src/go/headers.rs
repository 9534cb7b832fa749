//! The credential of a head that is no longer in net/http's buffer (it was longer than the buffer, or arrived in
//! pieces that end between lines): read from the header map that net/http has parsed it into.

use aya_ebpf::helpers::generated;
use heaptide_ebpf::{GoCookie, go_maps, head::START};

use super::{
    fields::{feed_field, is_credential, say},
    scan::GoScan,
};
use crate::{maps::Pending, user::words};

/// `http.Request.Header`.
const HEADER: u64 = 56;
/// Slots of a group or bucket: after a word of marks, eight pairs of a string and a slice.
const SLOTS: u64 = 8;
const MARKS: u64 = 8;
/// Size of a bucket. Up to Go 1.23 a bucket has all keys first, then all values, then a pointer to the next bucket.
const BUCKET: u64 = 336;
/// Size of a group. From Go 1.24 on each key is followed by its value.
const GROUP: u64 = 328;
/// Most groups that are searched.
const MOST_GROUPS: u64 = 64;

/// The search through a header map.
struct Walk {
    scan: *mut GoScan,
    groups: u64,
    interleaved: u32,
    /// 1: the credential was found, or certainly is not there.
    certain: u32,
    /// Addresses and lengths of the credential's name and value, if it was found.
    field: Option<[[u64; 2]; 2]>,
}

/// Finds and scans the credential of a request; 1: it was found, or certainly is not there.
#[inline(never)]
pub fn credential(pending: &mut Pending, scan: *mut GoScan, request: u64, cookie: GoCookie) -> u32 {
    let Some([map]) = words(request.wrapping_add(HEADER)) else {
        return 0;
    };
    let mut walk = Walk {
        scan,
        groups: 0,
        interleaved: 0,
        certain: 0,
        field: None,
    };
    let number;
    if cookie.maps() == go_maps::GROUPS {
        // internal/runtime/maps.Map: `dirPtr` leads to a group, or to tables if `dirLen` is not 0.
        let Some([_, _, directory, tables]) = words(map) else {
            return 0;
        };
        walk.interleaved = 1;
        if tables == 0 {
            walk.groups = directory;
            number = 1;
        } else {
            // `table.groups`: where they are, and one less than how many.
            let Some([table]) = words(directory) else {
                return 0;
            };
            let Some([groups, mask]) = words(table.wrapping_add(16)) else {
                return 0;
            };
            walk.groups = groups;
            number = mask.wrapping_add(1);
        }
        walk.certain = u32::from(tables <= 1 && number <= MOST_GROUPS);
    } else if cookie.maps() == go_maps::BUCKETS {
        // runtime.hmap: `B` is the binary logarithm of the number of buckets. A map that is growing has more
        // buckets elsewhere, so the result is not certain.
        let Some([_, bits, buckets]) = words(map) else {
            return 0;
        };
        walk.groups = buckets;
        number = 1 << (bits >> 8 & 7);
    } else {
        return 0;
    }
    let most = if number > MOST_GROUPS {
        MOST_GROUPS
    } else {
        number
    };
    // SAFETY: `slot` has the signature the helper requires, and its context is a `Walk`, which outlives the call.
    unsafe {
        generated::bpf_loop(
            (most * SLOTS) as u32,
            slot as *mut _,
            (&raw mut walk).cast(),
            0,
        );
    }
    // SAFETY: the scan of this thread.
    unsafe { (*scan).scan.parser.state = START };
    say(scan, b"GET / HTTP/1.1\r\n");
    // Scanned here and not in `slot`, because Linux 6.1 limits the sum of the stacks of all callers, including
    // those of callbacks.
    if let Some([name, value]) = walk.field {
        feed_field(scan, name, value);
    }
    say(scan, b"\r\n");
    // SAFETY: the scan of this thread.
    let parser = unsafe { &(*scan).scan.parser };
    pending.token = parser.token;
    pending.tail = parser.tail_fingerprint;
    pending.tail_filter = parser.tail_filter;
    walk.certain
}

/// Looks at one slot. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Walk`] that nothing else uses during the call, and whose `scan` is this thread's.
unsafe extern "C" fn slot(index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let (group, slot) = (u64::from(index) / SLOTS, u64::from(index) % SLOTS);
    let (key, value) = if walk.interleaved != 0 {
        let key = walk.groups + group * GROUP + MARKS + slot * 40;
        (key, key + 16)
    } else {
        let keys = walk.groups + group * BUCKET + MARKS;
        (keys + slot * 16, keys + SLOTS * 16 + slot * 24)
    };
    let Some([name, len]) = words(key) else {
        walk.certain = 0;
        return 1;
    };
    if !is_credential(walk.scan, name, len) {
        return 0;
    }
    let Some([strings, number]) = words(value) else {
        walk.certain = 0;
        return 1;
    };
    if number == 0 {
        return 0;
    }
    let Some([text, text_len]) = words(strings) else {
        walk.certain = 0;
        return 1;
    };
    walk.field = Some([[name, len], [text, text_len]]);
    walk.certain = 1;
    1
}
