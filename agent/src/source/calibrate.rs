//! What the probes cost on this host: heaptide watches itself for a moment.

use std::{hint::black_box, process};

use tracing::debug;

use super::{Source, SourceError};

/// Pairs per measurement.
const PAIRS: u32 = 3_000;
/// Pairs before it, so that every unwind rule is there.
const LEARNING: u32 = 50;

impl Source {
    /// Measures the CPU time that an allocation and its free cost a target with the present options,
    /// in nanoseconds, and keeps it for the cost that is reported. To be called before the first
    /// target is attached.
    pub fn calibrate(&mut self) -> Result<f64, SourceError> {
        if !self.options.allocations {
            return Ok(0.0);
        }
        let bare = pairs();
        let me = process::id();
        let layout = self.new_layout();
        self.attach_as(me, layout, false, &mut |_, _| {})?;
        for _ in 0..4 {
            for _ in 0..LEARNING {
                pair();
            }
            self.pump(&mut |_, _| {});
        }
        let probed = pairs();
        self.detach(me);
        self.snapshot_now(&mut |_, _| {})?;
        self.pair_cost_ns = ((probed - bare) / f64::from(PAIRS)).max(0.0);
        self.counted = self.kernel.counters()?;
        self.undecodable = 0;
        debug!(nanoseconds = self.pair_cost_ns, "an allocation and its free, probed");
        Ok(self.pair_cost_ns)
    }
}

/// CPU nanoseconds of this thread for [`PAIRS`] pairs.
fn pairs() -> f64 {
    let begun = thread_cpu();
    for _ in 0..PAIRS {
        pair();
    }
    thread_cpu() - begun
}

fn pair() {
    // SAFETY: a block that is freed at once and never written.
    unsafe { libc::free(black_box(libc::malloc(black_box(64)))) }
}

fn thread_cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
