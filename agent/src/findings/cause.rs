//! The cause of growth: what requests with a new token keep against those with a repeated one.

use crate::growth::Exposure;
use crate::growth::reading::ClassNow;
use crate::report::Cause;

use super::options::{LEAST_CONTRAST, PER_REQUEST_ABOVE, SURE, TOKEN_KEYED_BELOW};

/// What the requests of one class keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// Requests whose blocks could have matured.
    pub requests: u64,
    /// Mean bytes per such request.
    pub mean: f64,
    /// Variance of that mean.
    pub variance: f64,
}

/// Per class: new, repeat, none.
pub type KeptByClass = [Kept; 3];

/// What requests of each class keep, from the live bytes of a series and the exposures of its route
/// over the same epochs.
pub fn kept(classes: &[ClassNow; 3], exposed: Exposure) -> KeptByClass {
    let holders: u64 = classes.iter().map(|class| class.holders).sum();
    let bytes: f64 = classes.iter().map(|class| class.bytes).sum();
    // what one more holder would weigh: keeps a class without any from seeming certain
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
            mean: class.bytes / n,
            variance: (spread + one * one + class.variance) / (n * n),
        };
    }
    out
}

/// The cause. `uncertain`: part of the route's requests whose credential may have been missed.
pub fn cause(kept: &KeptByClass, uncertain: f64) -> Cause {
    let [new, repeat, none] = *kept;
    if uncertain > 0.2 {
        return Cause::Indeterminate;
    }
    let tokens = new.requests + repeat.requests;
    if tokens == 0 && none.requests > 0 {
        return Cause::PerRequest;
    }
    if new.requests < LEAST_CONTRAST || repeat.requests < LEAST_CONTRAST {
        // requests without a token can show that none is needed, but not that one is: they may
        // take another path (401)
        let alike = none.requests >= LEAST_CONTRAST
            && above(
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
    if below(repeat, new, TOKEN_KEYED_BELOW) {
        Cause::TokenKeyed
    } else if above(repeat, new, PER_REQUEST_ABOVE) {
        Cause::PerRequest
    } else if above(repeat, new, TOKEN_KEYED_BELOW) && below(repeat, new, PER_REQUEST_ABOVE) {
        Cause::Mixed
    } else {
        Cause::Indeterminate
    }
}

/// Whether `a` is surely above `factor * b`.
fn above(a: Kept, b: Kept, factor: f64) -> bool {
    let error = (a.variance + factor * factor * b.variance).sqrt();
    a.mean - factor * b.mean > SURE * error
}

/// Whether `a` is surely below `factor * b`.
fn below(a: Kept, b: Kept, factor: f64) -> bool {
    let error = (a.variance + factor * factor * b.variance).sqrt();
    a.mean - factor * b.mean < -SURE * error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(requests: u64, mean: f64) -> Kept {
        Kept {
            requests,
            mean,
            variance: mean.max(10.0).powi(2) / requests as f64,
        }
    }

    #[test]
    fn contrast_decides_and_too_little_of_it_does_not() {
        let none = class(0, 0.0);
        assert_eq!(
            cause(&[class(300, 1900.0), class(300, 0.0), none], 0.0),
            Cause::TokenKeyed
        );
        assert_eq!(
            cause(&[class(300, 1900.0), class(300, 1900.0), none], 0.0),
            Cause::PerRequest
        );
        assert_eq!(
            cause(&[class(3000, 1900.0), class(3000, 950.0), none], 0.0),
            Cause::Mixed
        );
        assert_eq!(
            cause(&[class(300, 1900.0), class(5, 0.0), none], 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&[class(5, 1900.0), class(300, 0.0), none], 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&[none, none, class(300, 50.0)], 0.0),
            Cause::PerRequest
        );
        assert_eq!(
            cause(&[class(300, 1900.0), none, class(300, 0.0)], 0.0),
            Cause::Indeterminate
        );
        assert_eq!(
            cause(&[class(300, 1900.0), class(300, 0.0), none], 0.5),
            Cause::Indeterminate
        );
    }
}
