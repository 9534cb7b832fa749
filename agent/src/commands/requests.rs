//! `attach --requests FILE`: every request and, at the end, its live memory, as JSON lines. For tests
//! that know the requests.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::session::Session;
use heaptide_judge::capture::own_file::OwnFile;
use heaptide_judge::events::{Fingerprint, MemoryKind, Observation, Request, Snapshot};

/// Starts writing the session's requests.
pub(super) fn follow(session: &mut Session, path: &Path) -> Result<Requests> {
    let file = OwnFile::create(path)
        .and_then(|mut file| file.publish().map(|()| file))
        .with_context(|| format!("cannot write requests to {}", path.display()))?;
    let log = RequestLog {
        file,
        tokens: HashMap::new(),
        last: HashMap::new(),
        error: None,
    };
    let requests = Requests(Arc::new(Mutex::new(log)));
    let shared = Requests(Arc::clone(&requests.0));
    session.set_tap(Box::new(move |pid, observation| {
        let mut log = shared.lock();
        match observation {
            Observation::Request(request) => log.request(pid, request),
            Observation::Snapshot(snapshot) => {
                log.last.insert(pid, snapshot.clone());
            }
            Observation::Site(site) => {
                let frame = site.leading();
                log.write(
                    &json!({"pid": pid, "site": site.id, "function": frame.function,
                    "file": frame.file, "line": frame.line}),
                );
            }
            Observation::Heap(heap) => log.write(&json!({"pid": pid, "heap": heap})),
            Observation::Profile(profile) => log.write(&json!({"pid": pid, "profile": profile})),
            Observation::Census(census) => log.write(&json!({"pid": pid, "census": census})),
            _ => {}
        }
    }));
    Ok(requests)
}

/// Requests that are being written.
pub(super) struct Requests(Arc<Mutex<RequestLog>>);

struct RequestLog {
    file: OwnFile,
    /// Numbers in place of fingerprints, so that no fingerprint is written.
    tokens: HashMap<Fingerprint, usize>,
    last: HashMap<u32, Snapshot>,
    error: Option<io::Error>,
}

impl Requests {
    /// Adds the live memory at the end.
    pub(super) fn finish(self) -> Result<()> {
        let mut log = self.lock();
        for (pid, snapshot) in std::mem::take(&mut log.last) {
            for group in snapshot.groups {
                if group.kind == MemoryKind::Heap {
                    log.write(
                        &json!({"pid": pid, "site": group.site, "request": group.request,
                        "binding": group.binding, "bytes": group.bytes, "blocks": group.blocks}),
                    );
                }
            }
        }
        log.error.take().map_or(Ok(()), |why| {
            Err(why).context("the list of requests is incomplete")
        })
    }

    fn lock(&self) -> MutexGuard<'_, RequestLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestLog {
    fn request(&mut self, pid: u32, request: &Request) {
        let next = self.tokens.len() + 1;
        let token = request
            .token
            .map(|token| *self.tokens.entry(token).or_insert(next));
        self.write(&json!({"pid": pid, "id": request.id, "head": request.head,
            "path_cut": request.path_cut,
            "status": request.status, "token": token, "token_uncertain": request.token_uncertain,
            "binding": request.binding, "body_bytes": request.body_bytes, "again": request.again,
            "seconds": request.end.since(request.start)}));
    }

    fn write(&mut self, line: &serde_json::Value) {
        if self.error.is_none() {
            self.error = self
                .file
                .file
                .write_all(format!("{line}\n").as_bytes())
                .err();
        }
    }
}
