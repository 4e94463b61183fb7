//! `tracecheck record`: drives a scenario once, and writes it with expectations of what was seen.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use harness::{expectation::Expect, load, run as runner, saved, verdict::Verdict};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{exit_code, run};

pub(in crate::cli) mod seen;
mod text;

/// Events that may wait for the reporter.
const EVENT_QUEUE: usize = 1024;

/// Options of `record`: what is driven, and where it is written.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    run: run::Args,
    /// File that the scenario is written to with what was seen; beside it, with `-recorded` after its name, when left out.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Writes over a file that is there.
    #[arg(long)]
    write_over: bool,
}

/// How often a request is sent at most: enough to see what comes and goes, such as a connection that the first one opens.
const MOST_TIMES: u32 = 3;

#[tokio::main]
pub(super) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.run.log();
    if args.run.keep || args.run.save.is_some() {
        bail!("`tracecheck record` neither keeps nor saves its run; use `tracecheck run` for that");
    }
    args.run.beside.refuse()?;
    args.run
        .html
        .refuse("`tracecheck record` writes a scenario; use `tracecheck run` for a report")?;
    let saved_in = tempfile::tempdir().context("no folder can be made for the run")?;
    args.run.save = Some(saved_in.path().to_owned());
    let run_id = runner::new_run_id();
    let cancel = CancellationToken::new();
    run::cancel_on_signal(cancel.clone())?;
    let source = args.run.source()?;
    args.run.show_how_to_attach(&run_id);
    // Before anything starts.
    let scenario = one(run::select(&args.run)?, &args)?;
    let (mut plan, release) = run::plan_of(&args.run, &run_id, source, cancel).await?;
    for planned in &mut plan.scenarios {
        planned.expect = Expect { within: planned.expect.within, ..Expect::default() };
        for request in &mut planned.requests {
            (request.times, request.concurrency) = (request.times.min(MOST_TIMES), 1);
        }
    }
    let mut output = args.run.output.open(false)?;
    let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
    let reporting = tokio::task::spawn_blocking(move || {
        while let Some(event) = events.blocking_recv() {
            output.observe(&event);
        }
        output.finish()
    });
    let summary = runner::run(plan, run_id, sender).await;
    let reported = reporting.await;
    if let Some(release) = release {
        release.await?;
    }
    reported??;
    let (from, to) = (&scenario.from, &scenario.to);
    if summary.verdict() != Verdict::Pass {
        super::progress(&format!(
            "{} was not written: the run did not pass; fix the cause, or `tolerate` the rule in {}, and record again",
            to.display(),
            from.display()
        ));
        return Ok(exit_code::of(summary.verdict()));
    }
    let systems = saved::read(saved_in.path())?;
    let record = systems.iter().flat_map(saved::SavedSystem::records).next();
    let record = record.context("the run left no record of the scenario")?;
    let expect = seen::expect(record, &scenario.times, scenario.within);
    let text = std::fs::read_to_string(from)
        .with_context(|| format!("{} cannot be read", from.display()))?;
    let text = text::with_expect(&text, &scenario.name, &expect)
        .with_context(|| format!("{} cannot be rewritten", from.display()))?;
    write(to, &text, args.write_over)?;
    super::print(&format!(
        "{} contains what was recorded: review it, remove whatever may vary, and then\nrun it:  tracecheck run {}\n",
        to.display(),
        to.display()
    ))
}

/// The scenario that is recorded.
struct Recorded {
    from: PathBuf,
    to: PathBuf,
    /// Its name where it is written.
    name: String,
    /// How often each of its requests is sent.
    times: Vec<u32>,
    within: std::time::Duration,
}

/// The one scenario that is asked for, where it can be recorded and written.
fn one(scenarios: Vec<harness::scenario::Scenario>, args: &Args) -> anyhow::Result<Recorded> {
    let [scenario] = scenarios.as_slice() else {
        bail!(
            "{} scenarios are asked for, and one is recorded at a time: name its file, or use --filter",
            scenarios.len()
        );
    };
    let from = scenario.file.clone();
    if scenario.expect.absent {
        bail!("{}: its requests leave no trace, so there is nothing to record", from.display());
    }
    let to = match &args.to {
        Some(to) => to.clone(),
        None => {
            let stem = from.file_stem().unwrap_or_default().to_string_lossy();
            from.with_file_name(format!("{stem}-recorded.yaml"))
        }
    };
    if to.exists() && !args.write_over {
        bail!(
            "{} is there already; name another file with --to, or give --write-over",
            to.display()
        );
    }
    let folder = folder_of(&to);
    if !folder.is_dir() {
        bail!(
            "cannot write {}: there is no folder {}; make it first",
            to.display(),
            folder.display()
        );
    }
    let is_same =
        to.canonicalize().is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to));
    let name = match is_same {
        true => scenario.name.clone(),
        false => {
            let room = 63 - "-recorded".len();
            format!("{}-recorded", scenario.name.chars().take(room).collect::<String>())
        }
    };
    let times = scenario.requests.iter().map(|request| request.times).collect();
    Ok(Recorded { from, to, name, times, within: scenario.expect.within })
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a scenario that loads, and nothing else.
fn write(to: &Path, text: &str, over: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", to.display());
    let mut staged = tempfile::Builder::new()
        .prefix(".record-")
        .suffix(".yaml")
        .tempfile_in(folder_of(to))
        .with_context(cannot)?;
    staged.write_all(text.as_bytes()).with_context(cannot)?;
    load::load(&[staged.path().to_owned()]).with_context(|| {
        format!("{} was not written, since it would not be valid", to.display())
    })?;
    // Only its owner may read what is staged.
    use std::os::unix::fs::PermissionsExt as _;
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(staged.path(), readable).with_context(cannot)?;
    match over {
        true => staged.persist(to).map(drop).with_context(cannot),
        false => staged.persist_noclobber(to).map(drop).with_context(cannot),
    }
}
