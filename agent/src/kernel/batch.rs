//! Batch operations on maps (`bpf(2)`), which aya lacks: many entries with one call.

use std::{io, marker::PhantomData, os::fd::RawFd};

use super::raw::bpf;

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_int = 25;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads a whole hash map in few calls; buffers are reused.
pub(super) struct Batch<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    types: PhantomData<(K, V)>,
}

impl<K: bytemuck::Pod, V: bytemuck::Pod> Batch<K, V> {
    pub(super) fn new(size: usize) -> Self {
        Self {
            keys: vec![K::zeroed(); size],
            values: vec![V::zeroed(); size],
            types: PhantomData,
        }
    }

    /// Calls `each` for every entry. Entries added or removed meanwhile may be included or not.
    pub(super) fn for_each(&mut self, map: RawFd, each: impl FnMut(&K, &V)) -> io::Result<()> {
        self.each(BPF_MAP_LOOKUP_BATCH, map, each)
    }

    /// The same, and removes the entries. A concurrent addition is in the removed entry or in a new
    /// one.
    pub(super) fn take_each(&mut self, map: RawFd, each: impl FnMut(&K, &V)) -> io::Result<()> {
        self.each(BPF_MAP_LOOKUP_AND_DELETE_BATCH, map, each)
    }

    fn each(
        &mut self,
        command: libc::c_int,
        map: RawFd,
        mut each: impl FnMut(&K, &V),
    ) -> io::Result<()> {
        let mut cursor = 0u32;
        let mut next = 0u32;
        let mut begun = false;
        loop {
            let mut attr = BatchAttr {
                in_batch: if begun { &raw const cursor as u64 } else { 0 },
                out_batch: &raw mut next as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: self.keys.len() as u32,
                map: map as u32,
                ..BatchAttr::default()
            };
            let result = bpf(command, &mut attr);
            let count = (attr.count as usize).min(self.keys.len());
            match result {
                Ok(_) => {}
                Err(why) if why.raw_os_error() == Some(libc::ENOENT) => {
                    for (key, value) in self.keys.iter().zip(&self.values).take(count) {
                        each(key, value);
                    }
                    return Ok(());
                }
                // One bucket has more entries than the buffers.
                Err(why)
                    if why.raw_os_error() == Some(libc::ENOSPC) && self.keys.len() < 1 << 20 =>
                {
                    let size = self.keys.len() * 2;
                    self.keys.resize(size, K::zeroed());
                    self.values.resize(size, V::zeroed());
                    continue;
                }
                Err(why) if why.raw_os_error() == Some(libc::EINTR) => continue,
                Err(why) => return Err(why),
            }
            for (key, value) in self.keys.iter().zip(&self.values).take(count) {
                each(key, value);
            }
            cursor = next;
            begun = true;
        }
    }
}

/// Inserts entries in batches; returns the number inserted.
pub(super) fn update_batch<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: RawFd,
    keys: &[K],
    values: &[V],
) -> usize {
    let mut done = 0;
    while done < keys.len().min(values.len()) {
        let mut attr = BatchAttr {
            keys: keys[done..].as_ptr() as u64,
            values: values[done..].as_ptr() as u64,
            count: (keys.len() - done).min(8192) as u32,
            map: map as u32,
            ..BatchAttr::default()
        };
        let asked = attr.count as usize;
        let result = bpf(BPF_MAP_UPDATE_BATCH, &mut attr);
        done += (attr.count as usize).min(asked);
        if result.is_err() {
            break;
        }
    }
    done
}

/// Removes entries in batches; missing ones are ignored.
pub(super) fn delete_batch<K: bytemuck::Pod>(map: RawFd, keys: &[K]) {
    let mut done = 0;
    while done < keys.len() {
        let mut attr = BatchAttr {
            keys: keys[done..].as_ptr() as u64,
            count: (keys.len() - done).min(8192) as u32,
            map: map as u32,
            ..BatchAttr::default()
        };
        let (before, asked) = (done, attr.count as usize);
        let result = bpf(BPF_MAP_DELETE_BATCH, &mut attr);
        done += (attr.count as usize).min(asked);
        match result {
            Ok(_) => done = before + asked,
            // The kernel stops at a missing key.
            Err(why) if why.raw_os_error() == Some(libc::ENOENT) => done += 1,
            Err(_) => break,
        }
    }
}
