//! One question to Datadog's API, and what can come of it.
//!
//! Each way in which it can go wrong is an outcome of its own with what to do about it, since "no trace" for want of a permission is
//! not "no trace". Nothing is asked twice here; when to ask again is [`super::source`]'s business.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use reqwest::header::HeaderValue;
use serde_json::json;

use super::{
    Access,
    answer::{self, Malformed, Spans},
    budget::RateLimit,
    endpoint::Endpoint,
};
use crate::trace::TraceId;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// Most characters of an error's body that are reported.
const BODY_SHOWN: usize = 200;
/// Spans of a page: the most that Datadog gives.
pub(super) const PAGE: usize = 1000;

/// Error for a client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientSetupError {
    /// A key could not be sent in a header. Does not repeat it.
    #[error(
        "{0} holds characters that a header cannot carry: copy the key alone, without quotes, blanks or line ends"
    )]
    Key(&'static str),
    /// The URL is none, or would send the keys in the clear.
    #[error("{url} cannot be queried: {reason}")]
    Url {
        /// URL as given.
        url: String,
        /// The problem.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("no HTTP client for Datadog's API: {0}")]
    Http(String),
}

/// Error for a request without a usable response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 401 or 403.
    #[error(
        "{endpoint}: {host} refused the keys ({status}{reported}): check that DD_API_KEY and DD_APP_KEY are valid and of the site that DD_SITE names (here {site}; keys of one site mean nothing at another), and that the application key has the permission `apm_read`"
    )]
    Refused {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// The site.
        site: String,
        /// HTTP status.
        status: u16,
        /// Its message.
        reported: String,
    },
    /// 404: no such trace, or no such route.
    #[error("{endpoint}: not found (404{reported})")]
    NotFound {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Its message.
        reported: String,
    },
    /// 429.
    #[error("{endpoint}: the rate limit is used up (429{}); it opens again in {}. Others who ask with keys of this organization use up the same limit", .name.as_ref().map_or_else(String::new, |name| format!(", `{name}`")), .wait.map_or_else(|| "a time that the response does not give".to_owned(), |wait| humantime::format_duration(wait).to_string()))]
    RateLimited {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Name of the limit.
        name: Option<String>,
        /// Time to wait before the next query.
        wait: Option<Duration>,
    },
    /// Any other status but 200.
    #[error("{endpoint}: {host} answered {status}{reported}{}", if *status >= 500 { "; the fault is on its side: see Datadog's status page of your site, and try again later" } else { "" })]
    Status {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// HTTP status.
        status: u16,
        /// Its message.
        reported: String,
    },
    /// The API did not answer in time.
    #[error("{endpoint}: {host} did not answer within {limit:?}")]
    Slow {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// No connection, or it broke.
    #[error(
        "{endpoint}: {host} cannot be reached: {reason}; check the network, and that this machine can reach that host over HTTPS without a proxy"
    )]
    Unreachable {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// The cause.
        reason: String,
    },
    /// The answer broke off.
    #[error("{endpoint}: the response of {host} ended early: {reason}")]
    BrokenOff {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// The cause.
        reason: String,
    },
    /// The response is larger than is read.
    #[error("{endpoint}: the answer is larger than {MAX_ANSWER} bytes")]
    TooLarge {
        /// Endpoint that was queried.
        endpoint: Endpoint,
    },
    /// The response cannot be read.
    #[error("{endpoint}: the answer of {host} cannot be read: {malformed}")]
    Malformed {
        /// Endpoint that was queried.
        endpoint: Endpoint,
        /// Whom was asked.
        host: String,
        /// The problem.
        malformed: Malformed,
    },
}

/// An answer, and what it says of the limit.
#[derive(Debug)]
pub struct Response {
    /// The rate limit it reports; empty where there was no response.
    pub limit: RateLimit,
    /// The spans.
    pub result: Result<Spans, ApiError>,
}

/// Asks one site with one pair of keys.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    host: String,
    site: String,
    timeout: Duration,
    keys: HeaderMap,
}

