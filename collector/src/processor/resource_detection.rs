//! Attributes of where the collector runs, for the resources of all spans.
//!
//! They are found out once, before the receivers serve: within a time limit, side by side, and a detector that fails is reported and left
//! out. What is not there (no metadata service, no Kubernetes) is no failure.

mod aws;
pub(crate) mod config;
mod host;
mod kubernetes;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use config::Config;
use config::Kind;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::exporter::http_client::chain;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;
use crate::trace_batch::wire::{Value as WireValue, put_bytes, put_message, raw_fields};

/// Attributes that were found, in the order in which they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found(Vec<(String, Value)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Texts(Vec<String>),
}

/// Error for a detector that could not find out what it is asked.
#[derive(Debug, thiserror::Error)]
enum DetectError {
    #[error("{0}")]
    Wrong(String),
    #[error("no answer within {0:?}{1}")]
    Late(std::time::Duration, &'static str),
    #[error("{what}: {}{hint}", chain(.error))]
    Http { what: String, error: reqwest::Error, hint: &'static str },
}

/// Places that detectors look at, which tests have elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The host's name by the operating system.
    pub(crate) hostname: String,
    hosts: PathBuf,
    docker_socket: PathBuf,
    /// Folder with the token and the authority's certificate of the pod's service account.
    service_account: PathBuf,
    metadata_service: String,
}

impl Places {
    pub(crate) fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.into(),
            hosts: "/etc/hosts".into(),
            docker_socket: "/var/run/docker.sock".into(),
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            metadata_service: "http://169.254.169.254".into(),
        }
    }
}

/// Settings, places and client that detectors share.
struct Detector<'a> {
    config: &'a Config,
    places: &'a Places,
    client: reqwest::Client,
}

impl Found {
    fn put(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), Value::Text(value.into())));
    }

    fn put_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.put(name, value);
        }
    }

    fn put_list(&mut self, name: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.0.push((name.to_owned(), Value::Texts(values)));
        }
    }

    /// The names of what was found.
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Asks all detectors of a config.
pub(crate) async fn detect(
    config: &Config,
    id: &str,
    places: &Places,
    registry: &Registry,
) -> Found {
    let client = reqwest::Client::builder().no_proxy().timeout(config.timeout).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(processor = id, error = chain(&error), "no resource is detected");
            return Found::default();
        }
    };
    let detector = Detector { config, places, client };
    let deadline = Instant::now() + config.timeout;
    let asked = config.detectors.iter().map(|kind| timeout_at(deadline, detector.ask(*kind)));
    let mut all = Found::default();
    for (kind, answer) in config.detectors.iter().zip(join_all(asked).await) {
        let answer = answer.unwrap_or(Err(DetectError::Late(config.timeout, hint(*kind))));
        let outcome = if answer.is_ok() { "success" } else { "failure" };
        let labels = [("processor", id), ("detector", kind.name()), ("outcome", outcome)];
        let results = "Number of runs of resource detectors, by outcome.";
        registry.counter("otelcol_resourcedetection_detector_results", results, &labels).add(1);
        match answer {
            Ok(found) => {
                for (name, value) in found.0 {
                    let is_known = all.0.iter().any(|(known, _)| *known == name);
                    if !is_known && config.has(*kind, &name) {
                        all.0.push((name, value));
                    }
                }
            }
            Err(error) => tracing::warn!(
                processor = id,
                detector = kind.name(),
                %error,
                "a detector found nothing out; spans go on without its attributes"
            ),
        }
    }
    tracing::info!(
        processor = id,
        attributes = all.names().join(", "),
        "the resource was detected"
    );
    all
}

/// Hint at what to do where a detector has no answer.
fn hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Ec2 | Kind::Eks => {
            "; a container reaches the metadata service only where the instance's hop limit is 2 or more"
        }
        Kind::K8snode => "; see that a network policy lets the collector reach Kubernetes' API",
        _ => "",
    }
}

impl Detector<'_> {
    async fn ask(&self, kind: Kind) -> Result<Found, DetectError> {
        match kind {
            Kind::Env => host::env(self),
            Kind::System => host::system(self),
            Kind::Docker => host::docker(self).await,
            Kind::K8snode => kubernetes::node(self).await,
            Kind::Ec2 => aws::ec2(self).await,
            Kind::Ecs => aws::ecs(self).await,
            Kind::Eks => aws::eks(self).await,
            Kind::Lambda => Ok(aws::lambda(self)),
        }
    }

    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        let environment: &BTreeMap<String, String> = &self.config.environment;
        environment.get(name).map(String::as_str)
    }
}

/// Sends a request, and returns its answer's text; any status but a good one is an error.
async fn text_of(request: reqwest::RequestBuilder, what: &str) -> Result<String, DetectError> {
    let wrong = |error| DetectError::Http { what: what.to_owned(), error, hint: "" };
    let response = request.send().await.map_err(wrong)?.error_for_status().map_err(wrong)?;
    response.text().await.map_err(wrong)
}

/// As [`text_of`], for JSON.
async fn json_of(
    request: reqwest::RequestBuilder,
    what: &str,
) -> Result<serde_json::Value, DetectError> {
    let text = text_of(request, what).await?;
    let wrong = |error| DetectError::Wrong(format!("{what}: not JSON: {error}"));
    serde_json::from_str(&text).map_err(wrong)
}

/// Puts attributes into the resources of a batch.
pub(crate) fn process(found: &Found, replaces: bool, batch: &TraceBatch) -> TraceBatch {
    if found.0.is_empty() {
        return batch.clone();
    }
    batch.map_resources(|message| {
        let mut out = Vec::with_capacity(message.len() + 256);
        let mut known = Vec::new();
        for (number, raw, value) in raw_fields(message) {
            if let (1, WireValue::Bytes(pair)) = (number, value) {
                let key = raw_fields(pair).find_map(|(number, _, value)| match (number, value) {
                    (1, WireValue::Bytes(key)) => Some(key),
                    _ => None,
                });
                let key = key.unwrap_or_default();
                let is_found = found.0.iter().any(|(name, _)| name.as_bytes() == key);
                if is_found && replaces {
                    continue;
                }
                known.push(key);
            }
            out.extend_from_slice(raw);
        }
        for (name, value) in &found.0 {
            if known.contains(&name.as_bytes()) {
                continue;
            }
            put_message(&mut out, 1, |out| {
                put_bytes(out, 1, name.as_bytes());
                put_message(out, 2, |out| match value {
                    Value::Text(text) => put_bytes(out, 1, text.as_bytes()),
                    Value::Texts(texts) => put_message(out, 5, |out| {
                        for text in texts {
                            put_message(out, 1, |out| put_bytes(out, 1, text.as_bytes()));
                        }
                    }),
                });
            });
        }
        out
    })
}

#[cfg(test)]
mod tests;
