//! The program: arguments, signals, output and exit codes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Sources};
use crate::connector::ConnectorConfig;
use crate::exporter::ExporterConfig;
use crate::extension::ExtensionConfig;
use crate::pipeline::{Collector, Drained};
use crate::processor::ProcessorConfig;
use crate::receiver::ReceiverConfig;
use crate::settings::{Component as _, duration};
use crate::telemetry::{log, process};

/// Everything was sent.
const OK: u8 = 0;
/// It failed while running, or something could not be sent.
const FAILED: u8 = 1;
/// The arguments or the config are wrong.
const USAGE: u8 = 2;

/// Arguments of the collector's command.
#[derive(Debug, clap::Args)]
#[command(version, disable_version_flag = true, arg = version_flag())]
pub struct Args {
    #[command(flatten)]
    sources: SourceArgs,
    /// How long to go on sending after SIGTERM or SIGINT; what is left then is reported as lost, and the exit code is 1
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    shutdown_timeout: Duration,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct SourceArgs {
    /// A config: a path, `file:PATH`, `env:NAME` or `yaml:TEXT`; several are merged, the last one wins
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// A single setting, laid upon the configs
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Feature gates by the names of the Collector's Datadog exporter, joined by commas; `-` in front switches one off
    #[arg(long, value_name = "GATES", allow_hyphen_values = true)]
    feature_gates: Vec<String>,
    /// Leave out pipelines of other signals, and what they alone use, instead of refusing them
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true
    )]
    traces_only: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a config without running it; needs neither key nor network
    Validate(SourceArgs),
    /// Print a config after checking it as `validate` does
    #[command(visible_alias = "print-initial-config")]
    PrintConfig(PrintArgs),
    /// List the components that are built in
    Components,
}

#[derive(Debug, clap::Args)]
struct PrintArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// `redacted`: as it is understood, with every default and without secrets; `unredacted`: as it was put together, with them
    #[arg(long, value_enum, default_value = "redacted", hide_possible_values = true)]
    mode: PrintMode,
    /// `yaml` or `json`
    #[arg(long, value_enum, default_value = "yaml", hide_possible_values = true)]
    format: PrintFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PrintMode {
    Redacted,
    Unredacted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PrintFormat {
    Yaml,
    Json,
}

/// `--version` as the Collector has it, so also with a small `v`, and below a command that carries the collector in itself.
fn version_flag() -> Arg {
    Arg::new("version")
        .short('v')
        .short_alias('V')
        .long("version")
        .help("Print version")
        .action(ArgAction::Version)
}

/// Runs the collector until it is asked to stop by a signal.
pub fn run(args: Args) -> ExitCode {
    ExitCode::from(match args.command {
        Some(Command::Components) => components(),
        Some(Command::Validate(sources)) => validate(args.sources.and(sources)),
        Some(Command::PrintConfig(print)) => print_config(args.sources, print),
        None => match load(args.sources) {
            Ok(config) => serve(config, args.shutdown_timeout),
            Err(code) => code,
        },
    })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "write for example `20s` or `1m30s`".into())
}

impl From<SourceArgs> for Sources {
    fn from(args: SourceArgs) -> Self {
        Self {
            configs: args.config,
            settings: args.set,
            feature_gates: args.feature_gates,
            traces_only: args.traces_only,
        }
    }
}

impl SourceArgs {
    /// Lays sources that were given behind the subcommand upon those that were given before it.
    fn and(mut self, behind: Self) -> Self {
        self.config.extend(behind.config);
        self.set.extend(behind.set);
        self.feature_gates.extend(behind.feature_gates);
        self.traces_only |= behind.traces_only;
        self
    }
}

fn validate(sources: SourceArgs) -> u8 {
    match Config::check(&sources.into(), &|name| std::env::var(name).ok()) {
        Ok(notes) => {
            notes.iter().for_each(|note| last_word(note, "note"));
            OK
        }
        Err(error) => {
            last_word(&error, "error");
            USAGE
        }
    }
}

