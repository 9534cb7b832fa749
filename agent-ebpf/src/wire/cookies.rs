//! Attach cookies: what a program needs to know about its probe's position.

/// Call shapes: how a probed allocator function takes its arguments and returns memory.
pub mod shape {
    /// `f(.., size, ..) -> pointer`, optionally `nmemb * size`.
    pub const ALLOC: u8 = 1;
    /// `f(pointer)`.
    pub const FREE: u8 = 2;
    /// `f(old, size) -> pointer`, optionally `nmemb * size`.
    pub const REALLOC: u8 = 3;
    /// `f(&pointer, .., size) -> 0 | errno` (`posix_memalign`).
    pub const ALLOC_OUT: u8 = 4;
}

/// The attach cookie of an allocator probe: which function this is and how to read its arguments.
///
/// Bits: 0-7 shape, 8-15 argument index of the (first) size, 16-23 index of the second factor or
/// 0xff, 24-31 index of the pointer argument, 32-39 allocator number, 40-55 bytes that the prologue
/// has pushed before the probed instruction, 62 the word before a block is its chunk's size, 63 the function may throw. An index names the register
/// that holds the argument there: 0 rdi, 1 rsi, 2 rdx, 3 rcx, [`Cookie::RAX`] rax.
///
/// At a probe where the function's result is known before it returns, the bits of the size hold the number
/// of the register with the result, and those of the factor the condition under which the function returns
/// from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// No such argument.
    pub const NONE: u8 = 0xff;
    /// The argument index that stands for rax, which compilers use to keep an argument in.
    pub const RAX: u8 = 6;
    const HEADER: u64 = 1 << 62;
    const THROWS: u64 = 1 << 63;

    /// The same cookie for an allocator that keeps the size of a chunk in the word before the block, as glibc does.
    #[must_use]
    pub const fn with_header(self) -> Self {
        Self(self.0 | Self::HEADER)
    }
    /// Whether the word before a block is the size of its chunk.
    #[must_use]
    pub const fn has_header(self) -> bool {
        self.0 & Self::HEADER != 0
    }

    /// The same cookie for a function that may throw.
    #[must_use]
    pub const fn throwing(self) -> Self {
        Self(self.0 | Self::THROWS)
    }
    /// Whether the function may throw, so that a call without a return is not counted as a loss.
    #[must_use]
    pub const fn throws(self) -> bool {
        self.0 & Self::THROWS != 0
    }
    /// Number of the register that holds the result, in the processor's order.
    #[must_use]
    pub const fn result(self) -> u8 {
        self.size()
    }
    /// Low four bits of the opcode of the conditional jump that leads to the return, or
    /// [`Self::NONE`].
    #[must_use]
    pub const fn condition(self) -> u8 {
        self.factor()
    }

    /// Packs a cookie.
    #[must_use]
    pub const fn new(
        shape: u8,
        size: u8,
        factor: u8,
        pointer: u8,
        allocator: u8,
        pushed: u16,
    ) -> Self {
        Self(
            shape as u64
                | (size as u64) << 8
                | (factor as u64) << 16
                | (pointer as u64) << 24
                | (allocator as u64) << 32
                | (pushed as u64) << 40,
        )
    }
    /// One of [`shape`].
    #[must_use]
    pub const fn shape(self) -> u8 {
        self.0 as u8
    }
    /// Index of the size argument.
    #[must_use]
    pub const fn size(self) -> u8 {
        (self.0 >> 8) as u8
    }
    /// Index of the second factor of the size, or [`Self::NONE`].
    #[must_use]
    pub const fn factor(self) -> u8 {
        (self.0 >> 16) as u8
    }
    /// Index of the pointer argument.
    #[must_use]
    pub const fn pointer(self) -> u8 {
        (self.0 >> 24) as u8
    }
    /// Row of the allocator table the function belongs to.
    #[must_use]
    pub const fn allocator(self) -> u8 {
        (self.0 >> 32) as u8
    }
    /// Bytes between the stack pointer at the probed instruction and the return address.
    #[must_use]
    pub const fn pushed(self) -> u16 {
        (self.0 >> 40) as u16
    }
}

/// Layouts of Go's maps.
pub mod go_maps {
    /// Up to Go 1.23 (`runtime.hmap`).
    pub const BUCKETS: u8 = 1;
    /// From 1.24 on (`internal/runtime/maps.Map`).
    pub const GROUPS: u8 = 2;
}

/// The attach cookie of a probe in Go's net/http: offsets in its structures, which differ between versions.
///
/// Bits: 0-15 `conn.bufr`, 16-31 `response.status`, 32-47 `Request.Pattern` or 0, 48-49 one of [`go_maps`], 50 the
/// pattern is behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoCookie(pub u64);

