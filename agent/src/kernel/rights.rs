//! What the kernel wants more rights for than it should.

use super::attach::{perf_events_refused, perf_uprobes_refused};
use super::multi::{self, Support};

/// Whether the kernel wants `CAP_SYS_ADMIN` for something that heaptide could not do without it.
pub fn wants_admin() -> bool {
    perf_events_refused() || multi::support() == Support::Perf && perf_uprobes_refused()
}