fn print_config(before: SourceArgs, args: PrintArgs) -> u8 {
    let sources = before.and(args.sources).into();
    let unredacted = args.mode == PrintMode::Unredacted;
    let printed = Config::printed(&sources, &|name| std::env::var(name).ok(), unredacted);
    let (printed, notes) = match printed {
        Ok(printed) => printed,
        Err(error) => {
            last_word(&error, "error");
            return USAGE;
        }
    };
    notes.iter().for_each(|note| last_word(note, "note"));
    let text = match args.format {
        PrintFormat::Json => {
            serde_json::to_string_pretty(&printed).map_err(|error| error.to_string())
        }
        PrintFormat::Yaml => serde_saphyr::to_string(&printed).map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => {
            // Nobody may be reading it.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            OK
        }
        Err(error) => {
            last_word(&format_args!("the config cannot be written: {error}"), "error");
            FAILED
        }
    }
}

fn load(sources: SourceArgs) -> Result<Config, u8> {
    let config = Config::load(&sources.into(), &|name| std::env::var(name).ok());
    config.inspect(|config| config.notes().iter().for_each(|note| last_word(note, "note"))).map_err(
        |error| {
            last_word(&error, "error");
            USAGE
        },
    )
}

fn serve(config: Config, shutdown_timeout: Duration) -> u8 {
    log::init(&config.service);
    process::begin();
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            last_word(&format_args!("cannot start threads: {error}"), "error");
            return FAILED;
        }
    };
    let code = runtime.block_on(async {
        let collector = match Collector::bind(config, &hostname()).await {
            Ok(collector) => collector,
            Err(error) => {
                last_word(&error, "error");
                return FAILED;
            }
        };
        let shutdown = CancellationToken::new();
        if let Err(error) = stop_on_signal(&shutdown) {
            last_word(&format_args!("cannot wait for signals: {error}"), "error");
            return FAILED;
        }
        let ports = collector.ports();
        let running = collector.run(shutdown, shutdown_timeout);
        announce(&ports);
        match running.await {
            Ok(drained) if drained.is_clean() => {
                let kept: u64 = drained.kept.values().sum();
                if kept > 0 {
                    last_word(&format_args!("{kept} spans could not be sent within {shutdown_timeout:?} of shutting down; they are on disk, and are sent after the next start"), "note");
                }
                OK
            }
            Ok(Drained { invalid_key: true, .. }) => {
                last_word(&"Datadog refuses the API key, and `api.fail_on_invalid_key` is set; check `api.key` and `api.site`", "error");
                FAILED
            }
            Ok(Drained { failure: Some(failure), left, kept, .. }) => {
                let (left, kept): (u64, u64) = (left.values().sum(), kept.values().sum());
                last_word(&format_args!("{failure}; {left} spans are lost and {kept} are on disk; start the collector again, and see its log"), "error");
                FAILED
            }
            Ok(drained) => {
                let left: u64 = drained.left.values().sum();
                last_word(&format_args!("{left} spans could not be sent within {shutdown_timeout:?} of shutting down; they are lost"), "error");
                FAILED
            }
            Err(error) => {
                last_word(&error, "error");
                FAILED
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Lets this process have as many open files, and so connections, as it may: many systems begin with 1024.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files cannot be raised");
    }
}

/// Says on standard output where the collector listens, as one line of JSON.
fn announce(ports: &BTreeMap<String, SocketAddr>) {
    let line = serde_json::json!({ "listening": ports });
    let mut out = std::io::stdout();
    // Nobody may be reading it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn stop_on_signal(shutdown: &CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

/// This machine's host name; empty if it has none.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

fn components() -> u8 {
    let list = serde_json::json!({
        "receivers": ReceiverConfig::KINDS,
        "processors": ProcessorConfig::KINDS,
        "exporters": ExporterConfig::KINDS,
        "connectors": ConnectorConfig::KINDS,
        "extensions": ExtensionConfig::KINDS,
    });
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{list:#}");
    OK
}

#[expect(clippy::print_stderr, reason = "the process's last word, also where no log is set up yet")]
fn last_word(word: &dyn std::fmt::Display, kind: &str) {
    eprintln!("{kind}: {word}");
}
