//! The supported versions of `CPython`: one file each, written by `cargo xtask layouts cpython`, and one line each in
//! the table.

use super::layout::Layout;

mod prelude;
#[path = "3_10.rs"]
mod v3_10;
#[path = "3_11.rs"]
mod v3_11;
#[path = "3_12.rs"]
mod v3_12;
#[path = "3_13.rs"]
mod v3_13;
#[path = "3_14.rs"]
mod v3_14;
#[path = "3_15.rs"]
mod v3_15;
#[path = "3_8.rs"]
mod v3_8;
#[path = "3_9.rs"]
mod v3_9;

/// All versions, oldest first.
pub(crate) static TABLE: &[&Layout] = &[
    &v3_8::LAYOUT,
    &v3_9::LAYOUT,
    &v3_10::LAYOUT,
    &v3_11::LAYOUT,
    &v3_12::LAYOUT,
    &v3_13::LAYOUT,
    &v3_14::LAYOUT,
    &v3_15::LAYOUT,
];

/// The layout of version 3.`minor`.
pub(crate) fn of(minor: u8) -> Option<&'static Layout> {
    TABLE.iter().copied().find(|layout| layout.minor == minor)
}
