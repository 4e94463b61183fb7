//! Answers by the paths that they are of, beside the calls that they hang below.

use super::on_the_way::{OnTheWay, Part};
use crate::{
    case::{
        View,
        call_facts::{CallFacts, without_query},
    },
    finding::{Changed, Failure, Stage},
    trace::{CLOCK_TOLERANCE, Span, SpanId, TraceId},
};

/// Attributes that hold the path of a call, under all the names that they have on their way.
const PATHS: [&str; 4] = ["url.path", "http.target", "url.full", "http.url"];

/// An answer that stands alone below a call which asked for another path than it is of.
pub(super) struct Unfit<'a> {
    call: &'a Span,
    answer: &'a Span,
    caller: &'a str,
    callee: &'a str,
    wanted: String,
    path: String,
    whose: Whose,
}

/// The call that such an answer is of.
enum Whose {
    /// One of the same service, which was in progress when the answer began.
    Other { trace: Option<TraceId>, span: SpanId, at_once: bool },
    /// None that was captured: one of the paths is not what it was.
    Nobodys,
}

/// Finds the answers below calls that asked for another path.
///
/// Where a proxy may stand between, which may rewrite paths, only what another call of the same trace asked for is sure to be of that one.
pub(super) fn unfit(view: View<'_>) -> Vec<Unfit<'_>> {
    let family = view.family();
    let calls = view.service_spans().filter(|span| span.kind() == "client");
    let found = calls.filter_map(|call| {
        let mut answers = family.children(call.id).iter().filter(|span| span.kind() == "server");
        // Of several answers, some may be redirects.
        let (Some(&answer), None) = (answers.next(), answers.next()) else { return None };
        let (wanted, path) = (CallFacts::of(call).path?, CallFacts::of(answer).path?);
        let (caller, callee) = (view.workload_of(call), view.workload_of(answer));
        // An app below a path of its own may know the rest alone.
        if wanted.ends_with(&path) || path.ends_with(&wanted) || caller == callee {
            return None;
        }
        let is_direct = view.topology.is_direct(caller, callee);
        let others = view.around.calls_for(view.topology, &path).iter();
        let mut others = others.filter(|other| {
            other.span != call.id
                && other.caller == caller
                && (is_direct || other.trace == call.trace_id)
                && other.is_at(answer.start, CLOCK_TOLERANCE)
        });
        let whose = match others.next() {
            Some(other) => Whose::Other {
                trace: Some(other.trace).filter(|trace| *trace != call.trace_id),
                span: other.span,
                at_once: other.overlaps(call),
            },
            None if is_direct => Whose::Nobodys,
            None => return None,
        };
        Some(Unfit { call, answer, caller, callee, wanted, path, whose })
    });
    found.collect()
}

impl Unfit<'_> {
    /// Reports an answer that is of another call: something hands out the context of a call in place of another one's.
    pub(super) fn of_another_call(&self, view: View<'_>) -> Option<Failure> {
        let Whose::Other { trace, span, at_once } = self.whose else { return None };
        let Self { caller, callee, .. } = self;
        let within = trace.map_or_else(String::new, |trace| format!(" of trace {trace}"));
        let detail = format!(
            "{} hangs below {}, which asked for `{}`, and answers `{}`, as the call {span}{within} asked",
            view.name(self.answer),
            view.name(self.call),
            self.wanted,
            self.path
        );
        let cause = match at_once {
            true => format!(
                "calls that are in progress at the same time get each other's context: at `{caller}`, which keeps it outside of the request, or by something between `{caller}` and `{callee}`"
            ),
            false => format!(
                "the call is made in the context of an earlier one, which `{caller}` keeps outside of the request, or something between `{caller}` and `{callee}` does"
            ),
        };
        let wrong = Failure::found(detail).because(cause).about(caller);
        Some(wrong.on_hop(caller, callee).of_span(self.answer.id))
    }

    /// Reports an answer of which the path, or that of its call, is not what it was, as no call asked for it.
    pub(super) fn changed(&self, view: View<'_>, way: &OnTheWay<'_>) -> Option<Failure> {
        if !matches!(self.whose, Whose::Nobodys) {
            return None;
        }
        let Self { call, answer, caller, callee, wanted, path, .. } = self;
        let part = |span: &Span, was: &str| {
            way.part_of_attribute(span.id, &PATHS, |text| without_query(text).ends_with(was))
        };
        let of_answer = (*answer, *callee, part(answer, wanted), wanted);
        let of_call = (*call, *caller, part(call, path), path);
        let sides = [of_answer, of_call];
        let shown = sides.iter().find_map(|(span, service, part, was)| {
            Some((*span, *service, changed_behind(service, *part, was)?, part.stage()))
        });
        let cut = || {
            sides.iter().find_map(|(span, service, ..)| {
                Some((*span, *service, cut(view, span, service)?, Some(Stage::Service)))
            })
        };
        let unknown = || (*answer, *callee, self.unknown(), None);
        let (span, service, cause, stage) = shown.or_else(cut).unwrap_or_else(unknown);
        let detail = format!(
            "{} is of `{path}`, and {}, whose answer it is, asked for `{wanted}`; no call that was captured asked for the former",
            view.name(answer),
            view.name(call)
        );
        let found = Failure::found(detail).because(cause).about(service).of_span(span.id);
        Some(found.at_stage(stage).of_changed(Changed::default()))
    }

    /// The causes that remain where nothing shows what the path was.
    fn unknown(&self) -> String {
        let Self { caller, callee, .. } = self;
        format!(
            "the path of the one or the other was changed: by `{callee}` or `{caller}` itself (a limit on the length of values, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT, or a layer that rewrites paths), or by something between them and Datadog (a hash, a redaction)"
        )
    }
}

/// Returns what changed a path that a service ended otherwise, as a ledger shows.
fn changed_behind(service: &str, part: Part, was: &str) -> Option<String> {
    part.is_behind_the_service().then(|| {
        let (place, proof) = (part.place(service), part.proof(service));
        format!("{place} changes the path, {proof} with `{was}`")
    })
}

/// The limit by which a service's SDK cut the path of a span.
fn cut(view: View<'_>, span: &Span, service: &str) -> Option<String> {
    let known = view.topology.services.iter().find(|one| one.workload == service)?;
    let (setting, longest) = known.longest_value.as_ref()?;
    let text = PATHS.iter().find_map(|key| span.meta.get(*key))?;
    (text.chars().count() == *longest).then(|| {
        format!(
            "the SDK of `{service}` cuts each value to {longest} characters, since {setting} is set for it"
        )
    })
}
