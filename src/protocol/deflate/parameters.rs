//! What may be negotiated, and what was (RFC 7692 §7.1).

/// What both sides agreed on (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The server starts every message with an empty window. Always set by [`negotiate`](super::negotiate).
    pub server_no_context_takeover: bool,
    /// The client starts every message with an empty window.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2^this bytes: 9 to 15. A compressor with a smaller window is always allowed.
    pub server_max_window_bits: u8,
    /// The client's window is at most 2^this bytes: 9 to 15.
    pub client_max_window_bits: u8,
}

impl Default for Parameters {
    /// What the default policy agrees on with a client that asks for nothing in particular.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

/// What the server is willing to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Clients may refer to their earlier messages, unless they offer not to.
    ///
    /// Default: no. It makes small messages that resemble each other smaller. But a connection that sends a compressed message
    /// then holds up to 2^`client_max_window_bits` bytes.
    pub client_context_takeover: bool,
    /// The largest window that the server announces, when a client asks it to name one: 9 to 15, default 15.
    pub server_max_window_bits: u8,
    /// The largest window that a client may use, when it lets the server choose: 9 to 15, default 15. A smaller one saves
    /// memory with `client_context_takeover` only.
    pub client_max_window_bits: u8,
}

impl Default for DeflatePolicy {
    fn default() -> Self {
        Self { client_context_takeover: false, server_max_window_bits: 15, client_max_window_bits: 15 }
    }
}
