//! `tracecheck run`.

use std::{collections::BTreeMap, io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::ValueEnum;
use harness::{
    environment::process::ProcessEnvironment,
    report::{Reporter, json::JsonLines, junit::Junit, text::Text},
    run::{self, Plan},
    scenario::{CollectorFeature, Scenario, SystemChoice, load},
    system::build,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::exit_code;

/// Events that may wait for a reporter.
const EVENT_QUEUE: usize = 1024;

/// What to run, where, and how to tell of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Where the systems run.
    #[arg(long, value_enum, default_value_t = EnvironmentKind::Process)]
    env: EnvironmentKind,
    /// Runs only the scenarios whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// How many systems are up at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Ends the run at the first scenario that does not pass.
    #[arg(long)]
    fail_fast: bool,
    /// Leaves the systems running for a look around, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Keeps the run in this folder, for `tracecheck replay` and `tracecheck show --run`.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Writes a JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// What is written to stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The collector's config for every built-in chain, passed on unchanged.
    #[arg(long, value_name = "FILE")]
    collector_config: Option<PathBuf>,
    /// Another collector's command line in place of the built-in collector, split at spaces; `--config` is added.
    #[arg(long, value_name = "COMMAND")]
    collector_command: Option<String>,
    /// What that collector can do of what scenarios require (`requires`); those that require more are skipped, and told as
    /// skipped. May be given several times.
    #[arg(long, value_name = "FEATURE", requires = "collector_command")]
    collector_has: Vec<CollectorFeature>,
    /// Sets an environment variable of a sample app, or of `all` of them: `sample-app-1:OTEL_PROPAGATORS=none`.
    #[arg(long, value_name = "APP:NAME=VALUE")]
    app_env: Vec<AppVariable>,
    /// Tells more of what passed; twice: logs of the harness itself.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EnvironmentKind {
    /// Child processes of this program on free ports.
    Process,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One event a line.
    Json,
}

/// A variable that the command line sets for an app.
#[derive(Debug, Clone)]
struct AppVariable {
    app: String,
    name: String,
    value: String,
}

impl std::str::FromStr for AppVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').and_then(|(app, rest)| Some((app, rest.split_once('=')?)));
        match parts {
            Some((app, (name, value))) if !app.is_empty() && !name.is_empty() => {
                Ok(Self { app: app.to_owned(), name: name.to_owned(), value: value.to_owned() })
            }
            _ => {
                Err("write APP:NAME=VALUE, for example sample-app-1:OTEL_PROPAGATORS=none"
                    .to_owned())
            }
        }
    }
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(if args.verbose > 1 {
            "info,harness=debug,tracecheck=debug"
        } else {
            "off,harness=warn,tracecheck=warn"
        })
        .try_init();
    let scenarios = select(&args)?;
    let mut reporters = reporters(&args)?;
    let run_id = run::new_run_id();
    let cancel = CancellationToken::new();
    cancel_on_signal(cancel.clone())?;
    let plan = plan(&args, scenarios, cancel)?;
    let (tell, mut events) = mpsc::channel(EVENT_QUEUE);
    let reporting = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let mut first_error = Ok(());
        while let Some(event) = events.blocking_recv() {
            for reporter in &mut reporters {
                let observed = reporter.observe(&event);
                if first_error.is_ok() {
                    first_error = observed;
                }
            }
        }
        first_error
    });
    let summary = run::run(plan, run_id, tell).await;
    reporting.await?.context("a report could not be written")?;
    Ok(exit_code::of(summary.verdict()))
}

/// The scenarios that are asked for, with what the command line changes about their systems.
fn select(args: &Args) -> anyhow::Result<Vec<Scenario>> {
    let mut scenarios = load::load(&args.paths)?;
    if !args.filter.is_empty() {
        scenarios.retain(|scenario| args.filter.iter().any(|text| scenario.name.contains(text)));
    }
    for scenario in &mut scenarios {
        let SystemChoice::Chain(chain) = &mut scenario.system else { continue };
        if let Some(config) = &args.collector_config {
            chain.collector_config = Some(config.clone());
        }
        for variable in &args.app_env {
            if variable.app != "all" && !chain.app_names().contains(&variable.app) {
                bail!(
                    "--app-env: scenario `{}` has no app `{}`; it has {}",
                    scenario.name,
                    variable.app,
                    chain.app_names().join(", ")
                );
            }
            let of_app = chain.env.entry(variable.app.clone()).or_default();
            of_app.insert(variable.name.clone(), variable.value.clone());
        }
    }
    Ok(scenarios)
}

fn reporters(args: &Args) -> anyhow::Result<Vec<Box<dyn Reporter + Send>>> {
    let mut reporters: Vec<Box<dyn Reporter + Send>> = vec![match args.format {
        Format::Text => Box::new(Text::new(
            anstream::stdout(),
            std::io::stderr().is_terminal(),
            args.verbose > 0,
        )),
        Format::Json => Box::new(JsonLines(std::io::stdout())),
    }];
    if let Some(path) = &args.junit {
        // Found out now, not after the run.
        std::fs::File::create(path)
            .with_context(|| format!("the JUnit report {} cannot be written", path.display()))?;
        reporters.push(Box::new(Junit::new(path.clone())));
    }
    Ok(reporters)
}

fn plan(args: &Args, scenarios: Vec<Scenario>, cancel: CancellationToken) -> anyhow::Result<Plan> {
    let EnvironmentKind::Process = args.env;
    let command = args.collector_command.as_deref();
    let (mut run, mut skipped) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        let of = |scenario: &Scenario| {
            format!("the system of scenario `{}` ({})", scenario.name, scenario.file.display())
        };
        let features = build::collector_features(&scenario.system, command, &args.collector_has)
            .with_context(|| of(&scenario))?;
        match scenario.is_beyond(&features) {
            Some(because) => skipped.push((scenario, because)),
            None => run.push(scenario),
        }
    }
    let scenarios = run;
    let mut systems = BTreeMap::new();
    for scenario in &scenarios {
        if !systems.contains_key(&scenario.system) {
            let system = build::system(&scenario.system, args.collector_command.as_deref())
                .with_context(|| {
                    format!(
                        "the system of scenario `{}` ({})",
                        scenario.name,
                        scenario.file.display()
                    )
                })?;
            systems.insert(scenario.system.clone(), system);
        }
    }
    let program = std::env::current_exe().context("this program does not know its own path")?;
    Ok(Plan {
        scenarios,
        skipped,
        environment: Box::new(move || Ok(Box::new(ProcessEnvironment::builder(&program).build()?))),
        environment_name: "process".to_owned(),
        systems,
        parallel: usize::from(args.parallel),
        fail_fast: args.fail_fast,
        keep: args.keep,
        save: args.save.clone(),
        halt: cancel.child_token(),
        cancel,
    })
}

/// Cancels the run at the first Ctrl-C or SIGTERM; it still takes everything down. A second one changes nothing: every
/// step of the clean-up has a time limit of its own.
fn cancel_on_signal(cancel: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            cancel.cancel();
        }
    });
    Ok(())
}
