//! Which instructions of each known `CPython` matter to what fills a container, and how many words of cache
//! follow each. Specialised forms, which a running program puts in place of the general ones, are among them.
//! Made from `opcode` and `opcode.h` of 3.11.7, 3.12.1 and 3.13.0.
// tidy: table

/// What an instruction does, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing of interest.
    Other,
    /// Adds to the argument of the next.
    Extended,
    /// Loads a global by name.
    Global,
    /// Loads an attribute or, from 3.12 on, a method by name.
    Attribute,
    /// 3.11: loads a method by name.
    Method,
    /// Loads a local or captured variable.
    Variable,
    /// Loads two of them.
    Variables,
    /// Stores a variable and loads another.
    StoreAndVariable,
    /// `container[key] = value`.
    StoreItem,
    /// A binary operator, in place perhaps.
    Binary,
}

/// Opcodes of one version, by what they do and how many words of cache follow.
pub(super) type Table = [(Kind, u8, &'static [u8])];

/// The opcodes of a version of `CPython` 3.
pub(super) fn table(minor: u8) -> Option<&'static Table> {
    match minor {
        11 => Some(PY311),
        12 => Some(PY312),
        13 => Some(PY313),
        _ => None,
    }
}

/// From here on opcodes are those of a program that is traced or measured from inside, whose instructions are
/// hidden behind them.
pub(super) const FIRST_INSTRUMENTED: u8 = 236;

const PY311: &Table = &[
    (Kind::Attribute, 4, &[39, 40, 41, 42, 43, 106]),
    (Kind::Binary, 1, &[3, 4, 5, 6, 7, 8, 13, 14, 16, 122]),
    (Kind::Extended, 0, &[34, 144]),
    (Kind::Global, 0, &[101]),
    (Kind::Global, 5, &[47, 48, 55, 116]),
    (Kind::Method, 10, &[56, 57, 58, 59, 62, 63, 160]),
    (
        Kind::Other,
        1,
        &[
            64, 65, 66, 67, 72, 73, 76, 77, 78, 79, 80, 81, 92, 113, 121, 127, 141, 143, 166, 177,
            178, 179, 180,
        ],
    ),
    (Kind::Other, 2, &[26, 27, 28, 29, 107]),
    (
        Kind::Other,
        4,
        &[
            17, 18, 19, 20, 21, 22, 23, 24, 25, 95, 153, 154, 158, 159, 171,
        ],
    ),
    (Kind::StoreItem, 1, &[60, 168, 169, 170]),
    (Kind::Variable, 0, &[45, 46, 124, 137, 148]),
];

const PY312: &Table = &[
    (
        Kind::Attribute,
        9,
        &[70, 72, 73, 76, 77, 78, 79, 80, 81, 82, 106],
    ),
    (Kind::Binary, 1, &[6, 7, 8, 10, 13, 14, 16, 18, 122]),
    (Kind::Extended, 0, &[144]),
    (Kind::Global, 0, &[101]),
    (Kind::Global, 4, &[111, 112, 116]),
    (
        Kind::Other,
        1,
        &[
            19, 20, 21, 22, 25, 57, 58, 59, 62, 63, 64, 65, 66, 67, 92, 93, 107, 123, 141, 161,
            166, 167, 168,
        ],
    ),
    (
        Kind::Other,
        3,
        &[
            23, 24, 28, 29, 34, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 56, 171,
        ],
    ),
    (Kind::Other, 4, &[95, 113, 148, 153]),
    (Kind::StoreItem, 1, &[60, 159, 160]),
    (Kind::Variable, 0, &[86, 88, 124, 127, 137]),
];

const PY313: &Table = &[
    (
        Kind::Attribute,
        9,
        &[
            82, 191, 192, 193, 194, 195, 196, 197, 198, 199, 200, 201, 202,
        ],
    ),
    (Kind::Binary, 1, &[3, 45, 150, 151, 152, 153, 154, 155, 156]),
    (Kind::Extended, 0, &[71]),
    (Kind::Global, 0, &[92]),
    (Kind::Global, 4, &[91, 203, 204]),
    (
        Kind::Other,
        1,
        &[
            5, 58, 59, 72, 77, 93, 97, 98, 99, 100, 104, 117, 157, 158, 159, 160, 161, 182, 183,
            184, 185, 186, 187, 188, 189, 190, 205, 206, 208, 220, 221, 222,
        ],
    ),
    (
        Kind::Other,
        3,
        &[
            40, 53, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 174, 175, 176, 177,
            178, 179, 180, 181, 214, 215, 216, 217, 218, 219,
        ],
    ),
    (Kind::Other, 4, &[108, 209, 210, 211]),
    (Kind::StoreAndVariable, 0, &[111]),
    (Kind::StoreItem, 1, &[39, 212, 213]),
    (Kind::Variable, 0, &[84, 85, 87]),
    (Kind::Variables, 0, &[88]),
];
