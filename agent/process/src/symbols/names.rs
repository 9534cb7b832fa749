//! Readable names: a closure or async block has the name of the enclosing function.

use super::classify::is_library_name;

/// Strips closures, async bodies and compiler suffixes from a demangled name.
pub fn normalise(name: &str) -> String {
    // glibc's internal name of an exported function
    let mut name = name.strip_prefix("__GI_").unwrap_or(name);
    // GCC's clones: `f.constprop.0`, `f.isra.0`, `f.part.1`, `f.cold`, in brackets after C++ names
    if let Some(at) = name.find(" [clone ") {
        name = &name[..at];
    }
    for suffix in [
        ".constprop.",
        ".isra.",
        ".part.",
        ".cold",
        ".lto_priv.",
        ".llvm.",
    ] {
        if let Some(at) = name.find(suffix) {
            name = &name[..at];
        }
    }
    while let Some(stripped) = strip_last(name) {
        name = stripped;
    }
    // line tables have `push<alloc::string::String, ..>`: type arguments without a path
    match name.find('<') {
        Some(at)
            if at > 0 && name.ends_with('>') && !has_path(name) && !name[..at].contains(' ') =>
        {
            name[..at].to_string()
        }
        Some(at) if at > 0 && name.starts_with('{') => name[..at].to_string(),
        _ => name.to_string(),
    }
}

/// The name has a path outside of its type arguments.
pub(super) fn has_path(name: &str) -> bool {
    name.starts_with('<') || name.split('<').next().is_some_and(|own| own.contains("::"))
}

/// The function in which an inlined closure or async body was written, if its name is only
/// `{closure#0}`: its caller has its type among the type arguments. `enclosing` are the functions
/// it was inlined into, outermost first.
pub(super) fn written_in(closure: &str, enclosing: &[&str]) -> Option<String> {
    let (kind, number) = closure.strip_prefix('{')?.split_once('#')?;
    let number = &number[..number.find('}')?];
    let mark = format!("::{{{kind}_env#{number}}}");
    enclosing.iter().rev().find_map(|name| {
        let mut paths = name
            .match_indices(&mark)
            .map(|(at, _)| path_before(&name[..at]));
        let path = paths.find(|path| !path.is_empty() && !is_library_name(&format!("{path}::")))?;
        Some(normalise(&format!("{path}::{{{kind}#{number}}}")))
    })
}

/// The path at the end of a part of a type list: `.., axapp::get_data` -> `axapp::get_data`.
fn path_before(text: &str) -> &str {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '{' | '}' | '#');
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| part(*c))
        .last();
    start.map_or("", |(at, _)| &text[at..])
}

/// Removes one trailing `::{{closure}}`, `::{closure#0}`, `::{async_fn#0}` or similar.
fn strip_last(name: &str) -> Option<&str> {
    // a generic closure: `f::{closure#0}<T>`
    let body = match name.strip_suffix('>') {
        Some(_) => &name[..generics_start(name)?],
        None => name,
    };
    let body = body.strip_suffix("::").unwrap_or(body);
    let (front, last) = body.rsplit_once("::{")?;
    let known = [
        "{closure}}",
        "closure",
        "async_fn",
        "async_block",
        "async_closure",
        "coroutine",
    ];
    let closure = last.ends_with('}') && known.iter().any(|k| last.starts_with(k));
    (closure && !front.is_empty()).then_some(front)
}

/// Start of the `<..>` at the end of a name.
fn generics_start(name: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in name.char_indices().rev() {
        match c {
            // the arrow of a function type is not a bracket
            '>' if !name[..at].ends_with('-') => depth += 1,
            '<' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closures() {
        assert_eq!(normalise("app::get_data::{{closure}}"), "app::get_data");
        assert_eq!(
            normalise("app::get_data::{{closure}}::{{closure}}"),
            "app::get_data"
        );
        assert_eq!(normalise("app::get_data::{closure#0}"), "app::get_data");
        assert_eq!(
            normalise("app::get::<u8>::{async_fn#0}::{closure#1}"),
            "app::get::<u8>"
        );
        assert_eq!(
            normalise("app::f::{closure#0}<alloc::vec::Vec<u8>>"),
            "app::f"
        );
        assert_eq!(
            normalise("<app::A as core::Fn<()>>::call"),
            "<app::A as core::Fn<()>>::call"
        );
        assert_eq!(normalise("app::{impl#3}::f"), "app::{impl#3}::f");
        assert_eq!(normalise("{closure#0}"), "{closure#0}");
    }

    #[test]
    fn line_tables_only() {
        assert_eq!(
            normalise("push<alloc::string::String, alloc::alloc::Global>"),
            "push"
        );
        assert_eq!(normalise("app::f<u8>"), "app::f<u8>");
        assert_eq!(
            normalise("{async_block#0}<fn(u8) -> u8>"),
            "{async_block#0}"
        );
        assert_eq!(normalise("<app::A as B<u8>>::f"), "<app::A as B<u8>>::f");
        assert_eq!(normalise("void f<int>(int)"), "void f<int>(int)");
        let fold = "fold<(), core::iter::map_fold::{closure_env#0}<&u8, \
                    app::get::{async_fn#0}::{closure#1}::{closure_env#0}>>";
        assert_eq!(
            written_in("{closure#0}", &[fold]).as_deref(),
            Some("app::get")
        );
        let call = "{async_block#0}<fn(u8) -> app::get_data::{async_fn_env#0}, u8>";
        assert_eq!(
            written_in("{async_fn#0}", &[call, "poll<u8>"]).as_deref(),
            Some("app::get_data")
        );
        assert_eq!(written_in("{closure#7}", &[call]), None);
        assert_eq!(written_in("verify", &[call]), None);
    }

    #[test]
    fn clones() {
        assert_eq!(normalise("work.constprop.0"), "work");
        assert_eq!(normalise("ns::work(int) [clone .isra.0]"), "ns::work(int)");
        assert_eq!(normalise("operator->"), "operator->");
        assert_eq!(normalise("__GI___strdup"), "__strdup");
    }
}
