//! `tracecheck replay`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use harness::{
    event::{self, Event},
    finding::Warning,
    judge::{judge, judge_system},
    saved::{self, SavedError, SavedSystem},
    verdict::Summary,
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
    let mut not_judged = saved::read_not_judged(&args.dir)?;
    let systems = match saved::read(&args.dir) {
        // No system came up.
        Err(SavedError::Empty { .. }) if !not_judged.is_empty() => Vec::new(),
        read => read?,
    };
    let records: Vec<_> = systems.iter().flat_map(SavedSystem::records).collect();
    let mut names: Vec<String> =
        records.iter().map(|record| record.scenario.name.clone()).collect();
    not_judged.retain(|result| !names.contains(&result.name));
    names.extend(not_judged.iter().map(|result| result.name.clone()));
    let wanted = super::filter(&names, &args.filter);
    not_judged.retain(|result| wanted.contains(&result.name));
    let records = records.into_iter().filter(|record| wanted.contains(&record.scenario.name));
    let results: Vec<_> = records.map(judge).chain(not_judged).collect();
    let mut output = args.output.open(args.verbose)?;
    let run_id = "replay".to_owned();
    output.observe(&Event::RunStarted {
        schema: event::SCHEMA,
        run_id: run_id.clone(),
        environment: run_id.clone(),
        scenarios: results.len(),
    });
    for result in &results {
        output.observe(&Event::ScenarioFinished { result: Box::new(result.clone()) });
    }
    let mut summary = Summary { scenarios: results, ..Summary::new(run_id) };
    let is_judged = |system: &&SavedSystem| {
        let mut records = system.records().iter();
        args.filter.is_empty() || records.any(|record| wanted.contains(&record.scenario.name))
    };
    for system in systems.iter().filter(is_judged) {
        let (all, results): (Vec<_>, Vec<_>) =
            (system.records().iter().collect(), summary.scenarios.iter().collect());
        let found = judge_system(system.facts(), system.nobodys(), &all, &results);
        for Warning { text, more } in found.warnings.clone() {
            output.observe(&Event::Warning { text, more });
        }
        summary.add(found);
    }
    summary.took_ms = u64::try_from(began.elapsed().as_millis())?;
    let verdict = summary.verdict();
    args.html.write(&summary, "replay", &systems)?;
    output.observe(&Event::RunFinished { summary: Box::new(summary) });
    output.finish()?;
    Ok(exit_code::of(verdict))
}
