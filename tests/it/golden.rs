//! Recorded requests through the collector as a process: what it sends is what Datadog's trace agent v0.85.4 sent.

#[path = "../differential/datadog.rs"]
#[expect(dead_code, reason = "the differential test uses more of it")]
mod datadog;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use harness::intake::{
    attempt::Attempt,
    client::{self, IntakeClient},
    decode::Route,
    server::{Server, Settings},
};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, timeout, timeout_at},
};

use self::datadog::{Fields, Value};
use crate::support::{TRACECHECK, root};

const LIMIT: Duration = Duration::from_secs(30);

fn golden() -> PathBuf {
    root().join("collector/testdata/golden-085")
}

fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(golden()).expect("the recorded cases");
    let entries = entries.map(|entry| entry.expect("an entry"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The requests of a case with their content types, in the order of sending.
fn requests(case: &str) -> Vec<(&'static str, Vec<u8>)> {
    let folder = golden().join(case);
    let requests: Vec<_> = if let Ok(list) = std::fs::read(folder.join("requests.json")) {
        let list: Vec<Json> = serde_json::from_slice(&list).expect("a list of requests");
        list.iter().map(|request| ("application/json", request.to_string().into_bytes())).collect()
    } else {
        let files = std::fs::read_dir(folder).expect("the case");
        let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
        files.sort();
        let body = |file: &PathBuf| std::fs::read(file).expect("a request");
        files.iter().map(|file| ("application/x-protobuf", body(file))).collect()
    };
    assert!(!requests.is_empty(), "{case} has no request");
    requests
}

/// Returns the spans that our process sends for the requests of a case, `count` of them, in the order of their ids.
async fn sent(case: &str, count: usize) -> Vec<Fields> {
    let settings = Settings { listen: "127.0.0.1:0".to_owned(), ..Settings::default() };
    let server = Server::bind(settings).await.expect("a port").spawn();
    let intake = IntakeClient::connect(&server.url(), client::Settings::default()).await;
    let intake = intake.expect("the intake answers");

    let config = std::fs::read_to_string(golden().join(case).join("config.yaml"));
    let config = config.expect("the case's config");
    let config = config
        .replace("http://127.0.0.1:18126", &server.url())
        .replace("127.0.0.1:14317", "127.0.0.1:0")
        .replace("127.0.0.1:14318", "127.0.0.1:0");
    let mut collector = Command::new(TRACECHECK)
        .args(["collector", "--config", &format!("yaml:{config}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program can be started");
    let mut lines = BufReader::new(collector.stdout.take().expect("piped")).lines();
    let line = timeout(LIMIT, lines.next_line()).await.expect("it listens in time");
    let line = line.expect("readable").expect("a line that says where it listens");
    let line: Json = serde_json::from_str(&line).expect("JSON");
    let address = line["listening"]["otlp-http"].as_str().expect("its OTLP port");

    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("a client");
    for (content, body) in requests(case) {
        let request = http.post(format!("http://{address}/v1/traces"));
        let request = request.header("content-type", content).body(body);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{case}");
    }

    let deadline = Instant::now() + LIMIT;
    let mut changed = intake.changed();
    let mut spans = loop {
        changed.mark_unchanged();
        let attempts: Vec<Arc<Attempt>> = intake.attempts();
        let traces =
            attempts.iter().filter(|attempt| Route::of(&attempt.path) == Some(Route::Traces));
        let spans: Vec<_> = traces
            .flat_map(|attempt| datadog::spans(attempt).expect("a trace payload"))
            .map(|(_, fields)| fields)
            .collect();
        if spans.len() >= count {
            break spans;
        }
        let arrived = spans.len();
        let wake = timeout_at(deadline, changed.changed()).await;
        assert!(wake.is_ok(), "{case}: {arrived} of {count} spans arrived within {LIMIT:?}");
    };
    collector.kill().await.expect("it ends");
    spans.sort_by_key(place);
    spans
}

/// Returns the spans that the agent sent: the recorded form, as flat fields.
fn recorded(case: &str) -> Vec<Fields> {
    let text = std::fs::read_to_string(golden().join(case).join("canonical.json"));
    let entries: Vec<Json> = serde_json::from_str(&text.expect("the recording")).expect("JSON");
    let mut spans: Vec<_> = entries.iter().map(fields_of).collect();
    spans.sort_by_key(place);
    spans
}

fn fields_of(entry: &Json) -> Fields {
    let mut fields = Fields::new();
    for part in ["agent_payload", "tracer_payload", "chunk", "span"] {
        for (name, value) in entry[part].as_object().expect("an object") {
            let path = format!("{part}.{name}");
            match value {
                Json::Object(entries) => {
                    for (key, value) in entries {
                        let key = key.trim_end_matches("(sorted)");
                        let numbers = name == "metrics";
                        fields.insert(format!("{path}.{key}"), value_of(value, numbers));
                    }
                }
                value => {
                    // Written as text, since JSON's readers lose digits of large ones.
                    let is_long = ["traceID", "spanID", "parentID", "start", "duration"];
                    let value = match value.as_str() {
                        Some(text) if is_long.contains(&name.as_str()) => {
                            Value::Int(text.parse().expect("an integer"))
                        }
                        _ => value_of(value, name.ends_with("TPS")),
                    };
                    fields.insert(path, value);
                }
            }
        }
    }
    let ids = entry["chunk_spans"].as_array().expect("the chunk's spans");
    let mut ids: Vec<_> = ids.iter().map(|id| id.as_str().expect("an id")).collect();
    ids.sort_unstable();
    fields.insert("chunk_spans".to_owned(), Value::Text(ids.join(",").into_bytes()));
    // The sender's own name, and what protobuf leaves out.
    fields.remove("agent_payload.agentVersion");
    let is_entry = |name: &str| name.matches('.').count() > 1;
    let is_empty = |value: &Value| matches!(value, Value::Int(0)) || *value == Value::Text(vec![]);
    fields.retain(|name, value| is_entry(name) || !is_empty(value));
    fields
}

fn value_of(value: &Json, is_double: bool) -> Value {
    match value {
        Json::String(text) if is_double => Value::double(text.parse().expect("a number")),
        Json::String(text) => Value::Text(text.clone().into_bytes()),
        Json::Number(number) if is_double => Value::double(number.as_f64().expect("a double")),
        Json::Number(number) => Value::Int(number.as_i64().expect("an integer").into()),
        other => panic!("{other} is not expected in a recording"),
    }
}

fn place(fields: &Fields) -> impl Ord + use<> {
    ["span.traceID", "span.spanID", "span.resource"].map(|name| fields.get(name).cloned())
}

/// The fields in which the sides differ, by the resource name of the span.
fn differences(ours: &[Fields], theirs: &[Fields]) -> BTreeMap<(String, String), String> {
    assert_eq!(ours.len(), theirs.len(), "number of spans");
    let mut found = BTreeMap::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        let span = match theirs.get("span.resource") {
            Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        };
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let (ours, theirs) = (ours.get(name), theirs.get(name));
            if ours != theirs && !(name == "span.start" && both_are_now(ours, theirs)) {
                let text = format!("ours {ours:?}, recorded {theirs:?}");
                found.insert((span.clone(), format!(".{name}")), text);
            }
        }
    }
    found
}

/// A start before the year 2000 was replaced by the time of sending: of the recording there, of today here.
fn both_are_now(ours: Option<&Value>, theirs: Option<&Value>) -> bool {
    let (Some(Value::Int(ours)), Some(Value::Int(theirs))) = (ours, theirs) else { return false };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_nanos() as i128;
    // All spans that were recorded with their own time are of June 2025 at the latest.
    now - ours < 60_000_000_000 && *theirs > 1_760_000_000_000_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_sends_what_was_recorded_of_the_agent() {
    let cases = cases();
    assert!(cases.len() >= 14, "{cases:?}");
    for case in &cases {
        let theirs = recorded(case);
        let found = differences(&sent(case, theirs.len()).await, &theirs);
        assert!(found.is_empty(), "{case}:\n{found:#?}");
    }
}

#[test]
fn a_recording_that_was_changed_is_found() {
    let theirs = recorded("40-http");
    let mut changed = theirs.clone();
    assert!(differences(&changed, &theirs).is_empty());
    changed[0].insert("span.meta.added".to_owned(), Value::Text(b"x".to_vec()));
    changed[1].remove("span.meta.otel.trace_id");
    let found = differences(&changed, &theirs);
    let fields: Vec<_> = found.keys().map(|(_, field)| field.as_str()).collect();
    assert_eq!(fields.len(), 2, "{found:?}");
    assert!(fields.contains(&".span.meta.added"));
}
