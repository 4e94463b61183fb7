//! Each fault, by header and by environment, and the spans it leaves.

use std::time::{Duration, Instant};

use crate::support::{App, Chain, DEADLINE, TRACE_ID, TRACEPARENT, eventually, get};

/// `status` of the first hop's answer, then what its server, its client and the second hop's server span say.
async fn chain_with_fault(fault: &str) -> (u16, Vec<crate::support::ReceivedSpan>) {
    // Short only where it is waited out.
    let timeout = if fault.ends_with("=hang") { "300ms" } else { "20s" };
    let chain = Chain::start_with(&[("HTTP_CLIENT_REQUEST_TIMEOUT", timeout)], &[]).await;
    let answer = chain.first.get_with_fault("/outgoing-sampleapp", fault).await;
    assert_eq!(answer.trace_id(), TRACE_ID);
    // A hop that was left hanging notices a moment later.
    eventually(async || match chain.second.ledger().await["open_spans"].as_u64() {
        Some(0) => Ok(()),
        open => Err(format!("{open:?} open spans")),
    })
    .await;
    let spans = chain.spans().await;
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id() == TRACE_ID));
    assert_eq!([spans[1].parent_id(), spans[2].parent_id()], [spans[0].id(), spans[1].id()]);
    (answer.status, spans)
}

const ERROR: [&str; 3] = ["http.response.status_code", "error.type", "tracecheck.fault"];

