//! Rules about the attributes that OpenTelemetry's semantic conventions ask for.

use std::{cell::LazyCell, collections::BTreeMap};

use harness_core::family::by_id;

use super::{
    Checked,
    datadog::spans_count,
    on_the_way::{OnTheWay, Part},
};
use crate::{
    case::{
        View,
        shape::{Expected, HopShape},
    },
    finding::{Failure, Stage},
    trace::{PayloadForm, Span},
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
    let (hops, way) = (&view.shape.hops, LazyCell::new(|| OnTheWay::of(view)));
    if hops.is_empty() {
        let mut found = answered_without_a_method(view, &way);
        found.extend(removed_in_the_collector(view, &way));
        if !found.is_empty() {
            return Checked::Seen(found);
        }
        return Checked::NotEvaluated {
            because: "it is not known what the services' instrumentation sets; ask for it in `expect`, such as for the `status` of a server's span".to_owned(),
            required: false,
        };
    }
    let mut missing: BTreeMap<Missing<'_>, Vec<&Span>> = BTreeMap::new();
    // What else sends spans may have its own names.
    let is_known =
        |span: &&Span| span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
    for span in view.service_spans().filter(is_known) {
        let workload = view.workload_of(span);
        let Some(hop) = hops.iter().find(|hop| hop.workload == workload) else { continue };
        if let Some(key) = lacks(hop, span) {
            let part = way.part_of_attribute(span.id, &names_of(key), |_| true);
            missing.entry((workload, key, part)).or_default().push(span);
        }
    }
    let found = missing.into_iter().map(|((workload, key, part), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let found = Failure::found(format!(
            "{} of `{workload}` ({first}) came without `{key}`, which its instrumentation sets on each",
            spans_count(spans.len())
        ));
        removed(found, (view, &way), (workload, part), &spans)
    });
    Checked::Found(found.collect())
}

/// Attributes that spans lack: their workload, the attribute, and the part of their way on which it was lost.
type Missing<'a> = (&'a str, &'a str, Part);

/// The names that an attribute has on its way.
fn names_of(key: &str) -> [&str; 2] {
    IN_EACH_FORM.iter().find(|(of, _)| *of == key).map_or([key; 2], |(_, names)| *names)
}

/// Finds server spans with the status of an HTTP answer, and without the method that was asked for: instrumentation that sets the one sets
/// the other.
fn answered_without_a_method(view: View<'_>, way: &OnTheWay<'_>) -> Vec<Failure> {
    let lacks = |span: &&Span| {
        let is_known = span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
        is_known && span.kind() == "server" && has_status(span) && !has_method(span)
    };
    let mut lacking: BTreeMap<(&str, Part), Vec<&Span>> = BTreeMap::new();
    for span in view.service_spans().filter(lacks) {
        let part = way.part_of_attribute(span.id, &names_of(METHOD), |_| true);
        // Of what the collector removes, more is known.
        if part.stage() != Some(Stage::Collector) {
            lacking.entry((view.workload_of(span), part)).or_default().push(span);
        }
    }
    let found = lacking.into_iter().map(|((workload, part), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let found = Failure::found(format!(
            "{} of `{workload}` ({first}) came with the status of an HTTP answer, and without `{METHOD}`",
            spans_count(spans.len())
        ));
        removed(found, (view, way), (workload, part), &spans)
    });
    found.collect()
}

/// Finds spans that came to the collector with the method, status or route of an HTTP request, and left it without: of what Datadog shows and
/// counts requests by, nothing is removed on purpose.
fn removed_in_the_collector(view: View<'_>, way: &OnTheWay<'_>) -> Vec<Failure> {
    let Some(entry) = view.evidence.collector.as_ref() else { return Vec::new() };
    let Some(sent) = entry.only_to_datadog() else { return Vec::new() };
    let captured = LazyCell::new(|| by_id(view.spans()));
    let mut removed: BTreeMap<(&str, &str), Vec<&Span>> = BTreeMap::new();
    let left = sent.spans.iter().filter_map(|sent| Some((way.taken.get(sent.id)?, sent)));
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

/// Completes a finding of spans that lack an attribute by its cause, and the stage where it is known.
fn removed(
    found: Failure,
    (view, way): (View<'_>, &OnTheWay<'_>),
    (workload, part): (&str, Part),
    spans: &[&Span],
) -> Failure {
    const REMOVES: &str = "a processor of attributes, a redaction, a list of keys to keep";
    let limit = match limit(view, way, workload, spans) {
        Some(setting) => {
            format!(
                "the SDK of `{workload}` keeps no more attributes, since {setting} is set for it"
            )
        }
        None => format!(
            "a limit on attributes in the SDK of `{workload}` (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT)"
        ),
    };
    let cause = if part.is_behind_the_service() {
        let (place, proof) = (part.place(workload), part.proof(workload));
        format!("{place} removes it, {proof} with it: {REMOVES}")
    } else if part.stage() == Some(Stage::Service) {
        format!("`{workload}` itself ended it without: {limit}")
    } else if part.is_before_the_collector() {
        format!("{limit}, or something between it and the collector removes them: {REMOVES}")
    } else {
        format!("{limit}, or something between it and Datadog removes them: {REMOVES}")
    };
    found.because(cause).about(workload).of_spans(spans).at_stage(part.stage())
}

/// Returns the setting by which a workload's SDK keeps no more attributes, as `NAME=value`, where all of these spans have as many as it
/// leaves.
pub(super) fn limit<'a>(
    view: View<'a>,
    way: &OnTheWay<'_>,
    workload: &str,
    spans: &[&Span],
) -> Option<&'a str> {
    let known = view.topology.services.iter().find(|one| one.workload == workload)?;
    let (setting, most) = known.most_attributes.as_ref()?;
    // What was captured has others beside.
    let has = |span: &Span| {
        way.attributes(span.id).unwrap_or_else(|| span.meta.len() + span.metrics.len())
    };
    spans.iter().all(|span| has(span) >= *most).then_some(setting)
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
