//! Standard errors of the figures of a finding.

use crate::attribution::keys::Class;
use crate::report::{Finding, Precision};

use super::cause::Kept;
use super::forecast::Rate;
use super::judged::Judged;

/// Sums over the series of one finding. Requests keep blocks of all series together, so the errors of the series are
/// added, not their squares.
pub(super) struct Errors {
    /// Tokens that are new on this route only count as repeats.
    shared: bool,
    /// Requests with a new token that keep something of the main series, and all of them.
    keeping: u64,
    new_requests: u64,
    requests: u64,
    per_new: f64,
    per_repeat: f64,
    of_requests: f64,
    of_keeping: f64,
}

impl Errors {
    /// For a finding with this main series.
    pub(super) fn of(main: &Judged) -> Self {
        Self {
            shared: main.contrast.shared,
            keeping: main.contrast.new.holders,
            new_requests: main.contrast.new.requests,
            requests: main.exposed.iter().sum(),
            per_new: 0.0,
            per_repeat: 0.0,
            of_requests: 0.0,
            of_keeping: 0.0,
        }
    }

    /// Adds a series.
    pub(super) fn add(&mut self, one: &Judged) {
        let contrast = super::cause::contrast(&one.kept, Some(self.shared));
        self.per_new += contrast.new.variance.max(0.0).sqrt();
        self.per_repeat += contrast.repeat.variance.max(0.0).sqrt();
        self.of_requests += one
            .kept
            .iter()
            .map(|kept| kept.variance.max(0.0) * (kept.requests as f64).powi(2))
            .sum::<f64>()
            .sqrt();
        let classes = if self.shared {
            &one.kept[Class::New.index()..=Class::New.index()]
        } else {
            &one.kept[Class::New.index()..=Class::NewHere.index()]
        };
        let (total, squares, one) = moments(classes);
        // Each series has its own onset, and so its own requests.
        let same_time = self.new_requests as f64 / contrast.new.requests.max(1) as f64;
        let (total, squares) = (total * same_time, squares * same_time);
        let spread = squares - total * total / self.keeping.max(1) as f64;
        self.of_keeping += (spread.max(0.0) + one * one).sqrt();
    }

    /// The errors per event.
    pub(super) fn precision(&self, growth: &Rate, is_part: bool) -> Precision {
        Precision {
            per_new_token: self.per_new,
            per_repeat_token: self.per_repeat,
            per_request: self.of_requests / self.requests.max(1) as f64,
            per_second: growth.error,
            keeping_tokens: self.keeping,
            per_keeping_token: self.of_keeping / self.keeping.max(1) as f64,
            is_of_process: false,
            is_part,
        }
    }
}

/// Sum and sum of squares of the bytes that requests keep, and the bytes of one that keeps some.
fn moments(classes: &[Kept]) -> (f64, f64, f64) {
    let (mut total, mut squares, mut holders) = (0.0, 0.0, 0);
    for class in classes {
        let n = class.requests.max(1) as f64;
        let bytes = class.mean * n;
        let one = bytes / class.holders.max(1) as f64;
        // `cause::kept` made the variance of this, with one more holder.
        squares += (class.variance * n * n - one * one).max(0.0) + bytes * bytes / n;
        total += bytes;
        holders += class.holders;
    }
    (total, squares, total / holders.max(1) as f64)
}

/// The errors of a finding that two processes have. `requests` are those of each. The figures have to be those from before
/// they were added up.
pub(super) fn of_both(sum: &Finding, part: &Finding, requests: [f64; 2]) -> Option<Precision> {
    let (a, b) = (sum.precision?, part.precision?);
    let mean = |errors: [f64; 2], weights: [f64; 2]| {
        let all = weights[0] + weights[1];
        if all > 0.0 {
            (errors[0] * weights[0]).hypot(errors[1] * weights[1]) / all
        } else {
            errors[0].max(errors[1])
        }
    };
    let tokens = [sum.new_tokens as f64, part.new_tokens as f64];
    let keeping = [a.keeping_tokens as f64, b.keeping_tokens as f64];
    let counted = a.keeping_tokens > 0 && b.keeping_tokens > 0;
    Some(Precision {
        per_new_token: mean([a.per_new_token, b.per_new_token], tokens),
        per_repeat_token: mean([a.per_repeat_token, b.per_repeat_token], requests),
        per_request: mean([a.per_request, b.per_request], requests),
        per_second: a.per_second.hypot(b.per_second),
        keeping_tokens: if counted {
            a.keeping_tokens + b.keeping_tokens
        } else {
            0
        },
        per_keeping_token: mean([a.per_keeping_token, b.per_keeping_token], keeping),
        is_of_process: a.is_of_process || b.is_of_process,
        is_part: a.is_part || b.is_part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `holders` of `requests` keep 1,000 bytes each.
    fn equal(requests: u64, holders: u64) -> Kept {
        let (n, h) = (requests as f64, holders as f64);
        let spread = h * 1e6 - (h * 1e3).powi(2) / n;
        Kept {
            requests,
            holders,
            mean: h * 1e3 / n,
            variance: (spread + 1e6) / (n * n),
        }
    }

    #[test]
    fn equal_entries_have_no_spread_whoever_keeps_them() {
        let (total, squares, one) = moments(&[equal(100, 90), equal(50, 10)]);
        assert!((total - 1e5).abs() < 1e-3 && (one - 1e3).abs() < 1e-6);
        let spread = squares - total * total / 100.0;
        assert!(spread.abs() < 1.0, "{spread}");
    }
}
