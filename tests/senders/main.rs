//! Shows how the official OTLP exporters react to each reply, and what is lost behind a collector that cannot take more.
//!
//! Needs the toolchains of the languages and their package registries, so it is no part of `cargo test`:
//!
//! ```text
//! cargo test -p harness --test senders
//! ```
//!
//! sends through each exporter to our collector while it takes, holds and refuses, and compares what arrives with what is known of the
//! exporter, so that a new version that does otherwise is seen; this takes half a minute. By hand:
//!
//! ```text
//! cargo test -p harness --test senders -- replies
//! cargo test -p harness --test senders -- agents
//! cargo test -p harness --test senders -- outages
//! ```
//!
//! run each exporter, and each agent that traces a program unchanged, against scripted replies, and the collector with a full queue
//! through outages, and write what they saw into `docs/senders.md` and `docs/reliability.md`.

mod agents;
mod check;
mod exporters;
mod outages;
mod page;
#[path = "../sdk/common/program.rs"]
#[expect(dead_code, reason = "what the tests of SDKs need")]
mod program;
mod reference;
mod replies;
mod scripted;
mod system;
mod toolchain;

use std::process::ExitCode;

use anyhow::bail;

fn main() -> ExitCode {
    // Several libraries bring rustls; one provider is to be chosen before the first client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            page::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs what is asked for; whether all is as it should be.
async fn run() -> anyhow::Result<bool> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    match asked.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check::run().await,
        ["replies"] => replies::run().await,
        ["agents"] => agents::run().await,
        ["outages", ref subjects @ ..] => outages::run(subjects).await,
        _ => bail!(
            "`{}` is not known: give `replies`, `agents`, `outages` or nothing",
            asked.join(" ")
        ),
    }
}
