//! Reports to Datadog beside traces: that this exporter runs, for which hosts, and facts about its own host.
//!
//! The reference sends a count with every batch, and holds a batch up while that fails. Ours goes once a minute, beside the
//! traces. Left out are the reference's lists of the machine's hardware and processes, and what it asks clouds or reads from
//! resources about other hosts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::config::{HostMetadata, HostnameSource};
use super::model::TracerPayload;

/// How often hosts are reported.
const PERIOD: Duration = Duration::from_secs(60);
/// How many hosts are remembered between two messages.
const MAX_HOSTS: usize = 10_000;

/// The hosts whose spans went through.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    seen: Mutex<Seen>,
    first: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    hosts: BTreeSet<String>,
    first: Option<String>,
}

impl Usage {
    /// Notes the host of a payload.
    pub(crate) fn note(&self, tracer: &TracerPayload<'_>) {
        let host = String::from_utf8_lossy(&tracer.hostname);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.first.is_none() {
            seen.first = Some(host.clone().into_owned());
            self.first.notify_one();
        }
        if seen.hosts.len() < MAX_HOSTS && !seen.hosts.contains(&*host) {
            seen.hosts.insert(host.into_owned());
        }
    }

    fn take_hosts(&self) -> BTreeSet<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut seen.hosts)
    }
}

/// Reporter of usage.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) hostname: String,
    pub(crate) version: &'static str,
    pub(crate) metadata: HostMetadata,
}

/// Reports to Datadog from the first batch on, until `end`. A message that fails is not sent again: the next one says the same.
pub(crate) async fn run(
    usage: Arc<Usage>,
    client: Client,
    reporter: Reporter,
    end: CancellationToken,
) {
    tokio::select! {
        () = usage.first.notified() => {}
        () = end.cancelled() => return,
    }
    let mut metadata_due = Instant::now();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let hosts = usage.take_hosts();
        if !hosts.is_empty() {
            log_failure(client.send_series(&running(&reporter, &hosts, now)).await, "running");
        }
        if reporter.metadata.enabled && metadata_due <= Instant::now() {
            metadata_due += reporter.metadata.reporter_period;
            let first = usage.seen.lock().unwrap_or_else(PoisonError::into_inner).first.clone();
            let hostname = match reporter.metadata.hostname_source {
                HostnameSource::FirstResource => first.filter(|host| !host.is_empty()),
                HostnameSource::ConfigOrSystem => None,
            };
            let hostname = hostname.unwrap_or_else(|| reporter.hostname.clone());
            log_failure(
                client.send_metadata(&host_metadata(&reporter, &hostname)).await,
                "metadata",
            );
        }
        tokio::select! {
            () = sleep_until(Instant::now() + PERIOD) => {}
            () = end.cancelled() => return,
        }
    }
}

fn log_failure(outcome: Result<(), crate::exporter::ExportError>, what: &str) {
    if let Err(error) = outcome {
        tracing::warn!(%error, what, "Datadog was not notified of this exporter; traces are not affected");
    }
}

/// One point of two metrics for each host: that the exporter runs, and that it is no gateway.
fn running(reporter: &Reporter, hosts: &BTreeSet<String>, now: u64) -> Value {
    let tags = [format!("version:{}", reporter.version), "command:collector".into()];
    let series = hosts.iter().flat_map(|host| {
        let resources = match host.as_str() {
            "" => json!([]),
            host => json!([{ "name": host, "type": "host" }]),
        };
        let point = |metric: &str, value: u64| {
            json!({
                "metric": metric,
                // A gauge.
                "type": 3,
                "interval": 0,
                "points": [{ "timestamp": now, "value": value }],
                "resources": resources,
                "tags": tags,
            })
        };
        [point("otel.datadog_exporter.traces.running", 1), point("datadog.otel.gateway", 0)]
    });
    json!({ "series": series.collect::<Vec<_>>() })
}

fn host_metadata(reporter: &Reporter, hostname: &str) -> Value {
    json!({
        "internalHostname": hostname,
        "meta": { "hostname": hostname, "socket-hostname": reporter.hostname, "socket-fqdn": reporter.hostname },
        "otel_version": reporter.version,
        "agent-flavor": "collector",
        "host-tags": { "otel": reporter.metadata.tags },
    })
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, HostMetadata, Reporter, host_metadata, running};

    #[test]
    fn hosts_are_reported_as_by_the_reference() {
        let metadata = HostMetadata { tags: vec!["team:a".into()], ..HostMetadata::default() };
        let reporter = Reporter { hostname: "cfg-host".into(), version: "1", metadata };
        let series = running(&reporter, &BTreeSet::from(["hn".to_owned()]), 5)["series"].clone();
        assert_eq!(series[0]["metric"], "otel.datadog_exporter.traces.running");
        assert_eq!(series[0]["points"], serde_json::json!([{ "timestamp": 5, "value": 1 }]));
        assert_eq!(series[1]["resources"], serde_json::json!([{ "name": "hn", "type": "host" }]));
        let facts = host_metadata(&reporter, "hn");
        assert_eq!(
            (&facts["internalHostname"], &facts["host-tags"]["otel"][0]),
            (&"hn".into(), &"team:a".into())
        );
    }
}
