//! Negotiation: the grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1) and the parameters of RFC 7692 §7.1.

use std::borrow::Cow;

use super::parameters::{DeflatePolicy, Parameters};
use crate::protocol::http::syntax::is_token_byte;

/// The header does not keep to its grammar. The handshake answers 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed Sec-WebSocket-Extensions header")]
pub struct MalformedOffer;

/// Chooses the first acceptable offer. Returns what is agreed, and the value of the response header; `Ok(None)` when there is no
/// compression.
///
/// `headers` are the values of all `Sec-WebSocket-Extensions` lines, in their order. An offer is declined when it is for another
/// extension, or has a parameter that is unknown, doubled or out of range; then the next one is tried. A window of 8 bits is
/// declined too: zlib's raw format can't make one (madler/zlib issue 171).
///
/// # Errors
///
/// When a header does not keep to the grammar. The work is linear in the length of the headers.
pub fn negotiate<'a>(
    headers: impl IntoIterator<Item = &'a str>,
    policy: &DeflatePolicy,
) -> Result<Option<(Parameters, String)>, MalformedOffer> {
    let mut chosen = None;
    for header in headers {
        let mut scanner = Scanner { rest: header };
        while let Some(offer) = read_offer(&mut scanner)? {
            if chosen.is_none() {
                chosen = offer.accept(policy);
            }
        }
    }
    Ok(chosen)
}

/// One offer of permessage-deflate.
#[derive(Default)]
struct Offer {
    /// It is for another extension, or has a parameter that is not acceptable.
    declined: bool,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: the client knows the parameter and lets the server choose.
    client_max_window_bits: Option<Option<u8>>,
}

impl Offer {
    fn take(&mut self, name: &str, value: Option<&str>) {
        let fresh = match (name, value) {
            ("server_no_context_takeover", None) => {
                !std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            ("client_no_context_takeover", None) => {
                !std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            ("server_max_window_bits", Some(value)) => {
                window_bits(value).is_some_and(|bits| self.server_max_window_bits.replace(bits).is_none())
            }
            ("client_max_window_bits", None) => self.client_max_window_bits.replace(None).is_none(),
            ("client_max_window_bits", Some(value)) => window_bits(value)
                .is_some_and(|bits| self.client_max_window_bits.replace(Some(bits)).is_none()),
            _ => false,
        };
        self.declined |= !fresh;
    }

    fn accept(&self, policy: &DeflatePolicy) -> Option<(Parameters, String)> {
        if self.declined {
            return None;
        }
        let client_takeover = policy.client_context_takeover && !self.client_no_context_takeover;
        let mut parameters =
            Parameters { client_no_context_takeover: !client_takeover, ..Parameters::default() };
        let mut response = String::from("permessage-deflate; server_no_context_takeover");
        if !client_takeover {
            response.push_str("; client_no_context_takeover");
        }
        // §7.1.2.1: the response names it when the offer does, with the same value or a smaller one.
        if let Some(bits) = self.server_max_window_bits {
            parameters.server_max_window_bits = bits.min(policy.server_max_window_bits.clamp(9, 15));
            response.push_str(&format!("; server_max_window_bits={}", parameters.server_max_window_bits));
        }
        // §7.1.2.2: the response may name it only when the client said that it knows it.
        if let Some(offered) = self.client_max_window_bits {
            parameters.client_max_window_bits =
                offered.unwrap_or(15).min(policy.client_max_window_bits.clamp(9, 15));
            if offered.is_some() || parameters.client_max_window_bits < 15 {
                response.push_str(&format!("; client_max_window_bits={}", parameters.client_max_window_bits));
            }
        }
        Some((parameters, response))
    }
}

/// §7.1.2: a decimal number without leading zeros. 8 is legal there and not accepted here.
fn window_bits(value: &str) -> Option<u8> {
    (9..=15).find(|bits: &u8| bits.to_string() == value)
}

/// Reads one element of the list: `token *( ";" token [ "=" ( token | quoted-string ) ] )`.
fn read_offer(scanner: &mut Scanner<'_>) -> Result<Option<Offer>, MalformedOffer> {
    scanner.skip_empty_elements();
    if scanner.rest.is_empty() {
        return Ok(None);
    }
    let name = scanner.token()?;
    let mut offer = Offer { declined: !name.eq_ignore_ascii_case("permessage-deflate"), ..Offer::default() };
    while scanner.take(b';') {
        scanner.skip_space();
        let name = scanner.token()?;
        let value = if scanner.take(b'=') { Some(scanner.value()?) } else { None };
        offer.take(&name.to_ascii_lowercase(), value.as_deref());
    }
    if !scanner.rest.is_empty() && !scanner.take(b',') {
        return Err(MalformedOffer);
    }
    Ok(Some(offer))
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// RFC 9110 §5.6.1: a recipient ignores empty list elements.
    fn skip_empty_elements(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    /// Takes optional white space and then `byte`, if it is there.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.rest.as_bytes().first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn token(&mut self) -> Result<&'a str, MalformedOffer> {
        let end = self.rest.bytes().position(|byte| !is_token_byte(byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if token.is_empty() { Err(MalformedOffer) } else { Ok(token) }
    }

    /// A token, with quotes or without. RFC 6455 §9.1: what is between the quotes must be a token too.
    fn value(&mut self) -> Result<Cow<'a, str>, MalformedOffer> {
        self.skip_space();
        let Some(mut quoted) = self.rest.strip_prefix('"') else { return self.token().map(Cow::Borrowed) };
        let mut value = String::new();
        loop {
            let mut characters = quoted.chars();
            let character = match characters.next() {
                Some('"') => break self.rest = characters.as_str(),
                Some('\\') => characters.next(),
                other => other,
            };
            match character {
                Some(character) if character.is_ascii() && is_token_byte(character as u8) => {
                    value.push(character);
                }
                _ => return Err(MalformedOffer),
            }
            quoted = characters.as_str();
        }
        if value.is_empty() { Err(MalformedOffer) } else { Ok(Cow::Owned(value)) }
    }
}