impl Client {
    /// Creates a client for a site and its keys, without sending a request.
    ///
    /// # Errors
    ///
    /// When the URL or a key cannot be used.
    pub fn new(access: &Access) -> Result<Self, ClientSetupError> {
        let url = access.url.clone().unwrap_or_else(|| access.site.api_url());
        let url = url.trim_end_matches('/').to_owned();
        let refuse = |reason: String| ClientSetupError::Url { url: url.clone(), reason };
        let parsed = reqwest::Url::parse(&url).map_err(|error| refuse(error.to_string()))?;
        let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match parsed.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => {
                return Err(refuse(
                    "the keys would be sent in plain text; only a stand-in on this machine may be queried over http".to_owned(),
                ));
            }
            other => return Err(refuse(format!("`{other}` is neither https nor http"))),
        }
        let mut keys = HeaderMap::new();
        for (header, variable, key) in [
            ("dd-api-key", "DD_API_KEY", &access.api_key),
            ("dd-application-key", "DD_APP_KEY", &access.app_key),
        ] {
            let visible = key.reveal().bytes().all(|byte| byte.is_ascii_graphic());
            let value = HeaderValue::from_str(key.reveal()).ok().filter(|_| visible);
            let mut value = value.ok_or(ClientSetupError::Key(variable))?;
            value.set_sensitive(true);
            keys.insert(header, value);
        }
        let http = crate::http::client()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("tracecheck/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientSetupError::Http(crate::chain_of(&error)))?;
        let port = parsed.port().map_or_else(String::new, |port| format!(":{port}"));
        let host = format!("{host}{port}");
        Ok(Self { http, url, host, site: access.site.to_string(), timeout: TIMEOUT, keys })
    }

    /// Sets the time limit for a complete response.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the API's host, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Queries a complete trace by id.
    pub async fn trace(&self, id: TraceId) -> Response {
        // Of a 64-bit id the API takes the decimal digits.
        let asked = if id.high() == 0 { id.low().to_string() } else { id.to_string() };
        let url = format!("{}/api/v2/trace/{asked}", self.url);
        let read = |body: &[u8]| answer::trace(body, id);
        self.ask(Endpoint::Trace, self.http.get(url), read).await
    }

    /// Queries one page of the spans that match a query and began within a time range.
    pub async fn search(&self, search: &Search<'_>) -> Response {
        let url = format!("{}/api/v2/spans/events/search", self.url);
        let time = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
        let mut page = json!({ "limit": PAGE });
        if let Some(cursor) = search.cursor {
            page["cursor"] = cursor.into();
        }
        let filter =
            json!({ "query": search.query, "from": time(search.from), "to": time(search.to) });
        let attributes = json!({ "filter": filter, "page": page, "sort": "timestamp" });
        let body = json!({ "data": { "type": "search_request", "attributes": attributes } });
        let read = |body: &[u8]| answer::search(body, search.traces);
        self.ask(Endpoint::Spans, self.http.post(url).json(&body), read).await
    }

