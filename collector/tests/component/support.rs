//! Starting a collector in front of a stub of Datadog's intake, and waiting for conditions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use collector::{Collector, Config, Drained, Sources};
use libdd_trace_protobuf::pb;
use prost::Message as _;
use stub_server::StubServer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{method, path};
use wiremock::{Mock, Request, Respond, ResponseTemplate};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A running collector and the intake behind it.
pub(crate) struct Rig {
    pub(crate) intake: StubServer,
    pub(crate) ports: BTreeMap<String, SocketAddr>,
    pub(crate) http: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinHandle<Drained>,
}

/// A stub of the intake that accepts every key; traces are for each test to answer.
pub(crate) async fn intake() -> StubServer {
    let intake = StubServer::start().await;
    let valid = ResponseTemplate::new(200).set_body_json(serde_json::json!({ "valid": true }));
    Mock::given(path("/api/v1/validate")).respond_with(valid).mount(&intake).await;
    intake
}

/// Answers requests for traces with this status, `times` times.
pub(crate) async fn answer(intake: &StubServer, status: u16, times: u64) {
    let traces = Mock::given(method("POST")).and(path("/api/v0.2/traces"));
    traces.respond_with(ResponseTemplate::new(status)).up_to_n_times(times).mount(intake).await;
}

/// Takes traces from now on, whatever [`answer`] said before, with no moment in between in which nothing is said (an
/// intake that answers 404 makes a collector drop spans).
pub(crate) async fn recover(intake: &StubServer) -> Recovered {
    let recovered = Recovered::default();
    let traces = Mock::given(method("POST")).and(path("/api/v0.2/traces"));
    traces.respond_with(recovered.clone()).with_priority(1).mount(intake).await;
    recovered
}

/// Requests that an intake accepted since it recovered.
#[derive(Clone, Default)]
pub(crate) struct Recovered(Arc<Mutex<Vec<Request>>>);

impl Recovered {
    pub(crate) fn payloads(&self) -> Vec<pb::AgentPayload> {
        decode(&self.0.lock().unwrap())
    }
}

impl Respond for Recovered {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.lock().unwrap().push(request.clone());
        ResponseTemplate::new(202)
    }
}

/// A collector in front of the intake; `settings` are laid upon the config.
pub(crate) async fn start(intake: StubServer, settings: &[&str], drain: Duration) -> Rig {
    start_with(intake, settings, &[], drain).await
}

/// As [`start`], with feature gates.
pub(crate) async fn start_with(
    intake: StubServer,
    settings: &[&str],
    gates: &[String],
    drain: Duration,
) -> Rig {
    let yaml = format!(
        r#"
        receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}, http: {{endpoint: "127.0.0.1:0"}}}}}}}}
        processors: {{batch: {{timeout: 10ms, send_batch_size: 10}}}}
        exporters:
          datadog:
            api: {{key: "0123456789abcdef0123456789abcdef"}}
            hostname: test-host
            metrics: {{endpoint: "{0}"}}
            traces: {{endpoint: "{0}"}}
            retry_on_failure: {{initial_interval: 10ms, max_interval: 20ms}}
        extensions: {{health_check: {{endpoint: "127.0.0.1:0"}}}}
        service:
          extensions: [health_check]
          telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}
          pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [datadog]}}}}
        "#,
        intake.uri()
    );
    let sources = Sources {
        configs: vec![format!("yaml:{yaml}")],
        settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        feature_gates: gates.to_vec(),
        ..Sources::default()
    };
    // The tests' own client needs one too; another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::load(&sources, &|_| None).unwrap();
    let collector = Collector::bind(config, "unused").await.unwrap();
    let ports = collector.ports();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { collector.run(shutdown, drain).await.unwrap() }
    });
    Rig { intake, ports, http: reqwest::Client::new(), shutdown, running }
}

impl Rig {
    pub(crate) fn address(&self, port: &str) -> String {
        self.ports[port].to_string()
    }

