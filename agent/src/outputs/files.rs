//! The table of file outputs: one line each; each has its own flag.

use super::{FileOutput, flamegraph, html, pprof};

/// All of them, in the order of the help.
pub static TABLE: &[&FileOutput] = &[&html::OUTPUT, &flamegraph::OUTPUT, &pprof::OUTPUT];

#[cfg(test)]
mod tests {
    use heaptide_judge::{fixtures, stacks::LiveStacks};

    use super::*;

    /// Only the page can do without stacks.
    #[test]
    fn a_file_that_would_show_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = fixtures::leak();
        for mode in ["auto", "watch", "trace"] {
            mode.clone_into(&mut report.target.mode);
            for output in [&flamegraph::OUTPUT, &pprof::OUTPUT] {
                let path = folder.path().join(output.flag);
                let written = (output.write)(&report, &LiveStacks::default(), &path);
                let error = written.unwrap_err().to_string();
                assert!(error.contains("was not written to"), "{error}");
                assert_eq!(error.contains("`--mode trace`"), mode != "trace", "{error}");
                assert!(!path.exists());
            }
        }
    }
}
