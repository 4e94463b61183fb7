//! The official OpenTelemetry SDK for Node.js sends through the collector, and its trace is found whole at the intake.
//!
//! Needs Node.js 20.6 or later with `npm`, and a package registry that npm can reach; where one is missing the tests fail
//! and say what to install. Its exporters know all three protocols, JSON among them.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    INSTALL, Protocol, Sdk, System, here,
    program::{command, run},
    workshop,
};
use tokio::{process::Command, sync::OnceCell};

const SDK: Sdk = Sdk { language: "nodejs", exception: "RangeError", error: "no such order" };

#[tokio::test]
async fn a_trace_of_the_node_sdk_arrives_whole_over_grpc() {
    check("grpc").await;
}

#[tokio::test]
async fn a_trace_of_the_node_sdk_arrives_whole_over_http_as_protobuf() {
    check("http/protobuf").await;
}

#[tokio::test]
async fn a_trace_of_the_node_sdk_arrives_whole_over_http_as_json() {
    check("http/json").await;
}

async fn check(protocol: &'static str) {
    let program = program().await;
    let system = System::start().await;
    system.check_every_way(SDK, Protocol(protocol), || sender(program)).await;
    system.stop().await;
}

fn sender(program: &Path) -> Command {
    let mut node = command("node");
    // What the SDK complains about is printed to stderr.
    node.arg(program).env("OTEL_LOG_LEVEL", "warn");
    // Only what the test says of the resource: a host's name would be another's on each machine.
    node.env("OTEL_NODE_RESOURCE_DETECTORS", "env");
    node
}

/// The sending program in a folder that has the SDK; made once, and again when the versions change.
async fn program() -> &'static Path {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        make(&workshop("node_sdk")).await.unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

async fn make(dir: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for name in ["package.json", "package-lock.json", "send.js"] {
        let from = here().join("node").join(name);
        fs::copy(&from, dir.join(name)).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    let lock = dir.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    // Written last, so that a half-made folder is not taken for a whole one.
    let installed = dir.join("installed.json");
    if !fs::read(&installed).is_ok_and(|has| has == wanted) {
        let mut install = command("npm");
        install
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
            .current_dir(dir);
        run(&mut install, INSTALL).await.map_err(|error| {
            format!(
                "these tests need Node.js 20.6 or later with npm, and a package registry that npm can reach: install \
                 nodejs and npm (Debian's names), then run them again\n{error}"
            )
        })?;
        fs::write(&installed, wanted)
            .map_err(|error| format!("{}: {error}", installed.display()))?;
    }
    Ok(dir.join("send.js"))
}
