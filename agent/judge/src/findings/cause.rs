//! The cause of growth: compares what requests with a new token and with a repeated token keep.

use crate::attribution::keys::Class;
use crate::growth::Exposure;
use crate::growth::reading::ClassNow;
use crate::report::Cause;

use super::options::{LEAST_CONTRAST, PER_REQUEST_ABOVE, SURER, TOKEN_KEYED_BELOW, UNLIKELY};

/// Memory kept by the requests of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Requests whose blocks could have matured.
    pub requests: u64,
    /// Requests of those that keep anything.
    pub holders: u64,
    /// Mean bytes per request.
    pub mean: f64,
    /// Variance of that mean.
    pub variance: f64,
}

/// By [`Class`].
pub type KeptByClass = [Kept; Class::COUNT];

/// The compared classes: tokens that are new to the cache, tokens that it knows, and no token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Contrast {
    /// New tokens.
    pub new: Kept,
    /// Repeated tokens.
    pub repeat: Kept,
    /// No token.
    pub none: Kept,
    /// Tokens that are new on this route only count as repeats: the cache knows them from other routes.
    pub shared: bool,
}

/// Memory kept per class, from the live bytes of a series and the exposures of its route in the same
/// epochs.
pub fn kept(classes: &[ClassNow; Class::COUNT], exposed: Exposure) -> KeptByClass {
    let holders: u64 = classes.iter().map(|class| class.holders).sum();
    let bytes: f64 = classes.iter().map(|class| class.bytes).sum();
    // The weight of one more holder: without it a class without holders would have no variance.
    let one = if holders > 0 {
        bytes / holders as f64
    } else {
        0.0
    };
    let mut out = KeptByClass::default();
    for ((out, class), requests) in out.iter_mut().zip(classes).zip(exposed) {
        let n = requests.max(1) as f64;
        let spread = (class.squares - class.bytes * class.bytes / n).max(0.0);
        *out = Kept {
            requests,
            holders: class.holders.min(requests),
            mean: class.bytes / n,
            // Sampling weights spread the holders' bytes, so `spread` includes the sampling variance.
            variance: (spread + one * one) / (n * n),
        };
    }
    out
}

/// Assigns tokens that are new on this route only: to the repeats if they behave so, else to the new ones.
/// `shared`: the decision, if it was made before.
pub fn contrast(kept: &KeptByClass, shared: Option<bool>) -> Contrast {
    let [new, here, repeat, none] = *kept;
    let shared = shared.unwrap_or_else(|| {
        here.requests >= LEAST_CONTRAST
            && new.requests >= LEAST_CONTRAST
            && rarer(here, new, TOKEN_KEYED_BELOW)
    });
    if shared {
        Contrast {
            new,
            repeat: pool(here, repeat),
            none,
            shared,
        }
    } else {
        Contrast {
            new: pool(new, here),
            repeat,
            none,
            shared,
        }
    }
}

/// Pools two classes.
fn pool(a: Kept, b: Kept) -> Kept {
    let (m, n) = (a.requests as f64, b.requests as f64);
    let all = (m + n).max(1.0);
    Kept {
        requests: a.requests + b.requests,
        holders: a.holders + b.holders,
        mean: (a.mean * m + b.mean * n) / all,
        variance: (a.variance * m * m + b.variance * n * n) / (all * all),
    }
}

/// The cause. `uncertain`: the part of the route's requests whose credential may have been missed.
pub fn cause(contrast: &Contrast, uncertain: f64) -> Cause {
    let Contrast {
        new, repeat, none, ..
    } = *contrast;
    if uncertain > 0.2 {
        return Cause::Indeterminate;
    }
    let tokens = new.requests + repeat.requests;
    if tokens == 0 && none.requests > 0 {
        return Cause::PerRequest;
    }
    if new.requests < LEAST_CONTRAST || repeat.requests < LEAST_CONTRAST {
        // Requests without a token can show that no token is needed, but not that one is: they may be
        // rejected (401).
        let alike = none.requests >= LEAST_CONTRAST
            && oftener(
                none,
                if new.requests >= repeat.requests {
                    new
                } else {
                    repeat
                },
                PER_REQUEST_ABOVE,
            );
        return if alike {
            Cause::PerRequest
        } else {
            Cause::Indeterminate
        };
    }
    let rarer = rarer(repeat, new, TOKEN_KEYED_BELOW);
    let often = oftener(repeat, new, TOKEN_KEYED_BELOW);
    // The frequency decides; the amount only shows that both keep memory and one of them keeps more.
    let more = above(repeat, new, TOKEN_KEYED_BELOW, SURER);
    let less = below(repeat, new, PER_REQUEST_ABOVE, SURER);
    if rarer {
        // Few repeats keep memory, but these keep so much that the cause is mixed.
        if more && less {
            Cause::Mixed
        } else {
            Cause::TokenKeyed
        }
    } else if often && (more && less || self::rarer(repeat, new, PER_REQUEST_ABOVE)) {
        Cause::Mixed
    } else if often && ratio(repeat, new) >= PER_REQUEST_ABOVE {
        Cause::PerRequest
    } else if none.requests >= LEAST_CONTRAST && oftener(none, pool(new, repeat), PER_REQUEST_ABOVE)
    {
        // For example an error handler that keeps rejected requests.
        Cause::PerRequest
    } else {
        Cause::Indeterminate
    }
}

