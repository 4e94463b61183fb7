//! A subject's process: started, watched, ended.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a subject may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The kernel's unit of CPU time in `/proc`, fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running subject. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    id: u32,
}

impl Process {
    /// Starts a program and waits until it listens on `port`.
    pub(crate) async fn start(program: &Path, args: &[String], port: u16) -> anyhow::Result<Self> {
        let what = || format!("`{}`", program.display());
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(what)?;
        let id = child.id().context("the subject has ended")?;
        let (deadline, errors) = (Instant::now() + START_TIMEOUT, child.stderr.take());
        let log = tokio::spawn(last_lines(errors));
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                let log = log.await.unwrap_or_default();
                anyhow::bail!("{} ended at its start ({status}):\n{log}", what());
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not listen on port {port}", what());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { child, id })
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // The name, in parentheses, may have spaces.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        let mut fields = fields.split(' ').skip(11).map(|field| field.parse().unwrap_or(0.0));
        let ticks: f64 = fields.next().unwrap_or(0.0) + fields.next().unwrap_or(0.0);
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Resident memory now and at most, in MiB.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.unwrap_or_default() / 1024.0
        };
        Ok((value("VmRSS:"), value("VmHWM:")))
    }

    /// Ends it.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }
}

async fn last_lines(errors: Option<tokio::process::ChildStderr>) -> String {
    use tokio::io::AsyncReadExt as _;
    let Some(mut errors) = errors else { return String::new() };
    let (mut log, mut buffer) = (Vec::new(), vec![0; 8192]);
    while let Ok(count @ 1..) = errors.read(&mut buffer).await {
        log.extend_from_slice(&buffer[..count]);
        let surplus = log.len().saturating_sub(4096);
        log.drain(..surplus);
    }
    String::from_utf8_lossy(&log).into_owned()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
