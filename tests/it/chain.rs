//! The library as a user's `#[tokio::test]` calls it, and what the chain's payloads hold, field by field.

use std::{collections::HashMap, time::Duration};

use harness::{
    expectation::{Matcher, Order, Overlap, SpanCount},
    scenario::FaultKind,
    test_system::TestSystem,
    trace::Trace,
};
use serde_json::{Value, json};

use crate::support::TRACECHECK;

type TestResult = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn a_request_through_both_services_is_one_whole_trace() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    let answer = chain.get("/outgoing-sampleapp").send().await;
    assert_eq!(answer.status(), Some(200));
    insta::assert_json_snapshot!("happy_path", redacted(answer.whole_trace()?));
    chain.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_failed_second_hop_is_marked_on_every_span_of_one_whole_trace() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    let answer =
        chain.get("/outgoing-sampleapp").fault("sample-app-2", FaultKind::Status(503)).send().await;
    assert_eq!(answer.status(), Some(502));
    let trace = answer.whole_trace()?;
    assert_eq!(trace.spans.iter().filter(|span| span.error).count(), 4);
    insta::assert_json_snapshot!("second_hop_503", redacted(trace));
    chain.stop().await?;
    Ok(())
}

#[tokio::test]
async fn where_a_failure_begins_and_what_comes_after_what_is_asked_for_in_rust_too() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    let of = |at: &str, kind: &str| Matcher {
        at: Some(at.to_owned()),
        kind: Some(kind.to_owned()),
        ..Matcher::default()
    };
    let failing = || {
        let request = chain.get("/outgoing-sampleapp").within(Duration::from_secs(5));
        let request = request.fault("sample-app-2", FaultKind::Status(503));
        request.spans(SpanCount {
            span: of("sample-app-2", "server"),
            at_least: 1,
            at_most: Some(1),
        })
    };
    let within = Overlap { one: of("sample-app-1", "client"), other: of("sample-app-2", "server") };
    failing().fails_at("sample-app-2").overlap(within).send().await.whole_trace()?;
    let after = Order {
        first: of("sample-app-1", "client"),
        then: of("sample-app-2", "server"),
        ..Order::default()
    };
    let wrong = failing().within(Duration::from_millis(500)).fails_at("sample-app-1").order(after);
    let reported = wrong.send().await.whole_trace().map(drop).unwrap_err().to_string();
    assert!(
        reported.contains("fails_at: the failure should begin at `sample-app-1`, but begins at "),
        "{reported}"
    );
    assert!(
        reported.contains("order: `sample-app-2 server` should begin after `sample-app-1 client`"),
        "{reported}"
    );
    chain.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_intake_of_a_run_refuses_any_key_but_the_run_s() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    let url = chain.session().endpoints().url("intake", "http").ok_or("no intake")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let traces = client.post(format!("{url}/api/v0.2/traces")).header("dd-api-key", "another");
    assert_eq!(traces.send().await?.status(), 403);
    chain.stop().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_running() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    let addresses: Vec<String> = chain
        .session()
        .endpoints()
        .workloads
        .values()
        .flat_map(|workload| &workload.instances)
        .flat_map(|instance| instance.ports.values().cloned())
        .collect();
    assert!(addresses.len() >= 5, "{addresses:?}");
    chain.stop().await?;
    for address in addresses {
        assert!(tokio::net::TcpStream::connect(&address).await.is_err(), "{address} still answers");
    }
    Ok(())
}

/// The trace as it arrived, with ids, times, ports and hosts named by what they are, so that links can still be read.
fn redacted(trace: &Trace) -> Value {
    let names: HashMap<String, String> = trace
        .spans
        .iter()
        .enumerate()
        .map(|(index, span)| (span.id.to_string(), format!("span {}", index + 1)))
        .collect();
    let mut json = serde_json::to_value(trace).expect("a trace is plain data");
    let trace_id = json["id"].as_str().unwrap_or_default().to_owned();
    json["id"] = json!("[trace id]");
    for span in json["spans"].as_array_mut().into_iter().flatten() {
        for key in ["id", "parent_id"] {
            if let Some(name) = span[key].as_str().and_then(|id| names.get(id)) {
                span[key] = json!(name);
            }
        }
        for key in ["start", "duration", "attempt", "hostname", "datadog_trace_id"] {
            span[key] = json!(format!("[{key}]"));
        }
        span["trace_id"] = json!("[trace id]");
        // Which spans of a service share a chunk depends on when its SDK exports; the collector's own tests pin these.
        for (map, key) in [
            ("meta", "_dd.p.dm"),
            ("metrics", "_top_level"),
            ("metrics", "_sampling_priority_rate_v1"),
        ] {
            span[map].as_object_mut().map(|map| map.remove(key));
        }
        for (key, value) in span["meta"].as_object_mut().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            let redacted = match key.as_str() {
                "otel.trace_id" if text == trace_id => Some("[trace id]"),
                "service.instance.id" => Some("[instance]"),
                "tracecheck.run.id" => Some("[run]"),
                "host.name" => Some("[host]"),
                "http.url" => Some("http://[address]/outgoing-sampleapp"),
                "http.useragent"
                | "telemetry.sdk.version"
                | "otel.library.version"
                | "otel.scope.version" => Some("[version]"),
                _ => None,
            };
            if let Some(redacted) = redacted {
                *value = json!(redacted);
            }
        }
        for (key, value) in span["metrics"].as_object_mut().into_iter().flatten() {
            if key.ends_with(".port") || key.ends_with(".pid") {
                *value = json!("[number]");
            }
        }
    }
    json
}
