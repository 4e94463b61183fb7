//! One run of real requests through a system with a tap in it, with something broken or with nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use harness::{
    environment::process::ProcessEnvironment,
    finding::Failure,
    load,
    run::{self, Plan},
    saved,
    scenario::{Fault, FaultKind, Scenario, SystemChoice, fault::Between},
    source::Finding,
    system::{
        System,
        build::{self, Overrides, Variable},
        parts::{COLLECTOR, OVERLAY_FILE},
    },
    verdict::ScenarioResult,
    wire::WireAction,
};
use harness_prove::{
    catalogue::{Breakage, How, OWN_SYSTEM, Sound, Who},
    change::{Change, Sites},
    tap::Tap,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How often a system is brought up that does not come up.
const TRIES: usize = 3;
/// How long it is listened for what comes again.
const LISTEN: Duration = Duration::from_secs(3);
/// Name of the file that describes the own services.
const OWN_FILE: &str = "own.system.yaml";

/// State that attempts share.
#[derive(Debug)]
pub(super) struct Bench {
    /// Holds the system file of the own services.
    dir: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("no folder can be made for a system file")?;
        let file = dir.path().join(OWN_FILE);
        std::fs::write(&file, OWN_SYSTEM)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { dir })
    }

    /// Path that its scenarios are given, though no file is there.
    fn scenario_file(&self) -> PathBuf {
        self.dir.path().join("prove.yaml")
    }
}

/// System and scenarios of one attempt.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// Its name, where it is one of the catalogue.
    breakage: Option<&'static str>,
    change: Option<Change>,
    env: &'static [(&'static str, &'static str, &'static str)],
    faults: &'static str,
    fails: bool,
    stats: bool,
    unsampled: bool,
    expect: Option<&'static str>,
    listen: Duration,
}

impl Attempt {
    /// Has this expected as well, as it is written under `expect`.
    pub(super) fn expecting(self, expect: Option<&'static str>) -> Self {
        Self { expect, ..self }
    }
}

impl Attempt {
    /// Fault for what stands between services of a system file, where calls are changed: a workload, at an address that is known for
    /// theirs.
    fn on_calls(self, who: Who) -> Option<Fault> {
        let (name, Some(Change::Headers(_) | Change::Answer(_)), Who::Own) =
            (self.breakage?, self.change, who)
        else {
            return None;
        };
        let Sites { entry, caller, at } = who.sites();
        let does = WireAction::Breakage {
            name: name.to_owned(),
            entry,
            caller: caller.clone(),
            at: at.clone(),
        };
        let kind = FaultKind::Between(Between { caller, does, next: None });
        Some(Fault { at, kind, first: None, after: None })
    }
}

impl From<&Breakage> for Attempt {
    fn from(breakage: &Breakage) -> Self {
        Self { breakage: Some(breakage.name), ..Self::from(breakage.how) }
    }
}

impl From<How> for Attempt {
    fn from(how: How) -> Self {
        Self {
            breakage: None,
            change: how.change(),
            env: how.env(),
            faults: how.faults(),
            fails: how.fails(),
            stats: how.asks_for_stats(),
            unsampled: how.is_unsampled(),
            expect: None,
            listen: if how.comes_late() { LISTEN } else { Duration::ZERO },
        }
    }
}

impl From<Sound> for Attempt {
    fn from(Sound { env, fails, stats, unsampled }: Sound) -> Self {
        Self {
            breakage: None,
            change: None,
            env,
            faults: "",
            fails,
            stats,
            unsampled,
            expect: None,
            listen: Duration::ZERO,
        }
    }
}

/// An attempt on a system of its own.
pub(super) struct Try<'t> {
    pub(super) bench: &'t Bench,
    pub(super) who: Who,
    pub(super) what: Attempt,
    /// How long its traces may take, as `within` has it.
    pub(super) within: &'t str,
    pub(super) cancel: &'t CancellationToken,
}

impl Try<'_> {
    /// Returns the verdict, and how much the tap changed. A system that does not come up, as on a machine that is too busy, proves
    /// nothing: it is brought up again, [`TRIES`] times in all.
    pub(super) async fn run(&self) -> anyhow::Result<(ScenarioResult, u64)> {
        for _ in 1..TRIES {
            let (result, changed) = self.once().await?;
            if !result.cases.is_empty() || self.cancel.is_cancelled() {
                return Ok((result, changed));
            }
        }
        self.once().await
    }

    async fn once(&self) -> anyhow::Result<(ScenarioResult, u64)> {
        let Self { who, what, .. } = *self;
        let tap = Tap::start(what.change, who.sites()).await?;
        let mut scenario = scenario(&self.bench.scenario_file(), who, what, self.within)?;
        scenario.faults.extend(what.on_calls(who));
        let system = system(&scenario.system, who, &tap, what.env)?;
        let saved_in = tempfile::tempdir().context("no folder can be made for a run")?;
        let program =
            std::env::current_exe().context("the path of this program cannot be determined")?;
        let plan = Plan {
            systems: BTreeMap::from([(scenario.system.clone(), system)]),
            scenarios: vec![scenario],
            skipped: Vec::new(),
            environment: Box::new(move || {
                Ok(Box::new(ProcessEnvironment::builder(&program).build()?))
            }),
            environment_name: "process".to_owned(),
            evidence: None,
            parallel: 1,
            fail_fast: false,
            listen: what.listen,
            keep: false,
            save: Some(saved_in.path().to_owned()),
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
        let result = summary.scenarios.into_iter().next().context("its scenario has no result")?;
        // A system that does not come up leaves nothing behind.
        let systems = saved::read(saved_in.path()).unwrap_or_default();
        let records = systems.iter().flat_map(saved::SavedSystem::records);
        let passed = records.flat_map(|record| record.facts.passed.values());
        Ok((result, tap.changed() + passed.map(|passed| passed.changed).sum::<u64>()))
    }
}

