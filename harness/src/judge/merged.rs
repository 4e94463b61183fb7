//! Spans of one request that were captured in the trace of another one. What rules find of them there is of the way that they took, and
//! not of the request whose trace that is.

use std::collections::HashMap;

use harness_core::family::by_id;

use crate::{
    finding::{Failure, Findings},
    record::Record,
    rule::{ALTERED, ORPHAN},
    trace::{Span, SpanId, TraceId},
    verdict::CaseResult,
};

/// Reports spans of other requests in the traces that they were captured in, in place of all that was found of them there.
pub(super) fn apply(record: &Record, cases: &mut [CaseResult]) {
    let places: HashMap<TraceId, usize> =
        cases.iter().enumerate().map(|(place, of)| (of.trace_id, place)).collect();
    let mut foreign: HashMap<usize, Vec<(&Span, TraceId)>> = HashMap::new();
    for of in &record.cases {
        for span in &of.evidence.elsewhere {
            if let Some(place) = places.get(&span.trace_id) {
                foreign.entry(*place).or_default().push((span, of.case.trace_id));
            }
        }
    }
    explain_orphans(record, cases);
    for (place, spans) in foreign {
        for (span, own) in spans {
            let reported = places
                .get(&own)
                .and_then(|own| altered(&cases[*own].findings, span.id))
                .map(|altered| in_the_other_trace(altered, span, own));
            if let Some(reported) = reported {
                replace(&mut cases[place].findings, reported);
            }
        }
    }
}

/// Says of orphans whose parents were captured in another request's trace that they are of that one.
fn explain_orphans(record: &Record, cases: &mut [CaseResult]) {
    let is_orphan = |one: &Failure| one.rule == ORPHAN;
    if !cases.iter().any(|of| of.findings.failures.iter().any(is_orphan)) {
        return;
    }
    let traces = record.cases.iter().flat_map(|of| &of.evidence.trace);
    let by_id = by_id(traces.flat_map(|of| &of.spans));
    for of in cases {
        for failure in of.findings.failures.iter_mut().filter(|one| is_orphan(one)) {
            let orphan = failure.span.and_then(|id| by_id.get(&id));
            let parent = orphan.and_then(|orphan| by_id.get(&orphan.parent_id?));
            let Some(parent) = parent.filter(|parent| parent.trace_id != of.trace_id) else {
                continue;
            };
            let service = failure.service.clone().unwrap_or_default();
            failure.set_cause(format!(
                "that is `{}` ({}, {}) in trace {}, which is another request's: something between `{service}` and Datadog gives its spans another trace id, or puts traces together",
                parent.resource,
                parent.kind(),
                parent.service,
                parent.trace_id
            ));
        }
    }
}

/// Returns what was found of a span that left its trace.
fn altered(findings: &Findings, span: SpanId) -> Option<&Failure> {
    let all = findings.failures.iter().flat_map(|one| std::iter::once(one).chain(&one.symptoms));
    let mut of_span = all.filter(|one| one.span == Some(span));
    of_span.find(|one| one.rule == ALTERED && one.changed.is_none())
}

/// The same as it shows in the trace that the span was captured in.
fn in_the_other_trace(altered: &Failure, span: &Span, own: TraceId) -> Failure {
    let service = altered.service.as_deref().unwrap_or(&span.service);
    let detail = format!(
        "`{}` ({}, {service}, {}) is in this trace, and `{service}` ended it in trace {own}",
        span.resource,
        span.kind(),
        span.id
    );
    let cause = altered.cause.clone().unwrap_or_default();
    let found = Failure::new(ALTERED, detail).because(cause).about(service);
    found.of_span(span.id).at_stage(altered.stage)
}

/// Puts a finding in the place of the first that is about its span, and the others below it.
fn replace(findings: &mut Findings, mut reported: Failure) {
    let is_about = |one: &Failure| one.span == reported.span;
    let Some(place) = findings.failures.iter().position(is_about) else { return };
    let (about, mut others): (Vec<Failure>, Vec<Failure>) =
        std::mem::take(&mut findings.failures).into_iter().partition(is_about);
    reported.symptoms = about
        .into_iter()
        .flat_map(|mut one| {
            let symptoms = std::mem::take(&mut one.symptoms);
            std::iter::once(one).chain(symptoms)
        })
        .collect();
    others.insert(place.min(others.len()), reported);
    findings.failures = others;
}

#[cfg(test)]
mod tests {
    use super::super::{
        judge,
        testing::{TRACE, World},
    };
    use crate::{
        finding::Failure,
        record::CaseRecord,
        scenario::SystemChoice,
        trace::{SpanId, Trace, TraceId},
    };

