//! Failures as plain text: what every report says of them.

use crate::{
    finding::Failure,
    verdict::{CaseResult, ScenarioResult, Trees},
};

/// Most columns that the expected tree takes.
const MAX_LEFT: usize = 60;

/// `3 traces`, `1 trace`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns the reasons why optional checks could not be evaluated, each once.
pub fn not_required(result: &ScenarioResult) -> Vec<String> {
    let mut told = Vec::new();
    for skipped in result.unevaluated().filter(|skipped| !skipped.required) {
        let text = format!("{}, because {}", skipped.rule, skipped.because);
        if !told.contains(&text) {
            told.push(text);
        }
    }
    told
}

/// Names of the rules and expectations that failed, each once, in the order of their appearance.
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

/// Describes what failed and why, without colours; at most `most` cases in full.
pub fn details(result: &ScenarioResult, most: usize) -> String {
    let mut lines = Vec::new();
    if !result.description.is_empty() {
        lines.push(format!("      {}", result.description));
    }
    for reason in result.reasons() {
        lines.push(format!("      undecided: {reason}"));
    }
    for failure in &result.failures {
        lines.extend(
            folded(failure, &failure.detail).into_iter().map(|line| format!("      {line}")),
        );
    }
    let failing: Vec<&CaseResult> =
        result.cases.iter().filter(|case| !case.findings.failures.is_empty()).collect();
    let mut told = Vec::new();
    for failing in failing.iter().take(most) {
        lines.push(String::new());
        let text = case_after(failing, &told);
        lines.extend(text.lines().map(|line| format!("      {line}").trim_end().to_owned()));
        told.extend(&failing.findings.failures);
    }
    if failing.len() > most {
        lines.push(format!(
            "\n      … and {} with failures",
            count(failing.len() - most, "more trace")
        ));
    }
    if let Some(ledger) = &result.ledger {
        lines.push(format!("\n      the whole system: {ledger}"));
    }
    if let Some(rule) = failing_rules(result).iter().find(|rule| crate::rule::named(rule).is_some())
    {
        lines
            .push(format!("\n      hint: `tracecheck explain {rule}` says what usually causes it"));
    }
    lines.join("\n")
}

/// One case: its trace and answer, what failed, and both trees side by side.
pub fn case(case: &CaseResult) -> String {
    case_after(case, &[])
}

/// The same after cases whose failures were reported: what is word for word the same is reported once, as a stray that began while both
/// were under way.
fn case_after(case: &CaseResult, told: &[&Failure]) -> String {
    let mut lines = vec![format!("trace {}  {}", case.trace_id, case.request)];
    for failure in &case.findings.failures {
        let detail = if told.contains(&failure) { "as above" } else { &failure.detail };
        lines.extend(folded(failure, detail).into_iter().map(|line| format!("  {line}")));
    }
    if let Some(ledger) = &case.ledger {
        lines.push(format!("  spans: {ledger}"));
    }
    if let Some(trees) = &case.trees {
        lines.push(String::new());
        lines.extend(side_by_side(trees).into_iter().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// A failure, and below it what it explains.
fn folded(failure: &Failure, detail: &str) -> Vec<String> {
    let symptoms = failure.symptoms.iter().flat_map(Failure::unfolded).map(|(depth, symptom)| {
        let indent = "  ".repeat(depth + 1);
        format!("{indent}so {}: {}", symptom.rule, symptom.detail)
    });
    [format!("{}: {detail}", failure.rule)].into_iter().chain(symptoms).collect()
}

/// The expected and the captured tree in two columns.
fn side_by_side(trees: &Trees) -> Vec<String> {
    let widest = trees.expected.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = widest.clamp("expected".len(), MAX_LEFT);
    let rows = trees.expected.len().max(trees.captured.len());
    let cell = |lines: &[String], row: usize| lines.get(row).cloned().unwrap_or_default();
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
    fn a_failure_that_is_word_for_word_the_same_is_told_once() {
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
        let told = details(&result, 2);
        assert_eq!(told.matches("started trace 9").count(), 1, "{told}");
        assert_eq!(told.matches("stray-trace: as above").count(), 1, "{told}");
        assert!(told.contains("one is missing") && told.contains("two is missing"), "{told}");
    }
}
