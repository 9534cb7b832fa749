//! The table of requests that goroutines serve.

use aya_ebpf::{macros::map, maps::LruHashMap};
use heaptide_ebpf::{Counter, TargetConfig, TaskKey, target_flags};

use crate::{
    maps::{Pending, count_in},
    thread,
};

/// The request that a goroutine serves.
#[map]
pub static GO_REQUESTS: LruHashMap<TaskKey, Pending> = LruHashMap::with_max_entries(8_192, 0);

/// In place of a file descriptor: the connection has one, but it is not determined.
pub const NO_FD: u32 = -2_i32 as u32;
/// `Pending::reserved` of a request that came by HTTP/2.
pub const BY_HTTP2: u16 = 1;

/// The configuration of the current process, when its requests are observed by probes in net/http; counts the hit.
#[inline(always)]
pub fn watched() -> Option<&'static TargetConfig> {
    let config = thread::target()?;
    if config.flags & target_flags::GO_REQUESTS == 0 {
        return None;
    }
    count_in(config.slot, Counter::RequestHits);
    Some(config)
}
