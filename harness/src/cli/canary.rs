//! `tracecheck canary`: the same scenarios again and again, for a schedule or a gate.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use harness::{
    canary::{self, Round, Tally},
    event::Event,
    evidence::EvidenceSource,
    run,
    verdict::{Summary, Verdict},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{exit_code, run::Args as RunArgs};

/// Options of `canary`: which scenarios run, how often, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Time from the beginning of a round to that of the next; one that takes longer is followed at once.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    every: Duration,
    /// How long new rounds are begun. There is one round at least.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    lasting: Duration,
    /// Most inconclusive rounds in a row that are survived, while others pass.
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_inconclusive: u32,
    /// Goes on after a round that failed; the canary fails all the same.
    #[arg(long)]
    keep_going: bool,
    /// Writes the last round and the tally to this file after each round, in Prometheus' text form; replaced as a whole.
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Reads a duration that is more than zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("it must be more than zero".to_owned()),
        Err(error) => Err(format!("{error}; write for example 30s, 5m or 1h")),
    }
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.run.keep {
        bail!(
            "--keep: a canary takes each round's system down; leave it out, or judge one that is there with --attach"
        );
    }
    args.run.beside.refuse()?;
    args.run.html.refuse("a canary has many runs; keep them with --save, and make a report of one with `tracecheck replay --html`")?;
    args.run.log();
    let source = args.run.source()?;
    args.run.check_rounds()?;
    args.run.show_how_to_attach("");
    if let Some(path) = &args.prometheus {
        // Found out now, not after the first round.
        replace(path, "").with_context(|| format!("--prometheus {}", path.display()))?;
    }
    let mut reports = args.run.output.open_files()?;
    let cancel = CancellationToken::new();
    super::run::cancel_on_signal(cancel.clone())?;
    let mut tally = Tally::new(args.max_inconclusive);
    let mut summaries = Vec::new();
    let began = Instant::now();
    let mut next = began;
    loop {
        let started = SystemTime::now();
        let number = tally.rounds() + 1;
        let summary = round(&args, number, source.clone(), cancel.clone()).await?;
        if cancel.is_cancelled() {
            break;
        }
        tally.add(summary.verdict());
        let usage = source.as_ref().and_then(|source| source.usage());
        let reported = Round::new(number, started, &summary, &tally, usage);
        report(&args, &reported, &summary)?;
        summaries.push(summary);
        if reported.verdict == Verdict::Fail && !args.keep_going {
            break;
        }
        next = (next + args.every).max(Instant::now());
        if next >= began + args.lasting {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = cancel.cancelled() => break,
        }
    }
    let verdict = tally.verdict();
    if args.run.output.is_for_people() {
        let Tally { passed, failed, inconclusive, .. } = tally;
        let name = verdict.name();
        super::print(&format!(
            "\n{name}: {passed} passed, {failed} failed, {inconclusive} inconclusive of {} rounds\n",
            tally.rounds()
        ))?;
    }
    let summary = canary::as_one_run(summaries);
    reports.observe(&Event::RunFinished { summary: Box::new(summary) });
    reports.finish()?;
    Ok(exit_code::of(verdict))
}

/// One round, as a run of its own; its events are not reported.
async fn round(
    args: &Args,
    number: u32,
    source: Option<std::sync::Arc<dyn EvidenceSource>>,
    cancel: CancellationToken,
) -> anyhow::Result<Summary> {
    if let Some(source) = &source {
        source.forget();
    }
    let run_id = run::new_run_id();
    let (mut plan, release) = super::run::plan_of(&args.run, &run_id, source, cancel).await?;
    plan.save = plan.save.map(|dir| dir.join(format!("round-{number}")));
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let discarded = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let summary = run::run(plan, run_id, sender).await;
    discarded.await?;
    if let Some(release) = release {
        release.await?;
    }
    Ok(summary)
}

fn report(args: &Args, round: &Round, summary: &Summary) -> anyhow::Result<()> {
    let line = match args.run.output.is_for_people() {
        true => canary::describe(round, summary),
        false => serde_json::to_string(round)?,
    };
    args.run.output.print(&format!("{line}\n"))?;
    if let Some(path) = &args.prometheus {
        let text = canary::prometheus(round, SystemTime::now());
        replace(path, &text).with_context(|| format!("--prometheus {}", path.display()))?;
    }
    Ok(())
}

/// Puts a whole file in the place of another, so that no reader sees half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    // As any file that a program writes: readers are others.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path)?;
    Ok(())
}
