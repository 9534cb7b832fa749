//! One observation: a service under load, heaptide attached to it, and the counts of both.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::catalog::{Service, Variant, row_name};
use super::{http, service};
use crate::process::{self, as_root, root};

/// Memory limit above the initial usage. Small, so that the growth budget (5 % of it) is reached within a
/// minute and `confirmed` is possible.
const HEADROOM: u64 = 64 << 20;

/// How to observe.
pub(crate) struct Settings {
    pub(crate) duration: u64,
    /// heaptide's mode, instead of the service's default.
    pub(crate) mode: Option<String>,
    pub(crate) rate: u32,
    /// Print heaptide's text report.
    pub(crate) text: bool,
    /// Use the release build of heaptide, not the one of the tests.
    pub(crate) release: bool,
    /// Memory limit above the initial usage, bytes; `None`: the service's, or the lab's.
    pub(crate) headroom: Option<u64>,
    /// Where to write the report as a page.
    pub(crate) page: Option<PathBuf>,
}

impl Settings {
    /// The folder for reports, so that several runs of one row do not overwrite each other's.
    fn folder(&self) -> String {
        let mode = self.mode.as_deref().unwrap_or("default");
        format!("{mode}-{}-{}s", self.rate, self.duration)
    }
}

/// How long memory must last for `no_leak`: the services have little room, so that leaks are confirmed soon.
pub(crate) const HORIZON: &str = "1h";

/// Reports of heaptide, the service and the load generator.
pub(crate) struct Observed {
    /// heaptide's report.
    pub(crate) report: Value,
    /// The service's counts at the attach and at the end.
    pub(crate) before: Value,
    pub(crate) after: Value,
    /// The load generator's counts.
    pub(crate) load: Value,
}

/// `60s` or `60`.
pub(crate) fn seconds(text: &str) -> Result<u64> {
    text.strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .with_context(|| format!("{text:?} is not seconds"))
}

/// The release build of heaptide, as root.
pub(crate) fn heaptide() -> Command {
    as_root(crate::build::program(true))
}

/// Starts the variant, drives it, attaches and collects.
pub(crate) fn observe(from: &Service, variant: &Variant, settings: &Settings) -> Result<Observed> {
    // Kept for later inspection.
    let folder = root()
        .join("target/lab")
        .join(row_name(from, variant).replace('/', "-"))
        .join(settings.folder());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let report_path = folder.join("report.json");
    let load_path = folder.join("load.json");
    let mut started = service::start(from, &variant.name)?;
    // The load ends a little after heaptide, because attaching takes time.
    let load_seconds = variant.warm_up + settings.duration + 8;
    let mut load = service::load(
        started.port,
        settings.rate,
        load_seconds,
        &load_path,
        &service::load_words(from, variant),
    )?;
    thread::sleep(Duration::from_secs(variant.warm_up));
    ensure!(load.is_alive(), "the load generator ended early");

    let pid = started.process.pid();
    let of_service = from.headroom_mib.map(|mib| mib << 20);
    let headroom = settings.headroom.or(of_service);
    let limit = service::rss(pid)? + headroom.unwrap_or(HEADROOM);
    let before = http::truth(started.port)?;
    let mode = settings.mode.as_ref().unwrap_or(&from.mode);
    let mut attach = as_root(crate::build::program(settings.release));
    attach
        .args(["attach", &pid.to_string(), "--mode", mode])
        .args(["--for", &format!("{}s", settings.duration)])
        .args(["--memory-limit", &limit.to_string()])
        .args(["--horizon", HORIZON])
        .arg("--output")
        .arg(&report_path)
        .args(["--format", "json"]);
    if let Some(page) = &settings.page {
        attach.arg("--html").arg(page);
    }
    if !settings.text {
        attach.stdout(Stdio::null());
    }
    process::run(&mut attach)?;
    let after = http::truth(started.port)?;
    if !started.process.is_alive() {
        bail!("the service did not survive");
    }
    load.wait().context("the load generator")?;
    Ok(Observed {
        report: read(&report_path)?,
        before,
        after,
        load: read(&load_path)?,
    })
}

fn read(path: &std::path::Path) -> Result<Value> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

impl Observed {
    /// Bytes that the entries of the service's container kept during the observation per `of`, without the
    /// container's own table, which grows by doubling and belongs to no single entry.
    pub(crate) fn kept_per(&self, of: f64) -> Option<f64> {
        let grown = number(&self.after, "entry_bytes")? - number(&self.before, "entry_bytes")?;
        (of > 0.0).then(|| grown / of)
    }

    /// Number of entries, or requests of a route, added during the observation.
    pub(crate) fn grown(&self, path: &str) -> Option<f64> {
        Some(self.after.pointer(path)?.as_f64()? - self.before.pointer(path)?.as_f64()?)
    }
}

fn number(value: &Value, name: &str) -> Option<f64> {
    value.get(name)?.as_f64()
}
