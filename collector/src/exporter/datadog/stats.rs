//! APM stats: hits, errors and latencies of spans, in buckets of ten seconds.
//!
//! Rules: agent, `pkg/trace/stats`. Datadog's `libdd-ddsketch` keeps the latencies, with the mapping that the agent uses. The
//! concentrator of `libdd-trace-stats` is a tracer's: it maps latencies another way and merges groups early.

mod groups;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod restart_tests;
mod sender;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use groups::{Group, GroupKey, Groups, is_top_level};
use hashbrown::{HashMap, HashTable};
use libdd_trace_protobuf::pb;
pub(crate) use sender::{encode, run};

use super::counting::records::{Record, Records};
use super::counting::{ClientKey, Counting};
use super::model::{Span, TraceChunk, TracerPayload};
use super::payload::Sender;
use crate::hold::Hold;

/// How long a bucket is, in nanoseconds.
pub(crate) const BUCKET_NANOS: u64 = 10_000_000_000;
/// How many of the last buckets are kept open for spans that come late.
const OPEN_BUCKETS: u64 = 2;
/// How many groups are kept at a time; spans that would make another are counted as left out.
const MAX_GROUPS: usize = 50_000;
/// How many groups one payload has at most: the agent's limit.
const MAX_GROUPS_PER_PAYLOAD: usize = 4000;

/// Counts spans, and gives what was counted.
#[derive(Debug)]
pub(crate) struct Concentrator {
    counting: Counting,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Spans that ended before count in the bucket that begins here.
    oldest: u64,
    buckets: BTreeMap<u64, Bucket>,
    groups: usize,
    left_out: usize,
    /// Requests that were counted, and wait to be notified that their stats are sent.
    noted: Vec<Noted>,
}

/// Spans that ended within ten seconds.
#[derive(Debug, Default)]
struct Bucket {
    clients: HashMap<ClientKey, usize>,
    /// By the number that `clients` gives.
    groups: Vec<Groups>,
    /// Groups by what spans say of themselves.
    known: HashTable<Known>,
}

/// A span's key as it was sent, and the group that it belongs to.
#[derive(Debug)]
struct Known {
    hash: u64,
    bytes: Box<[u8]>,
    client: usize,
    group: usize,
}

/// Some spans of a request that were counted.
#[derive(Debug)]
struct Noted {
    hold: Arc<Hold>,
    spans: usize,
    /// The last bucket that any of them is in.
    last: u64,
}

/// Recipient of the notification that stats are sent.
#[derive(Debug, Default)]
pub(crate) struct Receipt {
    until: u64,
    complete: Vec<Noted>,
    /// Requests that have spans in later buckets, too.
    partial: Vec<Arc<Hold>>,
}

impl Receipt {
    /// How many requests wait to be notified.
    fn len(&self) -> usize {
        self.complete.len() + self.partial.len()
    }

    /// The stats are sent, or dropped for good.
    fn confirm(self) {
        for Noted { hold, spans, .. } in self.complete {
            hold.count(spans, self.until);
        }
        for hold in self.partial {
            hold.count_until(self.until);
        }
    }
}

impl Concentrator {
    /// Begins to count; `now` is in nanoseconds since the epoch.
    pub(crate) fn new(counting: Counting, now: u64) -> Self {
        let state = State { oldest: aligned(now), ..State::default() };
        Self { counting, state: Mutex::new(state) }
    }

    /// How it counts.
    pub(crate) fn counting(&self) -> &Counting {
        &self.counting
    }

