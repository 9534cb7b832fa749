//! Tests of the configuration.

use super::*;

fn error(text: &str) -> String {
    parse(text, Path::new("h.toml")).unwrap_err().to_string()
}

#[test]
fn the_example_parses_and_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/heaptide.example.toml");
    let config = load(&path).unwrap();
    assert!(config.targets.len() >= 3);
    let text = fs::read_to_string(&path).unwrap();
    let agent = "metrics mode overhead horizon credential residency log_format log scan_interval report_interval \
                 max_processes";
    let target = "name pid exe comm cmdline cgroup follow_children memory_limit expect_cache horizon \
                  handlers credential mode";
    for key in agent.split_whitespace().chain(target.split_whitespace()) {
        let line = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{key} = "))
        };
        assert!(text.lines().any(line), "{key} is not in the example");
    }
    // Commented-out settings must be valid too.
    let all: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(char::is_uppercase) => rest,
            _ => line,
        })
        .collect();
    parse(&all.join("\n"), &path).unwrap();
}

#[test]
fn an_empty_file_has_the_defaults() {
    let config = parse("", Path::new("h.toml")).unwrap();
    assert_eq!(config.agent.metrics.to_string(), "127.0.0.1:9876");
    assert_eq!(config.agent.mode, Mode::Auto);
    assert!(config.targets.is_empty());
}

#[test]
fn values_are_read_like_flags() {
    let text = r#"
        [agent]
        metrics = 9000
        overhead = 5
        mode = "trace"
        credential = "cookie:sid"
        log_format = "text"
        scan_interval = "1m"

        [[target]]
        name = "api"
        cmdline = 'gunicorn.*api'
        memory_limit = "512MiB"
        expect_cache = 1024
        handlers = ["^app::"]

        [[target]]
        name = "db"
        pid = 17
        memory_limit = 4096
        credential = "bearer"
        mode = "watch"
        follow_children = false
    "#;
    let config = parse(text, Path::new("h.toml")).unwrap();
    assert_eq!(config.agent.metrics.to_string(), "127.0.0.1:9000");
    assert!((config.agent.overhead - 0.05).abs() < 1e-9);
    assert_eq!(config.agent.credential, Credential::Cookie("sid".into()));
    assert_eq!(config.agent.log_format, LogFormat::Text);
    assert_eq!(config.agent.scan_interval, Duration::from_secs(60));
    let [api, db] = &config.targets[..] else {
        panic!("two targets")
    };
    assert_eq!(
        (api.memory_limit, api.expect_cache),
        (Some(512 << 20), Some(1024))
    );
    assert!(
        api.cmdline
            .as_ref()
            .unwrap()
            .is_match("gunicorn -w 4 api:app")
            && api.follow_children
    );
    assert_eq!((db.memory_limit, db.mode), (Some(4096), Some(Mode::Watch)));
    assert!(!db.follow_children);
}

