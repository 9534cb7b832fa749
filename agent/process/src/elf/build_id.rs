//! The build id of an ELF file.

use std::fmt::Write as _;

use object::LittleEndian;
use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::NoteIterator;

/// The build id in a section of notes, in hexadecimal digits.
pub(super) fn build_id(section: &[u8]) -> Option<String> {
    let mut notes =
        NoteIterator::<FileHeader64<LittleEndian>>::new(LittleEndian, 4, section).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == ELF_NOTE_GNU && note.n_type(LittleEndian) == NT_GNU_BUILD_ID {
            let digits = |mut text: String, byte: &u8| {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            };
            return Some(note.desc().iter().fold(String::new(), digits));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_ids() {
        let note = b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\xde\xad\x01";
        assert_eq!(build_id(note).as_deref(), Some("dead01"));
        for len in 0..note.len() {
            assert_eq!(build_id(&note[..len]), None);
        }
        assert_eq!(
            build_id(b"\x04\0\0\0\x03\0\0\0\x01\0\0\0GNU\0\xde\xad\x01"),
            None
        );
    }
}
