//! The agent's side: starts the helper, queries it with a deadline, and records files on which it
//! failed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::program::PROGRAM;
use super::protocol::{Answer, Detail, Looked, Request, receive, send};
use super::server;
use crate::files::{ForeignFile, Identity};
use crate::{Elf, clocks, ending};

/// Maximum CPU time and elapsed time of a request.
const MAX_CPU: Duration = Duration::from_secs(2);
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Interval at which the time is checked while waiting.
const STEP: Duration = Duration::from_millis(50);
/// Why no helper is queried.
const ENDING: &str = "heaptide was asked to end";
/// CPU time for all requests of a file, beside a fraction of the elapsed time.
const FREE: Duration = Duration::from_secs(20);
const SHARE: f64 = 0.05;
/// Maximum number of file records.
const MAX_RECORDS: usize = 4096;

/// A module and its debug information.
pub(in crate::symbols) struct Files {
    /// The module itself.
    pub(in crate::symbols) elf: Arc<Elf>,
    /// Its debug file.
    pub(in crate::symbols) debug: Option<ForeignFile>,
    /// The file that its debug file shares with others.
    pub(in crate::symbols) shared: Option<ForeignFile>,
}

/// File and debug file.
type Key = (Identity, u64, Option<Identity>);

impl Files {
    fn key(&self) -> Key {
        let file = self.elf.file();
        let debug = self.debug.as_ref().map(ForeignFile::identity);
        (file.identity(), file.len(), debug)
    }

    fn open(&self) -> Vec<BorrowedFd<'_>> {
        let beside = [&self.debug, &self.shared].into_iter().flatten();
        std::iter::once(self.elf.file())
            .chain(beside)
            .map(ForeignFile::as_fd)
            .collect()
    }
}

/// Record of a file.
struct Record {
    detail: Detail,
    began: Instant,
    spent: Duration,
    said: Option<String>,
}

/// A running helper.
struct Helper {
    socket: OwnedFd,
    /// `None`: it is a thread of this process.
    child: Option<Child>,
    modules: HashMap<Key, u32>,
}

#[derive(Default)]
struct Client {
    helper: Option<Helper>,
    records: HashMap<Key, Record>,
}

/// Why there is no answer.
enum Failure {
    /// The helper had ended before the query, or is full.
    Again,
    /// The file caused it.
    File(String),
    /// No helper can be started.
    Helper(String),
}

/// One helper serves all targets.
static CLIENT: Mutex<Option<Client>> = Mutex::new(None);

/// Looks up an address in a module (address in the file); also returns what cannot be looked up, and
/// why.
pub(in crate::symbols) fn look(files: &Files, address: u64) -> (Looked, Option<String>) {
    let mut client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    client
        .get_or_insert_with(Client::default)
        .look(files, address)
}

impl Client {
    fn look(&mut self, files: &Files, address: u64) -> (Looked, Option<String>) {
        let key = files.key();
        // once per level of detail, plus once for a helper that had already ended
        for _ in 0..6 {
            let detail = self.record(key).detail;
            if detail == Detail::Nothing {
                break;
            }
            let failure = match self.ask(files, key, detail, address) {
                Ok(looked) => return (looked, self.record(key).said.clone()),
                Err(failure) => failure,
            };
            self.stop();
            match failure {
                Failure::Again => {}
                Failure::File(why) => self.record(key).lower(files, &why),
                Failure::Helper(why) => {
                    return (
                        Looked::default(),
                        Some(format!("functions have no names: {why}")),
                    );
                }
            }
        }
        (Looked::default(), self.record(key).said.clone())
    }

    fn record(&mut self, key: Key) -> &mut Record {
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(&key) {
            self.records.clear();
        }
        self.records.entry(key).or_insert_with(|| Record {
            detail: Detail::Lines,
            began: Instant::now(),
            spent: Duration::ZERO,
            said: None,
        })
    }

