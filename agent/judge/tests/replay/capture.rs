//! Recording and replaying: the same report, no credential on disk, and errors for damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use heaptide_judge::capture::{CaptureError, CaptureReader, CaptureWriter, VERSION, replay};
use heaptide_judge::events::Observation;
use heaptide_judge::findings::service;
use heaptide_judge::pipeline::{JudgeOptions, Pipeline};
use heaptide_judge::report::{Report, Verdict};

use super::world::{Keeps, Trace, generate};

/// The traces say nothing of their process.
const PID: u32 = 0;

fn observations() -> Vec<Observation> {
    generate(Trace {
        keeps: Keeps::PerToken,
        seconds: 40,
        limit: 40 << 20,
        ..Trace::default()
    })
    .0
}

fn record(path: &Path, observations: &[Observation]) {
    let mut writer = CaptureWriter::create(path).expect("a file in a temporary folder");
    for observation in observations {
        writer.write(PID, observation).expect("space for a capture");
    }
    writer.finish().expect("space for a capture");
}

fn judge(observations: &[Observation]) -> Report {
    let mut pipeline = Pipeline::new(JudgeOptions::default());
    for observation in observations {
        pipeline.observe(observation);
    }
    pipeline.report()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("capture");
    (folder, path)
}

#[test]
fn a_replay_gives_the_same_report_to_the_last_bit() {
    let (_folder, path) = file();
    let observations = observations();
    record(&path, &observations);
    let live = judge(&observations);
    let replayed = replay(&path, JudgeOptions::default()).expect("a capture");
    assert!(replayed.damage.is_none());
    assert_eq!(replayed.report, live);
    assert_ne!(live.verdict, Verdict::NoLeak);
    assert!(
        live.findings.len() == 1 && !live.live.curve.is_empty() && !live.live.top_sites.is_empty()
    );
}

/// A master of workers serves no request itself, so a capture without its children would be empty.
#[test]
fn a_replay_judges_children_too() {
    let (_folder, path) = file();
    let quiet = generate(Trace {
        keeps: Keeps::Nothing,
        seconds: 40,
        ..Trace::default()
    });
    let processes = [(PID, quiet.0), (PID + 1, observations())];
    let mut writer = CaptureWriter::create(&path).expect("a capture");
    let longest = processes.iter().map(|(_, all)| all.len()).max();
    for index in 0..longest.expect("two") {
        for (pid, all) in &processes {
            if let Some(observation) = all.get(index) {
                writer.write(*pid, observation).expect("space");
            }
        }
    }
    writer.finish().expect("space");
    let replayed = replay(&path, JudgeOptions::default()).expect("a capture");
    let live = processes.iter().map(|(_, all)| judge(all)).collect();
    let live = service::sum(live).expect("a report");
    assert_eq!(replayed.report, live);
    assert_eq!(live.processes.len(), 2);
    assert_ne!(live.verdict, Verdict::NoLeak);
}

#[test]
fn a_capture_holds_no_query_and_no_identifier() {
    let (_folder, path) = file();
    let secret = "hunter2-4711-SECRET";
    let mut observations = observations();
    for observation in &mut observations {
        if let Observation::Request(request) = observation {
            request.head = format!("GET /api/data/{secret}?token={secret}");
        }
    }
    record(&path, &observations);
    for observation in CaptureReader::open(&path).expect("a capture") {
        if let (PID, Observation::Request(request)) = observation.expect("an observation") {
            assert_eq!(request.head, "GET /api/data/{id}");
        }
    }
    let report = judge(&observations);
    assert!(!format!("{report:?}").contains(secret));
    assert_eq!(
        replay(&path, JudgeOptions::default())
            .expect("a capture")
            .report,
        report
    );
}

#[test]
fn a_torn_or_damaged_capture_is_used_as_far_as_it_goes() {
    let (_folder, path) = file();
    record(&path, &observations());
    let whole = fs::read(&path).expect("the capture");

    fs::write(&path, &whole[..whole.len() - 20]).expect("space");
    let torn = replay(&path, JudgeOptions::default()).expect("most of a capture");
    assert!(
        matches!(torn.damage, Some(CaptureError::Truncated { .. })),
        "{:?}",
        torn.damage
    );
    assert!(torn.report.window.requests > 3_000);
    assert!(
        torn.report
            .target
            .limitations
            .iter()
            .any(|line| line.contains("ends within frame"))
    );

    let mut bad = whole.clone();
    let middle = bad.len() / 2;
    bad[middle..middle + 64].fill(0xA5);
    fs::write(&path, &bad).expect("space");
    let bad = replay(&path, JudgeOptions::default()).expect("half of a capture");
    assert!(
        bad.damage.is_some() && bad.report.window.requests > 500,
        "{:?}",
        bad.damage
    );

    fs::write(&path, b"something else entirely").expect("space");
    assert!(matches!(
        CaptureReader::open(&path),
        Err(CaptureError::NotACapture { .. })
    ));
    fs::write(&path, b"HTCAP\n\x63\x00").expect("space");
    assert!(matches!(
        CaptureReader::open(&path),
        Err(CaptureError::Version { found: 99, .. })
    ));
    // A length of four gigabytes is rejected.
    let mut long = b"HTCAP\n".to_vec();
    long.extend(VERSION.to_le_bytes());
    long.extend(b"\xff\xff\xff\xff garbage");
    fs::write(&path, long).expect("space");
    let garbage = replay(&path, JudgeOptions::default()).expect("an empty capture");
    assert!(matches!(
        garbage.damage,
        Some(CaptureError::Truncated { frame: 0, .. })
    ));
    assert_eq!(garbage.report.verdict, Verdict::InsufficientEvidence);
}

/// Only the owner may read a capture. A file that another user has put in its place is neither written nor kept.
#[test]
fn a_capture_is_written_beside_and_follows_no_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("capture");
    fs::write(&path, "old").expect("space");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its permissions");
    let old = fs::File::open(&path).expect("the old file");
    let writer = CaptureWriter::create(&path).expect("a capture");
    let mode = fs::metadata(&path)
        .expect("the capture")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::io::read_to_string(old).expect("the old file"), "old");
    writer.finish().expect("space");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);

    let victim = folder.path().join("victim");
    fs::write(&victim, "kept").expect("space");
    fs::remove_file(&path).expect("removed");
    symlink(&victim, &path).expect("a link");
    let refused = CaptureWriter::create(&path).map(drop).expect_err("a link");
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    assert_eq!(fs::read(&victim).expect("the victim"), b"kept");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let written = CaptureWriter::create(Path::new("/dev/full")).map(drop);
    let error = written.expect_err("no space on it").to_string();
    assert!(
        error.contains("/dev/full") && error.contains("No space left"),
        "{error}"
    );
    let missing = CaptureWriter::create(Path::new("/nowhere/capture"))
        .map(drop)
        .expect_err("no such folder");
    assert!(missing.to_string().contains("/nowhere/capture"));
}
