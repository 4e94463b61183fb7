//! `tracecheck prove`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use harness::{
    finding::Failure,
    verdict::{ScenarioResult, Verdict},
};
use harness_prove::catalogue::{self, Breakage, Intended, Sound, Who};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::attempt::{Attempt, Bench, Try, failures, reported};

mod attempt;
mod scenario;

/// Options of `prove`: which breakages of the catalogue run.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Runs only the breakages whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Breaks only this one: the built-in chain, or services of a system file.
    #[arg(long, value_name = "WHO", value_enum)]
    on: Option<On>,
    /// How many systems are up at the same time.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Breaks the system of these scenarios instead, a file or a folder of one system's: reports which breakages they would miss, and which
    /// expectation would detect each; may be given several times.
    #[arg(long, value_name = "FILE", conflicts_with = "on")]
    scenario: Vec<PathBuf>,
    /// How long each of the system's processes may take to get ready, with `--scenario`, instead of 30s.
    #[arg(long, value_name = "DURATION", requires = "scenario", value_parser = humantime::parse_duration)]
    start_limit: Option<Duration>,
    /// Format of stdout, with `--scenario`.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "scenario")]
    format: Format,
    /// Prints the catalogue as a page of Markdown, and runs nothing.
    #[arg(long, conflicts_with = "scenario")]
    page: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Pipeline that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    /// The built-in chain's.
    Chain,
    /// That of services which a system file describes.
    Own,
}

impl On {
    fn is(self, who: Who) -> bool {
        self == match who {
            Who::Chain => Self::Chain,
            Who::Own => Self::Own,
        }
    }
}

/// Outcome of one breakage.
struct Proof {
    who: Who,
    breakage: &'static Breakage,
    intended: Intended,
    /// How it was not caught, or `None`.
    missed: Option<String>,
    /// Findings beside it that mislead.
    misleading: Vec<String>,
    /// How its clean twin did not pass, or `None`.
    alarm: Option<String>,
}

impl Proof {
    /// Returns whether the breakage was caught, nothing beside it misleads, and its clean twin passed.
    fn is_as_intended(&self) -> bool {
        self.missed.is_none() && self.misleading.is_empty() && self.alarm.is_none()
    }
}

/// A system in which nothing is broken, with what is expected of it.
type Clean = (Who, Sound, Option<&'static str>);

/// State that all proofs share.
struct Shared {
    bench: Bench,
    cancel: CancellationToken,
    places: Semaphore,
    /// How the clean systems did not pass, each run once.
    clean: BTreeMap<Clean, OnceCell<Option<String>>>,
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.page {
        return super::print(&catalogue::page());
    }
    let wanted = |one: &&Breakage| {
        args.filter.is_empty() || args.filter.iter().any(|text| one.name.contains(text.as_str()))
    };
    let breakages: Vec<&'static Breakage> = catalogue::all().filter(wanted).collect();
    if breakages.is_empty() {
        bail!("--filter: no breakage's name contains it; `tracecheck prove --page` lists them");
    }
    if !args.scenario.is_empty() {
        return scenario::run(&args, breakages).await;
    }
    let who = Who::ALL.into_iter().filter(|who| args.on.is_none_or(|on| on.is(*who)));
    let tasks: Vec<(Who, &'static Breakage, Intended)> = who
        .flat_map(|who| breakages.iter().map(move |one| (who, *one)))
        .filter_map(|(who, one)| Some((who, one, one.intended(who)?)))
        .collect();
    let cancel = CancellationToken::new();
    super::run::cancel_on_signal(cancel.clone())?;
    let began = Instant::now();
    let clean = tasks.iter().filter_map(|(who, one, intended)| clean_of(*who, one, intended));
    let shared = Arc::new(Shared {
        bench: Bench::new()?,
        cancel: cancel.clone(),
        places: Semaphore::new(usize::from(args.parallel)),
        clean: clean.map(|one| (one, OnceCell::new())).collect(),
    });
    let twins = shared.clean.len() + tasks.iter().filter(|(_, one, _)| one.twin.is_some()).count();
    let mut running = JoinSet::new();
    for (who, breakage, intended) in tasks {
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            let _place = shared.places.acquire().await?;
            let proof = prove(who, breakage, intended, &shared).await;
            proof.with_context(|| format!("breakage `{}` ({})", breakage.name, who.name()))
        });
    }
    let mut proofs = Vec::new();
    while let Some(proof) = running.join_next().await {
        let proof = proof.context("a breakage was not run to its end")??;
        // What was interrupted proves nothing.
        if cancel.is_cancelled() {
            continue;
        }
        super::print(&format!("{}\n", line(&proof)))?;
        proofs.push(proof);
    }
    if cancel.is_cancelled() {
        bail!("it was interrupted");
    }
    let (text, is_proved) = summary(&proofs, twins);
    super::print(&format!("\n{text}, in {:.1} s\n", began.elapsed().as_secs_f64()))?;
    Ok(super::exit_code::of(if is_proved { Verdict::Pass } else { Verdict::Fail }))
}