    fn ask(
        &mut self,
        files: &Files,
        key: Key,
        detail: Detail,
        address: u64,
    ) -> Result<Looked, Failure> {
        if ending::is_over() {
            return Err(Failure::Helper(ENDING.to_string()));
        }
        if self.helper.is_none() {
            let started = Helper::start();
            self.helper = Some(started.map_err(|why| {
                Failure::Helper(format!("the symbolizer cannot be started: {why}"))
            })?);
        }
        let Some(helper) = &mut self.helper else {
            return Err(Failure::Again);
        };
        let before = helper.cpu();
        let (mut said, mut ends) = (None, false);
        let module = if let Some(module) = helper.modules.get(&key) {
            *module
        } else {
            let request = Request::Open {
                detail,
                debug: files.debug.is_some(),
                shared: files.shared.is_some(),
            };
            let (answer, last) = helper.exchange(&request, &files.open())?;
            ends |= last;
            match answer {
                Answer::Opened(module, why) => {
                    helper.modules.insert(key, module);
                    said = why;
                    module
                }
                Answer::Refused(why) => return Err(Failure::File(why)),
                Answer::Full | Answer::Looked(_) => return Err(Failure::Again),
            }
        };
        let (answer, last) = helper.exchange(&Request::Look { module, address }, &[])?;
        ends |= last;
        let looked = match answer {
            Answer::Looked(looked) => looked,
            Answer::Refused(why) => return Err(Failure::File(why)),
            Answer::Full | Answer::Opened(..) => return Err(Failure::Again),
        };
        let spent = helper.cpu().saturating_sub(before);
        if ends {
            self.stop();
        }
        let record = self.record(key);
        if let Some(why) = said {
            record.lower(files, &why);
        }
        record.spent += spent;
        if record.spent > FREE + record.began.elapsed().mul_f64(SHARE) {
            return Err(Failure::File(
                "reading it takes too much CPU time".to_string(),
            ));
        }
        Ok(looked)
    }

    /// Ends the helper.
    fn stop(&mut self) {
        if let Some(Helper {
            child: Some(mut child),
            ..
        }) = self.helper.take()
        {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Record {
    /// Reads less of the file from now on.
    fn lower(&mut self, files: &Files, why: &str) {
        let path = files.elf.file().path().display();
        let (detail, lost) = match self.detail {
            Detail::Lines => (
                Detail::Names,
                "its functions are named without file and line",
            ),
            Detail::Names | Detail::Nothing => (Detail::Nothing, "its functions have no names"),
        };
        self.detail = detail;
        self.began = Instant::now();
        self.spent = Duration::ZERO;
        self.said = Some(format!("{path}: {why}: {lost}"));
        tracing::debug!(said = self.said, "symbolization");
    }
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = if let Some((program, arguments)) = PROGRAM.get() {
            let mut command = Command::new(program);
            let command = command
                .args(arguments)
                .env_clear()
                .env("MALLOC_ARENA_MAX", "1")
                .current_dir("/")
                .stdin(theirs)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Some(command.spawn()?)
        } else {
            std::thread::Builder::new().spawn(move || server::serve_here(&theirs))?;
            None
        };
        Ok(Self {
            socket,
            child,
            modules: HashMap::new(),
        })
    }

    /// CPU time of the helper.
    fn cpu(&self) -> Duration {
        let child = self.child.as_ref();
        child
            .and_then(|child| clocks::cpu_time_of(child.id()).ok())
            .unwrap_or_default()
    }

    /// Sends a request; returns the answer, and whether it is this helper's last.
    fn exchange(
        &self,
        request: &Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<(Answer, bool), Failure> {
        // the helper may have been ended
        send(self.socket.as_fd(), request, files).map_err(|_| Failure::Again)?;
        self.wait()?;
        match receive(self.socket.as_fd()) {
            Ok(Some((answer, _))) => Ok(answer),
            Ok(None) | Err(_) => Err(Failure::File(
                "the symbolizer ended while it read it".to_string(),
            )),
        }
    }

    /// Waits for an answer.
    fn wait(&self) -> Result<(), Failure> {
        let (began, cpu) = (Instant::now(), self.cpu());
        let mut counted = cpu;
        let step = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(STEP.subsec_nanos()),
        };
        loop {
            let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
            let polled = rustix::event::poll(&mut sockets, Some(&step));
            if ending::is_asked() {
                let used = self.cpu();
                let worked = used.saturating_sub(mem::replace(&mut counted, used));
                // If the helper itself waits, the elapsed time counts.
                let waits = worked.is_zero() && polled == Ok(0);
                ending::waited(if waits { STEP } else { worked });
            }
            match polled {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(why) => return Err(Failure::Helper(why.to_string())),
            }
            if ending::is_over() {
                return Err(Failure::Helper(ENDING.to_string()));
            }
            if began.elapsed() > MAX_WAIT || self.cpu().saturating_sub(cpu) > MAX_CPU {
                return Err(Failure::File(
                    "reading it takes the symbolizer too long".to_string(),
                ));
            }
        }
    }
}
