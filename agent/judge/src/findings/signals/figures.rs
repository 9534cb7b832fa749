//! Growth of one group of signals, and the requests in the same time.

use crate::attribution::keys::RouteId;
use crate::events::Nanos;
use crate::findings::Inputs;
use crate::findings::Judge;
use crate::findings::forecast::{Rate, rate};
use crate::growth::signals::SignalKey;
use crate::report::FindingState;

use super::curve::{Curve, EventKind, Variable};
use super::groups::Group;

/// If the process grew by more than this multiple of the bytes that entries were seen to own, the rest is attributed
/// to the entries too.
const DEEP: f64 = 1.5;
/// Minimum growth of the process for that, bytes. Less may come from allocators and caches of the runtime.
const LEAST_GAIN: f64 = 1024.0 * 1024.0;

/// Figures of a group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Bytes it grew by since its onset.
    pub grown: f64,
    /// Floor of that growth in the last third of the time.
    pub floor: f64,
    /// Whether the bytes are the process's, not the container's.
    pub of_process: bool,
    /// Bytes that the entries were seen to own, if the process grew by clearly more. In this case `grown` is the
    /// growth of the process.
    pub seen: Option<f64>,
    /// The entries may refer to more than they were seen to own.
    pub is_lower_bound: bool,
    /// Requests since the onset with a new token.
    pub new: f64,
    /// Requests since the onset with a repeated token.
    pub repeat: f64,
    /// All requests since the onset.
    pub requests: f64,
    /// Seconds since the onset.
    pub seconds: f64,
    /// Bytes per second.
    pub rate: Rate,
}

impl Judge {
    /// Growth of a group, and the requests in the same time.
    pub fn signal_figures(&self, inputs: Inputs, group: &Group) -> Figures {
        let Some((main, one)) = group
            .keys
            .first()
            .and_then(|key| Some((key, self.signals.judged().get(key)?)))
        else {
            return Figures::default();
        };
        let mut out = Figures::default();
        let Some(curve) = curve_of(inputs, main) else {
            return out;
        };
        let (from, last) = (at(&curve, one.onset), curve.len() - 1);
        let route = group
            .route
            .filter(|route| *route != RouteId::OTHER && route.has_requests());
        let total = |what| curve.total(Variable { route, what }, from, last);
        out.new = total(EventKind::New);
        out.repeat = total(EventKind::Repeat);
        out.requests = total(EventKind::All);
        out.seconds = curve.seconds(from, last);
        let bytes_of = |i: usize| {
            if main.is_bytes() {
                Some(curve.value(i))
            } else {
                curve.points[i].level.bytes
            }
        };
        let own: Option<Vec<f64>> = (from..=last).map(bytes_of).collect();
        let steps = |values: &[f64], curve: &Curve, from: usize| -> Vec<(f64, f64)> {
            values
                .windows(2)
                .enumerate()
                .map(|(i, pair)| (curve.seconds(from + i, from + i + 1), pair[1] - pair[0]))
                .collect()
        };
        if let Some(own) = own.filter(|own| own.len() > 1) {
            out.grown = (own[own.len() - 1] - own[0]).max(0.0);
            out.rate = rate(&later(&steps(&own, &curve, from)), 0.0);
            if matches!(main, SignalKey::Container(..)) {
                self.reconcile(inputs, one.onset, &mut out);
            }
        } else if let Some(process) = [SignalKey::Faults, SignalKey::Heap, SignalKey::Process]
            .iter()
            .find_map(|key| curve_of(inputs, key).filter(|curve| curve.len() > 2))
        {
            let from = at(&process, one.onset);
            let values: Vec<f64> = (from..process.len()).map(|i| process.value(i)).collect();
            let grown = values
                .last()
                .zip(values.first())
                .map_or(0.0, |(last, first)| (last - first).max(0.0));
            // What other containers are known to own is not this one's.
            out.grown = (grown - self.owned(inputs, one.onset)).max(0.0);
            let part = out.grown / grown.max(1.0);
            out.rate = rate(&later(&steps(&values, &process, from)), 0.0);
            out.rate.mean *= part;
            out.rate.error *= part;
            out.of_process = true;
        }
        let kept = if one.window.net > 0.0 {
            one.window.late_floor / one.window.net
        } else {
            0.0
        };
        out.floor = out.grown * kept.clamp(0.0, 1.0);
        out
    }

    /// Bytes by which growing containers are known to have grown since `onset`.
    fn owned(&self, inputs: Inputs, onset: Nanos) -> f64 {
        let growing = self.signals.judged().iter();
        let growing = growing.filter(|(key, one)| {
            matches!(key, SignalKey::Container(..)) && one.state > FindingState::None
        });
        let gain = |key: &SignalKey| {
            let curve = curve_of(inputs, key)?;
            let bytes = |i: usize| curve.points.get(i)?.level.bytes;
            Some((bytes(curve.len() - 1)? - bytes(at(&curve, onset))?).max(0.0))
        };
        growing.filter_map(|(key, _)| gain(key)).sum()
    }

    /// Compares what the entries own with the growth of the process in the same time. A census does not see
    /// everything that entries refer to. If the process grew by clearly more than all growing containers together,
    /// that growth is attributed to them.
    fn reconcile(&self, inputs: Inputs, onset: Nanos, out: &mut Figures) {
        let gain = [SignalKey::Heap, SignalKey::Process]
            .iter()
            .find_map(|key| gain(&curve_of(inputs, key)?, onset));
        let Some(gain) = gain.filter(|gain| *gain >= LEAST_GAIN) else {
            out.is_lower_bound = true;
            return;
        };
        let factor = gain / self.owned(inputs, onset).max(out.grown).max(1.0);
        if factor > DEEP {
            out.seen = Some(out.grown);
            out.grown *= factor;
            out.rate.mean *= factor;
            out.rate.error *= factor;
        }
    }
}

/// Growth of the process's memory since `onset`, at the rate of the later half of the time, which excludes a warm-up
/// at the start.
fn gain(curve: &Curve, onset: Nanos) -> Option<f64> {
    let (from, last) = (at(curve, onset), curve.len() - 1);
    let half = from + (last - from) / 2;
    if last < half + 2 {
        return None;
    }
    let of = |from: usize| (curve.value(last) - curve.value(from)).max(0.0);
    let later = of(half) / curve.seconds(half, last).max(1e-9) * curve.seconds(from, last);
    Some(of(from).min(later))
}

/// The levels of a signal.
pub fn curve_of(inputs: Inputs, key: &SignalKey) -> Option<Curve> {
    let family = inputs.signals.family(key);
    let curve = Curve::new(family, family.get(key)?, &inputs.attribution.routes);
    (!curve.is_empty()).then_some(curve)
}

/// The last point that is not later than `onset`, else the first.
fn at(curve: &Curve, onset: Nanos) -> usize {
    curve
        .points
        .partition_point(|point| point.at <= onset)
        .saturating_sub(1)
}

/// The later half of the time.
fn later(steps: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = steps.iter().map(|step| step.0).sum::<f64>() / 2.0;
    let mut seconds = 0.0;
    let from = steps.iter().position(|step| {
        seconds += step.0;
        seconds > half
    });
    steps[from.unwrap_or(0)..].to_vec()
}
