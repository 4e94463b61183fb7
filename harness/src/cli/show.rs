//! `tracecheck show`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use harness::{
    report, saved,
    trace::{Trace, TraceId},
};

/// Which trace to show, and where it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        tracecheck show 0af7651916cd43dd8448eb211c80319c --run my-run\n  \
                        tracecheck show 1-0af76519-16cd43dd8448eb211c80319c --intake http://localhost:8126")]
pub(super) struct Args {
    /// 32 hex digits, or X-Ray's form `1-<8 hex>-<24 hex>`.
    trace_id: TraceId,
    /// Folder of a saved run.
    #[arg(long, value_name = "DIR", conflicts_with = "intake")]
    run: Option<PathBuf>,
    /// Base URL of a running intake.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8126")]
    intake: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let trace = match &args.run {
        Some(dir) => from_saved(dir, args.trace_id)?,
        None => from_intake(&args.intake, args.trace_id)?,
    };
    super::print(&report::trace::render(&trace))
}

fn from_saved(dir: &std::path::Path, id: TraceId) -> anyhow::Result<Trace> {
    for system in saved::read(dir)? {
        if let Some(trace) = system.trace(id)? {
            return Ok(trace);
        }
    }
    bail!("trace {id} was not captured in the run saved in {}", dir.display())
}

#[tokio::main(flavor = "current_thread")]
async fn from_intake(url: &str, id: TraceId) -> anyhow::Result<Trace> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()?;
    let response = client
        .get(format!("{}/_intake/traces/{id}", url.trim_end_matches('/')))
        .send()
        .await
        .with_context(|| format!("no intake answers at {url}; start one with `tracecheck intake`, or name a saved run with --run"))?;
    match response.status().as_u16() {
        200 => Ok(response.json().await.context("the intake's answer is not a trace")?),
        404 => bail!("the intake at {url} has captured no span of trace {id}"),
        status => bail!(
            "the intake at {url} answered {status}: {}",
            response.text().await.unwrap_or_default()
        ),
    }
}
