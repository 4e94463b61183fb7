//! Rules about fields of Datadog's own, which an exporter makes of what OpenTelemetry sends.
//!
//! Only spans with `otel.trace_id` are looked at: the exporters of every version make these fields for them in one way. What other
//! clients send, they may send otherwise.

use std::collections::BTreeMap;

use super::{Checked, on_the_way::ById};
use crate::{case::View, finding::Failure, trace::Span};

/// Returns whether a span was made of OpenTelemetry's.
fn is_from_otlp(span: &Span) -> bool {
    span.meta.contains_key("otel.trace_id")
}

/// Returns whether something in the trace says that it is there for another reason than its priority: a sampler of errors or of what is rare
/// kept it, single spans of it are kept, or an app set the priority itself.
fn is_kept_otherwise(view: View<'_>) -> bool {
    let reasons =
        ["_dd.errors_sr", "_dd.rare", "_dd.no_p_sr", "_dd.span_sampling.", "_dd.analyzed"];
    view.spans().iter().any(|span| {
        let asked_for = span.metrics.get("sampling.priority").is_some_and(|asked| *asked <= 0.0);
        let kept = |key: &String| reasons.iter().any(|reason| key.starts_with(reason));
        asked_for || span.metrics.keys().any(kept)
    })
}

pub(super) fn priority_lost(view: View<'_>) -> Checked {
    if !view.case.sampled || is_kept_otherwise(view) {
        return Checked::NotApplicable;
    }
    // What is wrong is wrong with a chunk: the spans of one workload in one payload.
    let mut chunks: BTreeMap<(&str, String), Vec<&Span>> = BTreeMap::new();
    for span in view.spans().iter().filter(|span| is_from_otlp(span)) {
        let fault = if span.dropped {
            "marked as dropped (`droppedTrace`)".to_owned()
        } else if span.priority <= 0 {
            format!("of the sampling priority {}", span.priority)
        } else {
            continue;
        };
        chunks.entry((view.workload_of(span), fault)).or_default().push(span);
    }
    let found = chunks.into_iter().map(|((workload, fault), spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) came in a chunk {fault}, though the request was sampled",
            spans_count(spans.len())
        ))
        .because(format!(
            "Datadog drops it, or shows the trace without it; {}, so look at what changes or samples payloads between `{workload}` and Datadog",
            match spans.iter().all(|span| span.dropped) {
                true => "exporters mark no chunk so that they send",
                false => "an exporter writes 1 here unless the attribute `sampling.priority` asks for something else",
            }
        ))
        .about(workload)
        .of_spans(&spans)
    });
    Checked::Found(found.collect())
}

pub(super) fn top_level_lost(view: View<'_>) -> Checked {
    let by_id = ById::new(view.spans(), |span| span.id);
    let is_entry = |span: &Span| {
        let enters = matches!(span.kind(), "server" | "consumer");
        match span.parent_id.map(|id| by_id.get(id)) {
            None => true,
            Some(Some(parent)) => enters && parent.service != span.service,
            // Of a parent that is not there, or that is one of several spans of its id, it is not known whose it is.
            Some(None) => false,
        }
    };
    let mut lost: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.spans().iter().filter(|span| is_from_otlp(span) && is_entry(span)) {
        if span.metrics.get("_top_level") != Some(&1.0) {
            lost.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let found = lost.into_iter().map(|(workload, spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} with which the trace enters `{workload}` ({first}) lost the metric `_top_level`, which an exporter gives to each such span",
            spans_count(spans.len())
        ))
        .because(format!(
            "Datadog makes no trace metrics of it, and `{workload}` is missing from the service list; something between `{workload}` and Datadog removes it or rebuilds the payloads"
        ))
        .about(workload)
        .of_spans(&spans)
    });
    Checked::Found(found.collect())
}

pub(super) fn spans_count(count: usize) -> String {
    if count == 1 { "1 span".to_owned() } else { format!("{count} spans") }
}
