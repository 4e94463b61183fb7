//! The meaning of a difference in Datadog: how much it matters, and what to expect there.

use schemars::JsonSchema;
use serde::Serialize;

use super::Kind;

/// Importance of a difference in Datadog, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Impact {
    /// Spans or traces are missing, come in addition, or hang elsewhere.
    Data,
    /// Monitors, SLOs, dashboards and APM stats see another service, operation, resource or error.
    Monitors,
    /// Searches, facets and span-based metrics find something else.
    Search,
    /// Something that is shown beside a span differs.
    Details,
}

impl Impact {
    /// All of them, the worst first.
    pub const ALL: [Self; 4] = [Self::Data, Self::Monitors, Self::Search, Self::Details];

    /// Returns the heading under which reports list differences of this impact.
    pub fn title(self) -> &'static str {
        match self {
            Self::Data => "Spans and traces",
            Self::Monitors => "Monitors, SLOs and APM stats",
            Self::Search => "Searches, facets and dashboards",
            Self::Details => "Details of a span",
        }
    }
}

/// Says what a difference in a field means; `key` is the field, or its key in meta or metrics.
pub(super) fn of(kind: Kind, key: &str) -> (Impact, &'static str) {
    match kind {
        Kind::Verdict => (
            Impact::Data,
            "tracecheck judges one of the runs otherwise: see its report for what failed",
        ),
        Kind::Answer => (
            Impact::Data,
            "the system itself did something else, so that the spans of these requests were not compared",
        ),
        Kind::SpanMissing => (
            Impact::Data,
            "the work is not shown in its trace, and neither counted in APM stats nor drawn in the service map",
        ),
        Kind::SpanAdded => (
            Impact::Data,
            "the trace shows more work than before; indexed and ingested spans cost accordingly, and APM stats count them where they are top-level or measured",
        ),
        Kind::Moved => (
            Impact::Data,
            "the trace is drawn otherwise, and calls between services go missing in the service map or lead elsewhere",
        ),
        Kind::Stats => (
            Impact::Monitors,
            "trace metrics (`trace.*`) are made of APM stats alone: request rates, error rates and latencies of monitors, SLOs and service pages change",
        ),
        Kind::Value | Kind::FieldMissing | Kind::FieldAdded | Kind::Renamed | Kind::Retyped => {
            of_field(kind, key)
        }
    }
}

fn of_field(kind: Kind, key: &str) -> (Impact, &'static str) {
    use Impact::{Details, Monitors, Search};
    match key {
        "service" => (
            Monitors,
            "Datadog makes another service of it: its page, monitors, SLOs and dashboards of the old one get no more data, and APM stats are split between both",
        ),
        "name" => (
            Monitors,
            "trace metrics are named after the operation (`trace.NAME.hits`): monitors, SLOs and dashboards on the old name get no more data",
        ),
        "resource" => (
            Monitors,
            "Datadog makes another resource of it: monitors and dashboards with `resource_name` get no more data, and APM stats are split between both",
        ),
        "env" => (
            Monitors,
            "services, APM stats and monitors are kept apart by `env`: those of the old environment get no more data",
        ),
        "error" => (Monitors, "error rates, the monitors on them and Error Tracking change"),
        "type" => (
            Monitors,
            "Datadog keeps the span as another kind of work (web, db, cache, queue): APM stats are grouped by it, and queries with `type:` find something else",
        ),
        "span.kind" => (
            Monitors,
            "the kind decides whether APM stats count a span, and from which spans services and dependencies are inferred",
        ),
        "_top_level" | "_dd.measured" => (Monitors, "it decides whether APM stats count the span"),
        "priority" | "dropped" => (Monitors, "it decides whether Datadog keeps the trace"),
        "version" => (Monitors, "APM stats and deployment tracking are kept apart by `version`"),
        "http.status_code" | "http.response.status_code" => (
            Monitors,
            "trace metrics are grouped by the HTTP status, and queries with `@http.status_code` find something else",
        ),
        "peer.service" | "_dd.peer.service.source" | "_dd.base_service" => {
            (Monitors, "inferred services, the service map and APM stats by peer are made of it")
        }
        "hostname" => (
            Search,
            "the host decides which host tags a span has and which infrastructure it leads to, and hosts are what APM is billed by",
        ),
        "container_id" | "container.id" => (
            Search,
            "the container decides which container tags a span has and which infrastructure it leads to",
        ),
        "error.message" | "error.msg" | "error.type" | "error.stack" | "events" => (
            Search,
            "Error Tracking groups errors by their type, message and stack, and makes new issues of others",
        ),
        "otel.trace_id" | "_dd.p.tid" => {
            (Search, "the whole trace id is what logs and other tools are connected by")
        }
        "_dd.span_links" => (Search, "the links to other traces that are shown beside the span"),
        "language" => (Details, "the language that is shown for the service"),
        key if key.starts_with("_dd.p.dm") || key.starts_with("_sampling") => {
            (Details, "why a trace was kept, as shown under ingestion control")
        }
        key if key.starts_with('_') => (
            Details,
            "Datadog's own field; it cannot be searched for, and features beside APM may read it",
        ),
        key if key.starts_with("otel.") || key.starts_with("telemetry.sdk.") => {
            (Details, "what is shown of the instrumentation; searches with it find something else")
        }
        _ if kind == Kind::FieldMissing => (
            Search,
            "searches, facets, saved views and span-based metrics with this attribute find these spans no more",
        ),
        _ if kind == Kind::FieldAdded => {
            (Details, "one attribute more to search for; nothing that was there goes missing")
        }
        _ if kind == Kind::Renamed => (
            Search,
            "searches, facets, saved views and span-based metrics with the old name find these spans no more",
        ),
        _ if kind == Kind::Retyped => (
            Search,
            "a facet for text does not find numbers, nor does a measure find text: ranges and averages with it stop working, or begin to",
        ),
        _ => (
            Search,
            "searches, facets, saved views and span-based metrics with the old value find these spans no more",
        ),
    }
}
