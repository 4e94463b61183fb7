//! The ledger agrees with what was exported, and stays bounded.

use std::collections::BTreeSet;

use sample_apps::ledger::LedgerLimits;

use crate::support::{App, Chain, TRACE_ID, TRACEPARENT};

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_list_exactly_the_spans_that_were_exported() {
    let chain = Chain::start_with(&[("HTTP_CLIENT_RETRIES", "1")], &[]).await;
    for fault in [
        "",
        "sample-app-2=status:503*1",
        "sample-app-2=abort",
        "sample-app-2=panic",
        "sample-app-1=status:500",
    ] {
        chain.first.get_with_fault("/outgoing-sampleapp", fault).await;
    }
    let mut listed = BTreeSet::new();
    for app in [&chain.first, &chain.second] {
        for span in app.ledger_spans(TRACE_ID).await {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(span["sampled"], true);
            let number = |key: &str| span[key].as_u64().unwrap();
            let attributes = span["attributes"].as_object().unwrap();
            assert!(attributes.contains_key("http.request.method"), "{span}");
            assert!(listed.insert((
                (text("span_id"), text("parent_span_id"), text("name"), text("kind")),
                (number("start"), number("end"), text("status")),
                (attributes.len(), number("events"), number("links")),
            )));
        }
    }
    let totals = [chain.first.ledger().await, chain.second.ledger().await];
    assert_eq!(
        totals[0]["spans_ended"].as_u64().unwrap() + totals[1]["spans_ended"].as_u64().unwrap(),
        19
    );

    let spans = chain.spans().await;
    let exported: BTreeSet<_> = spans
        .iter()
        .map(|span| {
            let kind = if span.is_server() { "server" } else { "client" };
            let status = span.span.status.as_ref().map_or(0, |status| status.code);
            let status = ["unset", "ok", "error"][usize::try_from(status).unwrap()];
            let count = |of: usize| u64::try_from(of).unwrap();
            (
                (span.id(), span.parent_id(), span.span.name.clone(), kind.to_owned()),
                (span.span.start_time_unix_nano, span.span.end_time_unix_nano, status.to_owned()),
                (
                    span.span.attributes.len(),
                    count(span.span.events.len()),
                    count(span.span.links.len()),
                ),
            )
        })
        .collect();
    assert_eq!((listed.len(), spans.len()), (19, 19));
    assert_eq!(listed, exported);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_totals_have_the_agreed_shape() {
    let vars =
        [("NAME", "a"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,service.instance.id=i-1")];
    let app = App::start(&[&vars[..], &[("OTEL_TRACES_EXPORTER", "none")]].concat()).await;
    app.get_with("/", &[TRACEPARENT]).await;
    let expected = serde_json::json!({
        "name": "a", "service": "shop", "instance_id": "i-1",
        "spans_ended": 1, "traces": 1, "spans_evicted": 0, "open_spans": 0
    });
    assert_eq!(app.ledger().await, expected);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_traces_are_pushed_out_and_counted() {
    let limits = LedgerLimits { max_spans: 10, max_traces: 3 };
    let vars = [("OTEL_TRACES_EXPORTER", "none")];
    let app = App::start_with(&vars, |settings| settings.ledger = limits).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.get("/").await.trace_id().to_owned());
    }
    let totals = app.ledger().await;
    assert_eq!(
        ["spans_ended", "traces", "spans_evicted"].map(|key| totals[key].as_u64().unwrap()),
        [5, 3, 2]
    );
    for (id, (spans, evicted)) in
        ids.iter().zip([(0, true), (0, true), (1, false), (1, false), (1, false)])
    {
        let page = app.get(&format!("/ledger/{id}")).await.json;
        assert_eq!(
            (page["spans"].as_array().unwrap().len(), &page["evicted"]),
            (spans, &evicted.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_trace_id_is_refused() {
    let app = App::start(&[("OTEL_TRACES_EXPORTER", "none")]).await;
    let answer = app.get("/ledger/nonsense").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("`nonsense` is not a trace id"));
}
