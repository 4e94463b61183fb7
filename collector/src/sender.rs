//! Who sent a request.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// How long a sender is held. Exporters wait 10 s for an answer.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(8);

/// Who sent a request, and how long it is held.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) peer: Peer,
    /// By then it is answered, whatever stage it waits for.
    pub(crate) until: Instant,
    /// The head of its request, where there is a ledger that is reported it.
    pub(crate) head: Option<Box<HeaderMap>>,
}

impl Sender {
    /// Makes one of a request that arrives now.
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, until: Instant::now() + LONGEST_HOLD, head: None }
    }
}

/// The host that requests come from: an address of IPv4, or a network of IPv6, of which a host may have any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    pub(crate) const UNKNOWN: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self(Ipv6Addr::from_bits(network).into())
            }
            address => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn a_host_is_the_same_by_any_of_its_addresses() {
        let of = |address: &str| Peer::of(address.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
