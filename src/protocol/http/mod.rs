//! HTTP/1.1 request heads. They are read strictly, and nothing is repaired (RFC 9112).
//!
//! When one parser tolerates what another does not, a request can be smuggled past a proxy. So the connection ends, with a status
//! that says why, at a bare LF, a bare CR, a folded line, a space before a colon, a doubled or odd length, and any transfer
//! coding. The parser is httparse. What it tolerates and this server does not is refused before it is called.

mod form;
mod head;
mod hidden;
mod request;
mod response;
pub(crate) mod syntax;

pub use form::{form_decode, form_pairs};
pub use head::HeadReader;
pub use request::{HeadLimits, INNER_SLASH, Method, Request};
pub use response::{CONTINUE, HttpError, endless_head, kept_response, response};
