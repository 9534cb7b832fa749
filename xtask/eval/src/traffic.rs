//! Traffic: arrival times, tokens and durations of requests. The two families share only the parameters in
//! docs/eval.md: their shapes, arrivals, sessions and sizes differ.

use crate::random::Random;

/// The two parts of the corpus; nothing was tuned on the held-out one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    /// Steady, ramping and slowly oscillating traffic; single arrivals; sessions drawn uniformly; log-normal
    /// sizes.
    Tuning,
    /// Bursts, steps and days; arrivals in clusters; recent sessions drawn more often; sizes with heavy tails.
    HeldOut,
}

/// Factor on the rate over time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Constant,
    /// From the first factor to the second in so many seconds, then constant.
    Ramp(f64, f64, f64),
    /// Period and depth.
    Swing(f64, f64),
    /// Interval, duration and factor of bursts.
    Burst(f64, f64, f64),
    /// Interval of random levels, their spread, and their seed.
    Steps(f64, f64, u64),
}

impl Shape {
    pub(crate) fn draw(family: Family, seconds: f64, random: &mut Random) -> Self {
        match (family, random.below(3)) {
            (Family::Tuning, 0) => Self::Constant,
            (Family::Tuning, 1) => {
                Self::Ramp(random.range(0.4, 1.0), random.range(0.6, 1.6), seconds)
            }
            (Family::Tuning, _) => Self::Swing(
                random.log_range(30.0, 600.0).min(seconds / 2.0),
                random.range(0.1, 0.7),
            ),
            (Family::HeldOut, 0) => Self::Burst(
                random.log_range(40.0, 200.0),
                random.range(5.0, 20.0),
                random.range(2.0, 6.0),
            ),
            (Family::HeldOut, 1) => Self::Steps(
                random.log_range(20.0, 120.0),
                random.range(0.1, 0.4),
                random.below(1 << 30) as u64,
            ),
            // a day, compressed
            (Family::HeldOut, _) => {
                Self::Swing(random.range(0.5, 2.0) * seconds, random.range(0.2, 0.8))
            }
        }
    }

    /// The factor at `t` seconds.
    pub(crate) fn at(self, t: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Ramp(from, to, seconds) => from + (to - from) * (t / seconds).clamp(0.0, 1.0),
            Self::Swing(period, depth) => 1.0 + depth * (std::f64::consts::TAU * t / period).sin(),
            Self::Burst(every, long, factor) => {
                // the time before the attach is negative
                if t.rem_euclid(every) < long {
                    factor
                } else {
                    1.0
                }
            }
            Self::Steps(every, spread, seed) => {
                let step = (t / every) as u64;
                (spread * Random::new(seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15)).normal())
                    .exp()
            }
        }
    }

    /// The greatest factor.
    pub(crate) fn most(self) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Ramp(from, to, _) => from.max(to),
            Self::Swing(_, depth) => 1.0 + depth,
            Self::Burst(_, _, factor) => factor,
            Self::Steps(_, spread, _) => (4.0 * spread).exp(),
        }
    }
}

/// Sizes of entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) median: f64,
    spread: f64,
    family: Family,
}

impl Sizes {
    pub(crate) fn draw(family: Family, median: f64, random: &mut Random) -> Self {
        let spread = match family {
            Family::Tuning => random.range(0.1, 1.0),
            Family::HeldOut => random.range(1.8, 4.0),
        };
        Self {
            median,
            spread,
            family,
        }
    }

    /// All the same.
    pub(crate) fn fixed(family: Family, bytes: f64) -> Self {
        Self {
            median: bytes,
            spread: match family {
                Family::Tuning => 0.0,
                Family::HeldOut => f64::INFINITY,
            },
            family,
        }
    }

    pub(crate) fn bytes(&self, random: &mut Random) -> f64 {
        let factor = match self.family {
            Family::Tuning => (self.spread * random.normal()).exp(),
            // Pareto, cut at fifty times the minimum
            Family::HeldOut => (1.0 - random.unit()).powf(-1.0 / self.spread).min(50.0),
        };
        (self.median * factor).max(16.0).round()
    }

    /// The mean, estimated by drawing.
    pub(crate) fn mean(&self) -> f64 {
        let mut random = Random::new(0x00C0_FFEE);
        (0..2_000).map(|_| self.bytes(&mut random)).sum::<f64>() / 2_000.0
    }
}

/// Traffic of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) family: Family,
    pub(crate) rate: f64,
    pub(crate) shape: Shape,
    /// Fraction of the requests on each route.
    pub(crate) routes: Vec<f64>,
    /// Fraction of the tokens that are new.
    pub(crate) fresh: f64,
    pub(crate) anonymous: f64,
    /// Tokens in use at a time, from which repeats are drawn.
    pub(crate) sessions: usize,
    /// Tokens that the service knew before the attach.
    pub(crate) known_before: usize,
    /// Median latency, seconds.
    pub(crate) latency: f64,
    /// No request comes after this time.
    pub(crate) stops: Option<f64>,
}

impl Traffic {
    /// Requests per second at `t`.
    pub(crate) fn rate_at(&self, t: f64) -> f64 {
        if self.stops.is_some_and(|stops| t >= stops) {
            return 0.0;
        }
        self.rate * self.shape.at(t)
    }

    /// Time of the next arrival after `t`, and the number of simultaneous requests.
    pub(crate) fn next(&self, mut t: f64, random: &mut Random) -> (f64, usize) {
        let cluster = match self.family {
            Family::Tuning => 1.0,
            Family::HeldOut => 2.0,
        };
        let most = self.rate * self.shape.most() / cluster;
        loop {
            t += random.exponential() / most;
            if random.unit() * self.shape.most() <= self.shape.at(t) {
                break;
            }
        }
        if self.stops.is_some_and(|stops| t >= stops) {
            return (f64::INFINITY, 0);
        }
        let mut together = 1;
        while cluster > 1.0 && random.chance(0.5) {
            together += 1;
        }
        (t, together)
    }

    /// The session of a repeat, counted from the newest token.
    pub(crate) fn session(&self, random: &mut Random) -> usize {
        let part = match self.family {
            Family::Tuning => random.unit(),
            Family::HeldOut => random.unit().powi(2),
        };
        (part * self.sessions as f64) as usize
    }

    pub(crate) fn latency(&self, random: &mut Random) -> f64 {
        self.latency * (0.5 * random.normal()).exp()
    }

    pub(crate) fn route(&self, random: &mut Random) -> usize {
        let mut part = random.unit();
        for (index, share) in self.routes.iter().enumerate() {
            part -= share;
            if part < 0.0 {
                return index;
            }
        }
        0
    }
}
