//! A case: one driven request, and everything that is known about its trace when it is judged.
//!
//! Plain data, so that a saved run can be judged again without running anything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use harness_core::family::Family;
use serde::{Deserialize, Serialize};

pub use self::{
    around::Around,
    method::Method,
    shape::Shape,
    stray::{Origin, Stray},
};
use crate::{
    ledger::{CollectorEntry, LedgerEntry},
    trace::{PayloadForm, Span, SpanId, Trace, TraceId},
};

pub(crate) mod around;
pub(crate) mod call_facts;
mod method;
pub mod shape;
mod stray;

/// Service name of the harness's own spans.
pub const DRIVER_SERVICE: &str = "tracecheck";

/// One request that was driven, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Index of the request in the scenario.
    pub request: usize,
    /// Number of the repetition, from 0.
    pub ordinal: u32,
    /// The trace that the request belongs to: the one that was sent, or the one read from the response.
    pub trace_id: TraceId,
    /// The harness's own client span.
    pub driver_span: SpanId,
    /// Whether that span was exported through the collector; else it is a virtual parent.
    pub driver_exported: bool,
    /// Whether a context was sent, so that the entry's span must be the driver's child.
    pub context_sent: bool,
    /// Whether the context said *sampled*.
    pub sampled: bool,
    /// Time at which the request was sent, in nanoseconds since the Unix epoch.
    pub sent_at: i64,
    /// Time at which the response or failure was complete, in nanoseconds since the Unix epoch.
    pub ended_at: i64,
    /// Outcome of the request.
    pub outcome: Outcome,
    /// HTTP method, or gRPC.
    #[serde(default)]
    pub method: Method,
    /// The workload that it was sent to; `None` for the system's entry.
    #[serde(default)]
    pub entry: Option<String>,
    /// The parts of its response that the scenario checks.
    #[serde(default)]
    pub answer: ResponseParts,
}

impl Case {
    /// Returns the workload that the request was sent to, if known.
    pub fn entry<'a>(&'a self, topology: &'a Topology) -> Option<&'a str> {
        let first = || topology.services.first().map(|service| service.workload.as_str());
        self.entry.as_deref().or_else(first)
    }

    /// Returns whether the request's trace is unknown: no context was sent, and the response names no trace.
    pub fn is_trace_unknown(&self) -> bool {
        !self.context_sent && matches!(self.outcome, Outcome::Response { trace_id: None, .. })
    }

    /// Returns the same request, to be judged by a trace that no context was sent for.
    pub(crate) fn with_own_trace(&self, id: TraceId) -> Self {
        let mut own = Self { trace_id: id, sampled: true, context_sent: false, ..self.clone() };
        if let Outcome::Response { trace_id, .. } = &mut own.outcome {
            *trace_id = Some(id);
        }
        own
    }
}

/// The kept parts of a response: those that the scenario checks, and the beginning of the rest for messages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseParts {
    /// Values in the JSON body by path; paths without a value are omitted.
    pub json: BTreeMap<String, serde_json::Value>,
    /// The reason why the body is not JSON, where JSON is expected.
    pub no_json: Option<String>,
    /// Body as text, if the scenario checks it so.
    pub text: Option<String>,
    /// Checked headers, by name.
    pub headers: BTreeMap<String, String>,
    /// Beginning of the body, if the body is checked, or the status is another than the scenario asks for.
    pub excerpt: String,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// A response was received.
    Response {
        /// HTTP status.
        status: u16,
        /// Trace id in the response, if any.
        trace_id: Option<TraceId>,
    },
    /// No response was received.
    Failed {
        /// The cause.
        reason: String,
    },
    /// A request that was sent earlier, whose response was not observed.
    Unobserved {
        /// Description of how its trace was found.
        found: String,
    },
}

impl Outcome {
    /// Describes the outcome: the status of the response, or the reason why there is none.
    pub fn describe(&self) -> String {
        match self {
            Self::Response { status, .. } => format!("status {status}"),
            Self::Failed { reason } => format!("no answer: {reason}"),
            Self::Unobserved { found } => found.clone(),
        }
    }
}

/// Services of the system and how their spans are identified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The services, entry first where the order is known.
    pub services: Vec<ServiceIdentity>,
}

