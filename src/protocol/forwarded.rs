//! Who a client is that comes through proxies, as they say in the header of its request.

use std::net::IpAddr;

use crate::config::ProxyHeader;
use crate::network::Network;
use crate::protocol::http::Request;

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    networks: Vec<Network>,
    /// So are those that connect to the Unix socket.
    local: bool,
    header: ProxyHeader,
}

/// What the proxies say of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Its address.
    Client(IpAddr),
    /// Nothing.
    Nothing,
    /// Something that can't be read.
    Malformed,
}

impl Proxies {
    /// Of networks, as the settings name them. `unix` stands for the Unix socket.
    pub fn new(networks: &[String], header: ProxyHeader) -> Self {
        let local = networks.iter().any(|network| network == "unix");
        Self { networks: networks.iter().filter_map(|text| Network::parse(text)).collect(), local, header }
    }

    /// Whether there are any.
    pub fn are_some(&self) -> bool {
        self.local || !self.networks.is_empty()
    }

    /// Whether the other end of a connection is believed. `None`: it is at the Unix socket.
    pub fn trust(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or(self.local, |peer| self.networks.iter().any(|network| network.contains(peer)))
    }

    /// The client of a request that came from one of them: the last address that is not one of them. What is before it, anybody
    /// may have written. When all are, it is the first.
    pub fn client(&self, request: &Request) -> Forwarded {
        let mut found = Forwarded::Nothing;
        let lines: Vec<_> = request.headers(self.header.name()).collect();
        for line in lines.into_iter().rev() {
            for item in split(line, b',').into_iter().rev() {
                let address = match self.header {
                    ProxyHeader::XForwardedFor => node(item),
                    ProxyHeader::Forwarded => node_of_element(item),
                };
                let Some(address) = address else { return Forwarded::Malformed };
                found = Forwarded::Client(address);
                if !self.trust(Some(address)) {
                    return found;
                }
            }
        }
        found
    }
}

/// The node that an element of `Forwarded` is for (RFC 7239 §4).
fn node_of_element(element: &str) -> Option<IpAddr> {
    let mut pairs = split(element, b';').into_iter().filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    node(value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?)
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`. Names that hide an address are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return Some(IpAddr::V6(address.parse().ok()?).to_canonical()).filter(|_| is_port(port));
    }
    let address = text.parse::<IpAddr>().ok();
    let with_port = || {
        let colon = text.find(':')?;
        Some(IpAddr::V4(text[..colon].parse().ok()?)).filter(|_| is_port(&text[colon..]))
    };
    address.or_else(with_port).map(|address| address.to_canonical())
}

/// Nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':');
    text.is_empty() || digits.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Splits a text at a character that is not in quotes.
fn split(text: &str, at: u8) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, byte) in text.bytes().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == at && !quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