fn scenario(file: &Path, who: Who, what: Attempt, within: &str) -> anyhow::Result<Scenario> {
    let sites = who.sites();
    let times = who.requests();
    let stats = match what.stats {
        true => format!(", stats: [{{ service: {}, kind: server, hits: {times} }}]", sites.entry),
        false => String::new(),
    };
    let expect = what.expect.map_or_else(String::new, |more| format!(", {}", who.named(more)));
    let system = match who {
        Who::Chain => "{ chain: { apps: 3, protocol: http/protobuf } }".to_owned(),
        Who::Own => format!("{{ file: {OWN_FILE} }}"),
    };
    let mut faults = who.named(what.faults);
    let mut request =
        format!("get: /outgoing-sampleapp?of=scenario, times: {times}, any_status: true");
    match (what.fails, who) {
        (true, Who::Chain) => {
            faults.push_str(&format!("faults: [{{ at: {}, status: 503 }}]\n", sites.at));
        }
        // They are sample apps under other names, and read this header, which a scenario of theirs cannot ask for by a fault.
        (true, Who::Own) => {
            request
                .push_str(&format!(", headers: {{ x-tracecheck-fault: {}=status:503 }}", sites.at));
        }
        (false, _) => {}
    }
    let mut stats = stats;
    if what.unsampled {
        request.push_str(", sampled: false");
        stats.push_str(", absent: true");
    }
    let text = format!(
        "name: prove\ndescription: Requests along a chain with a tap in it.\nsystem: {system}\nrequests:\n  - {{ {request} }}\nexpect: {{ within: {within}{stats}{expect} }}\n{faults}"
    );
    match load::parse(file, &text) {
        Ok((scenario, _)) => Ok(scenario),
        Err(found) => {
            let found: Vec<String> = found.iter().map(Finding::to_string).collect();
            bail!("{}", found.join("\n"))
        }
    }
}

/// The three services, with a tap on the edges from the second to the third, from all to the collector, and from there to the intake.
fn system(
    choice: &SystemChoice,
    who: Who,
    tap: &Tap,
    env: &[(&str, &str, &str)],
) -> anyhow::Result<System> {
    let sites = who.sites();
    let (otlp, next, intake) = (
        tap.instead_of("${address:collector.otlp-http}"),
        tap.instead_of(&format!("${{address:{}.http}}", sites.at)),
        tap.instead_of("${address:intake.http}"),
    );
    let mut tapped = vec![("all".to_owned(), "OTEL_EXPORTER_OTLP_ENDPOINT", otlp.as_str())];
    // Elsewhere a call is known by its address.
    if who == Who::Chain {
        tapped.push((sites.caller.clone(), "UPSTREAM_URIS", next.as_str()));
    }
    let env = env.iter().map(|(workload, name, value)| (who.named(workload), *name, *value));
    let variables = tapped.into_iter().chain(env).map(|(workload, name, value)| Variable {
        workload,
        name: name.to_owned(),
        value: value.to_owned(),
    });
    let overrides = Overrides { env: variables.collect(), ..Overrides::default() };
    let mut system = build::system(choice, &overrides)?.system;
    let collector = system.workloads.iter_mut().find(|workload| workload.name == COLLECTOR);
    let overlay = collector.and_then(|collector| collector.files.get_mut(OVERLAY_FILE));
    let overlay = overlay.context("the system's collector has no overlay")?;
    let direct = "${endpoint:intake.http}";
    if !overlay.contents.contains(direct) {
        bail!("the overlay of the system's collector does not name the intake");
    }
    overlay.contents = overlay.contents.replace(direct, &intake);
    Ok(system)
}

/// All that failed: of the scenario, and of each case.
pub(super) fn failures(result: &ScenarioResult) -> impl Iterator<Item = &Failure> {
    result.failures.iter().chain(result.cases.iter().flat_map(|case| &case.findings.failures))
}

/// A result in one line.
pub(super) fn reported(result: &ScenarioResult) -> String {
    let each: BTreeSet<String> =
        failures(result).map(|failure| format!("{}: {}", failure.rule, failure.detail)).collect();
    let each: Vec<String> = each.into_iter().chain(result.reasons()).collect();
    format!("{}; {}", result.verdict.name(), each.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tap_stands_on_every_edge_and_nothing_goes_around_it() {
        let bench = Bench::new().unwrap();
        for who in [Who::Chain, Who::Own] {
            let tap = Tap::start(None, who.sites()).await.unwrap();
            let nothing =
                Attempt::from(Sound { env: &[], fails: false, stats: false, unsampled: false });
            let scenario = scenario(&bench.scenario_file(), who, nothing, "1s").unwrap();
            let system = system(&scenario.system, who, &tap, &[]).unwrap();
            let env = |app: &str| system.workload(app).unwrap().env.clone();
            let sites = who.sites();
            for app in [&sites.entry, &sites.caller, &sites.at] {
                let endpoint = &env(app)["OTEL_EXPORTER_OTLP_ENDPOINT"];
                assert_eq!(*endpoint, tap.instead_of("${address:collector.otlp-http}"));
            }
            let next = env(&sites.caller)["UPSTREAM_URIS"].clone();
            assert_eq!(next.ends_with("/${address:sample-app-3.http}"), who == Who::Chain);
            let overlay = &system.workload(COLLECTOR).unwrap().files[OVERLAY_FILE].contents;
            assert!(overlay.contains("/${address:intake.http}"));
            assert!(!overlay.contains("${endpoint:intake"));
            assert_eq!(system.problems(), []);
        }
    }
}