    async fn ask(
        &self,
        endpoint: Endpoint,
        request: reqwest::RequestBuilder,
        read: impl FnOnce(&[u8]) -> Result<Spans, Malformed>,
    ) -> Response {
        let request = request.headers(self.keys.clone()).header("accept", "application/json");
        let mut limit = RateLimit::default();
        let asked = tokio::time::timeout(self.timeout, self.send(endpoint, request, &mut limit));
        let result = match asked.await {
            Err(_elapsed) => {
                Err(ApiError::Slow { endpoint, host: self.host.clone(), limit: self.timeout })
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(body)) => read(&body).map_err(|malformed| ApiError::Malformed {
                endpoint,
                host: self.host.clone(),
                malformed,
            }),
        };
        Response { limit, result }
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        request: reqwest::RequestBuilder,
        limit: &mut RateLimit,
    ) -> Result<Vec<u8>, ApiError> {
        let mut response = request.send().await.map_err(|error| ApiError::Unreachable {
            endpoint,
            host: self.host.clone(),
            reason: crate::chain_of(&error.without_url()),
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        *limit = rate_limit(&headers);
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => return Err(ApiError::TooLarge { endpoint }),
                Ok(None) => break,
                Err(error) => {
                    let reason = crate::chain_of(&error.without_url());
                    return Err(ApiError::BrokenOff { endpoint, host: self.host.clone(), reason });
                }
            }
        }
        if status == StatusCode::OK {
            return Ok(body);
        }
        let (host, reported) = (self.host.clone(), self.described(&body));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ApiError::Refused {
                endpoint,
                host,
                site: self.site.clone(),
                status: status.as_u16(),
                reported,
            },
            StatusCode::NOT_FOUND => ApiError::NotFound { endpoint, reported },
            StatusCode::TOO_MANY_REQUESTS => {
                let name = text(&headers, "x-ratelimit-name").map(|name| self.redact(name));
                let wait = retry_after(&headers).or(limit.reset);
                ApiError::RateLimited { endpoint, name, wait }
            }
            _ => ApiError::Status { endpoint, host, status: status.as_u16(), reported },
        })
    }

    /// Returns the message of an error's body, with the keys redacted, should it repeat them.
    fn described(&self, body: &[u8]) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let errors = json.as_ref().and_then(|json| json.get("errors")?.as_array());
        let said = match errors {
            Some(errors) => {
                let said = errors.iter().map(|error| {
                    let detail =
                        error.get("detail").or_else(|| error.get("title")).unwrap_or(error);
                    detail.as_str().map_or_else(|| detail.to_string(), str::to_owned)
                });
                said.collect::<Vec<_>>().join("; ")
            }
            None => String::from_utf8_lossy(body).into_owned(),
        };
        let said: String = self.redact(&said).split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = said.chars().take(BODY_SHOWN).collect();
        if short.is_empty() { short } else { format!(": {short}") }
    }

    fn redact(&self, said: &str) -> String {
        self.keys.values().filter_map(|key| key.to_str().ok()).fold(said.to_owned(), |said, key| {
            if key.is_empty() { said } else { said.replace(key, "***") }
        })
    }
}

/// A page that is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// In Datadog's query syntax.
    pub query: &'a str,
    /// Earliest time.
    pub from: SystemTime,
    /// Latest time.
    pub to: SystemTime,
    /// Cursor of the page; `None` for the first one.
    pub cursor: Option<&'a str>,
    /// The traces that are looked for, to find the high half of their ids.
    pub traces: &'a [TraceId],
}

/// The query for the spans of these traces. Whether Datadog's own `trace_id` takes hex or decimal digits is not documented, so both
/// are asked for, and the tag that the exporter always sets.
pub(super) fn query_of(traces: &[TraceId]) -> String {
    let any = |ids: Vec<String>| ids.join(" OR ");
    let own = traces.iter().flat_map(|id| match id.high() {
        0 => [format!("{:016x}", id.low()), id.low().to_string()],
        _ => [id.to_string(), id.low().to_string()],
    });
    let full = traces.iter().filter(|id| id.high() != 0).map(ToString::to_string);
    let (own, full) = (any(own.collect()), any(full.collect()));
    match full.is_empty() {
        true => format!("trace_id:({own})"),
        false => format!("trace_id:({own}) OR @otel.trace_id:({full})"),
    }
}

/// The query for the spans of these services.
pub(super) fn query_of_services<'a>(services: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> =
        services.map(|name| format!("\"{}\"", name.replace(['"', '\\'], ""))).collect();
    format!("service:({})", quoted.join(" OR "))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn rate_limit(headers: &HeaderMap) -> RateLimit {
    let number = |name: &str| text(headers, name)?.trim().parse::<u32>().ok();
    let seconds = |name: &str| number(name).map(|seconds| Duration::from_secs(seconds.into()));
    RateLimit {
        limit: number("x-ratelimit-limit"),
        period: seconds("x-ratelimit-period"),
        remaining: number("x-ratelimit-remaining"),
        reset: seconds("x-ratelimit-reset"),
    }
}

/// `Retry-After` in seconds; Datadog writes no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let given = text(headers, "retry-after")?.trim();
    given.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
