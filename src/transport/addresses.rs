//! How many connections each address has, over all shards.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by where they come from. Without a limit nothing is counted.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// 0 is no limit.
    most: usize,
    /// Guards the counts, none of which is 0. Locked to count one connection in or out.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection until it is dropped. Boxed, because mostly there is no limit and nothing to count.
#[derive(Debug, Default)]
pub(crate) struct Counted(Option<Box<(Arc<Addresses>, IpAddr)>>);

impl Addresses {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// Counts a connection. `None` when its address has as many as it may have. A Unix socket has no address and no limit.
    pub fn count(self: &Arc<Self>, peer: Option<SocketAddr>) -> Option<Counted> {
        let Some(peer) = peer.filter(|_| self.most > 0) else { return Some(Counted::default()) };
        let network = network(peer.ip());
        let mut counts = self.lock();
        let count = counts.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted(Some(Box::new((Arc::clone(self), network)))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((addresses, network)) = self.0.take().map(|counted| *counted) else { return };
        let mut counts = addresses.lock();
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }
}

/// What counts as one address. For IPv6 it is the network of 64 bits: all its addresses belong to one subscriber (RFC 6177).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().expect("an address"), 5000))
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_others_have_theirs() {
        let addresses = Addresses::new(2);
        let first = addresses.count(peer("192.0.2.1"));
        let second = addresses.count(peer("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(addresses.count(peer("192.0.2.1")).is_none());
        assert!(addresses.count(peer("192.0.2.2")).is_some());
        drop(second);
        assert!(addresses.count(peer("192.0.2.1")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let addresses = Addresses::new(1);
        let _held = addresses.count(peer("2001:db8:0:1::1"));
        assert!(addresses.count(peer("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.count(peer("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let addresses = Addresses::new(1);
        drop(addresses.count(peer("192.0.2.1")));
        assert!(addresses.lock().is_empty());
    }

    #[test]
    fn without_a_limit_or_an_address_nothing_is_counted() {
        let unlimited = Addresses::new(0);
        let _held = [(); 9].map(|()| unlimited.count(peer("192.0.2.1")).expect("no limit"));
        let limited = Addresses::new(1);
        let _also_held = [(); 9].map(|()| limited.count(None).expect("no address"));
        assert!(unlimited.lock().is_empty() && limited.lock().is_empty());
    }
}
