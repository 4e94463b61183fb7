//! Localization of lost spans: the stages are asked in the order in which spans pass them.
//!
//! What the services ended, what the collector accepted, dropped and sent, and what was captured are numbers of spans of one trace. A
//! stage is named only where it alone accounts for all that is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Checked,
    datadog::spans_count,
    ledgers::{captured_ids, known_ledgers, refused},
    senders::suspects,
};
use crate::{
    case::View,
    finding::{Failure, Stage},
    intake::decode::{SentSpan, TakenSpan},
    ledger::{CollectorEntry, Exported},
    trace::{Span, SpanId},
};

/// Number of spans of a case's trace by what the collector did with them.
struct Passed {
    accepted: u64,
    sent: u64,
    dropped: u64,
    /// Reasons, each with its number; in words.
    reasons: String,
    /// Reason for which sending failed and was tried again.
    retried: Option<String>,
}

fn passed(view: View<'_>) -> Option<Passed> {
    let entry: &CollectorEntry = view.evidence.collector.as_ref()?;
    if entry.evicted {
        return None;
    }
    let Exported { exported, dropped, retried, .. } = entry.to_datadog()?;
    let reasons = dropped.iter().map(|(reason, count)| format!("{count} as `{reason}`"));
    let by_samplers = entry.sampled_out.iter().flat_map(|(sampler, reasons)| {
        reasons
            .iter()
            .map(move |(reason, count)| format!("{count} by its sampler `{sampler}` (`{reason}`)"))
    });
    Some(Passed {
        accepted: entry.accepted,
        sent: exported,
        dropped: dropped.values().sum::<u64>() + entry.sampled_out(),
        reasons: reasons.chain(by_samplers).collect::<Vec<_>>().join(", "),
        retried,
    })
}

/// Returns the samplers of the collector that dropped the whole trace, which they are there to do; `None` where any of it was captured,
/// or is missing for another reason.
pub(crate) fn dropping_samplers(view: View<'_>) -> Option<String> {
    let entry = view.evidence.collector.as_ref().filter(|entry| !entry.evicted)?;
    let is_whole = entry.accepted > 0
        && entry.decided_against() == entry.accepted
        && view.spans().is_empty()
        && view.evidence.elsewhere.is_empty()
        && made(view).is_none_or(|made| made.len() as u64 == entry.accepted);
    let samplers = entry.sampled_out.keys().map(|sampler| format!("`{sampler}`"));
    is_whole.then(|| samplers.collect::<Vec<_>>().join(", "))
}

/// The harness's own spans among those of the trace.
fn own(view: View<'_>) -> u64 {
    u64::from(view.case.driver_exported && view.case.sampled)
}

/// The spans of the trace that were ended and handed to an exporter; `None` where not every service reports it.
fn made(view: View<'_>) -> Option<Vec<SpanId>> {
    let mut made = Vec::new();
    let mut services = 0;
    for (_, spans, evicted) in known_ledgers(view) {
        if evicted {
            return None;
        }
        services += 1;
        made.extend(spans.iter().filter(|span| span.sampled).map(|span| span.span_id));
    }
    made.extend((own(view) > 0).then_some(view.case.driver_span));
    (services > 0 && services == view.topology.services.len()).then_some(made)
}

