//! The kernel programs of allocator and handler probes. A runtime declares its own beside its probes.

/// The purpose of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Observes an allocation.
    Allocation,
    /// Observes a free.
    Free,
    /// Observes a sample taken by the allocator.
    Sample,
    /// Finds the current logical task.
    Task,
    /// A function that the user named as a request.
    Handler,
    /// A request begins, ends or gets its name.
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

/// A kernel program for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the kernel object.
    pub name: &'static str,
    /// The purpose of its probes.
    pub purpose: Purpose,
    /// It is attached as a return probe.
    pub is_return: bool,
    /// It records something that another program completes, so it is attached last and detached first.
    pub opens: bool,
}

impl Program {
    /// A program for a position in a function.
    pub const fn at(name: &'static str, purpose: Purpose) -> Self {
        Self {
            name,
            purpose,
            is_return: false,
            opens: false,
        }
    }

    /// The first program of a pair; the other must be attached before it.
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

    /// Its probes are attached only while allocations are traced.
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
/// Its return is certain and its result known: replaces a return probe if it may throw.
pub const ALLOC_RESULT: Program = Program::at("alloc_result", Purpose::Allocation);
/// A freeing function was called.
pub const FREE: Program = Program::at("free", Purpose::Free);
/// An allocator sampled a block.
pub const USDT_ALLOC: Program = Program::at("usdt_alloc", Purpose::Sample);
/// A sampled block was freed.
pub const USDT_FREE: Program = Program::at("usdt_free", Purpose::Sample);
/// A request handler was called.
pub const HANDLER_ENTER: Program = Program::opening("handler_enter", Purpose::Handler);
/// It is about to return (a probe at each of its ends).
pub const HANDLER_RETURN: Program = Program::at("handler_return", Purpose::Handler);

/// All programs of this file.
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
