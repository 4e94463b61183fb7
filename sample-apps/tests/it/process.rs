//! The program itself: listening line, signals, exit codes, messages.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time;

use crate::support::{DEADLINE, Receiver, TRACEPARENT, get};

fn command(vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample-app"));
    command.env_clear().envs(vars.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program and waits for its listening line.
async fn start(vars: &[(&str, &str)]) -> (Child, String) {
    let mut child = command(&[&[("LISTEN_ADDR", "127.0.0.1:0")], vars].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("http://{}", line["listening"]["http"].as_str().unwrap());
    (child, url)
}

/// Sends a signal and returns the exit code and what was written on standard error.
async fn stop(child: Child, signal: &str) -> (i32, String) {
    let kill = format!("kill -{signal} {}", child.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    let output = time::timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_flushes_the_spans_and_exits_0() {
    for (signal, protocol) in [("TERM", "grpc"), ("INT", "grpc"), ("TERM", "http/protobuf")] {
        let receiver = Receiver::start().await;
        let endpoint = if protocol == "grpc" { &receiver.grpc } else { &receiver.http };
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ];
        let (child, url) = start(&vars).await;
        let answer = get(&url, &[TRACEPARENT], DEADLINE).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(receiver.spans().is_empty());
        let (code, stderr) = stop(child, signal).await;
        assert_eq!((code, receiver.spans().len()), (0, 1), "{signal} {protocol}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_is_reported_and_exits_1() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
    ];
    let (child, url) = start(&vars).await;
    get(&url, &[], DEADLINE).await.unwrap();
    let (code, stderr) = stop(child, "TERM").await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("error: 1 of 1 sampled spans were not delivered: "), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_exporter_writes_spans_to_standard_error() {
    let (child, url) = start(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    get(&url, &[TRACEPARENT], DEADLINE).await.unwrap();
    let (code, stderr) = stop(child, "TERM").await;
    assert_eq!(code, 0, "{stderr}");
    let span = stderr
        .lines()
        .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .unwrap();
    assert_eq!(
        (&span["name"], &span["parent_span_id"]),
        (&"GET /".into(), &"00000000000000aa".into())
    );
}

async fn refused(vars: &[(&str, &str)]) -> String {
    let output =
        time::timeout(Duration::from_secs(10), command(vars).output()).await.unwrap().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let stderr = refused(&[("LISTEN_ADDR", &address)]).await;
    assert!(
        stderr.starts_with(&format!("error: LISTEN_ADDR={address}: cannot listen there: ")),
        "{stderr}"
    );
    assert!(stderr.contains("port 0 for a free one"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_be_used_is_refused() {
    for (name, value) in [
        ("LISTEN_ADDR", "8080"),
        ("UPSTREAM_URIS", "next:8080"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("HTTP_CLIENT_REQUEST_TIMEOUT", "fast"),
        ("ERROR_RATE", "often"),
        ("ERROR_TYPE", "explode"),
        ("OTEL_PROPAGATORS", "b3"),
    ] {
        let stderr = refused(&[(name, value)]).await;
        assert!(stderr.starts_with(&format!("error: {name}={value:?}: ")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
