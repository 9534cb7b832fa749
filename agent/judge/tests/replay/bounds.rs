//! The state stays bounded for any input, and invalid input does no harm.

use std::sync::Arc;

use heaptide_judge::events::{
    Binding, Fingerprint, Frame, FrameKind, LiveGroup, Losses, MemoryKind, Nanos, Observation,
    Request, RequestId, Site, SiteId, Snapshot,
};
use heaptide_judge::pipeline::Pipeline;
use heaptide_judge::report::Verdict;

use super::judged::lab;
use super::world::{Keeps, Trace, generate};

fn site(id: u64, function: &str) -> Observation {
    let frame = Frame {
        function: function.to_owned(),
        file: None,
        line: None,
        module: "service".to_owned(),
        kind: FrameKind::User,
    };
    Observation::Site(Site {
        id: SiteId(id),
        stack: Arc::new([frame]),
        truncated: false,
    })
}

fn request(id: u64, end: Nanos) -> Observation {
    Observation::Request(Request {
        id: RequestId(id),
        start: end,
        end,
        head: format!(
            "GET /route/{}/{id}",
            ["red", "green", "blue", "teal"][id as usize % 4]
        ),
        token: Some(Fingerprint(id)),
        status: Some(200),
        binding: Binding::Exact,
        body_bytes: 0,
        token_uncertain: false,
        path_cut: false,
        again: false,
    })
}

fn group(site: u64, request: u64, born: Nanos) -> LiveGroup {
    LiveGroup {
        site: SiteId(site),
        request: Some(RequestId(request)),
        binding: Binding::Exact,
        born,
        blocks: 1.0,
        bytes: 100.0,
        seen: 1,
        variance: 0.0,
        kind: MemoryKind::Heap,
        size: 0,
    }
}

/// 4,000 leaking functions, 250 requests per second, ten minutes.
#[test]
fn state_is_at_most_16_mib_with_all_series_taken() {
    let mut pipeline = Pipeline::new(lab());
    for id in 0..4_000 {
        pipeline.observe(&site(id, &format!("leak_{id}")));
    }
    let mut groups = Vec::new();
    for second in 0..600u64 {
        let now = Nanos((1_000 + second) * 1_000_000_000);
        for n in 0..250 {
            let id = second * 250 + n + 1;
            pipeline.observe(&request(id, now));
            // Every fourth request leaves a block.
            if n % 4 == 0 {
                groups.push(group(id % 4_000, id, now));
            }
        }
        if second % 5 == 4 {
            pipeline.observe(&Observation::Snapshot(Snapshot {
                at: now,
                groups: groups.clone(),
                returned: None,
            }));
        }
    }
    let state = pipeline.state_bytes();
    assert!(state <= 16 << 20, "{state} bytes");
    assert!(state > 8 << 20, "the estimate is too low: {state} bytes");
    assert!(pipeline.report().findings.len() <= 20);
}

#[test]
fn nonsense_does_no_harm() {
    let mut pipeline = Pipeline::new(lab());
    assert_eq!(pipeline.report().verdict, Verdict::InsufficientEvidence);
    let mut bad = group(9, 9, Nanos(u64::MAX));
    bad.bytes = f64::NAN;
    let negative = LiveGroup {
        bytes: -5.0,
        ..group(9, 9, Nanos(0))
    };
    let future = group(9, 9, Nanos(u64::MAX));
    for at in [Nanos(5), Nanos(u64::MAX), Nanos(0), Nanos(5)] {
        let groups = vec![bad, negative, future, group(1, 1, Nanos(0))];
        pipeline.observe(&Observation::Snapshot(Snapshot {
            at,
            groups,
            returned: None,
        }));
        pipeline.observe(&request(u64::MAX, at));
        let again = Request {
            again: true,
            start: Nanos(u64::MAX),
            ..match request(1, at) {
                Observation::Request(request) => request,
                _ => unreachable!("made above"),
            }
        };
        pipeline.observe(&Observation::Request(again));
        pipeline.observe(&Observation::Site(Site {
            id: SiteId(7),
            stack: Arc::new([]),
            truncated: true,
        }));
        pipeline.observe(&Observation::Losses(Losses {
            lost_frees: u64::MAX / 8,
            ..Losses::default()
        }));
        pipeline.observe(&Observation::Forgotten(at));
    }
    assert_eq!(pipeline.report().verdict, Verdict::InsufficientEvidence);
}

#[test]
fn a_new_address_space_begins_anew() {
    let (mut observations, truth) = generate(Trace {
        keeps: Keeps::PerToken,
        limit: 64 << 20,
        ..Trace::default()
    });
    let at = observations
        .iter()
        .filter_map(Observation::at)
        .max()
        .unwrap_or_default();
    observations.push(Observation::Forgotten(at));
    let mut pipeline = Pipeline::new(lab());
    for observation in &observations {
        pipeline.observe(observation);
    }
    let report = pipeline.report();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.memory.live_growth_bytes, 0);
    assert_eq!(report.window.requests, truth.requests);
}
