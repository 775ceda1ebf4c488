//! The load generator: it opens connections to a server, publishes or asks, and checks what comes.
//!
//! One thread, one edge-triggered set of sockets, one receive buffer. A frame costs one read, a header and a look at both of its
//! ends: nothing is allocated and nothing is inflated, except on a sample of the connections, where every update is parsed by a
//! JSON parser and checked. The same receiving code serves Umbel and its peers, so that its cost is in every figure alike.

mod asking;
mod clock;
mod comeback;
mod config;
mod connection;
mod control;
mod conversation;
mod drive;
mod elsewhere;
mod frame;
mod histogram;
mod message;
mod opening;
mod publishing;
mod random;
mod receive;
mod report;
mod requests;
mod returning;
mod run;
mod schedule;
mod session;
mod socket;
mod stream;
mod template;
mod tls;
mod updates;
mod verify;

pub use config::{Config, Kind, Until};
pub use control::{Control, Progress, Row, Stage};
pub use drive::run;
