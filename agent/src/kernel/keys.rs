//! Keys of maps: listing and removal.

use std::os::fd::RawFd;

use super::raw::{ElementAttr, bpf};

const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;

/// Removes an entry if it exists.
pub(super) fn delete<K: bytemuck::Pod>(map: RawFd, key: &K) {
    let mut attr = ElementAttr {
        map: map as u64,
        key: std::ptr::from_ref(key) as u64,
        value: 0,
        flags: 0,
    };
    // A missing entry is fine.
    let _ = bpf(BPF_MAP_DELETE_ELEM, &mut attr);
}

/// Up to `most` keys of a map. Keys added or removed meanwhile may be included, even twice.
pub(super) fn keys<K: bytemuck::Pod>(map: RawFd, most: usize) -> Vec<K> {
    let mut keys: Vec<K> = Vec::new();
    while keys.len() < most {
        let mut next = K::zeroed();
        let mut attr = ElementAttr {
            map: map as u64,
            key: keys
                .last()
                .map_or(0, |last| std::ptr::from_ref(last) as u64),
            value: &raw mut next as u64,
            flags: 0,
        };
        if bpf(BPF_MAP_GET_NEXT_KEY, &mut attr).is_err() {
            break;
        }
        keys.push(next);
    }
    keys
}
