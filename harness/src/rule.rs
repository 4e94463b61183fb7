//! Rules: what must hold on every captured trace without being asked for.
//!
//! A rule is a pure function over a [`View`]. It is written so that a healthy system never trips it, and so that its
//! message names the broken hop and what usually causes it. What a scenario asks for beyond them is an `expectation`.

use crate::{
    case::{Capability, Evidence, Shape, Stray, View},
    finding::{Failure, Findings, NotEvaluated},
    stats::Captured,
};

mod altered;
mod callers;
mod conventions;
mod datadog;
mod edges;
mod errors;
mod identity;
mod ledgers;
mod levels;
mod links;
mod literals;
mod naming;
mod on_the_way;
mod paths;
mod peers;
mod presence;
mod sampling;
mod senders;
mod stage;
mod stats;
mod statuses;
mod stray;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod tracestate;
mod tries;
mod unmarked;

/// A check that always holds.
#[derive(Debug)]
pub struct Rule {
    /// Stable, kebab-case.
    pub name: &'static str,
    /// The reason why it must hold, in one line.
    pub reason: &'static str,
    /// The page that `tracecheck explain` prints: Markdown.
    pub page: &'static str,
    /// Capabilities that the evidence must have.
    pub needs: &'static [Capability],
    /// Whether a violation that was found while spans may still come stays one, whatever comes. `false` where such spans may mend it,
    /// or only a stage's own account proves it.
    lasts: bool,
    /// Whether it holds of the traces that a request's links to, or that link to it, as well: it looks at nothing but spans.
    of_linked_traces: bool,
    check: Check,
}

impl Rule {
    /// Returns whether the rule judges one trace, and not a whole run.
    pub fn is_about_a_trace(&self) -> bool {
        matches!(self.check, Check::Case(_))
    }
}

/// The part of the evidence that a rule looks at, with its check.
#[derive(Debug)]
enum Check {
    /// One case.
    Case(fn(View<'_>) -> Checked),
    /// All stats and spans of a system: details of what is wrong, or why nothing can be said.
    Stats(fn(&Captured) -> Result<Vec<String>, String>),
    /// The whole run; the runner looks at it.
    Run,
}

/// Result of one check; no details means that nothing is wrong.
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

pub use self::{
    levels::warning as levels_warning, literals::warning as literals_warning, table::RULES,
};
pub(crate) use self::{
    levels::{LEVELED, failures as leveled_failures},
    literals::LITERAL_IN_QUERY,
    stage::dropping_samplers,
    stats::DISAGREE,
};

/// Name of the rule that equal requests leave traces of the same services.
pub(crate) const INCONSISTENT_TRACE: &str = "inconsistent-trace";

/// Name of the rule that every span that was ended arrives.
pub(crate) const LOST: &str = "lost-span";

/// Name of the rule that a span arrives as it was ended and sent.
pub(crate) const ALTERED: &str = "altered-span";

/// Name of the rule that the parent that a span names is in its trace.
pub(crate) const ORPHAN: &str = "orphan-span";
const OUTSIDE_REQUEST: &str = "outside-request";

/// Name of the rule that every captured trace belongs to a request.
pub(crate) const STRAY: &str = "stray-trace";

/// Name of the rule that every service of the system is heard of.
pub(crate) const SILENT_SERVICE: &str = "silent-service";

/// Returns whether what a rule says can change by asking the ledgers of services and collector again.
pub(crate) fn needs_ledger(name: &str) -> bool {
    let ledgers = [Capability::Ledger, Capability::CollectorLedger];
    let needs = |rule: &Rule| rule.needs.iter().any(|need| ledgers.contains(need));
    // They look at the ledgers that there are.
    [ALTERED, LOST].contains(&name) || named(name).is_some_and(needs)
}

/// Returns whether a failure that was found while spans may still come stays one, whatever comes: as its rule says; a failed
/// expectation does.
pub(crate) fn lasts(failure: &Failure) -> bool {
    named(&failure.rule).is_none_or(|rule| rule.lasts)
}

/// Returns whether a failure that was found while spans may still come stays one once they had the time for it: a span more of the same
/// hop, or the answer to a call, would have come by then.
pub(crate) fn lasts_in_time(failure: &Failure) -> bool {
    [STRAY, "error-not-marked", "error-not-injected", "status-disagrees"]
        .contains(&failure.rule.as_str())
}

/// Looks up a rule by name.
pub fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Reports that there is no shape to compare with: it is unknown which workload calls which, workloads cannot be distinguished, or
/// standing faults strike by chance.
fn no_shape() -> Checked {
    Checked::NotEvaluated {
        because: "it is not known which spans a request must leave: the system does not say who calls whom, its services share a name and their instances are not known, or standing faults strike by chance".to_owned(),
        required: false,
    }
}

/// Checks every rule on one case; `tolerated` says which may fail.
pub fn check_all(view: View<'_>, tolerated: impl Fn(&str) -> bool) -> Findings {
    check(RULES.iter().filter(|rule| !tolerated(rule.name)), view)
}

fn check(rules: impl Iterator<Item = &'static Rule>, view: View<'_>) -> Findings {
    let mut findings = Findings::default();
    for rule in rules {
        let Check::Case(look) = rule.check else { continue };
        let lacking = rule.needs.iter().find_map(|need| Some((*need, view.lacks(*need)?)));
        let checked = match lacking {
            // Where nothing is missing, the rule holds; what is missing may be there, and not be seen.
            Some((need, because)) if need.is_about_absence() => not_yet(look(view), &because),
            Some((_, because)) => Checked::NotEvaluated { because, required: false },
            None => look(view),
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

/// Checks the rules that look at nothing but spans on the traces in which a request's work goes on, as links say. A trace that goes on
/// with several requests' is the first one's.
pub fn check_linked(view: View<'_>, tolerated: impl Fn(&str) -> bool) -> Findings {
    let mut findings = Findings::default();
    let is_own = |stray: &&&Stray| {
        stray.origin.is_link() && stray.origin.owner() == Some(view.case.trace_id)
    };
    for stray in view.strays.iter().filter(is_own) {
        let id = stray.trace.id;
        let case = view.case.with_own_trace(id);
        let evidence =
            Evidence { trace: Some(stray.trace.clone()), ..view.evidence.without_trace() };
        let shape = Shape::default();
        let linked = View { case: &case, evidence: &evidence, strays: &[], shape: &shape, ..view };
        let rules = RULES.iter().filter(|rule| rule.of_linked_traces && !tolerated(rule.name));
        let mut found = check(rules, linked);
        if !tolerated(ORPHAN) {
            found.failures.extend(links::linked_to_nothing(view, linked));
        }
        if !tolerated(OUTSIDE_REQUEST) {
            found.failures.extend(time::linked_outside_request(linked));
        }
        let named = |text: String| format!("in trace {id}, which a link connects with it: {text}");
        findings.failures.extend(found.failures.into_iter().map(|mut failure| {
            failure.detail = named(failure.detail);
            failure
        }));
        let required = found.not_evaluated.into_iter().filter(|one| one.required);
        findings.not_evaluated.extend(required.map(|mut one| {
            one.because = named(one.because);
            one
        }));
    }
    findings
}

/// Replaces what a check found missing by a reason, where it cannot be determined whether it did not arrive.
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
