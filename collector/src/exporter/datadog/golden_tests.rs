//! Recorded requests, and what the reference exporter made of them, field by field.
//!
//! Compared is the canonical form: one entry for each span, with what surrounds it. Left out is what cannot be equal: the
//! sender's version, and times that are made from the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use libdd_trace_protobuf::pb;
use prost::Message as _;
use serde_json::{Value, json};

use super::translate::direct::{self, Scratch};
use super::{Datadog, payload, translate};
use crate::config::{Config, Sources};
use crate::exporter::ExporterConfig;
use crate::settings::FeatureGates;
use crate::trace_batch::TraceBatch;

/// When the cases' requests are taken to arrive, in nanoseconds since the epoch.
const NOW: i64 = 1_800_000_000_000_000_000;

fn golden(case: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let newest = testdata.join("golden-085").join(case);
    if newest.exists() { newest } else { testdata.join("golden").join(case) }
}

fn exporter(case: &str) -> Datadog {
    exporter_with(case, FeatureGates::default())
}

fn exporter_with(case: &str, gates: FeatureGates) -> Datadog {
    let config = golden(case).join("config.yaml");
    let sources = Sources { configs: vec![config.display().to_string()], ..Sources::default() };
    let config = Config::load(&sources, &|_| None).unwrap();
    let ExporterConfig::Datadog(config) = config.exporters.into_values().next().unwrap() else {
        panic!("the first exporter is not datadog")
    };
    crate::install_crypto_provider();
    Datadog::new(&config, "unused", gates).unwrap()
}

/// The case's requests, each a batch of its own.
fn requests(case: &str) -> Vec<TraceBatch> {
    if let Ok(list) = std::fs::read(golden(case).join("requests.json")) {
        let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
        let batch =
            |request: &Value| TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        return list.iter().map(batch).collect();
    }
    let folder = std::fs::read_dir(golden(case)).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    files.sort();
    let batch = |file: &PathBuf| TraceBatch::from_protobuf(std::fs::read(file).unwrap().into());
    files.iter().map(|file| batch(file).unwrap()).collect()
}

/// Returns the payloads that our exporter sends for the case's requests.
fn sent(case: &str) -> Vec<pb::AgentPayload> {
    let (exporter, requests) = (exporter(case), requests(case));
    assert!(!requests.is_empty());
    let mut payloads = Vec::new();
    for batch in requests {
        let translation = translate::translate(&exporter.settings, &batch, NOW);
        let plain = payload::build(&translation.tracers, &exporter.sender);
        let mut direct = Vec::new();
        direct::translate(
            exporter.context(NOW),
            &batch,
            &mut Scratch::default(),
            &mut |body, spans| direct.push((body.to_vec(), spans)),
            &mut |_| {},
        );
        assert!(direct == plain, "{case}: both ways of translating give the same bytes");
        let [one, other] = exporter.both_ways(&batch, NOW);
        assert_eq!(one, other, "{case}");
        assert!(one.payloads == direct && (direct.is_empty() || !one.groups.is_empty()), "{case}");
        let payload = |(body, _): (Vec<u8>, usize)| pb::AgentPayload::decode(&*body).unwrap();
        payloads.extend(direct.into_iter().map(payload));
    }
    payloads
}

/// The order-free form of payloads, as the recorded cases have it.
fn canonical(payloads: &[pb::AgentPayload]) -> Vec<Value> {
    let mut entries = Vec::new();
    for agent in payloads {
        let agent_fields = json!({
            "env": agent.env, "hostName": agent.host_name,
            "targetTPS": agent.target_tps, "errorTPS": agent.error_tps,
        });
        for tracer in &agent.tracer_payloads {
            let mut tags: BTreeMap<String, String> = BTreeMap::new();
            for (key, value) in &tracer.tags {
                if key == "_dd.tags.container" {
                    let mut parts: Vec<_> = value.split(',').collect();
                    parts.sort_unstable();
                    tags.insert("_dd.tags.container(sorted)".into(), parts.join(","));
                } else {
                    tags.insert(key.clone(), value.clone());
                }
            }
            let tracer_fields = without_empty(
                json!({
                    "containerID": tracer.container_id, "languageName": tracer.language_name,
                    "languageVersion": tracer.language_version, "tracerVersion": tracer.tracer_version,
                    "runtimeID": tracer.runtime_id, "env": tracer.env, "hostname": tracer.hostname,
                    "appVersion": tracer.app_version,
                }),
                &[("tags", json!(tags))],
            );
            for chunk in &tracer.chunks {
                let mut ids: Vec<_> =
                    chunk.spans.iter().map(|span| span.span_id.to_string()).collect();
                ids.sort();
                let chunk_fields = without_empty(
                    json!({ "origin": chunk.origin, "priority": chunk.priority }),
                    &[("tags", json!(sorted(&chunk.tags)))],
                );
                for span in &chunk.spans {
                    let number =
                        |value: u64| if value == 0 { String::new() } else { value.to_string() };
                    let signed =
                        |value: i64| if value == 0 { String::new() } else { value.to_string() };
                    let mut fields = without_empty(
                        json!({
                            "service": span.service, "name": span.name, "resource": span.resource,
                            "traceID": number(span.trace_id), "spanID": number(span.span_id),
                            "parentID": number(span.parent_id), "start": signed(span.start),
                            "duration": signed(span.duration), "type": span.r#type,
                        }),
                        &[
                            ("meta", json!(sorted(&span.meta))),
                            ("metrics", json!(sorted(&span.metrics))),
                        ],
                    );
                    if span.error != 0 {
                        fields["error"] = json!(span.error);
                    }
                    entries.push(json!({
                        "agent_payload": agent_fields, "tracer_payload": tracer_fields,
                        "chunk": chunk_fields, "chunk_spans": ids, "span": fields,
                    }));
                }
            }
        }
    }
    sort(&mut entries);
    entries
}

