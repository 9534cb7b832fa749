//! A string table, read through a window, because symbols mostly refer to it in order.

use super::image::Elf;
use super::sections::Section;
use crate::files::caps;

/// Bytes read ahead.
const WINDOW: u64 = 4 * caps::PIECE as u64;
/// A table up to this size is read as a whole, because symbols may refer to it in any order.
const WHOLE: u64 = 16 << 20;
/// Bytes read for one name outside of the window.
const GLANCE: u64 = 512;

pub(super) struct Strings<'elf> {
    elf: &'elf Elf,
    offset: u64,
    size: u64,
    /// Start of the window in the table.
    start: u64,
    window: Vec<u8>,
    glance: Vec<u8>,
    /// The last name that was outside of the window.
    missed: u64,
}

impl<'elf> Strings<'elf> {
    pub(super) fn new(elf: &'elf Elf, section: &Section) -> Self {
        Self {
            elf,
            offset: section.offset,
            size: section.size,
            start: 0,
            window: Vec::new(),
            glance: Vec::new(),
            missed: 0,
        }
    }

    /// The name at an offset of the table; `None` if there is none or the budget is used up.
    pub(super) fn get(&mut self, at: u32) -> Option<&[u8]> {
        let at = u64::from(at);
        let left = self.size.checked_sub(at).filter(|left| *left > 0)?;
        let inside = |start: u64, window: &[u8]| {
            let rest = window.get(usize::try_from(at.checked_sub(start)?).ok()?..)?;
            ends(rest).map(|end| (at - start, end))
        };
        if let Some((from, len)) = inside(self.start, &self.window) {
            return self.window.get(from as usize..from as usize + len);
        }
        if self.window.is_empty() && self.size <= WHOLE {
            self.window = self.read(0, self.size)?;
            return self
                .window
                .get(at as usize..)
                .and_then(|rest| rest.get(..ends(rest)?));
        }
        // Names close to each other are read together.
        if self.window.is_empty() || at.abs_diff(self.missed) < WINDOW / 2 {
            self.window = self.read(at, left.min(WINDOW))?;
            self.start = at;
            self.missed = at;
            let len = ends(&self.window)?;
            return self.window.get(..len);
        }
        self.missed = at;
        self.glance = self.read(at, left.min(GLANCE))?;
        if ends(&self.glance).is_none() {
            self.glance = self.read(at, left.min(caps::NAME as u64))?;
        }
        let len = ends(&self.glance)?;
        self.glance.get(..len)
    }

    fn read(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        self.elf.whole(self.offset.checked_add(at)?, len)
    }
}

fn ends(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(caps::NAME).position(|byte| *byte == 0)
}
