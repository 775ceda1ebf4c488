//! Networks of IP addresses.

use std::net::IpAddr;

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Of how many leading bits it is.
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or an address. `None`: it is none, or the address has bits beyond those of the network, so that
    /// somebody else may be meant.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().ok()?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => Some(bits).filter(is_number)?.parse().ok().filter(|bits| *bits <= most)?,
        };
        let network = Self { first, bits };
        (network.start(first) == Some(number(first).1)).then_some(network)
    }

    /// Whether an address belongs to it. IPv4 is the same however it is written.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = if self.first.is_ipv4() { address.to_canonical() } else { address };
        self.start(address) == Some(number(self.first).1)
    }

    /// The leading bits of an address of the same kind.
    fn start(&self, address: IpAddr) -> Option<u128> {
        let ((most, _), (other, number)) = (number(self.first), number(address));
        let rest = most - u32::from(self.bits);
        (most == other).then(|| number.checked_shr(rest).map_or(0, |start| start << rest))
    }
}

/// How many bits an address has, and these.
fn number(address: IpAddr) -> (u32, u128) {
    match address {
        IpAddr::V4(address) => (32, address.to_bits().into()),
        IpAddr::V6(address) => (128, address.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_networks_that_begin_as_it_does() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::", true),
            ("2001:db8:0:1::/64", "2001:db8:0:2::", false),
        ] {
            let parsed = Network::parse(network).expect(network);
            assert_eq!(parsed.contains(address.parse().expect("legal")), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_not_read() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10.0.0",
            "::/129",
            "fd00::1/8",
            "localhost",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            "fe80::1%eth0",
            "010.0.0.1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
