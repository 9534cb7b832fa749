//! An agent's objects in the kernel: its programs, maps, links and types by id, whether they are freed after its end,
//! and which agents trace system calls. Only objects of one agent are examined, because others may run on the same
//! machine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use super::process::Process;
use super::until;

/// Deadline for the kernel to free objects: it waits for a grace period, which is long on a busy machine.
const FREED: Duration = Duration::from_secs(30);

/// The name of an id in a descriptor's `fdinfo`, and the command of bpf(2) that opens an object by it.
const KINDS: [(&str, u32); 4] = [
    ("prog_id", 13),
    ("map_id", 14),
    ("btf_id", 19),
    ("link_id", 30),
];

/// The objects of one agent. The kernel assigns ids in ascending order, so a freed id is not reused soon.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    agent: u32,
    ids: BTreeSet<(&'static str, u32)>,
}

impl Held {
    /// The objects that an agent has now. None if it has ended.
    pub(crate) fn by(agent: u32) -> Self {
        let mut ids = BTreeSet::new();
        for text in descriptors(agent).unwrap_or_default() {
            for line in text.lines() {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                let kind = KINDS.iter().find(|(kind, _)| *kind == name);
                if let (Some((kind, _)), Ok(id)) = (kind, value.trim().parse()) {
                    ids.insert((*kind, id));
                }
            }
        }
        Self { agent, ids }
    }

    /// All objects that an agent has until it ends by itself, for example because its start fails. There may be none.
    pub(crate) fn in_the_life_of(agent: &mut Process, within: Duration) -> Self {
        let mut all = Self::by(agent.id());
        until(within, "the agent ends", || {
            all.ids.extend(Self::by(agent.id()).ids);
            !agent.runs()
        });
        all
    }

    /// Whether there are objects of each kind that an agent with probes has. Otherwise `goes` would prove nothing.
    pub(crate) fn is_complete(&self) -> bool {
        let has = |wanted: &str| self.ids.iter().any(|(kind, _)| *kind == wanted);
        has("prog_id") && has("map_id") && has("link_id")
    }

    /// Waits until the kernel has freed all of them.
    pub(crate) fn goes(&self) {
        until(FREED, "the kernel has freed the agent's objects", || {
            let left = self.left();
            if !left.is_empty() {
                eprintln!("still in the kernel: {left:?}");
            }
            left.is_empty()
        });
    }

    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .ids
            .iter()
            .filter(|(kind, id)| is_loaded(kind, *id))
            .map(|(kind, id)| format!("{kind} {id}"))
            .collect();
        // Aya's names of probes in this file. It uses the file on kernels that have no other way to make uprobes.
        let own = format!("aya_{}_", self.agent);
        let events = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
        left.extend(
            events
                .lines()
                .filter(|line| line.contains(&own))
                .map(str::to_owned),
        );
        left
    }
}

/// Whether the kernel still has an object of this id. Opening it keeps it alive only for the duration of this call.
fn is_loaded(kind: &str, id: u32) -> bool {
    let command = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .map(|row| row.1);
    let command = command.expect("one of the kinds");
    let attributes = [id, 0, 0];
    // SAFETY: the pointer and length describe `attributes`, which the kernel only reads.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if descriptor < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{kind} {id}");
        return false;
    }
    // SAFETY: the descriptor was just created and is used nowhere else.
    unsafe { libc::close(descriptor as i32) };
    true
}

/// Whether an agent holds a tracepoint that every system call of the host runs.
pub(crate) fn traces_calls(agent: u32) -> bool {
    let all = descriptors(agent).expect("the agent runs");
    all.iter().any(|text| {
        text.lines()
            .any(|line| line.starts_with("tp_name:") && line.ends_with("sys_exit"))
    })
}

/// Number of links to uprobes that an agent holds.
pub(crate) fn uprobe_links(agent: u32) -> usize {
    let is_link = |text: &&String| {
        text.lines()
            .any(|line| line.starts_with("link_type:") && line.ends_with("uprobe_multi"))
    };
    let all = descriptors(agent).expect("the agent runs");
    all.iter().filter(is_link).count()
}

/// The `fdinfo` of each descriptor of a process.
fn descriptors(pid: u32) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))?;
    let read = entries
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()));
    Ok(read.map(Result::unwrap_or_default).collect())
}
