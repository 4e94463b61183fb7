//! The queue on disk, with the real program: killed, started again, out of room, damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stub_server::StubServer;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::{answer, intake, payloads, recover, request, span_ids, stats, until_within};

/// How long anything may take; processes start and end meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// A collector in a process of its own.
struct Process {
    child: Child,
    listening: serde_json::Value,
    log: Arc<Mutex<String>>,
    /// Task that reads the log until its end.
    reader: tokio::task::JoinHandle<()>,
}

impl Process {
    async fn start(intake: &StubServer, directory: &Path, settings: &[&str]) -> Self {
        Self::start_for(intake, directory, settings, "30s").await
    }

    /// As [`Self::start`], with so much time for a shutdown.
    async fn start_for(
        intake: &StubServer,
        directory: &Path,
        settings: &[&str],
        time: &str,
    ) -> Self {
        // The tests' own client needs one; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let yaml = format!(
            r#"yaml:
            receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
            processors: {{batch: {{timeout: 50ms, send_batch_size: 100}}}}
            exporters:
              datadog:
                api: {{key: "0123456789abcdef0123456789abcdef"}}
                hostname: test-host
                metrics: {{endpoint: "{0}"}}
                traces: {{endpoint: "{0}"}}
                host_metadata: {{enabled: false}}
                sending_queue: {{storage: file_storage}}
                retry_on_failure: {{initial_interval: 10ms, max_interval: 20ms}}
            extensions: {{health_check: {{endpoint: "127.0.0.1:0"}}, file_storage: {{directory: "{1}"}}}}
            service:
              extensions: [health_check, file_storage]
              telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}
              pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [datadog]}}}}
            "#,
            intake.uri(),
            directory.display()
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.env_clear().args(["--config", &yaml, "--shutdown-timeout", time]);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (errors, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = tokio::spawn(async move {
            let mut read = BufReader::new(errors).lines();
            while let Ok(Some(line)) = read.next_line().await {
                *lines.lock().unwrap() += &(line + "\n");
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
        let read = timeout(PATIENCE, stdout.read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("no listening line: {}", log.lock().unwrap())).unwrap();
        let listening = serde_json::from_str::<serde_json::Value>(&line);
        let listening = listening.unwrap_or_else(|_| panic!("{}", log.lock().unwrap()));
        Self { child, listening: listening["listening"].clone(), log, reader }
    }

    fn url(&self, port: &str, path: &str) -> String {
        format!("http://{}{path}", self.listening[port].as_str().unwrap())
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text =
            reqwest::get(self.url("metrics", "/metrics")).await.unwrap().text().await.unwrap();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Kills it, as the kernel does when there is no memory left.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end and waits; returns the exit code and the log.
    async fn end(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-s", "TERM", &pid]).status().await;
        assert!(kill.unwrap().success());
        let ended =
            timeout(PATIENCE, async { (self.child.wait().await, (&mut self.reader).await) });
        let (status, read) = match ended.await {
            Ok(ended) => ended,
            Err(_) => panic!("it does not end: {}", self.log()),
        };
        read.unwrap();
        (status.unwrap().code(), self.log())
    }
}

/// Waits until a condition holds, for at most [`PATIENCE`].
async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, holds).await;
}

/// Sends one span; the status, or none if there was no answer.
async fn send(http: &reqwest::Client, url: &str, id: u64) -> Option<u16> {
    let post = http.post(url).header(PROTOBUF.0, PROTOBUF.1).body(request([id]));
    post.send().await.ok().map(|response| response.status().as_u16())
}

/// Senders that go on until they are asked to stop; each id is sent until it is acknowledged or nobody answers.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(url: &str, first: u64) -> Self {
        let (acknowledged, stop) =
            (Arc::<Mutex<BTreeSet<u64>>>::default(), Arc::new(AtomicBool::new(false)));
        let sender = |lane: u64| {
            let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
            let url = url.to_owned();
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                let mut id = first + lane * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    match send(&http, &url, id).await {
                        Some(200) => {
                            acknowledged.lock().unwrap().insert(id);
                            id += 1;
                        }
                        // Refused at first: it is sent again at once.
                        Some(_) => tokio::task::yield_now().await,
                        None => return,
                    }
                }
            })
        };
        let tasks = (0..4).map(sender).collect();
        Self { acknowledged, stop, tasks }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn stop(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

fn journal_files(directory: &Path) -> Vec<PathBuf> {
    let queue = directory.join("exporter_datadog_traces");
    let files = std::fs::read_dir(queue).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == "journal")).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_collector_is_killed_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake().await;
    // Some are refused at first, so that the kill finds spans in every state.
    answer(&intake, 503, 20).await;
    answer(&intake, 202, u64::MAX).await;
    let (mut acknowledged, mut restored) = (BTreeSet::new(), 0);
    for round in 0..4 {
        let process = Process::start(&intake, directory.path(), &[]).await;
        restored += process.metric("otelcol_exporter_possible_duplicate_spans").await;
        let load = Load::start(&process.url("otlp-http", "/v1/traces"), 1 + round * 10_000_000);
        until("spans are acknowledged", async || load.count() > 300).await;
        process.kill().await;
        acknowledged.extend(load.stop().await);
    }
    let process = Process::start(&intake, directory.path(), &[]).await;
    restored += process.metric("otelcol_exporter_possible_duplicate_spans").await;
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    // The first twenty were refused.
    let ids = span_ids(&payloads(&intake).await[20..]);
    let arrived: BTreeSet<_> = ids.iter().copied().collect();
    let lost: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    let again = (ids.len() - arrived.len()) as u64;
    assert!(again <= restored, "{again} arrived twice, {restored} are counted");
    assert!(restored > 0, "the kills found spans in progress");
    let groups = stats(&intake).await;
    let hits: u64 = (groups.iter().flat_map(|payload| &payload.stats))
        .flat_map(|client| &client.stats)
        .flat_map(|bucket| &bucket.stats)
        .map(|group| group.hits)
        .sum();
    assert_eq!(hits, arrived.len() as u64, "each span is in the stats once");
    let process = Process::start(&intake, directory.path(), &[]).await;
    assert_eq!(process.metric("otelcol_exporter_enqueued_spans").await, 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shutdown_cannot_send_stays_on_disk_and_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let process = Process::start_for(&intake, directory.path(), &[], "1s").await;
    let (http, url) = (reqwest::Client::new(), process.url("otlp-http", "/v1/traces"));
    for id in 1..=20 {
        assert_eq!(send(&http, &url, id).await, Some(200));
    }
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("note: 20 spans could not be sent within 1s"), "{log}");
    assert!(log.contains("they are on disk, and are sent after the next start"), "{log}");
    let recovered = recover(&intake).await;
    let process = Process::start(&intake, directory.path(), &[]).await;
    until("it is reported", async || {
        process.log().contains("storage has spans from an earlier run")
    })
    .await;
    until("all sent", async || process.metric("otelcol_exporter_sent_spans").await == 20).await;
    assert_eq!(process.end().await.0, Some(0));
    assert_eq!(span_ids(&recovered.payloads()), (1..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_without_room_holds_senders_then_refuses_and_what_it_took_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let process =
        Process::start(&intake, directory.path(), &["extensions.file_storage.max_size_mib=1"])
            .await;
    let (http, url) = (reqwest::Client::new(), process.url("otlp-http", "/v1/traces"));
    let post = |number: u64| {
        let first = 1 + number * 300;
        let post = http.post(&url).header(PROTOBUF.0, PROTOBUF.1).body(request(first..first + 300));
        tokio::spawn(async move {
            let response = post.send().await.unwrap();
            let after = response.headers().get("retry-after").cloned();
            (response.status().as_u16(), after)
        })
    };
    let held = async || process.metric("otelcol_exporter_held_requests").await;
    let begun = Instant::now();
    let mut accepted = 0;
    let first_held = loop {
        let one = post(accepted);
        until("it is answered or held", async || one.is_finished() || held().await > 0).await;
        if held().await > 0 {
            break one;
        }
        assert_eq!(one.await.unwrap(), (200, None));
        accepted += 1;
        assert!(accepted < 1000, "1 MiB holds no more than that");
    };
    assert!(accepted > 50, "{accepted}");
    let others: Vec<_> = (0..10).map(|_| post(accepted)).collect();
    for refused in std::iter::once(first_held).chain(others) {
        assert_eq!(refused.await.unwrap(), (503, Some("1".parse().unwrap())), "after a while");
    }
    assert!(begun.elapsed().as_secs() >= 8, "{:?}", begun.elapsed());
    assert!(process.metric("otelcol_exporter_storage_bytes").await <= 1 << 20);
    assert_eq!(process.metric("otelcol_exporter_enqueue_failed_spans").await, 11 * 300);

    let last = post(accepted);
    until("it is held", async || held().await == 12).await;
    let recovered = recover(&intake).await;
    assert_eq!(last.await.unwrap(), (200, None), "as soon as there is room");
    let spans = (accepted + 1) * 300;
    until("all sent", async || process.metric("otelcol_exporter_sent_spans").await == spans).await;
    assert_eq!(span_ids(&recovered.payloads()), (1..=spans).collect::<Vec<_>>());
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_storage_is_reported_and_the_rest_of_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let process = Process::start(&intake, directory.path(), &[]).await;
    let (http, url) = (reqwest::Client::new(), process.url("otlp-http", "/v1/traces"));
    for id in 1..=50 {
        assert_eq!(send(&http, &url, id).await, Some(200));
    }
    process.kill().await;
    let file = journal_files(directory.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let (middle, end) = (bytes.len() / 2, bytes.len() - 5);
    bytes[middle] ^= 0xff;
    bytes.truncate(end);
    std::fs::write(&file, bytes).unwrap();
    let recovered = recover(&intake).await;
    let process = Process::start(&intake, directory.path(), &[]).await;
    until("it is reported", async || process.log().contains("storage is damaged")).await;
    // The last one cannot be distinguished from one that was never written whole; that one in the middle is gone can be.
    assert_eq!(process.metric("otelcol_exporter_storage_lost_requests").await, 1);
    assert!(process.metric("otelcol_exporter_storage_damaged_bytes").await > 0);
    until("48 sent", async || process.metric("otelcol_exporter_sent_spans").await == 48).await;
    assert_eq!(span_ids(&recovered.payloads()).len(), 48);
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_is_for_one_collector() {
    let directory = tempfile::tempdir().unwrap();
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let process = Process::start(&intake, directory.path(), &[]).await;
    let (http, url) = (reqwest::Client::new(), process.url("otlp-http", "/v1/traces"));
    assert_eq!(send(&http, &url, 1).await, Some(200));
    let yaml = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, exporters: {{datadog: {{api: {{key: a}}, sending_queue: {{storage: file_storage}}}}}}, extensions: {{file_storage: {{directory: '{}', timeout: 1ms}}}}, service: {{extensions: [file_storage], telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [datadog]}}}}}}}}",
        directory.path().display()
    );
    let second = Command::new(env!("CARGO_BIN_EXE_collector")).args(["--config", &yaml]).output();
    let second = timeout(PATIENCE, second).await.expect("it ends").unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{error}");
    let begin = "error: exporter `datadog`: `sending_queue.storage`: cannot lock ";
    assert!(error.starts_with(begin), "{error}");
    assert!(error.contains("give each one a `directory` of its own"), "{error}");
    assert_eq!(process.end().await.0, Some(0));
}
