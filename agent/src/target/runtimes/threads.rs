//! No runtime that is known: requests belong to threads.

use super::RuntimeMatch;

pub(super) fn plain() -> RuntimeMatch {
    RuntimeMatch {
        name: "threads".to_string(),
        ..RuntimeMatch::default()
    }
}
