//! Runs other programs. Each command is printed first; root is used only where requested.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask
        .parent()
        .map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// A program to run in the workspace's folder.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs xtask, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The same cargo, in the lab's workspace.
pub(crate) fn lab_cargo() -> Command {
    let mut cargo = cargo();
    cargo.current_dir(root().join("lab"));
    cargo.env_remove(WRAPPER);
    cargo
}

/// A program that cargo calls in the compiler's place for the packages of a workspace. The lab's programs are built as
/// people build theirs.
pub(crate) const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// Whether that is clippy, as in `.ci/run`: then whatever is built is checked.
pub(crate) fn is_linting() -> bool {
    let wrapper = env::var_os(WRAPPER).map(PathBuf::from);
    wrapper.is_some_and(|wrapper| {
        wrapper
            .file_name()
            .is_some_and(|name| name == "clippy-driver")
    })
}

/// Prints a command, runs it, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// The standard output of a program that must succeed; its standard error is inherited.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} printed invalid UTF-8", shown(command)))
}

/// Whether a program runs and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Prints a command before it runs.
pub(crate) fn say(command: &Command) {
    eprintln!("+ {}", shown(command));
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Path of a program on PATH or in root's `sbin` folders, which Debian omits from the PATH of other
/// users.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no arguments, touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Whether root is available without a prompt.
pub(crate) fn can_be_root() -> bool {
    is_root() || succeeds(Command::new("sudo").args(["-n", "true"]))
}

/// A program run as root, with this environment and PATH (sudo has its own PATH).
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return command(program);
    }
    let mut sudo = command("sudo");
    let path = env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin";
    // With a terminal sudo may prompt; without one it must fail instead of waiting.
    if !has_terminal() {
        sudo.arg("-n");
    }
    sudo.args(["-E", "env", &format!("PATH={path}")])
        .arg(program);
    sudo
}

fn has_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stdin().is_terminal()
}
