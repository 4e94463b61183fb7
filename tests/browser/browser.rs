//! A browser that is driven over WebDriver.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use thirtyfour::{
    By, ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Longest wait for something to be in sight.
const WITHIN: Duration = Duration::from_secs(20);

/// Returns whether an address is the page's own, a picture in it, or one of the browser's own pages, which it began with.
pub(crate) fn is_own(url: &str, page: &str) -> bool {
    [page, "data:", "chrome:", "chrome-untrusted:"].iter().any(|own| url.starts_with(own))
}

/// Returns the program: `TRACECHECK`, or what `cargo build` makes of this repository.
pub(crate) fn tracecheck() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/tracecheck");
    let program = std::env::var_os("TRACECHECK").map_or(built, PathBuf::from);
    assert!(
        program.exists(),
        "{} is missing: `cargo build` makes it, `TRACECHECK` names another",
        program.display()
    );
    program
}

/// A browser with one page.
pub(crate) struct Browser {
    driver: WebDriver,
    _profile: tempfile::TempDir,
    _process: Child,
}

impl Browser {
    /// Opens a file.
    pub(crate) async fn open(file: &Path) -> Self {
        Self::open_url(&format!("file://{}", file.display())).await
    }

    /// Opens an address, and waits until the page is shown.
    pub(crate) async fn open_url(url: &str) -> Self {
        let process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = process.unwrap_or_else(|error| {
            panic!("chromedriver cannot be started ({error}): install Debian's packages `chromium` and `chromium-driver`")
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = loop {
            let line = timeout(WITHIN, lines.next_line()).await.unwrap().unwrap();
            let line = line.expect("chromedriver ended before it served");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // What it prints later is read, so that it never waits for room.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1600,900",
            &folder,
        ];
        let mut wanted = DesiredCapabilities::chrome();
        for arg in args {
            wanted.add_arg(arg).unwrap();
        }
        wanted.set_logging_prefs("performance", LoggingPrefsLogLevel::All).unwrap();
        // The driver's client needs one, though it speaks plain HTTP.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await;
        let page = Self {
            driver: driver.expect("a session of chromium begins"),
            _profile: profile,
            _process: process,
        };
        page.driver.goto(url).await.unwrap();
        page.shown().await;
        page
    }

    /// Waits until a view is drawn.
    async fn shown(&self) {
        self.until(
            "the page is shown",
            "return document.documentElement.dataset.shown !== undefined",
        )
        .await;
    }

    /// Runs a script in the page.
    pub(crate) async fn eval(&self, script: &str) -> Value {
        self.driver.execute(script, Vec::new()).await.unwrap().json().clone()
    }

    /// Waits until a script returns true.
    async fn until(&self, what: &str, script: &str) {
        let began = Instant::now();
        while self.eval(script).await != true {
            assert!(
                began.elapsed() < WITHIN,
                "{what}: not within {WITHIN:?}; the page is\n{}",
                self.text("body").await
            );
            tokio::task::yield_now().await;
        }
    }

    /// Goes to a place within the page, and waits until it is drawn.
    pub(crate) async fn go(&self, hash: &str) {
        self.timed(hash).await;
    }

    /// Goes to a place, and returns after how many milliseconds its picture is there.
    pub(crate) async fn timed(&self, hash: &str) -> f64 {
        let script = "const [hash, done] = arguments; if (location.hash === hash) return done(0);
            delete document.documentElement.dataset.shown;
            const began = performance.now(); location.hash = hash;
            const look = () => document.documentElement.dataset.shown === undefined ? requestAnimationFrame(look)
                : requestAnimationFrame(() => done(performance.now() - began));
            look();";
        let took = timeout(WITHIN, self.driver.execute_async(script, vec![json!(hash)])).await;
        took.unwrap_or_else(|_| panic!("{hash} is not shown")).unwrap().json().as_f64().unwrap()
    }

    /// Returns all texts of the elements that a selector selects.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let script = format!(
            "return [...document.querySelectorAll({})].map((one) => one.textContent).join('\\n')",
            json!(selector)
        );
        self.eval(&script).await.as_str().unwrap().to_owned()
    }

    /// Waits until one of the elements that a selector selects has this text.
    pub(crate) async fn shows(&self, selector: &str, text: &str) {
        let script = format!(
            "return [...document.querySelectorAll({})].some((one) => one.textContent.includes({}))",
            json!(selector),
            json!(text)
        );
        self.until(&format!("{selector} shows {text:?}"), &script).await;
    }

    /// Waits until nothing is selected any more.
    pub(crate) async fn gone(&self, selector: &str) {
        let script = format!("return document.querySelector({}) === null", json!(selector));
        self.until(&format!("{selector} is gone"), &script).await;
    }

    /// Waits until what an address that begins so names is drawn.
    pub(crate) async fn at(&self, hash: &str) {
        let script = format!(
            "return location.hash.startsWith({}) && document.documentElement.dataset.at === location.hash",
            json!(hash)
        );
        self.until(&format!("the address is {hash}"), &script).await;
    }

    pub(crate) async fn address(&self) -> String {
        self.eval("return location.hash").await.as_str().unwrap().to_owned()
    }

    /// Presses a key as a user does, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &str) {
        self.driver.action_chain().send_keys(keys).perform().await.unwrap();
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.driver.find(By::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Writes into a field in place of what is there.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let field = self.driver.find(By::Css(selector)).await.unwrap();
        field.click().await.unwrap();
        self.eval(&format!("document.querySelector({}).select()", json!(selector))).await;
        field.send_keys(if text.is_empty() { "\u{e017}" } else { text }).await.unwrap();
    }

    async fn devtools(&self, command: &str, params: Value) -> Value {
        self.driver.cdp().send_raw(command, params).await.unwrap()
    }

    /// Shows the page as a screen of this size with this colour scheme.
    pub(crate) async fn emulate(&self, scheme: &str, width: u32, height: u32) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Writes a picture of what is in sight.
    pub(crate) async fn picture(&self, file: &Path) {
        let picture = self.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// Returns the addresses of everything that the page had fetched so far.
    pub(crate) async fn fetched(&self) -> Vec<String> {
        let log = self.driver.get_log("performance").await.unwrap();
        let events = log
            .iter()
            .map(|entry| serde_json::from_str::<Value>(&entry.message).unwrap()["message"].take());
        let requests = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        requests
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) async fn end(self) {
        self.driver.quit().await.unwrap();
    }
}
