//! Segments and sections, as the headers describe them.

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address in the file.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// It is executable.
    pub executable: bool,
}

/// A section with contents in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Address in the file, 0 if it is not loaded.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// `SHT_..`.
    pub(super) kind: u32,
    /// Number of the linked section (`sh_link`).
    pub(super) link: u32,
    /// Its own number.
    pub(super) number: u32,
}
