//! Rules: what must hold on every captured trace without being asked for.
//!
//! A rule is a pure function over a [`View`]. It is written so that a healthy system never trips it, and so that its
//! message names the broken hop and what usually causes it. What a scenario asks for beyond them is an `expectation`.

use crate::{
    case::{Capability, View},
    finding::{Failure, Findings, NotEvaluated},
    stats::Captured,
};

mod datadog;
mod errors;
mod identity;
mod ledgers;
mod links;
mod literals;
mod naming;
mod presence;
mod senders;
mod stage;
mod stats;
#[cfg(test)]
mod tests;
mod time;

/// A check that always holds.
#[derive(Debug)]
pub struct Rule {
    /// Stable, kebab-case.
    pub name: &'static str,
    /// Why it must hold, in one line.
    pub reason: &'static str,
    /// The page that `tracecheck explain` prints: Markdown.
    pub page: &'static str,
    /// What the evidence must be able to give.
    pub needs: &'static [Capability],
    check: Check,
}

impl Rule {
    /// Whether it looks at one trace, and not at all of a run.
    pub fn is_about_a_trace(&self) -> bool {
        matches!(self.check, Check::Case(_))
    }
}

/// What a rule looks at.
#[derive(Debug)]
enum Check {
    /// One case.
    Case(fn(View<'_>) -> Checked),
    /// All stats and spans of a system: details of what is wrong, or why nothing can be said.
    Stats(fn(&Captured) -> Result<Vec<String>, String>),
    /// The whole run; the runner looks at it.
    Run,
}

/// What one check found; no details means that nothing is wrong.
enum Checked {
    /// One entry a violation, of which the rule is yet to be named.
    Found(Vec<Failure>),
    /// Violations that show themselves: they hang on nothing that could still come.
    Seen(Vec<Failure>),
    /// It has nothing to say about this case.
    NotApplicable,
    /// It could not look.
    NotEvaluated { because: String, required: bool },
}

/// All rules, in the order in which they are told.
pub const RULES: &[Rule] = &[
    Rule {
        name: "no-trace",
        reason: "a request that was sampled leaves spans of the services that handled it",
        page: include_str!("rule/pages/no-trace.md"),
        needs: &[Capability::Completeness],
        check: Check::Case(presence::no_trace),
    },
    Rule {
        name: "missing-hop",
        reason: "every service that the request reached has its server span in the trace",
        page: include_str!("rule/pages/missing-hop.md"),
        needs: &[Capability::Settled],
        check: Check::Case(presence::missing_hop),
    },
    Rule {
        name: "orphan-span",
        reason: "the parent that a span names is in the trace",
        page: include_str!("rule/pages/orphan-span.md"),
        needs: &[Capability::Settled],
        check: Check::Case(links::orphan_span),
    },
    Rule {
        name: "several-roots",
        reason: "a trace has one root",
        page: include_str!("rule/pages/several-roots.md"),
        needs: &[],
        check: Check::Case(links::several_roots),
    },
    Rule {
        name: "parent-cycle",
        reason: "no span is its own ancestor",
        page: include_str!("rule/pages/parent-cycle.md"),
        needs: &[],
        check: Check::Case(links::parent_cycle),
    },
    Rule {
        name: "duplicate-span",
        reason: "a span id is used once in a trace",
        page: include_str!("rule/pages/duplicate-span.md"),
        needs: &[],
        check: Check::Case(links::duplicate_span),
    },
    Rule {
        name: "wrong-service-edge",
        reason: "a server span's parent is a client span of the service that called",
        page: include_str!("rule/pages/wrong-service-edge.md"),
        needs: &[],
        check: Check::Case(links::wrong_service_edge),
    },
    Rule {
        name: "trace-id-halves-disagree",
        reason: "the 64-bit trace id, `_dd.p.tid` and `otel.trace_id` tell the same 128 bits",
        page: include_str!("rule/pages/trace-id-halves-disagree.md"),
        needs: &[Capability::RawPayloads],
        check: Check::Case(links::trace_id_halves_disagree),
    },
    Rule {
        name: "child-outside-parent",
        reason: "a span begins while its parent is under way",
        page: include_str!("rule/pages/child-outside-parent.md"),
        needs: &[],
        check: Check::Case(links::child_outside_parent),
    },
    Rule {
        name: "outside-request",
        reason: "a span is of the time at which its request was under way",
        page: include_str!("rule/pages/outside-request.md"),
        needs: &[],
        check: Check::Case(time::outside_request),
    },
    Rule {
        name: "error-not-marked",
        reason: "the spans that a fault makes fail are marked as errors",
        page: include_str!("rule/pages/error-not-marked.md"),
        needs: &[],
        check: Check::Case(errors::error_not_marked),
    },
    Rule {
        name: "error-not-injected",
        reason: "no span is marked as an error where nothing was made to fail",
        page: include_str!("rule/pages/error-not-injected.md"),
        needs: &[],
        check: Check::Case(errors::error_not_injected),
    },
    Rule {
        name: "fault-without-effect",
        reason: "an injected delay or failed try shows in the trace",
        page: include_str!("rule/pages/fault-without-effect.md"),
        needs: &[],
        check: Check::Case(errors::fault_without_effect),
    },
    Rule {
        name: "missing-service-name",
        reason: "every span names its service",
        page: include_str!("rule/pages/missing-service-name.md"),
        needs: &[],
        check: Check::Case(naming::missing_service_name),
    },
    Rule {
        name: "wrong-service",
        reason: "the service that Datadog shows is the one that the workload was given",
        page: include_str!("rule/pages/wrong-service.md"),
        needs: &[],
        check: Check::Case(identity::wrong_service),
    },
    Rule {
        name: "resource-mixed",
        reason: "the spans of one process say one environment, host, version and language",
        page: include_str!("rule/pages/resource-mixed.md"),
        needs: &[],
        check: Check::Case(identity::resource_mixed),
    },
    Rule {
        name: "unnamed-resource",
        reason: "every span has a resource name, and a server's tells its route",
        page: include_str!("rule/pages/unnamed-resource.md"),
        needs: &[],
        check: Check::Case(naming::unnamed_resource),
    },
    Rule {
        name: "priority-lost",
        reason: "what is sent of a sampled request is marked to be kept",
        page: include_str!("rule/pages/priority-lost.md"),
        needs: &[Capability::RawPayloads],
        check: Check::Case(datadog::priority_lost),
    },
    Rule {
        name: "top-level-lost",
        reason: "the spans with which a trace enters a service are marked as such",
        page: include_str!("rule/pages/top-level-lost.md"),
        needs: &[Capability::RawPayloads],
        check: Check::Case(datadog::top_level_lost),
    },
    Rule {
        name: "sampled-out",
        reason: "no service drops spans of a trace that was sampled from the start",
        page: include_str!("rule/pages/sampled-out.md"),
        needs: &[Capability::Ledger],
        check: Check::Case(presence::sampled_out),
    },
    Rule {
        name: "lost-span",
        reason: "every span that a service ended arrives",
        page: include_str!("rule/pages/lost-span.md"),
        needs: &[Capability::Ledger, Capability::Completeness],
        check: Check::Case(presence::lost_span),
    },
    Rule {
        name: "undelivered-span",
        reason: "every span that the collector took and sent arrives",
        page: include_str!("rule/pages/undelivered-span.md"),
        needs: &[Capability::CollectorLedger, Capability::Completeness],
        check: Check::Case(stage::undelivered_span),
    },
    Rule {
        name: "altered-span",
        reason: "a span arrives as its service ended it: in its trace, below its parent",
        page: include_str!("rule/pages/altered-span.md"),
        needs: &[Capability::Ledger],
        check: Check::Case(presence::altered_span),
    },
    Rule {
        name: "invented-span",
        reason: "every span that arrives was made by a service",
        page: include_str!("rule/pages/invented-span.md"),
        needs: &[Capability::Ledger],
        check: Check::Case(presence::invented_span),
    },
    Rule {
        name: "stray-trace",
        reason: "every captured trace belongs to a request of the run",
        page: include_str!("rule/pages/stray-trace.md"),
        needs: &[Capability::Exclusiveness],
        check: Check::Case(presence::stray_trace),
    },
    Rule {
        name: DISAGREE,
        reason: "the APM stats say what the captured spans say",
        page: include_str!("rule/pages/stats-disagree.md"),
        needs: &[Capability::Stats, Capability::Exclusiveness, Capability::Completeness],
        check: Check::Stats(stats::disagree),
    },
    Rule {
        name: SILENT_SERVICE,
        reason: "every service of the system is heard of, or tells that it made no span",
        page: include_str!("rule/pages/silent-service.md"),
        needs: &[Capability::Exclusiveness, Capability::Completeness],
        check: Check::Run,
    },
    Rule {
        name: INCONSISTENT_TRACE,
        reason: "equal requests that are answered alike leave traces of the same services",
        page: include_str!("rule/pages/inconsistent-trace.md"),
        needs: &[Capability::Exclusiveness, Capability::Completeness],
        check: Check::Run,
    },
    Rule {
        name: LITERAL_IN_QUERY,
        reason: "queries leave without the literals of their users (a warning)",
        page: include_str!("rule/pages/literal-in-query.md"),
        needs: &[],
        check: Check::Run,
    },
];

pub use self::literals::warning as literals_warning;
pub(crate) use self::{literals::LITERAL_IN_QUERY, stats::DISAGREE};

/// Name of the rule that equal requests leave traces of the same services.
pub(crate) const INCONSISTENT_TRACE: &str = "inconsistent-trace";

/// Name of the rule that every service of the system is heard of.
pub(crate) const SILENT_SERVICE: &str = "silent-service";

/// Whether what a rule says can change by asking the ledgers of services and collector again.
pub(crate) fn needs_ledger(name: &str) -> bool {
    let ledgers = [Capability::Ledger, Capability::CollectorLedger];
    named(name).is_some_and(|rule| rule.needs.iter().any(|need| ledgers.contains(need)))
}

/// The rule of this name.
pub fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Where nobody says which workload calls which, or they cannot be told apart, or standing faults strike by chance, there is no shape to compare with.
fn no_shape() -> Checked {
    Checked::NotEvaluated {
        because: "it is not known which spans a request must leave: the system does not say who calls whom, its services share a name and their instances are not known, or standing faults strike by chance".to_owned(),
        required: false,
    }
}

/// Checks every rule on one case; `tolerated` says which may fail.
pub fn check_all(view: View<'_>, tolerated: impl Fn(&str) -> bool) -> Findings {
    let mut findings = Findings::default();
    for rule in RULES.iter().filter(|rule| !tolerated(rule.name)) {
        let Check::Case(check) = rule.check else { continue };
        let lacking = rule.needs.iter().find_map(|need| Some((*need, view.lacks(*need)?)));
        let checked = match lacking {
            // Where nothing is missing, the rule holds; what is missing may be there, and not be seen.
            Some((need, because)) if need.is_about_absence() => not_yet(check(view), &because),
            Some((_, because)) => Checked::NotEvaluated { because, required: false },
            None => check(view),
        };
        match checked {
            Checked::Found(failures) | Checked::Seen(failures) => {
                findings.failures.extend(failures.into_iter().map(|one| one.of_rule(rule.name)));
            }
            Checked::NotApplicable => {}
            Checked::NotEvaluated { because, required } => {
                findings.not_evaluated.push(NotEvaluated {
                    rule: rule.name.to_owned(),
                    because,
                    required,
                });
            }
        }
    }
    findings
}

/// What a check found missing, where it cannot be told whether it did not arrive.
fn not_yet(checked: Checked, because: &str) -> Checked {
    match checked {
        Checked::Found(failures) if !failures.is_empty() => {
            let seen: Vec<String> = failures.into_iter().map(|failure| failure.detail).collect();
            Checked::NotEvaluated {
                because: format!("{because}. Seen so far: {}", seen.join("; ")),
                required: true,
            }
        }
        checked => checked,
    }
}

/// Checks the rules about stats on all that was captured of a system; `tolerated` says which may fail.
pub fn check_stats(
    captured: &Captured,
    capabilities: &[Capability],
    tolerated: impl Fn(&str) -> bool,
) -> Findings {
    let mut findings = Findings::default();
    for rule in RULES.iter().filter(|rule| !tolerated(rule.name)) {
        let Check::Stats(check) = rule.check else { continue };
        let missing = rule.needs.iter().find(|need| !capabilities.contains(need));
        let checked = match missing {
            Some(need) => Err(format!("the evidence does not give {}", need.name())),
            None => check(captured),
        };
        match checked {
            Ok(details) => {
                let failures = details.into_iter().map(|detail| Failure::new(rule.name, detail));
                findings.failures.extend(failures);
            }
            Err(because) => findings.not_evaluated.push(NotEvaluated {
                rule: rule.name.to_owned(),
                because,
                required: false,
            }),
        }
    }
    findings
}
