//! Facts that count for APM stats of the spans that are translated: which spans, by which peer tags, and the notes of them.
//!
//! The translation makes the notes, and [`stats`](super::stats) counts by them.

pub(crate) mod records;

use hashbrown::HashMap;

use super::model::StatsContext;
use super::payload::Sender;
use crate::trace_batch::SpanKind;

/// How spans are counted: what the user can change about stats.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    /// Whether spans count by their kind, besides those that are top-level or measured.
    pub(crate) by_span_kind: bool,
    /// The attributes that identify the other side of a call, sorted; empty to leave them out.
    pub(crate) peer_tags: Vec<String>,
    /// The place of each of them.
    numbers: HashMap<Vec<u8>, u16>,
}

impl Counting {
    /// Counts with these peer tags, of which there can be 65,536.
    pub(crate) fn new(by_span_kind: bool, mut peer_tags: Vec<String>) -> Self {
        peer_tags.sort();
        peer_tags.dedup();
        peer_tags.truncate(1 << 16);
        let number = |(index, tag): (usize, &String)| (tag.clone().into_bytes(), index as u16);
        let numbers = peer_tags.iter().enumerate().map(number).collect();
        Self { by_span_kind, peer_tags, numbers }
    }

    /// Returns whether all peer tags are attributes that spans come with, and none is made of other facts.
    pub(crate) fn is_usual(&self) -> bool {
        const MADE: [&str; 7] =
            ["env", "version", "events", "span.kind", "error.msg", "sql.query", "w3c.tracestate"];
        let is_made = |tag: &String| {
            MADE.contains(&tag.as_str())
                || tag.starts_with("otel.")
                || tag.starts_with('_') && tag != "_dd.base_service"
        };
        !self.peer_tags.iter().any(is_made)
    }

    /// Returns whether spans of this kind count, whatever else they are.
    pub(crate) fn counts_kind(&self, kind: SpanKind) -> bool {
        let kinds = [SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer];
        self.by_span_kind && kinds.contains(&kind)
    }

    /// The number of a peer tag; `None` for other keys.
    pub(crate) fn peer_tag(&self, key: &[u8]) -> Option<u16> {
        self.numbers.get(key).copied()
    }
}

/// Key of a `ClientStatsPayload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientKey {
    pub(crate) hostname: String,
    pub(crate) env: String,
    pub(crate) version: String,
    pub(crate) lang: String,
    pub(crate) commit: String,
    pub(crate) base_service: String,
}

impl ClientKey {
    /// Returns the key that separates a trace's stats from others'.
    pub(crate) fn new(counted: &StatsContext<'_>, language: &[u8], sender: &Sender) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let or_own = |reported: &[u8], own: &str| match reported {
            b"" => own.to_owned(),
            reported => text(reported),
        };
        Self {
            hostname: or_own(&counted.hostname, &sender.host_name),
            env: or_own(&counted.env, &sender.env),
            version: text(&counted.version),
            lang: text(language),
            commit: text(&counted.commit),
            base_service: text(&counted.base_service),
        }
    }
}

/// The attributes that identify the other side of a call: the agent's `peer_tags.ini`, sorted.
pub(crate) const PEER_TAGS: [&str; 44] = [
    "_dd.base_service",
    "active_record.db.vendor",
    "amqp.destination",
    "amqp.exchange",
    "amqp.queue",
    "aws.queue.name",
    "aws.s3.bucket",
    "bucketname",
    "cassandra.keyspace",
    "db.cassandra.contact.points",
    "db.couchbase.seed.nodes",
    "db.hostname",
    "db.instance",
    "db.name",
    "db.namespace",
    "db.system",
    "db.system.name",
    "db.type",
    "dns.hostname",
    "grpc.host",
    "hostname",
    "http.host",
    "http.server_name",
    "messaging.destination",
    "messaging.destination.name",
    "messaging.kafka.bootstrap.servers",
    "messaging.rabbitmq.exchange",
    "messaging.system",
    "mongodb.db",
    "msmq.queue.path",
    "net.peer.name",
    "network.destination.ip",
    "network.destination.name",
    "out.host",
    "peer.hostname",
    "peer.service",
    "queuename",
    "rpc.service",
    "rpc.system",
    "sequel.db.vendor",
    "server.address",
    "streamname",
    "tablename",
    "topicname",
];
