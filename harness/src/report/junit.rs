//! JUnit XML, for CI systems: a scenario is a test case; *inconclusive* is its `error`.

use std::{io, path::PathBuf, time::Duration};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{
    Reporter, plain,
    visible::{visible, visible_lines},
};
use crate::{
    event::Event,
    finding::Failure,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// Most traces of a scenario that are listed.
const MAX_TRACES: usize = 100;
/// Most characters of what failed, and of the traces.
const MAX_TEXT: usize = 64_000;
/// Most characters of a property.
const MAX_PROPERTY: usize = 1_000;

/// Writes the report to a file when the run is over.
#[derive(Debug)]
pub struct Junit {
    path: PathBuf,
}

impl Junit {
    /// Creates a reporter that writes to `path`, replacing an existing file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Reporter for Junit {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        let Event::RunFinished { summary } = event else { return Ok(()) };
        let file = std::fs::File::create(&self.path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })?;
        report(summary).serialize(file).map_err(io::Error::other)
    }
}

/// Converts the summary of a run to a JUnit report.
pub fn report(summary: &Summary) -> Report {
    let mut suite = TestSuite::new("scenarios");
    for result in &summary.scenarios {
        suite.add_test_case(test_case(result));
    }
    if !summary.undecided.is_empty() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type(Verdict::Inconclusive.name());
        status.set_message(summary.undecided.join("; "));
        let mut case = TestCase::new("the run", status);
        case.set_classname("tracecheck.run");
        suite.add_test_case(case);
    }
    let mut report = Report::new("tracecheck");
    report.set_time(Duration::from_millis(summary.took_ms));
    report.add_test_suite(suite);
    report
}

fn test_case(result: &ScenarioResult) -> TestCase {
    if result.verdict == Verdict::Skipped {
        let mut status = TestCaseStatus::skipped();
        status.set_message(result.undecided.join("; "));
        let mut case = TestCase::new(result.name.clone(), status);
        case.set_classname("tracecheck.scenarios");
        in_file(&mut case, result);
        return case;
    }
    let kind = match result.verdict {
        Verdict::Pass | Verdict::Skipped => None,
        Verdict::Fail => Some(NonSuccessKind::Failure),
        Verdict::Inconclusive => Some(NonSuccessKind::Error),
    };
    let status = match kind {
        None => TestCaseStatus::success(),
        Some(kind) => {
            let mut status = TestCaseStatus::non_success(kind);
            let rules = plain::failing_rules(result);
            let message = match result.verdict {
                Verdict::Fail => rules.join(", "),
                _ => result.reasons().into_iter().next().unwrap_or_default(),
            };
            status.set_type(result.verdict.name());
            status.set_message(visible(&message, MAX_PROPERTY));
            status.set_description(bounded(&plain::details(result, usize::MAX)));
            status
        }
    };
    let mut case = TestCase::new(result.name.clone(), status);
    case.set_classname("tracecheck.scenarios");
    case.set_time(Duration::from_millis(result.took_ms));
    for (failure, number) in failures(result).zip(1..) {
        for (field, value) in fields(failure) {
            let value = visible(&value, MAX_PROPERTY);
            case.add_property((format!("failure.{number}.{field}"), value));
        }
    }
    for (of, number) in result.cases.iter().take(MAX_TRACES).zip(1..) {
        case.add_property((format!("trace.{number}"), of.trace_id.to_string()));
    }
    if !result.cases.is_empty() {
        case.set_system_out(bounded(&traces(result)));
    }
    in_file(&mut case, result);
    case
}

/// Says where a scenario is, as GitLab links it.
fn in_file(case: &mut TestCase, result: &ScenarioResult) {
    if !result.file.as_os_str().is_empty() {
        case.extra.insert("file".into(), result.file.to_string_lossy().as_ref().into());
    }
}

/// Lists the traces of a scenario, and draws the trees of those that failed.
fn traces(result: &ScenarioResult) -> String {
    let mut lines = Vec::new();
    for of in result.cases.iter().take(MAX_TRACES) {
        let spans = plain::count(of.spans, "span");
        lines.push(format!("trace {}  {}  {spans}", of.trace_id, of.request));
        if let Some(trees) = &of.trees {
            lines.extend(plain::side_by_side(trees).into_iter().map(|line| format!("  {line}")));
        }
    }
    if result.cases.len() > MAX_TRACES {
        lines.push(format!("and {} more", plain::count(result.cases.len() - MAX_TRACES, "trace")));
    }
    visible_lines(&lines.join("\n"))
}

