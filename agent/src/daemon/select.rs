//! Matches targets with running processes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::Target;
use heaptide_judge::events::Workload;
use heaptide_process::workload;

/// Properties of a process from `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Parent.
    pub ppid: u32,
    /// Name, at most 15 bytes.
    pub comm: String,
    /// Path of the executable, without ` (deleted)`; empty for kernel threads and if access is denied.
    pub exe: String,
    /// Arguments joined by spaces; empty for kernel threads and zombies.
    pub cmdline: String,
    /// Unit, container and pod, from the control group.
    pub workload: Workload,
    /// Control group: the path in the unified hierarchy, or else that of the memory controller.
    pub cgroup: String,
}

/// Identity of a process: unlike a pid it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// A process to observe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// Its identity.
    pub identity: Identity,
    /// Name of the target that selected it.
    pub target: String,
    /// Its executable: after an exec, probes and symbols must be chosen again.
    pub exe: String,
}

/// Required changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Processes to attach to, by identity.
    pub attach: Vec<Selected>,
    /// Processes to detach from: ended, replaced, or no longer selected. Done before attaching, because
    /// a process after an exec is in both lists.
    pub detach: Vec<Selected>,
    /// Selected processes above the limit.
    pub left_out: Vec<Selected>,
}

impl ProcessFacts {
    /// Its identity.
    pub fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            start_ticks: self.start_ticks,
        }
    }
}

impl Target {
    /// Whether all given selectors match.
    pub fn matches(&self, process: &ProcessFacts) -> bool {
        self.pid.is_none_or(|pid| pid == process.pid)
            && self
                .exe
                .as_ref()
                .is_none_or(|exe| exe_matches(exe, &process.exe))
            && self.comm.as_ref().is_none_or(|comm| *comm == process.comm)
            && self
                .cmdline
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&process.cmdline))
            && self
                .cgroup
                .as_ref()
                .is_none_or(|cgroup| within(&process.cgroup, cgroup))
            && self
                .unit
                .as_ref()
                .is_none_or(|unit| workload::is_unit(&process.workload, unit))
            && self
                .container
                .as_ref()
                .is_none_or(|id| workload::is_container(&process.workload, id))
    }
}

/// A path matches completely, a name the last component of the path.
fn exe_matches(wanted: &str, exe: &str) -> bool {
    if wanted.contains('/') {
        return wanted == exe;
    }
    Path::new(exe)
        .file_name()
        .is_some_and(|name| name.as_bytes() == wanted.as_bytes())
}

/// Whether a control group is `above` or below it, by whole path components.
fn within(cgroup: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    cgroup
        .strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The processes of `seen` to observe: those that a target matches, and their forked workers. The first
/// matching target gets a process. `own_pid` is never included.
pub fn select(targets: &[Target], seen: &[ProcessFacts], own_pid: u32) -> Vec<Selected> {
    let by_pid: BTreeMap<u32, &ProcessFacts> =
        seen.iter().map(|process| (process.pid, process)).collect();
    let matching = |process: &ProcessFacts| targets.iter().find(|target| target.matches(process));
    let mut selected = Vec::new();
    for process in seen
        .iter()
        .filter(|process| is_observable(process, own_pid))
    {
        let target = matching(process).or_else(|| inherited(process, &by_pid, &matching, own_pid));
        if let Some(target) = target {
            selected.push(Selected {
                identity: process.identity(),
                target: target.name.clone(),
                exe: process.exe.clone(),
            });
        }
    }
    selected.sort();
    selected
}

/// Kernel threads and zombies have no arguments and no memory.
fn is_observable(process: &ProcessFacts, own_pid: u32) -> bool {
    process.pid != own_pid && !(process.cmdline.is_empty() && process.exe.is_empty())
}

/// The target of the nearest matching ancestor, through forks only: a child with another executable is
/// a helper (a shell, a converter), not a worker.
fn inherited<'a>(
    process: &ProcessFacts,
    by_pid: &BTreeMap<u32, &ProcessFacts>,
    matching: &impl Fn(&ProcessFacts) -> Option<&'a Target>,
    own_pid: u32,
) -> Option<&'a Target> {
    let mut child = process;
    // Parents are older than their children; the set protects against cycles from pid reuse during the
    // scan.
    let mut visited = BTreeSet::from([process.pid]);
    loop {
        let parent = *by_pid.get(&child.ppid)?;
        let forked = if process.exe.is_empty() {
            parent.exe.is_empty() && parent.comm == child.comm
        } else {
            parent.exe == child.exe
        };
        let older = parent.start_ticks <= child.start_ticks;
        if !forked || !older || !is_observable(parent, own_pid) || !visited.insert(parent.pid) {
            return None;
        }
        if let Some(target) = matching(parent) {
            return target.follow_children.then_some(target);
        }
        child = parent;
    }
}

