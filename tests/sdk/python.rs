//! The official OpenTelemetry SDK for Python sends through the collector, and its trace is found whole at the intake.
//!
//! Needs `python3` with `venv` and `pip`, and a package index that pip can reach; where one is missing the tests fail and
//! say what to install. Bytes that our own SDK did not make: that is what this adds to `tests/it`.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    INSTALL, Protocol, RUN, Sdk, System, here,
    program::{self, command, run},
    send, wait_for, workshop,
};
use tokio::{process::Command, sync::OnceCell};

const SDK: Sdk =
    Sdk { language: "python", exception: "ValueError", error: "ValueError: no such order" };

#[tokio::test]
async fn a_trace_of_the_python_sdk_arrives_whole_over_grpc() {
    check("grpc").await;
}

#[tokio::test]
async fn a_trace_of_the_python_sdk_arrives_whole_over_http() {
    check("http/protobuf").await;
}

#[tokio::test]
async fn a_trace_that_reached_no_collector_is_missed() {
    let system = System::start().await;
    let nobody = format!("http://{}", system.collector.address("otlp-grpc"));
    system.collector.stop().await;
    let sent = send(sender(interpreter().await), Protocol("grpc"), &nobody).await;
    let sent = sent.unwrap_or_else(|error| panic!("{error}"));

    let url = system.intake.url("http");
    let missed = wait_for(&url, sent.trace_id, 2, Duration::from_millis(100)).await.unwrap_err();
    assert!(missed.starts_with("0 of 2 spans arrived within 100ms"), "{missed}");
    let shown = program::output("show", &[&sent.trace_id.to_string(), "--intake", &url]).await;
    let error = shown.unwrap_err();
    assert!(error.contains(&format!("has captured no span of trace {}", sent.trace_id)), "{error}");
    system.intake.stop().await;
}

async fn check(protocol: &'static str) {
    let interpreter = interpreter().await;
    let system = System::start().await;
    system.check_every_way(SDK, Protocol(protocol), || sender(interpreter)).await;
    system.stop().await;
}

fn sender(interpreter: &Path) -> Command {
    let mut python = command(interpreter);
    python.arg(here().join("python/send.py"));
    // The library `requests` prefers these to the authorities that the SDK gives it.
    python.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
    python
}

/// The interpreter of a virtual environment that has the SDK; made once, and again when the requirements change.
async fn interpreter() -> &'static Path {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        make(&workshop("python_sdk-venv")).await.unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

async fn make(venv: &Path) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    let requirements = here().join("python/requirements.txt");
    let wanted = fs::read(&requirements).map_err(|error| format!("{requirements:?}: {error}"))?;
    // Written last, so that a half-made environment is not taken for a whole one.
    let installed = venv.join("installed.txt");
    let current = fs::read(&installed).is_ok_and(|has| has == wanted);
    if current && run(command(&python).arg("--version"), RUN).await.is_ok() {
        return Ok(python);
    }

    let mut create = command("python3");
    create.args(["-m", "venv", "--clear"]).arg(venv);
    run(&mut create, RUN).await.map_err(|error| {
        format!(
            "these tests need Python 3.10 or later with venv and pip: install python3 and \
             python3-venv (Debian's names), then run them again\n{error}"
        )
    })?;
    let mut install = command(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(&requirements);
    run(&mut install, INSTALL).await.map_err(|error| {
        format!(
            "pip cannot install what {} lists: these tests need a package index that pip can reach, and \
             Python 3.10 or later\n{error}",
            requirements.display()
        )
    })?;
    fs::write(&installed, wanted).map_err(|error| format!("{installed:?}: {error}"))?;
    Ok(python)
}
