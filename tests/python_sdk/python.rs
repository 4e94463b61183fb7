//! A Python environment of the tests' own, and the program that sends from it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::sync::OnceCell;

use crate::{
    Sent, here,
    program::{command, run},
};

/// How long pip may take to download and install.
const INSTALL: Duration = Duration::from_secs(300);
/// How long a small Python program may take.
const RUN: Duration = Duration::from_secs(60);

/// Sends a trace with the Python SDK, or tries to; the protocol is as `OTEL_EXPORTER_OTLP_PROTOCOL` has it. What the SDK
/// complains about goes to the test's own output.
///
/// # Errors
///
/// When the program ends badly.
pub(crate) async fn send(protocol: &str, endpoint: &str) -> Result<Sent, String> {
    let resource = [
        "service.version=1.2.3",
        "deployment.environment.name=test",
        // As the specification has it: values are percent-encoded.
        "team=gr%C3%B6%C3%9Fer%20%26%20s%C3%B6hne",
    ];
    let mut python = command(interpreter().await);
    python
        .arg(here().join("send.py"))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_SERVICE_NAME", "orders")
        .env("OTEL_RESOURCE_ATTRIBUTES", resource.join(","))
        .env("NO_PROXY", "127.0.0.1")
        .stderr(Stdio::inherit());
    let printed = run(&mut python, RUN).await?;
    serde_json::from_str(&printed).map_err(|error| format!("send.py printed {printed:?}: {error}"))
}

/// The interpreter of a virtual environment that has the SDK; made once, and again when the requirements change.
async fn interpreter() -> &'static Path {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python_sdk-venv");
        make(&dir).await.unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

async fn make(venv: &Path) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    let requirements = here().join("requirements.txt");
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
