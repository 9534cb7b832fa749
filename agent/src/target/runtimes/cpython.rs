//! `CPython`: recognised by libpython or the name of the executable.

use std::sync::LazyLock;

use regex::Regex;

use super::{Inspected, RuntimeMatch};

static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:lib)?python(\d+\.\d+)?[a-z]*(?:\.so.*|\d)?$").ok());

pub(super) fn recognise(inspected: &Inspected<'_>) -> Option<RuntimeMatch> {
    let name = NAME.as_ref()?;
    let exe = inspected.exe.rsplit('/').next().unwrap_or(inspected.exe);
    let mut names = std::iter::once(exe).chain(inspected.modules.iter().map(|m| m.name.as_str()));
    let found = names.find_map(|n| name.captures(n))?;
    Some(RuntimeMatch {
        name: match found.get(1) {
            Some(version) => format!("cpython {}", version.as_str()),
            None => "cpython".to_string(),
        },
        own_heap: true,
        limitation: Some(
            "Python objects up to 512 bytes come from CPython's own arenas: only the larger ones \
             and C extensions are seen allocation by allocation"
                .to_string(),
        ),
        ..RuntimeMatch::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = NAME.as_ref().unwrap();
        let version = |n: &str| {
            name.captures(n)
                .map(|c| c.get(1).map(|m| m.as_str().to_string()))
        };
        assert_eq!(version("python3.11"), Some(Some("3.11".to_string())));
        assert_eq!(
            version("libpython3.12.so.1.0"),
            Some(Some("3.12".to_string()))
        );
        assert_eq!(version("python3"), Some(None));
        assert_eq!(version("pythonic-tool"), None);
    }
}