#[tokio::test(flavor = "multi_thread")]
async fn an_error_status_fails_both_hops() {
    let (status, spans) = chain_with_fault("sample-app-2=status:503").await;
    assert_eq!(status, 502);
    assert!(spans.iter().all(|span| span.is_error() && span.status_message().is_empty()));
    assert_eq!(spans[0].described(&ERROR), ["http.response.status_code=502", "error.type=502"]);
    assert_eq!(spans[1].described(&ERROR), ["http.response.status_code=503", "error.type=503"]);
    let fault = "tracecheck.fault=status:503";
    assert_eq!(
        spans[2].described(&ERROR),
        ["http.response.status_code=503", "error.type=503", fault]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_4xx_is_the_callers_error_and_not_the_servers() {
    let (status, spans) = chain_with_fault("sample-app-2=status:404").await;
    assert_eq!(status, 502);
    assert_eq!(spans.iter().map(|span| span.is_error()).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_lasts_until_the_caller_times_out_and_ends_the_span_then() {
    let (status, spans) = chain_with_fault("sample-app-2=hang").await;
    assert_eq!(status, 504);
    assert!(spans.iter().all(|span| span.is_error()));
    assert_eq!(spans[1].described(&ERROR), ["error.type=timeout"]);
    assert_eq!(spans[1].exceptions().len(), 1);
    assert_eq!(
        spans[2].described(&ERROR),
        ["error.type=client_disconnected", "tracecheck.fault=hang"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_resets_the_connection() {
    let (status, spans) = chain_with_fault("sample-app-2=abort").await;
    assert_eq!(status, 502);
    assert_eq!(spans[1].described(&ERROR), ["error.type=connection_reset"]);
    let exceptions = spans[1].exceptions();
    assert_eq!(exceptions[0].0, "reqwest::Error");
    assert!(exceptions[0].1.contains("reset"), "{exceptions:?}");
    assert_eq!(
        spans[2].described(&ERROR),
        ["error.type=connection_aborted", "tracecheck.fault=abort"]
    );
    assert!(spans[2].is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_and_recorded() {
    let (status, spans) = chain_with_fault("sample-app-2=panic").await;
    assert_eq!(status, 502);
    let panic = ("panic".to_owned(), "injected fault: panic".to_owned());
    assert_eq!(spans[2].exceptions(), [panic]);
    let reported = ["http.response.status_code=500", "error.type=panic", "tracecheck.fault=panic"];
    assert_eq!(spans[2].described(&ERROR), reported);
    assert!(spans[2].is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_the_first_hop_is_still_an_answer_with_the_trace_id() {
    let chain = Chain::start().await;
    let answer = chain.first.get_with_fault("/", "sample-app-1=panic").await;
    assert_eq!(
        (answer.status, answer.trace_id(), answer.error()),
        (500, TRACE_ID, "panic: injected fault: panic")
    );
    assert_eq!(chain.first.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_the_first_hop_gives_the_caller_no_answer() {
    let chain = Chain::start().await;
    let error = chain
        .first
        .try_get("/", &[("x-tracecheck-fault", "sample-app-1=abort")])
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    assert_eq!(chain.first.ledger().await["open_spans"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_slows_that_hop_and_fails_nothing() {
    let started = Instant::now();
    let chain = Chain::start().await;
    let answer =
        chain.first.get_with_fault("/outgoing-sampleapp", "sample-app-2=delay:120ms").await;
    assert_eq!(answer.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(120));
    let spans = chain.spans().await;
    assert!(spans.iter().all(|span| !span.is_error()));
    let second = &spans[2].span;
    assert!(second.end_time_unix_nano - second.start_time_unix_nano >= 120_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_faults_of_a_hop_are_carried_out_in_order_up_to_the_first_that_answers() {
    let (status, spans) =
        chain_with_fault("sample-app-2=delay:20ms,sample-app-2=status:503,sample-app-2=abort")
            .await;
    assert_eq!(status, 502);
    assert_eq!(spans[2].attribute("tracecheck.fault"), "delay:20ms,status:503");
    let keys: Vec<_> = spans[2].span.attributes.iter().map(|pair| &pair.key).collect();
    let unique: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(keys.len(), unique.len(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_ends_every_span_down_the_chain_as_a_failure() {
    let chain = Chain::start().await;
    let url = chain.first.url("/outgoing-sampleapp");
    let caller = tokio::spawn(async move {
        let headers = [TRACEPARENT, ("x-tracecheck-fault", "sample-app-2=hang")];
        get(&url, &headers, DEADLINE).await
    });
    let open_spans = async |app: &App, wanted: u64| {
        eventually(async || match app.ledger().await["open_spans"].as_u64() {
            Some(open) if open == wanted => Ok(()),
            open => Err(format!("{open:?} open spans")),
        })
        .await;
    };
    open_spans(&chain.second, 1).await;
    caller.abort();
    open_spans(&chain.first, 0).await;
    open_spans(&chain.second, 0).await;
    let spans = chain.spans().await;
    let reported: Vec<_> = spans.iter().map(|span| span.attribute("error.type")).collect();
    assert_eq!(reported, ["client_disconnected", "cancelled", "client_disconnected"]);
    assert!(spans.iter().all(|span| span.is_error()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_rate_decides_by_the_trace_id() {
    let chain = Chain::start().await;
    let (mut failed, mut repeated) = (Vec::new(), Vec::new());
    for list in [&mut failed, &mut repeated] {
        for id in 1..=40 {
            let traceparent = format!("00-6920f1a0000000000000000000{id:06x}-00000000000000aa-01");
            let headers = [
                ("traceparent", traceparent.as_str()),
                ("x-tracecheck-fault", "sample-app-1=error-rate:0.5:7"),
            ];
            let answer = chain.first.get_with("/", &headers).await;
            assert!([200, 500].contains(&answer.status));
            list.push(answer.status);
        }
    }
    assert_eq!(failed, repeated);
    assert!(failed.contains(&200) && failed.contains(&500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_another_hop_is_forwarded_and_not_carried_out() {
    let chain = Chain::start().await;
    let answer = chain.first.get_with_fault("/outgoing-sampleapp", "sample-app-3=status:503").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_fault_header_is_answered_400_and_names_the_part() {
    let chain = Chain::start().await;
    let answer = chain.first.get_with_fault("/", "sample-app-1=abort,sample-app-2=explode").await;
    assert_eq!((answer.status, answer.trace_id()), (400, TRACE_ID));
    assert!(
        answer.error().contains("fault `sample-app-2=explode`: `explode` is not a kind of fault"),
        "{answer:?}"
    );
    let answer = chain.first.get_with("/", &[("x-tracecheck-resend", "often")]).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().starts_with("header x-tracecheck-resend: "), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standing_faults_and_latency_hold_for_every_request() {
    let vars = [("ERROR_RATE", "1"), ("ERROR_CODE", "418"), ("TIMING_50_PERCENTILE", "50ms")];
    let chain = Chain::start_with(&vars, &[]).await;
    let started = Instant::now();
    assert_eq!(chain.first.get("/").await.status, 418);
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(chain.first.get("/health").await.status, 200);
    assert_eq!(chain.second.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_standing_kind_is_carried_out() {
    for (kind, expected) in
        [("panic", Some(500)), ("delay", Some(200)), ("abort", None), ("hang", None)]
    {
        let vars = [("ERROR_RATE", "1"), ("ERROR_TYPE", kind), ("ERROR_DELAY", "20ms")];
        let chain = Chain::start_with(&vars, &[]).await;
        let timeout = if kind == "hang" { Duration::from_millis(300) } else { DEADLINE };
        let answer = get(&chain.first.url("/"), &[TRACEPARENT], timeout).await;
        assert_eq!(answer.ok().map(|answer| answer.status), expected, "{kind}");
    }
}
