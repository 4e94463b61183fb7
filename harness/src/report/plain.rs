//! Failures as plain text: what every report says of them.

use super::visible::{visible, visible_lines};
use crate::{
    finding::Failure,
    verdict::{CaseResult, ScenarioResult, Trees, Verdict},
};

/// Most columns that the expected tree takes.
const MAX_LEFT: usize = 60;
/// Most characters of a failure.
const MAX_DETAIL: usize = 4_000;
/// Most characters of a span in a tree.
const MAX_SPAN: usize = 300;

/// Formats a count with its noun, for example `3 traces` or `1 trace`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns the reasons why optional checks could not be evaluated, each once.
pub fn not_required(result: &ScenarioResult) -> Vec<String> {
    let mut reported = Vec::new();
    for skipped in result.unevaluated().filter(|skipped| !skipped.required) {
        let text = format!("{}, because {}", skipped.rule, skipped.because);
        if !reported.contains(&text) {
            reported.push(text);
        }
    }
    reported
}

/// Groups the optional checks that could not be evaluated by reason: each reason with its rules.
pub fn not_required_by_reason(result: &ScenarioResult) -> Vec<(String, Vec<String>)> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for skipped in result.unevaluated().filter(|skipped| !skipped.required) {
        let known = reasons.iter_mut().find(|(because, _)| *because == skipped.because);
        match known {
            Some((_, rules)) if rules.contains(&skipped.rule) => {}
            Some((_, rules)) => rules.push(skipped.rule.clone()),
            None => reasons.push((skipped.because.clone(), vec![skipped.rule.clone()])),
        }
    }
    reasons
}

/// Returns the names of the rules and expectations that failed, each once, in order of appearance.
pub fn failing_rules(result: &ScenarioResult) -> Vec<String> {
    let mut rules = Vec::new();
    let of_cases = result.cases.iter().flat_map(|case| &case.findings.failures);
    for failure in result.failures.iter().chain(of_cases) {
        if !rules.contains(&failure.rule) {
            rules.push(failure.rule.clone());
        }
    }
    rules
}

/// Describes the failures and their causes, without colours, with at most `most` cases in full.
pub fn details(result: &ScenarioResult, most: usize) -> String {
    let mut lines = Vec::new();
    if !result.description.is_empty() {
        lines.push(format!("      {}", result.description));
    }
    let undecided = result.reasons();
    let undecided = || undecided.iter().map(|reason| format!("      undecided: {reason}"));
    // What failed comes first.
    let is_failed = result.verdict == Verdict::Fail;
    if !is_failed {
        lines.extend(undecided());
    }
    for failure in &result.failures {
        lines.extend(
            folded(failure, &failure.detail).into_iter().map(|line| format!("      {line}")),
        );
    }
    let failing: Vec<&CaseResult> =
        result.cases.iter().filter(|case| !case.findings.failures.is_empty()).collect();
    let mut reported = Vec::new();
    for failing in failing.iter().take(most) {
        lines.push(String::new());
        let text = case_after(failing, &reported);
        lines.extend(text.lines().map(|line| format!("      {line}").trim_end().to_owned()));
        reported.extend(&failing.findings.failures);
    }
    if failing.len() > most {
        lines.push(format!(
            "\n      … and {} with failures",
            count(failing.len() - most, "more trace")
        ));
    }
    if is_failed && undecided().next().is_some() {
        lines.push(String::new());
        lines.extend(undecided());
    }
    if let Some(ledger) = &result.ledger {
        lines.push(format!("\n      the whole system: {ledger}"));
    }
    if let Some(rule) = failing_rules(result).iter().find(|rule| crate::rule::named(rule).is_some())
    {
        lines
            .push(format!("\n      hint: `tracecheck explain {rule}` says what usually causes it"));
    }
    visible_lines(&lines.join("\n"))
}

/// How many failures that are like another one are listed below it.
const ALIKE_TOLD: usize = 4;

/// Formats one case: its trace and response, its failures, and the expected beside the captured tree.
pub fn case(case: &CaseResult) -> String {
    visible_lines(&case_after(case, &[]))
}

