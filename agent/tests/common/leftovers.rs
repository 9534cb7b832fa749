//! What is loaded in the kernel: programs, maps and links by id, the uprobes of tracefs, and who traces system calls.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Everything that bpftool and tracefs see at one time, each as `kind id name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded(BTreeSet<String>);

impl Loaded {
    /// Reads it; `Err` says what is missing for that.
    pub(crate) fn now() -> Result<Self, String> {
        let mut all = BTreeSet::new();
        for kind in ["prog", "map", "link"] {
            let output = Command::new("bpftool").args(["-j", kind, "list"]).output();
            let output = output.map_err(|error| format!("bpftool: {error}"))?;
            let listed: Value = serde_json::from_slice(&output.stdout)
                .map_err(|error| format!("bpftool {kind} list: {error}"))?;
            for entry in listed.as_array().into_iter().flatten() {
                // bpftool itself loads a program for the time of its own run, to find holders.
                let holder = &entry["pids"][0]["comm"];
                if holder != "bpftool" {
                    all.insert(format!("{kind} {} {}", entry["id"], entry["name"]));
                }
            }
        }
        for events in [
            "/sys/kernel/tracing/uprobe_events",
            "/sys/kernel/debug/tracing/uprobe_events",
        ] {
            let text = fs::read_to_string(events).unwrap_or_default();
            all.extend(text.lines().map(|line| format!("uprobe_events {line}")));
        }
        Ok(Self(all))
    }

    /// What is there now and was not before.
    pub(crate) fn added(&self) -> Vec<String> {
        let now = Self::now().expect("it worked before");
        now.0.difference(&self.0).cloned().collect()
    }

    /// Waits until nothing is there that was not before: the kernel frees after a grace period.
    pub(crate) fn comes_back(&self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let left = self.added();
            if left.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind in the kernel: {left:#?}"
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Whether an agent holds a tracepoint that every system call of the host meets.
pub(crate) fn traces_calls(agent: u32) -> bool {
    descriptors(agent).iter().any(|text| {
        text.lines()
            .any(|line| line.starts_with("tp_name:") && line.ends_with("sys_exit"))
    })
}

/// How many links to uprobes an agent holds.
pub(crate) fn uprobe_links(agent: u32) -> usize {
    let is_link = |text: &&String| {
        text.lines()
            .any(|line| line.starts_with("link_type:") && line.ends_with("uprobe_multi"))
    };
    descriptors(agent).iter().filter(is_link).count()
}

/// What the kernel says of each descriptor of a process.
fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent runs");
    let read = entries
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()));
    read.map(Result::unwrap_or_default).collect()
}
