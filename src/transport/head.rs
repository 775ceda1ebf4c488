//! A request head on its way.

use crate::protocol::http::{HeadReader, Request};
use crate::transport::excess::Excess;

/// The head of a request, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub buffer: Vec<u8>,
    pub reader: HeadReader,
    /// The whole request, which waits until the application has room for it.
    pub request: Option<Box<Request>>,
    /// The connection is beyond a limit: its request is refused.
    pub excess: Option<Excess>,
}
