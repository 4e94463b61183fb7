//! Rounds of the same scenarios over a longer time: the rule by which they come to one verdict, and how that is reported.
//!
//! Pure but for the clock of its caller. Driving the rounds is the command line's business.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    finding::Failure,
    report::plain,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// Results of the rounds so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Most inconclusive rounds in a row that are survived.
    pub max_inconclusive: u32,
    /// Rounds that passed.
    pub passed: u32,
    /// Rounds that failed.
    pub failed: u32,
    /// Rounds that were inconclusive.
    pub inconclusive: u32,
    /// Inconclusive ones at the end so far.
    in_a_row: u32,
    /// Most inconclusive ones in a row.
    longest: u32,
}

impl Tally {
    /// Creates an empty tally that tolerates `max_inconclusive` inconclusive rounds in a row.
    pub fn new(max_inconclusive: u32) -> Self {
        Self { max_inconclusive, passed: 0, failed: 0, inconclusive: 0, in_a_row: 0, longest: 0 }
    }

    /// Counts a round.
    pub fn add(&mut self, verdict: Verdict) {
        self.in_a_row = match verdict {
            Verdict::Pass => {
                self.passed += 1;
                0
            }
            Verdict::Fail => {
                self.failed += 1;
                0
            }
            Verdict::Inconclusive | Verdict::Skipped => {
                self.inconclusive += 1;
                self.in_a_row + 1
            }
        };
        self.longest = self.longest.max(self.in_a_row);
    }

    /// Returns the verdict on all rounds so far: fail if any round failed; inconclusive if more inconclusive rounds
    /// came in a row than are tolerated, or if no round passed; else pass.
    pub fn verdict(&self) -> Verdict {
        match self {
            _ if self.failed > 0 => Verdict::Fail,
            _ if self.longest > self.max_inconclusive || self.passed == 0 => Verdict::Inconclusive,
            _ => Verdict::Pass,
        }
    }

    /// Returns the number of rounds counted so far.
    pub fn rounds(&self) -> u32 {
        self.passed + self.failed + self.inconclusive
    }
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// Start of the round, RFC 3339.
    pub started: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Duration of the round in milliseconds.
    pub took_ms: u64,
    /// Its scenarios.
    pub scenarios: Vec<RoundScenario>,
    /// All rounds so far.
    pub rounds: Tally,
    /// Verdict over all rounds so far.
    pub canary: Verdict,
    /// Quota used for evidence so far, and what remains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
}

/// A scenario of a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundScenario {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its traces.
    pub trace_ids: Vec<String>,
    /// Failures, with the traces in which they occurred.
    pub failures: Vec<Failure>,
    /// Reasons for an inconclusive verdict.
    pub undecided: Vec<String>,
}

impl Round {
    /// Creates the report of a round from its results; `tally` already counts the round.
    pub fn new(
        round: u32,
        started: SystemTime,
        summary: &Summary,
        tally: &Tally,
        usage: Option<String>,
    ) -> Self {
        let scenarios = summary.scenarios.iter().map(|result| RoundScenario {
            name: result.name.clone(),
            verdict: result.verdict,
            trace_ids: result.cases.iter().map(|case| case.trace_id.to_string()).collect(),
            failures: failures(result),
            undecided: result.reasons(),
        });
        Self {
            round,
            started: humantime::format_rfc3339_seconds(started).to_string(),
            verdict: summary.verdict(),
            took_ms: summary.took_ms,
            scenarios: scenarios.collect(),
            rounds: tally.clone(),
            canary: tally.verdict(),
            usage,
        }
    }
}

fn failures(result: &ScenarioResult) -> Vec<Failure> {
    let of_cases = result.cases.iter().flat_map(|case| &case.findings.failures);
    result.failures.iter().chain(of_cases).cloned().collect()
}

/// Merges all rounds into one summary, for report formats of single runs: each scenario is named `round N: NAME`.
pub fn as_one_run(rounds: Vec<Summary>) -> Summary {
    let mut all = Summary::new("canary");
    for (index, round) in rounds.into_iter().enumerate() {
        all.took_ms += round.took_ms;
        all.warnings.extend(round.warnings);
        let of_round = |text: String| format!("round {}: {text}", index + 1);
        all.undecided.extend(round.undecided.into_iter().map(of_round));
        all.notes.extend(round.notes.into_iter().map(of_round));
        all.scenarios.extend(round.scenarios.into_iter().map(|result| ScenarioResult {
            name: format!("round {}: {}", index + 1, result.name),
            ..result
        }));
    }
    all
}

/// Formats a round for people: one line, followed by the details of each scenario that did not pass.
pub fn describe(round: &Round, summary: &Summary) -> String {
    let mut reported = format!(
        "round {:<4} {}  {:<12} {:>7.2} s",
        round.round,
        round.started,
        round.verdict.name(),
        round.took_ms as f64 / 1000.0
    );
    for result in summary.scenarios.iter().filter(|result| result.verdict != Verdict::Pass) {
        let _infallible = write!(
            reported,
            "\n      {}: {}\n{}",
            result.name,
            result.verdict.name(),
            plain::details(result, 1)
        );
    }
    reported
}

