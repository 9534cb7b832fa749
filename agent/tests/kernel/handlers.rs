//! `--handler`: calls of a program's own functions are requests, and their allocations belong to them.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use super::common::compile::{Program, program};
use super::common::kernel;
use super::common::process::Process;
use super::common::requests::{Observer, Seen};

const RUN: Duration = Duration::from_secs(30);
const CALLS: usize = 300;
const THREADS: usize = 4;

fn start() -> Process {
    let mut target = Process::start("handlers", &mut Command::new(program(Program::Handlers)));
    target.line(RUN, |line| line == "ready");
    target
}

#[test]
fn handlers_are_requests() {
    let Some(_turn) = kernel("handlers_are_requests") else {
        return;
    };
    let mut target = start();
    let handlers = ["--handler", "^serve::handle_(keep|drop)"];
    let mut observer = Observer::attach(target.id(), "trace", &handlers);
    target.say(&format!("go {CALLS}"));
    target.line(RUN, |line| line.starts_with("keep "));
    let calls = THREADS * CALLS;
    let seen = observer.seen(2 * calls);
    let heads: HashMap<u64, &str> = seen.iter().map(|one| (one.id, one.head.as_str())).collect();
    let twice: Vec<&Seen> = seen
        .iter()
        .filter(|one| seen.iter().filter(|other| other.id == one.id).count() > 1)
        .collect();
    assert_eq!(heads.len(), 2 * calls, "ids are unique: {twice:#?}");
    for name in ["serve::handle_keep", "serve::handle_drop"] {
        let counted = heads.values().filter(|head| head.contains(name)).count();
        assert_eq!(counted, calls, "{name}");
    }
    assert!(
        seen.iter()
            .all(|one| one.binding == "exact" && one.status.is_none())
    );

    let (_, lines) = observer.finish();
    let (mut kept, mut others) = (0, 0);
    for line in lines.iter().filter(|line| line["blocks"].is_number()) {
        let (bytes, blocks) = (line["bytes"].as_f64(), line["blocks"].as_f64());
        let (bytes, blocks) = (bytes.expect("bytes"), blocks.expect("blocks"));
        let request = line["request"].as_u64();
        if (bytes - 1009.0 * blocks).abs() < 0.5 {
            let head = request
                .and_then(|id| heads.get(&id))
                .copied()
                .unwrap_or("none");
            assert!(head.contains("serve::handle_keep"), "{line} is of {head}");
            assert_eq!(line["binding"], "exact");
            kept += blocks as usize;
        }
        if (bytes - 2003.0 * blocks).abs() < 0.5 {
            assert_eq!(request, None, "{line}");
            others += blocks as usize;
        }
    }
    assert_eq!((kept, others), (calls, calls));
}

/// An exception through a probed handler does no harm to the target.
#[test]
fn handlers_may_throw() {
    let Some(_turn) = kernel("handlers_may_throw") else {
        return;
    };
    let mut target = start();
    let handlers = ["--handler", "^serve::handle_(keep|throw)"];
    let mut observer = Observer::attach(target.id(), "watch", &handlers);
    target.say(&format!("go {CALLS} throw"));
    target.line(RUN, |line| line.starts_with("keep "));
    assert!(target.runs());
    let seen = observer.seen(2 * THREADS * CALLS);
    let threw = seen
        .iter()
        .filter(|one| one.head.contains("handle_throw"))
        .count();
    assert_eq!(threw, THREADS * CALLS);
}
