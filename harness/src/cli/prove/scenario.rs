//! `tracecheck prove --scenario`: which of the breakages a user's own scenarios and system would miss, and what would report each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use harness::{
    environment::process::ProcessEnvironment,
    finding::Failure,
    load,
    record::Record,
    run::{self, Plan},
    saved,
    scenario::{Fault, Scenario, SystemChoice},
    source::Finding,
    system::{
        Program, System,
        build::{self, Overrides, Variable},
    },
    verdict::{ScenarioResult, Verdict},
};
use harness_prove::catalogue::{self, Breakage, How, Who};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{advice::Advice, sites::Places};
use super::{
    Args, Format,
    attempt::{failures, reported},
};

mod advice;
mod sites;

/// How long the name of a breakage may be in a table.
const NAME_WIDTH: usize = 46;

/// Outcome of a breakage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
enum Outcome {
    /// A scenario fails.
    Caught {
        /// The rules and expectations that fail.
        by: BTreeSet<String>,
        /// Whether one of them is the rule that names the cause, at the place where it was broken.
        named: bool,
    },
    /// Nothing fails, and something could not be decided.
    Undecided {
        /// Reason.
        because: String,
    },
    /// All scenarios pass.
    Missed,
    /// It cannot be made there.
    NotThere {
        /// Reason.
        because: String,
    },
}

/// A breakage, and what came of it.
#[derive(Debug, Clone, Serialize)]
struct Tried {
    name: &'static str,
    family: &'static str,
    /// Its look in Datadog.
    seen: &'static str,
    /// How it is mended.
    remedy: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
    /// The expectation or rule that would report it, where nothing fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    caught_by: Option<CaughtBy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CaughtBy {
    /// The scenario that would fail.
    scenario: String,
    /// Content of its `expect` then; empty where it is not an expectation.
    expect: String,
    /// In words.
    text: String,
}

/// All that a program reads.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    scenarios: Vec<&'a str>,
    /// Places of the breakages: the entry, the caller and the service that it calls.
    sites: [&'a str; 3],
    caught: usize,
    missed: usize,
    undecided: usize,
    not_there: usize,
    breakages: &'a [Tried],
}

/// Result of one run of the scenarios.
struct Ran {
    results: Vec<ScenarioResult>,
    records: Vec<Record>,
    /// Number of requests between workloads that were changed.
    changed: u64,
}

/// State that all tries share.
struct Bench {
    scenarios: Vec<Scenario>,
    program: PathBuf,
    start_limit: Option<Duration>,
    cancel: CancellationToken,
}

/// Tries the breakages on the scenarios.
pub(super) async fn run(
    args: &Args,
    breakages: Vec<&'static Breakage>,
) -> anyhow::Result<ExitCode> {
    let scenarios = load::load(&args.scenario)?;
    let first = scenarios.first().context("there is no scenario")?;
    if let Some(other) = scenarios.iter().find(|one| one.system != first.system) {
        bail!(
            "`{}` and `{}` need different systems: give the scenarios of one system at a time",
            first.name,
            other.name
        );
    }
    let system = build::system(&first.system, &Overrides::default())?.system;
    let began = Instant::now();
    let cancel = CancellationToken::new();
    crate::cli::run::cancel_on_signal(cancel.clone())?;
    let program =
        std::env::current_exe().context("the path of this program cannot be determined")?;
    let bench = Arc::new(Bench {
        scenarios,
        program,
        start_limit: args.start_limit,
        cancel: cancel.clone(),
    });
    // Where calls go is seen in a run without anything in between, and whether something can stand there in another one.
    let seen = bench.clean(&[]).await?;
    let places = Arc::new(Places::find(&seen.records, &system));
    let clean = Arc::new(bench.clean(&places.nothing()).await?);
    let reads_env = bench.reads_env(&system);
    let running_at_once = Arc::new(Semaphore::new(usize::from(args.parallel)));
    let mut running = JoinSet::new();
    for (index, breakage) in breakages.into_iter().enumerate() {
        let (bench, places, clean) = (Arc::clone(&bench), Arc::clone(&places), Arc::clone(&clean));
        let at_once = Arc::clone(&running_at_once);
        running.spawn(async move {
            let _place = at_once.acquire_owned().await?;
            let tried = bench.attempt(breakage, &places, &clean, reads_env).await;
            tried
                .map(|tried| (index, tried))
                .with_context(|| format!("breakage `{}`", breakage.name))
        });
    }
    let mut all = Vec::new();
    while let Some(tried) = running.join_next().await {
        let tried = tried.context("a breakage was not run to its end")??;
        if cancel.is_cancelled() {
            continue;
        }
        if args.format == Format::Text {
            crate::cli::print(&format!("{}\n", line(&tried.1)))?;
        }
        all.push(tried);
    }
    if cancel.is_cancelled() {
        bail!("it was interrupted");
    }
    all.sort_by_key(|(index, _)| *index);
    let all: Vec<Tried> = all.into_iter().map(|(_, tried)| tried).collect();
    let report = report(&bench.scenarios, &places, &all);
    let text = match args.format {
        Format::Text => {
            format!("\n{}, in {:.1} s\n", summary(&report), began.elapsed().as_secs_f64())
        }
        Format::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    crate::cli::print(&text)?;
    Ok(crate::cli::exit_code::of(match (report.missed, report.undecided) {
        (0, 0) => Verdict::Pass,
        (0, _) => Verdict::Inconclusive,
        _ => Verdict::Fail,
    }))
}

fn report<'a>(scenarios: &'a [Scenario], places: &'a Places, all: &'a [Tried]) -> Report<'a> {
    let count = |is: fn(&Outcome) -> bool| all.iter().filter(|tried| is(&tried.outcome)).count();
    Report {
        schema: 1,
        scenarios: scenarios.iter().map(|scenario| scenario.name.as_str()).collect(),
        sites: places.workloads.all(),
        caught: count(|one| matches!(one, Outcome::Caught { .. })),
        missed: count(|one| matches!(one, Outcome::Missed)),
        undecided: count(|one| matches!(one, Outcome::Undecided { .. })),
        not_there: count(|one| matches!(one, Outcome::NotThere { .. })),
        breakages: all,
    }
}

