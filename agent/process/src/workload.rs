//! The systemd unit, container and pod of a process, from the path of its control group. No runtime is asked, and no
//! variable of the process is read: only names that systemd and the runtimes give to control groups.

use std::fs;

use heaptide_judge::events::Workload;

/// Prefixes of a container's name in a control group, and the runtime that uses them.
const RUNTIMES: &[(&str, &str)] = &[
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
];
/// Hexadecimal digits of a container's id.
const ID: usize = 64;
/// Longest UID of a pod.
const UID: usize = 36;

/// Where a process runs; empty if it cannot be read.
pub fn of(pid: u32) -> Workload {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"));
    text.map_or_else(|_| Workload::default(), |text| parse(&text))
}

/// Parses `/proc/PID/cgroup`. With version 1 there is a path for each controller. That of memory comes first, because
/// its limit applies, and then that of systemd, which has the unit without any controller.
pub fn parse(text: &str) -> Workload {
    let mut lines: Vec<(u8, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let rank = match controllers {
                "" => 2,
                "name=systemd" => 1,
                _ if controllers.split(',').any(|one| one == "memory") => 0,
                _ => 3,
            };
            Some((rank, path))
        })
        .collect();
    lines.sort_by_key(|(rank, _)| *rank);
    let mut all = Workload::default();
    for (_, path) in lines {
        let one = of_path(path);
        if all.container.is_none() {
            all.container = one.container;
            all.container_runtime = one.container_runtime;
        }
        all.pod_uid = all.pod_uid.or(one.pod_uid);
        all.unit = all.unit.or(one.unit);
    }
    all
}

/// Whether this is the unit: its name, with or without `.service`.
pub fn is_unit(workload: &Workload, name: &str) -> bool {
    let unit = workload.unit.as_deref();
    unit.is_some_and(|unit| unit == name || unit.strip_suffix(".service") == Some(name))
}

/// Whether this is the container: its id, or the beginning of it.
pub fn is_container(workload: &Workload, id: &str) -> bool {
    let container = workload.container.as_deref();
    !id.is_empty() && container.is_some_and(|container| container.starts_with(id))
}

/// What one path says.
fn of_path(path: &str) -> Workload {
    let names = || path.split('/').filter(|name| !name.is_empty());
    let mut found = Workload {
        unit: unit(path),
        ..Workload::default()
    };
    for (at, name) in names().enumerate() {
        if let Some(uid) = pod(name) {
            found.pod_uid = Some(uid);
        }
        // The innermost one: a node of `kind` is a container itself.
        if let Some((id, runtime)) = container(name) {
            let parent = at.checked_sub(1).and_then(|at| names().nth(at));
            let by_parent = parent.and_then(|parent| match parent {
                "docker" => Some("docker"),
                "libpod_parent" => Some("podman"),
                _ => None,
            });
            found.container = Some(id.to_owned());
            found.container_runtime = runtime.or(by_parent).map(str::to_owned);
        }
    }
    found
}

/// The unit that systemd has started: the first name below the slices. Whatever is below that was made by the unit itself,
/// which may choose any name. Units of users have the manager of the user before them.
fn unit(path: &str) -> Option<String> {
    let ends = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|rest| !rest.is_empty());
    // The characters of systemd's names: a user may give a control group any other, for a terminal to obey.
    let is_named = |name: &str| {
        let mut bytes = name.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
    };
    let is_unit = |name: &&str| (ends(name, ".service") || ends(name, ".scope")) && is_named(name);
    let mut below = path
        .split('/')
        .filter(|name| !name.is_empty())
        .skip_while(|name| ends(name, ".slice"));
    let first = below.next().filter(is_unit)?;
    // The scope of a container is its own, with a new name after each start.
    if container(first).is_some() {
        return None;
    }
    if first.starts_with("user@") {
        let mut below = below.skip_while(|name| ends(name, ".slice"));
        return match below.next().filter(is_unit) {
            Some(own) if container(own).is_some() => None,
            Some(own) => Some(format!("{first}/{own}")),
            None => Some(first.to_owned()),
        };
    }
    Some(first.to_owned())
}

/// The id of a container in a name, and its runtime if the name tells.
fn container(name: &str) -> Option<(&str, Option<&'static str>)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let is_id = |id: &str| id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id(name) {
        return Some((name, None));
    }
    // `libpod-conmon-...` and `crio-conmon-...` are the monitors of a container, not the container.
    RUNTIMES.iter().find_map(|(prefix, runtime)| {
        let id = name.strip_prefix(prefix)?;
        is_id(id).then_some((id, Some(*runtime)))
    })
}

