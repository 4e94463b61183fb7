//! Running collectors, and the sink behind them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::{DecodeError, Message as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

/// How long a collector may take to listen, and to do what is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Decoded = Result<ExportTraceServiceRequest, DecodeError>;

/// Takes OTLP over HTTP, and keeps what came to each path.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    requests: Arc<Mutex<BTreeMap<String, Vec<Decoded>>>>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = Self { port, requests: Arc::default() };
        let requests = Arc::clone(&sink.requests);
        let take = async move |uri: Uri, headers: HeaderMap, body: Bytes| {
            assert!(!headers.contains_key("content-encoding"), "it is to come as it is");
            let request = ExportTraceServiceRequest::decode(body);
            requests.lock().unwrap().entry(uri.path().to_owned()).or_default().push(request);
        };
        let router = Router::new().fallback(take);
        tokio::spawn(async move { axum::serve(listener, router).await });
        sink
    }

    /// Returns what came to a path so far.
    pub(crate) fn of(&self, path: &str) -> Vec<ExportTraceServiceRequest> {
        let came = self.requests.lock().unwrap().get(path).cloned().unwrap_or_default();
        came.into_iter().map(Result::unwrap).collect()
    }

    /// Takes what came to a path so far, even what cannot be decoded.
    pub(crate) fn drain(&self, path: &str) -> Vec<Decoded> {
        self.requests.lock().unwrap().remove(path).unwrap_or_default()
    }
}

/// A running collector, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    name: &'static str,
    _child: Child,
    log: std::path::PathBuf,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    metrics: u16,
    pub(crate) client: reqwest::Client,
}

impl Running {
    /// Starts a collector with the receiver `otlp`, and with these processors, exporters and pipelines.
    pub(crate) async fn start(
        name: &'static str,
        program: &Path,
        first: &[&str],
        folder: &Path,
        rest: &str,
    ) -> Self {
        let [grpc, http, metrics] = [free_port().await, free_port().await, free_port().await];
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}\n{rest}\n  telemetry: {{logs: {{level: warn}}, metrics: {{level: normal, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}\n"
        );
        let config = folder.join(format!("{name}.yaml"));
        std::fs::write(&config, text).unwrap();
        let log = folder.join(format!("{name}.log"));
        let output = std::fs::File::create(&log).unwrap();
        let child = Command::new(program)
            .args(first)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut running = Self { name, _child: child, log, grpc, http, metrics, client };
        for port in [grpc, http] {
            running
                .until("it listens", async |_| {
                    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
                })
                .await;
        }
        running
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let mut ticks = interval(Duration::from_millis(25));
        let held = timeout(PATIENCE, async {
            while !holds(self).await {
                ticks.tick().await;
            }
        });
        if held.await.is_err() {
            panic!("{}: {what}: not within {PATIENCE:?}\n{}", self.name, self.log());
        }
    }

    /// The sum of all series of a self-metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }

    /// The sum of those series of a self-metric that have a label, as it is written.
    pub(crate) async fn metric_of(&self, name: &str, label: &str) -> f64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics);
        let Ok(response) = self.client.get(url).send().await else { return 0.0 };
        let text = response.text().await.unwrap();
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A port that nobody listens at.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
