//! The ledger of the whole system: how many spans each stage reports, from the services to the intake, instance by instance.
//!
//! A stage whose count is missing is *unknown*, with the reason. In a failure it explains; a scenario may also ask that all stages
//! together report the same number of spans ([`BalanceExpect`]).

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::finding::{Failure, Findings, NotEvaluated};

#[cfg(test)]
mod tests;

/// Name of the expectation that the stages agree.
pub(crate) const BALANCE: &str = "balance";

/// Expected balance of all stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceExpect {
    /// Least number of instances of the collector that must have had spans of the services.
    pub collector_instances: u32,
}

/// Every stage's span counts since the start of the system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Spans ended by each instance of a service, with the service's name, or the reason why the number is unknown.
    pub services: Vec<(String, Result<u64, String>)>,
    /// Counters of each instance of a collector, by instance.
    pub collectors: Vec<(String, Result<CollectorCounts, String>)>,
    /// Number of the harness's own spans that each instance of the collector accepted, in the order of `collectors`.
    pub harness: Vec<u64>,
    /// Number of the harness's own spans that were sent without an OK in time: a collector may have accepted them.
    #[serde(default)]
    pub harness_undecided: u64,
    /// Spans that the intake took; `None` where there is none.
    pub captured: Option<u64>,
    /// The evidence source's own count, in words.
    pub source: String,
}

/// Span counters of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorCounts {
    /// Spans that its receivers took.
    pub accepted: u64,
    /// Spans that they refused.
    pub refused: u64,
    /// Requests that they refused.
    #[serde(default)]
    pub refused_requests: u64,
    /// Spans that its exporters got rid of.
    pub sent: u64,
    /// Spans that they gave up.
    pub failed: u64,
}

impl CollectorCounts {
    /// In words: `accepted 12, sent 12`.
    fn text(self) -> String {
        let Self { accepted, refused, refused_requests: _, sent, failed } = self;
        let mut text = format!("accepted {accepted}, sent {sent}");
        for (count, what) in [(refused, "refused"), (failed, "failed to send")] {
            if count > 0 {
                text.push_str(&format!(", {what} {count}"));
            }
        }
        text
    }
}

impl Stages {
    /// Formats the counts of all stages on one line.
    pub fn text(&self) -> String {
        let services = self.services.iter().map(|(name, ended)| match ended {
            Ok(ended) => format!("{name} ended {ended}"),
            Err(reason) => format!("{name} unknown ({reason})"),
        });
        let collectors = self.collectors.iter().map(|(name, counted)| match counted {
            Ok(counted) => format!("{name} {}", counted.text()),
            Err(reason) => format!("{name} unknown ({reason})"),
        });
        let harness = (self.harness_undecided > 0)
            .then(|| format!("tracecheck had no OK in time for {}", self.harness_undecided));
        let reported: Vec<String> =
            services.chain(harness).chain(collectors).chain([self.source.clone()]).collect();
        reported.join("; ")
    }

    /// Returns whether the counts of all stages are known and agree, so that they need not be read again.
    pub fn is_balanced(&self, expect: BalanceExpect) -> bool {
        let findings = self.judge(expect);
        findings.failures.is_empty() && findings.not_evaluated.is_empty()
    }

    /// Returns how many spans that services and harness ended were lost before a collector accepted them: a range,
    /// since the collector may or may not have accepted the harness's own spans without a response.
    ///
    /// # Errors
    ///
    /// The reason why a stage cannot report.
    pub fn lost_by_senders(&self) -> Result<RangeInclusive<u64>, String> {
        let ended = sum(self.services.iter().map(|(name, ended)| (name, ended.clone())))?;
        let counted = sum(self.collectors.iter().map(|(name, counted)| (name, counted.clone())))?;
        let made = ended + self.harness.iter().sum::<u64>();
        let lost = |made: u64| made.saturating_sub(counted.accepted);
        Ok(lost(made)..=lost(made + self.harness_undecided))
    }