/// Determines where spans of the trace were lost that `from` created, as far as the stages show, and puts it in words.
pub(super) fn lost(view: View<'_>, from: &str) -> (Option<Stage>, String) {
    let stage = passed(view).and_then(|passed| Some((located(view, &passed)?, passed)));
    let Some((stage, Passed { accepted, sent, reasons, retried, .. })) = stage else {
        return (None, format!("lost between {from} and the intake{}", refused(view)));
    };
    let captured = view.spans().len();
    let reported = match stage {
        Stage::Service | Stage::BeforeCollector => {
            let of = made(view).map_or_else(String::new, |made| format!(" of the {}", made.len()));
            let why = match (setting(view, from), suspects(view), logged(view, from)) {
                (Some(setting), _, _) => setting,
                (None, Some(suspects), Some(logged)) => format!("{suspects}; {logged}"),
                (None, Some(one), None) | (None, None, Some(one)) => one,
                (None, None, None) => {
                    "look at the service's log, and at what stands between the two".to_owned()
                }
            };
            format!(
                "lost between {from} and the collector, which took {accepted}{of} spans of the trace; {why}"
            )
        }
        Stage::Collector if reasons.is_empty() => {
            let why = match (retried, by_others(view, accepted.saturating_sub(sent))) {
                (Some(reason), _) => {
                    format!("it tries again and again to send the others ({reason})")
                }
                (None, Some(others)) => others,
                (None, None) => {
                    "a processor removed the others, or they still wait there".to_owned()
                }
            };
            format!(
                "lost in the collector, which took {accepted} spans of the trace and sent {sent}: {why}{}",
                refused(view)
            )
        }
        Stage::Collector => format!(
            "lost in the collector, which took {accepted} spans of the trace and dropped {reasons}{}",
            refused(view)
        ),
        Stage::BehindCollector => format!(
            "lost between the collector and the intake: the collector sent {sent} spans of the trace, was answered that they were taken, and {captured} were captured"
        ),
    };
    (Some(stage), reported)
}

/// The setting by which a workload sends nothing to the collector.
fn setting(view: View<'_>, from: &str) -> Option<String> {
    let from = from.trim_matches('`');
    let of = view.topology.services.iter().find(|one| one.workload == from)?;
    // What came to the collector shows more than what is set.
    let is_seen = of.misdirected.is_some() && suspects(view).is_some();
    of.kept_from_sending().filter(|_| !is_seen)
}

/// Which exporter the rest of the spans left by, where it is another than Datadog's and alone accounts for it.
fn by_others(view: View<'_>, rest: u64) -> Option<String> {
    let entry = view.evidence.collector.as_ref()?;
    let is_it = |(id, one): &(&String, &Exported)| {
        !id.starts_with("datadog") && one.exported == rest && rest > 0
    };
    let (id, _) = entry.exporters.iter().find(is_it)?;
    Some(format!(
        "the others left it by its exporter `{id}`: they came in by a pipeline that does not lead to Datadog (`receivers` and `exporters` of each in `service.pipelines`)"
    ))
}

/// Returns what the log of a workload says of an export that failed, or that of the first service where none is meant, and what the
/// collector's own says of what it refused; as the end of a sentence.
fn logged(view: View<'_>, from: &str) -> Option<String> {
    let errors = &view.evidence.export_errors;
    let is_service = |name: &str| view.topology.services.iter().any(|one| one.workload == name);
    let from = from.trim_matches('`');
    let of_service = match is_service(from) {
        true => errors.get_key_value(from),
        false => errors.iter().find(|(name, _)| is_service(name)),
    };
    // What it could not export itself has nothing to do with what it did not take.
    let refuses = |line: &str| line.contains("refuses traces") || line.contains("Memory usage");
    let of_collector = errors.iter().find(|(name, line)| !is_service(name) && refuses(line));
    let both = [of_service, of_collector].into_iter().flatten();
    let both: Vec<String> =
        both.map(|(name, line)| format!("the log of `{name}` says `{line}`")).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// The one stage that accounts for all that is missing.
fn located(view: View<'_>, passed: &Passed) -> Option<Stage> {
    let &Passed { accepted, sent, dropped, .. } = passed;
    // Numbers in which spans count twice account for nothing.
    if !came_again(view).is_empty() {
        return None;
    }
    let captured = view.spans().len() as u64;
    let Some(made) = made(view) else {
        // Without a ledger, it is known of the services' spans that none came, or that some were lost behind their sender.
        return match accepted <= own(view) {
            true => (dropped == 0 && sent >= accepted && captured >= sent)
                .then_some(Stage::BeforeCollector),
            false => behind_the_sender(accepted, sent, dropped, captured),
        };
    };
    // What was put into another trace on its way is counted at some stages only.
    if !view.evidence.elsewhere.is_empty() || accepted > made.len() as u64 {
        return None;
    }
    let there = captured_ids(view);
    let missing = made.iter().filter(|id| !there.contains(id)).count() as u64;
    if made.len() as u64 - accepted == missing {
        return (missing > 0).then_some(Stage::BeforeCollector);
    }
    (accepted == made.len() as u64)
        .then(|| behind_the_sender(accepted, sent, dropped, captured))
        .flatten()
}

fn behind_the_sender(accepted: u64, sent: u64, dropped: u64, captured: u64) -> Option<Stage> {
    if sent > accepted || captured > sent {
        return None;
    }
    match (sent < accepted, captured < sent) {
        (true, false) => Some(Stage::Collector),
        (false, true) if dropped == 0 => Some(Stage::BehindCollector),
        _ => None,
    }
}

/// Determines where spans that have one id came to be several.
pub(super) struct Doubled<'a> {
    view: View<'a>,
    /// By service, the ids of all spans that it ended.
    ended: HashMap<&'a str, HashSet<SpanId>>,
    /// By the id of each span that a service ended more than once, the service.
    ended_twice: HashMap<SpanId, &'a str>,
    passed: Option<Passed>,
    captured: u64,
    made: Option<u64>,
}

