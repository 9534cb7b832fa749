//! The macro that defines records of the wire contract.

/// Defines `#[repr(C)]` structures of plain integers and checks their sizes at compile time.
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident = $size:literal { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}
pub(super) use records;
