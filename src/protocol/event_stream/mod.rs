//! Event streams (Server-Sent Events): what their clients ask for, and the positions in the `id` of each event. The events
//! themselves are written by [`Wire`](super::wire::Wire).

mod positions;
mod request;

pub use positions::{ChannelHash, StreamPositions};
pub use request::{MAX_STREAM_CHANNELS, StreamRequest, TICKET, stream_channel};
