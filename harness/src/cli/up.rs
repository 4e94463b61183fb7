//! `tracecheck up`: a system that stays while somebody works on it.
//!
//! The keeper is this program again, in a session of its own, or this very process with `--foreground`.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use harness::{
    environment::EnvironmentError,
    run,
    scenario::SystemChoice,
    standing::{self, Health, KeepError, StandingPlace, What},
    system::build::{self, Overrides},
};
use tokio_util::sync::CancellationToken;

use super::{
    choice::{check_traces_only, system_of},
    collector_check, environment, exit_code,
    run::cancel_on_signal,
    standing::{DEFAULT_NAME, Home, reported},
};

/// How often it is looked whether the system is ready.
const LOOK: Duration = Duration::from_millis(50);

/// Which system, where, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A system file, or a scenario file whose system is meant; the built-in chain of two when left out.
    scenario: Option<PathBuf>,
    /// The system's name, for `status` and `down`.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    name: String,
    /// After this time it is taken down by itself; at most 24 h.
    #[arg(long = "for", value_name = "DURATION", default_value = "8h", value_parser = time)]
    time: Duration,
    /// Stays in the foreground until Ctrl-C or SIGTERM.
    #[arg(long)]
    foreground: bool,
    /// Set where the keeper is started.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    keeper: bool,
    /// The collector's config, passed on unchanged.
    #[arg(long, value_name = "FILE")]
    collector_config: Option<PathBuf>,
    /// Leaves out of that config what is for metrics, logs and profiles alone; a note says so of each part.
    #[arg(long, requires = "collector_config")]
    traces_only: bool,
    #[command(flatten)]
    environment: environment::Args,
    #[command(flatten)]
    home: Home,
}

/// As long as what is in a cluster is nobody else's to remove.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time.is_zero() || time > LONGEST {
        true => Err("write a time of at most 24h, for example 90m".to_owned()),
        false => Ok(time),
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(longest) = args.environment.longest().filter(|longest| args.time > *longest) {
        bail!(
            "--for {}: with `--env eks` a system stays up for {} at most, since its cluster may be removed soon after",
            humantime::format_duration(args.time),
            humantime::format_duration(longest)
        );
    }
    let place = args.home.place(&args.name)?;
    match args.foreground || args.keeper {
        true => keep(args, &place),
        false => start(&args, &place),
    }
}

/// Starts a keeper and waits until its system is ready.
#[tokio::main]
async fn start(args: &Args, place: &StandingPlace) -> anyhow::Result<ExitCode> {
    if place.keeper()?.is_some() {
        // Says by whom.
        place.take()?;
    }
    place.make()?;
    let log = place.log();
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let program =
        std::env::current_exe().context("the path of this program cannot be determined")?;
    let mut keeper = Command::new(program);
    keeper.args(std::env::args_os().skip(1)).arg("--keeper").stdin(Stdio::null());
    keeper.stdout(output.try_clone()?).stderr(output);
    let mut keeper = keeper.spawn().context("the keeper cannot be started")?;
    super::progress(&format!(
        "bringing up `{}`; progress is logged to {}",
        args.name,
        log.display()
    ));
    // The keeper's own limits end this: each part has a time in which it must be ready.
    let standing = loop {
        if let Some(status) = keeper.try_wait()? {
            return ended(place, status);
        }
        match place.standing()? {
            Some(standing) if standing.keeper == keeper.id() => break standing,
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    super::print(&reported(&standing, &Health::new()))
}

/// Passes on what a keeper said that has no system.
fn ended(place: &StandingPlace, status: ExitStatus) -> anyhow::Result<ExitCode> {
    if status.success() {
        bail!("the system came up, but its time limit has already passed: raise `--for`");
    }
    let log = place.log();
    let said = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    std::io::stderr().write_all(&said)?;
    if said.is_empty() {
        bail!("the keeper exited ({status}) without a message");
    }
    // What is wrong is reported, and nothing of the system is left; another keeper may have been faster.
    if place.keeper()?.is_none() {
        place.remove()?;
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(exit_code::INCONCLUSIVE)))
}

/// Is the keeper.
#[tokio::main]
async fn keep(args: Args, place: &StandingPlace) -> anyhow::Result<ExitCode> {
    let _already_set = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter("off,harness=info,tracecheck=info")
        .try_init();
    if args.keeper {
        // The terminal's end is not the system's. This process leads no group yet, so this does not fail.
        nix::unistd::setsid().context("the keeper cannot detach from the terminal")?;
    }
    let placed = place.take()?;
    let stop = CancellationToken::new();
    cancel_on_signal(stop.clone())?;
    check_traces_only(args.traces_only, args.environment.has_collector_image())?;
    let overrides = Overrides {
        collector_config: args.collector_config.clone(),
        traces_only: args.traces_only,
        ..Overrides::default()
    };
    let choice = system_of(args.scenario.as_deref(), args.collector_config.as_deref())?;
    if let SystemChoice::File(path) = &choice {
        args.environment.check_system(path).context("the system")?;
    }
    let built = build::system(&choice, &overrides).context("the system")?;
    if let Some(config) = built.collector_config {
        collector_check::check(&built.system, &config).await?;
    }
    let run_id = run::new_run_id();
    let wanted = environment::Wanted { run_id: &run_id, keep: false, cancel: &stop };
    let chosen = args.environment.choose(&wanted).await?;
    let mut environment = (chosen.new)()?;
    let what = What {
        name: args.name.clone(),
        run: run_id.clone(),
        environment: chosen.name.to_owned(),
        time: args.time,
    };
    let in_foreground = !args.keeper;
    let ready = |standing: &standing::Standing| {
        if in_foreground {
            // Nobody reads it, where that fails.
            let _ = super::print(&reported(standing, &Health::new()));
        }
    };
    let kept =
        standing::keep(&what, &built.system, environment.as_mut(), &placed, &stop, ready).await;
    drop(environment);
    if let Some(release) = chosen.release {
        release.await?;
    }
    if let Err(KeepError::Environment(error @ EnvironmentError::UncleanStop(_))) = &kept {
        // All of it is gone; that something of it may be lost is for whoever takes it down.
        placed.report_end(&error.to_string())?;
    }
    kept?;
    Ok(ExitCode::SUCCESS)
}
