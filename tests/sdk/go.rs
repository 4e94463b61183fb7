//! The official OpenTelemetry SDK for Go sends through the collector, and its trace is found whole at the intake.
//!
//! Needs Go as new as `go/go.mod` says, and a module proxy that it can reach; where one is missing the tests fail and say
//! what to install. Go's exporters know no JSON.

mod common;

use std::path::{Path, PathBuf};

use common::{
    INSTALL, Protocol, Sdk, System, here,
    program::{command, run},
    workshop,
};
use tokio::sync::OnceCell;

const SDK: Sdk = Sdk { language: "go", exception: "*errors.errorString", error: "no such order" };

#[tokio::test]
async fn a_trace_of_the_go_sdk_arrives_whole_over_grpc() {
    check("grpc").await;
}

#[tokio::test]
async fn a_trace_of_the_go_sdk_arrives_whole_over_http() {
    check("http/protobuf").await;
}

async fn check(protocol: &'static str) {
    let program = program().await;
    let system = System::start().await;
    system.check_every_way(SDK, Protocol(protocol), || command(program)).await;
    system.stop().await;
}

/// The sending program; Go's own cache shows whether it must be built again.
async fn program() -> &'static Path {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        make(&workshop("go_sdk-send")).await.unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

async fn make(program: &Path) -> Result<PathBuf, String> {
    let mut build = command("go");
    build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(program).arg(".");
    build.current_dir(here().join("go"));
    run(&mut build, INSTALL).await.map_err(|error| {
        format!(
            "these tests need Go as new as tests/sdk/go/go.mod says, and a module proxy that it can reach: install it, \
             then run them again\n{error}"
        )
    })?;
    Ok(program.to_owned())
}