    /// Counts the spans of a payload, but for those that ended in buckets before `counted_until`. Gives the last bucket that it
    /// counted in.
    pub(crate) fn add(
        &self,
        tracer: &TracerPayload<'_>,
        sender: &Sender,
        counted_until: u64,
    ) -> u64 {
        let mut last = 0;
        if tracer.has_stats {
            return last;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in tracer.chunks.iter().filter(|chunk| !chunk.is_part).chain(&tracer.unsent) {
            let client = ClientKey::new(&chunk.counted, &tracer.language_name, sender);
            for span in &chunk.spans {
                if self.counts(span) && aligned(end(span)) >= counted_until {
                    last = last.max(state.add(&self.counting, &client, chunk, span));
                }
            }
        }
        last
    }

    /// As [`Self::add`], by the notes of spans.
    pub(crate) fn add_records(&self, records: &Records, counted_until: u64) -> u64 {
        let mut last = 0;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (client, records) in records.by_client() {
            let mut place = None;
            for (record, bytes) in records {
                if aligned(record.ended) >= counted_until {
                    let bucket =
                        state.add_record(&self.counting, client, record, bytes, &mut place);
                    last = last.max(bucket);
                }
            }
        }
        last
    }

    /// Notes that requests were counted, in buckets up to this one: they are notified when the stats are sent.
    pub(crate) fn note<'a>(
        &self,
        requests: impl Iterator<Item = (&'a Arc<Hold>, usize)>,
        last: u64,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (hold, spans) in requests {
            match state.noted.last_mut() {
                // The resources of a request follow each other.
                Some(noted) if noted.last == last && Arc::ptr_eq(&noted.hold, hold) => {
                    noted.spans += spans;
                }
                _ => state.noted.push(Noted { hold: Arc::clone(hold), spans, last }),
            }
        }
    }

    fn counts(&self, span: &Span<'_>) -> bool {
        let is_one = |key: &[u8]| span.metrics.get(key) == Some(&1.0);
        let by_kind = || {
            let kind = span.meta.get(b"span.kind").map(|kind| kind.to_ascii_lowercase());
            let kinds = [&b"server"[..], b"client", b"producer", b"consumer"];
            self.counting.by_span_kind && kind.is_some_and(|kind| kinds.contains(&&*kind))
        };
        !span.metrics.get(b"_dd.partial_version").is_some_and(|version| *version >= 0.0)
            && (is_top_level(span) || is_one(b"_dd.measured") || by_kind())
    }

    /// Takes out the buckets that are closed by `now`, or all of them, as payloads; and who is to be notified when all these are
    /// sent.
    pub(crate) fn flush(
        &self,
        sender: &Sender,
        now: u64,
        all: bool,
    ) -> (Vec<pb::StatsPayload>, Receipt) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = aligned(now).saturating_sub((OPEN_BUCKETS - 1) * BUCKET_NANOS);
        let open = if all { BTreeMap::new() } else { state.buckets.split_off(&limit) };
        let closed = std::mem::replace(&mut state.buckets, open);
        state.oldest = state.oldest.max(limit);
        state.groups =
            state.buckets.values().flat_map(|bucket| &bucket.groups).map(Groups::len).sum();
        let until = if all { u64::MAX } else { limit };
        let noted = std::mem::take(&mut state.noted);
        let (complete, open) = noted.into_iter().partition(|noted| noted.last < until);
        state.noted = open;
        let partial = state.noted.iter().map(|noted| Arc::clone(&noted.hold)).collect();
        drop(state);
        (payloads(sender, closed), Receipt { until, complete, partial })
    }

    /// How many spans were not counted since the last call, because there were too many groups.
    pub(crate) fn take_left_out(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.left_out)
    }
}

impl State {
    fn add(
        &mut self,
        counting: &Counting,
        client: &ClientKey,
        chunk: &TraceChunk<'_>,
        span: &Span<'_>,
    ) -> u64 {
        let start = aligned(end(span)).max(self.oldest);
        let bucket = self.buckets.entry(start).or_default();
        let client = bucket.client(client);
        let has_room = self.groups < MAX_GROUPS;
        let key = GroupKey::new(counting, chunk, span);
        match bucket.groups[client].find_or_add(key, has_room) {
            Some((group, is_new)) => {
                self.groups += usize::from(is_new);
                let (is_error, is_top_level) = (span.error != 0, is_top_level(span));
                let (duration, weight) = (span.duration, chunk.counted.weight);
                bucket.groups[client].group(group).add(duration, is_error, is_top_level, weight);
            }
            None => self.left_out += 1,
        }
        start
    }