/// The UID of a pod in a name: `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` instead of `-`.
fn pod(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        None => return None,
    };
    let is_uid = (ID / 2..=UID).contains(&uid.len())
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_');
    is_uid.then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID_A: &str = "3f2a9c0d1e4b5a6978877665544332211000ffeeddccbbaa9988776655443322";
    const ID_B: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const UID_A: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    /// `unit container runtime pod` with `-` for what is not known; `A` and `B` are the ids.
    fn said(text: &str) -> String {
        let uid = UID_A.replace('-', "_");
        let text = text
            .replace("$A", ID_A)
            .replace("$B", ID_B)
            .replace("$uid", UID_A)
            .replace("$u_i_d", &uid);
        let found = parse(&text);
        let or = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
        let short = |id: String| id.replace(ID_A, "A").replace(ID_B, "B").replace(UID_A, "U");
        format!(
            "{} {} {} {}",
            or(found.unit),
            short(or(found.container)),
            or(found.container_runtime),
            short(or(found.pod_uid))
        )
    }

    /// `/proc/PID/cgroup` as systemd and the runtimes name control groups, written from their naming schemes.
    const NAMED: &[(&str, &str, &str)] = &[
        (
            "systemd, v2",
            "0::/system.slice/api.service\n",
            "api.service - - -",
        ),
        (
            "systemd, v2, instance and sub-group",
            "0::/system.slice/system-api.slice/api@7.service/workers\n",
            "api@7.service - - -",
        ),
        (
            "a login session",
            "0::/user.slice/user-1000.slice/session-3.scope\n",
            "session-3.scope - - -",
        ),
        (
            "a unit of a user",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/api.service\n",
            "user@1000.service/api.service - - -",
        ),
        (
            "systemd, v1 without memory accounting",
            "12:memory:/\n5:cpu,cpuacct:/\n1:name=systemd:/system.slice/api.service\n0::/\n",
            "api.service - - -",
        ),
        (
            "Docker, v2, systemd driver",
            "0::/system.slice/docker-$A.scope\n",
            "- A docker -",
        ),
        (
            "Docker, v2, cgroupfs driver",
            "0::/docker/$A\n",
            "- A docker -",
        ),
        (
            "Docker, v1",
            "13:name=systemd:/docker/$A\n9:memory:/docker/$A\n0::/system.slice/containerd.service\n",
            "containerd.service A docker -",
        ),
        (
            "Podman, v2, root",
            "0::/machine.slice/libpod-$A.scope/container\n",
            "- A podman -",
        ),
        (
            "Podman, v2, a user",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$A.scope/container\n",
            "- A podman -",
        ),
        (
            "Podman, v2, Quadlet",
            "0::/system.slice/api.service/libpod-payload-$A\n",
            "api.service A podman -",
        ),
        (
            "Podman's monitor",
            "0::/machine.slice/libpod-conmon-$A.scope\n",
            "libpod-conmon-$A.scope - - -",
        ),
        (
            "Podman, cgroupfs",
            "0::/libpod_parent/libpod-$A\n",
            "- A podman -",
        ),
        (
            "Kubernetes, containerd, v2, systemd driver",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$u_i_d.slice/cri-containerd-$A.scope\n",
            "- A containerd U",
        ),
        (
            "Kubernetes, guaranteed, v2, systemd driver",
            "0::/kubepods.slice/kubepods-pod$u_i_d.slice/cri-containerd-$A.scope\n",
            "- A containerd U",
        ),
        (
            "Kubernetes, v1, cgroupfs driver",
            "11:memory:/kubepods/besteffort/pod$uid/$A\n1:name=systemd:/kubepods/besteffort/pod$uid/$A\n",
            "- A - U",
        ),
        (
            "Kubernetes, CRI-O, v2",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod$u_i_d.slice/crio-$A.scope/container\n",
            "- A cri-o U",
        ),
        (
            "kind: a node in Docker",
            "0::/system.slice/docker-$B.scope/kubelet.slice/kubelet-kubepods.slice/\
                 kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod$u_i_d.slice/cri-containerd-$A.scope\n",
            "- A containerd U",
        ),
        (
            "nerdctl, v2",
            "0::/system.slice/nerdctl-$A.scope\n",
            "- A containerd -",
        ),
        (
            "seen from another cgroup namespace",
            "0::/../docker-$A.scope\n",
            "- A docker -",
        ),
        ("no unit", "0::/\n", "- - - -"),
    ];

    #[test]
    fn recorded_paths() {
        for (host, text, expected) in NAMED {
            assert_eq!(said(text), expected.replace("$A", ID_A), "{host}");
        }
    }

    #[test]
    fn units_and_containers_are_named_as_their_tools_show_them() {
        let api = parse("0::/system.slice/api.service\n");
        for (name, expected) in [
            ("api", true),
            ("api.service", true),
            ("ap", false),
            ("", false),
        ] {
            assert_eq!(is_unit(&api, name), expected, "{name}");
        }
        let text = format!("0::/docker/{ID_A}\n");
        let docker = parse(&text);
        for (id, expected) in [
            (ID_A, true),
            (&ID_A[..12], true),
            (ID_B, false),
            ("", false),
        ] {
            assert_eq!(is_container(&docker, id), expected, "{id}");
        }
        assert!(!is_container(&api, ID_A) && !is_unit(&docker, "docker"));
    }

    #[test]
    fn names_that_a_process_may_choose_are_not_believed() {
        for (text, expected) in [
            // What a terminal would obey.
            (
                "0::/user.slice/user-1000.slice/user@1000.service/\u{1b}[2J.service\n",
                "user@1000.service - - -",
            ),
            // A service and a container that may make groups of their own.
            (
                "0::/system.slice/evil.service/billing.service\n",
                "evil.service - - -",
            ),
            (
                "0::/system.slice/docker-$A.scope/billing.service\n",
                "- A docker -",
            ),
            // A user's unit that is called like one of the system.
            (
                "0::/user.slice/user-7.slice/user@7.service/billing.service\n",
                "user@7.service/billing.service - - -",
            ),
            ("0::/docker/short\n0::/docker/$Azz\n", "- - - -"),
            ("0::/podinfo/pod-of-mine\n0::/.service/.scope\n", "- - - -"),
            ("", "- - - -"),
            ("::::\n:\n0\n0:a\n\u{0}", "- - - -"),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
        let long = format!("0::{}", "/x.slice".repeat(100_000));
        assert_eq!(parse(&long), Workload::default());
    }
}
