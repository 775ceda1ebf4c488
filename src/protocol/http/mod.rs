//! HTTP/1.1 request heads, strictly: nothing is repaired (RFC 9112).
//!
//! Every leniency of one parser that another lacks is a way to smuggle a request past a proxy. So a bare LF, a bare CR, a
//! folded line, a space before a colon, a doubled or odd length, or any transfer coding ends the connection with a status
//! that says why. Parsing itself is httparse's; what it tolerates and we do not is refused before it looks.

mod head;
mod request;
mod response;
pub(crate) mod syntax;

pub use head::HeadReader;
pub use request::{HeadLimits, Method, Request};
pub use response::{HttpError, InvalidHeader, response};
