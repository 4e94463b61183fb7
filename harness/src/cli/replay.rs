//! `tracecheck replay`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use harness::{
    event::Event,
    report::{Reporter, text::Text},
    run::saved,
    verdict::Summary,
};

use super::exit_code;

/// Which run to judge again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder that `tracecheck run --save` wrote.
    dir: PathBuf,
    /// Tells more of what passed.
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut text = Text::new(anstream::stdout(), false, args.verbose);
    let mut summary = Summary {
        run_id: "replay".to_owned(),
        scenarios: Vec::new(),
        took_ms: 0,
        warnings: Vec::new(),
    };
    for system in saved::read(&args.dir)? {
        for result in system.judge() {
            text.observe(&Event::ScenarioFinished { result: Box::new(result.clone()) })?;
            summary.scenarios.push(result);
        }
    }
    summary.took_ms = u64::try_from(began.elapsed().as_millis())?;
    let verdict = summary.verdict();
    text.observe(&Event::RunFinished { summary: Box::new(summary) })?;
    Ok(exit_code::of(verdict))
}
