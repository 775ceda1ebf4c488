//! Which names a server answers to when a page in a browser asks.
//!
//! The owner of `evil.example` can let this name point at 127.0.0.1 after a browser has loaded a page from it (DNS rebinding).
//! Then `Origin` and `Host` are the same, and the page reaches a server that is for this machine alone. So the name has to be
//! known. An IP address can't point elsewhere, and browsers do not ask the DNS for `localhost`.

use std::net::IpAddr;

/// The names of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    reach: Reach,
    allowed: Vec<Allowed>,
}

/// From where a listener can be reached. It decides which names are known without being allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From this machine: `localhost`, the names below it, 127.0.0.0/8 and `[::1]` are known.
    #[default]
    Loopback,
    /// From a network: all IP addresses are known, too.
    Network,
    /// Through a proxy on this machine, which knows the names that it serves. Here all names are known.
    UnixSocket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    One(Name),
    /// All names that end with this text, which begins with a dot.
    Below(String),
}

/// A host without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Address(IpAddr),
    /// Made by [`canonical`].
    Text(String),
}

impl Hosts {
    /// `allowed` has names and IP addresses without ports. `*.example.org` stands for all names below `example.org`.
    pub fn new<S: AsRef<str>>(reach: Reach, allowed: &[S]) -> Self {
        let parse = |entry: &S| match entry.as_ref().strip_prefix('*') {
            Some(suffix) => Allowed::Below(canonical(suffix)),
            None => Allowed::One(Name::new(entry.as_ref())),
        };
        Self { reach, allowed: allowed.iter().map(parse).collect() }
    }

    /// Whether the server is reached from this machine only.
    pub fn is_local(&self) -> bool {
        self.reach == Reach::Loopback
    }

    /// Whether the value of a `Host` header names this server. It may have a port.
    pub fn knows(&self, host: &str) -> bool {
        let name = Name::new(without_port(host));
        let by_itself = match self.reach {
            Reach::Loopback => name.is_loopback(),
            Reach::Network => name.is_loopback() || matches!(name, Name::Address(_)),
            Reach::UnixSocket => true,
        };
        by_itself
            || self.allowed.iter().any(|allowed| match (allowed, &name) {
                (Allowed::One(other), _) => *other == name,
                (Allowed::Below(suffix), Name::Text(text)) => text.ends_with(suffix),
                (Allowed::Below(_), Name::Address(_)) => false,
            })
    }
}

impl Reach {
    /// That of a TCP listener at this address. A name that says nothing about its address counts as one of the network.
    pub fn of(host: &str) -> Self {
        if Name::new(host).is_loopback() { Self::Loopback } else { Self::Network }
    }
}

impl Name {
    fn new(host: &str) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or_else(
            |_| Self::Text(canonical(host)),
            |address: IpAddr| Self::Address(address.to_canonical()),
        )
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            // RFC 6761 §6.3.
            Self::Text(text) => text == "localhost" || text.ends_with(".localhost"),
        }
    }
}

/// In lower case, without the dot that may be at its end.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn without_port(host: &str) -> &str {
    let end = if host.starts_with('[') { host.find(']').map(|end| end + 1) } else { host.find(':') };
    &host[..end.unwrap_or(host.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES_OF_LOOPBACK: [&str; 9] = [
        "localhost",
        "localhost:8000",
        "LocalHost.",
        "app.localhost:3000",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:8000",
        "[::ffff:127.0.0.1]:8000",
    ];

    const OTHER_NAMES: [&str; 9] = [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "127.1",
        "umbel",
        "",
    ];

    const ADDRESSES: [&str; 3] = ["203.0.113.5:8000", "[2001:db8::1]", "0.0.0.0"];

    #[test]
    fn a_name_of_this_machine_is_known_everywhere_and_an_address_on_networks() {
        let (loopback, network) = (Hosts::default(), Hosts::new(Reach::Network, &[""; 0]));
        for host in NAMES_OF_LOOPBACK {
            assert!(loopback.knows(host) && network.knows(host), "{host}");
        }
        for host in OTHER_NAMES {
            assert!(!loopback.knows(host) && !network.knows(host), "{host}");
        }
        for host in ADDRESSES {
            assert!(!loopback.knows(host) && network.knows(host), "{host}");
        }
        let socket = Hosts::new(Reach::UnixSocket, &[""; 0]);
        assert!(OTHER_NAMES.iter().all(|host| socket.knows(host)));
    }

    #[test]
    fn allowed_hosts_are_compared_without_case_and_port() {
        let allowed = [
            "App.example",
            "*.wild.example",
            "*.Dot.example.",
            "203.0.113.5",
            "2001:db8::1",
            "[2001:db8::2]",
        ];
        let hosts = Hosts::new(Reach::Loopback, &allowed);
        for host in [
            "app.EXAMPLE:8443",
            "app.example.",
            "a.wild.example",
            "a.b.Wild.example:1",
            "a.dot.example",
            "a.dot.example.:1",
            "203.0.113.5:80",
            "[2001:db8:0::1]:80",
            "[2001:DB8::2]",
            "localhost",
        ] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in ["xapp.example", "b.app.example", "wild.example", "evilwild.example", "203.0.113.50"] {
            assert!(!hosts.knows(host), "{host}");
        }
    }

    #[test]
    fn a_listener_is_reached_from_this_machine_only_at_a_loopback_address() {
        for host in ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"] {
            assert_eq!(Reach::of(host), Reach::Loopback, "{host}");
        }
        for host in ["0.0.0.0", "::", "192.0.2.1", "example.org", ""] {
            assert_eq!(Reach::of(host), Reach::Network, "{host}");
        }
    }
}
