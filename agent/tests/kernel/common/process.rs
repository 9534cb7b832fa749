//! A child process that ends with the test. Its output is read line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A running child. When dropped, also by a panic, it is killed and waited for.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    errors: Lines,
}

impl Process {
    /// Starts `command`. The test holds all three pipes.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        Self::try_start(name, command).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The same, for a program that the kernel may refuse to run.
    pub(crate) fn try_start(name: &'static str, command: &mut Command) -> std::io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = Lines::of(child.stdout.take().expect("piped"));
        let errors = Lines::of(child.stderr.take().expect("piped"));
        Ok(Self {
            name,
            child,
            input,
            output,
            errors,
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("held until the end");
        let written = input
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| input.flush());
        assert!(
            written.is_ok(),
            "{line:?} to {}: {written:?}\n{}",
            self.name,
            self.transcript()
        );
    }

    /// The next line of its standard output that `fits`. Lines before it are skipped.
    pub(crate) fn line(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        let found = self.output.next(within, fits);
        found.unwrap_or_else(|why| {
            panic!(
                "{} wrote no such line to standard output: {why}\n{}",
                self.name,
                self.transcript()
            )
        })
    }

    /// The same for its standard error.
    pub(crate) fn error_line(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        let found = self.errors.next(within, fits);
        found.unwrap_or_else(|why| {
            panic!(
                "{} wrote no such line to standard error: {why}\n{}",
                self.name,
                self.transcript()
            )
        })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child was not waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for its end and for the rest of its output.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                // Its children may hold the pipes longer, so the wait is short.
                let last = Duration::from_secs(2);
                let _ = self.output.next(last, |_| false);
                let _ = self.errors.next(last, |_| false);
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end within {within:?}\n{}",
                self.name,
                self.transcript()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Exit code and output after its end.
    pub(crate) fn finished(&mut self, within: Duration) -> Finished {
        let status = self.wait(within);
        Finished {
            code: status.code(),
            output: self.output(),
            errors: self.errors(),
        }
    }

    /// Its standard output so far.
    pub(crate) fn output(&self) -> String {
        self.output.seen.join("\n")
    }

    /// Its standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.seen.join("\n")
    }

    /// Its output, for messages of failed tests.
    pub(crate) fn transcript(&self) -> String {
        let cut = |text: String| text.chars().take(6000).collect::<String>();
        format!(
            "--- {} stdout ---\n{}\n--- stderr ---\n{}",
            self.name,
            cut(self.output()),
            cut(self.errors())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end. A command that hangs is killed, and the test fails.
pub(crate) fn run(name: &'static str, command: &mut Command, within: Duration) -> Finished {
    let mut process = Process::start(name, command);
    process.input = None;
    process.finished(within)
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; `None`: a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) output: String,
    /// Standard error.
    pub(crate) errors: String,
}

impl Finished {
    /// Checks that the command failed with a clear message: no success, no panic, no internal error, and each of
    /// `words` is in the message (any case).
    pub(crate) fn refuses(&self, words: &[&str]) {
        let code = self
            .code
            .unwrap_or_else(|| panic!("ended by a signal: {self:#?}"));
        assert!(![0, 70, 101].contains(&code), "exit code {code}: {self:#?}");
        self.names(words);
    }

    /// Checks that each of `words` is in the output (any case), and that there was no panic.
    pub(crate) fn names(&self, words: &[&str]) {
        let said = format!("{}\n{}", self.output, self.errors).to_lowercase();
        assert!(!said.contains("panicked"), "{self:#?}");
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "does not say {word:?}: {self:#?}"
            );
        }
    }
}

struct Lines {
    from: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (to, from) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if to.send(text).is_err() {
                    break;
                }
            }
        });
        Self {
            from,
            seen: Vec::new(),
        }
    }

    fn next(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> Result<String, String> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.from.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(format!("waited {within:?}")),
                Err(RecvTimeoutError::Disconnected) => return Err("it has ended".to_owned()),
            }
        }
    }
}
