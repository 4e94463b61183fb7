//! `tracecheck run`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use harness::{
    evidence::EvidenceSource,
    load,
    report::html::live::Board,
    run::{self, Plan, Watch, kept_logs::KeptLogs},
    scenario::{CollectorFeature, Scenario, SystemChoice},
    system::build::{self, Variable},
    verdict::{Summary, Verdict},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use self::systems::{Chosen, Systems};
use super::{
    attach,
    datadog::{self, EvidenceChoice},
    environment, exit_code, html, output,
};

mod beside;
mod systems;

/// Events that may wait for a reporter.
const EVENT_QUEUE: usize = 1024;

/// Options of `run`: what is run, where, and how it is reported.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    environment: environment::Args,
    #[command(flatten)]
    attach: attach::Args,
    /// Source of evidence. With `datadog`, collectors send to Datadog, and DD_SITE, DD_API_KEY and DD_APP_KEY say where it is
    /// asked for each trace.
    #[arg(long, value_enum, default_value_t = EvidenceChoice::Mock)]
    evidence: EvidenceChoice,
    #[command(flatten)]
    datadog: datadog::Args,
    /// Runs only the scenarios whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// How many systems are up at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Ends the run at the first scenario that does not pass.
    #[arg(long)]
    fail_fast: bool,
    /// Listens for so long before a system is stopped, for spans that come again, or too late: `5s`.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    listen: Duration,
    /// Leaves the systems running for a look around, until Ctrl-C.
    #[arg(long)]
    pub(super) keep: bool,
    /// Keeps the run in this folder, for `tracecheck replay` and `tracecheck show --run`.
    #[arg(long, value_name = "DIR")]
    pub(super) save: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: output::Args,
    #[command(flatten)]
    pub(super) html: html::Args,
    /// The collector's config for every system, passed on unchanged.
    #[arg(long, value_name = "FILE")]
    collector_config: Option<PathBuf>,
    /// Leaves out of that config what is for metrics, logs and profiles alone; a note says so of each part.
    #[arg(long, requires = "collector_config", conflicts_with = "collector_command")]
    traces_only: bool,
    /// Another collector's command line in place of the built-in collector, split as a shell does, quotes and all; `--config` is added.
    #[arg(long, value_name = "COMMAND", value_parser = command_line)]
    collector_command: Option<CommandLine>,
    /// Feature of that collector that scenarios may require (`requires`); scenarios that require more are skipped, and reported as
    /// skipped. May be given several times.
    #[arg(long, value_name = "FEATURE")]
    collector_has: Vec<CollectorFeature>,
    #[command(flatten)]
    pub(super) beside: beside::Args,
    /// Sets an environment variable of a service, or of `all` of them: `sample-app-1:OTEL_PROPAGATORS=none`.
    #[arg(long, value_name = "APP:NAME=VALUE", value_parser = variable)]
    app_env: Vec<Variable>,
    /// Prints more of what passed; twice: logs of the harness itself.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// A program and its arguments.
#[derive(Debug, Clone)]
struct CommandLine(Vec<String>);

fn command_line(text: &str) -> Result<CommandLine, String> {
    match shlex::split(text) {
        None => Err("it has an unclosed quote, or ends with a backslash".to_owned()),
        Some(words) if words.is_empty() => {
            Err("name a program, for example /usr/local/bin/otelcol".to_owned())
        }
        Some(words) => Ok(CommandLine(words)),
    }
}

