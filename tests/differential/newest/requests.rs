//! Requests: what both answer, and which spans both send on.

mod made;
mod odd;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use axum::body::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::{DecodeError, Message as _};
use serde_json::Value;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::Channel;

use crate::meant::{Kind, Meant};
use crate::running::{PATIENCE, Running, Sink};
use crate::{SEED, asked, newest};
use made::{Case, Transport};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");

/// The usual number of requests: each oddity alone, then some together.
const REQUESTS: usize = 900;

/// Outcome of a request.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The status of HTTP, or the code of gRPC.
    status: String,
    /// The type and the shape of the reply, without the words in it.
    reply: String,
    /// The words of the reply, which may differ.
    words: String,
    /// The spans that went on, in order.
    spans: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_sent_on_as_by_the_newest_collector() {
    let newest = newest();
    let (seed, is_usual_seed) = asked("NEWEST_SEED", SEED);
    let (count, is_usual_count) = asked("NEWEST_REQUESTS", REQUESTS);
    let folder = tempfile::tempdir().unwrap();
    let cases = odd::cases(seed, count);
    let (ours, theirs) = tokio::join!(
        outcomes("ours", Path::new(OURS), &["collector"], folder.path(), &cases),
        outcomes("theirs", &newest, &[], folder.path(), &cases),
    );
    let mut meant = Meant::read();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (case, (ours, theirs)) in cases.iter().zip(ours.iter().zip(&theirs)) {
        compare(case, ours, theirs, &mut meant);
        let what = match (ours.is_accepted(), theirs.is_accepted()) {
            (true, true) => "both accept",
            (false, true) => "ours refuses",
            (true, false) => "ours accepts",
            (false, false) => "both refuse",
        };
        *counts.entry(what).or_default() += 1;
        if case.oddities.is_empty() {
            assert!(ours.is_accepted() && !ours.spans.is_empty(), "{case}: {ours:?}");
        }
    }
    println!("seed {seed}, {count} requests: {counts:?}");
    let kinds = [Kind::Answer, Kind::Reply, Kind::SentOn];
    meant.settle(&kinds, is_usual_seed && is_usual_count);
    assert!(counts["both accept"] > count / 4 && counts["both refuse"] > count / 8, "{counts:?}");
}

/// Sends the requests to a collector, one after the other: it answers when it has sent them on.
async fn outcomes(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    cases: &[Case],
) -> Vec<Outcome> {
    let sink = Sink::start().await;
    let rest = format!(
        "exporters:\n  otlp_http: {{traces_endpoint: 'http://127.0.0.1:{}/spans', compression: none, sending_queue: {{enabled: false}}, retry_on_failure: {{enabled: false}}}}\nservice:\n  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}",
        sink.port
    );
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    let running = Running::start(name, program, args, &folder, &rest).await;
    let endpoint = format!("http://127.0.0.1:{}", running.grpc);
    let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut outcomes = Vec::new();
    for case in cases {
        let answered = timeout(PATIENCE, async {
            match case.transport {
                Transport::Grpc => over_grpc(&running, channel.clone(), case).await,
                Transport::Json | Transport::Protobuf => over_http(&running, case).await,
            }
        });
        let Ok((status, reply, words)) = answered.await else {
            panic!("{name}: {case}: no answer within {PATIENCE:?}\n{}", running.log())
        };
        let sent_on = sink.drain("/spans");
        let mut spans: Vec<_> = sent_on.iter().flat_map(spans_of).collect();
        spans.sort();
        outcomes.push(Outcome { status, reply, words, spans });
    }
    outcomes
}

/// The spans of a request, each with what surrounds it. An empty message is the same as none.
fn spans_of(sent: &Result<made::Request, DecodeError>) -> Vec<String> {
    let request = match sent {
        Ok(request) => request,
        // Deeper than the sink reads.
        Err(error) => return vec![format!("not decoded: {error}")],
    };
    let mut spans = Vec::new();
    for resource in &request.resource_spans {
        let mut around = resource.resource.clone().unwrap_or_default();
        fill(&mut around.attributes);
        for scope in &resource.scope_spans {
            let mut inside = scope.scope.clone().unwrap_or_default();
            fill(&mut inside.attributes);
            for span in &scope.spans {
                let mut span = span.clone();
                span.status.get_or_insert_default();
                fill(&mut span.attributes);
                span.events.iter_mut().for_each(|event| fill(&mut event.attributes));
                span.links.iter_mut().for_each(|link| fill(&mut link.attributes));
                let schemas = (&scope.schema_url, &resource.schema_url);
                spans.push(format!("{span:?} in {inside:?} in {around:?} {schemas:?}"));
            }
        }
    }
    spans
}

fn fill(attributes: &mut [KeyValue]) {
    for pair in attributes {
        pair.value.get_or_insert_default();
    }
}

async fn over_http(running: &Running, case: &Case) -> (String, String, String) {
    let url = format!("http://127.0.0.1:{}{}", running.http, case.call.path);
    let mut request = running.client.request(case.call.method.clone(), url);
    for (name, value) in &case.call.headers {
        request = request.header(*name, value);
    }
    let Ok(response) = request.body(case.call.body.clone()).send().await else {
        return ("broken off".to_owned(), String::new(), String::new());
    };
    let status = response.status();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    let body = response.bytes().await.unwrap();
    let shape = shape(&kind, status.is_success(), &body);
    let words = String::from_utf8_lossy(&body).into_owned();
    (format!("HTTP {}", status.as_u16()), format!("{kind}: {shape}"), words)
}

