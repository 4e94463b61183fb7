//! `tracecheck replay`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use harness::{
    event::{self, Event},
    finding::Warning,
    saved::SavedRun,
};

use super::{exit_code, html, output};

/// Which run to judge again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        tracecheck run scenarios --save my-run\n  \
                        tracecheck replay my-run --html report.html\n  \
                        tracecheck replay my-run --filter checkout -v")]
pub(super) struct Args {
    /// Folder that `tracecheck run --save` wrote.
    dir: PathBuf,
    /// Judges only the scenarios whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    #[command(flatten)]
    output: output::Args,
    #[command(flatten)]
    html: html::Args,
    /// Prints more of what passed.
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    args.html.check()?;
    let saved = SavedRun::read(&args.dir)?;
    let wanted = super::filter(&saved.names(), &args.filter);
    let wanted = (!args.filter.is_empty()).then_some(wanted.as_slice());
    let run_id = "replay".to_owned();
    let (mut summary, warnings) = saved.judge(&run_id, wanted);
    let mut output = args.output.open(args.verbose)?;
    output.observe(&Event::RunStarted {
        schema: event::SCHEMA,
        run_id: run_id.clone(),
        environment: run_id,
        scenarios: summary.scenarios.len(),
    });
    for result in &summary.scenarios {
        output.observe(&Event::ScenarioFinished { result: Box::new(result.clone()) });
    }
    for Warning { text, more } in warnings {
        output.observe(&Event::Warning { text, more });
    }
    summary.took_ms = u64::try_from(began.elapsed().as_millis())?;
    let verdict = summary.verdict();
    args.html.write(&summary, "replay", saved.systems())?;
    output.observe(&Event::RunFinished { summary: Box::new(summary) });
    output.finish()?;
    Ok(exit_code::of(verdict))
}
