//! Keeps targets within their overhead budgets: asks the controllers and attaches or detaches probes.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use heaptide_ebpf::{Counter, target_flags};
use heaptide_judge::events::Observation;
use heaptide_process::clocks::{cpu_time_of, now};
use heaptide_process::limits;
use tracing::{info, warn};

use super::attached::Attached;
use super::events::pump_all;
use super::host::{Host, Sink, SourceError, plan_of};
use super::live::snapshot;
use super::memory::{losses, own_usage};
use crate::overhead::meter::{Events, Meter};
use crate::overhead::probe_set::Part;
use crate::overhead::request_tracing::{RequestTracing, Spent};
use crate::overhead::turn::Turn;

/// The controllers and their inputs.
pub(super) struct Control {
    pub(super) meter: Meter,
    /// The controller of each service's requests.
    services: HashMap<u32, RequestTracing>,
    /// CPU seconds of heaptide itself at the last step, if there was one.
    own_cpu: Option<f64>,
}

impl Control {
    pub(super) fn new() -> Self {
        Self {
            meter: Meter::new(),
            services: HashMap::new(),
            own_cpu: None,
        }
    }

    /// Attaches or detaches probes according to the budgets. Called every second.
    pub(super) fn step(&mut self, host: &mut Host, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        turn_allocations(host, sink)?;
        self.turn_requests(host, sink);
        let flags = host.attached.values().map(|attached| attached.config.flags);
        host.calls.end_unneeded(&mut host.kernel, flags);
        Ok(())
    }

    fn turn_requests(&mut self, host: &mut Host, sink: &mut Sink<'_>) {
        self.meter.step(&host.kernel, || events(host));
        let mut services: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, attached) in host.attached.iter().filter(|one| !one.1.ended) {
            services.entry(attached.service).or_default().push(*pid);
        }
        self.services
            .retain(|service, _| services.contains_key(service));
        let own = self.own_cost() / services.len().max(1) as f64;
        for (service, pids) in services {
            let spent = self.cost_of(host, &pids).beside(Spent {
                own,
                ..Spent::default()
            });
            let attached = |pid: &u32| host.attached.get(pid);
            let budget = pids.first().and_then(attached);
            let budget = budget.and_then(|attached| attached.options.budget);
            // A window of allocations has its own budget, and is useless without requests.
            let allocating = pids.iter().filter_map(attached).any(Attached::allocating);
            let at = Instant::now();
            let tracing = self
                .services
                .entry(service)
                .or_insert_with(|| RequestTracing::new(budget, at));
            tracing.pass(spent);
            let turn = tracing.step(at);
            match turn {
                Turn::Pause if !allocating => tracing.turn(true, at),
                Turn::Resume => tracing.turn(false, at),
                Turn::Stay | Turn::Pause => {}
            }
            let (paused, seconds) = (tracing.paused(), tracing.earned_back_in());
            for pid in pids {
                self.turn_process(host, service, pid, paused, sink);
            }
            match turn {
                Turn::Pause if paused => {
                    info!(
                        pid = service,
                        "request tracing is paused for about {seconds:.0} s"
                    );
                }
                // Not if that failed.
                Turn::Resume if self.services.get(&service).is_some_and(|one| !one.paused()) => {
                    info!(pid = service, "request tracing is on");
                }
                Turn::Stay | Turn::Pause | Turn::Resume => {}
            }
        }
    }

    /// CPU seconds of heaptide itself since the last call, without its start-up, which is a one-time cost.
    fn own_cost(&mut self) -> f64 {
        let now = own_usage().0;
        now - self.own_cpu.replace(now).unwrap_or(now)
    }

    /// Cost of tracing the requests of these processes since the last call.
    fn cost_of(&self, host: &mut Host, pids: &[u32]) -> Spent {
        let mut all = Spent::default();
        let at = Instant::now();
        for pid in pids {
            let rate = self.meter.rate(*pid);
            if let Some(attached) = host.attached.get_mut(pid)
                && let Ok(used) = cpu_time_of(*pid)
            {
                all = all.beside(attached.requests_cost.pass(used.as_secs_f64(), rate, at));
            }
        }
        all
    }

    /// Applies the service's decision to a process.
    fn turn_process(
        &mut self,
        host: &mut Host,
        service: u32,
        pid: u32,
        paused: bool,
        sink: &mut Sink<'_>,
    ) {
        let turns = host.attached.get(&pid).is_some_and(|attached| {
            attached.requests_paused != paused
                && attached.exec.is_none()
                && !(paused && attached.allocating())
        });
        if !turns {
            return;
        }
        let done = if paused {
            pause_requests(host, pid, sink)
        } else {
            resume_requests(host, pid, sink)
        };
        // The measurement is no longer valid.
        self.meter.forget(pid);
        if let Err(why) = done {
            warn!(pid, "request probes cannot be attached or detached: {why}");
            // Avoids a retry every second.
            if let Some(tracing) = self.services.get_mut(&service) {
                tracing.turn(true, Instant::now());
            }
        }
    }
}

