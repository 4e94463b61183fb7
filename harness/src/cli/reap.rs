//! `tracecheck reap`: removes what runs left behind that were killed.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use clap::ValueEnum;
use harness::environment::{docker, kubernetes::leftovers, process};

use super::environment::kubernetes::{AccessArgs, CLUSTER};

/// What to remove, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to look.
    #[arg(long, value_enum)]
    env: Place,
    /// Removes what was made so long ago. A run that goes on is spared where it can be told: in Docker, on this machine.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Only what this run made.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Tells what would be removed, and removes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Place {
    /// An existing Kubernetes cluster: the namespaces of runs.
    Cluster,
    /// A Docker engine: containers, networks and volumes of runs.
    Docker,
    /// This machine: processes whose run is gone, and folders of runs.
    Process,
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let removed = match args.env {
        Place::Cluster => cluster(&args).await?,
        Place::Docker => docker(&args).await?,
        Place::Process => process(&args)?,
    };
    let mut text: String = removed.iter().map(|name| format!("{name}\n")).collect();
    if removed.is_empty() {
        text = "nothing is left behind\n".to_owned();
    }
    super::print(&text)
}

/// The names of what was removed.
async fn cluster(args: &Args) -> anyhow::Result<Vec<String>> {
    let (client, _) = args.access.find().await?.connect(CLUSTER).await?;
    let now = SystemTime::now();
    let mut found = leftovers::find(CLUSTER, &client).await?;
    found.retain(|leftover| {
        leftover.is_older_than(args.older_than, now)
            && args.run.as_ref().is_none_or(|run| run == &leftover.run_id)
    });
    if !args.dry_run {
        leftovers::remove(CLUSTER, &client, &found).await?;
    }
    Ok(found.into_iter().map(|leftover| leftover.namespace).collect())
}

fn process(args: &Args) -> anyhow::Result<Vec<String>> {
    if let Some(run) = &args.run {
        bail!(
            "--run {run}: on this machine, what a run left is not known by the run's id; leave it out"
        );
    }
    let mut found = process::find_leftovers(&std::env::temp_dir(), args.older_than);
    if !args.dry_run {
        found.retain(process::Leftover::remove);
    }
    let told = found
        .iter()
        .flat_map(|leftover| leftover.processes().chain([leftover.dir.display().to_string()]));
    Ok(told.collect())
}

async fn docker(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut found = docker::leftovers().await?;
    found.retain(|leftover| {
        leftover.owner_lives != Some(true)
            && leftover.age >= args.older_than
            && args.run.as_ref().is_none_or(|run| run == &leftover.run)
    });
    if !args.dry_run {
        docker::remove(&found).await?;
    }
    Ok(found.into_iter().map(|leftover| format!("tracecheck-{}", leftover.system)).collect())
}