fn sorted<V: Clone>(map: &std::collections::HashMap<String, V>) -> BTreeMap<String, V> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn without_empty(fields: Value, more: &[(&str, Value)]) -> Value {
    let Value::Object(mut fields) = fields else { panic!("not an object") };
    fields.retain(|_, value| *value != json!(""));
    for (key, value) in more {
        fields.insert((*key).into(), value.clone());
    }
    Value::Object(fields)
}

fn sort(entries: &mut [Value]) {
    entries.sort_by_key(|entry| {
        let field = |name: &str| entry["span"][name].as_str().unwrap_or_default().to_owned();
        (field("traceID"), field("spanID"), field("resource"))
    });
}

/// The recorded form, less what cannot be equal.
fn recorded(case: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(case).join("canonical.json")).unwrap();
    let mut entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    for entry in &mut entries {
        entry["agent_payload"].as_object_mut().unwrap().remove("agentVersion");
        let mut ids: Vec<_> = entry["chunk_spans"].as_array().unwrap().clone();
        ids.sort_by_key(|id| id.as_str().unwrap().to_owned());
        entry["chunk_spans"] = ids.into();
    }
    sort(&mut entries);
    entries
}

/// The places at which two values differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<(String, [Value; 2])>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let (ours, theirs) = (ours.get(key), theirs.get(key));
                let path = format!("{path}.{key}");
                differences(
                    &path,
                    ours.unwrap_or(&Value::Null),
                    theirs.unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        // NaN and infinities, which JSON cannot say: ours is null then, and the recorded one is text.
        (Value::Null, Value::String(number))
            if path.contains(".metrics.") && ["nan", "inf", "-inf"].contains(&number.as_str()) => {}
        _ if ours == theirs => {}
        _ => found.push((path.into(), [ours.clone(), theirs.clone()])),
    }
}

/// A difference that is meant, from testdata/golden/allowed-differences.json.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    case: String,
    /// The recorded resource name of the span.
    span: String,
    fields: Vec<String>,
    reason: String,
}

fn check(case: &str) {
    let (mut ours, mut theirs) = (canonical(&sent(case)), recorded(case));
    assert_eq!(ours.len(), theirs.len(), "{case}: number of spans");
    let is_newest = golden(case).parent().is_some_and(|folder| folder.ends_with("golden-085"));
    let (mut found, mut places) = (Vec::new(), BTreeSet::new());
    for (ours, theirs) in ours.iter_mut().zip(&mut theirs) {
        let span = theirs["span"]["resource"].as_str().unwrap_or_default().to_owned();
        // A start before 2000 is replaced by the time of sending, which is never the recorded one.
        if ours["span"]["start"].as_str().is_some_and(|start| start.starts_with("1799")) {
            let recorded = theirs["span"]["start"].take();
            assert!(recorded.as_str().unwrap() > "1760000000000000000", "{case}: {recorded}");
            ours["span"]["start"].take();
        }
        let mut here = Vec::new();
        differences("", ours, theirs, &mut here);
        if !is_newest {
            here.retain(|(path, [mine, recorded])| changed(path, ours, mine, recorded).is_none());
        }
        places.extend(here.iter().map(|(path, _)| (span.clone(), path.clone())));
        found.extend(here.into_iter().map(|(path, what)| ((span.clone(), path), what)));
    }
    let allowed = std::fs::read(golden("allowed-differences.json")).unwrap();
    let allowed: Vec<Allowed> = serde_json::from_slice(&allowed).unwrap();
    for entry in allowed.iter().filter(|entry| entry.case == case) {
        assert!(!entry.reason.is_empty());
        for field in &entry.fields {
            let place = (entry.span.clone(), field.clone());
            assert!(places.contains(&place), "{case}: no longer different, take it off: {place:?}");
            found.retain(|(found, _)| *found != place);
        }
    }
    assert!(found.is_empty(), "{case}:\n{found:#?}");
}

