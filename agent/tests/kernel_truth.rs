//! The agent's live blocks against the books of a program that allocates in every way there is:
//! byte for byte, block for block, per function that allocated, with and without frame pointers.

mod common;

use std::collections::HashMap;

use common::books::{Target, near};
use common::truth::{self, RUN};
use common::{Watched, kernel, watch, watch_in};

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

/// As on kernels without uprobe multi-links; the other tests use those where the kernel has them.
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

/// Warm rules and stacks, addresses used again, and frees through every delete.
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

/// The address space is another one afterwards: what lived before is forgotten.
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

/// A sampled block that is freed must go with its whole weight.
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