    /// As [`State::add`], by a span's note; `last` is the bucket and the client of the one before.
    fn add_record(
        &mut self,
        counting: &Counting,
        client: &ClientKey,
        record: &Record,
        bytes: &[u8],
        last: &mut Option<(u64, usize)>,
    ) -> u64 {
        let start = aligned(record.ended).max(self.oldest);
        let bucket = self.buckets.entry(start).or_default();
        let client = match *last {
            Some((same, client)) if same == start => client,
            _ => bucket.client(client),
        };
        *last = Some((start, client));
        match bucket.find_or_add(counting, client, record, bytes, self.groups < MAX_GROUPS) {
            Some((group, is_new)) => {
                self.groups += usize::from(is_new);
                group.add(record.duration, record.is_error, record.is_top_level, 1.0);
            }
            None => self.left_out += 1,
        }
        start
    }
}

impl Bucket {
    fn client(&mut self, client: &ClientKey) -> usize {
        if let Some(index) = self.clients.get(client) {
            return *index;
        }
        self.groups.push(Groups::default());
        self.clients.insert(client.clone(), self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// The group that a note means, and whether it is a new one; `None` if there is no room for that.
    fn find_or_add(
        &mut self,
        counting: &Counting,
        client: usize,
        record: &Record,
        bytes: &[u8],
        has_room: bool,
    ) -> Option<(&mut Group, bool)> {
        let is_same = |known: &Known| known.client == client && *known.bytes == *bytes;
        if let Some(known) = self.known.find(record.hash, is_same) {
            return Some((self.groups[client].group(known.group), false));
        }
        let key = GroupKey::of_record(counting, bytes)?;
        let (group, is_new) = self.groups[client].find_or_add(key, has_room)?;
        // More notes than groups only come of addresses that count as the same.
        if self.known.len() < 2 * MAX_GROUPS {
            let known = Known { hash: record.hash, bytes: bytes.into(), client, group };
            self.known.insert_unique(record.hash, known, |known| known.hash);
        }
        Some((self.groups[client].group(group), is_new))
    }
}

fn payloads(sender: &Sender, buckets: BTreeMap<u64, Bucket>) -> Vec<pb::StatsPayload> {
    let new = || pb::StatsPayload {
        agent_hostname: sender.host_name.clone(),
        agent_env: sender.env.clone(),
        agent_version: sender.agent_version.clone(),
        ..pb::StatsPayload::default()
    };
    let mut payloads = Vec::new();
    let (mut current, mut size) = (new(), 0);
    for (start, mut bucket) in buckets {
        for (client, index) in bucket.clients {
            let groups = std::mem::take(&mut bucket.groups[index]);
            let mut groups = groups.into_stats().peekable();
            while groups.peek().is_some() {
                // Each part in memory of its own: cutting one list would leave all of its memory with each of them.
                let part: Vec<_> = groups.by_ref().take(MAX_GROUPS_PER_PAYLOAD - size).collect();
                size += part.len();
                current.stats.push(client_payload(&client, start, part));
                if size == MAX_GROUPS_PER_PAYLOAD {
                    payloads.push(std::mem::replace(&mut current, new()));
                    size = 0;
                }
            }
        }
    }
    if size > 0 {
        payloads.push(current);
    }
    let is_split = payloads.len() > 1;
    for payload in &mut payloads {
        payload.split_payload = is_split;
    }
    payloads
}

fn client_payload(
    client: &ClientKey,
    start: u64,
    stats: Vec<pb::ClientGroupedStats>,
) -> pb::ClientStatsPayload {
    pb::ClientStatsPayload {
        hostname: client.hostname.clone(),
        env: client.env.clone(),
        version: client.version.clone(),
        lang: client.lang.clone(),
        git_commit_sha: client.commit.clone(),
        service: client.base_service.clone(),
        stats: vec![pb::ClientStatsBucket {
            start,
            duration: BUCKET_NANOS,
            stats,
            agent_time_shift: 0,
        }],
        ..pb::ClientStatsPayload::default()
    }
}

/// When a span ended, in nanoseconds since the epoch.
fn end(span: &Span<'_>) -> u64 {
    u64::try_from(span.start.saturating_add(span.duration)).unwrap_or_default()
}

fn aligned(nanos: u64) -> u64 {
    nanos - nanos % BUCKET_NANOS
}
