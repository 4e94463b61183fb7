//! An intake for one test, in the test's own process.

use std::time::Duration;

use harness_core::trace::{Trace, TraceId};

use crate::{
    client::{self, ClientError, IntakeClient},
    server::{RunningServer, ServeError, Server, Settings},
};

/// An intake on a free port of this machine, with the record of what it accepts. Dropping it ends it.
///
/// ```
/// # async fn send(url: &str, trace: &str) -> Result<(), Box<dyn std::error::Error>> {
/// #     let span = serde_json::json!({
/// #         "traceId": trace, "spanId": "00f067aa0ba902b7", "name": "GET /cart", "kind": 2,
/// #         "startTimeUnixNano": "1795386186423000000", "endTimeUnixNano": "1795386186431500000",
/// #     });
/// #     let name = serde_json::json!({ "key": "service.name", "value": { "stringValue": "shop" } });
/// #     let spans = serde_json::json!({ "resource": { "attributes": [name] }, "scopeSpans": [{ "spans": [span] }] });
/// #     let client = harness_core::http::client().build()?;
/// #     let request = client.post(format!("{url}/v1/traces")).header("dd-api-key", "any");
/// #     let request = request.json(&serde_json::json!({ "resourceSpans": [spans] }));
/// #     request.send().await?.error_for_status()?;
/// #     Ok(())
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use harness_intake::Intake;
///
/// let intake = Intake::start().await?;
/// // Whatever is under test sends to `intake.url()`, with any API key.
/// let id = "0af7651916cd43dd8448eb211c80319c";
/// send(&intake.url(), id).await?;
///
/// let trace = intake.trace(id.parse()?, 1, Duration::from_secs(10)).await?;
/// assert_eq!(trace.spans[0].service, "shop");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Intake {
    server: RunningServer,
    client: IntakeClient,
}

/// Error of an intake for a test.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The intake cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The intake cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Spans of a trace did not come in time.
    #[error(
        "trace {id} has {has} of {wanted} spans after {within:?}; {accepted} spans of {traces} traces were accepted, and {unreadable} \
         requests could not be read; look at what the sender logs, and whether it was flushed"
    )]
    Missing {
        /// The trace.
        id: TraceId,
        /// Number of spans of the trace that were accepted.
        has: usize,
        /// Number of spans that were waited for.
        wanted: usize,
        /// Time waited.
        within: Duration,
        /// Number of spans accepted of all traces.
        accepted: u64,
        /// Number of traces of these spans.
        traces: usize,
        /// Number of requests that could not be read.
        unreadable: u64,
    },
}

impl Intake {
    /// Starts an intake with default settings, on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self, IntakeError> {
        Self::start_with(Settings { listen: "127.0.0.1:0".to_owned(), ..Settings::default() }).await
    }

    /// Starts an intake with these settings.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn start_with(settings: Settings) -> Result<Self, IntakeError> {
        let server = Server::bind(settings).await?.spawn();
        let client = IntakeClient::connect(&server.url(), client::Settings::default()).await?;
        Ok(Self { server, client })
    }

    /// Returns the URL to use in place of Datadog's: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns the client, which has the record of everything accepted and scripts replies.
    pub fn client(&self) -> &IntakeClient {
        &self.client
    }

    /// Waits until at least `spans` spans of a trace were accepted, and returns the trace.
    ///
    /// # Errors
    ///
    /// When they are not there in time.
    pub async fn trace(
        &self,
        id: TraceId,
        spans: usize,
        within: Duration,
    ) -> Result<Trace, IntakeError> {
        let mut changed = self.client.changed();
        let waiting = async {
            loop {
                match self.client.trace(id) {
                    Some(trace) if trace.spans.len() >= spans => return Some(trace),
                    _ => changed.changed().await.ok()?,
                }
            }
        };
        if let Ok(Some(trace)) = tokio::time::timeout(within, waiting).await {
            return Ok(trace);
        }
        let counts = self.client.counts();
        Err(IntakeError::Missing {
            id,
            has: self.client.trace(id).map_or(0, |trace| trace.spans.len()),
            wanted: spans,
            within,
            accepted: counts.spans,
            traces: self.client.trace_ids().len(),
            unreadable: counts.undecodable,
        })
    }

    /// Stops the intake gracefully.
    ///
    /// # Errors
    ///
    /// When it had failed before.
    pub async fn stop(self) -> Result<(), IntakeError> {
        let Self { server, client } = self;
        drop(client);
        Ok(server.stop().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spans_that_do_not_come_are_an_error_that_says_what_came() {
        let intake = Intake::start().await.unwrap();
        let missing = intake.trace(TraceId(7), 2, Duration::from_millis(20)).await.unwrap_err();
        let said = missing.to_string();
        assert!(said.contains("has 0 of 2 spans after 20ms; 0 spans of 0 traces"), "{said}");
        intake.stop().await.unwrap();
    }
}
