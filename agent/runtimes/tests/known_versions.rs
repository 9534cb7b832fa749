//! The README names the versions of the tables.

use std::fs;
use std::path::Path;

use heaptide_runtimes::known_versions;

#[test]
fn the_readme_names_the_versions_of_the_tables() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    for runtime in ["CPython", "Go"] {
        let known = known_versions(runtime);
        let minors: Vec<u32> = known
            .iter()
            .map(|version| {
                let minor = version
                    .split_once('.')
                    .and_then(|(_, minor)| minor.parse().ok());
                minor.expect("a major and a minor")
            })
            .collect();
        assert!(
            minors.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "none is left out between the first and the last: {known:?}"
        );
        let (first, last) = (known.first().expect("one"), known.last().expect("one"));
        let said = format!("{runtime} {first} to {last}");
        assert!(readme.contains(&said), "the README does not say {said:?}");
    }
}
