//! Exact number of bytes that a container has requested from the allocator, from its capacities.
//!
//! A counting global allocator would add frames between the service's code and malloc, which
//! ordinary services do not have.

use std::collections::{HashMap, VecDeque};

use crate::auth::Claims;

/// Heap bytes of a value, without the value itself.
pub(crate) trait Heap {
    fn heap(&self) -> usize;
}

impl Heap for String {
    fn heap(&self) -> usize {
        self.capacity()
    }
}

impl Heap for Box<[u8]> {
    fn heap(&self) -> usize {
        self.len()
    }
}

impl Heap for Claims {
    fn heap(&self) -> usize {
        let words = [
            &self.sub,
            &self.iss,
            &self.aud,
            &self.jti,
            &self.email,
            &self.scope,
        ];
        words.iter().map(|word| word.heap()).sum::<usize>()
            + table_of_vec(&self.roles)
            + self.roles.iter().map(Heap::heap).sum::<usize>()
            + table_of_map(&self.custom)
            + self
                .custom
                .iter()
                .map(|(key, value)| key.heap() + value.heap())
                .sum::<usize>()
    }
}

/// Bytes of a vector's own buffer.
pub(crate) fn table_of_vec<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}

/// Bytes of a queue's own buffer.
pub(crate) fn table_of_queue<T>(queue: &VecDeque<T>) -> usize {
    queue.capacity() * size_of::<T>()
}

/// Bytes of a hash map's table: 7 of 8 buckets may be full, each has a control byte, followed by a
/// group of 16 control bytes.
pub(crate) fn table_of_map<K, V, S>(map: &HashMap<K, V, S>) -> usize {
    let capacity = map.capacity();
    if capacity == 0 {
        return 0;
    }
    let buckets = if capacity < 8 {
        capacity + 1
    } else {
        capacity / 7 * 8
    };
    (buckets * size_of::<(K, V)>()).next_multiple_of(16) + buckets + 16
}
