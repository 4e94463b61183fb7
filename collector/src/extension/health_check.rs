//! Reports over HTTP whether the collector works.

pub(crate) mod config;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
pub(crate) use config::Config;
use http::{Response, StatusCode};
use http_body_util::Full;

/// Health of the collector, as its parts report it.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    since: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    /// Problems, in words.
    problems: Vec<String>,
    /// Problems that may pass, in words, by the part that reports them.
    passing: BTreeMap<String, String>,
    /// Problems that restarting the collector would not fix, in words, by the part that reports them.
    warnings: BTreeMap<String, String>,
}

impl Default for Health {
    fn default() -> Self {
        Self { since: Instant::now(), state: Arc::default() }
    }
}

impl Health {
    /// From now on, or no longer, all that was configured is served.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ready = ready;
    }

    /// Something does not work, and will not by itself.
    pub(crate) fn report(&self, problem: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.problems.iter().any(|known| known == problem) {
            state.problems.push(problem.into());
        }
    }

    /// A part does not work, until it says otherwise.
    pub(crate) fn set(&self, part: &str, problem: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.passing.insert(part.into(), problem.into());
    }

    /// A part refuses work for a while. This is shown, and does not make the status a bad one: a collector that is restarted
    /// for having too much to do loses what it holds.
    pub(crate) fn warn(&self, part: &str, warning: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.warnings.insert(part.into(), warning.into());
    }

    /// A part works again.
    pub(crate) fn clear(&self, part: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.passing.remove(part);
        state.warnings.remove(part);
    }

    /// Answers a request for the collector's health.
    pub(crate) fn answer(&self, config: &Config, path: &str) -> Response<Full<Bytes>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let problems: Vec<_> = state.problems.iter().chain(state.passing.values()).collect();
        let (status, text) = match () {
            () if path != config.path => (StatusCode::NOT_FOUND, "not found"),
            () if state.ready && problems.is_empty() => (StatusCode::OK, "Server available"),
            () => (StatusCode::SERVICE_UNAVAILABLE, "Server not available"),
        };
        let body = serde_json::json!({
            "status": text,
            "uptime": format!("{}s", self.since.elapsed().as_secs()),
            "problems": problems,
            "warnings": state.warnings.values().collect::<Vec<_>>(),
        });
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Health};

    #[test]
    fn health_is_good_only_when_ready_and_without_problems() {
        let (health, config) = (Health::default(), Config::default());
        let status = |path| health.answer(&config, path).status().as_u16();
        assert_eq!(status("/"), 503);
        health.set_ready(true);
        assert_eq!((status("/"), status("/x")), (200, 404));
        health.set("datadog", "it answered 403");
        assert_eq!(status("/"), 503);
        health.clear("datadog");
        assert_eq!(status("/"), 200);
        health.report("the key was refused");
        health.clear("datadog");
        assert_eq!(status("/"), 503);
    }
}
