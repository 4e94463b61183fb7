//! Expectations of APM stats, checked on what was captured of them.

use std::collections::BTreeMap;

use crate::{
    case::Capability,
    expectation::Expect,
    finding::{Failure, Findings, NotEvaluated},
    rule::{self, DISAGREE},
    stats::{
        Captured, Forms, Groups, Key, Numbers, StatsCount, StatsExpect, StatsRecord,
        no_trace_metrics_warning,
    },
};

/// Name of the expectation.
const EXPECTATION: &str = "stats";
/// Name of the expectation that there will be trace metrics, or not.
const TRACE_METRICS: &str = "trace-metrics";
/// Groups that a message names.
const GROUPS_SHOWN: usize = 8;
/// Judges all that a record holds of stats.
pub(super) fn judge(
    record: &StatsRecord,
    expect: &Expect,
    capabilities: &[Capability],
    tolerated: impl Fn(&str) -> bool,
) -> Findings {
    let mut findings = judge_trace_metrics(expect.trace_metrics, record.forms());
    let reported = match (record, &expect.stats) {
        (StatsRecord::NoPayloads, asked) => Some(unseen(asked.is_some())),
        // What could not be sent is reported among what could not be done.
        (StatsRecord::NotSent(_), _) => None,
        (StatsRecord::NotReached(_), _) => Some(not_reached()),
        (StatsRecord::Captured(captured), Some(expect)) => {
            let found = judge_captured(expect, captured, capabilities, tolerated);
            findings.failures.extend(found.failures);
            findings.not_evaluated.extend(found.not_evaluated);
            None
        }
        (StatsRecord::NotAsked(forms), _) => Some(not_asked(*forms)),
        (StatsRecord::Captured(captured), None) => Some(not_asked(captured.forms)),
    };
    findings.not_evaluated.extend(reported);
    findings
}

/// Judges whether Datadog will make trace metrics of the spans, as a scenario expects it; `forms` is `None` where the evidence has no
/// payloads.
fn judge_trace_metrics(expected: Option<bool>, forms: Option<Forms>) -> Findings {
    let mut findings = Findings::default();
    let Some(expected) = expected else { return findings };
    let mut fail = |detail: String| findings.failures.push(Failure::new(TRACE_METRICS, detail));
    let because = match forms {
        None => format!("the evidence does not give {}", Capability::RawPayloads.name()),
        Some(Forms { otlp: false, .. }) => {
            "no span came as OTLP; of Datadog's own payloads, `stats` shows which metrics there will be".to_owned()
        }
        Some(Forms { otlp: true, without_stats }) => {
            match (expected, without_stats) {
                (true, true) => fail(no_trace_metrics_warning()),
                (false, false) => fail(
                    "there should be none, but every span was sent with the header `compute_stats: \"true\"`".to_owned(),
                ),
                _ => {}
            }
            return findings;
        }
    };
    findings.not_evaluated.push(NotEvaluated {
        rule: TRACE_METRICS.to_owned(),
        because,
        required: true,
    });
    findings
}

/// Judges the stats of a scenario that asks for them.
fn judge_captured(
    expect: &StatsExpect,
    captured: &Captured,
    capabilities: &[Capability],
    tolerated: impl Fn(&str) -> bool,
) -> Findings {
    let mut findings = rule::check_stats(captured, capabilities, tolerated);
    match captured.forms.came_as_otlp() {
        Some(because) if captured.forms.without_stats => {
            findings.failures.push(Failure::new(EXPECTATION, because));
        }
        Some(because) => findings.not_evaluated.push(NotEvaluated {
            rule: EXPECTATION.to_owned(),
            because,
            required: true,
        }),
        None if !capabilities.contains(&Capability::Stats) => {
            findings.not_evaluated.push(NotEvaluated {
                rule: EXPECTATION.to_owned(),
                because: format!("the evidence does not give {}", Capability::Stats.name()),
                required: true,
            });
        }
        None => {
            let failures = expect.counts.iter().filter_map(|count| missed(count, captured));
            findings.failures.extend(failures);
        }
    }
    findings
}

