//! `tracecheck prove`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, bail};
use harness::{
    environment::process::ProcessEnvironment,
    finding::Failure,
    run::{self, Plan},
    scenario::{Scenario, SystemChoice, load},
    source::Finding,
    system::{
        System,
        build::{self, Overrides, Variable},
        parts::{COLLECTOR, OVERLAY_FILE},
    },
    verdict::{ScenarioResult, Verdict},
};
use harness_prove::{
    catalogue::{self, Breakage, How, Sound},
    tap::Tap,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How often a system is brought up that does not come up.
const TRIES: usize = 3;

/// What of the catalogue is run.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Runs only the breakages whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// How many systems are up at the same time.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Prints the catalogue as a page of Markdown, and runs nothing.
    #[arg(long)]
    page: bool,
}

/// What came of one breakage.
struct Proof {
    breakage: &'static Breakage,
    /// How it was not caught, or `None`.
    missed: Option<String>,
    /// What was found beside it and misleads.
    misleading: Vec<String>,
    /// How its clean twin did not pass, or `None`.
    alarm: Option<String>,
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
        bail!("--filter: no breakage's name contains that; `tracecheck prove --page` lists them");
    }
    let cancel = CancellationToken::new();
    super::run::cancel_on_signal(cancel.clone())?;
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(usize::from(args.parallel)));
    let mut running = JoinSet::new();
    for breakage in breakages {
        let (places, cancel) = (Arc::clone(&places), cancel.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await?;
            prove(breakage, &cancel).await.with_context(|| format!("breakage `{}`", breakage.name))
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
    let caught = proofs.iter().filter(|proof| proof.missed.is_none()).count();
    let alarms = proofs.iter().filter(|proof| proof.alarm.is_some()).count();
    let misleading = proofs.iter().filter(|proof| !proof.misleading.is_empty()).count();
    super::print(&format!(
        "\n{caught} of {} breakages caught ({} %), {misleading} with a misleading finding, {alarms} false alarms on {} clean twins, in {:.1} s\n",
        proofs.len(),
        caught * 100 / proofs.len().max(1),
        proofs.len(),
        began.elapsed().as_secs_f64()
    ))?;
    Ok(super::exit_code::of(match caught == proofs.len() && misleading + alarms == 0 {
        true => Verdict::Pass,
        false => Verdict::Fail,
    }))
}

fn line(proof: &Proof) -> String {
    let Breakage { name, rule, hop, .. } = proof.breakage;
    let mut text = match &proof.missed {
        None => format!("caught  {name:<46} {rule} ({hop})"),
        Some(seen) => format!("MISSED  {name:<46} {rule} ({hop}): {seen}"),
    };
    for found in &proof.misleading {
        text.push_str(&format!("\nMISLED  {name:<46} {found}"));
    }
    if let Some(alarm) = &proof.alarm {
        text.push_str(&format!("\nALARM   {name:<46} its clean twin: {alarm}"));
    }
    text
}

/// Runs a breakage, and then its clean twin.
async fn prove(breakage: &'static Breakage, cancel: &CancellationToken) -> anyhow::Result<Proof> {
    let how = breakage.how;
    let (result, changed) = attempt(how.into(), "3s", cancel).await?;
    let missed = match (how.change(), changed) {
        (Some(_), 0) => Some(format!(
            "nothing of that kind passed the tap, so nothing was broken: {}",
            told(&result)
        )),
        _ => miss(breakage, &result),
    };
    let misleading = failures(&result).filter(|one| misleads(breakage, one));
    let misleading: BTreeSet<String> =
        misleading.map(|one| format!("{}: {}", one.rule, one.detail)).collect();
    let twin = breakage.twin.map_or_else(|| how.sound().into(), Attempt::from);
    let (result, _) = attempt(twin, "10s", cancel).await?;
    let alarm = (result.verdict != Verdict::Pass).then(|| told(&result));
    Ok(Proof { breakage, missed, misleading: misleading.into_iter().collect(), alarm })
}

/// Whether a finding that stands beside the right one leads away from it: it is about others than those at whom the breakage strikes,
/// or says lost where nothing is lost.
fn misleads(breakage: &Breakage, failure: &Failure) -> bool {
    let loses = ["no-trace", "lost-span", "undelivered-span"].contains(&breakage.rule);
    let says_lost =
        ["was lost", "were lost", ": lost "].iter().any(|lost| failure.detail.contains(lost));
    if says_lost && !loses {
        return true;
    }
    let is_suspect = |name: &str| breakage.hop.contains(name);
    let hop = failure.hop.iter().flat_map(|hop| [hop.caller.as_str(), hop.callee.as_str()]);
    let mut named = failure.service.as_deref().into_iter().chain(hop).peekable();
    // Where a breakage strikes at no service, none is innocent.
    catalogue::SERVICES.iter().any(|name| is_suspect(name))
        && named.peek().is_some()
        && !named.any(is_suspect)
}

fn failures(result: &ScenarioResult) -> impl Iterator<Item = &Failure> {
    result.failures.iter().chain(result.cases.iter().flat_map(|case| &case.findings.failures))
}

/// How a breakage was not caught; `None` where it was.
fn miss(breakage: &Breakage, result: &ScenarioResult) -> Option<String> {
    let is_it = |failure: &Failure| failure.rule == breakage.rule && names(failure, breakage.hop);
    let caught = result.verdict == Verdict::Fail && failures(result).any(is_it);
    (!caught).then(|| told(result))
}

/// Whether a failure names a hop: a link, a service, or what it says of a stage.
fn names(failure: &Failure, hop: &str) -> bool {
    let link = failure.hop.as_ref().map(|hop| format!("{} -> {}", hop.caller, hop.callee));
    link.as_deref() == Some(hop)
        || failure.service.as_deref() == Some(hop)
        || failure.detail.contains(hop)
}

/// A result in one line.
fn told(result: &ScenarioResult) -> String {
    let each: BTreeSet<String> =
        failures(result).map(|failure| format!("{}: {}", failure.rule, failure.detail)).collect();
    let each: Vec<String> = each.into_iter().chain(result.reasons()).collect();
    format!("{}; {}", result.verdict.name(), each.join("; "))
}

/// A run with a breakage, or without one.
#[derive(Clone, Copy)]
struct Attempt {
    change: Option<harness_prove::tap::Change>,
    env: &'static [(&'static str, &'static str, &'static str)],
    faults: &'static str,
    stats: bool,
}

