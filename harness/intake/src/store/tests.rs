use super::*;
use crate::{
    decode::decode,
    testing::{TRACE_ID, attempt, encoded, stats, traces_body},
};

const OTHER_TRACE_ID: &str = "0af7651916cd43dd00000000000000ff";

fn id(text: &str) -> TraceId {
    text.parse().unwrap()
}

fn insert(store: &mut Store, attempt: Attempt) -> Outcome {
    let decoded = decode(&attempt, 1 << 20);
    store.insert(attempt, decoded, Instant::now())
}

fn traces(seq: u64, reply: Reply, body: Vec<u8>) -> Attempt {
    let attempt = encoded("/api/v0.2/traces", "gzip", body);
    Attempt { seq, reply, ..attempt }
}

#[test]
fn only_what_was_answered_2xx_becomes_a_trace() {
    let mut store = Store::new(Bounds::default());
    let body = traces_body(TRACE_ID, 1);
    for (seq, reply) in
        [Reply::Status(503), Reply::Reset, Reply::ClientGone].into_iter().enumerate()
    {
        let outcome = insert(&mut store, traces(seq as u64 + 1, reply, body.clone()));
        assert_eq!(outcome, Outcome::NotAccepted);
    }
    assert_eq!(store.trace(id(TRACE_ID)), None);
    assert_eq!(insert(&mut store, traces(4, Reply::Status(202), body)), Outcome::Accepted);
    let trace = store.trace(id(TRACE_ID)).unwrap();
    assert_eq!(trace.spans.iter().map(|span| span.attempt).collect::<Vec<_>>(), [4, 4]);
    let by_reply = &store.counts().attempts["/api/v0.2/traces"];
    assert_eq!(by_reply["503"] + by_reply["reset"] + by_reply["client-gone"], 3);
    assert_eq!((store.counts().spans, store.counts().redelivered), (2, 0));
}

#[test]
fn the_same_bytes_again_are_counted_and_their_spans_not_doubled() {
    let mut store = Store::new(Bounds::default());
    let body = traces_body(TRACE_ID, 1);
    insert(&mut store, traces(1, Reply::Status(202), body.clone()));
    let outcome = insert(&mut store, traces(2, Reply::Status(202), body));
    assert_eq!(outcome, Outcome::Redelivered);
    assert_eq!(store.trace(id(TRACE_ID)).unwrap().spans.len(), 2);
    assert_eq!((store.counts().spans, store.counts().redelivered), (2, 1));

    let stats = rmp_serde::to_vec_named(&stats()).unwrap();
    insert(&mut store, attempt(3, "/api/v0.2/stats", stats.clone()));
    let outcome = insert(&mut store, attempt(4, "/api/v0.2/stats/", stats));
    assert_eq!(outcome, Outcome::Redelivered);
    assert_eq!((store.counts().stats_groups, store.counts().redelivered), (1, 2));

    for seq in 5..7 {
        let outcome = insert(&mut store, attempt(seq, "/api/v1/validate", Vec::new()));
        assert_eq!(outcome, Outcome::Accepted, "to ask twice is no redelivery");
    }
}

#[test]
fn a_different_payload_with_the_same_span_keeps_both() {
    let mut store = Store::new(Bounds::default());
    insert(&mut store, traces(1, Reply::Status(202), traces_body(TRACE_ID, 1)));
    let outcome = insert(&mut store, traces(2, Reply::Status(202), traces_body(TRACE_ID, 2)));
    assert_eq!(outcome, Outcome::Accepted);
    let trace = store.trace(id(TRACE_ID)).unwrap();
    assert_eq!(trace.spans.iter().map(|span| span.id.0).collect::<Vec<_>>(), [1, 2, 2, 3]);
}

#[test]
fn the_oldest_go_first_with_their_spans_and_are_counted() {
    let mut store = Store::new(Bounds { max_attempts: 2, ..Bounds::default() });
    insert(&mut store, traces(1, Reply::Status(202), traces_body(TRACE_ID, 1)));
    insert(&mut store, traces(2, Reply::Status(202), traces_body(TRACE_ID, 3)));
    insert(&mut store, traces(3, Reply::Status(202), traces_body(OTHER_TRACE_ID, 1)));
    assert_eq!((store.oldest(), store.newest()), (Some(2), 3));
    assert!(store.entry(1).is_none() && store.entry(3).is_some());
    assert_eq!(store.after(2).map(|entry| entry.attempt.seq).collect::<Vec<_>>(), [3]);
    let spans = store.trace(id(TRACE_ID)).unwrap().spans;
    assert_eq!(spans.iter().map(|span| span.id.0).collect::<Vec<_>>(), [3, 4]);
    let counts = store.counts().clone();
    assert_eq!((counts.spans, counts.dropped.attempts, counts.dropped.spans), (6, 1, 2));
    assert_eq!((counts.kept.attempts, counts.kept.spans, counts.kept.traces), (2, 4, 2));

    insert(&mut store, traces(4, Reply::Status(202), traces_body(OTHER_TRACE_ID, 5)));
    assert_eq!(store.trace(id(TRACE_ID)), None);
    assert_eq!(store.counts().kept.traces, 1);
}

#[test]
fn memory_is_bounded_and_the_newest_is_kept_whatever_its_size() {
    let bounds = Bounds { max_bytes: 4096, ..Bounds::default() };
    let mut store = Store::new(bounds);
    for seq in 1..=50 {
        insert(&mut store, attempt(seq, "/api/v9/other", vec![0; 1000]));
        assert!(store.counts().kept.bytes <= 4096);
    }
    assert_eq!(store.counts().kept.attempts + store.counts().dropped.attempts, 50);
    insert(&mut store, attempt(51, "/api/v9/other", vec![0; 10_000]));
    assert_eq!((store.oldest(), store.newest()), (Some(51), 51));
}

#[test]
fn what_was_pushed_out_can_be_accepted_again() {
    let mut store = Store::new(Bounds { max_attempts: 1, ..Bounds::default() });
    let body = traces_body(TRACE_ID, 1);
    insert(&mut store, traces(1, Reply::Status(202), body.clone()));
    insert(&mut store, traces(2, Reply::Status(202), traces_body(OTHER_TRACE_ID, 1)));
    assert_eq!(insert(&mut store, traces(3, Reply::Status(202), body)), Outcome::Accepted);
    assert_eq!(store.trace(id(TRACE_ID)).unwrap().spans.len(), 2);
}

#[test]
fn the_unreadable_is_kept_with_its_reason() {
    let mut store = Store::new(Bounds::default());
    let mut body = traces_body(TRACE_ID, 1);
    body.truncate(30);
    insert(&mut store, traces(1, Reply::Status(400), body.clone()));
    let entry = store.entry(1).unwrap();
    assert!(entry.undecodable.as_ref().unwrap().contains("gzip"));
    assert_eq!(entry.attempt.body, body);
    assert_eq!(store.counts().undecodable, 1);
}
