//! Requests to a public entry: a service that does not go on with the trace that its callers name, but begins one of its own and links it
//! to theirs, as an endpoint does that everybody may call.

use crate::{
    case::{Case, Evidence, Origin, Stray, View},
    trace::{Trace, TraceId},
};

/// Looks at requests as they are to be judged: those to a public entry by the traces that it began for them.
pub(super) fn looked_at<T>(views: &[View<'_>], look: impl FnOnce(&[View<'_>]) -> T) -> T {
    let begun: Vec<Option<Begun>> = views.iter().map(|view| Begun::of(*view)).collect();
    if begun.iter().all(Option::is_none) {
        return look(views);
    }
    let strays: Vec<Vec<&Stray>> =
        begun.iter().map(|begun| begun.iter().flat_map(|one| &one.strays).collect()).collect();
    let each = views.iter().zip(&begun).zip(&strays);
    let as_judged = each.map(|((view, begun), strays)| match begun {
        Some(Begun { case, evidence, .. }) => View { case, evidence, strays, ..*view },
        None => *view,
    });
    look(&as_judged.collect::<Vec<_>>())
}

/// A request by the trace that a public entry began for it, in place of the one that it was sent.
struct Begun {
    case: Case,
    evidence: Evidence,
    strays: Vec<Stray>,
}

impl Begun {
    /// Returns the request by its entry's trace; `None` where the entry is not public, went on with the trace that it was sent, or no trace
    /// was captured that it began.
    fn of(view: View<'_>) -> Option<Self> {
        let trace = begun_by_entry(view)?;
        let case = Case { driver_exported: false, ..view.case.with_own_trace(trace.id) };
        let evidence = Evidence { trace: Some(trace.clone()), ..view.evidence.without_trace() };
        let others = view.strays.iter().filter(|stray| stray.trace.id != trace.id);
        let strays = others.map(|stray| owned(stray, view.case.trace_id, trace.id)).collect();
        Some(Self { case, evidence, strays })
    }
}

fn begun_by_entry(view: View<'_>) -> Option<&Trace> {
    let entry = view.case.entry(view.topology)?;
    let is_public = view.topology.services.iter().any(|one| one.workload == entry && one.public);
    if !is_public || !view.case.context_sent || view.service_spans().next().is_some() {
        return None;
    }
    let begins = |trace: &&Trace| {
        let mut roots = trace.spans.iter().filter(|span| span.parent_id.is_none());
        roots.any(|root| view.workload_of(root) == entry)
    };
    view.linked().find(begins)
}

/// The same stray, of the trace that stands in place of the request's.
fn owned(stray: &Stray, request: TraceId, place: TraceId) -> Stray {
    let mut stray = stray.clone();
    if let Origin::Link { of, .. } = &mut stray.origin
        && *of == request
    {
        *of = place;
    }
    stray
}

#[cfg(test)]
mod tests {
    use super::super::{
        judge,
        testing::{TRACE, World},
    };
    use super::*;
    use crate::{
        case::Capability,
        trace::SpanId,
        verdict::{ScenarioResult, Verdict},
    };

    const BEGUN: TraceId = TraceId(9);

    /// Judges requests to an entry that began a trace of its own, which a link connects with the request's; `public` as the system file
    /// has it.
    fn judged(public: bool, change: impl FnOnce(&mut Trace)) -> ScenarioResult {
        let mut world = World::healthy();
        world.record.topology.services[0].public = public;
        world.record.capabilities.retain(|one| *one != Capability::Ledger);
        world.evidence().ledgers.clear();
        let sent = world.evidence().trace.as_mut().unwrap();
        let (own, begun) = std::mem::take(&mut sent.spans)
            .into_iter()
            .partition(|span| span.service == "tracecheck");
        sent.spans = own;
        let mut begun = Trace::new(BEGUN, begun);
        for span in &mut begun.spans {
            span.trace_id = BEGUN;
            span.datadog_trace_id = BEGUN.low();
            span.meta.insert("otel.trace_id".to_owned(), BEGUN.to_string());
        }
        begun.spans[0].parent_id = None;
        change(&mut begun);
        let origin = Origin::Link { of: TRACE, also: Vec::new() };
        world.record.strays.push(Stray { trace: begun, origin });
        judge(&world.record)
    }

    fn rules(result: &ScenarioResult) -> Vec<&str> {
        let failures = result.cases.iter().flat_map(|case| &case.findings.failures);
        failures.map(|failure| failure.rule.as_str()).collect()
    }

    #[test]
    fn a_request_to_a_public_entry_is_judged_by_the_trace_that_the_entry_began() {
        let whole = judged(true, |_| {});
        assert_eq!((whole.verdict, rules(&whole)), (Verdict::Pass, vec![]), "{whole:#?}");
        assert_eq!((whole.cases[0].trace_id, whole.cases[0].service_spans), (BEGUN, 3));
        let broken = judged(true, |begun| begun.spans.retain(|span| span.id != SpanId(0xb1)));
        assert_eq!((broken.verdict, rules(&broken)), (Verdict::Fail, vec!["missing-hop"]));
        let orphaned = judged(true, |begun| begun.spans[2].parent_id = Some(SpanId(0xee)));
        assert!(rules(&orphaned).contains(&"orphan-span"), "{orphaned:#?}");
    }

    #[test]
    fn an_entry_that_only_links_fails_where_nothing_says_that_it_is_public() {
        let result = judged(false, |_| {});
        assert_eq!((result.verdict, rules(&result)), (Verdict::Fail, vec!["no-trace"]));
    }

    #[test]
    fn a_public_entry_that_began_no_trace_leaves_none() {
        let elsewhere = |begun: &mut Trace| begun.spans.retain(|span| span.id == SpanId(0xb1));
        let result = judged(true, elsewhere);
        assert_eq!((result.verdict, rules(&result)), (Verdict::Fail, vec!["no-trace"]));
    }
}