/// Identity of a workload in captured spans.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceIdentity {
    /// The workload.
    pub workload: String,
    /// Service name, if known.
    pub service: Option<String>,
    /// `service.instance.id` of each instance, if known.
    pub instances: Vec<String>,
    /// The service name that Datadog is to get from it, where that is written down: by the built-in chain, or in a system file.
    #[serde(default)]
    pub meant: Option<String>,
    /// The environment and the version that it is given for its resource, by attribute.
    #[serde(default)]
    pub meant_attributes: BTreeMap<String, String>,
    /// The formats in which it is set to read and write contexts (`OTEL_PROPAGATORS`), where that is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagators: Option<String>,
    /// Time in milliseconds that spans may wait in its SDK, if declared (`OTEL_BSP_SCHEDULE_DELAY`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for_ms: Option<u64>,
    /// Environment variable, as `NAME=value`, that disables its SDK or its export of spans, if one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_by: Option<String>,
    /// The services whose addresses it is given.
    #[serde(default)]
    pub callees: Vec<String>,
    /// The setting by which it exports to an address that is none of this system, as `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exports_elsewhere: Option<String>,
    /// The environment variable, as `NAME=value`, by which its SDK drops some traces whatever their parents say, if one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_sampler: Option<String>,
    /// Environment variables, as `NAME=value`, that leave some of its libraries or routes without instrumentation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uninstrumented_by: Vec<String>,
    /// The settings by which it exports to the collector what that does not take there, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misdirected: Option<String>,
    /// The services whose calls reach it with nothing between that could answer in its place, [`DRIVER_SERVICE`] where requests do; empty
    /// where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct_callers: Vec<String>,
    /// By caller, [`DRIVER_SERVICE`] among them, the workloads without spans that pass its calls on to the service, such as a gateway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub called_through: BTreeMap<String, Vec<String>>,
    /// The environment variable, as `NAME=value`, that limits how many attributes its SDK keeps of a span, with that number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_attributes: Option<(String, usize)>,
    /// The environment variable, as `NAME=value`, that limits the length of attribute values, with that number of characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_value: Option<(String, usize)>,
    /// Whether it begins a trace of its own for each request, and links it to the one that its caller names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
}

impl ServiceIdentity {
    /// Returns the setting by which nothing of it reaches the collector, as a sentence, if there is one.
    pub(crate) fn kept_from_sending(&self) -> Option<String> {
        let workload = &self.workload;
        if let Some(setting) = &self.silenced_by {
            return Some(format!(
                "`{workload}` sends no spans to the collector, since {setting} is set for it"
            ));
        }
        if let Some(wrong) = &self.misdirected {
            return Some(format!("`{workload}` sends no spans that the collector takes: {wrong}"));
        }
        let setting = self.exports_elsewhere.as_ref()?;
        Some(format!(
            "`{workload}` sends its spans elsewhere: {setting} is set for it, which is not an address of this system"
        ))
    }

    /// Returns the settings that leave something without instrumentation, as the end of a sentence; empty where there are none.
    pub(crate) fn why_uninstrumented(&self) -> String {
        match self.uninstrumented_by.as_slice() {
            [] => String::new(),
            set => format!("; {} is set for `{}`", set.join(", "), self.workload),
        }
    }
}

impl Topology {
    /// Returns the workload that produced a span: by instance id, else by a service name that only one workload has.
    /// The harness itself is [`DRIVER_SERVICE`].
    pub fn workload_of<'a>(&'a self, span: &Span) -> Option<&'a str> {
        if span.service == DRIVER_SERVICE {
            return Some(DRIVER_SERVICE);
        }
        if let Some(instance) = span.instance()
            && let Some(found) = self
                .services
                .iter()
                .find(|service| service.instances.iter().any(|known| known == instance))
        {
            return Some(&found.workload);
        }
        let mut named = self.services.iter().filter(|service| same_service(service, &span.service));
        match (named.next(), named.next()) {
            (Some(only), None) => Some(&only.workload),
            _ => None,
        }
    }
}

impl Topology {
    /// Returns whether a workload's calls reach another one with nothing between that could answer in its place; `false` where that is not
    /// known.
    pub(crate) fn is_direct(&self, caller: &str, callee: &str) -> bool {
        let known = self.services.iter().find(|one| one.workload == callee);
        known.is_some_and(|one| one.direct_callers.iter().any(|by| by == caller))
    }

    /// Returns the workloads without spans that pass calls on from one to another, as a list; `None` where there are none, or they are not
    /// known.
    pub(crate) fn between(&self, caller: &str, callee: &str) -> Option<String> {
        let known = self.services.iter().find(|one| one.workload == callee)?;
        let between = known.called_through.get(caller).filter(|between| !between.is_empty())?;
        Some(between.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" and "))
    }

    /// Returns whether the spans of these workloads can be distinguished; those of one name only by their instances.
    pub fn distinguishes<'a>(&self, workloads: impl Iterator<Item = &'a str>) -> bool {
        let mut names = HashSet::new();
        workloads.filter_map(|name| self.services.iter().find(|one| one.workload == name)).all(
            |one| {
                let known = one.service.as_ref().map(|service| service.to_lowercase());
                !one.instances.is_empty() || known.is_none_or(|service| names.insert(service))
            },
        )
    }
}

