//! Ledgers of services (spans ended) and collectors (spans received, sent, dropped): what captured spans are compared with.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    intake::decode::{SentSpan, TakenSpan},
    trace::{SpanId, TraceId},
};

/// A service's own record of one trace, as its route `/ledger/{trace_id}` reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The trace.
    pub trace_id: TraceId,
    /// The spans it ended.
    pub spans: Vec<LedgerSpan>,
    /// Whether some were pushed out of its bounded memory.
    pub evicted: bool,
}

impl LedgerEntry {
    /// Combines the ledger entries that a service's instances have of one trace.
    pub(crate) fn of_instances(trace_id: TraceId, entries: Vec<Self>) -> Self {
        let mut all = Self { trace_id, spans: Vec::new(), evicted: false };
        for entry in entries {
            all.spans.extend(entry.spans);
            all.evicted |= entry.evicted;
        }
        all
    }
}

/// A span that a service ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its parent's.
    pub parent_span_id: Option<SpanId>,
    /// OpenTelemetry's span name.
    pub name: String,
    /// `server`, `client`, …
    pub kind: String,
    /// Whether it was handed to the exporter.
    pub sampled: bool,
    /// Whether the context that the service was sent said *sampled*, where one was sent, the span was not, and the service reports it.
    #[serde(default)]
    pub parent_sampled: Option<bool>,
    /// Recorded parts of it, where the service reports that.
    #[serde(flatten)]
    pub recorded: Option<Recorded>,
}

/// Recorded parts of a span, as they were when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// Beginning of each attribute's text; lists are omitted.
    pub attributes: BTreeMap<String, String>,
    /// Number of the span's events.
    pub events: usize,
    /// Number of the span's links.
    pub links: usize,
}

/// A service's totals, as its route `/ledger` reports them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTotals {
    /// The workload's name as the service knows it.
    pub name: String,
    /// Its service name.
    pub service: String,
    /// Its `service.instance.id`.
    pub instance_id: String,
    /// Spans it ended so far.
    pub spans_ended: u64,
    /// Traces it took part in.
    pub traces: u64,
    /// Spans pushed out of its bounded memory.
    pub spans_evicted: u64,
    /// Spans begun and not ended.
    pub open_spans: u64,
}

/// Reasons for which a sampler drops spans that it did not decide about.
const NO_DECISIONS: [&str; 2] = ["shutdown", "too_large"];

/// Span counts of one trace in a collector, summed over its instances, as the route `/debug/traces/{trace_id}` of ours reports them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CollectorEntry {
    /// Spans that its receivers took.
    pub accepted: u64,
    /// Spans that they refused; the sender may have sent them again.
    pub refused: u64,
    /// The refused ones by their sender: its `User-Agent`, and `(grpc)` or `(http)`.
    #[serde(default)]
    pub refused_from: BTreeMap<String, u64>,
    /// Requests of all senders that came to the port of the other protocol, by their sender, with the protocol that it speaks.
    #[serde(default)]
    pub wrong_port: BTreeMap<String, u64>,
    /// Requests of all senders that were refused for their credentials, by their sender and the reason: `SENDER: missing`.
    #[serde(default)]
    pub unauthenticated: BTreeMap<String, u64>,
    /// Spans that samplers dropped, by the processor's id and the reason.
    #[serde(default)]
    pub sampled_out: BTreeMap<String, BTreeMap<String, u64>>,
    /// Span counts by exporter.
    pub exporters: BTreeMap<String, Exported>,
    /// Whether the trace may have been pushed out of its bounded memory.
    pub evicted: bool,
    /// The spans that its receivers took, as far as they are kept.
    #[serde(default, deserialize_with = "taken")]
    pub spans: Vec<TakenSpan>,
}

/// Span counts of one trace in an exporter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Exported {
    /// Sent, and answered that they were taken.
    pub exported: u64,
    /// Dropped, by the reason.
    pub dropped: BTreeMap<String, u64>,
    /// The spans that were sent, as far as they are kept.
    #[serde(default, deserialize_with = "sent")]
    pub spans: Vec<SentSpan>,
    /// Reason for which the last attempt to send spans failed that was made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried: Option<String>,
}

/// A span as a collector shows it, its message, or as a saved run has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shown<T> {
    Message(String),
    Read(T),
}

/// Reads spans; what a collector shows and cannot be read is left out.
fn shown<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    read: fn(&str) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    let spans = Vec::<Shown<T>>::deserialize(deserializer)?.into_iter();
    let spans = spans.filter_map(|span| match span {
        Shown::Message(message) => read(&message),
        Shown::Read(span) => Some(span),
    });
    Ok(spans.collect())
}

fn taken<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TakenSpan>, D::Error> {
    shown(deserializer, TakenSpan::read)
}

fn sent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SentSpan>, D::Error> {
    shown(deserializer, SentSpan::read)
}

impl CollectorEntry {
    /// Combines the ledger entries that several instances have of one trace.
    pub(crate) fn of_instances(entries: Vec<Self>) -> Self {
        let mut all = Self::default();
        for entry in entries {
            all.accepted += entry.accepted;
            all.refused += entry.refused;
            all.evicted |= entry.evicted;
            all.spans.extend(entry.spans);
            add(&mut all.refused_from, entry.refused_from);
            add(&mut all.wrong_port, entry.wrong_port);
            add(&mut all.unauthenticated, entry.unauthenticated);
            for (sampler, reasons) in entry.sampled_out {
                add(all.sampled_out.entry(sampler).or_default(), reasons);
            }
            for (id, one) in entry.exporters {
                let sum = all.exporters.entry(id).or_default();
                sum.exported += one.exported;
                sum.spans.extend(one.spans);
                sum.retried = one.retried.or(sum.retried.take());
                add(&mut sum.dropped, one.dropped);
            }
        }
        all
    }

