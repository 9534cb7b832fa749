//! What the probes cost on this host: a child of heaptide allocates and frees, first without and then
//! with probes.

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
use crate::overhead::meter::{HIT_NS, Meter};

/// Pairs per measurement.
const PAIRS: u32 = 3_000;
/// Set by tests that look at no costs, so that the agent starts sooner.
const SWITCH: &str = "HEAPTIDE_UNCALIBRATED";
/// Measurements with probes: the first ones teach the kernel its unwind rules, the last one counts.
const ROUNDS: u32 = 4;

/// Measures the CPU time that an allocation and its free cost a target with the present options,
/// in nanoseconds, and keeps it for the cost that is reported. A host that refuses the child only leaves the cost
/// unknown (0).
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
    // Each probe takes the kernel a tenth of a second to take off: only those that are used.
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
        // Then allocators are not probed anyway, and a hit is taken to cost what it mostly does.
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

/// How long it takes to get to a program and back: what a hit costs less what the kernel says its program does.
fn calibrate_hit(host: &mut Host, meter: &mut Meter, child: &mut Pairs, bare: f64) {
    let Ok(measuring) = host.kernel.measure(true) else {
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

/// The child: ended when dropped.
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
        // Its first answer says that it is past its start.
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
        // It may have ended already; waiting leaves no zombie either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child does: for every line read, allocates and frees, and prints the nanoseconds of CPU
/// time it took.
pub fn serve_pairs() -> io::Result<()> {
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let begun = cpu_time();
        for _ in 0..PAIRS {
            // SAFETY: a block that is freed at once and never written.
            unsafe { libc::free(black_box(libc::malloc(black_box(64)))) }
        }
        let took = cpu_time().saturating_sub(begun).as_nanos();
        println!("{took}");
        line.clear();
    }
    Ok(())
}
