//! Throughput of a service under full load over a whole cycle of heaptide: a window in which every request is
//! traced, and the following pause.

use std::cmp::Ordering;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::cpu;
use super::request_cost::median;
use crate::lab::catalog::Service;
use crate::lab::{http, observe, service};

/// A full cache: it has entries to read, and does not grow from round to round.
const VARIANT: &str = "lru-1024";
const FILLING: Duration = Duration::from_secs(5);
/// Duration without heaptide, before and after it.
const PLAIN: Duration = Duration::from_secs(60);
/// Time for heaptide's start, and for the server to settle after a change.
const SETTLE: Duration = Duration::from_secs(4);
/// Interval of reading the number of requests served.
const SAMPLE: Duration = Duration::from_secs(1);

/// How to measure.
#[derive(Clone, Copy, clap::Args)]
pub(super) struct Cycles {
    /// Cycles of each service and mode.
    #[arg(long = "cycles", default_value_t = 1)]
    number: usize,
    /// Seconds that heaptide is attached. A longer pause is cut, which is to its disadvantage.
    #[arg(long, default_value_t = 420)]
    seconds: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 8)]
    connections: u32,
}

/// Throughput relative to that without heaptide.
#[derive(Clone, Copy)]
pub(super) struct Ratios {
    /// While every request is traced.
    pub(super) window: f64,
    /// In the first pause; NaN if there was none.
    pub(super) pause: f64,
    /// From the attach to the end of the last pause.
    pub(super) whole: f64,
    /// Duration in seconds.
    pub(super) seconds: f64,
    /// CPU time of heaptide itself in the pause, as a fraction of one core; NaN if there was none.
    pub(super) own: f64,
}

impl Ratios {
    /// Whether the whole is at least `limit`; NaN is not.
    pub(super) fn hold(&self, limit: f64) -> bool {
        self.whole.partial_cmp(&limit).is_some_and(Ordering::is_ge)
    }
}

/// Requests served so far, and CPU seconds of heaptide.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    served: f64,
    own: f64,
}

/// A line of heaptide's log, and its time.
type Said = (Instant, String);

/// The medians over the cycles.
pub(super) fn measure(measured: &Service, how: &Cycles, mode: &str) -> Result<Ratios> {
    let server = service::start(measured, VARIANT)?;
    let pid = server.process.pid();
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let attached = Duration::from_secs(how.seconds);
    let cycle = attached + 2 * PLAIN + 3 * SETTLE;
    let total = FILLING + cycle * u32::try_from(how.number)?;
    let words = ["--closed-loop".to_owned(), "--connections".to_owned()];
    let mut load = service::load(
        server.port,
        1,
        total.as_secs() + 10,
        &folder.path().join("load.json"),
        &[&words[..], &[how.connections.to_string()]].concat(),
    )?;
    thread::sleep(FILLING);
    println!("\n{}/{VARIANT}, mode {mode}", measured.name);
    println!(
        "{:>6} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "cycle", "before/s", "after/s", "window", "pause", "whole", "seconds", "own CPU"
    );
    let mut all = Vec::new();
    for number in 1..=how.number {
        let before = throughput(server.port, PLAIN)?;
        let (samples, said) = observed(pid, server.port, attached, mode)?;
        thread::sleep(SETTLE);
        let after = throughput(server.port, PLAIN)?;
        ensure!(load.is_alive(), "the load generator ended early");
        let one = ratios(&samples, &said, f64::midpoint(before, after))?;
        println!(
            "{number:>6} {before:>9.0} {after:>9.0} {:>8.3} {:>8.3} {:>8.3} {:>8.0} {:>7.2} %",
            one.window,
            one.pause,
            one.whole,
            one.seconds,
            one.own * 100.0
        );
        all.push(one);
    }
    let of = |field: fn(&Ratios) -> f64| median(all.iter().map(field).collect());
    Ok(Ratios {
        window: of(|one| one.window),
        pause: of(|one| one.pause),
        whole: of(|one| one.whole),
        seconds: of(|one| one.seconds),
        own: of(|one| one.own),
    })
}

