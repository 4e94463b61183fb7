//! The reference collector with a small queue, as a process of its own.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::program::command;

/// How long it may take to listen.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END: Duration = Duration::from_secs(60);

/// A running reference. Dropped, it is killed.
pub(crate) struct Reference {
    child: Child,
    grpc: u16,
    http: u16,
}

impl Reference {
    /// Starts it in front of an intake, with an exporter's defaults but for a queue that is full soon.
    pub(crate) async fn start(
        program: &Path,
        exporter: &str,
        intake: &str,
        key: &str,
    ) -> anyhow::Result<Self> {
        let (grpc, http) = (free_port().await?, free_port().await?);
        let queue = "sending_queue: {queue_size: 1, num_consumers: 1}";
        let settings = match exporter {
            "datadog" => format!(
                "api: {{key: '{key}'}}, hostname: senders, host_metadata: {{enabled: false}}, \
                 metrics: {{endpoint: '{intake}'}}, traces: {{endpoint: '{intake}'}}, logs: {{endpoint: '{intake}'}}, {queue}"
            ),
            _ => format!("endpoint: '{intake}', headers: {{dd-api-key: '{key}'}}, {queue}"),
        };
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}, \
             processors: {{batch: {{}}}}, exporters: {{{exporter}: {{{settings}}}}}, \
             service: {{telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}, \
             pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [{exporter}]}}}}}}}}"
        );
        let mut command = command(program);
        command.args(["--config", &config]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let deadline = Instant::now() + START;
        for port in [grpc, http] {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    bail!("{} ended ({status}) with the config {config}", program.display());
                }
                if Instant::now() > deadline {
                    bail!("{} does not listen within {START:?}", program.display());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self { child, grpc, http })
    }

    /// `http://host:port` of one of its ports, as ours are called.
    pub(crate) fn url(&self, port: &str) -> String {
        let port = if port == "otlp-grpc" { self.grpc } else { self.http };
        format!("http://127.0.0.1:{port}")
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("the reference ended early")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        if timeout(END, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// A port that nobody listens at; the reference cannot say which one it took.
async fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}
