//! One side of the comparison: a collector, as a process, and the mock intake behind it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use harness::intake::{
    attempt::Attempt,
    client::{self, IntakeClient},
    decode::{self, Decoded, Route, StatsGroup},
    server::{RunningServer, Server, Settings},
    store::Bounds,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::datadog::{self, Fields};

/// The host of spans whose resource has none.
const HOST: &str = "cfg-host";
pub(crate) const CONTRIB: &str = "contrib";
pub(crate) const AGENT: &str = "the agent";
/// Fields in which the agent reports its samplers' aims, which it is given here.
pub(crate) const GIVEN_TO_AGENT: [&str; 2] = ["agent_payload.targetTPS", "agent_payload.errorTPS"];
const START: Duration = Duration::from_secs(30);

/// How a collector is started.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// Ours: it reports its ports itself.
    Ours(PathBuf),
    /// The OpenTelemetry Collector with contrib's exporter: its ports are given.
    Contrib(PathBuf),
    /// Datadog's trace agent behind OTLP: it has flags in place of a config.
    Agent(PathBuf),
}

/// Options of the collectors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Settings of the exporter's `traces`, each a line of YAML.
    pub(crate) traces: &'static [&'static str],
    /// `--feature-gates`.
    pub(crate) gates: &'static [&'static str],
    /// The flags by which the agent does the same.
    pub(crate) flags: &'static [&'static str],
}

/// A running collector and its intake.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    child: Child,
    log: PathBuf,
    otlp: String,
    http: reqwest::Client,
    intake: IntakeClient,
    /// Serves until it is dropped.
    _server: RunningServer,
    /// The newest attempt that was read.
    read: u64,
    pub(crate) spans: BTreeMap<String, Vec<Fields>>,
    pub(crate) stats: Vec<StatsGroup>,
    /// Requests that arrived and could not be read.
    pub(crate) unreadable: Vec<String>,
}

