//! What an agent observes of the simulated service.

use std::cmp::Reverse;

use heaptide_judge::events::{
    Binding, Fingerprint, LiveGroup, MemorySample, Nanos, Observation, Request, RequestId,
    Returned, Snapshot, TargetInfo,
};

use crate::keepers::NONE;
use crate::plan::ROUTES;
use crate::sites::{site, site_id};

use super::{START, WORKING, World};

impl World<'_> {
    pub(crate) fn announce(&self) -> Vec<Observation> {
        let info = TargetInfo {
            pid: 17,
            exe: "/srv/service".to_owned(),
            mode: "trace".to_owned(),
            ..TargetInfo::default()
        };
        let mut out = vec![
            Observation::Target(Nanos(START), info),
            site(WORKING, "parse", 1),
        ];
        for (index, keeper) in self.plan.keepers.iter().enumerate() {
            for block in 0..2 {
                let id = site_id(index, block);
                out.push(site(id, &keeper.function, 10 + block as u32));
            }
        }
        out
    }

    pub(super) fn end_requests(&mut self, sink: &mut impl FnMut(Observation)) {
        let now = self.nanos();
        while let Some(&Reverse((end, id, start, token, route, working))) = self.under_way.peek()
            && end <= now
        {
            self.under_way.pop();
            self.release(working);
            self.losses.requests += 1;
            let fingerprint = (u64::from(token) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            sink(Observation::Request(Request {
                id: RequestId(id),
                start: Nanos(start),
                end: Nanos(end),
                head: ROUTES[usize::from(route)].to_owned(),
                path_cut: false,
                token: (token != NONE).then_some(Fingerprint(fingerprint)),
                status: Some(200),
                binding: Binding::Exact,
                body_bytes: 0,
                token_uncertain: false,
                again: false,
            }));
        }
    }

    pub(super) fn snapshot(&mut self, sink: &mut impl FnMut(Observation)) {
        let at = Nanos(self.nanos());
        let live: Vec<usize> = (0..self.groups.len())
            .filter(|slot| self.groups[*slot].seen > 0)
            .collect();
        let groups: Vec<LiveGroup> = live
            .iter()
            .filter(|slot| !self.older[**slot])
            .map(|slot| self.groups[*slot])
            .collect();
        let live: f64 = live.iter().map(|slot| self.groups[*slot].bytes).sum();
        let plan = self.plan;
        let decay = if plan.ratchet {
            1.0
        } else {
            1.0 - 0.003 * plan.interval
        };
        self.held = (live * plan.overhead).max(self.held * decay.max(0.5));
        // memory that is not heap: code, stacks, kernel buffers
        let drift = plan.drift * (1.0 - (-self.now / plan.drift_seconds).exp());
        self.used = plan.base + self.held - self.before + drift;
        self.losses.at = at;
        // frees of sampled-out blocks cannot be told from those of older blocks
        let returned = (plan.faults.sampling >= 1.0).then(|| {
            self.returned.iter().map(|(size, blocks)| Returned {
                size: *size,
                blocks: *blocks,
            })
        });
        sink(Observation::Losses(self.losses));
        sink(Observation::Memory(MemorySample {
            at,
            rss: self.used as u64,
            rss_anon: self.used as u64,
            limit: Some(plan.limit as u64),
            used: self.used as u64,
            ..MemorySample::default()
        }));
        sink(Observation::Snapshot(Snapshot {
            at,
            groups,
            returned: returned.map(Iterator::collect),
        }));
    }
}
