//! The JSON Schema of the report (`docs/report.schema.json`) describes the reports that heaptide writes: every field, and
//! nothing else. Reports of real processes are checked by the kernel test `daemon`.

mod schema;

use heaptide_judge::fixtures;
use schema::check;

#[test]
fn reports_follow_the_schema() {
    let mut whole = fixtures::leak();
    whole.bound = Some(fixtures::bound(1.0));
    whole.target.workload.container = Some("0123".to_owned());
    for report in [
        whole,
        fixtures::suspect(),
        fixtures::no_leak(),
        fixtures::insufficient(),
    ] {
        let report = serde_json::to_value(&report).unwrap();
        assert_eq!(check(&report), Vec::<String>::new());
    }
}

#[test]
fn what_does_not_follow_it_is_found() {
    let good = serde_json::to_value(fixtures::leak()).unwrap();
    let broken = |change: fn(&mut serde_json::Value)| {
        let mut report = good.clone();
        change(&mut report);
        check(&report).join("; ")
    };
    let said = broken(|report| report["verdict"] = "maybe".into());
    assert!(said.contains("/verdict"), "{said}");
    let said = broken(|report| report["findings"][0]["blocks"] = (-1).into());
    assert!(said.contains("/findings/0/blocks"), "{said}");
    let said = broken(|report| report["target"]["new"] = 1.into());
    assert!(said.contains("/target/new"), "{said}");
    let said = broken(|report| {
        report.as_object_mut().unwrap().remove("health");
    });
    assert!(said.contains("health"), "{said}");
}
