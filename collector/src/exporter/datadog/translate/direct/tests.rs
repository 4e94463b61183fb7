//! Both ways of translating give the same payloads and count the same, on requests that are made up.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::super::obfuscation::Obfuscation;
use super::super::{self as plain, Settings, table};
use super::{Context, Scratch, translate};
use crate::exporter::datadog::config;
use crate::exporter::datadog::counting::{Counting, PEER_TAGS};
use crate::exporter::datadog::payload::{self, Sender};
use crate::exporter::datadog::stats::Concentrator;
use crate::trace_batch::TraceBatch;
use crate::trace_batch::wire::raw_fields;

const NOW: i64 = 1_800_000_000_000_000_000;

/// Keys of spans and resources that mean something beside those of the table, and some that mean nothing.
const OTHER_KEYS: [&str; 24] = [
    "_dd.measured",
    "_dd.origin",
    "_dd.p.tid",
    "_dd.base_service",
    "app.user",
    "container.id",
    "db.query.parameter.name",
    "db.type",
    "elasticsearch.body",
    "host",
    "host.name",
    "http.client_ip",
    "http.referrer",
    "http.target",
    "http.request.header.x-id",
    "http.useragent",
    "k8s.pod.uid",
    "mongodb.query",
    "net.peer.name",
    "otel.status_code",
    "out.host",
    "telemetry.sdk.language",
    "url.query",
    "x",
];

/// All keys of the table, so that none is translated in one way only.
fn keys() -> Vec<&'static str> {
    table::TABLE.iter().map(|row| row.key).chain(OTHER_KEYS).collect()
}

const TEXTS: [&str; 30] = [
    "",
    "0",
    "1",
    "10.1.2.3",
    "200",
    "404",
    "GET",
    "GET key",
    "POST",
    "Prod EU",
    "SELECT * FROM t WHERE a = 7",
    "SELECT 'open",
    "cassandra",
    "checkout",
    "http://user:secret@shop.example/a?b=c#d",
    "http://a b/%zz",
    "aws.dynamodb",
    "elasticsearch",
    "memcached",
    "mongodb",
    "mysql",
    "{\"a\": \"b\", \"c\": [1, {}]}",
    "{\"broken\": ",
    "postgresql",
    "redis",
    "sql",
    "true",
    "web",
    "\u{e9}t\u{e9}",
    "publish",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => proptest::sample::select(&TEXTS[..]).prop_map(|text| json!({ "stringValue": text })),
        1 => Just(json!({ "stringValue": "x".repeat(25_001) })),
        2 => any::<i32>().prop_map(|int| json!({ "intValue": int.to_string() })),
        1 => (0..600_u16).prop_map(|int| json!({ "intValue": int.to_string() })),
        1 => any::<f64>().prop_filter("JSON has no word for it", |double| double.is_finite())
            .prop_map(|double| json!({ "doubleValue": double })),
        1 => any::<bool>().prop_map(|bool| json!({ "boolValue": bool })),
        1 => Just(json!({ "arrayValue": { "values": [{ "stringValue": "a" }, { "intValue": "1" }] } })),
        1 => Just(json!({})),
    ]
}

/// Usual attributes for the most part, so that both ways are gone.
fn attributes(most: usize) -> impl Strategy<Value = Vec<Value>> {
    let usual = [
        "http.request.method",
        "http.route",
        "url.full",
        "server.address",
        "db.system",
        "app.user",
        "net.peer.name",
    ];
    let usual_key = proptest::sample::select(usual.to_vec()).prop_map(str::to_owned);
    let key = prop_oneof![
        2 => proptest::sample::select(keys()).prop_map(str::to_owned),
        4 => usual_key.clone(),
        1 => "[a-z]{1,12}",
        1 => Just("k".repeat(201)),
    ];
    let pair = |key, value| json!({ "key": key, "value": value });
    prop_oneof![
        3 => vec((usual_key, value()).prop_map(move |(key, value)| pair(key, value)), 0..4),
        2 => vec((key, value()).prop_map(move |(key, value)| pair(key, value)), 0..most),
    ]
}