/// Summarizes all in one line, below all that is not as intended, and returns whether nothing is.
fn summary(proofs: &[Proof], twins: usize) -> (String, bool) {
    let caught = |who: Option<Who>| {
        let of = proofs.iter().filter(|proof| who.is_none_or(|who| proof.who == who));
        let of: Vec<&Proof> = of.collect();
        (of.iter().filter(|proof| proof.missed.is_none()).count(), of.len())
    };
    let (all, count) = caught(None);
    let each = Who::ALL.into_iter().map(|who| (who, caught(Some(who))));
    let each = each.filter(|(_, (_, count))| *count > 0);
    let each = each.map(|(who, (caught, count))| format!("{} {caught} of {count}", who.name()));
    let each: Vec<String> = each.collect();
    // A clean system that several breakages share gave one alarm.
    let alarms: BTreeSet<&String> =
        proofs.iter().filter_map(|proof| proof.alarm.as_ref()).collect();
    let misleading = proofs.iter().filter(|proof| !proof.misleading.is_empty()).count();
    let text = format!(
        "{all} of {count} breakages caught ({} %; {}), {misleading} with a misleading finding, {} false alarms on {twins} clean twins",
        all * 100 / count.max(1),
        each.join(", "),
        alarms.len(),
    );
    // What is wrong is said last, where it is looked for, also in a log that is cut at its beginning.
    let wrong = proofs.iter().filter(|proof| !proof.is_as_intended());
    let wrong: Vec<String> = wrong.map(|proof| format!("{}\n", line(proof))).collect();
    (format!("{}{text}", wrong.concat()), all == count && misleading == 0 && alarms.is_empty())
}

fn line(proof: &Proof) -> String {
    let (who, name) = (proof.who.name(), proof.breakage.name);
    let Intended { rule, hop, .. } = &proof.intended;
    let mut text = match &proof.missed {
        None => format!("caught  {who:<5}  {name:<46} {rule} ({hop})"),
        Some(seen) => format!("MISSED  {who:<5}  {name:<46} {rule} ({hop}): {seen}"),
    };
    for found in &proof.misleading {
        text.push_str(&format!("\nMISLED  {who:<5}  {name:<46} {found}"));
    }
    if let Some(alarm) = &proof.alarm {
        text.push_str(&format!("\nALARM   {who:<5}  {name:<46} its clean twin: {alarm}"));
    }
    text
}

/// The system without the breakage, where that is its clean twin.
fn clean_of(who: Who, breakage: &Breakage, intended: &Intended) -> Option<Clean> {
    breakage.twin.is_none().then(|| (who, breakage.how.sound(), intended.expect))
}

/// Runs a breakage, and then its clean twin.
async fn prove(
    who: Who,
    breakage: &'static Breakage,
    intended: Intended,
    shared: &Shared,
) -> anyhow::Result<Proof> {
    let Shared { bench, cancel, clean, .. } = shared;
    let (how, expect) = (breakage.how, intended.expect);
    let broken = Attempt::from(breakage).expecting(expect);
    let (result, changed) = Try { bench, who, what: broken, within: "3s", cancel }.run().await?;
    let missed = match (how.change(), changed) {
        (Some(_), 0) => Some(format!(
            "no such payload passed the tap, so nothing was broken: {}",
            reported(&result)
        )),
        _ => miss(&intended, &result),
    };
    let loses = ["no-trace", "lost-span", "undelivered-span"].contains(&breakage.rule);
    let misleading =
        failures(&result).filter(|one| misleads(&intended, loses, &who.sites().all(), one));
    let misleading: BTreeSet<String> =
        misleading.map(|one| format!("{}: {}", one.rule, one.detail)).collect();
    let sound = |twin: Attempt| async move {
        let what = twin.expecting(expect);
        let (result, _) = Try { bench, who, what, within: "10s", cancel }.run().await?;
        anyhow::Ok((result.verdict != Verdict::Pass).then(|| reported(&result)))
    };
    let shared_twin = clean_of(who, breakage, &intended).and_then(|key| clean.get(&key));
    let alarm = match (breakage.twin, shared_twin) {
        (None, Some(once)) => {
            once.get_or_try_init(|| sound(Attempt::from(how.sound()))).await?.clone()
        }
        (Some(twin), _) => sound(Attempt::from(twin)).await?,
        (None, None) => sound(Attempt::from(how.sound())).await?,
    };
    Ok(Proof {
        who,
        breakage,
        intended,
        missed,
        misleading: misleading.into_iter().collect(),
        alarm,
    })
}

