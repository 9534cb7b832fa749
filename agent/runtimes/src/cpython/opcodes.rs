//! What instructions of `CPython` do, as far as it matters to what fills a container. Which opcodes do it is
//! data of each version.

/// What an instruction does, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing of interest.
    Other,
    /// Adds to the argument of the next.
    Extended,
    /// Loads a global by name; the lowest bit of its argument is no part of that.
    Global,
    /// Loads by name, whatever it is.
    Name,
    /// Loads an attribute by name.
    Attribute,
    /// Loads an attribute or, if the lowest bit is set, a method by name.
    AttributeOrMethod,
    /// Loads a method by name.
    Method,
    /// Loads a local variable; from 3.11 on a captured one too.
    Variable,
    /// Loads two of them.
    Variables,
    /// Stores a variable and loads another.
    StoreAndVariable,
    /// Loads a captured variable.
    Captured,
    /// `container[key] = value`.
    StoreItem,
    /// A binary operator, in place perhaps.
    Binary,
    /// `+=` or `|=`.
    InPlace,
    /// Calls a method with so many arguments.
    CallMethod,
    /// Takes so many values from the stack and leaves so many.
    Stack(u8, u8),
    /// Copies so many values of the stack.
    Copy(u8),
    /// Puts the uppermost of so many values below the others.
    Rotate(u8),
    /// Makes one value of so many for each of its argument, and so many more.
    Gather(u8, u8),
    /// Calls with a tuple, and with a dictionary if the lowest bit is set.
    CallUnpacked,
    /// Makes a function of its code, its name and a value for each bit of the argument.
    MakeFunction,
    /// Formats a value, by a format if the bit 4 is set.
    Format,
    /// Makes so many values of one.
    Unpack,
    /// Takes so many values.
    Raise,
}

/// Opcodes of one version that do the same and have so many words of cache.
pub(crate) type Row = (Kind, u8, &'static [u8]);
