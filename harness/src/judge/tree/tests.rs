//! How odd trees are drawn.

use std::collections::BTreeMap;

use super::captured;
use crate::{
    case::{Around, Case, Evidence, Outcome, ResponseParts, Shape, Topology, View},
    scenario::Method,
    trace::{PayloadForm, Span, SpanId, Trace, TraceId},
};

const TRACE: TraceId = TraceId(7);
const DRIVER: u64 = 1;

fn span(id: u64, parent: u64) -> Span {
    Span {
        trace_id: TRACE,
        datadog_trace_id: TRACE.low(),
        id: SpanId(id),
        parent_id: Some(SpanId(parent)),
        service: "app".to_owned(),
        name: "internal".to_owned(),
        resource: format!("step {id}"),
        span_type: String::new(),
        error: false,
        start: i64::try_from(id).unwrap(),
        duration: 1,
        meta: BTreeMap::new(),
        metrics: BTreeMap::new(),
        hostname: String::new(),
        env: String::new(),
        container_id: String::new(),
        language: String::new(),
        priority: 1,
        dropped: false,
        form: PayloadForm::Datadog,
        attempt: 1,
    }
}

fn drawn(spans: Vec<Span>) -> Vec<String> {
    let case = Case {
        request: 0,
        ordinal: 0,
        trace_id: TRACE,
        driver_span: SpanId(DRIVER),
        driver_exported: false,
        context_sent: true,
        sampled: true,
        sent_at: 0,
        ended_at: 1,
        outcome: Outcome::Response { status: 200, trace_id: None },
        method: Method::Get,
        entry: None,
        answer: ResponseParts::default(),
    };
    let evidence = Evidence { trace: Some(Trace::new(TRACE, spans)), ..Evidence::default() };
    let (topology, shape) = (Topology::default(), Shape::default());
    captured(View {
        case: &case,
        evidence: &evidence,
        strays: &[],
        capabilities: &[],
        topology: &topology,
        shape: &shape,
        around: &Around::default(),
    })
}

#[test]
fn what_is_nested_too_deep_to_draw_is_counted_and_is_no_cycle() {
    let lines = drawn((2..102).map(|id| span(id, id - 1)).collect());
    assert_eq!(lines[..2], ["tracecheck client GET (virtual)", "  app span step 2"]);
    assert_eq!(lines.len(), 66);
    assert_eq!(lines[65].trim_start(), "… 36 more below");
}

#[test]
fn orphans_spans_that_came_twice_and_cycles_are_each_drawn() {
    let spans = vec![span(2, DRIVER), span(3, 99), span(3, 99), span(5, 6), span(6, 5)];
    assert_eq!(
        drawn(spans),
        [
            "tracecheck client GET (virtual)",
            "  app span step 2",
            "? parent 0000000000000063 was not captured",
            "  app span step 3",
            "? parent 0000000000000063 was not captured",
            "  app span step 3",
            "app span step 5 (in a cycle)",
            "app span step 6 (in a cycle)",
        ]
    );
}