/// A text of lines without what is beyond the limit, which is counted.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => {
            format!("{}\n… ({} more characters)", &text[..end], text[end..].chars().count())
        }
    }
}

/// All that failed, without what other failures explain.
fn failures(result: &ScenarioResult) -> impl Iterator<Item = &Failure> {
    let of_cases = result.cases.iter().flat_map(|case| &case.findings.failures);
    result.failures.iter().chain(of_cases)
}

/// Returns the fields of a failure, by their names in JSON.
fn fields(failure: &Failure) -> Vec<(&'static str, String)> {
    let Failure { rule, service, hop, span, stage, cause, .. } = failure;
    let hop = hop.as_ref().map(|hop| format!("{} -> {}", hop.caller, hop.callee));
    let fields = [
        ("rule", Some(rule.clone())),
        ("service", service.clone()),
        ("hop", hop),
        ("span", span.map(|span| span.to_string())),
        ("stage", stage.map(|stage| stage.name().to_owned())),
        ("cause", cause.clone()),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::Stage,
        trace::{SpanId, TraceId},
        verdict::{CaseResult, Trees},
    };

    #[test]
    fn what_failed_is_there_as_properties_field_by_field() {
        let mut result = ScenarioResult::undecided("lost", "", "");
        result.verdict = Verdict::Fail;
        let lost = Failure::new("lost-span", "it was not captured").because("it was dropped");
        let lost = lost.about("pay").on_hop("shop", "pay").of_span(SpanId(0xb1));
        let orphan = Failure::new("orphan-span", "nobody above");
        let lost = Failure { symptoms: vec![orphan], ..lost.at_stage(Some(Stage::Collector)) };
        result.failures = vec![lost, Failure::new("status", "503")];
        let mut summary = Summary::new("run");
        summary.scenarios = vec![result];
        let xml = report(&summary).to_string().unwrap();
        for (name, value) in [
            ("failure.1.rule", "lost-span"),
            ("failure.1.service", "pay"),
            ("failure.1.hop", "shop -&gt; pay"),
            ("failure.1.span", "00000000000000b1"),
            ("failure.1.stage", "collector"),
            ("failure.1.cause", "it was dropped"),
            ("failure.2.rule", "status"),
        ] {
            let property = format!("<property name=\"{name}\" value=\"{value}\"/>");
            assert!(xml.contains(&property), "{property} is not in {xml}");
        }
        assert!(
            !xml.contains("failure.3") && xml.contains("so orphan-span: nobody above"),
            "{xml}"
        );
    }

    #[test]
    fn traces_and_their_trees_are_there_and_hostile_texts_leave_it_well_formed() {
        let mut result = ScenarioResult::undecided("hostile", "", "");
        result.verdict = Verdict::Fail;
        result.file = "scenarios/a.yaml".into();
        let hostile =
            format!("]]></failure>\u{1b}[31m\u{0}\u{fffe}\u{202e}<script>{}", "x".repeat(90_000));
        result.failures = vec![Failure::new("tree", &hostile).because(&hostile).about(&hostile)];
        let trees = Trees { expected: vec!["shop".to_owned()], captured: vec![hostile.clone()] };
        result.cases = (0..150)
            .map(|number| CaseResult {
                trace_id: TraceId(number + 1),
                place: (0, 0),
                request: hostile.clone(),
                findings: Default::default(),
                trees: Some(trees.clone()),
                ledger: None,
                spans: 2,
                service_spans: 2,
                judged_after_ms: None,
            })
            .collect();
        let mut summary = Summary::new("run");
        summary.scenarios = vec![result];
        let xml = report(&summary).to_string().unwrap();
        assert!(xml.len() < 300_000, "{} bytes", xml.len());
        let read = Report::deserialize_from_str(&xml).unwrap();
        let case = &read.test_suites[0].test_cases[0];
        let property = |name: &str| {
            let mut properties = case.properties.iter();
            properties.find(|one| one.name.as_str() == name).map(|one| one.value.as_str())
        };
        assert_eq!(property("trace.1"), Some("00000000000000000000000000000001"));
        assert_eq!((property("trace.100").is_some(), property("trace.101")), (true, None));
        assert_eq!(case.extra.get("file").map(|file| file.as_str()), Some("scenarios/a.yaml"));
        let out = case.system_out.as_ref().unwrap().as_str();
        assert!(
            out.starts_with("trace 00000000000000000000000000000001  ]]></failure>␛[31m␀"),
            "{}",
            &out[..99]
        );
        assert!(out.contains("more characters)"));
    }
}
