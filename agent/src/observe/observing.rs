//! What a session drives: the observation of processes, with or without kernel programs.

use std::collections::BTreeMap;
use std::time::Duration;

use heaptide_judge::events::Opinion;

use super::host::{Sink, SourceError};
use super::options::TargetOptions;

/// Observes processes.
pub trait Observing: Send {
    /// Starts to observe a process with the default options.
    fn attach(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError>;

    /// The same with options for this process.
    fn attach_with(
        &mut self,
        pid: u32,
        options: TargetOptions,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError>;

    /// Follows existing children that run the same program: the workers of a pre-forking server.
    fn follow_children(&mut self, pid: u32, sink: &mut Sink<'_>);

    /// The children followed since the last call, each with its parent.
    fn take_followed(&mut self) -> Vec<(u32, u32)>;

    /// Ends the observation of a process.
    fn detach(&mut self, pid: u32);

    /// Whether a process that is observed has ended.
    fn ended(&self, pid: u32) -> bool;

    /// Limitations of this host.
    fn limitations(&self) -> Vec<String>;

    /// Waits until there is something to process, or for `timeout`.
    fn wait(&self, timeout: Duration);

    /// Processes what has arrived: requests, process events, stacks.
    fn pump(&mut self, sink: &mut Sink<'_>);

    /// Reads memory and losses of every process, and applies the budgets. Called every second.
    fn sample(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError>;

    /// Reports snapshots of live blocks, unless the last one was so expensive that the next is not due yet. Returns
    /// whether it did.
    fn snapshot(&mut self, sink: &mut Sink<'_>) -> Result<bool, SourceError>;

    /// The same, due or not.
    fn snapshot_now(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError>;

    /// The counters of all processes by name, since the calibration.
    fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError>;

    /// Whether the judge's opinion of a process is needed now.
    fn wants_opinion(&self, pid: u32) -> bool;

    /// Sets the judge's opinion of a process's window.
    fn set_opinion(&mut self, pid: u32, opinion: Opinion);
}