    /// Judges the balance between the stages, all instances of each together.
    pub fn judge(&self, expect: BalanceExpect) -> Findings {
        let mut findings = Findings::default();
        let unknown =
            |because: String| NotEvaluated { rule: BALANCE.to_owned(), because, required: true };
        let ended = sum(self.services.iter().map(|(name, ended)| (name, ended.clone())));
        let counted = sum(self.collectors.iter().map(|(name, counted)| (name, counted.clone())));
        let captured =
            self.captured.ok_or("the evidence does not come from the mock intake".to_owned());
        let (ended, counted, captured) = match (ended, counted, captured) {
            (Ok(ended), Ok(counted), Ok(captured)) => (ended, counted, captured),
            (ended, counted, captured) => {
                let reasons = [ended.err(), counted.err(), captured.err()];
                findings.not_evaluated.extend(reasons.into_iter().flatten().map(unknown));
                return findings;
            }
        };
        let made = ended + self.harness.iter().sum::<u64>();
        let CollectorCounts { accepted, refused, failed, .. } = counted;
        let mut fail = |detail: String| findings.failures.push(Failure::new(BALANCE, detail));
        if !(made..=made + self.harness_undecided).contains(&accepted) {
            fail(format!(
                "services and harness ended {made} spans, but the collector's instances accepted {accepted}: {}",
                self.text()
            ));
        }
        if accepted != captured {
            fail(format!(
                "the collector's instances accepted {accepted} spans, and the intake took {captured}: {}",
                self.text()
            ));
        }
        if refused + failed > 0 {
            fail(format!(
                "the collector's instances refused {refused} spans and gave up {failed}: {}",
                self.text()
            ));
        }
        let with_share = self.collectors.iter().enumerate().filter(|(index, (_, counted))| {
            let own = self.harness.get(*index).copied().unwrap_or_default();
            counted.as_ref().is_ok_and(|counted| counted.accepted > own)
        });
        let with_share = with_share.count();
        if with_share < expect.collector_instances as usize {
            fail(format!(
                "{with_share} of {} instances of the collector had spans of the services, and at least {} should: {}; a Service balances connections, not requests, and an OTLP/gRPC exporter keeps one: use more services",
                self.collectors.len(),
                expect.collector_instances,
                self.text()
            ));
        }
        findings
    }
}

/// The sum over all instances; the first reason where one is missing.
fn sum<T: Default + std::ops::Add<Output = T>>(
    of: impl Iterator<Item = (impl AsRef<str>, Result<T, String>)>,
) -> Result<T, String> {
    let mut total = T::default();
    for (name, one) in of {
        total = total + one.map_err(|reason| format!("{} is unknown: {reason}", name.as_ref()))?;
    }
    Ok(total)
}

impl std::ops::Add for CollectorCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            refused_requests: self.refused_requests + other.refused_requests,
            sent: self.sent + other.sent,
            failed: self.failed + other.failed,
        }
    }
}

/// Reads a collector's counters.
///
/// # Errors
///
/// Why it says nothing.
pub(crate) async fn collector(
    client: &reqwest::Client,
    url: &str,
) -> Result<CollectorCounts, String> {
    let answer = crate::http::read(|| async {
        let response = client.get(format!("{url}/metrics")).send().await?.error_for_status()?;
        response.text().await
    });
    let text = answer.await.map_err(|error| crate::chain_of(&error.without_url()))?;
    counted(&text)
        .ok_or_else(|| "its metrics have none of the Collector's span counters".to_owned())
}

/// The counters that matter here, each summed over its labels, with or without the suffix `_total`, from the Prometheus text
/// format; `None` where none is there.
fn counted(text: &str) -> Option<CollectorCounts> {
    let mut sums = BTreeMap::<&str, u64>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or("");
        let name = name.strip_suffix("_total").unwrap_or(name);
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        *sums.entry(name).or_default() += value.unwrap_or(0.0) as u64;
    }
    let names = [
        "otelcol_receiver_accepted_spans",
        "otelcol_receiver_refused_spans",
        "otelcol_receiver_failed_spans",
        "otelcol_receiver_refused_requests",
        "otelcol_exporter_sent_spans",
        "otelcol_exporter_send_failed_spans",
    ];
    let known = names.iter().any(|name| sums.contains_key(name));
    let [accepted, refused, broken, refused_requests, sent, failed] =
        names.map(|name| sums.get(name).copied().unwrap_or_default());
    let refused = refused + broken;
    known.then_some(CollectorCounts { accepted, refused, refused_requests, sent, failed })
}
