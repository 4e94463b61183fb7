//! Sends OTLP over HTTP: to another collector, or to Datadog's OTLP intake.

pub(crate) mod config;

use bytes::Bytes;
pub(crate) use config::Config;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};

use super::compression::Compression;
use super::http_client::{self, ClientError, broken, is_of_a_gateway, retry_after};
use super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::trace_batch::TraceBatch;
use crate::trace_batch::wire::{Value, checked, repeated};

/// The exporter.
pub(crate) struct OtlpHttp {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    compression: Compression,
}

/// A batch, and its body as it is sent.
pub(crate) struct Request {
    batch: TraceBatch,
    compression: Compression,
    body: Bytes,
}

impl OtlpHttp {
    pub(crate) fn new(config: &Config) -> Result<Self, ClientError> {
        let url = config.traces_url();
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let wrong = || ClientError::Header(name.clone());
            let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let user_agent = concat!("collector/", env!("CARGO_PKG_VERSION"));
        let is_secure = url.starts_with("https:");
        let proxy = config.proxy_url.as_deref();
        Ok(Self {
            http: http_client::client(user_agent, config.timeout, &config.tls, proxy, is_secure)?,
            url: Url::parse(&url).map_err(|_| ClientError::Url(url))?,
            headers,
            compression: config.compression,
        })
    }
}

impl Request {
    fn new(batch: TraceBatch, compression: Compression) -> Self {
        // Compressing into memory does not fail; if it did, the body would be refused and be counted.
        let body = compression.compress(&batch.to_protobuf()).unwrap_or_default().into();
        Self { batch, compression, body }
    }
}

impl Outgoing for Request {
    fn span_count(&self) -> usize {
        self.batch.span_count()
    }

    fn trace_ids(&self) -> Vec<u128> {
        self.batch.trace_ids().collect()
    }

    fn byte_count(&self) -> usize {
        self.batch.byte_count() + self.body.len()
    }

    fn halve(self) -> Option<(Self, Self)> {
        let (front, back) = self.batch.halve()?;
        Some((Self::new(front, self.compression), Self::new(back, self.compression)))
    }
}

impl Exporter for OtlpHttp {
    type Request = Request;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Request> {
        let request = Request::new(batch.clone(), self.compression);
        Prepared { requests: vec![request], dropped: Vec::new() }
    }

    async fn send(&self, request: &Request) -> Result<Sent, ExportError> {
        let mut post = self
            .http
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(request.body.clone());
        if let Some(encoding) = request.compression.content_encoding() {
            post = post.header(CONTENT_ENCODING, encoding);
        }
        match post.send().await {
            Ok(response) => {
                let (status, headers) = (response.status(), response.headers().clone());
                let body = response.bytes().await.unwrap_or_default();
                judge(status, &headers)?;
                Ok(partial_success(&body))
            }
            Err(error) => Err(broken(&error)),
        }
    }
}

/// Classifies a reply by the OTLP specification ("Retryable Response Codes"), and 413 for splitting.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), ExportError> {
    let reason = format!("the receiver answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 429 | 502..=504 => {
            let is_doubtful = is_of_a_gateway(status);
            Err(ExportError::Retryable { reason, after: retry_after(headers), is_doubtful })
        }
        413 => Err(ExportError::TooLarge { reason }),
        401 | 403 => Err(ExportError::Permanent {
            reason: format!("{reason}; check `headers` and `endpoint`"),
        }),
        _ => Err(ExportError::Permanent { reason: format!("{reason}; check `endpoint`") }),
    }
}

/// Reads an `ExportTraceServiceResponse`; what is none is taken for a success.
pub(super) fn partial_success(body: &[u8]) -> Sent {
    let mut sent = Sent::default();
    for partial in repeated(body, 1) {
        for (field, value) in checked(partial) {
            match (field, value) {
                (1, Value::Varint(rejected)) => sent.rejected = rejected as usize,
                (2, Value::Bytes(message)) => {
                    sent.message = String::from_utf8_lossy(message).into_owned();
                }
                _ => {}
            }
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, StatusCode, judge, partial_success};
    use crate::exporter::ExportError;
    use crate::trace_batch::wire::{put_bytes, put_message, put_uint};

    #[test]
    fn replies_are_judged_by_the_otlp_specification() {
        let judged = |status| judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert_eq!((judged(200), judged(202)), (Ok(()), Ok(())));
        for status in [429, 502, 503, 504] {
            assert!(matches!(judged(status), Err(ExportError::Retryable { .. })), "{status}");
        }
        for status in [400, 401, 403, 404, 500] {
            assert!(matches!(judged(status), Err(ExportError::Permanent { .. })), "{status}");
        }
        assert!(matches!(judged(413), Err(ExportError::TooLarge { .. })));
    }

    #[test]
    fn a_partial_success_reports_what_was_rejected() {
        let mut body = Vec::new();
        put_message(&mut body, 1, |out| {
            put_uint(out, 1, 3);
            put_bytes(out, 2, b"too old");
        });
        let sent = partial_success(&body);
        assert_eq!((sent.rejected, sent.message.as_str()), (3, "too old"));
        assert_eq!(partial_success(b"").rejected, 0);
        assert_eq!(partial_success(b"{\"json\":1}").rejected, 0);
    }
}
