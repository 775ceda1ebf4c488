//! Moves bytes: listeners, shards, connections, TLS. The only layer that has sockets and asks a clock.
//!
//! Each module may use those above it:
//!
//! | module | what |
//! |---|---|
//! | `clock`, `client_id`, `addresses`, `budget`, `io`, `outbox`, `policy`, `repeated`, `subjects`, `tls`, `turn`, `wheel`, `deadlines` | parts that know nothing of a shard |
//! | `sights`, `commands`, `credit`, `events`, `strays` | what other threads ask a shard for, and what the application is told |
//! | `route`, `caller`, `phase`, `connection`, `sockets`, `turns`, `shared`, `connections` | the state: of one websocket path's client, of one connection, of the server, of one shard; and whose turn it is there |
//! | `credentials`, `tickets`, `refusals`, `peer`, `publishing`, `ending`, `renewal` | tokens and tickets that clients show; who is not let in; acting on one connection: what it is told, how it carries a session, how it ends, and until when its credentials are good |
//! | `http`, `admission`, `calls`, `call_work`, `websocket`, `latecomers`, `drain`, `drive` | requests, being let in, frames, making room, stopping, and the task that reads and writes |
//! | `carry_out` | what other threads ask for one client |
//! | `prepare`, `running` | what the threads share, made from the configuration; the threads, as long as they run |
//! | `look` | what is seen of a shard |
//! | `process`, `metrics`, `survey`, `snapshot`, `dashboard`, `admin` | what operators read, and their listener |
//! | `shard`, `listener`, `thread` | the loop of a shard, the way in, and the thread that both run on |

pub mod client_id;
pub mod clock;
pub mod commands;
pub mod credit;
pub mod events;

pub(crate) mod addresses;
pub(crate) mod admin;
pub(crate) mod budget;
pub(crate) mod connections;
pub(crate) mod deadlines;
pub(crate) mod excess;
pub(crate) mod idempotency;
pub(crate) mod listener;
pub(crate) mod members;
pub(crate) mod policy;
pub(crate) mod prepare;
pub(crate) mod repeated;
pub(crate) mod running;
pub(crate) mod shared;
pub(crate) mod start_error;
pub(crate) mod strays;
pub(crate) mod thread;
pub(crate) mod tickets;
pub(crate) mod tls;
pub(crate) mod upkeep;

mod admission;
mod alive;
mod asked;
mod away;
mod buffers;
mod call_work;
mod caller;
mod calls;
mod carry_out;
mod connection;
mod credentials;
mod dashboard;
mod drain;
mod drive;
mod ending;
mod error_response;
mod event_stream;
mod farewells;
mod first;
mod forgotten;
mod head;
mod heads;
mod http;
mod io;
mod latecomers;
mod lists;
mod look;
mod metrics;
mod on_stream;
mod opener;
mod outbox;
mod parcel;
mod parting;
mod parts;
mod peer;
mod pending;
mod phase;
mod posts;
mod process;
mod publishing;
mod refusals;
mod renewal;
mod route;
mod session_stream;
mod sessions;
mod shard;
mod sights;
mod snapshot;
mod sockets;
pub(crate) mod subjects;
mod survey;
mod turn;
mod turns;
mod websocket;
mod wheel;

pub use route::HIGH_WATER;
pub use shared::Page;

#[cfg(test)]
mod tests;
