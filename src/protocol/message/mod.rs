//! The JSON messages of the Umbel protocol: those of clients are read strictly, those of the server are written.
//!
//! `docs/protocol.schema.json` describes both for programs; a test compares it with this code.

mod channels;
mod client;
mod fields;
mod history;
mod presence;
mod publish;
mod resume;
mod server;
mod timestamp;
mod validate;

pub use client::{ClientMessage, EnvelopeError, Id, Kind, parse, parse_publication};
pub use fields::{MAX_CHANNELS, ParseError};
pub use history::Excerpt;
pub use presence::PresenceChange;
pub use publish::{Publish, entry_details};
pub use resume::{Positions, Resume};
pub use server::{BATCH_PREFIX, ServerMessage, SessionToken, batch_suffix, write_result};
pub use timestamp::Timestamp;
pub use validate::validate;
