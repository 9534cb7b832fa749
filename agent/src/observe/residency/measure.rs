//! Measures one complete search of a process, for `cargo xtask bench residency`.

use std::{io, time::Duration};

use heaptide_ebpf::tail::TailKey;

use super::{
    memory::MemoryError,
    search::Needle,
    worker::{Job, Text, Worker},
};

/// Cost of a search.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Bytes searched.
    pub bytes: u64,
    /// CPU time of the searching thread.
    pub cpu: Duration,
}

/// Arbitrary keys.
const KEY: TailKey = [1, 2, 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Searches all memory of `pid` for so many absent tokens, as for a target but without pauses.
pub fn measure(pid: u32, tokens: u64) -> Result<Measured, MemoryError> {
    let needles: Vec<Needle> = (1..=tokens)
        .map(|number| {
            let random = number.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29);
            Needle {
                fingerprint: random | 1,
                filter: (random >> 40) as u32,
            }
        })
        .collect();
    let gone = |_| MemoryError::Buffer(io::ErrorKind::BrokenPipe.into());
    let worker = Worker::start(KEY).map_err(MemoryError::Buffer)?;
    let mut all = Measured {
        bytes: 0,
        cpu: Duration::ZERO,
    };
    let mut from = Some(0);
    while let Some(start) = from {
        let needles = needles.clone();
        worker.give(Job {
            pid,
            from: start,
            text: Text {
                least: b' ' + 1,
                wide: false,
            },
            needles,
            beginning: None,
        });
        let done = worker.wait().map_err(gone)?;
        let read = done.read?;
        all.bytes += read.bytes;
        all.cpu += done.cost;
        from = read.resume;
    }
    Ok(all)
}