impl GoCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(reader: u16, status: u16, pattern: u16, behind: bool, maps: u8) -> Self {
        Self(
            reader as u64
                | (status as u64) << 16
                | (pattern as u64) << 32
                | (maps as u64) << 48
                | (behind as u64) << 50,
        )
    }
    /// Layout of maps, one of [`go_maps`].
    #[must_use]
    pub const fn maps(self) -> u8 {
        (self.0 >> 48) as u8 & 3
    }
    /// Offset of the buffered reader in a connection.
    #[must_use]
    pub const fn reader(self) -> u64 {
        self.0 & 0xffff
    }
    /// Offset of the status in a response.
    #[must_use]
    pub const fn status(self) -> u64 {
        self.0 >> 16 & 0xffff
    }
    /// The pattern is not a string in the request, but behind a pointer there.
    #[must_use]
    pub const fn behind(self) -> bool {
        self.0 >> 50 & 1 != 0
    }
    /// Offset of the pattern that a request matched; 0: this version has no such field.
    #[must_use]
    pub const fn pattern(self) -> u64 {
        self.0 >> 32 & 0xffff
    }
}

/// Where an argument of a static probe (USDT) is found: kind in 2 bits, register in 4 (in the processor's
/// order), whether it has 8 bytes in 1, and an offset or constant in 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand(pub u32);

/// Kinds of an [`Operand`].
pub mod operand {
    /// In a register.
    pub const REGISTER: u32 = 0;
    /// In memory, at a register and an offset.
    pub const MEMORY: u32 = 1;
    /// A constant.
    pub const CONSTANT: u32 = 2;
    /// Bits of an operand.
    pub const BITS: u32 = 20;
}

impl Operand {
    /// Packs an operand; `None` when the offset does not fit.
    #[must_use]
    pub const fn new(kind: u32, register: u32, wide: bool, offset: i64) -> Option<Self> {
        if offset < -4096 || offset > 4095 {
            return None;
        }
        let wide = if wide { 1 << 6 } else { 0 };
        Some(Self(
            kind | register << 2 | wide | (offset as u32 & 0x1fff) << 7,
        ))
    }
    /// One of [`operand`].
    #[must_use]
    pub const fn kind(self) -> u32 {
        self.0 & 3
    }
    /// Number of the register.
    #[must_use]
    pub const fn register(self) -> u8 {
        (self.0 >> 2 & 15) as u8
    }
    /// Whether the argument has 8 bytes; else it has 4.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.0 >> 6 & 1 != 0
    }
    /// The offset, or the constant.
    #[must_use]
    pub const fn offset(self) -> i32 {
        ((self.0 >> 7) << 19) as i32 >> 19
    }
}

/// Attach cookie of a static probe: up to three arguments, and the row of the allocator table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsdtCookie(pub u64);

impl UsdtCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(operands: [Operand; 3], allocator: u8) -> Self {
        Self(
            operands[0].0 as u64
                | (operands[1].0 as u64) << operand::BITS
                | (operands[2].0 as u64) << (2 * operand::BITS)
                | (allocator as u64) << (3 * operand::BITS),
        )
    }
    /// Argument `index`, 0 to 2.
    #[must_use]
    pub const fn operand(self, index: u32) -> Operand {
        let mask = (1 << operand::BITS) - 1;
        Operand((self.0 >> (index * operand::BITS)) as u32 & mask)
    }
    /// Row of the allocator table.
    #[must_use]
    pub const fn allocator(self) -> u8 {
        (self.0 >> (3 * operand::BITS)) as u8
    }
}

/// The attach cookie of a probe in Go's runtime: offsets in its structures.
///
/// Bits: 0-15 `m.curg`, 16-31 `g.atomicstatus`, 32 the counters of an `mspan` have eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoRuntimeCookie(pub u64);

impl GoRuntimeCookie {
    /// Packs a cookie.
    #[must_use]
    pub const fn new(current: u16, status: u16, wide: bool) -> Self {
        Self(current as u64 | (status as u64) << 16 | (wide as u64) << 32)
    }
    /// A span's `freeindex` and `nelems` have a word each (up to Go 1.21), and what follows lies one word further.
    #[must_use]
    pub const fn wide(self) -> bool {
        self.0 >> 32 & 1 != 0
    }
    /// Offset of the current goroutine in a thread's structure.
    #[must_use]
    pub const fn current(self) -> u64 {
        self.0 & 0xffff
    }
    /// Offset of a goroutine's status.
    #[must_use]
    pub const fn status(self) -> u64 {
        self.0 >> 16 & 0xffff
    }
}