#[test]
fn errors_name_the_line_and_what_to_do() {
    for (text, expected) in [
        (
            "[agent]\nmetric = 1\n",
            "h.toml:2: unknown field `metric`, expected one of",
        ),
        ("[agent]\nmetric = 1\n", "did you mean `metrics`?"),
        (
            "[agent]\n\nmetrics = \"nowhere\"\n",
            "h.toml:3: `nowhere` is not an address",
        ),
        (
            "[agent]\noverhead = \"200%\"\n",
            "h.toml:2: `200%` is not a percentage",
        ),
        ("[agent]\nmode = \"traec\"\n", "did you mean `trace`?"),
        (
            "[agent]\nscan_interval = \"10ms\"\n",
            "h.toml:2: an interval below 1s",
        ),
        (
            "[agent]\nmax_processes = 0\n",
            "h.toml:2: max_processes is 0",
        ),
        (
            "[agent]\nmax_processes = 100000\n",
            "h.toml:2: max_processes is 100000, more than",
        ),
        (
            "[agent]\nreport_interval = \"90000s\"\n",
            "h.toml:2: report_interval is longer than a day",
        ),
        (
            "[agent]\nmode = \"auto\"\nlog = \"inof\"\n",
            "h.toml:3: `inof` is no log filter",
        ),
        (
            "[agent]\nlog = \"heaptide=loud\"\n",
            "h.toml:2: `heaptide=loud` is no log filter",
        ),
        ("[agent]\nlog = \"\"\n", "h.toml:2: `` is no log filter"),
        (
            "[[target]]\nname = \"a\"\ncmdline = '.*'\n",
            "h.toml:1: target `a`: cmdline matches every process",
        ),
        (
            "[[target]]\nname = \"a\"\npid = 4294967295\n",
            "h.toml:1: target `a`: there is no pid 4294967295",
        ),
        (
            "[[target]]\nname = \"a\"\npid = 1\nexpect_cache = 9000000000000000000\n",
            "h.toml:1: target `a`: expect_cache is more than any memory holds",
        ),
        (
            "[[target]]\nname = \"a\"\npid = 1\nmemory_limit = 64\n",
            "h.toml:1: target `a`: memory_limit of 64 bytes",
        ),
        ("[agent]\nmetrics = [\n", "h.toml:"),
        (
            "\n[[targets]]\nname = \"a\"\n",
            "h.toml:2: unknown field `targets`",
        ),
        ("\n[[targets]]\nname = \"a\"\n", "did you mean `target`?"),
        ("[[target]]\npid = 1\n", "missing field `name`"),
        (
            "[[target]]\nname = \"a\"\npid = -1\n",
            "h.toml:3: invalid value",
        ),
        (
            "[[target]]\nname = \"a b\"\npid = 1\n",
            "h.toml:2: `a b` is not a service name",
        ),
        (
            "[[target]]\nname = \"a\"\n",
            "h.toml:1: target `a` selects no process; add at least one",
        ),
        (
            "[[target]]\nname = \"a\"\ncmdline = '('\n",
            "h.toml:3: `(` is not a regular expression",
        ),
        (
            "[[target]]\nname = \"a\"\ncomm = \"0123456789abcdef\"\n",
            "write `0123456789abcde`",
        ),
        (
            "[[target]]\nname = \"a\"\ncgroup = \"a.service\"\n",
            "such as /system.slice/a.service",
        ),
        (
            "[[target]]\nname = \"a\"\npid = 1\n[[target]]\nname = \"a\"\npid = 2\n",
            "h.toml:4: two targets are named `a`",
        ),
        (
            "[[target]]\nname = \"a\"\npid = 1\nmemory_limit = \"lots\"\n",
            "h.toml:4: `lots`",
        ),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn state_that_is_no_file_is_refused() {
    for state in ["/dev/full", "/tmp"] {
        let error = error(&format!("[agent]\nstate = \"{state}\"\n"));
        let expected = format!("h.toml:2: state `{state}` is not a regular file");
        assert!(error.contains(&expected), "{error:?} lacks {expected:?}");
    }
}

#[test]
fn each_target_may_have_its_own_credential() {
    let target = |number| {
        let selected = format!("[[target]]\nname = \"t{number}\"\npid = 7\n");
        format!("{selected}credential = \"cookie:c{number}\"\n")
    };
    let targets: Vec<String> = (0..20).map(target).collect();
    let text = targets.concat() + "[[target]]\nname = \"last\"\npid = 7\n";
    let config = parse(&text, Path::new("h.toml")).unwrap();
    for (number, target) in config.targets[..20].iter().enumerate() {
        let expected = Credential::Cookie(format!("c{number}"));
        assert_eq!(*config.credential_of(target), expected);
    }
    let last = config.targets.last().unwrap();
    assert_eq!(*config.credential_of(last), Credential::Bearer);
}

#[test]
fn files_that_cannot_be_read() {
    let of = |path: &str| load(Path::new(path)).unwrap_err().to_string();
    let error = of("/nonexistent/heaptide.toml");
    assert!(
        error.contains("cannot read the configuration /nonexistent/heaptide.toml"),
        "{error}"
    );
    assert!(error.contains("--config"), "{error}");
    assert!(of("/dev/zero").contains("not a regular file"));
    assert!(of("/").contains("not a regular file"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"name = \"\xff\"").unwrap();
    assert!(of(path.to_str().unwrap()).contains("UTF-8"));
}
