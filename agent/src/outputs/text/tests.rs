//! Tests of the text report.

use super::*;
use heaptide_judge::fixtures;

#[test]
fn a_leak_reads_like_the_design() {
    let text = render(&fixtures::leak());
    let expected = "\
LEAK (token_keyed, confirmed)  GET /api/data  app.py:17 get_data
  +1.9 KiB kept per new token, 0 B per repeated token; 12,410 tokens, none freed
  out of memory in 3 h 10 m (earliest 2 h 40 m)
  confidence 99.8 %, blocks bound to their requests exactly; suspected after 12 s, confirmed after 44 s
  evidence: 12,410 requests keep memory, none freed in 64 s
  kept by:
    malloc  libc.so.6
    get_data  srv/app.py:17
    main  srv/app.py:17

observed    python3.11 (pid 4711), runtime cpython 3.11, allocators glibc, pymalloc, mode trace, 1 m 4 s
traffic     24,820 requests: 12,410 with a new token, 12,400 repeated, 10 without; 12,390 distinct tokens
memory      RSS 100 MiB -> 124 MiB, live 60.0 MiB in 400,000 blocks, growth +23.0 MiB, 124 MiB of 512 MiB used
gained      25.0 MiB: 24.0 MiB by findings, 0 B by caches and other benign memory, 1.0 MiB unexplained
tokens      of 3,000 tokens whose requests ended over 10 s ago, 2,990 are still in memory; 38.0 MiB searched

 route          requests     new  repeated      kept      p99
 GET /api/data    24,810  12,410    12,400  23.0 MiB  12.3 ms
 GET /health          10       0         0       0 B   1.0 ms

losses      none
            (no losses: 812 frees of blocks older than the attach or sampled out, 0 blocks sampled out)
overhead    1.2 % of a core (1.2 % of the service's CPU): 0.77 s in 2,900,000 probe hits
heaptide    34.0 MiB resident, 21.0 MiB of kernel maps, 0.9 s CPU
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_suspicion_says_what_it_rests_on() {
    let text = render(&fixtures::suspect());
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("SUSPECT (token_keyed, suspect)  GET /api/data  app.py:17 get_data")
    );
    assert!(text.contains("unbounded, or bounded above 12,410"));
    assert!(!text.contains("confirmed after"));
}

#[test]
fn no_leak_says_why() {
    let text = render(&fixtures::no_leak());
    assert!(
        text.starts_with(
            "NO LEAK\n  The cache evicts as much as it adds.\n  not a leak (bounded_cache)  \
         GET /api/data  app.py:17 get_data\n    23.0 MiB held in 198,560 blocks, 91.1 % freed: \
         a bounded cache"
        ),
        "{text}"
    );
}

#[test]
fn insufficient_evidence_names_losses_and_limitations() {
    let text = render(&fixtures::insufficient());
    assert!(text.starts_with("INSUFFICIENT EVIDENCE\n  12.0 % of blocks were lost"));
    assert!(text.contains("losses      1 event dropped, 348,000 blocks refused by a full map\n"));
    assert!(text.contains("limitation  no debug information"));
}

#[test]
fn every_cause_has_a_sentence() {
    let of = |cause| kept(&fixtures::finding(FindingState::Suspect, cause, "GET /"));
    assert_eq!(
        of(Cause::PerRequest),
        "+973 B kept per request, whatever its token; 198,560 blocks, none freed"
    );
    assert!(of(Cause::Mixed).starts_with("+1.9 KiB kept per new token and +0 B per"));
    assert!(of(Cause::Background).starts_with("+42.0 KiB/s without requests"));
    assert!(of(Cause::Indeterminate).contains("too few"));
    assert!(of(Cause::WarmUp).starts_with("23.0 MiB held"));
}

#[test]
fn nothing_from_outside_drives_the_terminal() {
    let mut report = fixtures::leak();
    report.findings[0].route = "GET /\x1b]0;owned\x07".to_owned();
    report.routes[0].route = "GET /\x1b[31m".to_owned();
    report.findings[0].site.function = "f\x1b[2J".to_owned();
    report.target.exe = "/tmp/a\rb".to_owned();
    let text = render(&report);
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
}

#[test]
fn an_empty_report_is_printed() {
    let mut report = fixtures::insufficient();
    report.routes.clear();
    report.reason.clear();
    report.target = heaptide_judge::report::TargetSummary::default();
    report.memory = heaptide_judge::report::Memory::default();
    assert!(render(&report).contains("no limit"));
}
