//! Requests: keys of connections and tasks, and the record of a request.

use super::{layout::records, limits::PATH_LEN};

records! {
    /// Key of the connection map.
    ConnKey = 8 {
        /// Process.
        tgid: u32,
        /// File descriptor.
        fd: u32,
    }
    /// Key of the task map: the request of a logical task.
    TaskKey = 16 {
        /// Address of the task (tokio header, Go g).
        task: u64,
        /// Process.
        tgid: u64,
    }
    /// Ring record: a request got its response, or its connection closed. Repeated with a later
    /// `end_ns` while a response is still being streamed.
    RequestRecord = 232 {
        /// [`crate::kind::REQUEST`].
        kind: u32,
        /// Process.
        tgid: u32,
        /// Request id, unique in this run of the agent, never 0.
        request: u64,
        /// First byte of the head read.
        start_ns: u64,
        /// Last response write so far.
        end_ns: u64,
        /// Keyed fingerprint of the credential, 0 for none.
        token: u64,
        /// Bytes of request head.
        head_bytes: u32,
        /// Bytes of request body announced by `Content-Length`.
        body_bytes: u32,
        /// Bytes written in answer so far.
        response_bytes: u64,
        /// Thread that read the head.
        tid: u32,
        /// File descriptor of the connection, or of a handler scope -1.
        fd: i32,
        /// Which use of that file descriptor.
        generation: u32,
        /// HTTP status, 0 when the connection closed unanswered.
        status: u16,
        /// One of [`binding`].
        binding: u8,
        /// Bits of [`request_flags`].
        flags: u8,
        /// For handler scopes the number of the handler, else 0.
        handler: u32,
        /// Used bytes of `path`.
        path_len: u32,
        /// Logical task that carried it, 0 when a plain thread did.
        task: u64,
        /// Keyed fingerprint of the credential's window ([`crate::tail::fingerprint`]), 0 for none.
        tail: u64,
        /// Its filter ([`crate::tail::filter`]).
        tail_filter: u32,
        /// Zero.
        reserved: u32,
        /// `METHOD path` without the query.
        path: [u8; PATH_LEN],
    }
}

/// How surely a block or request is tied to its request.
pub mod binding {
    /// Not tied.
    pub const NONE: u8 = 0;
    /// By logical task, or by a thread that serves one connection at a time.
    pub const EXACT: u8 = 1;
    /// By a thread that serves several connections at once.
    pub const INFERRED: u8 = 2;
}

/// Bits of [`RequestRecord::flags`].
pub mod request_flags {
    /// The path was longer than [`crate::PATH_LEN`].
    pub const PATH_CUT: u8 = 1;
    /// The head was longer than [`crate::MAX_HEAD`]: a credential may have been missed.
    pub const HEAD_CUT: u8 = 2;
    /// The connection was already open when the agent attached.
    pub const ATTACHED_LATE: u8 = 4;
    /// The response went on after an earlier record of this request.
    pub const STREAMING: u8 = 8;
}
