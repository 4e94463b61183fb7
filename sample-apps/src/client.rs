//! Calls to other services: one client span per try, by the HTTP semantic conventions.
//!
//! Redirects are not followed and nothing is retried behind the spans' back, so that each client span is one request.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute as semconv;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url, Version, redirect, retry};

use crate::fault::RESEND_HEADER;
use crate::span::OpenSpan;
use crate::telemetry::Telemetry;

/// Bytes read of an answer's body; a longer one is cut off.
const MAX_BODY: usize = 1 << 20;

/// Sends requests, with a timeout and perhaps one retry.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    timeout: Duration,
    retries: u32,
}

/// A call that was answered without an error status.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Requests sent.
    pub(crate) tries: u32,
}

/// Error of a call, after all its tries.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url} did not answer within {timeout:?}")]
    TimedOut { url: String, timeout: Duration },
    #[error("{url} could not be called: {cause}")]
    Failed { url: String, cause: String },
}

impl Client {
    pub(crate) fn new(timeout: Duration, retries: u32) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .user_agent(concat!("sample-app/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, timeout, retries })
    }

    /// Sends a GET with the context's trace headers and `headers`. A try is repeated where nothing was answered or the
    /// status is 5xx, as long as retries are left.
    pub(crate) async fn get(
        &self,
        telemetry: &Telemetry,
        parent: &Context,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Answered, CallError> {
        let mut resend_count = 0;
        loop {
            let outcome = self.try_once(telemetry, parent, url, headers, resend_count).await;
            let again = match &outcome {
                Ok(_) => false,
                Err(CallError::Status { status, .. }) => *status >= 500,
                Err(CallError::TimedOut { .. } | CallError::Failed { .. }) => true,
            };
            if !again || resend_count == self.retries {
                return outcome.map(|status| Answered { status, tries: resend_count + 1 });
            }
            resend_count += 1;
        }
    }

    async fn try_once(
        &self,
        telemetry: &Telemetry,
        parent: &Context,
        url: &Url,
        headers: &HeaderMap,
        resend_count: u32,
    ) -> Result<u16, CallError> {
        let mut attributes = vec![
            KeyValue::new(semconv::HTTP_REQUEST_METHOD, "GET"),
            KeyValue::new(semconv::URL_FULL, without_credentials(url)),
            KeyValue::new(semconv::SERVER_ADDRESS, url.host_str().unwrap_or_default().to_owned()),
            KeyValue::new(
                semconv::SERVER_PORT,
                i64::from(url.port_or_known_default().unwrap_or_default()),
            ),
        ];
        let mut headers = headers.clone();
        if resend_count > 0 {
            attributes
                .push(KeyValue::new(semconv::HTTP_REQUEST_RESEND_COUNT, i64::from(resend_count)));
            headers.insert(RESEND_HEADER, HeaderValue::from(resend_count));
        }
        let span = OpenSpan::start(telemetry, parent, "GET".into(), SpanKind::Client, attributes);
        telemetry.inject(span.context(), &mut headers);

        let request =
            self.http.request(Method::GET, url.clone()).headers(headers).timeout(self.timeout);
        let outcome = match read_answer(request, &span).await {
            Ok(status) if status < 400 => Ok(status),
            Ok(status) => {
                span.fail(status.to_string(), "");
                Err(CallError::Status { url: without_credentials(url), status })
            }
            Err(error) => {
                let word = error_type(&error);
                let cause = with_causes(&error.without_url());
                span.record_exception("reqwest::Error", cause.clone());
                span.fail(word, cause.clone());
                let url = without_credentials(url);
                Err(match word {
                    TIMEOUT => CallError::TimedOut { url, timeout: self.timeout },
                    _ => CallError::Failed { url, cause },
                })
            }
        };
        span.end();
        outcome
    }
}

/// Reads the answer to its end, so that the span covers it and the connection can be used again.
async fn read_answer(
    request: reqwest::RequestBuilder,
    span: &OpenSpan,
) -> Result<u16, reqwest::Error> {
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    span.set(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
    if let Some(version) = version_text(response.version()) {
        span.set(KeyValue::new(semconv::NETWORK_PROTOCOL_VERSION, version));
    }
    let mut read = 0;
    while let Some(chunk) = response.chunk().await? {
        read += chunk.len();
        if read > MAX_BODY {
            break;
        }
    }
    Ok(status)
}

/// `network.protocol.version` of an HTTP version.
pub(crate) fn version_text(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// `url.full` must not hold credentials (semantic conventions, "url.full"), nor do answers.
pub(crate) fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    if !url.username().is_empty() {
        // Fails only where a URL can have no user, and then it has none.
        let _ = url.set_username("REDACTED");
    }
    if url.password().is_some() {
        let _ = url.set_password(Some("REDACTED"));
    }
    url.into()
}

const TIMEOUT: &str = "timeout";

/// Finds the word for `error.type`.
fn error_type(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        return TIMEOUT;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return "connection_refused",
                io::ErrorKind::ConnectionReset => return "connection_reset",
                io::ErrorKind::ConnectionAborted => return "connection_aborted",
                io::ErrorKind::TimedOut => return TIMEOUT,
                _ => {}
            }
        }
        cause = inner.source();
    }
    if error.is_connect() { "connect_error" } else { "request_error" }
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
