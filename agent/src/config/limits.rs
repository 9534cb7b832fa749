//! Numbers and filters that are well-formed but make no sense.

use std::time::Duration;

use super::{Config, Target};

/// Maximum processes at once: each has its own counters in the kernel programs up to this number
/// (`heaptide_ebpf::SLOTS`).
const MOST_PROCESSES: usize = 500;
/// `[[target]]` entries.
const MOST_TARGETS: usize = 1_000;
/// Patterns of handlers of one target.
const MOST_HANDLERS: usize = 100;
/// Maximum interval between two scans, and between two reports.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum entries of a cache: more than fit into any memory.
const MOST_ENTRIES: u64 = 1 << 40;
/// Minimum memory limit: a lower one is a mistake in the unit.
const LEAST_MEMORY: u64 = 1 << 10;
const MOST_MEMORY: u64 = 1 << 50;
/// `PID_MAX_LIMIT` of 64-bit kernels.
const MOST_PID: u32 = 1 << 22;
/// Words that are log filters by themselves.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Errors of `[agent]`, or of the number of targets: the key, and what to do.
pub(super) fn check(config: &Config) -> Result<(), (&'static str, String)> {
    let agent = &config.agent;
    let wrong = |key, message: String| Err((key, message));
    if agent.max_processes == 0 {
        let message = "max_processes is 0, so nothing would be observed; leave it out for 64";
        return wrong("max_processes", message.to_owned());
    }
    if agent.max_processes > MOST_PROCESSES {
        return wrong(
            "max_processes",
            format!(
                "max_processes is {}, more than heaptide can observe at once; write {MOST_PROCESSES} or less",
                agent.max_processes
            ),
        );
    }
    for (key, interval) in [
        ("scan_interval", agent.scan_interval),
        ("report_interval", agent.report_interval),
    ] {
        if interval > LONGEST {
            return wrong(
                key,
                format!("{key} is longer than a day; write 24h or less"),
            );
        }
    }
    if config.targets.len() > MOST_TARGETS {
        let count = config.targets.len();
        return wrong(
            "[[target]]",
            format!("{count} targets are more than {MOST_TARGETS}; use one pattern for several"),
        );
    }
    log_filter(&agent.log).map_err(|message| ("log", message))
}

/// Whether a log filter consists of levels and `module=level`. The library accepts any word as a module name, so a
/// misspelled level would log nothing.
fn log_filter(filter: &str) -> Result<(), String> {
    for one in filter.split(',').map(str::trim) {
        let (module, level) = one.rsplit_once('=').unwrap_or(("", one));
        let level = level.to_ascii_lowercase();
        let named = one.contains('=');
        let is_module = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '-';
        let good = !named || !module.is_empty() && module.chars().all(is_module);
        if !good || !LEVELS.contains(&level.as_str()) {
            return Err(format!(
                "`{}` is no log filter: write error, warn, info, debug or trace, or one per module as in \
                 `warn,heaptide=debug`",
                filter.escape_debug()
            ));
        }
    }
    Ok(())
}

/// Errors of a target.
pub(super) fn check_target(target: &Target) -> Result<(), String> {
    let name = &target.name;
    if let Some(pid) = target.pid.filter(|pid| *pid > MOST_PID) {
        return Err(format!(
            "target `{name}`: there is no pid {pid}; the largest is {MOST_PID}"
        ));
    }
    let others = [
        target.pid.is_some(),
        target.exe.is_some(),
        target.comm.is_some(),
        target.cgroup.is_some(),
    ];
    // A pattern that matches an empty command line matches any.
    let all = target
        .cmdline
        .as_ref()
        .is_some_and(|cmdline| cmdline.is_match(""));
    if all && !others.contains(&true) {
        return Err(format!(
            "target `{name}`: cmdline matches every process; use a pattern that only this \
             service matches"
        ));
    }
    if target
        .expect_cache
        .is_some_and(|entries| entries > MOST_ENTRIES)
    {
        return Err(format!(
            "target `{name}`: expect_cache is more than any memory holds; write the intended \
             number of entries"
        ));
    }
    let sensible = LEAST_MEMORY..=MOST_MEMORY;
    if let Some(bytes) = target
        .memory_limit
        .filter(|bytes| !sensible.contains(bytes))
    {
        return Err(format!(
            "target `{name}`: memory_limit of {bytes} bytes is no limit of a service; write it with its unit, as in \
             \"512MiB\""
        ));
    }
    if target.handlers.len() > MOST_HANDLERS {
        return Err(format!(
            "target `{name}`: {} handlers are more than {MOST_HANDLERS}; use one pattern for \
             several",
            target.handlers.len()
        ));
    }
    Ok(())
}
