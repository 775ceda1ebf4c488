//! How many connections each address has, over all shards.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::forwarded::{Forwarded, Proxies};
use crate::protocol::http::Request;

/// Counts connections by where they come from. Without a limit nothing is counted.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// 0 is no limit.
    most: usize,
    proxies: Proxies,
    /// That a proxy says what can't be read was logged.
    complained: AtomicBool,
    /// Guards the counts, none of which is 0. Locked to count one connection in or out.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection until it is dropped. Boxed, because mostly there is no limit and nothing to count.
#[derive(Debug, Default)]
pub(crate) struct Counted(Option<Box<Place>>);

/// Where a connection comes from.
#[derive(Debug)]
struct Place {
    addresses: Arc<Addresses>,
    /// The network that it counts for.
    network: Option<IpAddr>,
    /// Its client, as a proxy says.
    client: Option<IpAddr>,
    /// It is from a proxy, and counts for one request.
    by_request: bool,
}

/// What is said of the client of a connection.
pub(crate) enum Said {
    /// Nothing: it has its own address.
    Nothing,
    /// Nothing that can be read. True the first time.
    Malformed(bool),
    Client,
}

impl Addresses {
    pub fn new(most: usize, proxies: Proxies) -> Arc<Self> {
        Arc::new(Self { most, proxies, complained: AtomicBool::new(false), counts: Mutex::default() })
    }

    /// Counts a connection that was accepted. `None` when its address has as many as it may have. A Unix socket has no address and
    /// no limit. One from a proxy is counted when the client is known.
    pub fn count(self: &Arc<Self>, peer: Option<SocketAddr>) -> Option<Counted> {
        let peer = peer.map(|peer| peer.ip());
        if self.proxies.trust(peer) { Some(Counted::default()) } else { self.count_for(peer, None, false) }
    }

    /// Counts a connection from a proxy for the client of this request, as the proxy says. `None`: it is from none.
    pub fn count_client(
        self: &Arc<Self>,
        peer: impl FnOnce() -> Option<IpAddr>,
        request: &Request,
    ) -> Option<(Said, Option<Counted>)> {
        let peer = Some(&self.proxies).filter(|proxies| proxies.are_some()).map(|_| peer())?;
        if !self.proxies.trust(peer) {
            return None;
        }
        let (said, client) = match self.proxies.client(request) {
            Forwarded::Client(client) => (Said::Client, Some(client)),
            Forwarded::Nothing => (Said::Nothing, None),
            Forwarded::Malformed => (Said::Malformed(!self.complained.swap(true, Ordering::Relaxed)), None),
        };
        Some((said, self.count_for(client.or(peer), client, true)))
    }

    fn count_for(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        client: Option<IpAddr>,
        by_request: bool,
    ) -> Option<Counted> {
        let network = address.filter(|_| self.most > 0).map(network);
        if let Some(network) = network {
            let mut counts = self.lock();
            let count = counts.entry(network).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        if network.or(client).is_none() {
            return Some(Counted::default());
        }
        Some(Counted(Some(Box::new(Place { addresses: Arc::clone(self), network, client, by_request }))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Counts no longer what was counted for a request. A proxy may bring those of many clients, one after another.
    pub fn end_request(&mut self) {
        self.0.take_if(|place| place.by_request);
    }

    /// The client, as a proxy says.
    pub fn client(&self) -> Option<IpAddr> {
        self.0.as_ref()?.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut counts = self.addresses.lock();
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
        let addresses = Addresses::new(2, Proxies::default());
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
        let addresses = Addresses::new(1, Proxies::default());
        let _held = addresses.count(peer("2001:db8:0:1::1"));
        assert!(addresses.count(peer("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.count(peer("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let addresses = Addresses::new(1, Proxies::default());
        drop(addresses.count(peer("192.0.2.1")));
        assert!(addresses.lock().is_empty());
    }

    #[test]
    fn without_a_limit_or_an_address_nothing_is_counted() {
        let unlimited = Addresses::new(0, Proxies::default());
        let _held = [(); 9].map(|()| unlimited.count(peer("192.0.2.1")).expect("no limit"));
        let limited = Addresses::new(1, Proxies::default());
        let _also_held = [(); 9].map(|()| limited.count(None).expect("no address"));
        assert!(unlimited.lock().is_empty() && limited.lock().is_empty());
    }
}