fn variable(text: &str) -> Result<Variable, String> {
    let parts = text.split_once(':').and_then(|(app, rest)| Some((app, rest.split_once('=')?)));
    match parts {
        Some((app, (name, value))) if !app.is_empty() && !name.is_empty() => Ok(Variable {
            workload: app.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(format!(
            "{}; write APP:NAME=VALUE, for example sample-app-1:OTEL_PROPAGATORS=none; `all` is every app",
            match parts {
                Some(_) => "APP or NAME is empty",
                None if !text.contains(':') => "it has no `:` between APP and NAME",
                None => "it has no `=` between NAME and VALUE",
            }
        )),
    }
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log();
    args.html.check()?;
    let cancel = CancellationToken::new();
    cancel_on_signal(cancel.clone())?;
    if args.beside.is_wanted() {
        let output = args.output.open(args.verbose > 0)?;
        return beside::run(args, output, cancel).await;
    }
    Ok(exit_code::of(run_for(&args, None, cancel).await?))
}

/// Runs the scenarios once, with all reports that are asked for, before the eyes of whoever looks at the board.
pub(super) async fn run_for(
    args: &Args,
    board: Option<&Board>,
    cancel: CancellationToken,
) -> anyhow::Result<Verdict> {
    let mut output = args.output.open(args.verbose > 0)?;
    if let Some(board) = board {
        output.add("the page", Box::new(board.clone()));
    }
    let mut save = args.save.clone();
    // Its records and attempts are what the report is made of. Kept until that is written.
    let _folder = args.html.save_folder(&mut save)?;
    let watch = board.map(|board| Arc::new(board.clone()) as Arc<dyn Watch>);
    let (summary, environment) = drive(args, save.clone(), (output, watch), cancel).await?;
    args.html.write_saved((&summary, &environment), save.as_deref())?;
    Ok(summary.verdict())
}

/// Runs the scenarios once, keeps the run in `save`, and returns its outcome and the name of its environment.
async fn drive(
    args: &Args,
    save: Option<PathBuf>,
    (mut output, watch): (output::Output, Option<Arc<dyn Watch>>),
    cancel: CancellationToken,
) -> anyhow::Result<(Summary, String)> {
    let run_id = run::new_run_id();
    let source = args.source()?;
    args.show_how_to_attach(&run_id);
    let (mut plan, release) = plan_of(args, &run_id, source, cancel).await?;
    plan.save = save;
    plan.watch = watch;
    let environment = plan.environment_name.clone();
    let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
    let reporting = tokio::task::spawn_blocking(move || {
        while let Some(event) = events.blocking_recv() {
            output.observe(&event);
        }
        output.finish()
    });
    let summary = run::run(plan, run_id, sender).await;
    let reported = reporting.await;
    if let Some(release) = release {
        release.await?;
    }
    reported??;
    Ok((summary, environment))
}

/// Plans a run of the scenarios that are asked for, with all that has to be done and logged before it begins.
pub(super) async fn plan_of(
    args: &Args,
    run_id: &str,
    source: Option<Arc<dyn EvidenceSource>>,
    cancel: CancellationToken,
) -> anyhow::Result<(Plan, Option<environment::Release>)> {
    let scenarios = select(args)?;
    if let Some(dir) = &args.save {
        make_save_folder(dir)?;
    }
    let planned = plan(args, scenarios, run_id, source, cancel).await?;
    args.environment.remove_leftovers().await;
    Ok(planned)
}

impl Args {
    /// Lets the harness's own logs be written to stderr.
    pub(super) fn log(&self) {
        let _already_set = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(if self.verbose > 1 {
                "info,harness=debug,tracecheck=debug"
            } else {
                "off,harness=warn,tracecheck=warn"
            })
            .try_init();
    }

    /// Prints how a collector that is there already is pointed at the mock intake, at the address that it is to have.
    pub(super) fn show_how_to_attach(&self, run_id: &str) {
        if self.attach.is_wanted() && self.evidence == EvidenceChoice::Mock {
            super::progress(&self.attach.how_to(&self.environment, run_id));
        }
    }

    /// Refuses what fits one run, and not several.
    pub(super) fn check_rounds(&self) -> anyhow::Result<()> {
        match self.evidence {
            EvidenceChoice::Mock => self.attach.check_rounds(&self.environment),
            EvidenceChoice::Datadog => Ok(()),
        }
    }

    /// Returns whether the evidence comes from the mock intake.
    fn has_mock(&self) -> bool {
        self.evidence == EvidenceChoice::Mock
    }

    /// Another source of evidence than the mock intake, where one is asked for.
    pub(super) fn source(&self) -> anyhow::Result<Option<Arc<dyn EvidenceSource>>> {
        Ok(match self.evidence {
            EvidenceChoice::Mock => None,
            EvidenceChoice::Datadog => Some(self.datadog.source()?),
        })
    }
}

/// The scenarios that are asked for, with what the command line changes about their systems.
pub(super) fn select(args: &Args) -> anyhow::Result<Vec<Scenario>> {
    let mut scenarios = load::load(&args.paths)?;
    let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let wanted = super::filter(&names, &args.filter);
    scenarios.retain(|scenario| wanted.contains(&scenario.name));
    // A system is known by what its scenario says, so that a chain with another config is another system.
    for scenario in &mut scenarios {
        if let (SystemChoice::Chain(chain), Some(config)) =
            (&mut scenario.system, &args.collector_config)
        {
            chain.collector_config = Some(config.clone());
        }
    }
    Ok(scenarios)
}

/// Refuses a scenario that asks for something between two workloads, which cannot be put into a system that is up already.
fn refuse_taps(scenario: &Scenario) -> anyhow::Result<()> {
    let between = scenario.faults.iter().find_map(|fault| Some((fault.kind.between()?, &fault.at)));
    let Some((between, callee)) = between else { return Ok(()) };
    bail!(
        "scenario `{}` ({}): nothing can be put between `{}` and `{callee}` in a system that is up already; leave the scenario out, or run it without --attach",
        scenario.name,
        scenario.file.display(),
        between.caller
    )
}

/// Makes the folder of a run that is kept, and refuses one that another run is kept in.
fn make_save_folder(dir: &Path) -> anyhow::Result<()> {
    let unusable = || format!("--save: the folder {} cannot be used", dir.display());
    if dir.is_file() {
        bail!(
            "--save: {} is a file, and cannot be used as a folder; name another one",
            dir.display()
        );
    }
    std::fs::create_dir_all(dir).with_context(unusable)?;
    for entry in std::fs::read_dir(dir).with_context(unusable)? {
        if entry.with_context(unusable)?.file_name().to_string_lossy().starts_with("system-") {
            bail!(
                "--save: the folder {} holds a run already; name another one, or remove it first",
                dir.display()
            );
        }
    }
    tempfile::tempfile_in(dir).with_context(unusable)?;
    Ok(())
}

async fn plan(
    args: &Args,
    scenarios: Vec<Scenario>,
    run_id: &str,
    evidence: Option<Arc<dyn EvidenceSource>>,
    cancel: CancellationToken,
) -> anyhow::Result<(Plan, Option<environment::Release>)> {
    let mut kind = Systems::of(args);
    let overrides = kind.overrides()?;
    if args.attach.is_wanted() {
        scenarios.iter().try_for_each(refuse_taps)?;
    }
    let of = |scenario: &Scenario| {
        format!("the system of scenario `{}` ({})", scenario.name, scenario.file.display())
    };
    let for_features = kind.for_features(&overrides);
    let (mut run, mut skipped) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        let features =
            build::collector_features(&scenario.system, &for_features, &args.collector_has)
                .with_context(|| of(&scenario))?;
        match scenario.is_beyond(|feature| features.lack(feature)) {
            Some(because) => skipped.push((scenario, because)),
            None => run.push(scenario),
        }
    }
    let mut systems = BTreeMap::new();
    for scenario in &run {
        if !systems.contains_key(&scenario.system) {
            let built = kind.build(&scenario.system, &overrides).await;
            systems.insert(scenario.system.clone(), built.with_context(|| of(scenario))?);
        }
    }
    let Chosen { name, new, release } = kind.environment(&run, run_id, &cancel).await?;
    let plan = Plan {
        scenarios: run,
        skipped,
        environment: new,
        environment_name: name,
        evidence,
        systems,
        parallel: kind.parallel(),
        fail_fast: args.fail_fast,
        listen: args.listen,
        keep: args.keep,
        save: args.save.clone(),
        watch: None,
        logs: kind.keeps_logs().then(|| KeptLogs::new(std::env::temp_dir(), run_id)),
        halt: cancel.child_token(),
        cancel,
    };
    Ok((plan, release))
}

/// Cancels the run at the first Ctrl-C, SIGTERM or SIGHUP; it still takes everything down. A second one changes nothing: every
/// step of the clean-up has a time limit of its own.
pub(super) fn cancel_on_signal(cancel: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            cancel.cancel();
        }
    });
    Ok(())
}
