//! `cargo xtask dist`: a release as an archive and as a Debian package, with their checksums.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{command, on_path, output, root, run as run_command};

/// Contents of the archive besides the program, the unit, the manual and the completions.
const FILES: &[&str] = &[
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "dashboards",
    "docs",
];
/// Folder of the unit and of the package's scripts.
const PACKAGING: &str = "agent/packaging";
/// The worst acceptable score of the unit in `systemd-analyze security`, times ten.
const EXPOSURE: &str = "20";

pub(crate) fn run() -> Result<()> {
    crate::build::agent(true)?;
    let dist = root().join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let parts = Parts::make(&dist)?;
    let made = [archive(&dist, &parts)?, package(&dist, &parts)?];
    parts.remove()?;
    for name in made.iter().flatten() {
        let sum = output(command("sha256sum").arg(name).current_dir(&dist))?;
        fs::write(dist.join(format!("{name}.sha256")), &sum)
            .context("cannot write the checksum")?;
        println!("dist/{name}\n{}", sum.trim_end());
    }
    Ok(())
}

/// What both forms of the release contain.
struct Parts {
    folder: PathBuf,
    /// The stripped program.
    program: PathBuf,
    /// Manual pages and completions.
    manual: PathBuf,
}

impl Parts {
    fn make(dist: &Path) -> Result<Self> {
        let folder = dist.join("parts");
        let parts = Self {
            program: folder.join("heaptide"),
            manual: folder.join("manual"),
            folder,
        };
        empty(&parts.manual)?;
        let mut strip = command("strip");
        run_command(
            strip
                .arg("-o")
                .arg(&parts.program)
                .arg("target/release/heaptide"),
        )?;
        let mut manual = command(parts.program.display().to_string());
        run_command(manual.arg("manual").arg(&parts.manual))?;
        Ok(parts)
    }

    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    /// The files of the manual whose names end so.
    fn of_manual(&self, end: &str) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.manual).context("the manual")?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        let fits = |path: &PathBuf| path.display().to_string().ends_with(end);
        Ok(paths.into_iter().filter(fits).collect())
    }
}

/// The archive; returns its name.
fn archive(dist: &Path, parts: &Parts) -> Result<Option<String>> {
    let root = root();
    let name = format!("heaptide-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let staged = dist.join(&name);
    empty(&staged)?;
    let present = FILES
        .iter()
        .map(|file| root.join(file))
        .filter(|file| file.exists());
    run_command(command("cp").arg("-r").args(present).arg(&staged))?;
    let unit = root.join(PACKAGING).join("heaptide.service");
    run_command(
        command("cp")
            .arg("-r")
            .args([&parts.program, &parts.manual, &unit])
            .arg(&staged),
    )?;

    let archive = format!("{name}.tar.gz");
    // Fixed owner, order and times: the same inputs give the same archive.
    let mut tar = command("tar");
    tar.current_dir(dist)
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ])
        .args(["--use-compress-program=gzip -n", "-cf", &archive, &name]);
    run_command(&mut tar)?;
    fs::remove_dir_all(&staged).with_context(|| format!("cannot remove {}", staged.display()))?;
    Ok(Some(archive))
}