/// Requests served while heaptide was attached, and its log with times.
fn observed(
    pid: u32,
    port: u16,
    attached: Duration,
    mode: &str,
) -> Result<(Vec<Sample>, Vec<Said>)> {
    let mut agent = observe::heaptide()
        .args(["attach", &pid.to_string(), "--mode", mode])
        .args(["--for", &format!("{}s", attached.as_secs())])
        .args(["--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start heaptide")?;
    let lines = agent.stderr.take().context("no standard error")?;
    let (sender, said): (_, Receiver<Said>) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    let sudo = agent.id();
    let sample = || -> Result<Sample> {
        let own = cpu::heaptide_below(sudo).and_then(|own| cpu::time(own).ok());
        Ok(Sample {
            at: Instant::now(),
            served: served(port)?,
            own: own.unwrap_or_default().as_secs_f64(),
        })
    };
    let mut samples = vec![sample()?];
    while agent
        .try_wait()
        .context("cannot wait for heaptide")?
        .is_none()
    {
        thread::sleep(SAMPLE);
        samples.push(sample()?);
    }
    let status = agent.wait().context("cannot wait for heaptide")?;
    let _ = reader.join();
    let said: Vec<Said> = said.into_iter().collect();
    if !status.success() {
        let last = said.last().map_or("", |line| line.1.as_str());
        bail!("heaptide failed ({status}): {last}");
    }
    Ok((samples, said))
}

fn ratios(samples: &[Sample], said: &[Said], plain: f64) -> Result<Ratios> {
    let begun = samples.first().context("there are no samples")?.at;
    let end = samples.last().context("there are no samples")?.at;
    let when = |words: &str, after: Instant| {
        let mut lines = said.iter().filter(|(at, _)| *at > after);
        lines
            .find(|(_, line)| line.contains(words))
            .map(|line| line.0)
    };
    let off = when("request tracing is paused", begun);
    let on = off.and_then(|off| when("request tracing is on", off));
    let over = on.unwrap_or(end);
    // Later cycles are part of the whole, because some costs occur only at the start.
    let last_on = said
        .iter()
        .rfind(|(_, line)| line.contains("request tracing is on"));
    let whole = last_on.map_or(end, |line| line.0);
    let requests = |sample: &Sample| sample.served;
    let ratio = |from: Instant, to: Instant| rate(samples, from, to, requests) / plain;
    // At its end it is gone, and its CPU time cannot be read.
    let last = end.checked_sub(SETTLE).map_or(over, |end| over.min(end));
    Ok(Ratios {
        window: ratio(begun + SETTLE, off.unwrap_or(end)),
        pause: off.map_or(f64::NAN, |off| ratio(off + SETTLE, over)),
        whole: ratio(begun, whole),
        seconds: (whole - begun).as_secs_f64(),
        own: off.map_or(f64::NAN, |off| {
            rate(samples, off + SETTLE, last, |sample| sample.own)
        }),
    })
}

/// Growth of a quantity per second between two times.
fn rate(samples: &[Sample], from: Instant, to: Instant, what: impl Fn(&Sample) -> f64) -> f64 {
    let mut inside = samples
        .iter()
        .filter(|sample| (from..=to).contains(&sample.at));
    match (inside.next(), inside.next_back()) {
        (Some(first), Some(last)) => {
            (what(last) - what(first)) / (last.at - first.at).as_secs_f64()
        }
        _ => f64::NAN,
    }
}

/// Requests per second over some time, from the service's own counters. It is queried as often as with heaptide,
/// because each answer takes it some milliseconds.
fn throughput(port: u16, duration: Duration) -> Result<f64> {
    let (before, began) = (served(port)?, Instant::now());
    let mut after = before;
    while began.elapsed() < duration {
        thread::sleep(SAMPLE);
        after = served(port)?;
    }
    Ok((after - before) / began.elapsed().as_secs_f64())
}

fn served(port: u16) -> Result<f64> {
    http::truth(port)?["total_requests"]
        .as_f64()
        .context("/truth has no total_requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_a_window_and_a_pause() {
        let begun = Instant::now();
        let at = |second: u64| begun + Duration::from_secs(second);
        // 50 a second for 30 s, then 100.
        let samples: Vec<Sample> = (0..=120)
            .map(|second| Sample {
                at: at(second),
                served: (50 * second + 50 * second.saturating_sub(30)) as f64,
                own: 0.5 * second as f64,
            })
            .collect();
        let said = [
            (at(30), "INFO request tracing is paused pid=1".to_owned()),
            (at(90), "INFO request tracing is on pid=1".to_owned()),
            (at(100), "INFO request tracing is paused pid=1".to_owned()),
            (at(110), "INFO request tracing is on pid=1".to_owned()),
        ];
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}");
        let one = ratios(&samples, &said, 100.0).expect("ratios");
        near(one.window, 0.5);
        near(one.pause, 1.0);
        near(one.whole, (30.0 * 50.0 + 80.0 * 100.0) / 11_000.0);
        near(one.seconds, 110.0);
        near(one.own, 0.5);
        let none = ratios(&samples, &[], 100.0).expect("ratios");
        assert!(none.pause.is_nan());
        near(none.seconds, 120.0);
    }
}
