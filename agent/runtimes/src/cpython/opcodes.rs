//! Effects of `CPython` instructions that matter for stores into containers. The opcodes are data of each
//! version.

/// The effect of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No relevant effect.
    Other,
    /// Extends the argument of the next instruction.
    Extended,
    /// Loads a global by name; the lowest bit of the argument is a flag.
    Global,
    /// Loads by name from any scope.
    Name,
    /// Loads an attribute by name.
    Attribute,
    /// Loads an attribute or, if the lowest bit is set, a method, by name.
    AttributeOrMethod,
    /// Loads a method by name.
    Method,
    /// Loads a local variable; from 3.11 on also a captured one.
    Variable,
    /// Loads two local variables.
    Variables,
    /// Stores a variable and loads another.
    StoreAndVariable,
    /// Loads a captured variable.
    Captured,
    /// `container[key] = value`.
    StoreItem,
    /// A binary operator, possibly in place.
    Binary,
    /// `+=` or `|=`.
    InPlace,
    /// Calls a method with the given number of arguments.
    CallMethod,
    /// Pops and pushes the given numbers of values.
    Stack(u8, u8),
    /// Copies the given number of top values.
    Copy(u8),
    /// Moves the top value below the others of the given number.
    Rotate(u8),
    /// Combines the given number of values per argument, plus a constant number, into one.
    Gather(u8, u8),
    /// Calls with a tuple, and with a dictionary if the lowest bit is set.
    CallUnpacked,
    /// Makes a function from its code, its name and one value per bit of the argument.
    MakeFunction,
    /// Formats a value, with a format spec if bit 4 is set.
    Format,
    /// Unpacks one value into the given number.
    Unpack,
    /// Pops the given number of values.
    Raise,
}

/// Opcodes of a version with the same effect and the same number of cache words.
pub(crate) type Row = (Kind, u8, &'static [u8]);