/// A rule of the mapping that is another one now than in the version that the oldest cases were recorded with (contrib
/// v0.155.0).
struct Changed {
    /// The version of the agent's library since which it is so, and the rule.
    since: &'static str,
    fields: &'static [&'static str],
    /// Whether the rule explains the difference: given our whole entry, our value and the recorded one.
    explains: fn(&Value, &Value, &Value) -> bool,
}

/// Returns whether a text is that of a value of another type than text.
fn was_no_text(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| matches!(text.parse(), Ok(value) if !Value::is_string(&value)))
}

const CHANGED: [Changed; 13] = [
    Changed {
        since: "0.82.0: a scope's name is in otel.scope.name too",
        fields: &[".span.meta.otel.scope.name"],
        explains: |entry, ours, recorded| {
            recorded.is_null() && *ours == entry["span"]["meta"]["otel.library.name"]
        },
    },
    Changed {
        since: "0.82.0: a scope's version is in otel.scope.version too",
        fields: &[".span.meta.otel.scope.version"],
        explains: |entry, ours, recorded| {
            recorded.is_null() && *ours == entry["span"]["meta"]["otel.library.version"]
        },
    },
    Changed {
        since: "0.85.0: sql.query is no longer made of the resource",
        fields: &[".span.meta.sql.query"],
        explains: |_, ours, _| ours.is_null(),
    },
    Changed {
        since: "0.85.0: literals are taken out of queries in attributes",
        fields: &[".span.meta.db.statement", ".span.meta.db.query.text"],
        explains: |entry, ours, recorded| {
            let is_sql = entry["span"]["type"] == "sql" || entry["span"]["type"] == "cassandra";
            let Some(raw) = recorded.as_str() else { return false };
            is_sql && ours.as_str() == Some(&translate::obfuscated_query(raw))
        },
    },
    Changed {
        since: "attributes 0.84.0: kube_node is a container tag, 0.85.0: image_tag is one of several; 0.81.0: a tag may have \
                no name, and task_arn is there once",
        fields: &[".tracer_payload.tags._dd.tags.container(sorted)"],
        explains: |entry, ours, recorded| {
            let several = entry["span"]["meta"].get("container.image.tags").is_some();
            let is_new = |tag: &str| {
                tag.starts_with("kube_node:")
                    || tag.starts_with(':')
                    || several && tag.starts_with("image_tag:")
            };
            let tags = |value: &Value| -> BTreeSet<String> {
                let tags = value.as_str().unwrap_or_default().split(',').map(str::to_owned);
                tags.filter(|tag| !tag.is_empty() && !is_new(tag)).collect()
            };
            tags(ours) == tags(recorded)
        },
    },
    Changed {
        since: "0.81.0: the user's container tags are no attributes of spans",
        fields: &[
            ".span.meta.datadog.container.tag.",
            ".span.meta.datadog.container.tag.team",
            ".span.meta.datadog.container.tag.image_name",
        ],
        explains: |_, ours, _| ours.is_null(),
    },
    Changed {
        since: "0.80.2: an environment and a version are text",
        fields: &[
            ".span.meta.env",
            ".span.meta.version",
            ".tracer_payload.env",
            ".tracer_payload.appVersion",
        ],
        explains: |_, ours, recorded| ours.is_null() && was_no_text(recorded),
    },
    Changed {
        since: "0.80.2: a status code may be text",
        fields: &[".span.metrics.http.status_code"],
        explains: |entry, ours, recorded| {
            let text = entry["span"]["meta"]["http.status_code"].as_str();
            let is_reported = match text {
                Some(text) => text.parse().ok() == ours.as_f64(),
                // What is no status is taken out of meta alone.
                None => ours.as_f64().is_some_and(|code| !(100.0..600.0).contains(&code)),
            };
            recorded.is_null() && ours.is_number() && is_reported
        },
    },
    Changed {
        since: "0.80.2: a status code does not wrap around",
        fields: &[".span.metrics.http.status_code"],
        explains: |_, ours, recorded| {
            let wrapped = ours.as_f64().map(|code| f64::from(code as i64 as u32));
            wrapped.is_some() && wrapped != ours.as_f64() && wrapped == recorded.as_f64()
        },
    },
    Changed {
        since: "0.80.2: a service's name is text",
        fields: &[".span.service"],
        explains: |_, ours, recorded| ours == "otlpresourcenoservicename" && was_no_text(recorded),
    },
    Changed {
        since: "0.80.2: a database's namespace is text",
        fields: &[".span.meta.db.name"],
        explains: |_, ours, recorded| ours.is_null() && was_no_text(recorded),
    },
    Changed {
        since: "0.80.2: gRPC's status code is in meta too",
        fields: &[".span.meta.rpc.grpc.status_code"],
        explains: |entry, ours, recorded| {
            let number = entry["span"]["metrics"]["rpc.grpc.status_code"].as_f64();
            let text = ours.as_str().and_then(|text| text.parse().ok());
            recorded.is_null() && text.is_some() && text == number
        },
    },
    Changed {
        since: "0.81.0: a pod is no container; 0.80.2: only the number 1 marks a span as measured",
        fields: &[".tracer_payload.containerID", ".span.metrics._dd.measured"],
        explains: |_, ours, _| ours.is_null(),
    },
];

