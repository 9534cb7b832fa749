//! Rust runtimes that run requests as tasks: the first argument of the function that runs a task identifies it.

use heaptide_process::plan::wishes::{Ask, FunctionAt, ProbeWish, Wishes};
use heaptide_process::plan::{Program, Purpose};

use crate::door::Observer;

/// A logical task is run; its address is the first argument.
pub(crate) const TASK_POLL: Program = Program::at("task_poll", Purpose::Task);

/// Observes a process whose requests are tasks.
pub(crate) struct Tasks {
    /// Functions that poll tasks.
    pub(crate) polls: Vec<FunctionAt>,
}

impl Observer for Tasks {
    fn probes(&self, _: bool) -> Wishes {
        let polls = self.polls.iter();
        Wishes {
            probes: polls
                .map(|function| ProbeWish {
                    function: function.clone(),
                    ask: Ask::FirstArgument(TASK_POLL),
                })
                .collect(),
            ..Wishes::default()
        }
    }
}
