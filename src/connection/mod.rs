//! One client, whatever the transport: its deadlines and its limits. Time is an argument.

pub mod conduct;
pub mod keepalive;
pub mod pace;