impl Side {
    /// Starts the intake, then the collector, and waits until it listens.
    pub(crate) async fn start(
        program: &Program,
        options: Options,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let bounds = Bounds { max_bytes: 2 << 30, max_attempts: 1_000_000 };
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            bounds,
            max_body: 64 << 20,
            max_decoded: 512 << 20,
            ..Settings::default()
        };
        let server = Server::bind(settings).await?.spawn();
        let settings = client::Settings { bounds, max_decoded: 512 << 20, ..Default::default() };
        let intake = IntakeClient::connect(&server.url(), settings).await?;
        let (name, port) = match program {
            Program::Ours(_) => ("ours", 0),
            Program::Contrib(_) => (CONTRIB, free_port().await?),
            Program::Agent(_) => (AGENT, free_port().await?),
        };
        let slug = name.replace(' ', "-");
        let config = dir.join(format!("{slug}.yaml"));
        std::fs::write(&config, config_text(port, &server.url(), options))?;
        let log = dir.join(format!("{slug}.log"));
        let (Program::Ours(path) | Program::Contrib(path) | Program::Agent(path)) = program;
        let mut command = Command::new(path);
        if let Program::Agent(_) = program {
            command.arg(format!("--otlp-http=127.0.0.1:{port}"));
            command.args(["--hostname", HOST, "--intake", &server.url()]).args(options.flags);
            // So many that its samplers never depend on the machine's speed, nor on a trace that stands for 2^62.
            command.args(["--target-tps=1e30", "--error-tps=1e30"]);
        } else {
            if let Program::Ours(_) = program {
                command.arg("collector");
            }
            command.arg("--config").arg(&config);
            if !options.gates.is_empty() {
                command.arg(format!("--feature-gates={}", options.gates.join(",")));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let otlp = match program {
            Program::Ours(_) => timeout(START, listening(&mut child)).await,
            Program::Contrib(_) | Program::Agent(_) => {
                timeout(START, reachable(&mut child, port)).await
            }
        };
        let otlp = match otlp {
            Ok(Ok(address)) => address,
            Ok(Err(error)) => bail!("{name} did not start: {error:#}\n{}", tail(&log)),
            Err(_) => bail!("{name} did not listen within {START:?}\n{}", tail(&log)),
        };
        Ok(Self {
            name,
            child,
            log,
            otlp: format!("http://{otlp}/v1/traces"),
            http: reqwest::Client::builder().no_proxy().timeout(START).build()?,
            intake,
            _server: server,
            read: 0,
            spans: BTreeMap::new(),
            stats: Vec::new(),
            unreadable: Vec::new(),
        })
    }

    /// Sends a request, and gives back the status of the answer.
    pub(crate) async fn send(&self, content: &'static str, body: Vec<u8>) -> anyhow::Result<u16> {
        let request = self.http.post(&self.otlp).header("content-type", content).body(body);
        let answer = request.send().await;
        let answer = answer
            .with_context(|| format!("{} does not answer\n{}", self.name, tail(&self.log)))?;
        Ok(answer.status().as_u16())
    }

    /// Reads what has arrived until `done`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let mut changed = self.intake.changed();
        loop {
            changed.mark_unchanged();
            self.read()?;
            if done(self) {
                return Ok(());
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                bail!(
                    "{}: {what} did not arrive within {limit:?}; {} spans and {} groups of stats did, and {:?}\n{}",
                    self.name,
                    self.spans.len(),
                    self.stats.len(),
                    self.unreadable,
                    tail(&self.log)
                );
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}\n{}", self.name, tail(&self.log));
        }
        if let Some(gap) = self.intake.gaps().first() {
            bail!("{}: the evidence has a gap: {gap:?}", self.name);
        }
        let attempts: Vec<Arc<Attempt>> = self.intake.with_store(|store| {
            store.after(self.read).map(|entry| Arc::clone(&entry.attempt)).collect()
        });
        for attempt in attempts {
            self.read = attempt.seq;
            if !attempt.reply.accepted() {
                self.unreadable.push(format!("{} was answered {:?}", attempt.path, attempt.reply));
            }
            match Route::of(&attempt.path) {
                Some(Route::Traces) => match datadog::spans(&attempt) {
                    Ok(spans) => {
                        for (marker, fields) in spans {
                            self.spans.entry(marker).or_default().push(fields);
                        }
                    }
                    Err(error) => self.unreadable.push(format!("a trace payload: {error}")),
                },
                Some(Route::Stats) => match decode::decode(&attempt, 512 << 20) {
                    Decoded::Stats(payload) => self.stats.extend(payload.groups),
                    other => self.unreadable.push(format!("a stats payload: {other:?}")),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the collector.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be ended", self.name))
    }
}

fn config_text(port: u16, intake: &str, options: Options) -> String {
    let mut traces = format!("      endpoint: {intake}\n");
    for line in options.traces {
        traces.push_str(&format!("      {line}\n"));
    }
    format!(
        "receivers:
  otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}
processors:
  batch: {{timeout: 100ms, send_batch_size: 8192}}
exporters:
  datadog:
    api: {{key: \"0123456789abcdef0123456789abcdef\", fail_on_invalid_key: false}}
    hostname: {HOST}
    metrics: {{endpoint: \"{intake}\"}}
    logs: {{endpoint: \"{intake}\"}}
    host_metadata: {{enabled: false}}
    traces:
{traces}service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: info}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [datadog]}}
"
    )
}

/// The address that the collector says it listens at.
async fn listening(child: &mut Child) -> anyhow::Result<String> {
    let stdout = child.stdout.take().context("its stdout is not piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await?.context("it ended before it listened")?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    let address = line["listening"]["otlp-http"].as_str();
    Ok(address.with_context(|| format!("no OTLP port in {line}"))?.to_owned())
}

async fn reachable(child: &mut Child, port: u16) -> anyhow::Result<String> {
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended: {status}");
        }
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(format!("127.0.0.1:{port}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nobody listens at; the reference cannot say which one it took.
async fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
