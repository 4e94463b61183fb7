//! The runner: groups scenarios by the system they need, runs each group in a session of its own, and reports what
//! happens as events. It does not know how things are shown, nor how a system is built.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::kept_logs::KeptLogs;
pub use self::{foreseen::foreseen, watch::Watch};
use crate::{
    environment::{Environment, EnvironmentError},
    event::{self, Event},
    evidence::EvidenceSource,
    record::Record,
    saved,
    scenario::{Scenario, SystemChoice},
    session::Session,
    system::System,
    verdict::{ScenarioResult, Summary},
};

mod audit;
mod drive;
mod driven;
mod foreseen;
mod group;
pub mod kept_logs;
mod refresh;
mod take_down;
mod watch;
#[cfg(test)]
mod ways_to_end;

/// Makes an environment, one for each system of a run.
pub type NewEnvironment =
    Box<dyn Fn() -> Result<Box<dyn Environment>, EnvironmentError> + Send + Sync>;

/// A run's input from its caller.
pub struct Plan {
    /// The scenarios, at least one of them for a run that can pass.
    pub scenarios: Vec<Scenario>,
    /// Scenarios that are not run, with the reason: they say that they need what is not there.
    pub skipped: Vec<(Scenario, String)>,
    /// Constructor of an environment for one system.
    pub environment: NewEnvironment,
    /// Name of the environment, for people.
    pub environment_name: String,
    /// Another source of evidence than the mock intake of each system, for all of them.
    pub evidence: Option<Arc<dyn EvidenceSource>>,
    /// The system of each choice that a scenario makes.
    pub systems: BTreeMap<SystemChoice, System>,
    /// Number of systems that run at the same time.
    pub parallel: usize,
    /// Whether the run ends at the first scenario that does not pass.
    pub fail_fast: bool,
    /// Time to listen to systems after all cases are judged, before they are stopped: redelivered and late spans are
    /// judged too.
    pub listen: Duration,
    /// Whether the systems are left running for a look around until `cancel`.
    pub keep: bool,
    /// Folder to save the run in.
    pub save: Option<PathBuf>,
    /// Folder for logs of systems with a scenario that does not pass, where the run is not saved.
    pub logs: Option<KeptLogs>,
    /// Observer of the run while it goes on.
    pub watch: Option<Arc<dyn Watch>>,
    /// Cancelled when the user wants an early end; everything is still taken down.
    pub cancel: CancellationToken,
    /// Ends the driving: a child of `cancel`, cancelled by the runner at the first failure of a run that is to end there.
    pub halt: CancellationToken,
}

/// Generates the id of a run: 8 hex digits.
pub fn new_run_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Scenarios that share a system.
struct Group {
    number: usize,
    choice: SystemChoice,
    scenarios: Vec<Scenario>,
}

impl Group {
    fn scenario_names(&self) -> Vec<String> {
        self.scenarios.iter().map(|scenario| scenario.name.clone()).collect()
    }

    /// The system in words.
    fn name(&self) -> String {
        match &self.choice {
            SystemChoice::Chain(chain) => format!("chain of {}", chain.apps),
            SystemChoice::File(path) => path.display().to_string(),
        }
    }
}

/// Groups scenarios by system; one that needs its system to itself is a group of its own. Slow ones first, so that they
/// do not hold up the end.
fn groups(scenarios: Vec<Scenario>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for scenario in scenarios {
        let shared = (!scenario.is_exclusive())
            .then(|| {
                groups.iter_mut().find(|group| {
                    group.choice == scenario.system
                        && !group.scenarios.iter().any(Scenario::is_exclusive)
                })
            })
            .flatten();
        match shared {
            Some(group) => group.scenarios.push(scenario),
            None => {
                let choice = scenario.system.clone();
                groups.push(Group { number: 0, choice, scenarios: vec![scenario] });
            }
        }
    }
    // A collector config of the user's may wait as long as it likes before it exports; the built-in one does not.
    groups.sort_by_key(|group| match &group.choice {
        SystemChoice::Chain(chain) => chain.collector_config.is_none(),
        SystemChoice::File(_) => false,
    });
    for (number, group) in groups.iter_mut().enumerate() {
        group.number = number;
    }
    groups
}

