//! JUnit XML, for CI systems: a scenario is a test case; *inconclusive* is its `error`.

use std::{io, path::PathBuf, time::Duration};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Reporter, plain};
use crate::{
    event::Event,
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
    case
}
