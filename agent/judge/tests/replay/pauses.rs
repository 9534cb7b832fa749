//! Request tracing in windows: traced requests decide cause and route.

use heaptide_judge::report::Cause;

use super::signal_trace::{Holds, SignalTrace};
use super::tally::tally;

/// Traced requests decide cause and route. Pauses of request tracing do not turn a leak per request into one of a
/// timer, or vice versa.
#[test]
fn pauses_of_request_tracing_do_not_mislead() {
    let data = "GET /api/data";
    let leaks = [
        (Holds::PerToken, Cause::TokenKeyed, data),
        (Holds::PerRequest, Cause::PerRequest, data),
        (Holds::Timer(100.0), Cause::Background, "(background)"),
    ];
    for (holds, cause, route) in leaks {
        for (windows, seconds, looks) in [
            ((30.0, 220.0), 33.0, true),
            ((30.0, 220.0), 45.0, true),
            ((30.0, 220.0), 45.0, false),
            ((30.0, 220.0), 200.0, false),
            ((30.0, 90.0), 300.0, true),
            ((30.0, 120.0), 500.0, false),
        ] {
            let trace = SignalTrace {
                holds,
                seconds,
                windows: Some(windows),
                looks,
                ..SignalTrace::default()
            };
            let tally = tally(trace, 2, cause, route);
            assert_eq!(tally.found, tally.traces, "{holds:?} {seconds} {tally:?}");
            assert!(tally.right >= 1, "{holds:?} {seconds} {tally:?}");
            assert_eq!(tally.wrong, 0, "{holds:?} {seconds} {tally:?}");
        }
    }
}
