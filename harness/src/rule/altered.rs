//! The rule `altered-span`: spans that arrive otherwise than they were ended and sent.

mod fields;

use std::{
    cell::{LazyCell, OnceCell},
    collections::{HashMap, HashSet},
};

use harness_core::family::by_id;

use super::{
    Checked,
    ledgers::known_ledgers,
    on_the_way::{ById, OnTheWay},
    paths,
};
use crate::{
    case::{Capability, View},
    finding::{Changed, Failure, Stage},
    intake::decode::{SentSpan, TakenSpan},
    ledger::LedgerSpan,
    trace::{PayloadForm, Span, SpanId},
};

/// Spans of the trace at each stage that shows them, and of other traces.
struct Stages<'a> {
    taken: ById<&'a TakenSpan>,
    sent: ById<&'a SentSpan>,
    captured: ById<&'a Span>,
    /// Spans that were captured under other traces.
    elsewhere: HashMap<SpanId, &'a Span>,
    renamed: OnceCell<Renamed<'a>>,
}

impl<'a> Stages<'a> {
    fn of(view: View<'a>) -> Self {
        let OnTheWay { taken, sent, .. } = OnTheWay::of(view);
        Self {
            taken,
            sent,
            captured: ById::new(view.spans(), |span| span.id),
            elsewhere: by_id(&view.evidence.elsewhere),
            renamed: OnceCell::new(),
        }
    }

    fn renamed(&self, view: View<'a>) -> &Renamed<'a> {
        self.renamed.get_or_init(|| Renamed::new(view))
    }

    /// The stage at which a span became another one: `taken` and `sent` say of those that the collector shows whether they are as they
    /// were made.
    fn stage(
        &self,
        id: SpanId,
        taken: impl Fn(&TakenSpan) -> bool,
        sent: impl Fn(&SentSpan) -> bool,
    ) -> Option<Stage> {
        if !taken(self.taken.get(id)?) {
            return Some(Stage::BeforeCollector);
        }
        Some(if sent(self.sent.get(id)?) { Stage::BehindCollector } else { Stage::Collector })
    }

    /// The stage at which a span left its trace.
    fn left_its_trace(&self, id: SpanId) -> Option<Stage> {
        match (self.taken.is_empty(), self.taken.knows(id), self.sent.knows(id)) {
            (_, _, true) => Some(Stage::BehindCollector),
            (false, false, _) => Some(Stage::BeforeCollector),
            _ => None,
        }
    }
}

/// In words, between whom and whom a stage is.
fn between(stage: Option<Stage>, workload: &str) -> String {
    match stage {
        Some(Stage::BeforeCollector) => {
            format!("something between `{workload}` and the collector")
        }
        Some(Stage::BehindCollector) => "something between the collector and Datadog".to_owned(),
        Some(Stage::Collector) => "the collector, by one of its processors,".to_owned(),
        Some(Stage::Service) | None => format!("something between `{workload}` and the intake"),
    }
}

/// Determines what became of a span's trace id on its way, as far as the ids show.
pub(super) fn moved(view: View<'_>, span: &Span) -> &'static str {
    let (made, arrived) = (view.case.trace_id, span.trace_id);
    if made.low() == arrived.low() && arrived.high() == 0 {
        return "the upper 64 bits of its trace id are missing (`otel.trace_id`, or `_dd.p.tid` at the first span of a chunk)";
    }
    if made.low() == arrived.low() {
        return "the upper 64 bits of its trace id are others (`otel.trace_id` or `_dd.p.tid`)";
    }
    if made.low() == span.datadog_trace_id {
        return "its 64-bit trace id is the right one, and its meta `otel.trace_id` names another trace";
    }
    "something between the service and the intake gives spans another trace id, or puts traces together"
}

/// Spans that may be those of services under other ids.
pub(super) struct Renamed<'a> {
    /// By the workload, kind and parent of each.
    strange: HashMap<(&'a str, &'a str, Option<SpanId>), Vec<&'a Span>>,
}

impl<'a> Renamed<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        let mut times: HashMap<SpanId, usize> = HashMap::new();
        for span in view.spans() {
            *times.entry(span.id).or_default() += 1;
        }
        let ledgers = known_ledgers(view).map(|(workload, spans, _)| {
            (workload, spans.iter().map(|span| span.span_id).collect::<HashSet<_>>())
        });
        let ledgers: HashMap<&str, HashSet<SpanId>> = ledgers.collect();
        let mut strange: HashMap<_, Vec<&Span>> = HashMap::new();
        for span in view.spans() {
            let Some(workload) = view.topology.workload_of(span) else { continue };
            let Some(ended) = ledgers.get(workload) else { continue };
            let came_twice = times.get(&span.id).is_some_and(|times| *times > 1);
            if came_twice || !ended.contains(&span.id) {
                strange.entry((workload, span.kind(), span.parent_id)).or_default().push(span);
            }
        }
        Self { strange }
    }

    /// Returns the span as which another one of a service was captured, under another id: of the same kind, below the same parent, and by
    /// its id no span of that service, or a second one of that id.
    pub(super) fn of(&self, workload: &str, made: &LedgerSpan) -> Option<&'a Span> {
        let alike = self.strange.get(&(workload, made.kind.as_str(), made.parent_span_id))?;
        alike.iter().copied().find(|span| span.id != made.span_id)
    }
}