/// Returns whether a span's service is the one that a workload says it has: Datadog puts service names into lower case, and an underscore
/// in place of whatever else it does not take.
fn same_service(workload: &ServiceIdentity, service: &str) -> bool {
    workload.service.as_ref().is_some_and(|name| {
        let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"_:./-".contains(&byte);
        match name.bytes().all(is_taken) {
            true => name.bytes().map(|byte| byte.to_ascii_lowercase()).eq(service.bytes()),
            false => in_datadog(name) == in_datadog(service),
        }
    })
}

/// Returns a service name with what Datadog does not take of it as single underscores, and none at its end.
fn in_datadog(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for letter in name.chars().flat_map(char::to_lowercase) {
        let is_taken = letter.is_alphanumeric() || ":./-".contains(letter);
        if is_taken {
            shown.push(letter);
        } else if !shown.is_empty() && !shown.ends_with('_') {
            shown.push('_');
        }
    }
    shown.truncate(shown.trim_end_matches('_').len());
    shown
}

/// One service's ledger entry for one trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LedgerReport {
    /// The spans that the service ended.
    Known(LedgerEntry),
    /// The service has no ledger, or it could not be queried; with the reason.
    Unknown(String),
}

/// All evidence of one case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The spans captured for the case's trace id; `None` when there are none.
    pub trace: Option<Trace>,
    /// Each service's ledger report, by workload; empty until the ledgers are queried.
    pub ledgers: BTreeMap<String, LedgerReport>,
    /// Attempts to deliver traces that the intake did not take so far: how many by reply (a status, `reset`, `client-gone`).
    pub refused: BTreeMap<String, u64>,
    /// Workloads that ended by themselves so far, with how.
    pub ended: Vec<String>,
    /// The reason why missing spans may still arrive, or may have arrived unseen; `None` where they did not arrive.
    #[serde(default)]
    pub unsettled: Option<String>,
    /// The collector's ledger entry for the trace; `None` where it has no ledger, was not queried, or lost it in a restart.
    #[serde(default)]
    pub collector: Option<CollectorEntry>,
    /// By workload, the line of its log that reports, since the request was sent, that spans were not passed on; gathered where a case
    /// fails.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub export_errors: BTreeMap<String, String>,
    /// Spans that were captured under other traces, by ids that the services, or the harness, ended in this one.
    #[serde(default)]
    pub elsewhere: Vec<Span>,
    /// The workloads, or services, that spans of other traces came from, where no service's came of this one.
    #[serde(default)]
    pub heard: BTreeSet<String>,
    /// Spans of the trace that were captured when the case had been judged already; `None` where nobody looked for them once services
    /// and collectors had stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Vec<LateSpan>>,
}

/// A span that was captured when its case had been judged already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateSpan {
    /// Its id.
    pub span: SpanId,
    /// The workload, or the service where that is not known, that it comes from.
    pub workload: String,
    /// Time from the response to the span's capture, in milliseconds.
    pub after_ms: u64,
}

impl Evidence {
    /// The same of another trace, of which nothing is known.
    pub(crate) fn without_trace(&self) -> Self {
        Self { unsettled: self.unsettled.clone(), ..Self::default() }
    }
}

/// Something that a source of evidence can give, and a check may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Datadog's own payloads as they were sent, with their metrics and ids. Spans that came as OTLP have none.
    RawPayloads,
    /// APM stats.
    Stats,
    /// The evidence holds no traffic but the run's.
    Exclusiveness,
    /// Everything that arrived is in the evidence, so that what is absent did not arrive.
    Completeness,
    /// Spans that are missing from a captured trace did not arrive. It is given for a single trace, once it had its
    /// time ([`Evidence::unsettled`]).
    Settled,
    /// The services report which spans they ended.
    Ledger,
    /// The collector reports what became of a trace's spans.
    CollectorLedger,
}

impl Capability {
    /// Returns whether a check needs it to distinguish what did not arrive from what is not seen yet, or cannot be seen at all.
    pub(crate) fn is_about_absence(self) -> bool {
        matches!(self, Self::Completeness | Self::Settled)
    }

    /// Returns the capability's name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::RawPayloads => "raw Datadog payloads",
            Self::Stats => "APM stats",
            Self::Exclusiveness => "exclusive evidence",
            Self::Completeness => "complete evidence",
            Self::Settled => "a trace that had its time to arrive",
            Self::Ledger => "the services' ledgers",
            Self::CollectorLedger => "the collector's ledger of traces",
        }
    }
}

