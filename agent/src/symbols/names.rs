//! Names for people: a closure or an async block is shown as the function it was written in.

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
    loop {
        let Some(stripped) = strip_last(name) else {
            return name.to_string();
        };
        name = stripped;
    }
}

/// Without one trailing `::{{closure}}`, `::{closure#0}`, `::{async_fn#0}` and the like.
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

/// Where the `<..>` that ends a name begins.
fn generics_start(name: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in name.char_indices().rev() {
        match c {
            // the arrow of a function type is no bracket
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
    fn clones() {
        assert_eq!(normalise("work.constprop.0"), "work");
        assert_eq!(normalise("ns::work(int) [clone .isra.0]"), "ns::work(int)");
        assert_eq!(normalise("operator->"), "operator->");
        assert_eq!(normalise("__GI___strdup"), "__strdup");
    }
}