/// Formats the last round and the tally in the Prometheus text format, for the textfile collector of node_exporter.
pub fn prometheus(round: &Round, ended: SystemTime) -> String {
    let ended = ended.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let took = Duration::from_millis(round.took_ms);
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, kind: &str, lines: Vec<(String, String)>| {
        let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in lines {
            let _infallible = writeln!(text, "{name}{labels} {value}");
        }
    };
    let is = |holds: bool| u8::from(holds).to_string();
    let verdicts = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive];
    let of_scenarios = round.scenarios.iter().flat_map(|scenario| {
        verdicts.map(|verdict| {
            let labels =
                format!("{{scenario=\"{}\",verdict=\"{}\"}}", scenario.name, verdict.name());
            (labels, is(scenario.verdict == verdict))
        })
    });
    metric(
        "tracecheck_canary_scenario",
        "Verdict of the scenario in the last round.",
        "gauge",
        of_scenarios.collect(),
    );
    let of_all = verdicts.map(|verdict| {
        (format!("{{verdict=\"{}\"}}", verdict.name()), is(round.canary == verdict))
    });
    metric("tracecheck_canary_verdict", "Verdict of all rounds so far.", "gauge", of_all.to_vec());
    let Tally { passed, failed, inconclusive, .. } = round.rounds;
    let counted =
        [(Verdict::Pass, passed), (Verdict::Fail, failed), (Verdict::Inconclusive, inconclusive)];
    let counted = counted
        .map(|(verdict, count)| (format!("{{verdict=\"{}\"}}", verdict.name()), count.to_string()));
    metric("tracecheck_canary_rounds_total", "Rounds by verdict.", "counter", counted.to_vec());
    metric(
        "tracecheck_canary_round_duration_seconds",
        "How long the last round took.",
        "gauge",
        vec![(String::new(), took.as_secs_f64().to_string())],
    );
    metric(
        "tracecheck_canary_last_round_timestamp_seconds",
        "When the last round ended.",
        "gauge",
        vec![(String::new(), ended.as_secs().to_string())],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    use Verdict::{Fail, Inconclusive, Pass, Skipped};

    fn tally(max_inconclusive: u32, rounds: &[Verdict]) -> Tally {
        let mut tally = Tally::new(max_inconclusive);
        rounds.iter().for_each(|verdict| tally.add(*verdict));
        tally
    }

    #[test]
    fn single_inconclusive_rounds_are_survived_and_failures_are_not() {
        let verdict = |rounds: &[Verdict]| tally(1, rounds).verdict();
        assert_eq!(verdict(&[]), Inconclusive);
        assert_eq!(verdict(&[Pass]), Pass);
        assert_eq!(verdict(&[Inconclusive, Pass, Inconclusive, Pass, Inconclusive]), Pass);
        assert_eq!(verdict(&[Pass, Inconclusive, Inconclusive, Pass]), Inconclusive);
        assert_eq!(verdict(&[Inconclusive]), Inconclusive);
        assert_eq!(verdict(&[Skipped]), Inconclusive);
        assert_eq!(verdict(&[Pass, Fail, Pass]), Fail);
        assert_eq!(verdict(&[Inconclusive, Inconclusive, Fail]), Fail);
        assert_eq!(tally(0, &[Pass, Inconclusive]).verdict(), Inconclusive);
        assert_eq!(tally(2, &[Pass, Inconclusive, Inconclusive]).verdict(), Pass);
    }

    fn summary(verdict: Verdict) -> Summary {
        let mut result = ScenarioResult::undecided("happy", "", "no keys");
        result.verdict = verdict;
        Summary { scenarios: vec![result], took_ms: 1500, ..Summary::new("r") }
    }

    #[test]
    fn a_round_is_one_line_of_json_and_a_page_of_metrics() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let counted = tally(1, &[Pass, Inconclusive]);
        let round = Round::new(2, at, &summary(Inconclusive), &counted, Some("12 used".to_owned()));
        let line = serde_json::to_string(&round).unwrap();
        assert!(!line.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["verdict"], &json["canary"]), (&"inconclusive".into(), &"pass".into()));
        assert_eq!(json["scenarios"][0]["undecided"][0], "no keys");
        assert_eq!(json["started"], "2026-11-18T11:06:40Z");
        let text = prometheus(&round, at);
        for line in [
            "tracecheck_canary_scenario{scenario=\"happy\",verdict=\"inconclusive\"} 1",
            "tracecheck_canary_scenario{scenario=\"happy\",verdict=\"pass\"} 0",
            "tracecheck_canary_verdict{verdict=\"pass\"} 1",
            "tracecheck_canary_rounds_total{verdict=\"inconclusive\"} 1",
            "tracecheck_canary_round_duration_seconds 1.5",
            "tracecheck_canary_last_round_timestamp_seconds 1795000000",
        ] {
            assert!(text.lines().any(|reported| reported == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 5);
        let mut undecided = summary(Pass);
        undecided.undecided.push("a trace began by no known request".to_owned());
        let all = as_one_run(vec![undecided]);
        assert_eq!(all.undecided, ["round 1: a trace began by no known request"]);
        assert_eq!(all.verdict(), Inconclusive);
        let all = as_one_run(vec![summary(Pass), summary(Fail)]);
        let names: Vec<_> = all.scenarios.iter().map(|result| result.name.as_str()).collect();
        assert_eq!((names, all.took_ms), (vec!["round 1: happy", "round 2: happy"], 3000));
    }
}
