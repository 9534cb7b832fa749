//! The ring of records, which a dedicated thread reads.

use std::os::fd::{AsRawFd as _, RawFd};

use aya::maps::{MapData, RingBuf};

/// The consumer's end of the ring.
pub struct KernelRing(pub(super) RingBuf<MapData>);

impl KernelRing {
    /// Descriptor that becomes readable when an urgent record is in the ring.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Passes the records in the ring to `each` until it returns false.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8]) -> bool) {
        while let Some(item) = self.0.next() {
            if !each(&item) {
                return;
            }
        }
    }
}
