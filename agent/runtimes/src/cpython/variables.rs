//! The names of a code object's variables, in the order of their values in a frame.

use heaptide_process::memory::Read;

use super::layout::{Layout, Variables};
use super::memory::Pages;

/// Upper bound of a function's variables.
const MOST: u64 = 1 << 16;

/// Names in a tuple: its address, first index, and number.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    tuple: u64,
    from: u64,
    count: u64,
}

/// The names of a code object's variables: locals, cells, and free variables.
#[derive(Clone, Copy, Debug)]
pub(super) struct VariableNames([Part; 3]);

impl VariableNames {
    /// Variables of the code object at an address.
    pub(super) fn of<R: Read>(pages: &mut Pages<R>, layout: &Layout, code: u64) -> Option<Self> {
        match layout.variables {
            Variables::Together { names, count, free } => {
                let tuple = pages.field(code, names)?;
                let count = u64::from(pages.half(code.wrapping_add(count))?);
                let free = u64::from(pages.half(code.wrapping_add(free))?);
                let part = |from, count| Part { tuple, from, count };
                let own = count.checked_sub(free).filter(|_| count <= MOST)?;
                Some(Self([part(0, own), Part::default(), part(own, free)]))
            }
            Variables::Apart {
                locals,
                cells,
                free,
            } => {
                let mut part = |at| {
                    let tuple = pages.field(code, at)?;
                    let count = pages.field(tuple, layout.ob_size)?;
                    (count <= MOST).then_some(Part {
                        tuple,
                        from: 0,
                        count,
                    })
                };
                Some(Self([part(locals)?, part(cells)?, part(free)?]))
            }
        }
    }

    /// Their number.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|part| part.count).sum()
    }

    /// The number of free variables.
    pub(super) fn free_count(&self) -> u64 {
        self.0[2].count
    }

    /// Address of a name, by the index of its value in a frame.
    pub(super) fn name<R: Read>(
        &self,
        pages: &mut Pages<R>,
        layout: &Layout,
        index: u64,
    ) -> Option<u64> {
        Self::among(&self.0, pages, layout, index)
    }

    /// The same for cells and free variables.
    pub(super) fn captured<R: Read>(
        &self,
        pages: &mut Pages<R>,
        layout: &Layout,
        index: u64,
    ) -> Option<u64> {
        Self::among(&self.0[1..], pages, layout, index)
    }

    /// The same for free variables.
    pub(super) fn free<R: Read>(
        &self,
        pages: &mut Pages<R>,
        layout: &Layout,
        index: u64,
    ) -> Option<u64> {
        Self::among(&self.0[2..], pages, layout, index)
    }

    fn among<R: Read>(
        parts: &[Part],
        pages: &mut Pages<R>,
        layout: &Layout,
        mut index: u64,
    ) -> Option<u64> {
        for part in parts {
            if index < part.count {
                let at = layout.tuple_items + (part.from + index) * 8;
                return pages.field(part.tuple, at);
            }
            index -= part.count;
        }
        None
    }
}
