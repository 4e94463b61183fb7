use super::*;

const ID: TraceId = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);

fn trace_body(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = serde_json::json!({ "data": { "id": ID.to_string(), "type": "trace", "attributes": {
        "is_truncated": false,
        "spans": [{
            "traceID": 9532127138774266268u64, "traceIDFull": ID.to_string(), "spanID": 12047890513246347447u64,
            "parentID": 0, "service": "shop", "name": "http.server.request", "resource": "GET /checkout", "type": "web",
            "error": 1, "startTime": 1795386186423000000i64, "endTime": 1795386186431500000i64, "duration": 8500000,
            "self_time": 8500000.0, "resourceHash": "b1946ac92492d234",
            "meta": {"span.kind": "server", "otel.trace_id": ID.to_string(), "env": "prod", "host": "node-1"},
            "metrics": {"http.status_code": 500.0}
        }]
    }}});
    change(&mut body);
    body.to_string().into_bytes()
}

fn only_span(spans: Spans) -> Span {
    assert_eq!(spans.spans.len(), 1);
    spans.spans.into_iter().next().unwrap()
}

#[test]
fn a_trace_is_read_with_ids_of_all_64_bits() {
    let reported = trace(&trace_body(|_| ()), ID).unwrap();
    assert_eq!((reported.partial.len(), reported.next.clone()), (0, None));
    let span = only_span(reported);
    assert_eq!((span.trace_id, span.datadog_trace_id), (ID, ID.low()));
    assert_eq!((span.id.0, span.parent_id), (12_047_890_513_246_347_447, None));
    assert_eq!((span.error, span.duration, span.kind()), (true, 8_500_000, "server"));
    assert_eq!((span.hostname.as_str(), span.env.as_str()), ("node-1", "prod"));
    assert_eq!(span.form, PayloadForm::Api);
    assert_eq!(span.http_status(), Some(500));
}

#[test]
fn names_and_ids_are_read_in_either_spelling() {
    let body = trace_body(|body| {
        let span = &mut body["data"]["attributes"]["spans"][0];
        let spelled = [
            ("traceID", "trace_id"),
            ("traceIDFull", "trace_id_full"),
            ("spanID", "span_id"),
            ("parentID", "parent_id"),
            ("startTime", "start_time"),
            ("endTime", "end_time"),
        ];
        for (from, to) in spelled {
            span[to] = span[from].take();
            span.as_object_mut().unwrap().remove(from);
        }
        span["span_id"] = "12047890513246347447".into();
        span["parent_id"] = (-6_398_853_560_463_204_169i64).into();
    });
    let span = only_span(trace(&body, ID).unwrap());
    assert_eq!(span.id.0, 12_047_890_513_246_347_447);
    assert_eq!(span.parent_id.map(|id| id.0), Some(12_047_890_513_246_347_447));
    assert_eq!(span.trace_id, ID);
}

#[test]
fn a_trace_that_is_not_reported_whole_says_so() {
    let body = trace_body(|body| {
        body["data"]["attributes"]["is_truncated"] = true.into();
        body["data"]["attributes"]["spans"][0]["restricted"] = true.into();
    });
    let partial = trace(&body, ID).unwrap().partial;
    assert!(
        partial[0].contains("is_truncated") && partial[1].contains("restricted"),
        "{partial:?}"
    );
}

#[test]
fn a_malformed_answer_is_reported_with_its_place() {
    let wrong = trace(
        &trace_body(|body| body["data"]["attributes"]["spans"][0]["spanID"] = "x".into()),
        ID,
    );
    assert_eq!(wrong.unwrap_err().path, "data.attributes.spans[0].spanID");
    let cut = trace(&trace_body(|_| ())[..200], ID).unwrap_err();
    assert!(cut.reason.contains("EOF"), "{cut}");
    assert!(trace(b"<html>", ID).is_err());
    assert!(search(b"[]", &[]).is_err());
}

fn search_body(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = serde_json::json!({
        "data": [{ "id": "AAAAAWgN8Xwgr1vKDQAAAABBV2dOOFh3ZzZobm1mWXJFYTR0OA", "type": "spans", "attributes": {
            "trace_id": ID.low().to_string(), "span_id": "17", "parent_id": "0", "service": "shop",
            "resource_name": "GET /checkout", "operation_name": "http.server.request", "type": "web", "env": "prod",
            "host": "node-1", "ingestion_reason": "auto", "retained_by": "retention_filter", "single_span": false,
            "start_timestamp": "2026-11-24T10:00:00.250Z", "end_timestamp": "2026-11-24T10:00:00.500Z",
            "tags": ["env:prod", "pod_name:shop-1"],
            "attributes": {"http": {"status_code": 200, "method": "GET"}, "span": {"kind": "server"}},
            "custom": {"otel": {"trace_id": ID.to_string()}, "duration": 250100000, "service": {"instance": {"id": "i-7"}}}
        }}],
        "links": {"next": "https://…"},
        "meta": {"elapsed": 132, "page": {"after": "cursor-2"}, "request_id": "r", "status": "done"}
    });
    change(&mut body);
    body.to_string().into_bytes()
}

#[test]
fn a_found_span_is_put_together_again_from_its_nested_attributes() {
    let reported = search(&search_body(|_| ()), &[]).unwrap();
    assert_eq!(reported.next.as_deref(), Some("cursor-2"));
    let span = only_span(reported);
    assert_eq!((span.trace_id, span.datadog_trace_id), (ID, ID.low()));
    assert_eq!(
        (span.kind(), span.instance(), span.name.as_str()),
        ("server", Some("i-7"), "http.server.request")
    );
    assert_eq!(span.meta["pod_name"], "shop-1");
    assert_eq!((span.error, span.duration), (false, 250_000_000));
    assert_eq!(span.http_status(), Some(200));
}

#[test]
fn the_high_half_comes_from_the_tag_else_from_the_trace_that_was_asked_for() {
    let without = |asked: &[TraceId]| {
        let body = search_body(|body| body["data"][0]["attributes"]["custom"] = Value::Null);
        only_span(search(&body, asked).unwrap()).trace_id
    };
    assert_eq!(without(&[ID]), ID);
    assert_eq!(without(&[]), TraceId(u128::from(ID.low())));
    let hex = search_body(|body| body["data"][0]["attributes"]["trace_id"] = ID.to_string().into());
    assert_eq!(only_span(search(&hex, &[]).unwrap()).trace_id, ID);
}

#[test]
fn an_error_is_seen_and_partial_results_say_so() {
    let body = search_body(|body| {
        body["data"][0]["attributes"]["status"] = "error".into();
        body["meta"]["status"] = "timeout".into();
        body["meta"]["warnings"] = serde_json::json!([{"code": "unknown_index", "title": "Index x is unknown", "detail": "indexes: foo"}]);
    });
    let reported = search(&body, &[]).unwrap();
    assert_eq!(reported.partial.len(), 2);
    assert!(reported.partial[0].contains("Index x is unknown"), "{:?}", reported.partial);
    assert!(only_span(reported).error);
}