/// Returns whether a finding that stands beside the right one leads away from it: it is about others than those at whom the breakage strikes,
/// or says lost where nothing is lost.
fn misleads(intended: &Intended, loses: bool, services: &[&str], failure: &Failure) -> bool {
    let says_lost =
        ["was lost", "were lost", ": lost "].iter().any(|lost| failure.detail.contains(lost));
    if says_lost && !loses {
        return true;
    }
    let is_suspect = |name: &str| intended.hop.contains(name);
    let hop = failure.hop.iter().flat_map(|hop| [hop.caller.as_str(), hop.callee.as_str()]);
    let mut named = failure.service.as_deref().into_iter().chain(hop).peekable();
    // Where a breakage strikes at no service, none is innocent.
    services.iter().any(|name| is_suspect(name)) && named.peek().is_some() && !named.any(is_suspect)
}

/// How a breakage was not caught; `None` where it was.
fn miss(intended: &Intended, result: &ScenarioResult) -> Option<String> {
    let is_it = |failure: &Failure| {
        failure.rule == intended.rule
            && names(failure, &intended.hop)
            && intended
                .stage
                .is_none_or(|stage| failure.stage.is_some_and(|found| found.name() == stage))
    };
    let caught = result.verdict == Verdict::Fail && failures(result).any(is_it);
    (!caught).then(|| reported(result))
}

/// Returns whether a failure names a hop: a link, a service, or what it says of a stage.
fn names(failure: &Failure, hop: &str) -> bool {
    let link = failure.hop.as_ref().map(|hop| format!("{} -> {}", hop.caller, hop.callee));
    link.as_deref() == Some(hop)
        || failure.service.as_deref() == Some(hop)
        || failure.detail.contains(hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_breakage_expects_a_rule_that_there_is() {
        for (one, who) in catalogue::all().flat_map(|one| Who::ALL.map(|who| (one, who))) {
            let Some(Intended { rule, expect, .. }) = one.intended(who) else { continue };
            let is_known = harness::rule::named(rule).is_some() || expect.is_some();
            assert!(is_known, "{}: {rule}", one.name);
        }
    }

    fn intended(rule: &'static str, hop: &str) -> Intended {
        Intended { rule, hop: hop.to_owned(), stage: None, expect: None }
    }

    #[test]
    fn a_finding_about_somebody_else_misleads_and_one_about_the_culprit_does_not() {
        let services = ["web", "shop", "pay"];
        let at = intended("altered-span", "pay");
        let of = |service: &str| Failure {
            service: Some(service.to_owned()),
            ..Failure::new("altered-span", "x")
        };
        assert!(misleads(&at, false, &services, &of("web")));
        assert!(!misleads(&at, false, &services, &of("pay")));
        let lost = Failure::new("lost-span", "it was lost on its way");
        assert!(misleads(&at, false, &services, &lost));
        assert!(!misleads(&at, true, &services, &lost));
        let nowhere = intended("no-trace", "between the services and the intake");
        assert!(!misleads(&nowhere, true, &services, &of("web")));
    }

    #[test]
    fn what_is_not_as_intended_stands_right_above_the_summary() {
        let breakage = catalogue::all().next().unwrap();
        let proof = |missed: Option<&str>| Proof {
            who: Who::Chain,
            breakage,
            intended: intended("no-trace", "shop -> pay"),
            missed: missed.map(str::to_owned),
            misleading: Vec::new(),
            alarm: None,
        };
        let (text, is_proved) = summary(&[proof(None), proof(Some("pass; "))], 1);
        let lines: Vec<&str> = text.lines().collect();
        assert!(!is_proved);
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("MISSED") && lines[0].ends_with("pass; "), "{text}");
        assert!(lines[1].starts_with("1 of 2 breakages caught"), "{text}");
        assert_eq!(summary(&[proof(None)], 1).0.lines().count(), 1);
    }

    #[test]
    fn the_stage_counts_where_there_is_one() {
        let mut result = ScenarioResult::new("prove", "");
        result.failures =
            vec![Failure { service: Some("pay".to_owned()), ..Failure::new("lost-span", "gone") }];
        result.verdict = Verdict::Fail;
        let plain = intended("lost-span", "pay");
        assert_eq!(miss(&plain, &result), None);
        let staged = Intended { stage: Some("collector"), ..plain };
        assert!(miss(&staged, &result).is_some());
        result.failures[0].stage = Some(harness::finding::Stage::Collector);
        assert_eq!(miss(&staged, &result), None);
    }
}