/// The rule that explains a difference from one of the oldest cases.
fn changed(field: &str, entry: &Value, ours: &Value, recorded: &Value) -> Option<&'static str> {
    let explains = |changed: &&Changed| {
        changed.fields.contains(&field) && (changed.explains)(entry, ours, recorded)
    };
    CHANGED.iter().find(explains).map(|changed| changed.since)
}

macro_rules! cases {
    ($($test:ident $case:literal),+ $(,)?) => {$(
        #[test]
        fn $test() {
            check($case);
        }
    )+};
}

cases! {
    a_chain_of_services_is_sent_as_recorded "01-chain",
    a_chain_in_several_requests_is_sent_as_recorded "02-chain-split-requests",
    http_spans_are_sent_as_recorded "03-http",
    database_spans_are_sent_as_recorded "04-db",
    errors_are_sent_as_recorded "07-errors",
    links_and_events_are_sent_as_recorded "08-links-events",
    odd_ids_and_times_are_sent_as_recorded "11-ids",
    kinds_and_top_level_marks_are_sent_as_recorded "13-kinds-toplevel",
    span_names_as_resource_names_are_sent_as_recorded "20-cfg-span-name-as-resource",
    remapped_names_are_sent_as_recorded "21-cfg-remappings",
    requests_at_the_edges_are_sent_as_recorded "30-edges",
    spans_are_sent_as_recorded_with_stats_too "27-gate-apm-stats-on",
    http_spans_of_today_are_sent_as_the_newest_agent_sends_them "40-http",
    database_spans_of_today_are_sent_as_the_newest_agent_sends_them "41-db",
    messaging_spans_of_today_are_sent_as_the_newest_agent_sends_them "42-messaging",
    calls_of_today_are_sent_as_the_newest_agent_sends_them "43-rpc-aws",
    application_spans_of_today_are_sent_as_the_newest_agent_sends_them "44-app",
    errors_of_today_are_sent_as_the_newest_agent_sends_them "45-errors",
    links_and_events_of_today_are_sent_as_the_newest_agent_sends_them "46-links-events",
    sampling_is_reported_as_by_the_newest_agent "47-sampling",
    attributes_of_datadog_are_sent_as_the_newest_agent_sends_them "48-dd-attributes",
    cloud_resources_are_sent_as_the_newest_agent_sends_them "49-cloud",
    scopes_are_sent_as_the_newest_agent_sends_them "50-scopes",
    long_values_are_sent_as_the_newest_agent_sends_them "52-long",
    spans_are_sent_as_the_newest_agent_sends_them_with_stats_too "60-stats",
    queries_are_sent_as_the_newest_agent_sends_them "68-sql",
}

#[test]
fn a_difference_in_any_field_is_found() {
    let theirs = json!({ "span": { "meta": { "a": "1", "b": "2" }, "error": 1 } });
    let ours = json!({ "span": { "meta": { "a": "1", "c": "2" }, "error": 1.0 } });
    let mut found = Vec::new();
    differences("", &ours, &theirs, &mut found);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, [".span.meta.b", ".span.meta.c"]);
}

