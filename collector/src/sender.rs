//! Senders of requests.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// How long a sender is held. Exporters wait 10 s for an answer.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(8);

/// Sender of a request, and how long it is held.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) peer: Peer,
    /// By then it is answered, whatever stage it waits for.
    pub(crate) until: Instant,
    /// When it waits no longer, if it says so: before that it is answered that there is no room, at the latest then that what
    /// became of its spans is not known.
    pub(crate) gives_up: Option<Instant>,
    /// The head of its request, where there is a ledger that is reported it.
    pub(crate) head: Option<Box<HeaderMap>>,
    /// Facts that its request says of it, for processors in front of stages that keep spans.
    pub(crate) context: Option<Arc<Context>>,
}

impl Sender {
    /// Makes one of a request that arrives now.
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            until: Instant::now() + LONGEST_HOLD,
            gives_up: None,
            head: None,
            context: None,
        }
    }

    /// Bounds the hold by how long the sender waits for its answer: it is held for as much of that as exporters are of the 10 s
    /// that they wait by default.
    pub(crate) fn within(self, timeout: Option<Duration>) -> Self {
        let Some(timeout) = timeout else { return self };
        let now = Instant::now();
        let Some(gives_up) = now.checked_add(timeout) else { return self };
        Self { until: self.until.min(now + timeout / 5 * 4), gives_up: Some(gives_up), ..self }
    }
}

/// Facts that a request says of its sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// Headers of HTTP, or metadata of gRPC, where a receiver keeps them (`include_metadata`).
    pub(crate) metadata: Option<HeaderMap>,
    /// Name of the user whose credentials it shows, if there is one.
    pub(crate) user: Option<String>,
}

impl Context {
    /// The values of a header, as one text with `;` between them, if it is kept and there.
    pub(crate) fn metadata(&self, name: &str) -> Option<String> {
        let values = self.metadata.as_ref()?.get_all(name);
        let texts: Vec<_> =
            values.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (!texts.is_empty()).then(|| texts.join(";"))
    }
}

/// The host that requests come from. Two are the same by their address of IPv4, or by their network of IPv6, of which a host may have
/// any address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    address: IpAddr,
}

impl Peer {
    pub(crate) const UNKNOWN: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED) };

    pub(crate) fn of(address: IpAddr) -> Self {
        Self { address: address.to_canonical() }
    }

    /// The address that a request came from, if it is known.
    pub(crate) fn address(self) -> Option<IpAddr> {
        Some(self.address).filter(|address| !address.is_unspecified())
    }

    fn host(self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()
            }
            address => address,
        }
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.host() == other.host()
    }
}

impl Eq for Peer {}

impl PartialOrd for Peer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Peer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.host().cmp(&other.host())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST_HOLD, Peer, Sender};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_held_for_less_than_it_waits() {
        let now = Instant::now();
        let held = |timeout| Sender::new(Peer::UNKNOWN).within(timeout).until - now;
        assert_eq!(held(None), LONGEST_HOLD);
        assert_eq!(held(Some(Duration::from_secs(10))), LONGEST_HOLD);
        assert_eq!(held(Some(Duration::from_secs(60))), LONGEST_HOLD);
        assert_eq!(held(Some(Duration::from_secs(5))), Duration::from_secs(4));
        assert_eq!(held(Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(held(Some(Duration::MAX)), LONGEST_HOLD);
    }

    #[test]
    fn a_host_is_the_same_by_any_of_its_addresses() {
        let of = |address: &str| Peer::of(address.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        let exact = of("2001:db8:1:2:ffff::9").address().map(|address| address.to_string());
        assert_eq!(exact.as_deref(), Some("2001:db8:1:2:ffff::9"));
        assert_eq!(Peer::UNKNOWN.address(), None);
    }
}