/// The kind of a body, without its words.
fn shape(kind: &str, is_success: bool, body: &[u8]) -> String {
    if body.is_empty() {
        return "empty".to_owned();
    }
    match (kind, is_success) {
        ("application/json", true) => match serde_json::from_slice::<Value>(body) {
            Ok(body) if body["partialSuccess"]["errorMessage"] != Value::Null => {
                "partial success".to_owned()
            }
            Ok(_) => "empty".to_owned(),
            Err(error) => format!("no JSON: {error}"),
        },
        ("application/json", false) => match serde_json::from_slice::<Value>(body) {
            Ok(body) => format!("status {}", body["code"]),
            Err(error) => format!("no JSON: {error}"),
        },
        ("application/x-protobuf", true) => success(body),
        ("application/x-protobuf", false) => match tonic_types::Status::decode(body) {
            Ok(status) => format!("status {}", status.code),
            Err(error) => format!("no protobuf: {error}"),
        },
        _ => "text".to_owned(),
    }
}

fn success(body: &[u8]) -> String {
    match ExportTraceServiceResponse::decode(body) {
        Ok(response) => match response.partial_success {
            Some(partial) if !partial.error_message.is_empty() => "partial success".to_owned(),
            _ => "empty".to_owned(),
        },
        Err(error) => format!("no protobuf: {error}"),
    }
}

async fn over_grpc(
    running: &Running,
    mut channel: Channel,
    case: &Case,
) -> (String, String, String) {
    let uri = format!("http://127.0.0.1:{}{}", running.grpc, case.call.path);
    let mut request = http::Request::builder().method(case.call.method.clone()).uri(uri);
    for (name, value) in &case.call.headers {
        request = request.header(*name, value);
    }
    let body = Body::new(Full::new(Bytes::from(case.call.body.clone())));
    let request = request.body(body).unwrap();
    let broken = || ("broken off".to_owned(), String::new(), String::new());
    if std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
        .await
        .is_err()
    {
        return broken();
    }
    let Ok(response) = GrpcService::call(&mut channel, request).await else { return broken() };
    let (head, body) = response.into_parts();
    if head.status != 200 {
        return (format!("HTTP {}", head.status.as_u16()), String::new(), String::new());
    }
    let Ok(body) = body.collect().await else { return broken() };
    let trailers = body.trailers().cloned().unwrap_or_default();
    let of = |name: &str| head.headers.get(name).or_else(|| trailers.get(name)).cloned();
    let text =
        |name: &str| of(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let code = text("grpc-status").unwrap_or_else(|| "none".to_owned());
    let body = body.to_bytes();
    let reply = match (body.get(..5), text("grpc-encoding").as_deref()) {
        (None, _) => "no message".to_owned(),
        (Some([0, ..]), _) => success(&body[5..]),
        (_, Some("gzip")) => {
            let mut message = Vec::new();
            GzDecoder::new(&body[5..]).read_to_end(&mut message).unwrap();
            success(&message)
        }
        (_, Some("zstd")) => success(&zstd::decode_all(&body[5..]).unwrap()),
        (_, other) => format!("a message in {other:?}"),
    };
    (format!("gRPC {code}"), reply, text("grpc-message").unwrap_or_default())
}

fn compare(case: &Case, ours: &Outcome, theirs: &Outcome, meant: &mut Meant) {
    let detail = format!("{case}\n      ours {:?}\n      theirs {:?}", ours.words, theirs.words);
    let what = case.name();
    if ours.status != theirs.status {
        let text = format!("{what}: ours {}, theirs {}", ours.status, theirs.status);
        meant.note(Kind::Answer, &text, &detail);
    } else if ours.reply != theirs.reply {
        let text = format!("{what}: {}: ours {}, theirs {}", ours.status, ours.reply, theirs.reply);
        meant.note(Kind::Reply, &text, &detail);
    }
    if ours.is_accepted() == theirs.is_accepted() && ours.spans != theirs.spans {
        let (mine, others) = (ours.spans.len(), theirs.spans.len());
        let mut text = format!("{what}: ours {mine} spans, theirs {others}");
        // The first that only one of them has.
        let only = |those: &[String], others: &[String]| {
            those.iter().find(|span| !others.contains(span)).cloned()
        };
        let first = only(&ours.spans, &theirs.spans).zip(only(&theirs.spans, &ours.spans));
        let pairs = ours.spans.iter().cloned().zip(theirs.spans.iter().cloned());
        let first = first.or_else(|| pairs.into_iter().find(|(ours, theirs)| ours != theirs));
        if let Some((ours, theirs)) = first {
            let (ours, theirs) = excerpts(&ours, &theirs);
            text.push_str(&format!(": ours `{ours}`, theirs `{theirs}`"));
        }
        meant.note(Kind::SentOn, &text, &detail);
    }
}

/// The places where two texts begin to differ, with a little around them.
fn excerpts(ours: &str, theirs: &str) -> (String, String) {
    let same = ours.chars().zip(theirs.chars()).take_while(|(ours, theirs)| ours == theirs).count();
    let of = |text: &str| text.chars().skip(same.saturating_sub(40)).take(80).collect();
    (of(ours), of(theirs))
}

impl Outcome {
    fn is_accepted(&self) -> bool {
        matches!(self.status.as_str(), "HTTP 200" | "gRPC 0")
    }
}
