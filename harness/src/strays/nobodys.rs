//! Traces that belong to no request, and what they mean for a run.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::ground::Ground;
use crate::{
    case::{Origin, Stray, call_facts::CallFacts},
    finding::SystemFindings,
    trace::{Span, SpanId, TraceId},
};

/// How many groups are kept of a system.
const KEPT: usize = 50;
/// How many groups are named in one sentence.
const NAMED: usize = 5;
/// How many services are named of a trace.
const SERVICES_NAMED: usize = 5;

/// The traces of a system that belong to no request, alike ones together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nobodys {
    /// The groups, in the order of their first traces.
    pub groups: Vec<Group>,
    /// Number of further groups.
    pub more: usize,
}

/// Traces that began alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Their origin.
    pub origin: Origin,
    /// The workload, or service, that began them.
    pub service: String,
    /// Resource of their first span.
    pub resource: String,
    /// Kind of their first span.
    pub kind: String,
    /// HTTP status of their first span.
    pub status: Option<u16>,
    /// Number of traces.
    pub count: usize,
    /// The first of them.
    pub first: TraceId,
    /// The first span of that.
    pub first_span: Option<SpanId>,
    /// All workloads, or services, that are in that.
    pub services: Vec<String>,
    /// Start of the first trace, relative to the requests.
    pub when: When,
}

/// Start of a trace relative to the requests: the weakest of signs, never a reason by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum When {
    /// Before any request.
    Before,
    /// While a request was in progress.
    During {
        /// The request.
        request: String,
        /// Its trace.
        trace_id: TraceId,
        /// Number of further requests in progress then.
        others: usize,
    },
    /// After the last request that had ended by then.
    After {
        /// The request.
        request: String,
        /// Its trace.
        trace_id: TraceId,
        /// Time since then, in milliseconds.
        millis: i64,
    },
}

impl Nobodys {
    /// Puts alike ones together.
    pub(crate) fn new<'s>(strays: impl Iterator<Item = &'s Stray>, ground: Ground<'_>) -> Self {
        let mut all = Self::default();
        let mut places: HashMap<_, Option<usize>> = HashMap::new();
        for stray in strays {
            let Some(root) = stray.trace.root() else { continue };
            let named =
                |span: &Span| ground.topology.workload_of(span).unwrap_or(&span.service).to_owned();
            let (service, status) = (named(root), CallFacts::of(root).status);
            let origin = stray.origin.clone();
            let key = (format!("{origin:?}"), service.clone(), root.resource.clone(), status);
            match places.get(&key) {
                Some(Some(place)) => {
                    if let Some(group) = all.groups.get_mut(*place) {
                        group.count += 1;
                    }
                    continue;
                }
                Some(None) => continue,
                None => {}
            }
            if all.groups.len() == KEPT {
                places.insert(key, None);
                all.more += 1;
                continue;
            }
            places.insert(key, Some(all.groups.len()));
            let mut services: Vec<String> = Vec::new();
            for span in &stray.trace.spans {
                let name = named(span);
                if services.len() < SERVICES_NAMED && !services.contains(&name) {
                    services.push(name);
                }
            }
            all.groups.push(Group {
                origin,
                service,
                resource: root.resource.clone(),
                kind: root.kind().to_owned(),
                status,
                count: 1,
                first: stray.trace.id,
                first_span: Some(root.id),
                services,
                when: when(root.start, ground),
            });
        }
        all
    }

    /// Judges what they mean for the run of `system`. Where there is a reason not to conclude anything, all of it is a note.
    pub fn judge(&self, system: &str, not_judged: Option<&str>) -> SystemFindings {
        let mut findings = SystemFindings::default();
        let of = |origin: Origin| {
            let groups = self.groups.iter().filter(move |group| group.origin == origin);
            groups.collect::<Vec<_>>()
        };
        let count = |groups: &[&Group]| groups.iter().map(|group| group.count).sum::<usize>();
        let unexplained = of(Origin::Unexplained);
        if !unexplained.is_empty() {
            let text = format!(
                "{system}: {} by no known request: {}; either work that a request caused lost its context (pass the context on to it, or a link), or it is a job of the service's own (declare it under `own_traces` in the system file); `tracecheck explain stray-trace` says more",
                began(count(&unexplained)),
                listed(&unexplained, Group::described)
            );
            match not_judged {
                None => findings.undecided.push(text),
                Some(because) => findings.notes.push(format!("{text} (not judged: {because})")),
            }
        }
        let unrecorded = self.groups.iter().filter_map(|group| match &group.origin {
            Origin::Unrecorded { caller } => Some((caller.as_str(), group)),
            _ => None,
        });
        let mut by_caller: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
        for (caller, group) in unrecorded {
            by_caller.entry(caller).or_default().push(group);
        }
        for (caller, groups) in by_caller {
            let text = format!(
                "{system}: {} by no call that left a span, and `{caller}` is given that address, of whose calls there none was captured: {}; if they are its calls, it exports nothing, or the library by which it makes them is not instrumented (an instrumentation that is not installed, is disabled or does not know this version of the library), and hands no context on; if a third party calls, run it where none can",
                began(count(&groups)),
                listed(&groups, Group::described)
            );
            match not_judged {
                None => findings.undecided.push(text),
                Some(because) => findings.notes.push(format!("{text} (not judged: {because})")),
            }
        }
        let (foreign, cut): (Vec<_>, Vec<_>) =
            of(Origin::Foreign).into_iter().partition(|group| group.kind == "server");
        if !cut.is_empty() {
            findings.notes.push(format!(
                "{system}: {} below spans that were not captured, of no scenario's request: {}; a span of the service itself was lost or never ended, or the system was taken down before it was sent",
                began(count(&cut)),
                listed(&cut, Group::described)
            ));
        }
        if !foreign.is_empty() {
            let text = format!(
                "{system}: {} by requests of third parties, which no call of this run could have been: {}",
                began(count(&foreign)),
                listed(&foreign, Group::described)
            );
            match not_judged {
                None => findings.warnings.push(text.into()),
                Some(because) => findings.notes.push(format!("{text} (not judged: {because})")),
            }
        }
        for (origin, what) in [
            (
                Origin::StartUp,
                "at the start of services, before the first request or after a restart",
            ),
            (Origin::Probe, "by health checks"),
            (Origin::Declared, "as declared under `own_traces` in the system file"),
        ] {
            let groups = of(origin);
            if !groups.is_empty() {
                let text = listed(&groups, |group| {
                    format!("`{}` of `{}` ({})", group.resource, group.service, group.count)
                });
                findings.notes.push(format!("{system}: {} {what}: {text}", began(count(&groups))));
            }
        }
        findings
    }
}

