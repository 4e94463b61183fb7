//! Subcommands of `tracecheck` as processes that end with the test.

use std::{collections::BTreeMap, ffi::OsStr, net::SocketAddr, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const TRACECHECK: &str = env!("CARGO_BIN_EXE_tracecheck");
/// How long a program has to get ready.
const START: Duration = Duration::from_secs(20);
/// How long a program has to end, once it was asked to or has done its work.
const END: Duration = Duration::from_secs(30);

/// A program that serves until it is stopped. Dropped before that, it is killed.
pub(crate) struct Program {
    name: String,
    child: Child,
    ports: BTreeMap<String, SocketAddr>,
    /// Open as long as the program runs, so that nothing it prints ends it.
    _stdout: BufReader<ChildStdout>,
}

/// The line that a program prints when all its ports are bound.
#[derive(Deserialize)]
struct Listening {
    listening: BTreeMap<String, SocketAddr>,
}

impl Program {
    /// Starts it, and waits until it listens. What it logs goes to the test's own output.
    pub(crate) async fn start(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(TRACECHECK);
        command.arg(name).args(args).envs(variables.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        match timeout(START, stdout.read_line(&mut line)).await {
            Ok(Ok(1..)) => {}
            other => panic!("tracecheck {name} did not say where it listens: {other:?}"),
        }
        let listening: Listening = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("tracecheck {name} printed {line:?}: {error}"));
        Self { name: name.to_owned(), child, ports: listening.listening, _stdout: stdout }
    }

    /// Returns the address of one of its ports.
    pub(crate) fn address(&self, port: &str) -> SocketAddr {
        *self.ports.get(port).unwrap_or_else(|| {
            panic!("tracecheck {} has no port `{port}`: {:?}", self.name, self.ports)
        })
    }

    /// `http://host:port` of one of its ports.
    pub(crate) fn url(&self, port: &str) -> String {
        format!("http://{}", self.address(port))
    }

    /// Asks it to end; fails the test unless it does so with exit code 0.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().unwrap_or_else(|| panic!("tracecheck {} ended early", self.name));
        let pid = Pid::from_raw(i32::try_from(id).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("the program can be asked to end");
        let status = timeout(END, self.child.wait()).await;
        match status {
            Ok(Ok(status)) => assert!(status.success(), "tracecheck {}: {status}", self.name),
            other => panic!("tracecheck {} did not end: {other:?}", self.name),
        }
    }
}

/// Returns the output of a subcommand that ends by itself.
///
/// # Errors
///
/// As of [`run`].
pub(crate) async fn output(name: &str, args: &[&str]) -> Result<String, String> {
    run(command(TRACECHECK).arg(name).args(args), END).await.map(|printed| printed.stdout)
}

/// A command that is killed when the test ends. Variables of the caller's shell that would change what the SDK or
/// `tracecheck` does are taken away.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("DD_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Output of a program.
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end, and returns what it printed.
///
/// # Errors
///
/// When it cannot be started, takes longer than `limit`, or ends badly: with all that it printed.
pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<Printed, String> {
    let shown = format!("{:?}", command.as_std());
    let output = match timeout(limit, command.output()).await {
        Err(_) => return Err(format!("{shown} did not end within {limit:?}")),
        Ok(Err(error)) => return Err(format!("{shown} cannot be started: {error}")),
        Ok(Ok(output)) => output,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = Printed { stdout: text(&output.stdout), stderr: text(&output.stderr) };
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!("{shown} ended with {}\n{}{}", output.status, printed.stdout, printed.stderr))
}
