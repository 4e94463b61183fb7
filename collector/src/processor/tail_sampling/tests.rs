//! Policies as the reference's are, and decisions that hold for whole traces.

use serde_json::{Value, json};

use super::rule::{Clock, Judged};
use super::whole_traces::{Judge as _, Over, Trace};
use super::{Config, Reason, Sampler};
use crate::extension::trace_ledger::{Config as LedgerConfig, Ledger};
use crate::settings::Purpose;
use crate::settings::decode::decode;
use crate::settings::node::Node;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

const ID: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

fn sampler(config: &str) -> Sampler {
    let config: Config = decode(&Node::parse("test", config).unwrap(), Purpose::Run).unwrap();
    Sampler::new(&config, "tail_sampling", &Registry::default(), &None)
}

/// A trace with these resource attributes and spans.
fn trace(resource: &Value, spans: &[Value]) -> TraceBatch {
    let attributes = |attributes: &Value| -> Vec<Value> {
        let pairs = attributes.as_object().into_iter().flatten();
        pairs
            .map(|(key, value)| {
                let value = match value {
                    Value::Bool(value) => json!({ "boolValue": value }),
                    Value::Number(value) if value.is_i64() => json!({ "intValue": value }),
                    Value::Number(value) => json!({ "doubleValue": value }),
                    other => json!({ "stringValue": other }),
                };
                json!({ "key": key, "value": value })
            })
            .collect()
    };
    let spans: Vec<_> = spans
        .iter()
        .map(|span| {
            let mut span = span.clone();
            span["traceId"] = format!("{ID:032x}").into();
            span["attributes"] = attributes(&span["attributes"]).into();
            span
        })
        .collect();
    let resource = json!({ "attributes": attributes(resource) });
    let json =
        json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": spans }] }] });
    TraceBatch::from_json(json.to_string().as_bytes()).unwrap()
}

/// Returns whether one policy, in YAML without its name, keeps a trace.
fn keeps(policy: &str, spans: &TraceBatch) -> bool {
    let mut sampler = sampler(&format!("{{policies: [{{name: p, {policy}}}]}}"));
    sampler.ask(Judged { id: ID, spans }, Clock::now()).is_none()
}

#[test]
fn attributes_are_looked_for_in_resources_and_spans() {
    let spans = trace(
        &json!({ "r": "x", "n": 5, "odd": 1 }),
        &[
            json!({ "attributes": { "a": "one", "n": 50, "b": true, "empty": "" } }),
            json!({ "attributes": { "a": "two" } }),
        ],
    );
    for (settings, is_kept) in [
        ("key: r, values: [x]", true),
        ("key: a, values: [zero, two]", true),
        ("key: a, values: [tw]", false),
        ("key: a, values: ['^t'], enabled_regex_matching: true", true),
        ("key: a, values: ['^z'], enabled_regex_matching: true", false),
        ("key: a, values: [one], invert_match: true", false),
        ("key: a, values: [three], invert_match: true", true),
        ("key: no, values: [x], invert_match: true", true),
        // Of a resource another type is an empty text, which no value is, and a pattern may be; of a span it is none.
        ("key: odd, values: ['']", false),
        ("key: odd, values: ['^$'], enabled_regex_matching: true", true),
        ("key: empty, values: ['^$'], enabled_regex_matching: true", false),
    ] {
        let policy = format!("type: string_attribute, string_attribute: {{{settings}}}");
        assert_eq!(keeps(&policy, &spans), is_kept, "{settings}");
    }
    for (settings, is_kept) in [
        ("key: n, min_value: 50, max_value: 50", true),
        ("key: n, min_value: 51", false),
        ("key: n, max_value: 5", true),
        ("key: n, max_value: 5, invert_match: true", false),
        ("key: n, min_value: 60, invert_match: true", true),
        // A text is zero.
        ("key: a, min_value: -1, max_value: 1", true),
    ] {
        let policy = format!("type: numeric_attribute, numeric_attribute: {{{settings}}}");
        assert_eq!(keeps(&policy, &spans), is_kept, "{settings}");
    }
    for (settings, is_kept) in [
        ("key: b, value: true", true),
        ("key: b, value: false", false),
        ("key: b, value: true, invert_match: true", false),
        ("key: a, value: false", true),
        ("key: no, value: false", false),
    ] {
        let policy = format!("type: boolean_attribute, boolean_attribute: {{{settings}}}");
        assert_eq!(keeps(&policy, &spans), is_kept, "{settings}");
    }
}