/// Attributes that nothing is unusual about.
fn plain_attributes() -> impl Strategy<Value = Vec<Value>> {
    let key = proptest::sample::select(vec!["app.user", "http.route", "server.address"]);
    let value = proptest::sample::select(vec!["10.1.2.3", "GET", "checkout"]);
    let pair = |(key, value)| json!({ "key": key, "value": { "stringValue": value } });
    vec((key, value).prop_map(pair), 0..4)
}

/// Spans as nearly all traffic has them: the more spans a trace has, the surer one of [`span`] is unusual, and the whole trace
/// goes the plain way.
fn usual_span() -> impl Strategy<Value = Value> {
    let time = 1_700_000_000_000_000_000_u64..1_700_000_030_000_000_000;
    (span(), time, 0..5_000_000_000_u64, plain_attributes(), 1..6_u8, 1..12_u8).prop_map(
        |(mut span, start, duration, attributes, kind, id)| {
            span["startTimeUnixNano"] = json!(start.to_string());
            span["endTimeUnixNano"] = json!((start + duration).to_string());
            span["attributes"] = json!(attributes);
            span["kind"] = json!(kind);
            span["spanId"] = json!(format!("{id:016x}"));
            span
        },
    )
}

fn span() -> impl Strategy<Value = Value> {
    let time = prop_oneof![
        4 => 1_700_000_000_000_000_000_u64..1_700_000_030_000_000_000,
        1 => any::<u64>(),
    ];
    let events = vec(proptest::sample::select(vec!["exception", "retry", ""]), 0..2);
    let few = (0..4_u8, 0..12_u8, 0..12_u8, 0..7_u8, 0..4_u8);
    (few, time.clone(), time, attributes(8), events, 0..6_u8).prop_map(
        |((trace, id, parent, kind, status), start, end, attributes, events, odd)| {
            let mut span = json!({
                "traceId": format!("{:032x}", (u128::from(trace) << 64) | u128::from(trace)),
                "spanId": format!("{id:016x}"),
                "parentSpanId": format!("{parent:016x}"),
                "name": if odd == 1 { "" } else { "a name" },
                "kind": kind,
                "startTimeUnixNano": start.to_string(),
                "endTimeUnixNano": end.to_string(),
                "attributes": attributes,
                "status": { "code": status, "message": if odd == 2 { "boom" } else { "" } },
                "events": events.iter().map(|name| json!({ "name": name, "timeUnixNano": "5" })).collect::<Vec<_>>(),
            });
            if odd == 3 {
                span["traceState"] = json!("a=b");
                span["links"] = json!([{ "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708" }]);
            }
            span
        },
    )
}

fn request(
    spans: usize,
    span: impl Strategy<Value = Value>,
    attributes: impl Strategy<Value = Vec<Value>>,
) -> impl Strategy<Value = TraceBatch> {
    let scope = (vec(span, 0..spans), 0..4_u8).prop_map(|(spans, odd)| {
        let attributes = if odd == 1 { json!([{ "key": "s", "value": { "stringValue": "v" } }]) } else { json!([]) };
        json!({ "scope": { "name": "lib", "version": "1", "attributes": attributes }, "spans": spans })
    });
    let resource = (attributes, vec(scope, 0..3)).prop_map(|(attributes, scopes)| {
        json!({ "resource": { "attributes": attributes }, "scopeSpans": scopes })
    });
    vec(resource, 0..3).prop_map(|resources| {
        let json = json!({ "resourceSpans": resources }).to_string();
        TraceBatch::from_json(json.as_bytes()).unwrap()
    })
}

fn any_request(spans: usize) -> impl Strategy<Value = TraceBatch> {
    request(spans, span(), attributes(6))
}