fn summary(report: &Report<'_>) -> String {
    let Report { caught, missed, undecided, not_there, .. } = report;
    let all = caught + missed + undecided;
    let [entry, caller, at] = report.sites;
    let place = match caller.is_empty() {
        true => format!("at {at}"),
        false => format!("between {caller} and {at}, entered at {entry}"),
    };
    format!(
        "{caught} of {all} breakages caught ({} %), {missed} missed, {undecided} undecided; {not_there} cannot be made there; {place}",
        caught * 100 / all.max(1)
    )
}

fn line(tried: &Tried) -> String {
    let name = tried.name;
    let mut text = match &tried.outcome {
        Outcome::Caught { by, named } => {
            let by: Vec<&str> = by.iter().map(String::as_str).collect();
            let vaguely = if *named { "" } else { ", and the cause is not named" };
            format!("caught     {name:<NAME_WIDTH$} {}{vaguely}", by.join(", "))
        }
        Outcome::Undecided { because } => {
            format!("UNDECIDED  {name:<NAME_WIDTH$} {because}")
        }
        Outcome::Missed => format!("MISSED     {name:<NAME_WIDTH$} {}", tried.seen),
        Outcome::NotThere { because } => format!("not there  {name:<NAME_WIDTH$} {because}"),
    };
    if matches!(tried.outcome, Outcome::Missed | Outcome::Undecided { .. }) {
        let reported = match &tried.caught_by {
            Some(CaughtBy { scenario, text, .. }) => format!("`{scenario}` would report it {text}"),
            None => format!("no expectation of a single scenario detects it. {}", tried.remedy),
        };
        text.push_str(&format!("\n           {:<NAME_WIDTH$} {reported}", ""));
    }
    text
}

impl Bench {
    /// Runs the scenarios while nothing is broken; they must pass.
    async fn clean(&self, between: &[Fault]) -> anyhow::Result<Ran> {
        let ran = self.run(between, &[], None).await?;
        let not_passed = ran.results.iter().find(|result| result.verdict != Verdict::Pass);
        if let Some(result) = not_passed {
            let where_ = match between.is_empty() {
                true => "",
                false => " with something in between that passes everything on",
            };
            bail!(
                "`{}` does not pass while nothing is broken{where_}, so that nothing is learned by breaking it: {}",
                result.name,
                reported(result)
            );
        }
        Ok(ran)
    }

    /// Returns whether its services certainly do what the SDK's variables say.
    fn reads_env(&self, system: &System) -> bool {
        let services = system
            .workloads
            .iter()
            .filter(|workload| workload.role == harness::system::Role::Service);
        services.into_iter().all(|one| matches!(one.program, Program::Builtin(_)))
    }