/// Ratio of the frequencies with which requests of `a` and of `b` keep memory.
fn ratio(a: Kept, b: Kept) -> f64 {
    let often = |kept: Kept| kept.holders as f64 / kept.requests.max(1) as f64;
    often(a) / often(b).max(1e-9)
}

/// Whether requests of `a` keep memory less than `factor` times as often as requests of `b`, with high
/// confidence.
///
/// Let `n` requests of both classes keep memory, and let `E` be the numbers of requests. Under the null
/// hypothesis each of the `n` belongs to `a` with a probability of at least `q = factor E_a / (factor E_a +
/// E_b)`. By the Chernoff bound, `k` or fewer of them do with a probability of at most `exp(-n KL(k/n,
/// q))`. The bound holds for every `n` and every distribution of sizes.
fn rarer(a: Kept, b: Kept, factor: f64) -> bool {
    let (part, bound, n) = parts(a, b, factor);
    part < bound && n * divergence(part, bound) > UNLIKELY
}

/// The same for "more often".
fn oftener(a: Kept, b: Kept, factor: f64) -> bool {
    let (part, bound, n) = parts(a, b, factor);
    part > bound && n * divergence(part, bound) > UNLIKELY
}

/// The part of the holders that belong to `a`, the same part under the null hypothesis, and the number of
/// holders.
fn parts(a: Kept, b: Kept, factor: f64) -> (f64, f64, f64) {
    let n = (a.holders + b.holders) as f64;
    let (at, other) = (factor * a.requests as f64, b.requests as f64);
    (a.holders as f64 / n.max(1.0), at / (at + other).max(1.0), n)
}

/// Kullback-Leibler divergence of two Bernoulli distributions.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| {
        if p > 0.0 {
            p * (p / q.max(1e-12)).ln()
        } else {
            0.0
        }
    };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// Whether the mean bytes of `a` are above `factor` times those of `b` by `sure` standard errors.
fn above(a: Kept, b: Kept, factor: f64, sure: f64) -> bool {
    let error = (a.variance + factor * factor * b.variance).sqrt();
    a.mean - factor * b.mean > sure * error
}

/// Whether they are below by `sure` standard errors.
fn below(a: Kept, b: Kept, factor: f64, sure: f64) -> bool {
    let error = (a.variance + factor * factor * b.variance).sqrt();
    a.mean - factor * b.mean < -sure * error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(requests: u64, mean: f64) -> Kept {
        Kept {
            requests,
            holders: if mean > 0.0 { requests } else { 0 },
            mean,
            variance: mean.max(10.0).powi(2) / requests.max(1) as f64,
        }
    }

    fn of(new: Kept, repeat: Kept, none: Kept) -> Contrast {
        contrast(&[new, Kept::default(), repeat, none], None)
    }

    #[test]
    fn what_only_requests_without_a_token_keep_is_by_request() {
        let kept = of(class(127, 0.0), class(45, 0.0), class(32, 740.0));
        assert_eq!(cause(&kept, 0.0), Cause::PerRequest);
        let few = of(class(127, 0.0), class(45, 0.0), class(8, 740.0));
        assert_eq!(cause(&few, 0.0), Cause::Indeterminate);
    }

    #[test]
    fn contrast_decides_and_too_little_of_it_does_not() {
        let none = class(0, 0.0);
        assert_eq!(
            cause(&of(class(300, 1900.0), class(300, 0.0), none), 0.0),
            Cause::TokenKeyed
        );
        assert_eq!(
            cause(&of(class(300, 1900.0), class(300, 1900.0), none), 0.0),
            Cause::PerRequest
        );
        assert_eq!(
            cause(&of(class(3000, 1900.0), class(3000, 950.0), none), 0.0),
            Cause::Mixed
        );
        assert_eq!(
            cause(&of(class(300, 1900.0), class(5, 0.0), none), 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&of(class(5, 1900.0), class(300, 0.0), none), 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&of(none, none, class(300, 50.0)), 0.0),
            Cause::PerRequest
        );
        assert_eq!(
            cause(&of(class(300, 1900.0), none, class(300, 0.0)), 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&of(class(300, 1900.0), class(300, 0.0), none), 0.5),
            Cause::Indeterminate
        );
    }

    #[test]
    fn a_token_known_from_another_route_goes_where_it_belongs() {
        let (entry, empty, none) = (class(300, 1900.0), class(300, 0.0), class(0, 0.0));
        let own = contrast(&[entry, entry, empty, none], None);
        assert!(!own.shared && own.new.requests == 600 && (own.new.mean - 1900.0).abs() < 1.0);
        assert_eq!(cause(&own, 0.0), Cause::TokenKeyed);
        let shared = contrast(&[entry, empty, none, none], None);
        assert!(shared.shared && shared.new.requests == 300);
        assert_eq!(cause(&shared, 0.0), Cause::TokenKeyed);
        assert_eq!(
            cause(&contrast(&[entry, entry, none, none], None), 0.0),
            Cause::Indeterminate
        );
    }
}
