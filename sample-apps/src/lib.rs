//! One chainable, instrumented HTTP service: the system under test.
//!
//! A chain is several of these, each with the next one's URL. A service is traced by the real OpenTelemetry SDK, set
//! up from the standard `OTEL_*` variables alone; it can be made to fail, per request by a header or for good by its
//! environment; and it keeps a ledger of the spans it ended. It knows nothing of the harness that drives it, nor of
//! the collector beyond its endpoint.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`settings`] | the environment, read and checked |
//! | [`fault`] | the grammar of the fault header; standing faults |
//! | [`ledger`] | which spans the service ended, in bounded memory |
//! | `telemetry` | SDK, propagators, exporter, flush |
//! | `span` | a span that ends when it is dropped and that the ledger hears of |
//! | `client` | outgoing calls: one client span per try |
//! | `server` | routes, server spans, faults carried out |
//! | [`command`] | the command line: environment, signals, exit code |

mod client;
pub mod command;
pub mod fault;
pub mod ledger;
mod server;
pub mod settings;
mod span;
mod telemetry;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time;
use tokio_util::sync::CancellationToken;

use client::Client;
use server::App;
use settings::Settings;
pub use telemetry::FlushError;
use telemetry::Telemetry;

/// Longest time for responses to be written once their handlers were cancelled.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Error for an app that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The exporter refused its settings.
    #[error("the span exporter cannot be set up: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The thread that sets the exporter's client up ended early.
    #[error("the span exporter cannot be set up: its thread panicked")]
    ExporterThread,
    /// An HTTP client could not be set up.
    #[error("an HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// Error of an app that was running or stopping.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The app did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The app could not go on serving.
    #[error("serving failed: {0}")]
    Serve(io::Error),
    /// Spans were lost.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The thread that flushes ended early.
    #[error("the flush was cut short: {0}")]
    FlushCut(tokio::task::JoinError),
}

/// An app that is set up and whose port is bound: connections wait until it is run.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
}

impl Server {
    /// Sets an app up; needs a multi-threaded tokio runtime.
    ///
    /// # Errors
    ///
    /// The exporter's or the HTTP client's settings cannot be used.
    pub fn start(settings: Settings, listener: TcpListener) -> Result<Self, StartError> {
        // reqwest has no provider of its own here. An earlier one, of an embedding program, stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let telemetry = Telemetry::start(&settings.telemetry, settings.ledger)?;
        let client = Client::new(settings.client_timeout, settings.client_retries)?;
        let app = App { settings, telemetry, client, stop_now: CancellationToken::new() };
        Ok(Self { app: Arc::new(app), listener })
    }

    /// Serves until `shutdown` completes, then stops in order: accepts no more, lets requests in flight end within the
    /// drain timeout (then answers them 503), exports the last spans.
    ///
    /// # Errors
    ///
    /// Serving failed, or sampled spans were not delivered.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { app, listener } = self;
        let stopping = CancellationToken::new();
        let served = {
            let serving = server::serve(Arc::clone(&app), listener, stopping.clone());
            tokio::pin!(serving);
            tokio::select! {
                served = &mut serving => served,
                () = shutdown => {
                    stopping.cancel();
                    match time::timeout(app.settings.drain_timeout, &mut serving).await {
                        Ok(served) => served,
                        Err(_) => {
                            tracing::warn!("requests in flight did not end within {:?}", app.settings.drain_timeout);
                            app.stop_now.cancel();
                            time::timeout(LAST_ANSWERS, &mut serving).await.unwrap_or(Ok(()))
                        }
                    }
                }
            }
        };
        // Blocks, and the gRPC exporter needs the runtime's threads meanwhile.
        let flush = tokio::task::spawn_blocking(move || {
            app.telemetry.shut_down(app.settings.flush_timeout)
        });
        flush.await.map_err(RunError::FlushCut)??;
        served.map_err(RunError::Serve)
    }
}

/// Sets an app up and serves until `shutdown` completes: [`Server::start`] and [`Server::run`].
///
/// # Errors
///
/// As these two.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    Server::start(settings, listener)?.run(shutdown).await
}
