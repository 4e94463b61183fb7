//! Trace context under each propagator, sampled or not.

use crate::support::{Chain, TRACE_ID, TRACEPARENT};

const BOTH: &str = "OTEL_PROPAGATORS";

#[tokio::test(flavor = "multi_thread")]
async fn xray_links_the_chain_and_ids_are_reported_in_its_form() {
    let chain = Chain::start_with(&[], &[(BOTH, "xray")]).await;
    let header = "Root=1-6920f1a0-00000000000000000000beef;Parent=00000000000000aa;Sampled=1";
    let answer = chain.first.get_with("/outgoing-sampleapp", &[("x-amzn-trace-id", header)]).await;
    assert_eq!(answer.trace_id(), "1-6920f1a0-00000000000000000000beef");
    assert_eq!(chain.second.ledger_spans(answer.trace_id()).await.len(), 1);
    let spans = chain.spans().await;
    assert_eq!(spans.iter().map(|span| span.trace_id()).collect::<Vec<_>>(), [TRACE_ID; 3]);
    assert_eq!(spans[2].parent_id(), spans[1].id());
}

#[tokio::test(flavor = "multi_thread")]
async fn xray_does_not_read_the_w3c_header_and_starts_ids_with_the_time() {
    let chain = Chain::start_with(&[], &[(BOTH, "xray")]).await;
    let answer = chain.first.get_with("/", &[TRACEPARENT]).await;
    let seconds = u64::from_str_radix(&answer.trace_id()[2..10], 16).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60, "{seconds} is not about {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_either_header_is_read_and_ids_are_reported_as_hex() {
    let chain = Chain::start_with(&[], &[(BOTH, "tracecontext,xray")]).await;
    let header = "Root=1-6920f1a0-00000000000000000000beef;Parent=00000000000000aa;Sampled=1";
    for header in [("x-amzn-trace-id", header), TRACEPARENT] {
        assert_eq!(
            chain.first.get_with("/outgoing-sampleapp", &[header]).await.trace_id(),
            TRACE_ID
        );
    }
    assert!(chain.spans().await.iter().all(|span| span.trace_id() == TRACE_ID));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_propagators_each_hop_starts_a_trace_of_its_own() {
    let chain = Chain::start_with(&[], &[(BOTH, "none")]).await;
    let answer = chain.first.get_with("/outgoing-sampleapp", &[TRACEPARENT]).await;
    assert_ne!(answer.trace_id(), TRACE_ID);
    let spans = chain.spans().await;
    assert_eq!(spans[0].trace_id(), spans[1].trace_id());
    assert_ne!(spans[1].trace_id(), spans[2].trace_id());
    assert_eq!((spans[0].parent_id(), spans[2].parent_id()), (String::new(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_switched_off_in_one_app_cuts_the_trace_there() {
    let chain = Chain::start_with(&[(BOTH, "none")], &[]).await;
    chain.first.get_with("/outgoing-sampleapp", &[TRACEPARENT]).await;
    let spans = chain.spans().await;
    assert_ne!(spans[1].trace_id(), spans[2].trace_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_trace_is_propagated_and_in_the_ledgers_but_not_exported() {
    let chain = Chain::start().await;
    let traceparent = format!("00-{TRACE_ID}-00000000000000aa-00");
    let answer =
        chain.first.get_with("/outgoing-sampleapp", &[("traceparent", traceparent.as_str())]).await;
    assert_eq!((answer.status, answer.trace_id()), (200, TRACE_ID));
    let first = chain.first.ledger_spans(TRACE_ID).await;
    let second = chain.second.ledger_spans(TRACE_ID).await;
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first.iter().chain(&second).all(|span| span["sampled"] == false));
    let (client, server) = (&first[0], &first[1]);
    assert_eq!(
        (&server["parent_span_id"], &server["kind"]),
        (&"00000000000000aa".into(), &"server".into())
    );
    assert_eq!(
        (&client["parent_span_id"], &client["kind"]),
        (&server["span_id"], &"client".into())
    );
    assert_eq!(second[0]["parent_span_id"], client["span_id"]);
    assert_eq!(chain.first.ledger().await["open_spans"], 0);
    assert!(chain.spans().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_sdk_makes_no_spans_and_passes_the_context_on() {
    let chain = Chain::start_with(&[("OTEL_SDK_DISABLED", "true")], &[]).await;
    let answer = chain.first.get_with("/outgoing-sampleapp", &[TRACEPARENT]).await;
    assert_eq!((answer.status, answer.trace_id()), (200, TRACE_ID));
    assert_eq!(chain.first.ledger().await["spans_ended"], 0);
    let spans = chain.spans().await;
    assert_eq!(spans.len(), 1);
    assert_eq!(
        (spans[0].trace_id().as_str(), spans[0].parent_id().as_str()),
        (TRACE_ID, "00000000000000aa")
    );
}