#[test]
fn spans_are_looked_at_for_times_statuses_flags_and_states() {
    let ms = |millis: u64| (1_700_000_000_000_000_000 + millis * 1_000_000).to_string();
    let spans = trace(
        &json!({}),
        &[
            json!({ "startTimeUnixNano": ms(100), "endTimeUnixNano": ms(150), "status": { "code": 1 } }),
            json!({ "startTimeUnixNano": ms(0), "endTimeUnixNano": ms(120), "status": { "code": 2 },
                "traceState": "a=b,c=d", "flags": 257 }),
        ],
    );
    for (policy, is_kept) in [
        ("type: latency, latency: {threshold_ms: 149}", true),
        ("type: latency, latency: {threshold_ms: 150}", false),
        ("type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 50}", true),
        ("type: latency, latency: {threshold_ms: 50, upper_threshold_ms: 149}", false),
        ("type: status_code, status_code: {status_codes: [ERROR]}", true),
        ("type: status_code, status_code: {status_codes: [UNSET]}", false),
        ("type: status_code, status_code: {status_codes: [UNSET, OK]}", true),
        ("type: trace_state, trace_state: {key: c, values: [x, d]}", true),
        ("type: trace_state, trace_state: {key: c, values: [b]}", false),
        ("type: trace_flags", true),
        ("type: span_count, span_count: {min_spans: 2}", true),
        ("type: span_count, span_count: {min_spans: 3}", false),
        ("type: span_count, span_count: {min_spans: 1, max_spans: 1}", false),
        ("type: span_count, span_count: {max_spans: 2}", true),
        ("type: always_sample", true),
    ] {
        assert_eq!(keeps(policy, &spans), is_kept, "{policy}");
    }
    let plain = trace(&json!({}), &[json!({ "flags": 256 })]);
    assert!(!keeps("type: trace_flags", &plain));
    assert!(keeps("type: status_code, status_code: {status_codes: [UNSET]}", &plain));
}

#[test]
fn a_part_is_kept_by_a_hash_of_the_trace_id() {
    let spans = trace(&json!({}), &[json!({})]);
    let kept = |percentage: f64, salt: &str| {
        let yaml = format!(
            "{{policies: [{{name: p, type: probabilistic, probabilistic: {{sampling_percentage: {percentage}, hash_salt: '{salt}'}}}}]}}"
        );
        let mut sampler = sampler(&yaml);
        let now = Clock::now();
        let mut kept = Vec::new();
        for number in 1..=20_000u128 {
            let id = number * 0x9e37_79b9_7f4a_7c15_f39c_0000_0001;
            if sampler.ask(Judged { id, spans: &spans }, now).is_none() {
                kept.push(id);
            }
        }
        kept
    };
    for percentage in [1.0, 20.0, 50.0, 99.0] {
        let share = kept(percentage, "").len() as f64 / 200.0;
        assert!((share - percentage).abs() < 1.5, "{share} % of {percentage} %");
    }
    assert_eq!(
        (kept(0.0, "").len(), kept(100.0, "").len(), kept(250.0, "").len()),
        (0, 20_000, 20_000)
    );
    assert_eq!(kept(20.0, ""), kept(20.0, "default-hash-seed"));
    assert_ne!(kept(20.0, ""), kept(20.0, "another"));
}

#[test]
fn policies_are_made_of_policies() {
    let spans = trace(&json!({ "r": "x" }), &[json!({ "status": { "code": 2 } })]);
    const ERROR: &str = "type: status_code, status_code: {status_codes: [ERROR]}";
    const OTHER: &str = "type: string_attribute, string_attribute: {key: r, values: [y]}";
    const SAME: &str = "type: string_attribute, string_attribute: {key: r, values: [x]}";
    let and = |one: &str, two: &str| {
        format!("type: and, and: {{and_sub_policy: [{{name: a, {one}}}, {{name: b, {two}}}]}}")
    };
    let not = |one: &str| format!("type: not, not: {{not_sub_policy: {{name: n, {one}}}}}");
    assert!(keeps(&and(ERROR, SAME), &spans) && !keeps(&and(ERROR, OTHER), &spans));
    assert!(!keeps(&not(SAME), &spans) && keeps(&not(OTHER), &spans));
    assert!(keeps(&and(ERROR, &not(OTHER)), &spans));

    let drop = |one: &str| {
        format!("{{name: d, type: drop, drop: {{drop_sub_policy: [{{name: s, {one}}}]}}}}")
    };
    let reason = |policies: &str| {
        sampler(&format!("{{policies: [{policies}]}}"))
            .ask(Judged { id: ID, spans: &spans }, Clock::now())
    };
    let always = "{name: a, type: always_sample}";
    assert_eq!(reason(&format!("{always}, {}", drop(SAME))), Some(Reason::DropPolicy));
    assert_eq!(reason(&format!("{always}, {}", drop(OTHER))), None);
    assert_eq!(reason(&format!("{{name: o, {OTHER}}}")), Some(Reason::NotSampled));
}