/// The Debian package; returns its name. `None`: there is no dpkg-deb.
fn package(dist: &Path, parts: &Parts) -> Result<Option<String>> {
    if on_path("dpkg-deb").is_none() {
        eprintln!("dist: no Debian package, because there is no dpkg-deb");
        return Ok(None);
    }
    let root = root();
    let packaging = root.join(PACKAGING);
    let unit = packaging.join("heaptide.service");
    check_unit(&unit)?;
    let staged = dist.join("package");
    empty(&staged)?;
    let put = |from: &Path, to: &str, mode: u32| -> Result<()> {
        let to = staged.join(to);
        let say = || format!("cannot put {} into the package", from.display());
        let folder = to.parent().context("a path in the package")?;
        fs::create_dir_all(folder).with_context(say)?;
        fs::copy(from, &to).with_context(say)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).with_context(say)
    };
    put(&parts.program, "usr/bin/heaptide", 0o755)?;
    put(&unit, "lib/systemd/system/heaptide.service", 0o644)?;
    // An empty list of targets: nothing is observed before somebody has named a service.
    let example = root.join("docs/heaptide.example.toml");
    put(
        &example,
        "usr/share/doc/heaptide/heaptide.example.toml",
        0o644,
    )?;
    put(
        &packaging.join("heaptide.toml"),
        "etc/heaptide/heaptide.toml",
        0o644,
    )?;
    // `runbook_url` of the alerts is the place of alerts.md.
    for file in [
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/alerts.md",
        "docs/metrics.md",
        "dashboards/rules/heaptide.rules.yml",
        "dashboards/grafana/heaptide.json",
    ] {
        let name = file.rsplit('/').next().unwrap_or(file);
        put(
            &root.join(file),
            &format!("usr/share/doc/heaptide/{name}"),
            0o644,
        )?;
    }
    put(
        &packaging.join("copyright"),
        "usr/share/doc/heaptide/copyright",
        0o644,
    )?;
    for page in parts.of_manual(".1")? {
        let name = page.file_name().context("a page")?.to_string_lossy();
        put(&page, &format!("usr/share/man/man1/{name}"), 0o644)?;
        run_command(
            command("gzip")
                .args(["-9n"])
                .arg(staged.join(format!("usr/share/man/man1/{name}"))),
        )?;
    }
    for (end, to) in [
        (".bash", "usr/share/bash-completion/completions/heaptide"),
        (".fish", "usr/share/fish/vendor_completions.d/heaptide.fish"),
        ("_heaptide", "usr/share/zsh/vendor-completions/_heaptide"),
    ] {
        for file in parts.of_manual(end)? {
            put(&file, to, 0o644)?;
        }
    }
    for script in ["postinst", "prerm", "postrm"] {
        put(&packaging.join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    let control = staged.join("DEBIAN");
    fs::write(control.join("conffiles"), "/etc/heaptide/heaptide.toml\n").context("conffiles")?;
    let architecture = output(command("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let version = env!("CARGO_PKG_VERSION");
    let libc = glibc(&parts.program)?;
    let text = format!(
        "Package: heaptide\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: heaptide\n\
         Depends: libc6 (>= {libc}), libgcc-s1\nSection: admin\nPriority: optional\n\
         Description: memory leaks of running services, by route and token\n \
         An eBPF agent that watches services from outside and says whether their memory\n \
         leaks, which HTTP route and which tokens make it grow, and which line keeps it.\n"
    );
    fs::write(control.join("control"), text).context("control")?;
    let name = format!("heaptide_{version}_{architecture}.deb");
    let mut build = command("dpkg-deb");
    build.env("SOURCE_DATE_EPOCH", "0").current_dir(dist);
    run_command(build.args(["--root-owner-group", "--build", "package", &name]))?;
    fs::remove_dir_all(&staged).with_context(|| format!("cannot remove {}", staged.display()))?;
    Ok(Some(name))
}

/// Refuses a unit with more rights than was decided.
fn check_unit(unit: &Path) -> Result<()> {
    if on_path("systemd-analyze").is_none() {
        eprintln!("dist: the unit is not checked, because there is no systemd-analyze");
        return Ok(());
    }
    let mut analyze = command("systemd-analyze");
    analyze.args(["security", "--no-pager", "--offline=true"]);
    let text = output(analyze.arg(format!("--threshold={EXPOSURE}")).arg(unit))
        .with_context(|| format!("{} may do more than was decided", unit.display()))?;
    eprintln!("{}", text.lines().last().unwrap_or_default());
    Ok(())
}

/// The newest version of glibc that a program needs.
fn glibc(program: &Path) -> Result<String> {
    let symbols = output(command("objdump").arg("-T").arg(program))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let numbers: Vec<u32> = rest[..end]
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        Some(numbers)
    });
    let newest = versions
        .max()
        .context("the program needs no version of glibc")?;
    let words: Vec<String> = newest.iter().map(u32::to_string).collect();
    Ok(words.join("."))
}

/// Makes an empty folder.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// The host's triple.
fn host() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| Some(line.strip_prefix("host: ")?.to_owned()))
        .context("rustc does not print its host")
}
