//! Line tables of code objects: the source line of an instruction.

use super::layout::LineTable;

/// Source position of a run of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// First instruction, in words.
    pub(super) from: u32,
    /// The first after it.
    pub(super) to: u32,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
}

impl Place {
    pub(super) fn holds(&self, instruction: u32) -> bool {
        (self.from..self.to).contains(&instruction)
    }
}

/// Reads a line table.
pub(super) fn places(kind: LineTable, table: &[u8], first_line: u32) -> Vec<Place> {
    match kind {
        LineTable::Lnotab => lnotab(table, first_line),
        LineTable::Ranges => ranges(table, first_line),
        LineTable::Locations => locations(table, first_line),
    }
}

/// Alternating increments of address and line. An address has the line that results from all increments up
/// to it.
fn lnotab(table: &[u8], first_line: u32) -> Vec<Place> {
    let mut places = Vec::new();
    let mut line = i64::from(first_line);
    let (mut from, mut at) = (0_u32, 0_u32);
    let place = |from, to, line: i64| Place {
        from,
        to,
        line: u32::try_from(line).ok(),
        column: None,
    };
    for pair in table.chunks_exact(2) {
        let [bytes, lines] = pair else { continue };
        at = at.saturating_add(u32::from(*bytes));
        if at / 2 > from {
            places.push(place(from, at / 2, line));
            from = at / 2;
        }
        line += i64::from(lines.cast_signed());
    }
    places.push(place(from, u32::MAX, line));
    places
}

/// Length of a range in bytes, and the line increment before it; -128: no line.
fn ranges(table: &[u8], first_line: u32) -> Vec<Place> {
    const NONE: u8 = 0x80;
    let mut places = Vec::new();
    let mut line = i64::from(first_line);
    let mut at = 0_u32;
    for pair in table.chunks_exact(2) {
        let [bytes, lines] = pair else { continue };
        if *lines != NONE {
            line += i64::from(lines.cast_signed());
        }
        let end = at.saturating_add(u32::from(*bytes));
        if end > at {
            places.push(Place {
                from: at / 2,
                to: end / 2,
                line: u32::try_from(line).ok().filter(|_| *lines != NONE),
                column: None,
            });
        }
        at = end;
    }
    places
}

/// The location table of 3.11 and later.
fn locations(table: &[u8], first_line: u32) -> Vec<Place> {
    const NONE: u8 = 15;
    const LONG: u8 = 14;
    const NO_COLUMNS: u8 = 13;
    const ONE_LINE: u8 = 10;
    let mut places = Vec::new();
    let mut line = i64::from(first_line);
    let mut at = 0u32;
    let mut rest = table.iter().copied().peekable();
    while let Some(head) = rest.next() {
        let code = head >> 3 & 15;
        let words = u32::from(head & 7) + 1;
        let mut column = None;
        match code {
            NONE => {}
            LONG => {
                line += signed(&mut rest);
                number(&mut rest);
                column = number(&mut rest).checked_sub(1);
                number(&mut rest);
            }
            NO_COLUMNS => line += signed(&mut rest),
            ONE_LINE.. => {
                line += i64::from(code - ONE_LINE);
                column = rest.next().map(u64::from);
                rest.next();
            }
            _ => {
                let second = rest.next().unwrap_or(0);
                column = Some(u64::from(code) << 3 | u64::from(second >> 4));
            }
        }
        places.push(Place {
            from: at,
            to: at + words,
            line: u32::try_from(line).ok().filter(|_| code != NONE),
            column: column.and_then(|column| u32::try_from(column).ok()),
        });
        at += words;
    }
    places
}

/// Six bits per byte, lowest first; the seventh bit is set if more follow.
fn number(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let mut value = 0;
    for shift in (0..60).step_by(6) {
        let byte = bytes.next().unwrap_or(0);
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            break;
        }
    }
    value
}

/// The same with the sign in the lowest bit.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    let value = number(bytes);
    let half = (value >> 1) as i64;
    if value & 1 == 1 { -half } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `co_linetable` of a function of 3.12 that begins on line 10.
    #[test]
    fn the_location_table_is_read() {
        // RESUME; short form at column 8; one line further; long form; no location
        let table = [
            0x80, 0x00, 0x81, 0x84, 0xd8, 0x04, 0x09, 0xf0, 0x04, 0x00, 0x05, 0x0a, 0xf8,
        ];
        let places = places(LineTable::Locations, &table, 10);
        let seen: Vec<_> = places
            .iter()
            .map(|p| (p.from, p.to, p.line, p.column))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 1, Some(10), Some(0)),
                (1, 3, Some(10), Some(8)),
                (3, 4, Some(11), Some(4)),
                (4, 5, Some(13), Some(4)),
                (5, 6, None, None),
            ]
        );
    }

    fn lines(places: &[Place]) -> Vec<(u32, u32, Option<u32>)> {
        places.iter().map(|p| (p.from, p.to, p.line)).collect()
    }

    /// A jump of more than 127 lines takes two increments; a jump back is negative.
    #[test]
    fn the_older_tables_are_read() {
        let table = [0, 1, 8, 127, 0, 10, 6, 0xff];
        assert_eq!(
            lines(&places(LineTable::Lnotab, &table, 10)),
            [
                (0, 4, Some(11)),
                (4, 7, Some(148)),
                (7, u32::MAX, Some(147))
            ]
        );
        let table = [4, 1, 2, 0x80, 0, 127, 6, 3];
        assert_eq!(
            lines(&places(LineTable::Ranges, &table, 10)),
            [(0, 2, Some(11)), (2, 3, None), (3, 6, Some(141))]
        );
    }
}
