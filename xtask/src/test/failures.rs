//! What failed tests print, for the end of the output: a log that is cut at its start has it.

/// Messages of a program's failed tests, for the end of the output: panics with the following lines, and names.
#[derive(Default)]
pub(super) struct Failures {
    pub(super) lines: Vec<String>,
    /// Remaining lines of the present panic.
    left: usize,
}

impl Failures {
    /// Maximum lines of a panic: its message with the agent's output, without the stack trace.
    const PANIC: usize = 12;
    /// Maximum lines of a program.
    const LIMIT: usize = 100;

    pub(super) fn take(&mut self, line: &str) {
        let is_failing_test = line.starts_with("test ") && line.ends_with("FAILED");
        if line.contains("panicked at ") {
            self.left = Self::PANIC;
        } else if line.starts_with("stack backtrace:") {
            self.left = 0;
        }
        if (self.left > 0 || is_failing_test) && self.lines.len() < Self::LIMIT {
            self.lines.push(line.to_owned());
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn a_panic_is_told_again_at_the_end() {
        let mut failures = Failures::default();
        let output = [
            "test fine ... ok",
            "thread 'broken' panicked at tests/a.rs:1:2:",
            "it said nothing",
            "stack backtrace:",
            "   0: rust_begin_unwind",
            "test broken ... FAILED",
        ];
        for line in output {
            failures.take(line);
        }
        assert_eq!(failures.lines, [output[1], output[2], output[5]]);
    }
}
