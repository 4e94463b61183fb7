//! The mock intake as a program: arguments, logging, signals, exit code.
//!
//! Only this file of the intake reads the environment and prints.

use std::{io::Write, process::ExitCode, time::Duration};

use bytesize::ByteSize;
use harness_core::fail;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    API_KEY_VARIABLE, ApiKey,
    server::{ServeError, Server, Settings},
    store::Bounds,
};

/// Stands in for Datadog: keeps what it is sent, and shows it at /_intake/ and on the page /.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen at; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8126")]
    listen: String,

    /// API key that clients must send; without it, any that is not empty will do. Others on this machine can read
    /// arguments: rather use the environment variable DD_API_KEY
    #[arg(long, value_name = "KEY")]
    api_key: Option<ApiKey>,

    /// Memory for what is kept; beyond it the oldest goes first
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = at_least_one_byte)]
    max_memory: ByteSize,

    /// Number of requests that are kept; beyond it the oldest goes first
    #[arg(long, value_name = "N", default_value_t = Bounds::default().max_attempts, value_parser = at_least_one)]
    max_attempts: usize,

    /// Largest body as received; a larger one is answered 413
    #[arg(long, value_name = "SIZE", default_value = "3.2MB")]
    max_body: ByteSize,

    /// Largest body once decompressed; a larger one is answered 400
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    max_decoded: ByteSize,

    /// Time that a body may take to arrive
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    body_timeout: Duration,
}

fn at_least_one_byte(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        ByteSize(0) => Err("nothing would be kept; give for example 64MiB".to_owned()),
        size => Ok(size),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("nothing would be kept; give 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// The key that the environment names; a variable that is set but empty names none.
fn key_from_environment(value: Option<&str>) -> Result<Option<ApiKey>, String> {
    match value {
        None | Some("") => Ok(None),
        Some(text) => match text.parse() {
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(format!("{API_KEY_VARIABLE}: {error}")),
        },
    }
}

impl Args {
    fn into_settings(self) -> Settings {
        let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        Settings {
            listen: self.listen,
            api_key: self.api_key,
            bounds: Bounds { max_bytes: bytes(self.max_memory), max_attempts: self.max_attempts },
            max_body: bytes(self.max_body),
            max_decoded: bytes(self.max_decoded),
            body_timeout: self.body_timeout,
            ..Settings::default()
        }
    }
}

/// Serves until SIGTERM or SIGINT. Exits 0 then, 2 where it cannot listen, 1 where it failed later.
pub fn run(mut args: Args) -> ExitCode {
    if args.api_key.is_none() {
        match key_from_environment(std::env::var(API_KEY_VARIABLE).ok().as_deref()) {
            Ok(key) => args.api_key = key,
            Err(message) => return fail(&message, 2),
        }
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Somebody else may have set up logging already; then that holds.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), 1),
    };
    match runtime.block_on(serve(args.into_settings())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (ServeError::AddressInUse { .. } | ServeError::Bind { .. })) => {
            fail(&error.to_string(), 2)
        }
        Err(error @ ServeError::Serve(_)) => fail(&error.to_string(), 1),
    }
}

async fn serve(settings: Settings) -> Result<(), ServeError> {
    // Before the listening line: whoever reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Serve)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Serve)?;
    let server = Server::bind(settings).await?;
    let line = serde_json::json!({ "listening": { "http": server.address().to_string() } });
    // A reader that is not there is no reason not to serve.
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, "cannot print the listening line");
    }
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn arguments_become_settings() {
        let words = ["intake", "--listen", "127.0.0.1:0", "--api-key", "k", "--max-memory", "1MiB"];
        let settings = Cli::parse_from(words).args.into_settings();
        assert_eq!(settings.api_key, Some("k".parse().unwrap()));
        assert_eq!((settings.bounds.max_bytes, settings.max_body), (1 << 20, 3_200_000));
    }

    #[test]
    fn a_wrong_argument_is_an_error_that_names_it() {
        for (flag, value) in [
            ("--api-key", ""),
            ("--max-body", "big"),
            ("--body-timeout", "soon"),
            ("--max-memory", "0"),
            ("--max-attempts", "0"),
        ] {
            let error = Cli::try_parse_from(["intake", flag, value]).err().unwrap();
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn a_variable_that_is_set_but_empty_asks_for_no_key() {
        assert_eq!(key_from_environment(None), Ok(None));
        assert_eq!(key_from_environment(Some("")), Ok(None));
        assert_eq!(key_from_environment(Some("k")), Ok(Some("k".parse().unwrap())));
    }
}
