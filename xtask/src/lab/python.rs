//! Interpreters and virtual environments of the Python services.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, on_path, root, succeeds};

/// Debian's interpreter: static, stripped, with its allocator inlined.
const SYSTEM: &str = "system";
const SYSTEM_PATH: &str = "/usr/bin/python3";

/// Versions whose services the everyday tests start. The others are prepared when one of their rows runs.
const EVERY_DAY: [&str; 3] = [SYSTEM, "3.12", "3.13"];

/// Whether the everyday tests need the virtual environment of this version.
pub(crate) fn is_for_every_day(python: &str) -> bool {
    EVERY_DAY.contains(&python)
}

fn folder() -> PathBuf {
    root().join("lab/python")
}

/// The folder of an interpreter's virtual environment.
pub(crate) fn environment(python: &str) -> PathBuf {
    folder().join(format!(".venv-{python}"))
}

/// Creates an interpreter's virtual environment with the services' packages if missing.
pub(crate) fn prepare(python: &str) -> Result<()> {
    let environment = environment(python);
    let own = folder().join(format!("requirements-{python}.txt"));
    let wanted = Some(own)
        .filter(|own| own.is_file())
        .unwrap_or_else(|| folder().join("requirements.txt"));
    // A list of what was installed, because pip takes a second to check the packages.
    let installed = environment.join("installed.txt");
    let same = fs::read(&wanted).with_context(|| wanted.display().to_string())?;
    if fs::read(&installed).is_ok_and(|installed| installed == same) {
        return Ok(());
    }
    let interpreter = interpreter(python).with_context(|| missing(python))?;
    let create = |more: &[&str]| {
        let mut venv = Command::new(&interpreter);
        venv.args(["-m", "venv", "--clear"]);
        process::run(venv.args(more).arg(&environment))
    };
    // The interpreter's own pip saves installing one into each environment, if it can install into another one.
    let mut own_pip = Command::new(&interpreter);
    own_pip.args(["-m", "pip", "--python"]).arg(&interpreter);
    let mut pip = if succeeds(own_pip.arg("--version")) {
        create(&["--without-pip"])?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "--python"]);
        pip.arg(environment.join("bin/python"));
        pip
    } else {
        if !succeeds(Command::new(&interpreter).args(["-m", "ensurepip", "--version"])) {
            crate::packages::install(&["python3-venv".to_owned()])?;
        }
        create(&[])?;
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip"]);
        pip
    };
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    process::run(pip.arg("--requirement").arg(&wanted))?;
    fs::write(&installed, same).with_context(|| format!("cannot write {}", installed.display()))
}

/// Why an interpreter's services cannot run; `None` if they can.
pub(crate) fn missing_interpreter(python: &str) -> Option<String> {
    (interpreter(python).is_none()).then(|| missing(python))
}

fn missing(python: &str) -> String {
    if python == SYSTEM {
        format!("there is no {SYSTEM_PATH}")
    } else {
        format!(
            "there is no CPython {python} with a shared library: `PYTHON_CONFIGURE_OPTS=--enable-shared \
             pyenv install {python}`"
        )
    }
}

/// `system`, or a version: pyenv's, or else one on PATH. A set of packages may follow the version: `3.12-servers`.
fn interpreter(python: &str) -> Option<PathBuf> {
    let python = python.split('-').next().unwrap_or(python);
    if python == SYSTEM {
        return Some(PathBuf::from(SYSTEM_PATH)).filter(|path| path.is_file());
    }
    pyenv(python).or_else(|| on_path(&format!("python{python}")))
}

/// The folder of pyenv's interpreters.
pub(crate) fn pyenv_versions() -> Option<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".pyenv")))?;
    Some(root.join("versions"))
}

/// pyenv's newest interpreter of a minor version.
fn pyenv(version: &str) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(pyenv_versions()?)
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path
                .file_name()?
                .to_str()?
                .strip_prefix(version)?
                .strip_prefix('.')?
                .parse()
                .ok()?;
            let program = path.join("bin/python3");
            program.is_file().then_some((number, program))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, program)| program)
}

/// Whether a line of a service's file is in the function, to check reported locations. None if the
/// service has no such file.
pub(crate) fn is_line_of(service: &Path, file: &str, line: u64, function: &str) -> Option<bool> {
    let name = Path::new(file).file_name()?;
    // Modules that several services use are beside their folders.
    let shared = service.with_file_name("shared");
    let path = find(service, Path::new(name)).or_else(|| find(&shared, Path::new(name)))?;
    let text = fs::read_to_string(path).ok()?;
    let last = usize::try_from(line).ok()?;
    let lines: Vec<&str> = text.lines().take(last).collect();
    let mut depth = indent(lines.get(last.checked_sub(1)?)?) + 1;
    for above in lines.iter().rev().filter(|line| !line.trim().is_empty()) {
        if indent(above) < depth {
            depth = indent(above);
            let code = above.trim_start();
            if let Some(definition) = code
                .strip_prefix("async ")
                .unwrap_or(code)
                .strip_prefix("def ")
            {
                return Some(definition.split('(').next() == Some(function));
            }
        }
    }
    None
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn find(folder: &Path, name: &Path) -> Option<PathBuf> {
    let direct = folder.join(name);
    if direct.is_file() {
        return Some(direct);
    }
    let folders = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.is_dir().then_some(path)
    });
    folders.into_iter().find_map(|folder| find(&folder, name))
}

#[cfg(test)]
mod tests {
    use super::{folder, is_line_of};

    #[test]
    fn a_line_belongs_to_the_function_around_it() {
        let flask = folder().join("flask");
        let text = std::fs::read_to_string(flask.join("token_caches.py")).expect("the file");
        let line_with = |part: &str| {
            let place = text.lines().position(|line| line.contains(part));
            place.expect("a line") as u64 + 1
        };
        let stores = line_with("claims_cache[token] = claims");
        let is = |line, function| is_line_of(&flask, "/x/token_caches.py", line, function);
        assert_eq!(is(stores, "claims_for"), Some(true));
        assert_eq!(is(stores, "get_data"), Some(false));
        assert_eq!(is(line_with("def get_data():"), "get_data"), Some(true));
        assert_eq!(is(line_with("def get_data():") + 1, "get_data"), Some(true));
        // Module-level lines are in no function.
        assert_eq!(is(line_with("claims_cache = {}"), "claims_for"), None);
        assert_eq!(is_line_of(&flask, "no.py", 1, "claims_for"), None);
    }
}