    /// Posts to the OTLP/HTTP port.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let url = format!("http://{}/v1/traces", self.address("otlp-http"));
        let mut request = self.http.post(url).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.unwrap() }
    }

    /// Sends protobuf over HTTP and expects it to be taken.
    pub(crate) async fn send(&self, request: Bytes) {
        let reply = self.post(&[("content-type", "application/x-protobuf")], request).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// The value of a self-metric, all its series added up.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.metrics().await;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// All self-metrics, as Prometheus text.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("metrics"));
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Returns the trace payloads that reached the intake, with every attempt.
    pub(crate) async fn attempts(&self) -> Vec<pb::AgentPayload> {
        payloads(&self.intake).await
    }

    /// Waits for the collector to end by itself.
    pub(crate) async fn ended(self) -> Drained {
        self.running.await.unwrap()
    }

    /// Stops the collector and gives what it left behind, and the intake.
    pub(crate) async fn stop(self) -> (Drained, StubServer) {
        self.shutdown.cancel();
        let drained = tokio::time::timeout(DEADLINE, self.running).await.expect("it ends").unwrap();
        (drained, self.intake)
    }
}

/// The payloads of all requests for traces that an intake got.
pub(crate) async fn payloads(intake: &StubServer) -> Vec<pb::AgentPayload> {
    let mut requests = intake.received_requests().await.unwrap();
    requests.retain(|request| request.url.path() == "/api/v0.2/traces");
    decode(&requests)
}

fn decode(requests: &[Request]) -> Vec<pb::AgentPayload> {
    requests.iter().map(|it| pb::AgentPayload::decode(&*body(it)).unwrap()).collect()
}

/// The payloads of all requests for stats that an intake got.
pub(crate) async fn stats(intake: &StubServer) -> Vec<pb::StatsPayload> {
    let bodies = bodies(intake, "/api/v0.2/stats").await;
    bodies.iter().map(|body| rmp_serde::from_slice(body).unwrap()).collect()
}

/// The bodies of all requests for a path, decompressed.
pub(crate) async fn bodies(intake: &StubServer, path: &str) -> Vec<Vec<u8>> {
    let requests = intake.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path() == path).map(body).collect()
}

/// The body of a request, decompressed.
fn body(request: &Request) -> Vec<u8> {
    match request.headers.get("content-encoding").map(|value| value.as_bytes()) {
        Some(b"zstd") => zstd::decode_all(&*request.body).unwrap(),
        Some(b"gzip") => {
            let mut out = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&*request.body);
            std::io::Read::read_to_end(&mut decoder, &mut out).unwrap();
            out
        }
        _ => request.body.clone(),
    }
}

/// A reply of the OTLP/HTTP port.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Bytes,
}

/// The ids of all spans in payloads, sorted.
pub(crate) fn span_ids(payloads: &[pb::AgentPayload]) -> Vec<u64> {
    let tracers = payloads.iter().flat_map(|payload| &payload.tracer_payloads);
    let spans = tracers.flat_map(|tracer| &tracer.chunks).flat_map(|chunk| &chunk.spans);
    let mut ids: Vec<_> = spans.map(|span| span.span_id).collect();
    ids.sort_unstable();
    ids
}

/// An OTLP request of spans with these ids, each a trace of its own, as protobuf.
pub(crate) fn request(ids: impl IntoIterator<Item = u64>) -> Bytes {
    /// A length-delimited field of less than 2^14 bytes.
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let (low, high) = ((body.len() & 0x7f) as u8 | 0x80, (body.len() >> 7) as u8);
        [&[number << 3 | 2, low, high], body].concat()
    }
    let spans = ids.into_iter().flat_map(|id| {
        let trace_id = field(1, &u128::from(id).to_be_bytes());
        field(2, &[trace_id, field(2, &id.to_be_bytes()), field(5, b"span")].concat())
    });
    let spans: Vec<u8> = spans.collect();
    field(1, &field(2, &spans)).into()
}

/// A recorded OTLP request.
pub(crate) fn golden() -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/01-chain/otlp.00.bin");
    std::fs::read(path).unwrap().into()
}

/// Waits until a condition holds, for at most [`DEADLINE`].
pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(DEADLINE, what, holds).await;
}

/// Waits until a condition holds; fails when it does not within `limit`, and when checking it does not end by then.
pub(crate) async fn until_within(
    limit: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let held = async {
        while !holds().await {
            ticks.tick().await;
        }
    };
    let held = tokio::time::timeout(limit, held).await;
    assert!(held.is_ok(), "{what}: not within {limit:?}");
}