/// All that a check may look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The request.
    pub case: &'a Case,
    /// The evidence of its trace.
    pub evidence: &'a Evidence,
    /// Captured traces that no request claims, and that belong to this one.
    pub strays: &'a [&'a Stray],
    /// The capabilities of the evidence's source.
    pub capabilities: &'a [Capability],
    /// The services of the system and how they identify themselves.
    pub topology: &'a Topology,
    /// The shape that the faults imply.
    pub shape: &'a Shape,
    /// Traces of all requests that are judged together.
    pub around: &'a Around<'a>,
}

impl<'a> View<'a> {
    /// Returns the reason why the evidence lacks a capability that a check needs; `None` when it has it.
    pub fn lacks(self, need: Capability) -> Option<String> {
        if need != Capability::Settled && !self.capabilities.contains(&need) {
            return Some(format!("the evidence does not give {}", need.name()));
        }
        if need.is_about_absence() {
            return self.evidence.unsettled.clone();
        }
        let is_otlp = |span: &Span| span.form == PayloadForm::Otlp;
        (need == Capability::RawPayloads && self.spans().iter().any(is_otlp)).then(|| {
            "the spans came as OTLP, of which Datadog makes its own fields on its side".to_owned()
        })
    }

    /// Returns the captured spans; empty if there are none.
    pub fn spans(self) -> &'a [Span] {
        self.evidence.trace.as_ref().map_or(&[], |trace| &trace.spans)
    }

    /// Indexes the captured spans by their ids and parents.
    pub(crate) fn family(self) -> Family<'a> {
        Family::new(self.spans())
    }

    /// Iterates over the captured traces that should have been part of the request's own trace.
    pub fn apart(self) -> impl Iterator<Item = &'a Stray> {
        self.strays.iter().copied().filter(|stray| !stray.origin.is_link())
    }

    /// Iterates over the linked traces, in which the request's work continues.
    pub fn linked(self) -> impl Iterator<Item = &'a Trace> {
        let linked = self.strays.iter().copied().filter(|stray| stray.origin.is_link());
        linked.map(|stray| &stray.trace)
    }

    /// Iterates over the captured spans of the services, without the harness's own.
    pub fn service_spans(self) -> impl Iterator<Item = &'a Span> {
        self.spans().iter().filter(|span| span.service != DRIVER_SERVICE)
    }

    /// Iterates over the spans of a workload with this kind, ordered by start.
    pub fn spans_of(self, workload: &'a str, kind: &'static str) -> impl Iterator<Item = &'a Span> {
        self.spans()
            .iter()
            .filter(move |span| span.kind() == kind && self.workload_of(span) == workload)
    }

    /// Returns the workload that produced a span; its service if the workload is unknown.
    pub fn workload_of(self, span: &'a Span) -> &'a str {
        self.topology.workload_of(span).unwrap_or(&span.service)
    }

    /// Returns whether a span's parent is known though it was not captured: the harness's own span.
    pub fn is_virtual_parent(self, id: SpanId) -> bool {
        self.case.context_sent && id == self.case.driver_span
    }

    /// Returns the name of a span for messages: `` `GET /checkout` (server, sample-app-1, 00f067aa0ba902b7) ``.
    pub fn name(self, span: &Span) -> String {
        let kind = if span.kind().is_empty() { "span" } else { span.kind() };
        let workload = self.topology.workload_of(span).unwrap_or(&span.service).to_owned();
        format!("`{}` ({kind}, {workload}, {})", span.resource, span.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::span;

    #[test]
    fn a_service_is_known_by_its_name_as_datadog_shows_it() {
        let topology = |names: &[&str]| Topology {
            services: (0..)
                .zip(names)
                .map(|(number, name)| ServiceIdentity {
                    workload: format!("workload-{number}"),
                    service: Some((*name).to_owned()),
                    ..ServiceIdentity::default()
                })
                .collect(),
        };
        let found = |names: &[&str], shown: &str| {
            let topology = topology(names);
            topology.workload_of(&span(1, 0, shown, "server", 0, 1)).map(str::to_owned)
        };
        for (name, shown) in [
            ("Price Service", "price_service"),
            ("pay  &  go!", "pay_go"),
            ("Shop", "shop"),
            ("Größe 2", "größe_2"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(found(&[name, "other"], shown).as_deref(), Some("workload-0"), "{name}");
        }
        assert_eq!(found(&["pay-1", "pay_1"], "pay_1").as_deref(), Some("workload-1"));
        assert_eq!(found(&["price"], "price_service"), None);
    }
}