#[tokio::test(start_paused = true)]
async fn rates_hold_in_the_long_run_with_a_burst_of_twice_as_much() {
    let spans = trace(&json!({}), &vec![json!({}); 3]);
    let judged = Judged { id: ID, spans: &spans };
    let mut spans_limit = sampler(
        "{policies: [{name: r, type: rate_limiting, rate_limiting: {spans_per_second: 3}}]}",
    );
    let kept = |sampler: &mut Sampler| {
        (0..10).filter(|_| sampler.ask(judged, Clock::now()).is_none()).count()
    };
    assert_eq!(kept(&mut spans_limit), 2);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(kept(&mut spans_limit), 1);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(kept(&mut spans_limit), 2);
    let bytes = spans.to_protobuf().len();
    assert_eq!(judged.message_bytes(), bytes);
    let limit = |burst: usize| {
        format!(
            "{{policies: [{{name: b, type: bytes_limiting, bytes_limiting: {{bytes_per_second: 1, burst_capacity: {burst}}}}}]}}"
        )
    };
    assert_eq!(kept(&mut sampler(&limit(2 * bytes))), 2);
    assert_eq!(kept(&mut sampler(&limit(bytes - 1))), 0);

    // The first policy that applies decides: 6 spans of 12 are for what has errors, the rest for all else.
    let mut shares = sampler(
        "{policies: [{name: c, type: composite, composite: {max_total_spans_per_second: 12, policy_order: [e, a],
          composite_sub_policy: [{name: e, type: status_code, status_code: {status_codes: [ERROR]}}, {name: a, type: always_sample}],
          rate_allocation: [{policy: e, percent: 50}, {policy: a, percent: 25}]}}]}",
    );
    let failed = trace(&json!({}), &vec![json!({ "status": { "code": 2 } }); 3]);
    let now = Clock { second: 1, ..Clock::now() };
    let of = |sampler: &mut Sampler, spans, now| {
        (0..10).filter(|_| sampler.ask(Judged { id: ID, spans }, now).is_none()).count()
    };
    assert_eq!((of(&mut shares, &failed, now), of(&mut shares, &spans, now)), (2, 1));
    assert_eq!(of(&mut shares, &failed, Clock { second: 2, ..now }), 2);
}

#[test]
fn what_is_late_follows_the_decision_and_drops_are_counted_by_reason() {
    let ledger = std::sync::Arc::new(Ledger::new(&LedgerConfig::default()));
    let yaml = "{policies: [{name: e, type: status_code, status_code: {status_codes: [ERROR]}}]}";
    let config: Config = decode(&Node::parse("test", yaml).unwrap(), Purpose::Run).unwrap();
    let registry = Registry::default();
    let mut sampler = Sampler::new(&config, "tail_sampling/x", &registry, &Some(ledger));
    let (sound, failed) = (
        trace(&json!({}), &[json!({}), json!({})]),
        trace(&json!({}), &[json!({ "status": { "code": 2 } })]),
    );
    assert_eq!(sampler.late(1, &sound), None);
    assert!(!sampler.judge(1, &Trace::of(sound.clone()), Over::Due));
    assert!(sampler.judge(2, &Trace::of(failed.clone()), Over::Early));
    assert!(!sampler.judge(3, &Trace::of(failed.clone()), Over::TooLarge));
    assert!(!sampler.judge(4, &Trace::of(failed.clone()), Over::Abandoned));
    assert_eq!((sampler.late(1, &failed), sampler.late(2, &sound)), (Some(false), Some(true)));
    assert_eq!(sampler.late(3, &failed), Some(false));
    let text = registry.render(true);
    for (series, count) in [
        ("dropped_spans_total{processor=\"tail_sampling/x\",reason=\"not_sampled\"}", 2),
        ("dropped_spans_total{processor=\"tail_sampling/x\",reason=\"late\"}", 2),
        ("dropped_spans_total{processor=\"tail_sampling/x\",reason=\"too_large\"}", 1),
        ("dropped_spans_total{processor=\"tail_sampling/x\",reason=\"shutdown\"}", 1),
        ("early_decisions_total{processor=\"tail_sampling/x\"}", 1),
        ("traces_dropped_too_large_total{processor=\"tail_sampling/x\"}", 1),
        (
            "count_traces_sampled_total{processor=\"tail_sampling/x\",policy=\"x.e\",sampled=\"true\",decision=\"sampled\"}",
            1,
        ),
        (
            "early_releases_from_cache_decision_total{processor=\"tail_sampling/x\",sampled=\"true\"}",
            2,
        ),
    ] {
        let line = format!("otelcol_processor_tail_sampling_{series} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}