/// Returns whether everything that a scenario asks of stats is there.
pub(crate) fn is_whole(expect: &StatsExpect, captured: &Captured) -> bool {
    captured.forms.came_as_otlp().is_some()
        || expect.counts.iter().all(|count| missed(count, captured).is_none())
}

fn missed(count: &StatsCount, captured: &Captured) -> Option<Failure> {
    // What the harness sent besides, such as its sentinels, is in the stats as well.
    let (all, others) = (count.sum(&captured.stats), count.sum(&captured.others));
    let found = Numbers {
        hits: all.hits.saturating_sub(others.hits),
        errors: all.errors.saturating_sub(others.errors),
    };
    if found.hits == count.hits && count.errors.is_none_or(|errors| errors == found.errors) {
        return None;
    }
    let wanted = match count.errors {
        Some(errors) => Numbers { hits: count.hits, errors }.to_string(),
        None => format!("{} hits", count.hits),
    };
    let reported = match captured.stats.0.is_empty() {
        true => "no APM stats were captured at all".to_owned(),
        false => format!("captured were {}", described(&captured.stats.0)),
    };
    let detail = format!("`{}` should have {wanted}, has {found}; {reported}", count.describe());
    Some(Failure::new(EXPECTATION, detail))
}

fn described(groups: &BTreeMap<Key, Numbers>) -> String {
    let mut reported: Vec<String> = groups
        .iter()
        .take(GROUPS_SHOWN)
        .map(|(key, numbers)| format!("{key}: {numbers}"))
        .collect();
    if groups.len() > GROUPS_SHOWN {
        reported.push(format!("and {} more groups", groups.len() - GROUPS_SHOWN));
    }
    reported.join("; ")
}

/// Reason why the rules about stats are not evaluated for a scenario that does not ask for any.
fn not_asked(forms: Forms) -> NotEvaluated {
    let because = forms.came_as_otlp().unwrap_or_else(|| {
        "the scenario does not ask for APM stats (`expect.stats`), so they are not waited for"
            .to_owned()
    });
    NotEvaluated { rule: DISAGREE.to_owned(), because, required: false }
}

/// Reason that is reported for a scenario's stats where the evidence has none.
fn unseen(asked: bool) -> NotEvaluated {
    let rule = if asked { EXPECTATION } else { DISAGREE }.to_owned();
    let because = format!("the evidence does not give {}", Capability::Stats.name());
    NotEvaluated { rule, because, required: asked }
}

/// Reason that is reported for a scenario whose stats were asked for and not looked at, since its traces were wrong already.
fn not_reached() -> NotEvaluated {
    let because = "the scenario's traces are not as they should be".to_owned();
    NotEvaluated { rule: EXPECTATION.to_owned(), because, required: true }
}

impl StatsCount {
    fn is_about(&self, key: &Key) -> bool {
        let fits =
            |wanted: &Option<String>, got: &String| wanted.as_ref().is_none_or(|one| one == got);
        fits(&self.service, &key.service)
            && fits(&self.name, &key.name)
            && fits(&self.resource, &key.resource)
            && fits(&self.kind, &key.kind)
    }

    fn sum(&self, groups: &Groups) -> Numbers {
        let fitting = groups.0.iter().filter(|(key, _)| self.is_about(key));
        fitting.fold(Numbers::default(), |sum, (_, one)| Numbers {
            hits: sum.hits + one.hits,
            errors: sum.errors + one.errors,
        })
    }

    fn describe(&self) -> String {
        let words = [&self.service, &self.kind, &self.resource, &self.name];
        let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
        if words.is_empty() { "any".to_owned() } else { words.join(" ") }
    }
}

#[cfg(test)]
mod tests;
