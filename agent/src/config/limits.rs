//! Numbers and filters that can be read but make no sense.

use std::fs;
use std::path::Path;
use std::time::Duration;

use regex::Regex;

/// Processes at once: each has counters of its own in the kernel half up to this number (`heaptide_ebpf::SLOTS`).
const MOST_PROCESSES: usize = 500;
/// `[[target]]` entries.
const MOST_TARGETS: usize = 1_000;
/// Patterns of handlers of one target.
const MOST_HANDLERS: usize = 100;
/// Between two looks, and between two reports.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of a cache: more than fit into any memory.
const MOST_ENTRIES: u64 = 1 << 40;
/// A limit of memory below this is a mistake in the unit, and no service runs in it.
const LEAST_MEMORY: u64 = 1 << 10;
const MOST_MEMORY: u64 = 1 << 50;
/// `PID_MAX_LIMIT` of 64-bit kernels.
const MOST_PID: u32 = 1 << 22;
/// Words that are filters of a log by themselves.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Numbers and filters of `[agent]`.
pub(super) struct OfAgent<'a> {
    pub(super) max_processes: usize,
    /// By their keys.
    pub(super) intervals: [(&'static str, Duration); 2],
    pub(super) log: &'a str,
    pub(super) state: Option<&'a Path>,
    /// How many targets there are.
    pub(super) targets: usize,
}

/// Numbers and filters of a target.
pub(super) struct OfTarget<'a> {
    pub(super) name: &'a str,
    pub(super) pid: Option<u32>,
    pub(super) cmdline: Option<&'a Regex>,
    /// Something else than its command line selects it.
    pub(super) selected: bool,
    pub(super) expect_cache: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) handlers: usize,
}

/// What is wrong: the key, and what to do.
pub(super) fn check(agent: &OfAgent<'_>) -> Result<(), (&'static str, String)> {
    let wrong = |key, message: String| Err((key, message));

    if let Some(state) = agent
        .state
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()))
    {
        return wrong(
            "state",
            format!(
                "state `{}` is not a regular file; name a file that heaptide may create, such as \
                 /var/lib/heaptide/state.json",
                state.display()
            ),
        );
    }
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
    for (key, interval) in agent.intervals {
        if interval > LONGEST {
            return wrong(
                key,
                format!("{key} is longer than a day; write 24h or less"),
            );
        }
    }
    if agent.targets > MOST_TARGETS {
        let count = agent.targets;
        return wrong(
            "[[target]]",
            format!("{count} targets are more than {MOST_TARGETS}; let one pattern match several"),
        );
    }
    log_filter(agent.log).map_err(|message| ("log", message))
}

/// Whether a log filter is made of levels and of `module=level`. The library that reads it takes any word for the name
/// of a module, so a misspelt level would log nothing.
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

/// What is wrong with a target.
pub(super) fn check_target(target: &OfTarget<'_>) -> Result<(), String> {
    let name = target.name;
    if let Some(pid) = target.pid.filter(|pid| *pid > MOST_PID) {
        return Err(format!(
            "target `{name}`: there is no pid {pid}; the largest is {MOST_PID}"
        ));
    }
    // A pattern that matches an empty command line matches any.
    let all = target.cmdline.is_some_and(|cmdline| cmdline.is_match(""));
    if all && !target.selected {
        return Err(format!(
            "target `{name}`: cmdline matches every process; name something that only this service has"
        ));
    }
    if target
        .expect_cache
        .is_some_and(|entries| entries > MOST_ENTRIES)
    {
        return Err(format!(
            "target `{name}`: expect_cache is more than any memory holds; write how many entries the cache may have"
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
    if target.handlers > MOST_HANDLERS {
        return Err(format!(
            "target `{name}`: {} handlers are more than {MOST_HANDLERS}; let one pattern match several",
            target.handlers
        ));
    }
    Ok(())
}