/// Events so far of each target whose requests are traced.
fn events(host: &Host) -> HashMap<u32, Events> {
    let traced = host
        .attached
        .iter()
        .filter(|(_, attached)| attached.requests_traced());
    traced
        .filter_map(|(pid, attached)| {
            let counters = host.kernel.counters(attached.config.slot).ok()?;
            let events = Events {
                requests: counters[Counter::Requests as usize],
                calls: counters[Counter::Syscalls as usize],
                hits: counters[Counter::RequestHits as usize],
            };
            Some((*pid, events))
        })
        .collect()
}

fn pause_requests(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    // Includes requests that have ended by now.
    pump_all(host, sink);
    let Some(attached) = host.attached.get_mut(&pid) else {
        return Ok(());
    };
    attached.config.flags = 0;
    attached.requests_paused = true;
    let config = attached.config;
    host.set_target(pid, config)?;
    host.forget_threads(pid);
    host.kernel.forget_requests(pid);
    host.probes.disable(pid, Part::Requests);
    // They may be used unseen in the pause.
    host.forget_tokens(pid);
    if let Some(readers) = &host.readers {
        readers.requests_seen(pid, false);
    }
    sink(pid, Observation::Requests(now(), false));
    Ok(())
}

fn resume_requests(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    let Some(attached) = host.attached.get_mut(&pid) else {
        return Ok(());
    };
    attached.requests_paused = false;
    let options = &attached.options;
    attached.config.flags = options.flags(&attached.target, host.options.stacks, false);
    let plan = plan_of(&attached.target, options, false);
    let config = attached.config;
    host.probes.wait_released(pid);
    host.set_target(pid, config)?;
    host.forget_threads(pid);
    host.kernel.forget_requests(pid);
    if let Some(readers) = &host.readers {
        readers.requests_seen(pid, true);
    }
    sink(pid, Observation::Requests(now(), true));
    let on = host
        .probes
        .enable(&mut host.kernel, pid, Part::Requests, &plan.probes);
    if on.is_err() {
        pause_requests(host, pid, sink)?;
    }
    Ok(on?)
}

fn turn_allocations(host: &mut Host, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    let pids: Vec<u32> = host.attached.keys().copied().collect();
    for pid in pids {
        let losses = losses(host, pid)?;
        let Some(attached) = host.attached.get_mut(&pid).filter(|one| !one.ended) else {
            continue;
        };
        let Some(windows) = &mut attached.windows else {
            continue;
        };
        let Ok(sample) = limits::limits(pid, None) else {
            continue;
        };
        let spent = losses.probe_seconds - attached.requests_cost.spent();
        let done = match windows.step(Instant::now(), spent, &sample) {
            // Without requests the blocks could not be attributed.
            Turn::Resume if attached.requests_paused => Ok(()),
            Turn::Stay => Ok(()),
            Turn::Pause => pause_allocations(host, pid, sink),
            Turn::Resume => resume_allocations(host, pid, sink),
        };
        if let Err(why) = done {
            warn!(
                pid,
                "allocator probes cannot be attached or detached: {why}"
            );
        }
    }
    Ok(())
}

fn pause_allocations(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    // The result of the window is judged before it ends.
    snapshot(host, sink)?;
    let Some(attached) = host.attached.get_mut(&pid) else {
        return Ok(());
    };
    attached.config.flags &= !(target_flags::ALLOCATIONS | target_flags::MAPPINGS);
    // The next window counts as another address space, so blocks of this one are ignored.
    attached.config.space += 1;
    if let Some(windows) = &mut attached.windows {
        windows.turn(true, Instant::now());
    }
    let config = attached.config;
    host.set_target(pid, config)?;
    host.forget_threads(pid);
    host.probes.disable(pid, Part::Allocations);
    info!(pid, "allocator probes are off");
    sink(pid, Observation::Window(now(), false));
    Ok(())
}

fn resume_allocations(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    let Some(attached) = host.attached.get_mut(&pid) else {
        return Ok(());
    };
    if let Some(windows) = &mut attached.windows {
        windows.turn(false, Instant::now());
    }
    attached.begin_window();
    if host.options.stacks {
        attached.prefill(&mut host.kernel, &mut host.rules);
    }
    let options = &attached.options;
    attached.config.flags = options.flags(&attached.target, host.options.stacks, true);
    let plan = plan_of(&attached.target, options, true);
    let config = attached.config;
    host.probes.wait_released(pid);
    host.set_target(pid, config)?;
    host.forget_threads(pid);
    sink(pid, Observation::Window(now(), true));
    let on = host
        .probes
        .enable(&mut host.kernel, pid, Part::Allocations, &plan.probes);
    if on.is_err() {
        pause_allocations(host, pid, sink)?;
    } else {
        info!(pid, "allocator probes are on");
    }
    Ok(on?)
}