impl From<How> for Attempt {
    fn from(how: How) -> Self {
        let stats = how.asks_for_stats();
        Self { change: how.change(), env: how.env(), faults: how.faults(), stats }
    }
}

impl From<Sound> for Attempt {
    fn from(Sound { env, faults, stats }: Sound) -> Self {
        Self { change: None, env, faults, stats }
    }
}

/// Runs real requests through a system with a tap in it; gives the verdict, and how much the tap changed. A system that does not come
/// up, as on a machine that is too busy, proves nothing: it is brought up again, [`TRIES`] times in all.
async fn attempt(
    what: Attempt,
    within: &str,
    cancel: &CancellationToken,
) -> anyhow::Result<(ScenarioResult, u64)> {
    for _ in 1..TRIES {
        let (result, changed) = attempt_once(what, within, cancel).await?;
        if !result.cases.is_empty() || cancel.is_cancelled() {
            return Ok((result, changed));
        }
    }
    attempt_once(what, within, cancel).await
}

async fn attempt_once(
    Attempt { change, env, faults, stats }: Attempt,
    within: &str,
    cancel: &CancellationToken,
) -> anyhow::Result<(ScenarioResult, u64)> {
    let tap = Tap::start(change).await?;
    let scenario = scenario(faults, stats, within)?;
    let system = system(&scenario.system, &tap, env)?;
    let program = std::env::current_exe().context("this program does not know its own path")?;
    let plan = Plan {
        systems: BTreeMap::from([(scenario.system.clone(), system)]),
        scenarios: vec![scenario],
        skipped: Vec::new(),
        environment: Box::new(move || Ok(Box::new(ProcessEnvironment::builder(&program).build()?))),
        environment_name: "process".to_owned(),
        evidence: None,
        parallel: 1,
        fail_fast: false,
        keep: false,
        save: None,
        logs: None,
        halt: cancel.child_token(),
        cancel: cancel.clone(),
    };
    // What happens meanwhile is nobody's business here.
    let (events, mut unread) = mpsc::channel(64);
    let reading = tokio::spawn(async move { while unread.recv().await.is_some() {} });
    let summary = run::run(plan, run::new_run_id(), events).await;
    reading.await?;
    let result = summary.scenarios.into_iter().next().context("its scenario has no result")?;
    Ok((result, tap.changed()))
}

