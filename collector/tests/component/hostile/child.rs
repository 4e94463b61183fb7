//! A collector as a process of its own, so that its memory can be measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Instant;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use stub_server::StubServer;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::{DEADLINE, answer, intake};

/// A running collector that sends to a stub of Datadog's intake. Dropped, it is killed.
pub(super) struct Child {
    process: tokio::process::Child,
    ports: BTreeMap<String, SocketAddr>,
    http: reqwest::Client,
    _intake: StubServer,
}

impl Child {
    /// Starts it; `settings` are laid upon its config.
    pub(super) async fn start(settings: &[&str]) -> Self {
        let intake = intake().await;
        answer(&intake, 202, u64::MAX).await;
        let yaml = format!(
            r#"yaml:
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:0"}}, http: {{endpoint: "127.0.0.1:0"}}}}}}}}
exporters:
  datadog:
    api: {{key: "0123456789abcdef0123456789abcdef"}}
    hostname: test-host
    metrics: {{endpoint: "{0}"}}
    traces: {{endpoint: "{0}"}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [datadog]}}}}"#,
            intake.uri()
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["--config", &yaml]).env_clear().kill_on_drop(true);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let read = tokio::time::timeout(DEADLINE, stdout.read_line(&mut line)).await;
        read.expect("it says where it listens").unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let ports = serde_json::from_value(line["listening"].clone()).unwrap();
        // Nothing that it prints may end it.
        tokio::spawn(async move {
            let _ = stdout.read_to_end(&mut Vec::new()).await;
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(DEADLINE * 3).build().unwrap();
        Self { process, ports, http, _intake: intake }
    }

    pub(super) fn address(&self, port: &str) -> String {
        self.ports[port].to_string()
    }

    /// Posts to the OTLP/HTTP port and gives the status.
    pub(super) async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> u16 {
        let url = format!("http://{}/v1/traces", self.address("otlp-http"));
        let mut request = self.http.post(url).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// The memory that it has now, in bytes.
    pub(super) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// That it never had more than this beyond what it had before.
    #[track_caller]
    pub(super) fn expect_growth_below(&self, before: u64, limit: u64, what: &str) {
        let growth = self.memory("VmHWM:").saturating_sub(before);
        assert!(growth < limit, "{what}: it grew by {} MiB, not {}", growth >> 20, limit >> 20);
    }

    fn memory(&self, key: &str) -> u64 {
        let id = self.process.id().expect("it is running");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Asks it to end, which it must do well.
    pub(super) async fn stop(mut self) {
        let id = self.process.id().expect("it is running").to_string();
        let kill = Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap();
        assert!(kill.success());
        let begun = Instant::now();
        let status = tokio::time::timeout(DEADLINE * 6, self.process.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it runs on after {:?}", begun.elapsed()));
        assert!(status.unwrap().success());
    }
}

/// Lets this process have as many files as it may.
pub(super) fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > 11_000, "this test needs 11,000 open files; {hard} are allowed (`ulimit -Hn`)");
}
