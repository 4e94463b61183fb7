//! `tracecheck down`: takes down what `up` brought up.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use harness::{
    environment::{docker, process},
    standing::StandingPlace,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{self, Instant};

use super::{
    exit_code,
    standing::{DEFAULT_NAME, Home},
};

/// How often it is looked whether the keeper has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of the keeper's log that are shown when it does not end.
const TAIL: usize = 10;

/// Which system.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The system's name.
    #[arg(default_value = DEFAULT_NAME)]
    name: String,
    /// How long it may take: the collector sends what it holds, and a cluster deletes a namespace.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = humantime::parse_duration)]
    limit: Duration,
    #[command(flatten)]
    home: Home,
}

#[tokio::main]
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let place = args.home.place(&args.name)?;
    let Some(keeper) = place.keeper()? else { return not_kept(&place).await };
    let pid = i32::try_from(keeper).context("the keeper's process id")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)
        .with_context(|| format!("the keeper, process {keeper}, cannot be asked to stop"))?;
    let begun = Instant::now();
    while place.keeper()? == Some(keeper) {
        if begun.elapsed() > args.limit {
            let log = std::fs::read_to_string(place.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n  ");
            bail!(
                "`{}` is not down after {:?}; its keeper, process {keeper}, goes on; the end of {}:\n  {tail}",
                args.name,
                args.limit,
                place.log().display()
            );
        }
        time::sleep(LOOK).await;
    }
    match place.end()? {
        Some(_) => finished(&place),
        None => not_kept(&place).await,
    }
}

/// The keeper is gone, and says that its system is.
fn finished(place: &StandingPlace) -> anyhow::Result<ExitCode> {
    let how = place.end()?.unwrap_or_default();
    place.remove()?;
    if how.is_empty() {
        return super::print(&format!("`{}` is down\n", place.name()));
    }
    super::warn(&how);
    super::print(&format!("`{}` is down, but did not stop cleanly\n", place.name()))?;
    Ok(ExitCode::from(1))
}

/// Nobody keeps it: it was never up, it was taken down when its time was over, or its keeper was killed.
async fn not_kept(place: &StandingPlace) -> anyhow::Result<ExitCode> {
    if place.end()?.is_some() {
        return finished(place);
    }
    let name = place.name();
    let Some(standing) = place.standing()? else {
        place.remove()?;
        bail!("there is no system `{name}`: `tracecheck status` lists them");
    };
    let by_hand = match standing.environment.as_str() {
        "process" => {
            let mut left = process::find_leftovers(&std::env::temp_dir(), Duration::ZERO);
            left.retain(|left| left.is_of(standing.keeper));
            for left in left {
                left.processes().for_each(|process| super::progress(&format!("ends {process}")));
                left.remove();
            }
            None
        }
        "docker" => {
            let mut left = docker::leftovers().await?;
            left.retain(|left| left.run == standing.run);
            docker::remove(&left).await?;
            None
        }
        "kind" => Some("kind delete cluster"),
        "eks" => Some("tracecheck reap --env eks"),
        _ => Some("tracecheck reap --env cluster --older-than 0s"),
    };
    place.remove()?;
    match by_hand {
        None => super::print(&format!("`{name}` is down; its keeper had been killed\n")),
        Some(command) => {
            let run = if command.contains("reap") {
                format!(" --run {}", standing.run)
            } else {
                String::new()
            };
            super::warn(&format!(
                "the keeper of `{name}` was killed, and left its system behind; `{command}{run}` removes it"
            ));
            Ok(ExitCode::from(exit_code::INCONCLUSIVE))
        }
    }
}
