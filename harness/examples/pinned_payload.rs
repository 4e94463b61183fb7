//! The intake alone, as easily as a mock server: a payload that an exporter sends is captured, and pinned by a snapshot:
//! `cargo test -p harness --example pinned_payload`, and with `INSTA_UPDATE=always` before it to pin it anew.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::{error::Error, time::Duration};

use harness::{intake::Intake, trace::Trace};
use serde_json::json;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Sends a span of a cart to Datadog's OTLP intake, in place of the exporter under test.
async fn export(url: &str) -> Result<(), reqwest::Error> {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = json!({
        "traceId": TRACE, "spanId": "00f067aa0ba902b7", "name": "GET /cart", "kind": 2,
        "startTimeUnixNano": "1795386186423000000", "endTimeUnixNano": "1795386186431500000",
        "attributes": [text("http.request.method", "GET"), text("http.route", "/cart")],
    });
    let resource = json!({ "attributes": [text("service.name", "shop")] });
    let spans = json!({ "resource": resource, "scopeSpans": [{ "spans": [span] }] });
    let client = reqwest::Client::new();
    let request = client.post(format!("{url}/v1/traces")).header("dd-api-key", "any");
    request.json(&json!({ "resourceSpans": [spans] })).send().await?.error_for_status()?;
    Ok(())
}

/// Returns what the intake captured of it.
async fn captured() -> Result<Trace, Box<dyn Error>> {
    _ = rustls::crypto::ring::default_provider().install_default();
    let intake = Intake::start().await?;
    export(&intake.url()).await?;
    let trace = intake.trace(TRACE.parse()?, 1, Duration::from_secs(10)).await?;
    intake.stop().await?;
    Ok(trace)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string_pretty(&captured().await?)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_payload_is_the_one_that_was_pinned() {
        insta::assert_json_snapshot!(captured().await.unwrap());
    }
}