impl Group {
    fn described(&self) -> String {
        let Self { service, resource, kind, status, count, first, services, .. } = self;
        let kind = if kind.is_empty() { "span" } else { kind };
        let status = status.map_or_else(String::new, |status| format!(", answered {status}"));
        let others: Vec<String> = services
            .iter()
            .filter(|name| *name != service)
            .map(|name| format!("`{name}`"))
            .collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(", with {}", others.join(", ")),
        };
        let when = match &self.when {
            When::Before => "before any request".to_owned(),
            When::During { request, trace_id, others } => {
                let others = match others {
                    0 => String::new(),
                    others => format!(" and {others} more"),
                };
                format!("while {request} (trace {trace_id}){others} was in progress")
            }
            When::After { request, trace_id, millis } => {
                format!("{millis} ms after the answer to {request} (trace {trace_id})")
            }
        };
        let (times, the_first) = match count {
            1 => (String::new(), "trace"),
            count => (format!(" {count} times"), "the first is trace"),
        };
        format!(
            "`{service}` began `{resource}` ({kind}{status}){times}{others}; {the_first} {first}, {when}"
        )
    }
}

fn began(count: usize) -> String {
    match count {
        1 => "1 trace began".to_owned(),
        count => format!("{count} traces began"),
    }
}

fn listed(groups: &[&Group], report: impl Fn(&Group) -> String) -> String {
    let mut reported: Vec<String> = groups.iter().take(NAMED).map(|group| report(group)).collect();
    if groups.len() > NAMED {
        reported.push(format!("and {} more kinds", groups.len() - NAMED));
    }
    reported.join("; ")
}

/// When something began, as the requests go.
fn when(start: i64, ground: Ground<'_>) -> When {
    let for_itself = &ground.requests.for_itself;
    let sent = || ground.requests.sent.iter().filter(|of| !for_itself.contains(&of.trace_id));
    let request = |of: &super::ground::Sent| format!("{} {}", of.method, of.path);
    let under_way = || sent().filter(|of| (of.sent_at..=of.ended_at).contains(&start));
    if let Some(first) = under_way().max_by_key(|of| of.sent_at) {
        return When::During {
            request: request(first),
            trace_id: first.trace_id,
            others: under_way().count() - 1,
        };
    }
    match sent().filter(|of| of.ended_at < start).max_by_key(|of| of.ended_at) {
        None => When::Before,
        Some(last) => When::After {
            request: request(last),
            trace_id: last.trace_id,
            millis: (start - last.ended_at) / 1_000_000,
        },
    }
}