impl<'a> Doubled<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        let (mut ended_twice, mut ended) = (HashMap::new(), HashMap::new());
        for (workload, spans, _) in known_ledgers(view) {
            let mut ids = HashSet::new();
            for span in spans.iter().filter(|span| !ids.insert(span.span_id)) {
                ended_twice.entry(span.span_id).or_insert(workload);
            }
            ended.insert(workload, ids);
        }
        Self {
            view,
            ended,
            ended_twice,
            passed: passed(view),
            captured: view.spans().len() as u64,
            made: made(view).map(|made| made.len() as u64),
        }
    }

    /// Returns the one of several spans of one id that has it wrongly, where just one does: its service ended none of that id, or it has its
    /// parent's.
    pub(super) fn not_made(&self, spans: &[&'a Span]) -> Option<&'a Span> {
        let is_strange = |span: &&&Span| {
            let ended = self.view.topology.workload_of(span).and_then(|of| self.ended.get(of));
            ended.is_some_and(|ended| !ended.contains(&span.id))
        };
        let mut strange = spans.iter().filter(is_strange);
        if let Some(first) = strange.next() {
            return Some(*first).filter(|_| strange.next().is_none());
        }
        // No generator of ids gives a span the one of its parent, so that it was given that later, or took it over.
        let mut own_parent = spans.iter().filter(|span| span.parent_id == Some(span.id));
        own_parent.next().copied().filter(|_| own_parent.next().is_none())
    }

    /// Determines it of these, as far as the stages show, and puts it in words.
    pub(super) fn of(&self, spans: &[&'a Span]) -> (Option<Stage>, String) {
        let Some(id) = spans.first().map(|span| span.id) else { return (None, String::new()) };
        if let Some(workload) = self.ended_twice.get(&id) {
            let reported = format!(
                "`{workload}` itself ended several spans with this id: look at its generator of ids"
            );
            return (Some(Stage::Service), reported);
        }
        let differ = spans.iter().any(|span| {
            (span.kind(), &span.name, span.start)
                != (spans[0].kind(), &spans[0].name, spans[0].start)
        });
        if let Some(strange) = self.not_made(spans).filter(|_| differ) {
            let here = self.view.workload_of(strange);
            let is_ended_there = self.ended.contains_key(here);
            let reported = match strange.parent_id == Some(strange.id) && !is_ended_there {
                true => format!(
                    "they are different spans with one id, and the one of `{here}` has that of its parent: `{here}` makes ids from what it was sent or as its caller does (one seed), or something between it and Datadog changes them"
                ),
                false => format!(
                    "they are different spans with one id, and `{here}` ended none with it: something between `{here}` and Datadog changes span ids, or gives one to two spans"
                ),
            };
            return (None, reported);
        }
        if differ {
            let makers: BTreeSet<&str> =
                spans.iter().map(|span| self.view.workload_of(span)).collect();
            let makers: Vec<String> = makers.iter().map(|maker| format!("`{maker}`")).collect();
            let whose = match makers.len() {
                1 => "ids that are made twice".to_owned(),
                _ => format!(
                    "of {}, which make ids alike (generators with one seed)",
                    makers.join(" and ")
                ),
            };
            let reported = format!(
                "they are different spans with one id: {whose}, or something changes them on their way"
            );
            return (None, reported);
        }
        let is_one_payload = spans.iter().all(|span| span.attempt == spans[0].attempt);
        let generic = match is_one_payload {
            true => {
                "it is in one payload twice: whatever built the payload included it twice, or two spans have one id"
            }
            false => "sent again in another payload after it was taken, or two spans with one id",
        };
        let Some(Passed { accepted, sent, retried, .. }) = &self.passed else {
            return (None, generic.to_owned());
        };
        let (accepted, sent, captured) = (*accepted, *sent, self.captured);
        let (stage, reported) = match self.made {
            Some(made) if accepted > made => (
                Stage::BeforeCollector,
                format!(
                    "the collector took {accepted} spans of the trace, of which {made} were made: an SDK with two exporters, or one that sent again what had been taken"
                ),
            ),
            None if accepted == sent && sent == captured => (
                Stage::BeforeCollector,
                format!(
                    "the collector took, sent and delivered {accepted} spans of the trace, so they came twice to it: an SDK with two exporters, or one that sent again what had been taken"
                ),
            ),
            _ if sent > accepted => (
                Stage::Collector,
                format!(
                    "the collector took {accepted} spans of the trace and sent {sent}: two of its pipelines or exporters send to the same place"
                ),
            ),
            // The collector itself sends a payload again where an answer failed, or got lost.
            _ if captured > sent && (is_one_payload || retried.is_none()) => (
                Stage::BehindCollector,
                format!(
                    "the collector sent {sent} spans of the trace, and {captured} were captured: something between it and Datadog sends them twice"
                ),
            ),
            _ => return (None, generic.to_owned()),
        };
        (Some(stage), reported)
    }
}

/// Finds spans that were captured once, since the payload that brought them again was equal to the first, and passed the collector
/// several times. A payload that the collector itself delivers again after an answer that got lost is counted by it once.
pub(super) fn came_again(view: View<'_>) -> Vec<Failure> {
    let Some(entry) = view.evidence.collector.as_ref().filter(|entry| !entry.evicted) else {
        return Vec::new();
    };
    let Some(Exported { spans: sent, .. }) = entry.to_datadog() else { return Vec::new() };
    let (sent, taken) = (times(&sent, |span| span.id), times(&entry.spans, |span| span.id));
    let captured = times(view.spans(), |span| span.id);
    let once = view.spans().iter().filter(|span| captured[&span.id] == 1);
    let again = once.filter_map(|span| {
        let times = |of: &BTreeMap<SpanId, u64>| of.get(&span.id).copied().unwrap_or_default();
        let (sent, taken) = (times(&sent), times(&taken));
        if sent < 2 {
            return None;
        }
        let (stage, cause) = match taken < sent {
            true => (
                Stage::Collector,
                format!(
                    "the collector took it {taken} times and sent it {sent} times, in equal payloads: two of its pipelines send to the same place"
                ),
            ),
            false => (
                Stage::BeforeCollector,
                format!(
                    "the collector took it {taken} times and sent it in equal payloads: an SDK with two exporters, or one that sent again what had been taken"
                ),
            ),
        };
        let found = Failure::found(format!("{} was sent to Datadog {sent} times", view.name(span)));
        let found = found.because(cause).about(view.workload_of(span));
        Some(found.of_spans(&[span]).at_stage(Some(stage)))
    });
    again.collect()
}

/// How often each id is there.
fn times<T>(spans: &[T], id: impl Fn(&T) -> SpanId) -> BTreeMap<SpanId, u64> {
    let mut times = BTreeMap::new();
    for span in spans {
        *times.entry(id(span)).or_default() += 1;
    }
    times
}

/// The rule `undelivered-span`, for services that have no ledger.
pub(super) fn undelivered_span(view: View<'_>) -> Checked {
    // With ledgers it is known which spans were lost: `lost-span` says so. Without any captured span, `no-trace` does.
    if made(view).is_some() || view.service_spans().next().is_none() {
        return Checked::NotApplicable;
    }
    let Some(entry) = &view.evidence.collector else {
        return Checked::NotEvaluated {
            because: "the collector does not say what became of the trace".to_owned(),
            required: false,
        };
    };
    let Some(Exported { exported, dropped, spans, .. }) = entry.to_datadog() else {
        return Checked::NotApplicable;
    };
    let (captured, id) = (view.spans().len(), view.case.trace_id);
    let mut found = Vec::new();
    if !dropped.is_empty() || entry.sampled_out() > 0 {
        let (_, reported) = lost(view, "the services");
        let count: u64 = dropped.values().sum::<u64>() + entry.sampled_out();
        // Of more than it keeps it is not known which were sent.
        let sent = (spans.len() as u64 == exported).then_some(&spans[..]);
        let gone = Gone::new(view, entry, sent);
        let undelivered = Failure::found(format!(
            "{} of trace {id} did not reach Datadog{}",
            spans_count(usize::try_from(count).unwrap_or(usize::MAX)),
            gone.first_named()
        ));
        let undelivered = undelivered.because(reported).at_stage(Some(Stage::Collector));
        found.push(match gone.only_service(view) {
            Some(service) => undelivered.about(service),
            None => undelivered,
        });
    } else if exported > captured as u64 && !is_all_captured(view, exported, &spans) {
        let undelivered = Failure::found(format!(
            "the collector sent {exported} spans of trace {id}, was answered that they were taken, and {captured} were captured in it{}",
            lacking(view, &spans)
        ));
        let cause = "something between the collector and Datadog loses spans, or puts them into another trace";
        let services: BTreeSet<&str> = missing(view, &spans).map(|span| &*span.service).collect();
        let undelivered = undelivered.because(cause).at_stage(Some(Stage::BehindCollector));
        found.push(match services.first().filter(|_| services.len() == 1) {
            Some(service) => undelivered.about(service),
            None => undelivered,
        });
    }
    Checked::Found(found)
}

/// Spans that the collector took and did not send, as far as it keeps them.
struct Gone<'a>(BTreeMap<SpanId, &'a TakenSpan>);

impl<'a> Gone<'a> {
    /// Finds them, where it is known what was sent.
    fn new(view: View<'_>, entry: &'a CollectorEntry, sent: Option<&[SentSpan]>) -> Self {
        let Some(sent) = sent else { return Self(BTreeMap::new()) };
        let mut there = captured_ids(view);
        there.extend(sent.iter().map(|span| span.id));
        let gone = entry.spans.iter().filter(|span| !there.contains(&span.id));
        Self(gone.map(|span| (span.id, span)).collect())
    }

    /// Names the one of them that began first, as the end of a sentence.
    fn first_named(&self) -> String {
        let first = self.0.values().min_by_key(|span| span.start);
        first.map_or_else(String::new, |span| {
            format!(", `{}` ({}) the first of them", span.name, span.kind)
        })
    }

    /// The only service that they are known to be of: what lacks its parent and answers no call is of its parent's process.
    fn only_service<'v>(&self, view: View<'v>) -> Option<&'v str> {
        let below = view.service_spans().filter(|span| {
            !matches!(span.kind(), "server" | "consumer")
                && span.parent_id.is_some_and(|parent| self.0.contains_key(&parent))
        });
        let services: BTreeSet<&str> = below.map(|span| view.workload_of(span)).collect();
        services.first().copied().filter(|_| services.len() == 1)
    }
}

/// Returns whether each span that was sent is there, so that some were sent several times.
fn is_all_captured(view: View<'_>, exported: u64, sent: &[SentSpan]) -> bool {
    sent.len() as u64 == exported && missing(view, sent).next().is_none()
}

/// The spans that were sent and not captured in the trace.
fn missing<'a>(view: View<'_>, sent: &'a [SentSpan]) -> impl Iterator<Item = &'a SentSpan> {
    let captured = captured_ids(view);
    sent.iter().filter(move |span| !captured.contains(&span.id))
}

/// Names the services of the spans that were sent and not captured, and the first of them, as the end of a sentence.
fn lacking(view: View<'_>, sent: &[SentSpan]) -> String {
    let mut counts: BTreeMap<&str, (usize, &SentSpan)> = BTreeMap::new();
    for span in missing(view, sent) {
        counts.entry(&span.service).or_insert((0, span)).0 += 1;
    }
    let each = counts.into_iter().map(|(service, (count, first))| {
        format!("{} of `{service}` (`{}`, {})", spans_count(count), first.resource, first.id)
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { String::new() } else { format!(", without {}", each.join(", ")) }
}