    /// Runs the scenarios with a breakage.
    async fn attempt(
        &self,
        breakage: &'static Breakage,
        places: &Places,
        clean: &Ran,
        reads_env: bool,
    ) -> anyhow::Result<Tried> {
        let of = |outcome, caught_by| Tried {
            name: breakage.name,
            family: catalogue::family(breakage),
            seen: breakage.seen,
            remedy: breakage.remedy,
            outcome,
            caught_by,
        };
        let not_there = |because: String| of(Outcome::NotThere { because }, None);
        let how = breakage.how;
        let faults = match how {
            How::TapAfterwards(_) => {
                let because = "it strikes what comes after a scenario's own requests";
                return Ok(not_there(because.to_owned()));
            }
            How::TapLate(_) => {
                let because = "it comes so late that only a run with `--listen` shows it";
                return Ok(not_there(because.to_owned()));
            }
            How::EnvOfUnsampled(_) => {
                let because = "it strikes requests that are sent as ones not to be sampled";
                return Ok(not_there(because.to_owned()));
            }
            How::Env(_) => Vec::new(),
            How::Fault(text) => faults(text)?,
            _ => {
                let strike = places.strike(breakage);
                if strike.is_empty() {
                    let because = "nothing can stand there: there is no such edge, or it leads to several instances";
                    return Ok(not_there(because.to_owned()));
                }
                strike
            }
        };
        let env = match how {
            How::Env(env) => variables(env, places),
            _ => Vec::new(),
        };
        if how.asks_for_stats() && self.scenarios.iter().all(|one| one.expect.stats.is_none()) {
            return self.attempt_stats(breakage, &faults, clean, of).await;
        }
        let broken = self.run(&faults, &env, None).await?;
        if how.change().is_some() && broken.changed == 0 {
            return Ok(not_there(
                "nothing passes there that it could be done to while these scenarios run"
                    .to_owned(),
            ));
        }
        let outcome = outcome(breakage, places, &broken);
        if outcome == Outcome::Missed && !env.is_empty() && !reads_env {
            let names: BTreeSet<&str> = env.iter().map(|one| one.name.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            return Ok(not_there(format!(
                "nothing came of {}: the service may not read it",
                names.join(" and ")
            )));
        }
        let caught_by = match outcome {
            Outcome::Missed | Outcome::Undecided { .. } => caught_by(clean, &broken),
            _ => None,
        };
        Ok(of(outcome, caught_by))
    }

    /// Runs the scenarios with a breakage of stats, which none of them asks for: the first one is made to.
    async fn attempt_stats(
        &self,
        breakage: &'static Breakage,
        faults: &[Fault],
        clean: &Ran,
        of: impl Fn(Outcome, Option<CaughtBy>) -> Tried,
    ) -> anyhow::Result<Tried> {
        let record = clean.records.first().context("the run without a breakage left no record")?;
        let Some(expect) = stats_of(record) else {
            let because = "no span was captured of which stats would be made".to_owned();
            return Ok(of(Outcome::NotThere { because }, None));
        };
        let more = advice::read(&record.scenario.system, &expect);
        let stats = more.and_then(|more| more.stats);
        let broken = self.run(faults, &[], stats.clone()).await?;
        if broken.changed == 0 {
            let because = "no stats of the service pass there".to_owned();
            return Ok(of(Outcome::NotThere { because }, None));
        }
        let fails = broken.results.iter().any(|result| result.verdict == Verdict::Fail);
        let holds = fails && {
            let sound = self.run(&[], &[], stats).await?;
            sound.results.iter().all(|result| result.verdict == Verdict::Pass)
        };
        let caught_by = holds.then(|| CaughtBy {
            scenario: record.scenario.name.clone(),
            text: format!(
                "by `expect: {{ {expect} }}`, which has the rule `{}` look",
                breakage.rule
            ),
            expect,
        });
        Ok(of(Outcome::Missed, caught_by))
    }

    /// Runs the scenarios.
    async fn run(
        &self,
        faults: &[Fault],
        env: &[Variable],
        stats: Option<harness::stats::StatsExpect>,
    ) -> anyhow::Result<Ran> {
        let dir = tempfile::tempdir().context("no folder can be made for a run")?;
        let mut scenarios = self.scenarios.clone();
        for scenario in &mut scenarios {
            scenario.faults.extend(faults.iter().cloned());
        }
        if let (Some(first), Some(stats)) = (scenarios.first_mut(), stats) {
            first.expect.stats = Some(stats);
        }
        let choice = scenarios.first().map(|scenario| scenario.system.clone());
        let choice: SystemChoice = choice.context("there is no scenario")?;
        let overrides = Overrides { env: env.to_vec(), ..Overrides::default() };
        let system = build::system(&choice, &overrides)?.system;
        let (program, start_limit) = (self.program.clone(), self.start_limit);
        let plan = Plan {
            systems: BTreeMap::from([(choice, system)]),
            scenarios,
            skipped: Vec::new(),
            environment: Box::new(move || {
                let builder = ProcessEnvironment::builder(&program);
                let builder = match start_limit {
                    Some(limit) => builder.start_limit(limit),
                    None => builder,
                };
                Ok(Box::new(builder.build()?))
            }),
            environment_name: "process".to_owned(),
            evidence: None,
            parallel: 1,
            fail_fast: false,
            listen: Duration::ZERO,
            keep: false,
            save: Some(dir.path().to_owned()),
            logs: None,
            watch: None,
            halt: self.cancel.child_token(),
            cancel: self.cancel.clone(),
        };
        // What happens meanwhile is nobody's business here.
        let (events, mut unread) = mpsc::channel(64);
        let reading = tokio::spawn(async move { while unread.recv().await.is_some() {} });
        let summary = run::run(plan, run::new_run_id(), events).await;
        reading.await?;
        // A system that does not come up leaves nothing behind.
        let systems = saved::read(dir.path()).unwrap_or_default();
        let mut records: Vec<Record> =
            systems.iter().flat_map(saved::SavedSystem::records).cloned().collect();
        records.sort_by(|one, other| one.scenario.name.cmp(&other.scenario.name));
        let passed = records.iter().flat_map(|record| record.facts.passed.values());
        let changed = passed.map(|passed| passed.changed).sum();
        Ok(Ran { results: summary.scenarios, records, changed })
    }
}

fn outcome(breakage: &Breakage, places: &Places, broken: &Ran) -> Outcome {
    let failed: Vec<&Failure> = broken
        .results
        .iter()
        .filter(|result| result.verdict == Verdict::Fail)
        .flat_map(failures)
        .collect();
    if !failed.is_empty() {
        let intended = Who::ALL.map(|who| breakage.intended_at(who, &places.workloads));
        let named = failed.iter().any(|failure| {
            intended
                .iter()
                .flatten()
                .any(|one| failure.rule == one.rule && super::names(failure, &one.hop))
        });
        let by = failed.iter().map(|failure| failure.rule.clone()).collect();
        return Outcome::Caught { by, named };
    }
    let undecided = broken.results.iter().find(|result| result.verdict == Verdict::Inconclusive);
    match undecided {
        Some(result) => Outcome::Undecided { because: reported(result) },
        None => Outcome::Missed,
    }
}

/// Finds what would report it: the first scenario for which there is something.
fn caught_by(clean: &Ran, broken: &Ran) -> Option<CaughtBy> {
    broken.records.iter().find_map(|broken| {
        let of_clean =
            clean.records.iter().find(|clean| clean.scenario.name == broken.scenario.name)?;
        let Advice { expect, text } = advice::advice(of_clean, broken)?;
        Some(CaughtBy { scenario: broken.scenario.name.clone(), expect, text })
    })
}

/// Stats that a sound run has, as `expect` has them.
fn stats_of(record: &Record) -> Option<String> {
    let spans = record.cases.iter().flat_map(|of| of.evidence.trace.iter());
    let spans = spans.flat_map(|trace| &trace.spans);
    let mut servers: BTreeMap<&str, u64> = BTreeMap::new();
    for span in spans.filter(|span| span.kind() == "server") {
        *servers.entry(&span.service).or_default() += 1;
    }
    let (service, hits) = servers.into_iter().max_by_key(|(_, hits)| *hits)?;
    let service = crate::cli::init::quoted(service);
    Some(format!("stats: [{{ service: {service}, kind: server, hits: {hits} }}]"))
}

fn variables(env: &[(&'static str, &'static str, &'static str)], places: &Places) -> Vec<Variable> {
    let of = env.iter().map(|(workload, name, value)| Variable {
        workload: places.workloads.named(workload),
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    of.filter(|variable| !variable.workload.is_empty()).collect()
}

/// Faults as the catalogue writes them: of the collector and the intake, which every system has.
fn faults(text: &str) -> anyhow::Result<Vec<Fault>> {
    let text = format!("name: fault\ndescription: x\nrequests: [{{ get: / }}]\n{text}");
    match load::parse(Path::new("fault.yaml"), &text) {
        Ok((scenario, _)) => Ok(scenario.faults),
        Err(found) => {
            let found: Vec<String> = found.iter().map(Finding::to_string).collect();
            bail!("{}", found.join("\n"))
        }
    }
}