fn scenario(faults: &str, stats: bool, within: &str) -> anyhow::Result<Scenario> {
    let stats = match stats {
        true => ", stats: [{ service: sample-app-1, kind: server, hits: 2 }]",
        false => "",
    };
    let text = format!(
        "name: prove\ndescription: Requests along a chain with a tap in it.\nsystem: {{ chain: {{ apps: 3, protocol: http/protobuf }} }}\nrequests:\n  - {{ get: /outgoing-sampleapp?of=scenario, times: 2, any_status: true }}\nexpect: {{ within: {within}{stats} }}\n{faults}"
    );
    match load::parse(Path::new("prove.yaml"), &text) {
        Ok((scenario, _)) => Ok(scenario),
        Err(found) => {
            let found: Vec<String> = found.iter().map(Finding::to_string).collect();
            bail!("{}", found.join("\n"))
        }
    }
}

/// The chain, with a tap on the edges from the second app to the third, from all apps to the collector, and from there to the
/// intake.
fn system(choice: &SystemChoice, tap: &Tap, env: &[(&str, &str, &str)]) -> anyhow::Result<System> {
    let (otlp, next, intake) = (
        tap.instead_of("${address:collector.otlp-http}"),
        tap.instead_of("${address:sample-app-3.http}"),
        tap.instead_of("${address:intake.http}"),
    );
    let tapped = [
        ("all", "OTEL_EXPORTER_OTLP_ENDPOINT", otlp.as_str()),
        ("sample-app-2", "UPSTREAM_URIS", next.as_str()),
    ];
    let variables = tapped.iter().chain(env).map(|(workload, name, value)| Variable {
        workload: (*workload).to_owned(),
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    let overrides = Overrides { env: variables.collect(), ..Overrides::default() };
    let mut system = build::system(choice, &overrides)?.system;
    let collector = system.workloads.iter_mut().find(|workload| workload.name == COLLECTOR);
    let overlay = collector.and_then(|collector| collector.files.get_mut(OVERLAY_FILE));
    let overlay = overlay.context("the chain's collector has no overlay")?;
    let direct = "${endpoint:intake.http}";
    if !overlay.contents.contains(direct) {
        bail!("the overlay of the chain's collector does not name the intake");
    }
    overlay.contents = overlay.contents.replace(direct, &intake);
    Ok(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tap_stands_on_every_edge_and_nothing_goes_around_it() {
        let tap = Tap::start(None).await.unwrap();
        let scenario = scenario("", false, "1s").unwrap();
        let system = system(&scenario.system, &tap, &[]).unwrap();
        let env = |app: &str| system.workload(app).unwrap().env.clone();
        for app in ["sample-app-1", "sample-app-2", "sample-app-3"] {
            let endpoint = &env(app)["OTEL_EXPORTER_OTLP_ENDPOINT"];
            assert_eq!(*endpoint, tap.instead_of("${address:collector.otlp-http}"));
        }
        assert!(env("sample-app-2")["UPSTREAM_URIS"].ends_with("/${address:sample-app-3.http}"));
        let overlay = &system.workload(COLLECTOR).unwrap().files[OVERLAY_FILE].contents;
        assert!(
            overlay.contains("/${address:intake.http}") && !overlay.contains("${endpoint:intake")
        );
        assert_eq!(system.problems(), []);
    }

    #[test]
    fn every_breakage_expects_a_rule_that_there_is() {
        for one in catalogue::all() {
            assert!(harness::rule::named(one.rule).is_some(), "{}: {}", one.name, one.rule);
        }
    }
}
