//! Workers of one service are one report, with a part for each.

use heaptide_judge::events::LimitScope;
use heaptide_judge::findings::service::sum;
use heaptide_judge::report::{Cause, FindingState, Report, Verdict};

use super::judged::{near, run};
use super::world::{Keeps, Trace};

/// A worker that serves so many requests per second.
fn worker(pid: u32, keeps: Keeps, rate: f64) -> Report {
    let mut report = run(Trace {
        keeps,
        rate,
        ..Trace::default()
    })
    .report;
    report.target.pid = pid;
    report.memory.limit_scope = LimitScope::ControlGroup;
    report
}

#[test]
fn what_workers_keep_is_added_up() {
    let workers = [
        worker(11, Keeps::PerToken, 100.0),
        worker(12, Keeps::PerToken, 50.0),
        worker(13, Keeps::Nothing, 50.0),
    ];
    let all = sum(workers.to_vec()).expect("a report");
    let [first, second, idle] = &workers;
    assert_eq!(all.verdict, Verdict::Suspect, "{}", all.reason);
    let requests = workers.iter().map(|one| one.window.requests).sum::<u64>();
    assert_eq!(all.window.requests, requests);
    let growing: Vec<_> = all
        .findings
        .iter()
        .filter(|finding| finding.state > FindingState::None)
        .collect();
    let [finding] = growing[..] else {
        panic!("not exactly one leak of the service: {growing:#?}");
    };
    assert_eq!(finding.cause, Cause::TokenKeyed);
    assert_eq!(
        finding.retained_bytes,
        first.findings[0].retained_bytes + second.findings[0].retained_bytes
    );
    let per_token = finding.retained_bytes_per_new_token;
    assert!(near(per_token, 1_900.0), "{per_token}");
    // Two processes reach their shared limit sooner than either alone.
    let oom = |report: &Report| {
        report.findings[0]
            .time_to_oom_seconds
            .as_ref()
            .map(|oom| oom.median)
    };
    let alone = oom(first).expect("a forecast");
    let together = oom(&all).expect("a forecast");
    assert!(
        (0.6..0.75).contains(&(together / alone)),
        "{together} of {alone}"
    );
    // Worst first, including the one that keeps nothing.
    let pids: Vec<_> = all.processes.iter().map(|one| one.pid).collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    let quiet = all.processes.iter().find(|one| one.pid == 13);
    let quiet = quiet.expect("all workers are named");
    assert_eq!(quiet.verdict, Verdict::NoLeak, "{}", idle.reason);
    assert_eq!(quiet.retained_bytes, 0);
}

#[test]
fn two_leaks_stay_two() {
    let mut other = worker(12, Keeps::PerToken, 100.0);
    other.findings[0].site.function = "elsewhere".to_owned();
    let all = sum(vec![worker(11, Keeps::PerToken, 100.0), other]).expect("a report");
    let sites: Vec<_> = all
        .findings
        .iter()
        .filter(|finding| finding.state > FindingState::None)
        .map(|finding| finding.site.function.as_str())
        .collect();
    assert_eq!(sites.len(), 2, "{sites:?}");
    assert!(sites.contains(&"elsewhere"), "{sites:?}");
}
