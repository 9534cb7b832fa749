//! The kernel programs that probes run: those of allocators and handlers, which any process may get.
//! A runtime declares its own beside the probes that it wants.

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An allocation is seen.
    Allocation,
    /// Memory is given back.
    Free,
    /// An allocator's own sampling is seen.
    Sample,
    /// Which logical task runs.
    Task,
    /// A function that a person has named as a request.
    Handler,
    /// A request begins, ends or is named.
    Request,
}

impl Purpose {
    /// One word for tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allocation => "alloc",
            Self::Free => "free",
            Self::Sample => "sample",
            Self::Task => "task",
            Self::Handler => "handler",
            Self::Request => "request",
        }
    }
}

/// A kernel program that probes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the kernel object.
    pub name: &'static str,
    /// What its probes are for.
    pub purpose: Purpose,
    /// It is attached as a return probe.
    pub is_return: bool,
    /// It notes something that another program completes or takes back, so it goes on last and comes off first.
    pub opens: bool,
}

impl Program {
    /// A program for a place in a function.
    pub const fn at(name: &'static str, purpose: Purpose) -> Self {
        Self {
            name,
            purpose,
            is_return: false,
            opens: false,
        }
    }

    /// The same, of a pair whose other part must be there first.
    pub const fn opening(name: &'static str, purpose: Purpose) -> Self {
        Self {
            opens: true,
            ..Self::at(name, purpose)
        }
    }

    /// A program for the return of a function (uretprobe).
    pub const fn returning(name: &'static str, purpose: Purpose) -> Self {
        Self {
            is_return: true,
            ..Self::at(name, purpose)
        }
    }

    /// Its probes are on only while allocations are watched.
    pub fn is_allocator(self) -> bool {
        matches!(
            self.purpose,
            Purpose::Allocation | Purpose::Free | Purpose::Sample
        )
    }
}

/// An allocating function was called.
pub const ALLOC_ENTER: Program = Program::opening("alloc_enter", Purpose::Allocation);
/// It returned.
pub const ALLOC_RETURN: Program = Program::returning("alloc_return", Purpose::Allocation);
/// It is certain to return and its result is known: in place of a return probe where it may throw.
pub const ALLOC_RESULT: Program = Program::at("alloc_result", Purpose::Allocation);
/// A freeing function was called.
pub const FREE: Program = Program::at("free", Purpose::Free);
/// An allocator says that it has chosen a block to be watched.
pub const USDT_ALLOC: Program = Program::at("usdt_alloc", Purpose::Sample);
/// It says that such a block is given back.
pub const USDT_FREE: Program = Program::at("usdt_free", Purpose::Sample);
/// A request handler was called.
pub const HANDLER_ENTER: Program = Program::opening("handler_enter", Purpose::Handler);
/// It is about to return (a probe at each of its ends).
pub const HANDLER_RETURN: Program = Program::at("handler_return", Purpose::Handler);

/// All of these.
pub static PROGRAMS: &[Program] = &[
    ALLOC_ENTER,
    ALLOC_RETURN,
    ALLOC_RESULT,
    FREE,
    USDT_ALLOC,
    USDT_FREE,
    HANDLER_ENTER,
    HANDLER_RETURN,
];