/// Runs all scenarios of the plan. Events go to `events`, ending with [`Event::RunFinished`]; a slow reader slows the
/// run down.
pub async fn run(plan: Plan, run_id: String, events: mpsc::Sender<Event>) -> Summary {
    let started = Instant::now();
    let events = Events { events, watch: plan.watch.clone() };
    events
        .send(Event::RunStarted {
            schema: event::SCHEMA,
            run_id: run_id.clone(),
            environment: plan.environment_name.clone(),
            scenarios: plan.scenarios.len() + plan.skipped.len(),
        })
        .await;
    let mut order: Vec<String> =
        plan.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let mut plan = plan;
    let mut summary = Summary::new(run_id);
    let mut without_record = Vec::new();
    for (scenario, because) in std::mem::take(&mut plan.skipped) {
        let result = ScenarioResult::skipped(&scenario.name, &scenario.description, because)
            .in_file(&scenario.file);
        events.send(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
        order.push(scenario.name);
        without_record.push(result);
    }
    order.sort();
    let unreached =
        plan.scenarios.iter().map(|one| not_judged(one, "the run ended before it was judged"));
    // Where the run is killed, this is what remains.
    save_not_judged(&plan, without_record.iter().cloned().chain(unreached), &mut summary);
    let groups = groups(std::mem::take(&mut plan.scenarios));
    let plan = Arc::new(plan);
    let places = Arc::new(Semaphore::new(plan.parallel.max(1)));
    let (mut running, mut of_tasks) = (JoinSet::new(), HashMap::new());
    for group in groups {
        let scenarios = group.scenarios.clone();
        let (plan, places, events, run_id) =
            (Arc::clone(&plan), Arc::clone(&places), events.clone(), summary.run_id.clone());
        let task = running.spawn(async move {
            let number = group.number;
            let place = places.acquire_owned().await.ok();
            (number, group::run(group, &plan, &run_id, &events, place).await)
        });
        of_tasks.insert(task.id(), scenarios);
    }
    // By the number of their groups, as a saved run has them.
    let mut of_systems = BTreeMap::new();
    while let Some(finished) = running.join_next().await {
        match finished {
            Ok((number, outcome)) => {
                summary.scenarios.extend(outcome.results);
                without_record.extend(outcome.not_judged);
                of_systems.insert(number, outcome.findings);
            }
            Err(error) => {
                let scenarios = of_tasks.remove(&error.id()).unwrap_or_default();
                let because = format!("its group was not judged: {}", panic_text(error));
                for result in scenarios.iter().map(|scenario| not_judged(scenario, &because)) {
                    events.send(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
                    without_record.push(result);
                }
            }
        }
    }
    of_systems.into_values().for_each(|found| summary.add(found));
    save_not_judged(&plan, without_record.iter().cloned(), &mut summary);
    summary.scenarios.extend(without_record);
    summary.scenarios.sort_by_key(|result| order.iter().position(|name| name == &result.name));
    if let Some(text) = plan.evidence.as_ref().and_then(|source| source.usage()) {
        events.send(Event::Usage { text }).await;
    }
    summary.took_ms = millis(started.elapsed());
    events.send(Event::RunFinished { summary: Box::new(summary.clone()) }).await;
    summary
}

/// Saves the results of scenarios that have no record, where the run is saved.
fn save_not_judged(
    plan: &Plan,
    results: impl Iterator<Item = ScenarioResult>,
    summary: &mut Summary,
) {
    let Some(dir) = &plan.save else { return };
    if let Err(error) = saved::write_not_judged(dir, &results.collect::<Vec<_>>()) {
        let text = format!("the run could not be saved: {error}");
        if !summary.undecided.contains(&text) {
            summary.undecided.push(text);
        }
    }
}

/// Sends events; that nobody listens any more is no reason to stop.
#[derive(Clone)]
struct Events {
    events: mpsc::Sender<Event>,
    watch: Option<Arc<dyn Watch>>,
}

impl Events {
    async fn send(&self, event: Event) {
        let _nobody_listens = self.events.send(event).await;
    }

    /// Shows how a scenario was judged to whoever looks at the run.
    fn show_judged(&self, record: &Record, result: &ScenarioResult) {
        if let Some(watch) = &self.watch {
            watch.judged(record, result);
        }
    }

    /// Reports how workloads ended that were stopped on purpose, where that is worth a word.
    async fn send_notes(&self, session: &Session) {
        for text in session.up().take_notes() {
            self.send(Event::warning(text)).await;
        }
    }
}

/// Creates the result of a scenario that has no record.
fn not_judged(scenario: &Scenario, because: &str) -> ScenarioResult {
    ScenarioResult::undecided(&scenario.name, &scenario.description, because)
        .in_file(&scenario.file)
}

/// Describes the panic of a task, or its cancellation.
fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("a bug of tracecheck: {}", text.unwrap_or("a panic without a message"))
        }
        Err(cancelled) => cancelled.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        scenario::{ChainChoice, Fault, FaultKind, Request},
        secret::Secret,
        system::file::SystemFile,
        verdict::Verdict,
    };

    fn scenario(name: &str, apps: u32, faults: Vec<Fault>) -> Scenario {
        Scenario {
            name: name.to_owned(),
            description: String::new(),
            file: PathBuf::new(),
            system: SystemChoice::Chain(ChainChoice { apps, ..ChainChoice::default() }),
            requests: vec![Request::get("/")],
            faults,
            expect: crate::expectation::Expect::default(),
            tolerate: BTreeMap::new(),
            levels: BTreeMap::new(),
            requires: BTreeMap::new(),
        }
    }

    #[test]
    fn scenarios_share_a_system_unless_they_change_it() {
        let stop = Fault {
            at: "sample-app-2".to_owned(),
            kind: FaultKind::Stop,
            first: None,
            after: None,
        };
        let grouped = groups(vec![
            scenario("a", 2, vec![]),
            scenario("b", 5, vec![]),
            scenario("c", 2, vec![stop]),
            scenario("d", 2, vec![]),
        ]);
        let names: Vec<Vec<&str>> = grouped
            .iter()
            .map(|group| group.scenarios.iter().map(|scenario| scenario.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["a", "d"], vec!["b"], vec!["c"]]);
    }

    /// Runs two scenarios, of which the first is skipped, and gives the result of the other.
    async fn run_of(change: impl FnOnce(&mut Plan)) -> ScenarioResult {
        let (cancel, no) = (CancellationToken::new(), |text: &str| text.to_owned());
        let unavailable = move || {
            let (reason, remedy) = (no("no engine runs"), no("start one"));
            Err(EnvironmentError::Unavailable { environment: "docker", reason, remedy })
        };
        let wanted = scenario("wanted", 2, vec![]);
        let text = "entry: web\nworkloads: [{ name: web, command: [app, '${listen:http}'], ports: [http] }]";
        let file = SystemFile::parse("shop.yaml", text, Path::new("."), &|_| None).unwrap();
        let mut plan = Plan {
            skipped: vec![(scenario("skipped", 2, vec![]), "it needs more".to_owned())],
            systems: [(wanted.system.clone(), file.system(&Secret::new("")).unwrap())].into(),
            scenarios: vec![wanted],
            environment: Box::new(unavailable),
            environment_name: "docker".to_owned(),
            evidence: None,
            parallel: 1,
            fail_fast: false,
            listen: Duration::ZERO,
            keep: false,
            save: None,
            logs: None,
            watch: None,
            halt: cancel.child_token(),
            cancel,
        };
        change(&mut plan);
        let (events, mut received) = mpsc::channel(100);
        let mut summary = run(plan, "1".to_owned(), events).await;
        assert_eq!(summary.verdict(), Verdict::Inconclusive);
        let mut finished = Vec::new();
        while let Some(event) = received.recv().await {
            if let Event::ScenarioFinished { result } = event {
                finished.push(*result);
            }
        }
        assert_eq!(finished, summary.scenarios);
        let result = summary.scenarios.pop().unwrap();
        assert_eq!((result.name.as_str(), result.verdict), ("wanted", Verdict::Inconclusive));
        result
    }

    #[tokio::test]
    async fn a_scenario_that_cannot_be_run_is_inconclusive_with_the_reason() {
        let reason = |result: ScenarioResult| result.undecided.join("; ");
        assert_eq!(
            reason(run_of(|_| {}).await),
            "its environment cannot be set up: the `docker` environment cannot be used: no engine runs; start one"
        );
        let unspecified = run_of(|plan| plan.systems.clear()).await;
        assert_eq!(reason(unspecified), "its system is not specified");
        let halted = run_of(|plan| plan.cancel.cancel()).await;
        assert_eq!(reason(halted), "the run ended before its system was started");
    }

    #[tokio::test]
    async fn a_group_that_panics_leaves_its_scenarios_inconclusive() {
        let result = run_of(|plan| plan.environment = Box::new(|| panic!("a number was 7"))).await;
        let because = "its group was not judged: a bug of tracecheck: a number was 7";
        assert_eq!(result.undecided, [because]);
    }
}
