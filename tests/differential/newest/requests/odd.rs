//! Oddities of requests.

mod encoded;
mod sending;
mod spans;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value as Json;

use super::made::{Call, Case, Request, Transport, request, to_json};
use encoded::Level;

/// Which senders it is for, and what it changes.
#[derive(Clone, Copy)]
enum Change {
    /// Content, in any encoding.
    Request(fn(&mut Request)),
    /// A field in JSON: where, its name, and its value as it is written.
    Field(&'static str, &'static str, &'static str),
    /// JSON's text.
    Text(fn(&str) -> Vec<u8>),
    /// Protobuf: what is written at the end of a message.
    Written(Level, &'static [u8]),
    /// Protobuf's bytes.
    Bytes(fn(Vec<u8>) -> Vec<u8>),
    /// How it is sent over HTTP.
    Http(fn(&mut Call)),
    /// How it is sent over gRPC.
    Grpc(fn(&mut Call)),
}

#[derive(Clone, Copy)]
struct Oddity(&'static str, Change);

impl Change {
    fn fits(self, transport: Transport) -> bool {
        match self {
            Self::Request(_) => true,
            Self::Field(..) | Self::Text(_) => transport == Transport::Json,
            Self::Written(..) | Self::Bytes(_) => transport != Transport::Json,
            Self::Http(_) => transport != Transport::Grpc,
            Self::Grpc(_) => transport == Transport::Grpc,
        }
    }
}

/// Makes requests: sound ones, each oddity alone, then two of them together, and a last sound one.
pub(super) fn cases(seed: u64, count: usize) -> Vec<Case> {
    const SOUND: usize = 20;
    let mut random = StdRng::seed_from_u64(seed);
    let transports = [Transport::Json, Transport::Protobuf, Transport::Grpc];
    let all: Vec<(Transport, Oddity)> = transports
        .into_iter()
        .flat_map(|transport| {
            let lists = [spans::ALL, encoded::ALL, sending::ALL].concat();
            let fitting = lists.into_iter().filter(move |Oddity(_, change)| change.fits(transport));
            fitting.map(move |oddity| (transport, oddity))
        })
        .collect();
    assert!(
        count > SOUND * 3 + all.len(),
        "more than {} requests are needed",
        SOUND * 3 + all.len()
    );
    (0..count)
        .map(|number| match number.checked_sub(SOUND * 3) {
            None => case(&mut random, number, transports[number % 3], &[]),
            Some(_) if number + 1 == count => case(&mut random, number, Transport::Protobuf, &[]),
            Some(index) if index < all.len() => {
                let (transport, oddity) = all[index];
                case(&mut random, number, transport, &[oddity])
            }
            Some(_) => {
                let (transport, first) = *all.choose(&mut random).unwrap();
                let others: Vec<_> = all
                    .iter()
                    .filter(|(other, oddity)| *other == transport && oddity.0 != first.0)
                    .collect();
                let second = others.choose(&mut random).unwrap().1;
                case(&mut random, number, transport, &[first, second])
            }
        })
        .collect()
}

fn case(random: &mut StdRng, number: usize, transport: Transport, oddities: &[Oddity]) -> Case {
    let mut request = request(random);
    let changes = || oddities.iter().map(|Oddity(_, change)| *change);
    for change in changes() {
        if let Change::Request(change) = change {
            change(&mut request);
        }
    }
    let body = match transport {
        Transport::Json => json(&request, changes()),
        Transport::Protobuf | Transport::Grpc => encoded::protobuf(&request, changes()),
    };
    let mut call = transport.call(body);
    for change in changes() {
        if let Change::Http(change) | Change::Grpc(change) = change {
            change(&mut call);
        }
    }
    let oddities = oddities.iter().map(|Oddity(name, _)| *name).collect();
    Case { number, transport, oddities, call }
}

/// Writes JSON, with what cannot be said in a `Value` put in afterwards.
fn json(request: &Request, changes: impl Iterator<Item = Change> + Clone) -> Vec<u8> {
    let mut json = to_json(request);
    let mut written = Vec::new();
    for change in changes.clone() {
        if let Change::Field(place, name, value) = change
            && let Some(Json::Object(fields)) = json.pointer_mut(place)
        {
            let stand_in = format!("@{}@", written.len());
            fields.insert(name.to_owned(), stand_in.clone().into());
            written.push((format!("\"{stand_in}\""), value));
        }
    }
    let mut text = json.to_string();
    for (stand_in, value) in written {
        text = text.replace(&stand_in, value);
    }
    let mut bytes = text.into_bytes();
    for change in changes {
        if let Change::Text(change) = change {
            bytes = change(&String::from_utf8_lossy(&bytes));
        }
    }
    bytes
}
