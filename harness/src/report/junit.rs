//! JUnit XML, for CI systems: a scenario is a test case; *inconclusive* is its `error`.

use std::{io, path::PathBuf, time::Duration};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Reporter, plain};
use crate::{
    event::Event,
    finding::Failure,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// Writes the report to a file when the run is over.
#[derive(Debug)]
pub struct Junit {
    path: PathBuf,
}

impl Junit {
    /// Will write to `path`, replacing what is there.
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

/// The run as a JUnit report.
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
            status.set_message(message);
            status.set_description(plain::details(result, usize::MAX));
            status
        }
    };
    let mut case = TestCase::new(result.name.clone(), status);
    case.set_classname("tracecheck.scenarios");
    case.set_time(Duration::from_millis(result.took_ms));
    for (failure, number) in failures(result).zip(1..) {
        for (field, value) in fields(failure) {
            case.add_property((format!("failure.{number}.{field}"), value));
        }
    }
    case
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
    use crate::{finding::Stage, trace::SpanId};

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
}
