//! The keys of attributes that mean something, each with a number, by which it is found among a span's attributes without
//! looking at the others, and with what it asks for.

use super::agent::MAX_KEY_BYTES;

/// What is done with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is copied.
    Same,
    /// It is copied under another name.
    Renamed(&'static [u8]),
    /// It becomes a field of the span, and nothing else.
    Skipped,
    /// It is HTTP's status code.
    StatusCode,
    /// It is gRPC's status code.
    GrpcCode,
    /// Its value is made a normal tag.
    PeerService,
    /// It is an address, which may hold a password.
    Url,
    /// It is a query, whose literals are taken out.
    Query,
    /// It is the name of a database, which is also made of another attribute.
    DbName,
    /// It is one of the resource's facts, and unusual on a span.
    OfResource,
    /// The plain translation knows what to do.
    Unusual,
}

/// How many places there are for keys: the bits of a filter.
pub(super) const PLACES: usize = 512;

/// The known keys. One's place here is its number.
pub(super) static KNOWN: [(&str, Class); 57] = [
    ("", Class::Unusual),
    ("analytics.event", Class::Unusual),
    ("client.address", Class::Renamed(b"http.client_ip")),
    ("db.name", Class::DbName),
    ("db.namespace", Class::Same),
    ("db.query.text", Class::Query),
    ("db.statement", Class::Query),
    ("db.system", Class::Same),
    ("db.system.name", Class::Same),
    ("deployment.environment", Class::Same),
    ("deployment.environment.name", Class::Same),
    ("env", Class::Unusual),
    ("error.msg", Class::Unusual),
    ("events", Class::Unusual),
    ("faas.invoked_name", Class::Same),
    ("faas.invoked_provider", Class::Same),
    ("faas.trigger", Class::Same),
    ("graphql.operation.name", Class::Same),
    ("graphql.operation.type", Class::Same),
    ("grpc.code", Class::GrpcCode),
    ("grpc.status.code", Class::GrpcCode),
    ("http.method", Class::Same),
    ("http.request.body.size", Class::Renamed(b"http.request.content_length")),
    ("http.request.method", Class::Renamed(b"http.method")),
    ("http.response.body.size", Class::Renamed(b"http.response.content_length")),
    ("http.response.status_code", Class::StatusCode),
    ("http.route", Class::Same),
    ("http.status_code", Class::StatusCode),
    ("http.url", Class::Url),
    ("messaging.destination", Class::Same),
    ("messaging.destination.name", Class::Same),
    ("messaging.operation", Class::Same),
    ("messaging.system", Class::Same),
    ("network.protocol.name", Class::Same),
    ("network.protocol.version", Class::Renamed(b"http.version")),
    ("operation.name", Class::Skipped),
    ("peer.service", Class::PeerService),
    ("resource.name", Class::Skipped),
    ("rpc.grpc.status.code", Class::GrpcCode),
    ("rpc.grpc.status_code", Class::GrpcCode),
    ("rpc.method", Class::Same),
    ("rpc.response.status_code", Class::GrpcCode),
    ("rpc.service", Class::Same),
    ("rpc.system", Class::Same),
    ("rpc.system.name", Class::Same),
    ("sampling.priority", Class::Unusual),
    ("server.address", Class::Renamed(b"http.server_name")),
    ("service.name", Class::Skipped),
    ("service.version", Class::OfResource),
    ("span.kind", Class::Unusual),
    ("span.type", Class::Skipped),
    ("sql.query", Class::Unusual),
    ("url.full", Class::Url),
    ("url.template", Class::Same),
    ("user_agent.original", Class::Renamed(b"http.useragent")),
    ("version", Class::Unusual),
    ("w3c.tracestate", Class::Unusual),
];

/// Each has a bit of a `u64`.
const _: () = assert!(KNOWN.len() <= 64);

/// Finds the numbers of keys.
struct Numbers {
    /// One more than the number of the first known key at each place; 0 where there is none.
    first: [u8; PLACES],
    /// One more than the number of the next key at the same place.
    next: [u8; KNOWN.len()],
}

static NUMBERS: Numbers = {
    let mut numbers = Numbers { first: [0; PLACES], next: [0; KNOWN.len()] };
    let mut number = 0;
    while number < KNOWN.len() {
        let place = place(KNOWN[number].0.as_bytes());
        numbers.next[number] = numbers.first[place];
        numbers.first[place] = number as u8 + 1;
        number += 1;
    }
    numbers
};

/// The number of a key at this place, if it is a known one.
#[inline]
pub(super) fn number(key: &[u8], place: usize) -> Option<usize> {
    let mut number = NUMBERS.first[place];
    while number != 0 {
        let index = usize::from(number) - 1;
        if KNOWN[index].0.as_bytes() == key {
            return Some(index);
        }
        number = NUMBERS.next[index];
    }
    None
}

/// The number of a known key, when this is compiled; that it is none ends compiling.
pub(super) const fn number_of(name: &str) -> usize {
    let mut number = 0;
    loop {
        let (one, other) = (KNOWN[number].0.as_bytes(), name.as_bytes());
        let mut same = 0;
        while one.len() == other.len() && same < one.len() && one[same] == other[same] {
            same += 1;
        }
        if one.len() == other.len() && same == one.len() {
            return number;
        }
        number += 1;
    }
}

/// Says what an attribute's key asks for, as the plain translation has it; `number` is the key's.
#[inline]
pub(super) fn class(key: &[u8], number: Option<usize>) -> Class {
    match (number, key) {
        (Some(number), _) => KNOWN[number].1,
        (None, [b'_', ..]) => Class::Unusual,
        (None, [b'o', ..]) if key.starts_with(b"otel.") => Class::Unusual,
        (None, [b'h', ..]) if key.starts_with(b"http.request.header.") => Class::Unusual,
        (None, _) if key.len() > MAX_KEY_BYTES => Class::Unusual,
        (None, _) => Class::Same,
    }
}

/// Where a filter has a key's bit. Known keys differ in their lengths and last letters for the most part.
#[inline]
pub(super) const fn place(key: &[u8]) -> usize {
    let length = key.len();
    if length == 0 {
        return 0;
    }
    let (first, middle, last) =
        (key[0] as usize, key[length / 2] as usize, key[length - 1] as usize);
    let mixed = length.wrapping_mul(37) ^ (first * 5) ^ (last << 2) ^ (middle * 11);
    mixed % PLACES
}
