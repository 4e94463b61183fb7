//! Rules about the attributes that OpenTelemetry's semantic conventions ask for.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap},
};

use harness_core::family::by_id;

use super::{Checked, datadog::spans_count};
use crate::{
    case::{
        View,
        shape::{Expected, HopShape},
    },
    finding::{Failure, Stage},
    intake::decode::TakenSpan,
    trace::{PayloadForm, Span, SpanId},
};

/// The attributes that a span of HTTP must have, under the names of today's conventions.
const METHOD: &str = "http.request.method";
const STATUS: &str = "http.response.status_code";
const ROUTE: &str = "http.route";
/// The attributes by which Datadog names and counts requests, each under the names that it has on its way.
const IN_EACH_FORM: [(&str, [&str; 2]); 3] = [
    (METHOD, ["http.method", METHOD]),
    (STATUS, ["http.status_code", STATUS]),
    (ROUTE, [ROUTE; 2]),
];

/// Returns whether it has a method, under the name that an exporter gives it or under the one it was sent with.
fn has_method(span: &Span) -> bool {
    ["http.method", METHOD].iter().any(|key| span.meta.contains_key(*key))
}

fn has_status(span: &Span) -> bool {
    span.http_status().is_some()
        || span.meta.contains_key(STATUS)
        || span.metrics.contains_key(STATUS)
}

/// The rule `missing-attributes`: of services whose instrumentation is known to set them.
pub(super) fn missing_attributes(view: View<'_>) -> Checked {
    let hops = &view.shape.hops;
    if hops.is_empty() {
        let mut found = answered_without_a_method(view);
        found.extend(removed_in_the_collector(view));
        if !found.is_empty() {
            return Checked::Seen(found);
        }
        return Checked::NotEvaluated {
            because: "it is not known what the services' instrumentation sets; ask for it in `expect`, such as for the `status` of a server's span".to_owned(),
            required: false,
        };
    }
    let mut missing: BTreeMap<(&str, &str), Vec<&Span>> = BTreeMap::new();
    // What else sends spans may have its own names.
    let is_known =
        |span: &&Span| span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
    for span in view.service_spans().filter(is_known) {
        let workload = view.workload_of(span);
        let Some(hop) = hops.iter().find(|hop| hop.workload == workload) else { continue };
        if let Some(key) = lacks(hop, span) {
            missing.entry((workload, key)).or_default().push(span);
        }
    }
    let found = missing.into_iter().map(|((workload, key), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came without `{key}`, which its instrumentation sets on each",
            spans_count(spans.len())
        ))
        .because(removes(workload))
        .about(workload)
        .of_spans(&spans)
    });
    Checked::Found(found.collect())
}

/// Finds server spans with the status of an HTTP answer, and without the method that was asked for: instrumentation that sets the one sets
/// the other.
fn answered_without_a_method(view: View<'_>) -> Vec<Failure> {
    let lacks = |span: &&Span| {
        let is_known = span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
        is_known && span.kind() == "server" && has_status(span) && !has_method(span)
    };
    let mut lacking: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.service_spans().filter(lacks) {
        lacking.entry(view.workload_of(span)).or_default().push(span);
    }
    let found = lacking.into_iter().map(|(workload, spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came with the status of an HTTP answer, and without `{METHOD}`",
            spans_count(spans.len())
        ))
        .because(removes(workload))
        .about(workload)
        .of_spans(&spans)
    });
    found.collect()
}

/// Finds spans that came to the collector with the method, status or route of an HTTP request, and left it without: of what Datadog shows and
/// counts requests by, nothing is removed on purpose.
fn removed_in_the_collector(view: View<'_>) -> Vec<Failure> {
    let Some(entry) = view.evidence.collector.as_ref() else { return Vec::new() };
    let Some(sent) = entry.only_to_datadog() else { return Vec::new() };
    // Of two spans with one id it is not known which became which.
    let mut came: HashMap<SpanId, Option<&TakenSpan>> = HashMap::new();
    for span in &entry.spans {
        came.entry(span.id).and_modify(|known| *known = None).or_insert(Some(span));
    }
    let captured = LazyCell::new(|| by_id(view.spans()));
    let mut removed: BTreeMap<(&str, &str), Vec<&Span>> = BTreeMap::new();
    let left = sent.spans.iter().filter_map(|sent| Some(((*came.get(&sent.id)?)?, sent)));
    for (came, sent) in left {
        for (key, names) in IN_EACH_FORM {
            let had = names.iter().any(|name| came.attributes.contains_key(*name));
            let has =
                |name: &&str| sent.meta.contains_key(*name) || sent.metrics.contains_key(*name);
            if !had || names.iter().any(has) {
                continue;
            }
            if let Some(span) = captured.get(&sent.id) {
                removed.entry((view.workload_of(span), key)).or_default().push(span);
            }
        }
    }
    let found = removed.into_iter().map(|((workload, key), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came to the collector with `{key}`, and left it without",
            spans_count(spans.len())
        ))
        .because("a processor of the collector removes it: of attributes, a redaction, a list of keys to keep")
        .about(workload)
        .of_spans(&spans)
        .at_stage(Some(Stage::Collector))
    });
    found.collect()
}

/// A cause why attributes of a service's spans are not there.
fn removes(workload: &str) -> String {
    format!(
        "a limit on attributes in the SDK of `{workload}` (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT), or something between it and Datadog removes them: a processor of attributes, a redaction, a list of keys to keep"
    )
}

/// Finds an attribute that a span of a hop should have, and has not.
fn lacks(hop: &HopShape, span: &Span) -> Option<&'static str> {
    // What was cut short has no status.
    let (is_http, is_answered) = match span.kind() {
        "server" => (true, hop.server_error == Expected::No),
        "client" => (true, hop.client_error == Expected::No),
        _ => (false, false),
    };
    if is_http && !has_method(span) {
        return Some(METHOD);
    }
    (is_answered && !span.error && !has_status(span)).then_some(STATUS)
}
