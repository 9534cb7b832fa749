//! The plan for this test's own process.

use heaptide_ebpf::{Cookie, shape};
use regex::Regex;

use super::programs::{self, Program};
use super::wishes::Wishes;
use super::{PlanOptions, plan};
use crate::inspect;

#[test]
fn own_allocator() {
    let process = inspect(std::process::id()).unwrap();
    let plan = plan(
        &process,
        &Wishes::default(),
        &PlanOptions {
            allocations: true,
            ..PlanOptions::default()
        },
    );
    let of = |symbol: &str, program: Program| {
        plan.probes
            .iter()
            .find(|p| p.symbol == symbol && p.program == program)
    };
    for symbol in ["malloc", "calloc", "realloc", "posix_memalign"] {
        let enter = of(symbol, programs::ALLOC_ENTER).unwrap();
        let back = of(symbol, programs::ALLOC_RETURN).unwrap();
        assert_eq!(enter.file_offset, back.file_offset, "{}", enter.why);
        assert_eq!(Cookie(enter.cookie).pushed(), 0);
        assert!(of(symbol, programs::FREE).is_none());
    }
    let free = of("free", programs::FREE).unwrap();
    assert_eq!(Cookie(free.cookie).shape(), shape::FREE);
    assert!(free.why.contains("emulated"), "{}", free.why);
    let mut places: Vec<_> = plan
        .probes
        .iter()
        .map(|p| (p.file_offset, p.program.name))
        .collect();
    let all = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), all);
}

#[test]
fn handlers_by_demangled_name() {
    let process = inspect(std::process::id()).unwrap();
    let handlers = vec![
        Regex::new("^heaptide_process::plan::tests::a_handler$").unwrap(),
        Regex::new("^no such function$").unwrap(),
    ];
    std::hint::black_box(a_handler(1));
    let plan = plan(
        &process,
        &Wishes::default(),
        &PlanOptions {
            handlers,
            ..PlanOptions::default()
        },
    );
    assert_eq!(plan.handlers, ["heaptide_process::plan::tests::a_handler"]);
    assert_eq!(plan.probes.len(), 2);
    assert!(plan.limitations[0].contains("no such function"));
}

#[inline(never)]
fn a_handler(x: u32) -> u32 {
    std::hint::black_box(x + 1)
}
