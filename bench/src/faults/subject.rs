//! Subjects of the test: a collector's process, its configuration, and its self-metrics.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a subject may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a subject may take to end when it is asked to.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Queue of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Memory,
    Disk,
    /// As the reference does.
    Own,
}

/// A program in certain settings.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    program: PathBuf,
    arguments: Vec<String>,
    queue: Queue,
    queue_mib: u64,
}

impl Subject {
    /// Our collector: another build of it, or the one in this program.
    pub(crate) fn ours(
        build: Option<PathBuf>,
        queue: Queue,
        queue_mib: u64,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = match build {
            Some(build) => (build, Vec::new()),
            None => (std::env::current_exe()?, vec!["collector".into()]),
        };
        Ok(Self { program, arguments, queue, queue_mib })
    }

    pub(crate) fn reference(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), queue: Queue::Own, queue_mib: 0 }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.queue {
            Queue::Memory => "ours in memory",
            Queue::Disk => "ours on disk",
            Queue::Own => "reference",
        }
    }

    pub(crate) fn queue(&self) -> Queue {
        self.queue
    }

    /// How much memory it may take, in MiB: what its queue may hold in memory, and what it needs besides.
    pub(crate) fn memory_bound_mib(&self) -> Option<u64> {
        match self.queue {
            Queue::Memory => Some(self.queue_mib + 30),
            // 6 MiB wait in memory, 8 MiB are in flight, two batches of 8192 spans are made ready (about 8 MiB each): and 30 besides.
            Queue::Disk => Some(60),
            Queue::Own => None,
        }
    }

    fn config(&self, ports: Ports, intake: u16, disk: &Path) -> String {
        let Ports { otlp, metrics } = ports;
        let endpoint = format!("{{endpoint: 'http://127.0.0.1:{intake}'}}");
        let bytes = self.queue_mib << 20;
        let (queue, extensions, used) = match self.queue {
            Queue::Memory => (
                format!(
                    "sending_queue: {{sizer: bytes, queue_size: {bytes}, num_consumers: 50}}, "
                ),
                String::new(),
                String::new(),
            ),
            Queue::Disk => (
                "sending_queue: {storage: file_storage, queue_size: 100000, num_consumers: 50}, "
                    .into(),
                format!(
                    "extensions: {{file_storage: {{directory: '{}', create_directory: true, max_size_mib: {}}}}}, ",
                    disk.display(),
                    self.queue_mib
                ),
                "extensions: [file_storage], ".into(),
            ),
            Queue::Own => Default::default(),
        };
        format!(
            "yaml:{{{extensions}\
             receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{otlp}'}}}}}}}}, \
             processors: {{batch: {{}}}}, \
             exporters: {{datadog: {{{queue}\
             api: {{key: '0123456789abcdef0123456789abcdef'}}, hostname: faults, \
             metrics: {endpoint}, traces: {endpoint}, logs: {endpoint}, host_metadata: {{enabled: false}}}}}}, \
             service: {{{used}telemetry: {{logs: {{level: error}}, metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}, \
             pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [datadog]}}}}}}}}"
        )
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(
        &self,
        ports: Ports,
        intake: u16,
        disk: &Path,
    ) -> anyhow::Result<Process> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["--config", &self.config(ports, intake, disk)])
            // APM stats, too.
            .arg("--feature-gates=-exporter.datadogexporter.DisableAPMStats")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("`{}`", self.program.display()))?;
        let id = child.id().context("the subject has ended")?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", ports.otlp)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("{} ended at its start ({status})", self.name());
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not listen", self.name());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Process { child, id, metrics: ports.metrics })
    }
}

/// Ports of a subject.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) otlp: u16,
    metrics: u16,
}

impl Ports {
    /// Ports that nobody listens on.
    pub(crate) fn free() -> anyhow::Result<Self> {
        let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok(Self { otlp: one.local_addr()?.port(), metrics: two.local_addr()?.port() })
    }
}

/// A running subject. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    id: u32,
    metrics: u16,
}

impl Process {
    /// Its resident memory at most so far, in MiB; 0 when it has ended.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    }

    /// The value of a self-metric, all its series added up; `None` while it cannot be asked.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).await?;
            let head = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = timeout(Duration::from_secs(5), ask).await.ok()?.ok()?;
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| line.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        Some(series.sum::<f64>() as u64)
    }

    /// Asks it to end and waits.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        let status = Command::new("kill").args(["-s", "TERM", &self.id.to_string()]).status().await;
        anyhow::ensure!(status.context("cannot run `kill`")?.success(), "it had ended before");
        let ended = timeout(END_TIMEOUT, self.child.wait()).await;
        Ok(ended.context("it did not end within a minute of SIGTERM")??)
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