/// What to attach and detach to get from `current` to `wanted`, at most `limit` processes. Already
/// observed processes have priority, then older ones, which are the masters.
pub fn reconcile(current: &[Selected], wanted: &[Selected], limit: usize) -> Changes {
    let current: BTreeSet<&Selected> = current.iter().collect();
    let wanted: BTreeSet<&Selected> = wanted.iter().collect();
    let detach: Vec<Selected> = current
        .difference(&wanted)
        .map(|one| (*one).clone())
        .collect();
    let mut attach: Vec<Selected> = wanted
        .difference(&current)
        .map(|one| (*one).clone())
        .collect();
    attach.sort_by_key(|one| (one.identity.start_ticks, one.identity.pid));
    let room = limit.saturating_sub(current.len() - detach.len());
    let left_out = attach.split_off(room.min(attach.len()));
    Changes {
        attach,
        detach,
        left_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<Target> {
        crate::config::parse(text, Path::new("h.toml"))
            .unwrap()
            .targets
    }

    fn process(pid: u32, parent: u32, exe: &str, cmdline: &str) -> ProcessFacts {
        ProcessFacts {
            pid,
            start_ticks: u64::from(pid) * 10,
            ppid: parent,
            comm: exe.rsplit('/').next().unwrap_or_default().to_owned(),
            exe: exe.to_owned(),
            cmdline: cmdline.to_owned(),
            workload: workload::parse("0::/system.slice/api.service"),
            cgroup: "/system.slice/api.service".to_owned(),
        }
    }

    fn pids(targets: &[Target], seen: &[ProcessFacts]) -> Vec<(u32, String)> {
        let selected = select(targets, seen, 999);
        selected
            .into_iter()
            .map(|one| (one.identity.pid, one.target))
            .collect()
    }

    #[test]
    fn each_selector_and_all_of_them() {
        let api = process(17, 1, "/usr/bin/api", "api --port 80");
        let matches = |selectors: &str| {
            targets(&format!("[[target]]\nname = \"a\"\n{selectors}"))[0].matches(&api)
        };
        for good in [
            "pid = 17",
            "exe = \"/usr/bin/api\"",
            "exe = \"api\"",
            "comm = \"api\"",
            "cmdline = '--port \\d+'",
            "cgroup = \"/system.slice/api.service\"",
            "cgroup = \"/system.slice/\"",
            "cgroup = \"/\"",
            "unit = \"api\"",
            "unit = \"api.service\"",
            "pid = 17\nexe = \"api\"",
        ] {
            assert!(matches(good), "{good}");
        }
        for bad in [
            "pid = 18",
            "exe = \"/bin/api\"",
            "exe = \"bin/api\"",
            "exe = \"ap\"",
            "comm = \"ap\"",
            "cmdline = '^--port'",
            "cgroup = \"/system.slice/api\"",
            "cgroup = \"/user.slice\"",
            "unit = \"ap\"",
            "container = \"0123456789ab\"",
            "pid = 17\nexe = \"other\"",
        ] {
            assert!(!matches(bad), "{bad}");
        }
    }

    #[test]
    fn the_first_target_that_matches_has_a_process() {
        let targets = targets(
            "[[target]]\nname = \"one\"\ncmdline = 'a'\n[[target]]\nname = \"two\"\nexe = \"b\"\n",
        );
        let seen = [
            process(1, 0, "/b", "a"),
            process(2, 0, "/b", "b"),
            process(3, 0, "/c", "c"),
        ];
        assert_eq!(
            pids(&targets, &seen),
            [(1, "one".into()), (2, "two".into())]
        );
    }

    #[test]
    fn forked_workers_are_followed_and_helpers_are_not() {
        let text = "[[target]]\nname = \"web\"\ncmdline = 'master'\n";
        let seen = [
            process(10, 1, "/usr/bin/python3", "gunicorn: master"),
            process(11, 10, "/usr/bin/python3", "gunicorn: worker"),
            process(12, 11, "/usr/bin/python3", "multiprocessing"),
            process(13, 11, "/bin/sh", "sh -c convert"),
            process(14, 13, "/usr/bin/python3", "another"),
            process(15, 1, "/usr/bin/python3", "unrelated"),
        ];
        let of = |pids: &[u32]| {
            pids.iter()
                .map(|p| (*p, "web".to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(pids(&targets(text), &seen), of(&[10, 11, 12]));
        let alone = format!("{text}follow_children = false\n");
        assert_eq!(pids(&targets(&alone), &seen), of(&[10]));
    }

    #[test]
    fn a_table_that_was_read_too_slowly_does_not_confuse() {
        let targets = targets("[[target]]\nname = \"a\"\ncmdline = 'x'\n");
        // A cycle of parents, a parent younger than its child, and a missing parent.
        let mut loops = [process(5, 6, "/b", "b"), process(6, 5, "/b", "b")];
        loops[0].start_ticks = 60;
        assert_eq!(pids(&targets, &loops), []);
        let reused = [process(9, 1, "/b", "x"), process(8, 9, "/b", "b")];
        assert_eq!(pids(&targets, &reused), [(9, "a".into())]);
        assert_eq!(pids(&targets, &[process(9, 77, "/b", "b")]), []);
    }

    #[test]
    fn neither_itself_nor_kernel_threads() {
        let targets = targets("[[target]]\nname = \"a\"\ncgroup = \"/\"\n");
        let seen = [
            process(999, 1, "/heaptide", "heaptide run"),
            process(2, 0, "", ""),
        ];
        assert_eq!(pids(&targets, &seen), []);
        // Its own forks are excluded too.
        let own = [process(999, 1, "/h", "h x"), process(1000, 999, "/h", "h")];
        let targets = super::tests::targets("[[target]]\nname = \"a\"\ncmdline = 'x'\n");
        assert_eq!(pids(&targets, &own), []);
    }

    fn selected(pid: u32, start_ticks: u64, exe: &str) -> Selected {
        Selected {
            identity: Identity { pid, start_ticks },
            target: "a".to_owned(),
            exe: exe.to_owned(),
        }
    }

    #[test]
    fn restarts_reused_pids_and_execs_are_new_processes() {
        let old = [
            selected(1, 10, "/a"),
            selected(2, 20, "/a"),
            selected(3, 30, "/a"),
        ];
        let new = [
            selected(2, 99, "/a"),
            selected(3, 30, "/b"),
            selected(4, 40, "/a"),
        ];
        let changes = reconcile(&old, &new, 64);
        assert_eq!(changes.detach, old);
        assert_eq!(
            changes.attach,
            [
                selected(3, 30, "/b"),
                selected(4, 40, "/a"),
                selected(2, 99, "/a")
            ]
        );
        assert_eq!(reconcile(&new, &new, 64), Changes::default());
        assert_eq!(reconcile(&[], &[], 0), Changes::default());
    }

    #[test]
    fn the_limit_keeps_what_is_observed_and_prefers_the_older() {
        let current = [selected(5, 50, "/a")];
        let wanted = [
            selected(7, 20, "/a"),
            selected(5, 50, "/a"),
            selected(6, 30, "/a"),
        ];
        let changes = reconcile(&current, &wanted, 2);
        assert_eq!(changes.attach, [selected(7, 20, "/a")]);
        assert_eq!(changes.left_out, [selected(6, 30, "/a")]);
        assert!(changes.detach.is_empty());
    }
}
