//! The agent's live blocks, compared with the books of a program that uses all allocation functions. Bytes and blocks
//! of each allocating function are equal, with and without frame pointers.

use std::collections::HashMap;

use super::common::books::{Target, near};
use super::common::truth::{self, RUN};
use super::common::{Watched, kernel, watch, watch_in};
use heaptide_judge::capture::replay;
use heaptide_judge::events::Returned;
use heaptide_judge::pipeline::JudgeOptions;

#[test]
fn with_frame_pointers() {
    let Some(_turn) = kernel("with_frame_pointers") else {
        return;
    };
    let (mut target, mut watched) = start(true);
    let books = target.run("go");
    watched.finish();
    target.agrees(&watched, &books);
}

#[test]
fn without_frame_pointers() {
    let Some(_turn) = kernel("without_frame_pointers") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    let books = target.run("go");
    watched.finish();
    target.agrees(&watched, &books);
}

/// As on kernels without uprobe multi-links. The other tests use multi-links if the kernel has them.
#[test]
fn with_perf_events() {
    let Some(_turn) = kernel("with_perf_events") else {
        return;
    };
    let process = truth::start(false);
    let mut watched = watch_in(process.id(), &[], &[("HEAPTIDE_UPROBES", "perf")]);
    let mut target = Target { process };
    let books = target.run("go");
    watched.finish();
    target.agrees(&watched, &books);
}

/// The rules and stacks exist already, addresses are reused, and every form of `delete` frees.
#[test]
fn run_again_then_freed_by_half() {
    let Some(_turn) = kernel("run_again_then_freed_by_half") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    target.run("go");
    target.run("again");
    target.run("free-half");
    target.run("again");
    let books = target.run("free-half");
    watched.finish();
    target.agrees(&watched, &books);
}

#[test]
fn forked_child_is_followed() {
    let Some(_turn) = kernel("forked_child_is_followed") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    target.run("go");
    target.process.say("fork");
    let forked = target.process.line(RUN, |line| line.contains("forked"));
    let forked: HashMap<String, u32> = serde_json::from_str(&forked).expect("JSON");
    followed(&mut watched, forked["forked"]);
    let of_child = target.run("child-go");
    assert_eq!(of_child.pid, forked["forked"]);
    let of_parent = target.run("again");
    watched.finish();
    target.agrees(&watched, &of_parent);
    target.agrees(&watched, &of_child);
}

/// Blocks from before the attach that are freed after it are counted by size. This distinguishes a full cache from a
/// leak.
#[test]
fn older_blocks_that_are_freed_are_counted_by_size() {
    let Some(_turn) = kernel("older_blocks_that_are_freed_are_counted_by_size") else {
        return;
    };
    let process = truth::start(false);
    let mut target = Target { process };
    let before = target.run("go").heap();
    let folder = super::common::folder();
    let capture = folder.path().join("older.capture");
    let record = ["--record", &capture.display().to_string()];
    let mut watched = watch_in(target.process.id(), &record, &[]);
    let after = target.run("free-half").heap();
    watched.finish();
    let replayed = replay(&capture, JudgeOptions::default()).expect("a capture");
    let returned = replayed.last.returned.expect("nothing was sampled out");
    let sized = returned.iter().filter(|one| one.size > 0);
    let sum = |sum: (u64, u64), one: &Returned| {
        (sum.0 + one.blocks, sum.1 + one.blocks * u64::from(one.size))
    };
    let (blocks, bytes) = sized.fold((0, 0), sum);
    let (freed, freed_bytes) = (before.0 - after.0, before.1 - after.1);
    assert!(freed > 300, "{before:?} {after:?}");
    let ratio = blocks as f64 / freed as f64;
    assert!(
        (0.98..1.05).contains(&ratio),
        "{blocks} of {freed}: {returned:?}"
    );
    // Sizes are usable bytes: at most 24 bytes more per block. Large ones are rounded down by up to a quarter.
    let most = freed_bytes as f64 + 40.0 * freed as f64;
    assert!(
        (bytes as f64) < most && bytes as f64 > 0.7 * freed_bytes as f64,
        "{bytes} for {freed_bytes}: {returned:?}"
    );
}

/// After an exec the address space is a new one, so earlier blocks are forgotten.
#[test]
fn exec_starts_anew() {
    let Some(_turn) = kernel("exec_starts_anew") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    target.run("go");
    target.process.say("exec");
    target.process.line(RUN, |line| line.starts_with("ready "));
    followed(&mut watched, target.process.id());
    let books = target.run("go");
    watched.finish();
    target.agrees(&watched, &books);
}

#[test]
fn two_million_live_blocks() {
    let Some(_turn) = kernel("two_million_live_blocks") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    target.run("go");
    let books = target.run("many 2000000");
    watched.finish();
    near(&watched, &books, 0.03);
}

/// The free of a sampled block subtracts its full weight.
#[test]
fn half_of_two_million_freed() {
    let Some(_turn) = kernel("half_of_two_million_freed") else {
        return;
    };
    let (mut target, mut watched) = start(false);
    target.run("go");
    target.run("many 2000000");
    let books = target.run("free-half");
    watched.finish();
    near(&watched, &books, 0.03);
}

fn start(frame_pointers: bool) -> (Target, Watched) {
    let process = truth::start(frame_pointers);
    let watched = watch(process.id(), &[]);
    (Target { process }, watched)
}

fn followed(watched: &mut Watched, pid: u32) {
    let word = format!("following PID {pid}");
    watched.agent.error_line(RUN, |line| line.contains(&word));
}