/// The same after cases whose failures were reported: what is word for word the same is reported once, as a stray that began while both
/// were in progress.
fn case_after(case: &CaseResult, reported: &[&Failure]) -> String {
    let mut lines = vec![format!("trace {}  {}", case.trace_id, case.request)];
    for failure in &case.findings.failures {
        let detail = if reported.contains(&failure) { "as above" } else { &failure.detail };
        lines.extend(folded(failure, detail).into_iter().map(|line| format!("  {line}")));
    }
    if let Some(ledger) = &case.ledger {
        lines.push(format!("  spans by stage: {ledger}"));
    }
    if let Some(trees) = &case.trees {
        lines.push(String::new());
        lines.extend(side_by_side(trees).into_iter().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// A failure, and below it what is like it, by what it is about alone, and what it explains.
fn folded(failure: &Failure, detail: &str) -> Vec<String> {
    let is_alike = |one: &&Failure| {
        one.rule == failure.rule && one.cause == failure.cause && one.symptoms.is_empty()
    };
    let (alike, explained): (Vec<&Failure>, Vec<&Failure>) =
        failure.symptoms.iter().partition(is_alike);
    let mut lines = vec![format!("{}: {}", failure.rule, bounded(detail))];
    let reported =
        alike.iter().take(ALIKE_TOLD).map(|one| format!("  and {}", bounded(one.without_cause())));
    lines.extend(reported);
    if alike.len() > ALIKE_TOLD {
        lines.push(format!("  and {} more like these", alike.len() - ALIKE_TOLD));
    }
    lines.extend(explained.into_iter().flat_map(Failure::unfolded).map(|(depth, symptom)| {
        let indent = "  ".repeat(depth + 1);
        format!("{indent}so {}: {}", symptom.rule, bounded(&symptom.detail))
    }));
    lines
}

/// A failure without what is beyond the limit, which is counted. Its lines stay.
fn bounded(detail: &str) -> String {
    match detail.char_indices().nth(MAX_DETAIL) {
        None => detail.to_owned(),
        Some((end, _)) => {
            let more = detail[end..].chars().count();
            format!("{}… ({more} more characters)", &detail[..end])
        }
    }
}

/// The expected and the captured tree in two columns.
pub(super) fn side_by_side(trees: &Trees) -> Vec<String> {
    let widest =
        trees.expected.iter().map(|line| line.chars().take(MAX_LEFT).count()).max().unwrap_or(0);
    let width = widest.clamp("expected".len(), MAX_LEFT);
    let rows = trees.expected.len().max(trees.captured.len());
    let cell = |lines: &[String], row: usize| {
        lines.get(row).map_or_else(String::new, |line| visible(line, MAX_SPAN))
    };
    let mut lines = vec![format!("{:<width$}   captured", "expected")];
    lines.extend((0..rows).map(|row| {
        let (left, right) = (cell(&trees.expected, row), cell(&trees.captured, row));
        format!("{left:<width$} | {right}").trim_end().to_owned()
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{finding::Findings, trace::TraceId};

    #[test]
    fn a_failure_that_is_word_for_word_the_same_is_reported_once() {
        let case = |id: u128, own: &str| CaseResult {
            trace_id: TraceId(id),
            place: (0, 0),
            request: "GET /: status 200".to_owned(),
            findings: Findings {
                failures: vec![
                    Failure::new("stray-trace", "the services started trace 9"),
                    Failure::new("tree", own),
                ],
                not_evaluated: Vec::new(),
            },
            trees: None,
            ledger: None,
            spans: 0,
            service_spans: 0,
            judged_after_ms: None,
        };
        let mut result = ScenarioResult::undecided("two", "", "");
        result.cases = vec![case(1, "one is missing"), case(2, "two is missing")];
        let reported = details(&result, 2);
        assert_eq!(reported.matches("started trace 9").count(), 1, "{reported}");
        assert_eq!(reported.matches("stray-trace: as above").count(), 1, "{reported}");
        assert!(
            reported.contains("one is missing") && reported.contains("two is missing"),
            "{reported}"
        );
    }

    #[test]
    fn what_failed_comes_before_what_could_not_be_decided() {
        let mut result = ScenarioResult::undecided("two", "", "the collector ended");
        assert!(details(&result, 2).starts_with("      undecided: the collector ended"));
        result.verdict = Verdict::Fail;
        result.failures.push(Failure::new("stages", "two are missing"));
        let text = details(&result, 2);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{text}"));
        assert!(at("stages: two") < at("undecided: the collector ended"), "{text}");
    }

    #[test]
    fn several_of_one_kind_and_cause_are_caught_by_what_they_are_about_and_the_cause_once() {
        let lost =
            |name: &str| Failure::new("lost-span", format!("`{name}` is gone")).because("no room");
        let mut first = lost("a");
        first.symptoms = vec![lost("b"), Failure::new("orphan-span", "c hangs on nothing")];
        assert_eq!(
            folded(&first, &first.detail),
            [
                "lost-span: `a` is gone: no room",
                "  and `b` is gone",
                "  so orphan-span: c hangs on nothing",
            ]
        );
        first.symptoms = (0..1000).map(|number| lost(&number.to_string())).collect();
        let lines = folded(&first, &first.detail);
        assert_eq!(lines.len(), 2 + ALIKE_TOLD);
        assert_eq!(lines.last().unwrap(), "  and 996 more like these");
        // Of another cause it is another loss.
        let other = Failure::new("lost-span", "`d` is gone").because("refused");
        first.symptoms = vec![other];
        assert_eq!(folded(&first, "x")[1], "  so lost-span: `d` is gone: refused");
    }

    #[test]
    fn hostile_texts_are_shown_bounded_and_act_on_no_terminal() {
        let mut result = ScenarioResult::undecided("x", "", "");
        let hostile = format!("</script>\u{1b}[2J\u{202e}\r{}", "x".repeat(25_000));
        result.failures = vec![Failure::new("tree", hostile)];
        let text = details(&result, 2);
        assert!(text.contains("</script>␛[2J‹U+202E›␍xxx") && text.len() < 6_000, "{text}");
        assert!(text.contains("more characters)"));
    }

    #[test]
    fn what_was_not_evaluated_is_grouped_by_reason() {
        let mut result = ScenarioResult::undecided("x", "", "");
        let skipped = |rule: &str, because: &str| crate::finding::NotEvaluated {
            rule: rule.to_owned(),
            because: because.to_owned(),
            required: false,
        };
        result.not_evaluated = vec![
            skipped("a", "no ledger"),
            skipped("b", "OTLP"),
            skipped("c", "no ledger"),
            skipped("a", "no ledger"),
        ];
        let grouped = not_required_by_reason(&result);
        let expected = [("no ledger", vec!["a", "c"]), ("OTLP", vec!["b"])];
        assert_eq!(grouped.len(), 2);
        for ((because, rules), (expected, of)) in grouped.iter().zip(&expected) {
            assert_eq!(
                (because.as_str(), rules),
                (*expected, &of.iter().map(|rule| (*rule).to_owned()).collect())
            );
        }
    }
}