/// The rule `altered-span`.
pub(super) fn altered_span(view: View<'_>) -> Checked {
    let way = LazyCell::new(|| OnTheWay::of(view));
    let paths = paths::unfit(view);
    let paths: Vec<_> = paths.iter().filter_map(|one| one.changed(view, &way)).collect();
    let lacking = view.lacks(Capability::Ledger).zip(view.lacks(Capability::CollectorLedger));
    if let Some((because, _)) = lacking.filter(|_| paths.is_empty()) {
        return Checked::NotEvaluated { because, required: false };
    }
    let (stages, captured) = (Stages::of(view), by_id(view.spans()));
    let mut found = Vec::new();
    for (workload, spans, _) in known_ledgers(view) {
        let moved = |made| moved_away((view, &captured), &stages, workload, made);
        found.extend(spans.iter().filter_map(moved));
    }
    let reported: HashSet<SpanId> = found.iter().filter_map(|one: &Failure| one.span).collect();
    found.extend(moved_behind_the_collector((view, &captured), &stages, &reported));
    found.extend(fields::before_the_collector(view, &stages));
    found.extend(fields::behind_the_collector(view, &stages, &reported));
    let reported: HashSet<SpanId> = found.iter().filter_map(|one: &Failure| one.span).collect();
    let is_new = |one: &Failure| one.span.is_none_or(|span| !reported.contains(&span));
    found.extend(paths.into_iter().filter(is_new));
    Checked::Seen(found)
}

/// Reports a span that a service ended and that was captured under another id, in another trace, below another parent, or of another kind.
fn moved_away<'a>(
    (view, captured): (View<'a>, &HashMap<SpanId, &'a Span>),
    stages: &Stages<'a>,
    workload: &str,
    made: &LedgerSpan,
) -> Option<Failure> {
    let id = made.span_id;
    let elsewhere = stages.elsewhere.get(&id);
    let altered = |stage: Option<Stage>, detail: String, cause: String| {
        let found = Failure::found(detail).because(cause).about(workload);
        Some(found.of_span(id).at_stage(stage))
    };
    let what = format!("`{workload}` ended `{}` ({}, {id})", made.name, made.kind);
    if let Some(span) = elsewhere {
        let detail = format!(
            "{what} in trace {}, and it was captured under trace {}, as a span of `{}`",
            view.case.trace_id, span.trace_id, span.service
        );
        return altered(stages.left_its_trace(id), detail, moved(view, span).to_owned());
    }
    let Some(&span) = captured.get(&id) else {
        let span = stages.renamed(view).of(workload, made).filter(|_| made.sampled)?;
        let detail = format!("{what}, and it was captured under the span id {}", span.id);
        let cause =
            format!("{} changes span ids, or gives one to two spans", between(None, workload));
        return altered(None, detail, cause);
    };
    if span.parent_id != made.parent_span_id {
        let parent = |id: Option<SpanId>| {
            id.map_or_else(|| "no parent".to_owned(), |id| format!("parent {id}"))
        };
        let (made, got) = (made.parent_span_id, span.parent_id);
        let detail =
            format!("{what} below {}, and it was captured below {}", parent(made), parent(got));
        let stage =
            stages.stage(id, |taken| taken.parent_id == made, |sent| sent.parent_id == made);
        let cause = format!("{} changes parents", between(stage, workload));
        return altered(stage, detail, cause);
    }
    // An exporter to Datadog writes every kind.
    let is_known = span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id");
    if span.kind() != made.kind && (is_known || !span.kind().is_empty()) {
        let detail = match span.kind() {
            "" => format!("{what}, and it was captured without a kind"),
            other => format!("{what}, and it was captured with the kind `{other}`"),
        };
        let stage =
            stages.stage(id, |taken| taken.kind == made.kind, |sent| kind(sent) == made.kind);
        let cause = format!("{} changes span kinds", between(stage, workload));
        return altered(stage, detail, cause);
    }
    None
}

/// The kind of a span as it was sent to Datadog.
fn kind(sent: &SentSpan) -> &str {
    sent.meta.get("span.kind").map_or("", String::as_str)
}

/// Finds spans that the collector sent in this trace, and that were captured under another one.
fn moved_behind_the_collector(
    (view, captured): (View<'_>, &HashMap<SpanId, &Span>),
    stages: &Stages<'_>,
    reported: &HashSet<SpanId>,
) -> Vec<Failure> {
    let elsewhere = view.evidence.elsewhere.iter();
    let new = elsewhere.filter(|span| !reported.contains(&span.id));
    let sent = new.filter_map(|span| Some((span, stages.sent.get(span.id)?)));
    let found = sent.map(|(span, sent)| {
        let detail = format!(
            "the collector sent {} in trace {}, and it was captured under trace {}",
            fields::name(view, captured.get(&span.id).copied(), sent),
            view.case.trace_id,
            span.trace_id
        );
        let found = Failure::found(detail).because(moved(view, span));
        let found = found.about(view.workload_of(span)).of_span(span.id);
        found.at_stage(Some(Stage::BehindCollector)).of_changed(Changed::default())
    });
    found.collect()
}