/// The groups of stats, with what surrounds them; latencies as the bins of their sketches.
fn stat_groups(payloads: &[Value]) -> Vec<Value> {
    let mut groups = Vec::new();
    for payload in payloads {
        for client in payload["Stats"].as_array().unwrap() {
            let mut about = client.clone();
            about.as_object_mut().unwrap().remove("Stats");
            for bucket in client["Stats"].as_array().unwrap() {
                assert_eq!(bucket["Duration"], json!(10_000_000_000_u64));
                for group in bucket["Stats"].as_array().unwrap() {
                    let mut group = group.clone();
                    for summary in ["OkSummary", "ErrorSummary"] {
                        let bytes: Vec<u8> = match &group[summary] {
                            Value::String(text) => {
                                let hex = text.strip_prefix("hex:").unwrap();
                                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                                (0..hex.len()).step_by(2).map(byte).collect()
                            }
                            bytes => serde_json::from_value(bytes.clone()).unwrap(),
                        };
                        let sketch = libdd_ddsketch::DDSketch::from_encoded(&bytes).unwrap();
                        let gamma = libdd_ddsketch::pb::DdSketch::decode(&*bytes)
                            .unwrap()
                            .mapping
                            .unwrap()
                            .gamma;
                        group[summary] =
                            json!([format!("{gamma:.12}"), format!("{:?}", sketch.ordered_bins())]);
                    }
                    let fields = group.as_object_mut().unwrap();
                    // Newer fields, which are always empty here.
                    for field in ["SpanDerivedPrimaryTags", "AdditionalMetricTags"] {
                        fields.remove(field);
                    }
                    // The oldest cases were recorded before it was.
                    fields.entry("srv_src").or_insert_with(|| json!(""));
                    groups.push(json!({ "hostname": payload["AgentHostname"], "env": payload["AgentEnv"], "client": about, "group": group }));
                }
            }
        }
    }
    groups.sort_by_key(|group| group.to_string());
    groups
}

#[test]
fn stats_are_counted_as_recorded() {
    check_stats("27-gate-apm-stats-on");
}

#[test]
fn stats_of_today_are_counted_as_the_newest_agent_counts_them() {
    check_stats("60-stats");
}

#[test]
fn a_resource_may_ask_for_stats_where_they_are_off() {
    let gates = FeatureGates { disable_apm_stats: true, ..FeatureGates::default() };
    let groups = |computed: Value, gates: FeatureGates| {
        let exporter = exporter_with("60-stats", gates);
        let attributes = match computed {
            Value::Null => json!([]),
            computed => json!([{"key": "_dd.stats_computed", "value": computed}]),
        };
        let span = json!({
            "traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b", "kind": 2,
        });
        let request = json!({"resourceSpans": [
            {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]},
        ]});
        let batch = TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        exporter.translate(&batch, &mut Scratch::default(), &mut |_, _| {});
        exporter.take_stats().unwrap().len()
    };
    for asks in [json!({"stringValue": "false"}), json!({"boolValue": false}), json!({})] {
        assert_eq!(groups(asks.clone(), gates), 1, "{asks}");
    }
    for does_not in [Value::Null, json!({"stringValue": "true"}), json!({"intValue": "7"})] {
        assert_eq!(groups(does_not.clone(), gates), 0, "{does_not}");
    }
    assert_eq!(groups(Value::Null, FeatureGates::default()), 1);
    let first = FeatureGates { first_receiver: true, ..gates };
    assert_eq!(groups(json!({"stringValue": "false"}), first), 0, "not in its first version");
}

fn check_stats(case: &str) {
    let exporter = exporter(case);
    let concentrator = &exporter.stats;
    let request = std::fs::read(golden(case).join("otlp.00.bin")).unwrap();
    let batch = TraceBatch::from_protobuf(request.into()).unwrap();
    direct::translate(
        exporter.context(0),
        &batch,
        &mut Scratch::default(),
        &mut |_, _| {},
        &mut |counted| {
            concentrator.add(counted.tracer, &exporter.sender, 0);
            concentrator.add_records(counted.records, 0);
        },
    );
    let (payloads, _) = concentrator.flush(&exporter.sender, 0, true);
    // Through msgpack, since that is what the names of the fields are for.
    let ours: Vec<Value> = payloads
        .iter()
        .map(|payload| {
            let body = rmp_serde::to_vec_named(payload).unwrap();
            serde_json::to_value(rmp_serde::from_slice::<pb::StatsPayload>(&body).unwrap()).unwrap()
        })
        .collect();
    let recorded = std::fs::read(golden(case).join("stats.json")).unwrap();
    let (ours, theirs) =
        (stat_groups(&ours), stat_groups(&[serde_json::from_slice(&recorded).unwrap()]));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let mut found = Vec::new();
        differences("", ours, theirs, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
    assert!(concentrator.flush(&exporter.sender, 0, true).0.is_empty(), "each span counts once");
}