    const LATER: TraceId = TraceId(0x6740_0000_1111_2222_3333_4444_5555_7777);

    /// The failures of an earlier request in whose trace the second service's span of a later one was captured, and of that one.
    fn judged() -> [Vec<Failure>; 2] {
        let mut world = World::healthy();
        let CaseRecord { mut case, mut evidence } = world.record.cases[0].clone();
        (case.trace_id, case.driver_span, case.ordinal) = (LATER, SpanId(0xd9), 1);
        let later = |id: SpanId| SpanId(id.0 | 0xf000);
        let mut spans = std::mem::take(&mut evidence.trace.as_mut().unwrap().spans);
        for span in &mut spans {
            let is_own = span.service == "tracecheck";
            span.id = if is_own { case.driver_span } else { later(span.id) };
            let parent = span.parent_id.map(later);
            span.parent_id = parent.map(|id| if id.0 == 0xf0d0 { case.driver_span } else { id });
            (span.trace_id, span.datadog_trace_id) = (LATER, LATER.low());
            span.meta.insert("otel.trace_id".to_owned(), LATER.to_string());
        }
        for report in evidence.ledgers.values_mut() {
            let crate::case::LedgerReport::Known(entry) = report else { continue };
            entry.trace_id = LATER;
            for span in &mut entry.spans {
                span.span_id = later(span.span_id);
                let parent = span.parent_span_id.map(later);
                span.parent_span_id =
                    parent.map(|id| if id.0 == 0xf0d0 { case.driver_span } else { id });
            }
        }
        let at = spans.iter().position(|span| span.service == "sample-app-2").unwrap();
        let mut moved = spans.remove(at);
        (moved.trace_id, moved.datadog_trace_id) = (TRACE, TRACE.low());
        moved.meta.insert("otel.trace_id".to_owned(), TRACE.to_string());
        world.evidence().trace.as_mut().unwrap().spans.push(moved.clone());
        evidence.trace = Some(Trace::new(LATER, spans));
        evidence.elsewhere = vec![moved];
        world.record.cases.push(CaseRecord { case, evidence });
        let result = judge(&world.record);
        let of = |place: usize| result.cases[place].findings.failures.clone();
        [of(0), of(1)]
    }

    #[test]
    fn a_span_of_another_request_is_no_orphan_of_the_one_whose_trace_has_it() {
        let [host, own] = judged();
        let [only] = &host[..] else { panic!("{host:#?}") };
        assert_eq!((&*only.rule, only.service.as_deref()), ("altered-span", Some("sample-app-2")));
        assert!(only.detail.contains(&format!("ended it in trace {LATER}")), "{}", only.detail);
        let symptoms: Vec<&str> = only.symptoms.iter().map(|one| one.rule.as_str()).collect();
        assert!(symptoms.contains(&"orphan-span"), "{symptoms:?}");
        assert!(symptoms.contains(&"invented-span"), "{symptoms:?}");
        let [only] = &own[..] else { panic!("{own:#?}") };
        assert!(only.detail.contains(&format!("captured under trace {TRACE}")), "{}", only.detail);
    }

    #[test]
    fn an_orphan_whose_parent_is_in_another_requests_trace_is_of_that_one_without_ledgers_too() {
        let mut world = World::healthy();
        world.record.scenario.system = SystemChoice::File("shop.yaml".into());
        world.evidence().ledgers.clear();
        let mut later = world.record.cases[0].clone();
        (later.case.trace_id, later.case.ordinal) = (LATER, 1);
        let trace = later.evidence.trace.as_mut().unwrap();
        for span in &mut trace.spans {
            (span.id, span.trace_id) = (SpanId(span.id.0 | 0xf000), LATER);
            (span.parent_id, span.datadog_trace_id) =
                (span.parent_id.map(|id| SpanId(id.0 | 0xf000)), LATER.low());
            span.meta.insert("otel.trace_id".to_owned(), LATER.to_string());
        }
        later.case.driver_span = SpanId(0xf0d0);
        let mut moved = trace.spans.remove(3);
        (moved.trace_id, moved.datadog_trace_id) = (TRACE, TRACE.low());
        moved.meta.insert("otel.trace_id".to_owned(), TRACE.to_string());
        world.evidence().trace.as_mut().unwrap().spans.push(moved);
        world.record.cases.push(later);
        let result = judge(&world.record);
        let failures = &result.cases[0].findings.failures;
        let orphan = failures.iter().find(|one| one.rule == "orphan-span").unwrap();
        let cause = format!("in trace {LATER}, which is another request's");
        assert!(orphan.detail.contains(&cause), "{}", orphan.detail);
    }
}
