//! Records for stats, as bytes: so that spans can be noted while they are translated, and counted afterwards.
//!
//! Spans that say the same are in the same group, which is found by these bytes, without making a key of them.
//! Several such texts may mean one group: peer tags in another order, or addresses that count as the same.

use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;

use super::ClientKey;

/// Notes of spans.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    list: Vec<Record>,
    /// Start of the record that is being written.
    start: usize,
    /// The client of the spans, from which record on.
    clients: Vec<(usize, ClientKey)>,
    hasher: DefaultHashBuilder,
}

/// A place in [`Records`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    list: usize,
}

/// A span's part in its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    start: usize,
    end: usize,
    /// Of its bytes.
    pub(crate) hash: u64,
    /// When the span ended, in nanoseconds since the epoch.
    pub(crate) ended: u64,
    /// Nanoseconds.
    pub(crate) duration: i64,
    pub(crate) is_error: bool,
    pub(crate) is_top_level: bool,
}

/// Key of a group without peer tags.
#[derive(Debug)]
pub(crate) struct Facts<'f> {
    pub(crate) service: &'f [u8],
    pub(crate) name: &'f [u8],
    pub(crate) resource: &'f [u8],
    pub(crate) span_type: &'f [u8],
    pub(crate) kind: &'f [u8],
    pub(crate) status_code: u32,
    pub(crate) grpc_status_code: &'f str,
    pub(crate) is_trace_root: bool,
}

impl Records {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.clients.clear();
    }

    /// The notes from here on are of spans of this client.
    pub(crate) fn begin_client(&mut self, client: ClientKey) {
        self.clients.push((self.list.len(), client));
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), list: self.list.len() }
    }

    /// Takes back what was noted since.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.list.truncate(mark.list);
    }

    /// Begins a span's note.
    pub(crate) fn begin(&mut self, facts: &Facts<'_>) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&facts.status_code.to_le_bytes());
        self.bytes.push(u8::from(facts.is_trace_root));
        let texts = [
            facts.service,
            facts.name,
            facts.resource,
            facts.span_type,
            facts.kind,
            facts.grpc_status_code.as_bytes(),
        ];
        for text in texts {
            self.text(text);
        }
    }

    /// Adds the value of a peer tag, by the tag's number; one that is empty does not count.
    pub(crate) fn peer(&mut self, tag: u16, value: &[u8]) {
        if !value.is_empty() {
            self.bytes.extend_from_slice(&tag.to_le_bytes());
            self.text(value);
        }
    }

    /// Ends a span's note.
    pub(crate) fn end(&mut self, start: i64, duration: i64, is_error: bool, is_top_level: bool) {
        self.list.push(Record {
            start: self.start,
            end: self.bytes.len(),
            hash: self.hasher.hash_one(&self.bytes[self.start..]),
            ended: u64::try_from(start.saturating_add(duration)).unwrap_or_default(),
            duration,
            is_error,
            is_top_level,
        });
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(text);
    }

    /// Each client with its notes, each of them with its bytes.
    pub(crate) fn by_client(
        &self,
    ) -> impl Iterator<Item = (&ClientKey, impl Iterator<Item = (&Record, &[u8])>)> {
        let ends = self.clients.iter().skip(1).map(|(start, _)| *start).chain([self.list.len()]);
        self.clients.iter().zip(ends).map(|((start, client), end)| {
            let records = self.list[*start..end].iter();
            (client, records.map(|record| (record, &self.bytes[record.start..record.end])))
        })
    }
}

/// Values of peer tags, by the tags' numbers.
type PeerTags<'a> = Vec<(u16, &'a [u8])>;

/// Reads what a note's bytes say of its span: the facts, and the peer tags by their numbers. `None` if they are none of a note.
pub(crate) fn read(bytes: &[u8]) -> Option<(Facts<'_>, PeerTags<'_>)> {
    let mut rest = Rest(bytes);
    let status_code = u32::from_le_bytes(rest.array()?);
    let [is_trace_root] = rest.array()?;
    let facts = Facts {
        service: rest.text()?,
        name: rest.text()?,
        resource: rest.text()?,
        span_type: rest.text()?,
        kind: rest.text()?,
        status_code,
        grpc_status_code: str::from_utf8(rest.text()?).ok()?,
        is_trace_root: is_trace_root != 0,
    };
    let mut peers = Vec::new();
    while let Some(tag) = rest.array() {
        peers.push((u16::from_le_bytes(tag), rest.text()?));
    }
    Some((facts, peers))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        let (text, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(text)
    }
}
