//! Talks to Datadog: which request goes where, and what the replies mean.

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};

use super::config::Config;
use crate::exporter::ExportError;
use crate::exporter::compression::Compression;
use crate::exporter::http_client::{
    self, ClientError, broken, chain, is_of_a_gateway, retry_after,
};

/// The key of the endpoint of traces and of their stats.
const TRACES_ENDPOINT: &str = "traces.endpoint";

/// Datadog's verdict on an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyCheck {
    Valid,
    Invalid,
    /// Datadog could not be asked.
    Unknown(String),
}

/// A connection pool to one Datadog account.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    traces: Url,
    stats: Url,
    validate: Url,
    series: Url,
    metadata: Url,
    headers: HeaderMap,
    encoding: Option<HeaderValue>,
}

impl Client {
    pub(crate) fn new(config: &Config, agent_version: &str) -> Result<Self, ClientError> {
        let url = |base: String, path: &str| {
            Url::parse(&format!("{base}{path}")).map_err(|_| ClientError::Url(base))
        };
        let mut key = HeaderValue::from_str(config.api.key.expose())
            .map_err(|_| ClientError::Header("api.key".into()))?;
        key.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("dd-api-key", key);
        headers.insert("x-datadog-reported-languages", HeaderValue::from_static(""));
        let endpoints = [config.traces_endpoint(), config.api_endpoint()];
        let is_secure = endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
        let user_agent = format!("Datadog Trace Agent/{agent_version}/");
        let proxy = config.proxy_url.as_deref();
        let http = http_client::client(&user_agent, config.timeout, &config.tls, proxy, is_secure)?;
        Ok(Self {
            http,
            traces: url(config.traces_endpoint(), "/api/v0.2/traces")?,
            stats: url(config.traces_endpoint(), "/api/v0.2/stats")?,
            validate: url(config.api_endpoint(), "/api/v1/validate")?,
            series: url(config.api_endpoint(), "/api/v2/series")?,
            metadata: url(config.api_endpoint(), "/intake")?,
            headers,
            encoding: config.compression.content_encoding().map(HeaderValue::from_static),
        })
    }

    /// Sends a payload of traces, once.
    pub(crate) async fn send_traces(&self, body: Bytes) -> Result<(), ExportError> {
        let mut request = self
            .http
            .post(self.traces.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        if let Some(encoding) = &self.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        attempt(request, TRACES_ENDPOINT).await
    }

    /// Sends a payload of stats, once; its body is msgpack in gzip.
    pub(crate) async fn send_stats(&self, body: Bytes) -> Result<(), ExportError> {
        let request = self
            .http
            .post(self.stats.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/msgpack")
            .header(CONTENT_ENCODING, "gzip")
            .body(body);
        attempt(request, TRACES_ENDPOINT).await
    }

    /// Sends points of metrics, once.
    pub(crate) async fn send_series(&self, body: &serde_json::Value) -> Result<(), ExportError> {
        self.send_json(&self.series, body).await
    }

    /// Sends facts about a host, once.
    pub(crate) async fn send_metadata(&self, body: &serde_json::Value) -> Result<(), ExportError> {
        self.send_json(&self.metadata, body).await
    }

    async fn send_json(&self, url: &Url, body: &serde_json::Value) -> Result<(), ExportError> {
        let body = Compression::Gzip.compress(body.to_string().as_bytes());
        let request = self
            .http
            .post(url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .body(body.unwrap_or_default());
        attempt(request, "metrics.endpoint").await
    }

    /// Asks whether the API key is valid.
    pub(crate) async fn check_key(&self) -> KeyCheck {
        let request = self.http.get(self.validate.clone()).headers(self.headers.clone());
        match request.header(reqwest::header::ACCEPT, "application/json").send().await {
            Ok(response) if response.status() == StatusCode::FORBIDDEN => KeyCheck::Invalid,
            Ok(response) if response.status().is_success() => match response.bytes().await {
                Ok(body) => match serde_json::from_slice::<serde_json::Value>(&body) {
                    Ok(body) if body["valid"] == true => KeyCheck::Valid,
                    Ok(body) if body["valid"] == false => KeyCheck::Invalid,
                    _ => KeyCheck::Unknown("the reply is not the expected JSON".into()),
                },
                Err(error) => KeyCheck::Unknown(chain(&error)),
            },
            Ok(response) => KeyCheck::Unknown(format!("Datadog answered {}", response.status())),
            Err(error) => KeyCheck::Unknown(chain(&error)),
        }
    }
}

/// Makes an attempt at the endpoint that this key sets.
async fn attempt(request: reqwest::RequestBuilder, key: &str) -> Result<(), ExportError> {
    match request.send().await {
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers().clone());
            // The reply is read so that the connection can be used again.
            let _ = response.bytes().await;
            judge(status, &headers, key)
        }
        Err(error) => Err(broken(&error)),
    }
}

/// Classifies a reply of the endpoint that this key sets.
fn judge(status: StatusCode, headers: &HeaderMap, key: &str) -> Result<(), ExportError> {
    let reason = format!("Datadog answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 429 | 500..=599 => {
            let is_doubtful = is_of_a_gateway(status);
            Err(ExportError::Retryable { reason, after: retry_after(headers), is_doubtful })
        }
        413 => Err(ExportError::TooLarge { reason }),
        401 | 403 => Err(ExportError::Permanent {
            reason: format!("{reason}; check `api.key`, and that `api.site` is the key's site"),
        }),
        _ => Err(ExportError::Permanent {
            reason: format!("{reason}; check `{key}` and `api.site`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HeaderMap, HeaderValue, StatusCode, judge};
    use crate::exporter::ExportError;
    fn judged(status: u16, retry_after: Option<&'static str>) -> Result<(), ExportError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", HeaderValue::from_static(value));
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers, "traces.endpoint")
    }

    #[test]
    fn the_advice_names_the_endpoint_that_answered() {
        for key in ["traces.endpoint", "metrics.endpoint"] {
            let error = judge(StatusCode::NOT_FOUND, &HeaderMap::new(), key).unwrap_err();
            let advice = format!("Datadog answered 404 Not Found; check `{key}` and `api.site`");
            assert_eq!(error.to_string(), advice);
        }
    }

    #[test]
    fn replies_are_distinguished_by_what_to_do_next() {
        assert_eq!(judged(202, None), Ok(()));
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(
                judged(status, None),
                Err(ExportError::Retryable { after: None, .. })
            ));
        }
        assert!(matches!(judged(413, None), Err(ExportError::TooLarge { .. })));
        for status in [302, 400, 401, 403, 404] {
            assert!(matches!(judged(status, None), Err(ExportError::Permanent { .. })));
        }
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let after = |value| match judged(429, Some(value)) {
            Err(ExportError::Retryable { after, .. }) => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("100000"), Some(Duration::from_secs(300)));
        assert_eq!(after("soon"), None);
    }
}
