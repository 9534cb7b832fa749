//! The minor versions of Go with known layouts: one file each, written by `cargo xtask layouts go`, and one line each
//! in the table. Other versions are recognised and observed without them.

use super::layout::Layout;

/// The table: a minor version and its file.
macro_rules! versions {
    ($($minor:literal $module:ident $file:literal)*) => {
        $(#[path = $file] mod $module;)*
        const TABLE: &[(u32, Layout)] = &[$(($minor, $module::LAYOUT)),*];
    };
}

versions! {
    21 go_1_21 "1_21.rs"
    22 go_1_22 "1_22.rs"
    23 go_1_23 "1_23.rs"
    24 go_1_24 "1_24.rs"
    25 go_1_25 "1_25.rs"
    26 go_1_26 "1_26.rs"
    27 go_1_27 "1_27.rs"
}

/// The layout of a version (1, minor).
pub(crate) fn layout(minor: u32) -> Option<Layout> {
    let row = TABLE.iter().find(|row| row.0 == minor);
    row.map(|row| row.1)
}

/// The minor versions of the table, oldest first.
pub(crate) fn minors() -> impl Iterator<Item = u32> {
    TABLE.iter().map(|row| row.0)
}

/// The minor version of a version string (`1.25.5` is 25).
pub(crate) fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("1.")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(minor("1.25.5"), Some(25));
        assert_eq!(minor("1.27rc1"), Some(27));
        assert_eq!(minor("devel +abc"), None);
        assert!(layout(25).is_some() && layout(99).is_none());
    }

    /// `agent-ebpf` reads spans in these two forms.
    #[test]
    fn spans_are_as_the_kernel_half_has_them() {
        for (minor, layout) in TABLE {
            let s = layout.span;
            let wide = u16::from(s.is_wide()) * 8;
            let counters = if s.is_wide() { [48, 56] } else { [48, 50] };
            assert_eq!([s.free, s.objects], counters, "1.{minor}");
            assert!([2, 8].contains(&s.counter_bytes), "1.{minor}");
            let behind = [
                s.cache,
                s.sweep,
                s.allocated,
                s.class,
                s.state,
                s.before,
                s.size,
            ];
            let wanted = [56, 88, 96, 98, 99, 102, 104].map(|offset| offset + wide);
            assert_eq!((s.start, behind), (24, wanted), "1.{minor}");
        }
    }
}
