//! Measures the cost of probes on this host: a child of heaptide allocates and frees, first without and then with
//! probes.

use std::{
    hint::black_box,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use tracing::{debug, warn};

use heaptide_process::clocks::cpu_time;
use heaptide_process::plan::Probe;
use heaptide_runtimes::inspect;

use super::attach::{Beginning, begin};
use super::events::pump_all;
use super::host::{Host, SourceError};
use super::live::snapshot;
use super::memory::totals;
use super::options::TargetOptions;
use super::tidy::tidy;
use crate::overhead::meter::{HIT_NS, Meter};

/// Pairs per measurement.
const PAIRS: u32 = 3_000;
/// A trap's part of the cost of an allocation and its free, if the kernel does not measure it. `cargo xtask bench
/// probes`: 510 of 2,354 ns on a quiet machine, which is 0.22; with the calls of `bench request-cost` 0.26 is right.
const TRAP_OF_PAIR: f64 = 0.26;
/// Set by tests that do not look at costs, so that the agent starts sooner.
const SWITCH: &str = "HEAPTIDE_UNCALIBRATED";
/// Measurements with probes: the first ones add unwind rules, the last one counts.
const ROUNDS: u32 = 4;

/// Measures the CPU time of an allocation and its free in nanoseconds, with the present options, and stores it
/// for reports. If the host does not allow the child, the cost stays unknown (0).
pub(super) fn calibrate(host: &mut Host, meter: &mut Meter) -> Result<f64, SourceError> {
    if std::env::var_os(SWITCH).is_some_and(|value| !value.is_empty()) {
        return Ok(0.0);
    }
    let mut child = match Pairs::start() {
        Ok(child) => child,
        Err(why) => {
            warn!(
                "the cost of a probe is unknown: cannot start the program that measures it: {why}"
            );
            return Ok(0.0);
        }
    };
    let pid = child.process.id();
    let bare = child.measure();
    // Detaching takes a tenth of a second per probe, so only the needed ones are attached.
    let always = TargetOptions {
        allocations: true,
        budget: None,
        automatic: false,
        at_once: false,
        ..host.options.target.clone()
    };
    let used = |probe: &Probe| probe.symbol == "malloc" || probe.symbol == "free";
    let begun = inspect(pid).map_err(SourceError::from).and_then(|target| {
        let beginning = Beginning {
            wanted: &used,
            ..Beginning::of(target, always)
        };
        begin(host, beginning, &mut |_, _| {})
    });
    if let Err(why) = begun {
        if host.options.target.allocations {
            return Err(why);
        }
        // Allocators are not probed then either, and the default cost of a trap is used.
        warn!("the cost of a probe is unknown: {why}");
        return Ok(0.0);
    }
    let mut probed = None;
    for _ in 0..ROUNDS {
        probed = child.measure();
        pump_all(host, &mut |_, _| {});
    }
    if let Some(bare) = bare {
        calibrate_hit(host, meter, &mut child, bare);
    }
    drop(child);
    host.detach(pid);
    tidy(host);
    snapshot(host, &mut |_, _| {})?;
    host.pair_cost_ns = match (bare, probed) {
        (Some(bare), Some(probed)) => ((probed - bare) / f64::from(PAIRS)).max(0.0),
        _ => 0.0,
    };
    host.counted = totals(host)?;
    host.lost_mappings = 0;
    host.ring.forget_lost();
    debug!(
        nanoseconds = host.pair_cost_ns,
        "an allocation and its free, probed"
    );
    Ok(host.pair_cost_ns)
}

/// Measures the cost of a trap: the cost of a hit minus the kernel's time for its program.
fn calibrate_hit(host: &mut Host, meter: &mut Meter, child: &mut Pairs, bare: f64) {
    let Ok(measuring) = host.kernel.measure(true) else {
        if let Some(probed) = child.measure() {
            let around = (probed - bare) / f64::from(PAIRS) * TRAP_OF_PAIR;
            meter.hit_ns = around.clamp(HIT_NS / 4.0, HIT_NS * 8.0);
            debug!(nanoseconds = around, "estimated cost of a trap");
        }
        return;
    };
    let probed = child.measure();
    let spent = host.kernel.measured(&measuring, true).probes;
    pump_all(host, &mut |_, _| {});
    if let Some(probed) = probed
        && spent.hits > 0
    {
        let around = (probed - bare - spent.nanoseconds as f64) / spent.hits as f64;
        meter.hit_ns = around.clamp(HIT_NS / 4.0, HIT_NS * 8.0);
        debug!(nanoseconds = around, "a hit besides its program");
    }
}

/// The child, which is ended on drop.
struct Pairs {
    process: Child,
}

impl Pairs {
    fn start() -> io::Result<Self> {
        let process = Command::new("/proc/self/exe")
            .arg("pairs")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pairs = Self { process };
        // Its first answer shows that it has started.
        pairs
            .measure()
            .ok_or_else(|| io::Error::other("the calibration program does not answer"))?;
        Ok(pairs)
    }

    /// CPU nanoseconds for [`PAIRS`] pairs.
    fn measure(&mut self) -> Option<f64> {
        self.process.stdin.as_mut()?.write_all(b"\n").ok()?;
        let mut line = String::new();
        BufReader::with_capacity(1, self.process.stdout.as_mut()?)
            .read_line(&mut line)
            .ok()?;
        line.trim().parse().ok()
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        // It may have ended already; waiting avoids a zombie in both cases.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's loop: for each line read, it allocates and frees, and prints the CPU nanoseconds.
pub fn serve_pairs() -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let begun = cpu_time();
        for _ in 0..PAIRS {
            // SAFETY: the block is freed at once and never written.
            unsafe { libc::free(black_box(libc::malloc(black_box(64)))) }
        }
        let took = cpu_time().saturating_sub(begun).as_nanos();
        println!("{took}");
        line.clear();
    }
    Ok(())
}
