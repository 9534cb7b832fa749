//! Attribution of page faults if one Python process serves 64 requests at once: `FastAPI` with endpoints that await
//! before they touch fresh memory, and with endpoints that run in worker threads, on asyncio and on uvloop. The stack
//! shows the endpoint, and the request's route must be the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::process::Process;
use super::common::services::{build, lab_program};
use super::common::source::watching;
use super::common::{http, kernel, lab, skip};
use heaptide::observe::{Observing as _, Source};
use heaptide_judge::events::{Observation, RequestId, SiteId};

const START: Duration = Duration::from_secs(30);
/// Deadline for records of ended requests. A request without a record counts as wrong.
const LAST: Duration = Duration::from_secs(10);
/// Number of pages after which a run ends.
const ENOUGH: u64 = 2_000;

/// Virtual environment, event loop, parser, endpoints, and the minimum part of right pages.
const RUNS: [(&str, &str, &str, &str, f64); 4] = [
    (".venv-3.12", "asyncio", "h11", "async", 0.99),
    (".venv-3.12", "uvloop", "httptools", "async", 0.99),
    (".venv-system", "asyncio", "h11", "def", 0.95),
    (".venv-3.13", "uvloop", "httptools", "def", 0.95),
];

/// Methods of the lab's variant `attribution`, and the heads of their requests.
const ENDPOINTS: [(&str, &str); 4] = [
    ("Attribution.data", "GET /api/data"),
    ("Attribution.profile", "GET /api/profile"),
    ("Attribution.upload", "POST /api/upload"),
    ("Attribution.user", "GET /users/"),
];

#[test]
fn pages_carry_the_request_that_touched_them() {
    let name = "pages_carry_the_request_that_touched_them";
    let Some(_turn) = kernel(name) else {
        return;
    };
    if let Err(reason) = build() {
        return skip(name, &reason);
    }
    for (environment, event_loop, parser, endpoints, least) in RUNS {
        let python = lab("python").join(environment).join("bin/python");
        if !python.exists() {
            let reason = format!("no lab/python/{environment}: run cargo xtask setup --lab");
            skip(name, &reason);
            continue;
        }
        let address = http::free_address();
        let port = address.port().to_string();
        let mut command = Command::new(&python);
        command
            .args(["-m", "uvicorn", "--port", &port, "--log-level", "warning"])
            .args([
                "--no-access-log",
                "--loop",
                event_loop,
                "--http",
                parser,
                "app:app",
            ])
            .env("VARIANT", "attribution")
            .env("ENDPOINTS", endpoints)
            .env("PYTHONPATH", lab("python/shared"))
            .env("PYTHONWARNINGS", "ignore:The HMAC key")
            .current_dir(lab("python/fastapi"));
        let mut server = Process::start("uvicorn", &mut command);
        http::wait_for(&mut server, address);
        let pages = observe(&server, address);
        let (right, all) = (pages.right, pages.all);
        let part = right as f64 / all.max(1) as f64;
        eprintln!(
            "{event_loop}, {endpoints}: {right} of {all} pages, {:.2} %",
            100.0 * part
        );
        assert!(all >= ENOUGH, "{event_loop}, {endpoints}: only {all} pages");
        assert!(
            part >= least,
            "{event_loop}, {endpoints}: {right} of {all} pages: {:#?}",
            pages.wrong
        );
    }
}

#[derive(Default)]
struct Pages {
    right: u64,
    all: u64,
    /// Endpoint, and the head that its pages had, if any.
    wrong: HashMap<(String, Option<String>), u64>,
}

/// The observations so far.
#[derive(Default)]
struct Observed {
    heads: HashMap<RequestId, String>,
    /// The endpoint in a stack: its method and the head of its requests.
    endpoints: HashMap<SiteId, Option<&'static (&'static str, &'static str)>>,
    touched: Vec<(SiteId, Option<RequestId>, u64)>,
}

impl Observed {
    fn read(&mut self, source: &mut Source) {
        let mut sink = |_, one| match one {
            Observation::Request(request) => {
                self.heads.insert(request.id, request.head);
            }
            Observation::Site(site) => {
                let mut functions = site.stack.iter().map(|frame| frame.function.as_str());
                let found = functions.find_map(|f| ENDPOINTS.iter().find(|row| row.0 == f));
                self.endpoints.insert(site.id, found);
            }
            Observation::Faults(faults) => {
                let sites = faults.sites.iter();
                self.touched
                    .extend(sites.map(|one| (one.site, one.request, one.bytes / 4096)));
            }
            _ => {}
        };
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {
            source.wait(end.saturating_duration_since(Instant::now()));
            source.pump(&mut sink);
        }
        source.sample(&mut sink).expect("the kernel's numbers");
    }

    /// Counts the pages that endpoints have touched.
    fn pages(&self) -> Pages {
        let mut pages = Pages::default();
        for (site, request, number) in &self.touched {
            let Some(Some((function, head))) = self.endpoints.get(site) else {
                continue;
            };
            let said = request.and_then(|id| self.heads.get(&id));
            pages.all += number;
            if said.is_some_and(|said| said.starts_with(head)) {
                pages.right += number;
            } else {
                let wrong = ((*function).to_owned(), said.cloned());
                *pages.wrong.entry(wrong).or_default() += number;
            }
        }
        pages
    }

    /// Whether the record of a request that has touched pages is missing, because the request has not ended.
    fn is_behind(&self) -> bool {
        let mut requests = self.touched.iter().filter_map(|one| one.1);
        requests.any(|id| !self.heads.contains_key(&id))
    }
}

/// Counts the pages that the endpoints touch under load, and those with a request of the endpoint's route.
fn observe(server: &Process, address: SocketAddr) -> Pages {
    let mut source = watching();
    source
        .attach(server.id(), &mut |_, _| {})
        .expect("the attach");
    let mut command = lab_program("lab-load");
    command
        .args(["--target", &address.to_string(), "--for", "600"])
        .args(["--closed-loop", "--connections", "64"]);
    let mut load = Process::start("lab-load", &mut command);
    let mut observed = Observed::default();
    let mut read_until = |within: Duration, done: &mut dyn FnMut(&Observed) -> bool| {
        let deadline = Instant::now() + within;
        while !done(&observed) && Instant::now() < deadline {
            observed.read(&mut source);
        }
    };
    read_until(START, &mut |observed| observed.pages().all >= ENOUGH);
    load.signal(libc::SIGINT);
    // The last requests are answered and reported.
    read_until(START, &mut |_| !load.runs());
    read_until(LAST, &mut |observed| !observed.is_behind());
    assert!(load.wait(START).success());
    observed.pages()
}