/// The same request with the fields of each span in another order on the wire, if `turn` is small.
fn turned(batch: &TraceBatch, turn: usize) -> TraceBatch {
    let turned = batch.map_spans(|span| {
        let mut fields: Vec<_> = raw_fields(span).map(|(_, raw, _)| raw).collect();
        let turn = turn.min(fields.len());
        fields.rotate_left(turn);
        fields.concat()
    });
    TraceBatch::from_protobuf(turned.to_protobuf().into()).unwrap()
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..16_u8).prop_map(|odd| {
        let mut settings = Settings { hostname: "h".into(), ..Settings::default() };
        match odd {
            0 => settings.hostname.clear(),
            1 => settings.naming.span_name_as_resource_name = true,
            2 => settings.top_level_by_span_kind = true,
            4 => settings.first_receiver = true,
            5 => settings.old_scope_convention = true,
            6..10 => {
                let mut config = config::Obfuscation { enabled: true, ..Default::default() };
                config.redis.remove_all_args = odd == 7;
                config.http.remove_paths_with_digits = odd == 8;
                config.memcached.keep_command = odd == 9;
                settings.obfuscation = Obfuscation::new(&config);
            }
            3 => settings.ignore_resources = vec![regex::Regex::new("GET").unwrap()],
            _ => {}
        }
        settings
    })
}

fn sender() -> Sender {
    Sender { host_name: "h".into(), env: "none".into(), agent_version: "v".into() }
}

/// How many traces went the plain way.
fn check(settings: &Settings, counting: &Counting, batch: &TraceBatch) -> usize {
    let sender = sender();
    let translation = plain::translate(settings, batch, NOW);
    let (one, other) =
        (Concentrator::new(counting.clone(), 0), Concentrator::new(counting.clone(), 0));
    for tracer in &translation.tracers {
        one.add(tracer, &sender, 0);
    }
    let (mut payloads, mut plain_traces) = (Vec::new(), 0);
    let context = Context { settings, sender: &sender, counting: Some(counting), now: NOW };
    let dropped = translate(
        context,
        batch,
        &mut Scratch::default(),
        &mut |body, spans| payloads.push((body.to_vec(), spans)),
        &mut |counted| {
            plain_traces += counted.tracer.chunks.len() + counted.tracer.unsent.len();
            other.add(counted.tracer, &sender, 0);
            other.add_records(counted.records, 0);
        },
    );
    assert_eq!(dropped, translation.dropped);
    let expected = payload::build(&translation.tracers, &sender);
    if payloads != expected {
        let show = |payloads: &[(Vec<u8>, usize)]| -> Vec<libdd_trace_protobuf::pb::AgentPayload> {
            payloads.iter().map(|(body, _)| prost::Message::decode(&**body).unwrap()).collect()
        };
        assert_eq!(show(&payloads), show(&expected));
        assert_eq!(payloads, expected);
    }
    assert_eq!(counts(&other), counts(&one));
    plain_traces
}

/// All groups, in an order of their own.
fn counts(concentrator: &Concentrator) -> Vec<String> {
    let mut groups = Vec::new();
    for payload in concentrator.flush(&sender(), 0, true).0 {
        for client in payload.stats {
            for bucket in &client.stats {
                for group in &bucket.stats {
                    let about = (&client.hostname, &client.env, &client.version, &client.lang);
                    groups.push(format!("{about:?} {} {group:?}", bucket.start));
                }
            }
        }
    }
    groups.sort();
    groups
}

#[test]
fn both_ways_of_translating_give_the_same_bytes_and_counts() {
    let counting = Counting::new(true, PEER_TAGS.map(str::to_owned).to_vec());
    let cases = std::env::var("DIRECT_CASES").ok().and_then(|cases| cases.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(400), failure_persistence: None, ..Config::default() };
    let (traces, plain) = (Cell::new(0), Cell::new(0));
    let usual = request(12, usual_span(), plain_attributes());
    let requests = prop_oneof![1 => any_request(12), 1 => usual];
    TestRunner::new(config)
        .run(&(settings(), requests, 0..40_usize), |(settings, batch, turn)| {
            let batch = turned(&batch, turn);
            plain.set(plain.get() + check(&settings, &counting, &batch));
            let count = plain::translate(&settings, &batch, NOW)
                .tracers
                .iter()
                .map(|tracer| tracer.chunks.len() + tracer.unsent.len())
                .sum::<usize>();
            traces.set(traces.get() + count);
            Ok(())
        })
        .unwrap();
    let (traces, plain) = (traces.get(), plain.get());
    assert!(
        plain > traces / 10 && traces - plain > traces / 10,
        "{plain} of {traces} the plain way"
    );
}

