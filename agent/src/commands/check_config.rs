//! `heaptide check-config FILE`: checks a configuration and summarises it.

use std::path::Path;

use anyhow::Result;

use crate::{
    cli::{CheckConfig, ExitCode},
    config::{self, Config},
    outputs::{file, format},
};

/// Runs it.
pub(super) fn check_config(args: &CheckConfig) -> Result<ExitCode> {
    let config = config::load(&args.file)?;
    let mut said = said_of(&args.file, &config).join("\n");
    for target in &config.targets {
        said.push_str("\ntarget ");
        said.push_str(&target.summary());
    }
    said.push('\n');
    file::print("the result", said.as_bytes())?;
    Ok(ExitCode::Success)
}

/// The output for a valid file: its effect, and notes on likely mistakes.
fn said_of(path: &Path, config: &Config) -> Vec<String> {
    let agent = &config.agent;
    let mut said = vec![format!(
        "{} is valid: {}, metrics on {}, mode {}, overhead {}",
        path.display(),
        match config.targets.len() {
            1 => "1 target".to_owned(),
            count => format!("{count} targets"),
        },
        agent.metrics,
        agent.mode.name(),
        format::percent(agent.overhead),
    )];
    if config.targets.is_empty() {
        said.push("note: without a [[target]] nothing is observed".to_owned());
    }
    if !agent.metrics.ip().is_loopback() {
        said.push(format!(
            "note: {} is reachable from other hosts without authentication",
            agent.metrics
        ));
    }
    for target in config.targets.iter().filter(|target| target.pid.is_some()) {
        said.push(format!(
            "note: target `{}` is selected by pid, so it is not found again after a restart",
            target.name
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checked(path: &Path) -> Vec<String> {
        said_of(path, &config::load(path).unwrap())
    }

    #[test]
    fn check_says_what_may_not_be_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.toml");
        fs::write(
            &path,
            "[agent]\nmetrics = \"0.0.0.0:1\"\n[[target]]\nname = \"a\"\npid = 7\n",
        )
        .unwrap();
        let said = checked(&path).join("\n");
        assert!(
            said.contains("is valid: 1 target, metrics on 0.0.0.0:1, mode auto, overhead 3.0 %")
        );
        assert!(
            said.contains("without authentication") && said.contains("after a restart"),
            "{said}"
        );
        fs::write(&path, "").unwrap();
        assert!(checked(&path)[1].contains("nothing is observed"));
    }
}
