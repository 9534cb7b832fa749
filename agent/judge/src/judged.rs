//! One process and its judge, with the call stacks and the last snapshot for the profile formats.

use std::collections::HashMap;

use crate::events::{Observation, Site, SiteId, Snapshot};
use crate::pipeline::{JudgeOptions, Pipeline};
use crate::stacks::LiveStacks;

/// One process and its judge.
pub struct Judged {
    /// The judge.
    pub pipeline: Pipeline,
    /// Its settings.
    pub options: JudgeOptions,
    /// The call stacks of the process.
    pub sites: HashMap<SiteId, Site>,
    /// Its last snapshot.
    pub last: Snapshot,
}

impl Judged {
    /// Nothing seen yet.
    pub fn new(options: JudgeOptions) -> Self {
        Self {
            pipeline: Pipeline::new(options),
            options,
            sites: HashMap::new(),
            last: Snapshot::default(),
        }
    }

    /// Takes one observation.
    pub fn observe(&mut self, observation: Observation) {
        self.pipeline.observe(&observation);
        match observation {
            Observation::Site(site) => {
                self.sites.insert(site.id, site);
            }
            Observation::Snapshot(snapshot) => self.last = snapshot,
            _ => {}
        }
    }

    /// Live heap memory by call stack and requests, as of the last snapshot.
    pub fn stacks(&self) -> LiveStacks {
        LiveStacks::of(&self.sites, &self.last, |group| self.pipeline.origin(group))
    }
}
