//! `tracecheck ui`: a run with its page.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{ScenarioFile, TRACECHECK, root, tracecheck};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run with its page, which ends with the test.
struct Ui {
    child: Child,
    stderr: std::io::Lines<BufReader<ChildStderr>>,
    url: String,
}

impl Ui {
    fn start(scenario: &str) -> Self {
        let mut child = Command::new(TRACECHECK)
            .args(["ui", scenario, "--page", "127.0.0.1:0"])
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = stderr.next().unwrap().unwrap();
        let url = line.strip_prefix("the page of this run is ").expect(&line).to_owned();
        Self { child, stderr, url }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let answer = client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn index(&self) -> Value {
        serde_json::from_str(&self.get("_intake/page").await.1).unwrap()
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test]
async fn the_page_is_there_before_the_verdict_and_after_it_until_it_is_ended() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let file = ScenarioFile::new(
        "name: shown\ndescription: A request.\nrequests:\n  - { get: /outgoing-sampleapp }\nexpect: { within: 5s }\n",
    );
    let mut ui = Ui::start(&file.path());
    assert!(ui.get("").await.1.starts_with("<!doctype html>"));
    let first = ui.index().await;
    assert_eq!((&first["kind"], &first["verdict"]), (&"run".into(), &"running".into()));
    // The page is woken, so that it need not ask again and again.
    let mut stream = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}_intake/events", ui.url))
        .send()
        .await
        .unwrap();
    let began = Instant::now();
    let last = loop {
        let index = ui.index().await;
        if index["verdict"] != "running" {
            break index;
        }
        assert!(began.elapsed() < PATIENCE, "{index:#}");
        let woken = tokio::time::timeout(PATIENCE, stream.chunk()).await.unwrap().unwrap();
        assert!(woken.is_some(), "the stream ended: {index:#}");
    };
    assert_eq!(last["verdict"], "pass", "{last:#}");
    assert_eq!(last["scenarios"][0]["name"], "shown");
    let id = last["traces"][0]["id"].as_str().unwrap();
    let (status, detail) = ui.get(&format!("_intake/page/{id}")).await;
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert_eq!((status, detail["trace"]["spans"].as_array().unwrap().len()), (200, 4));
    // With what was sent, though the intake is gone.
    assert!(detail["trace"]["payloads"][0]["shared"].is_object(), "{detail:#}");
    assert_eq!(ui.get("_intake/page/00000000000000000000000000000001").await.0, 404);
    assert_eq!(ui.get("_intake/page/x").await.0, 400);
    let stays = ui.stderr.find(|line| line.as_ref().unwrap().starts_with("the page stays at "));
    assert!(stays.is_some());
    let pid = nix::unistd::Pid::from_raw(ui.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(ui.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_cannot_be_had_is_refused_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let ran = tracecheck(&["ui", "scenarios", "--page", &taken]).expect_code(2);
    assert_eq!(ran.stdout, "");
    ran.expect_stderr(&format!("--page {taken}: the port is in use"))
        .expect_stderr("`--page 127.0.0.1:0`");
    tracecheck(&["ui", "scenarios", "--page", "nowhere"])
        .expect_code(2)
        .expect_stderr("--page nowhere: ");
    tracecheck(&["ui", "scenarios", "--compare-with-collector", "x.yaml"])
        .expect_code(2)
        .expect_stderr("use it with `tracecheck run`");
}