    /// Returns how many spans samplers dropped.
    pub(crate) fn sampled_out(&self) -> u64 {
        self.sampled_out.values().flat_map(BTreeMap::values).sum()
    }

    /// Returns how many spans samplers dropped by their decision, and not since they were too large or the collector ended.
    pub(crate) fn decided_against(&self) -> u64 {
        let reasons = self.sampled_out.values().flatten();
        let decided = reasons.filter(|(reason, _)| !NO_DECISIONS.contains(&reason.as_str()));
        decided.map(|(_, count)| count).sum()
    }

    /// Returns the counts of the exporter to Datadog; `None` where several send there, as each of them sends every span.
    pub(crate) fn to_datadog(&self) -> Option<Exported> {
        match self.only_to_datadog() {
            Some(only) => Some(only.clone()),
            None => self.exporters.is_empty().then(Exported::default),
        }
    }

    /// The exporter to Datadog, where there is just one that sent spans of the trace.
    pub(crate) fn only_to_datadog(&self) -> Option<&Exported> {
        let is_datadog = |id: &str| id == "datadog" || id.starts_with("datadog/");
        let mut of_datadog = self.exporters.iter().filter(|(id, _)| is_datadog(id));
        of_datadog.next().filter(|_| of_datadog.next().is_none()).map(|(_, only)| only)
    }
}

fn add(sums: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *sums.entry(name).or_default() += count;
    }
}

/// Error for a ledger that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No answer, or one that is not a ledger's.
    #[error("GET {url}: {reason}")]
    Unreadable {
        /// The route.
        url: String,
        /// The cause.
        reason: String,
    },
}

/// Reads the ledger of one service over HTTP.
#[derive(Debug, Clone)]
pub struct LedgerClient {
    client: reqwest::Client,
    base_url: String,
}

impl LedgerClient {
    /// Creates a client for the ledger routes below `base_url`; the timeout of `client` bounds each attempt, and an
    /// attempt that times out is repeated once.
    pub fn new(client: reqwest::Client, base_url: String) -> Self {
        Self { client, base_url }
    }

    /// Returns the number of spans that the service has ended.
    ///
    /// # Errors
    ///
    /// When the service does not answer, or not as a ledger.
    pub async fn totals(&self) -> Result<LedgerTotals, LedgerError> {
        self.read(format!("{}/ledger", self.base_url)).await
    }

    /// Returns the spans of one trace that the service has ended.
    ///
    /// # Errors
    ///
    /// When the service does not answer, or not as a ledger.
    pub async fn entry(&self, trace_id: TraceId) -> Result<LedgerEntry, LedgerError> {
        self.read(format!("{}/ledger/{trace_id}", self.base_url)).await
    }

    /// Returns a collector's span counts of one trace, from its ledger.
    ///
    /// # Errors
    ///
    /// When the collector does not answer, or not as a ledger.
    pub async fn collector_entry(&self, trace_id: TraceId) -> Result<CollectorEntry, LedgerError> {
        self.read(format!("{}/debug/traces/{trace_id}", self.base_url)).await
    }

    /// Scripts how a collector replies to services, as `query` describes for its debug route; `None` restores normal
    /// replies.
    ///
    /// # Errors
    ///
    /// When the collector does not answer, or does not take the query.
    pub async fn script(&self, query: Option<&str>) -> Result<(), LedgerError> {
        let mut url = format!("{}/debug/replies", self.base_url);
        let request = match query {
            Some(query) => {
                url.push('?');
                url.push_str(query);
                self.client.post(&url)
            }
            None => self.client.delete(&url),
        };
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        answer.map(drop).map_err(|error| LedgerError::Unreadable {
            reason: crate::chain_of(&error.without_url()),
            url,
        })
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, url: String) -> Result<T, LedgerError> {
        let answer = crate::http::read(|| async {
            let response = self.client.get(&url).send().await?.error_for_status()?;
            response.json::<T>().await
        });
        answer.await.map_err(|error| LedgerError::Unreadable {
            reason: crate::chain_of(&error.without_url()),
            url,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use stub_server::StubServer;
    use wiremock::{Mock, ResponseTemplate, matchers::path};

    use super::*;

    fn totals() -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!({
            "name": "shop", "service": "shop", "instance_id": "1", "spans_ended": 7, "traces": 1,
            "spans_evicted": 0, "open_spans": 0,
        }))
    }

    /// A client of a service that answers as many requests as said after its time limit.
    async fn slow_at_first(requests: u64) -> (StubServer, LedgerClient) {
        let service = StubServer::start().await;
        if requests > 0 {
            let slow = totals().set_delay(Duration::from_secs(600));
            let slow = Mock::given(path("/ledger")).respond_with(slow).up_to_n_times(requests);
            slow.expect(requests).mount(&service).await;
        }
        Mock::given(path("/ledger")).respond_with(totals()).mount(&service).await;
        let client = crate::http::client().timeout(Duration::from_secs(1)).build().unwrap();
        let ledger = LedgerClient::new(client, service.uri());
        (service, ledger)
    }

    #[tokio::test]
    async fn a_ledger_that_does_not_answer_in_time_is_asked_once_more() {
        for requests in [0, 1] {
            let (_service, ledger) = slow_at_first(requests).await;
            assert_eq!(ledger.totals().await.unwrap().spans_ended, 7);
        }
        let (service, ledger) = slow_at_first(2).await;
        let error = ledger.totals().await.unwrap_err().to_string();
        assert!(error.ends_with("/ledger: error sending request: operation timed out"), "{error}");
        assert_eq!(service.received_requests().await.unwrap().len(), 2);
    }
}
