//! `tracecheck reap`: removes what runs left behind that were killed.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use harness::environment::{
    docker,
    kubernetes::{eks, leftovers},
    process,
};

use super::environment::{
    eks::ConfigArgs,
    kubernetes::{AccessArgs, CLUSTER},
};

/// How old what is removed is by default.
const AGE: Duration = Duration::from_secs(60 * 60);

/// Options of `reap`: what is removed, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Environment to look in.
    #[arg(long, value_enum)]
    env: EnvironmentKind,
    /// Removes only what was created at least so long ago. A run in progress is spared where it can be recognized: in Docker, on this
    /// machine. By default 1h, and on EKS what has expired by its tag.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only what this run made.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Lists what would be removed, and removes nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    eks: ConfigArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EnvironmentKind {
    /// An existing Kubernetes cluster: the namespaces of runs.
    Cluster,
    /// A Docker engine: containers, networks and volumes of runs.
    Docker,
    /// EKS, in the region of eks-config.yaml or `--eks-region`: clusters that runs made, by their tags.
    Eks,
    /// This machine: processes whose run is gone, and folders of runs.
    Process,
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let removed = match args.env {
        EnvironmentKind::Cluster => cluster(&args).await?,
        EnvironmentKind::Docker => docker(&args).await?,
        EnvironmentKind::Eks => eks(&args).await?,
        EnvironmentKind::Process => process(&args)?,
    };
    let mut text: String = removed.iter().map(|name| format!("{name}\n")).collect();
    if removed.is_empty() {
        text = "nothing is left behind\n".to_owned();
    }
    super::print(&text)
}

impl Args {
    fn age(&self) -> Duration {
        self.older_than.unwrap_or(AGE)
    }
}

/// Clusters of EKS that have expired, or are as old as is asked for.
async fn eks(args: &Args) -> anyhow::Result<Vec<String>> {
    let region = args.eks.read()?.region;
    let now = SystemTime::now();
    let mut found = eks::find_leftovers(&region).await?;
    found.retain(|leftover| match (&args.run, args.older_than) {
        (Some(run), None) => *run == leftover.run_id,
        (Some(run), Some(age)) => *run == leftover.run_id && leftover.is_older_than(age, now),
        (None, Some(age)) => leftover.is_older_than(age, now),
        (None, None) => leftover.has_expired(now),
    });
    let mut removed = Vec::new();
    for leftover in found {
        if !args.dry_run {
            eks::remove_leftover(&leftover, &super::progress)
                .await
                .with_context(|| format!("it costs money until `{}`", leftover.removal()))?;
        }
        removed.push(format!("{} (run {})", leftover.name, leftover.run_id));
    }
    Ok(removed)
}

/// The names of what was removed.
async fn cluster(args: &Args) -> anyhow::Result<Vec<String>> {
    let (client, _) = args.access.find().await?.connect(CLUSTER).await?;
    let now = SystemTime::now();
    let mut found = leftovers::find(CLUSTER, &client).await?;
    found.retain(|leftover| {
        leftover.is_older_than(args.age(), now)
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
            "--run {run}: on this machine, leftovers are not identified by the run's id; leave it out"
        );
    }
    let mut found = process::find_leftovers(&std::env::temp_dir(), args.age());
    if !args.dry_run {
        found.retain(process::Leftover::remove);
    }
    let reported = found
        .iter()
        .flat_map(|leftover| leftover.processes().chain([leftover.dir.display().to_string()]));
    Ok(reported.collect())
}

async fn docker(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut found = docker::leftovers().await?;
    found.retain(|leftover| {
        leftover.owner_lives != Some(true)
            && leftover.age >= args.age()
            && args.run.as_ref().is_none_or(|run| run == &leftover.run)
    });
    if !args.dry_run {
        docker::remove(&found).await?;
    }
    Ok(found.into_iter().map(|leftover| format!("tracecheck-{}", leftover.system)).collect())
}
