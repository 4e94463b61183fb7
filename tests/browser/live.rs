//! The intake's own page: the same program, with what the intake has.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::browser::{Browser, is_own};

/// An intake of its own, which ends with the test.
struct Intake(Child, String);

impl Intake {
    fn start() -> Self {
        let mut child = Command::new(crate::browser::tracecheck())
            .args(["intake", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = format!("http://{}", line["listening"]["http"].as_str().unwrap());
        Self(child, address)
    }

    /// Sends a span as OTLP.
    async fn send(&self, trace: &str, name: &str) {
        let span = json!({
            "traceId": trace, "spanId": "00f067aa0ba902b7", "name": name, "kind": 2,
            "startTimeUnixNano": "1795386186423000000", "endTimeUnixNano": "1795386186431500000",
            "events": [{ "name": "a cup fell", "timeUnixNano": "1795386186424000000", "attributes": [] }],
        });
        let resource = json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "shop" } }] });
        let body = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] });
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .post(format!("{}/v1/traces", self.1))
            .header("dd-api-key", "0123456789abcdef0123456789abcdef")
            .json(&body)
            .send()
            .await;
        assert!(sent.unwrap().status().is_success());
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[tokio::test]
async fn the_intakes_page_follows_what_arrives_and_opens_spans() {
    let intake = Intake::start();
    let page = Browser::open_url(&intake.1).await;
    page.shows("#view", "Nothing was accepted yet.").await;
    let id = "0af7651916cd43dd8448eb211c80319c";
    intake.send(id, "GET /cart").await;
    page.shows(".trow", "GET /cart").await;
    page.shows("#counts", "1 trace, 1 span accepted").await;
    intake.send("0af7651916cd43dd8448eb211c80319d", "</script><img src=x>").await;
    page.shows(".trow", "</script><img src=x>").await;
    page.type_into("#search", "cart").await;
    page.shows("[role=status]", "1 trace of 2").await;
    page.go(&format!("#/trace/{id}/00f067aa0ba902b7")).await;
    page.shows(".panel", "a cup fell").await;
    page.shows(".panel", "Raw OTLP").await;
    page.shows(".panel .raw", "\"traceId\": \"0af7651916cd43dd8448eb211c80319c\"").await;
    page.shows(".panel", "Datadog creates its own on its side").await;
    page.go("#/map").await;
    page.shows(".graph", "shop").await;
    page.go("#/stats").await;
    page.shows("#view", "No stats were accepted yet.").await;
    for view in ["#/traces", "#/map", "#/stats", &format!("#/trace/{id}/00f067aa0ba902b7")] {
        for scheme in ["light", "dark"] {
            page.emulate(scheme, 1600, 900).await;
            page.go(view).await;
            assert_eq!(page.eval(include_str!("contrast.js")).await, json!([]), "{view} {scheme}");
        }
    }
    let foreign: Vec<String> = page.fetched().await;
    let foreign: Vec<_> = foreign.iter().filter(|url| !is_own(url, &intake.1)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    page.end().await;
}

/// A run with its page, which ends with the test.
struct Ui(Child, String);

impl Ui {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(crate::browser::tracecheck())
            .args(["ui", "--page", "127.0.0.1:0"])
            .args(args)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            line.strip_prefix("the page of this run is ")
                .map(|url| url.trim_end_matches('/').to_owned())
        });
        // What it prints later is read, so that it never waits for room.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, address.unwrap())
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        // It takes down what it started.
        let _asked = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _gone = self.0.wait();
    }
}

#[tokio::test]
async fn the_page_of_a_run_shows_verdicts_as_they_come_and_stays() {
    let run =
        Ui::start(&["scenarios", "--filter", "happy-path", "--filter", "second-hop-answers-503"]);
    let page = Browser::open_url(&run.1).await;
    // Whatever it showed first, all of it comes without a click.
    page.shows("h1", "✓ pass").await;
    page.shows("#view", "happy-path").await;
    page.shows("#view", "second-hop-answers-503").await;
    let of = "return document.querySelectorAll('#view tbody .badge.pass').length";
    assert_eq!(page.eval(of).await, 2);
    page.go("#/traces?verdict=pass").await;
    page.shows(".trow.pass", "GET /outgoing-sampleapp").await;
    let id = page.eval("return document.querySelector('.trow.pass .id').textContent").await;
    page.go(&format!("#/trace/{}", id.as_str().unwrap())).await;
    page.shows(".waterfall", "sample-app-2").await;
    page.keys("j").await;
    page.keys("\u{e007}").await;
    page.shows(".panel", "Raw Datadog payload").await;
    for view in ["#/", "#/traces", "#/map", "#/ledger", "#/stats", "#/scenario/happy-path"] {
        page.go(view).await;
        assert_eq!(page.eval(include_str!("contrast.js")).await, json!([]), "{view}");
    }
    let foreign: Vec<String> = page.fetched().await;
    let foreign: Vec<_> = foreign.iter().filter(|url| !is_own(url, &run.1)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    page.end().await;
}
