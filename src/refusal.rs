//! Why connections are turned away, or end before they are let in.

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal;)+) => {
        /// Why a connection is not let in. The counters, the log and the metrics have one entry for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Refusal {
            /// The names of all of them, in the order of the variants.
            pub const LABELS: &[&str] = &[$($label),+];
        }
    };
}

refusals! {
    /// The request is not HTTP as this server reads it (400).
    BadRequest = "bad_request";
    /// Pages of this origin, or under this host name, may not connect (403).
    Origin = "origin";
    /// There is nothing at this path (404).
    NotFound = "not_found";
    /// The path is served to other requests: another method, an upgrade, no body (405, 413, 426).
    WrongUse = "wrong_use";
    /// The request head is too long (414, 431).
    TooLong = "too_long";
    /// A version or method that this server does not speak (501, 505).
    Unsupported = "unsupported";
    /// The request did not come in time (408, or nothing was sent at all).
    Late = "late";
    /// The server has as many connections as it may (503).
    Full = "full";
    /// The system has no descriptor for it (503).
    NoDescriptor = "no_descriptor";
    /// The address has as many connections as it may (429).
    Address = "address";
    /// The identity has as many connections as it may (4429).
    Identity = "identity";
    /// The server stops (503, 1012).
    Stopping = "stopping";
    /// The application wants credentials, or better ones (4401).
    Unauthenticated = "unauthenticated";
    /// The application refused the client with another code.
    NotAllowed = "not_allowed";
    /// The function that decides did not answer in time (1013).
    Undecided = "undecided";
    /// The function that decides failed (1011).
    Failed = "failed";
    /// Too much is held for other clients, and for this one.
    Memory = "memory";
    /// TLS could not be agreed on.
    Tls = "tls";
    /// The client left before anything was decided, or broke the protocol.
    Gone = "gone";
    /// A bug of the server (500).
    Internal = "internal";
}
