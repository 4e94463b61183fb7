//! The command line of one sample app: environment in, listening line out, signals, exit code.
//!
//! The only module that reads the process's environment or writes to standard output.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::Server;
use crate::settings::Settings;

const ENVIRONMENT: &str = "\
Environment:
  NAME                         name of this hop in the fault header [default: sample-app]
  LISTEN_ADDR                  IP:PORT to listen on, port 0 = a free one [default: 0.0.0.0:8080]
  UPSTREAM_URIS                base URL of the next app (several: comma-separated) [default: none]
  OUTGOING_HTTP_CALL_URL       what /outgoing-http-call calls [default: none]
  HTTP_CLIENT_REQUEST_TIMEOUT  limit of one outgoing request [default: 5s]
  HTTP_CLIENT_RETRIES          0 or 1 [default: 0]
  ERROR_RATE                   share of traces that fail, 0 to 1 [default: 0]
  ERROR_TYPE                   http_error, delay, abort, hang or panic [default: http_error]
  ERROR_CODE, ERROR_DELAY      status of http_error [default: 500], duration of delay
  RAND_SEED                    selects the traces that fail [default: 1]
  TIMING_50_PERCENTILE         latency added to every request [default: 0s]
  OTEL_*                       the OpenTelemetry SDK's standard variables
  RUST_LOG                     what is logged on standard error [default: info]

Exit codes:
  0  stopped by SIGTERM or SIGINT, every sampled span delivered
  1  failed while running, or spans were lost
  2  a setting cannot be used";

/// Runs one sample app. It is set up by environment variables alone.
#[derive(Debug, clap::Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Args {}

/// Runs one sample app until SIGTERM or SIGINT and returns the process's exit code.
pub fn run(_: Args) -> ExitCode {
    init_logging();
    match try_run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where standard error is closed.
            let _ = writeln!(io::stderr(), "error: {:#}", error.cause);
            ExitCode::from(error.code)
        }
    }
}

/// An error and the exit code that it means.
struct Failure {
    code: u8,
    cause: anyhow::Error,
}

fn settings_error(cause: impl Into<anyhow::Error>) -> Failure {
    Failure { code: 2, cause: cause.into() }
}

fn run_error(cause: impl Into<anyhow::Error>) -> Failure {
    Failure { code: 1, cause: cause.into() }
}

fn try_run() -> Result<(), Failure> {
    let settings = Settings::from_vars(&environment()).map_err(settings_error)?;
    // One for requests, one for exports: an app is one of many on its machine.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(run_error)?;
    let outcome = runtime.block_on(serve(settings));
    // An exporter that is still busy after its deadline must not hold the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    // Before the port is bound: from then on a signal must not kill the process.
    let mut terminate = signal(SignalKind::terminate()).map_err(run_error)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(run_error)?;

    let address = settings.listen_addr;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        settings_error(anyhow::anyhow!(
            "LISTEN_ADDR={address}: cannot listen there: {error}; choose another address, or port 0 for a free one"
        ))
    })?;
    let bound = listener.local_addr().map_err(run_error)?;
    let server = Server::start(settings, listener).map_err(settings_error)?;

    let line = serde_json::json!({ "listening": { "http": bound.to_string() } });
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(run_error)?;

    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    };
    server.run(shutdown).await.map_err(run_error)
}

/// Returns the environment; what is not Unicode gets replacement characters, which no setting accepts.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect()
}

fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Fails where an embedding program has set logging up already.
    let _ = subscriber.try_init();
}