#[test]
fn peer_tags_of_the_users_own_are_counted_alike() {
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
    let countings = [
        Counting::new(false, tags(&["app.user", "version", "otel.status_code"])),
        Counting::new(true, tags(&["app.user", "server.address", "http.server_name", "env"])),
        Counting::new(true, Vec::new()),
    ];
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&any_request(12), |batch| {
            let settings = Settings { hostname: "h".into(), ..Settings::default() };
            for counting in &countings {
                check(&settings, counting, &batch);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn payloads_are_cut_at_the_same_places() {
    let counting = Counting::new(true, Vec::new());
    let span = |index: u32| {
        json!({
            "traceId": format!("{:032x}", index / 3 + 1), "spanId": format!("{:016x}", index + 1),
            "name": "n", "kind": 1 + index % 5,
            "attributes": [{ "key": "filler", "value": { "stringValue": "x".repeat(20_000) } }],
        })
    };
    for attributes in [
        json!([]),
        json!([
            { "key": "service.version", "value": { "stringValue": "1" } },
            { "key": "deployment.environment", "value": { "stringValue": "e" } },
        ]),
    ] {
        let scope = json!([{ "spans": (0..400).map(span).collect::<Vec<_>>() }]);
        let resource = json!({ "resource": { "attributes": attributes }, "scopeSpans": scope });
        let request = json!({ "resourceSpans": [resource, resource] }).to_string();
        let batch = TraceBatch::from_json(request.as_bytes()).unwrap();
        let settings = Settings { hostname: "h".into(), ..Settings::default() };
        assert_eq!(check(&settings, &counting, &batch), 0);
    }
}

#[test]
fn large_traces_are_related_as_small_ones_are() {
    let counting = Counting::new(true, Vec::new());
    let span = |index: u32| {
        let service =
            json!({ "key": "service.name", "value": { "stringValue": format!("s{}", index % 2) } });
        json!({
            "traceId": format!("{:032x}", 7), "spanId": format!("{:016x}", index % 150 + 1),
            "parentSpanId": format!("{:016x}", index / 2), "kind": 2,
            "attributes": if index.is_multiple_of(3) { json!([service]) } else { json!([]) },
        })
    };
    for count in [2, 31, 32, 33, 200] {
        let spans: Vec<_> = (1..=count).map(span).collect();
        let request =
            json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string();
        let batch = TraceBatch::from_json(request.as_bytes()).unwrap();
        let settings = Settings { hostname: "h".into(), ..Settings::default() };
        assert_eq!(check(&settings, &counting, &batch), 0);
    }
}

#[test]
fn a_root_says_that_all_traces_are_kept_however_many_come() {
    let counting = Counting::new(true, Vec::new());
    // Above 50 within 5 s, the agent writes 50 divided by their number, and keeps them all the same.
    let count = 200;
    let span = |index: u32| {
        json!({
            "traceId": format!("{:032x}", index + 1), "spanId": format!("{:016x}", index + 1), "kind": 2,
            "startTimeUnixNano": "1799999999000000000", "endTimeUnixNano": "1799999999500000000",
        })
    };
    let spans: Vec<_> = (0..count).map(span).collect();
    let request = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string();
    let batch = TraceBatch::from_json(request.as_bytes()).unwrap();
    let settings = Settings { hostname: "h".into(), ..Settings::default() };
    assert_eq!(check(&settings, &counting, &batch), 0, "the direct way");
    let translation = plain::translate(&settings, &batch, NOW);
    let rates = translation
        .tracers
        .iter()
        .flat_map(|tracer| &tracer.chunks)
        .map(|chunk| chunk.spans[0].metrics.get(b"_sampling_priority_rate_v1").copied());
    assert_eq!(rates.collect::<Vec<_>>(), vec![Some(1.0); count as usize]);
}
