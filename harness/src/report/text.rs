//! The terminal report: a line for each scenario, everything that helps where one did not pass, a line at the end.
//!
//! Verdicts go to stdout; what is going on meanwhile goes to stderr and is gone when the run is over.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Reporter, compare, plain, plain::count, wrapped::wrapped};
use crate::{
    event::Event,
    verdict::{ScenarioResult, Summary, Verdict},
};

/// How many failing cases of a scenario are reported in full.
const CASES_TOLD: usize = 2;

/// Renders a run for people.
pub struct Text<W: Write> {
    out: W,
    progress: ProgressBar,
    running: BTreeMap<String, (usize, u32)>,
    verbose: bool,
    width: usize,
    /// Reasons for which nothing was judged at all, with the first scenario that each was reported for.
    reasons: BTreeMap<String, String>,
    /// Said while no scenario is running.
    waiting: &'static str,
}

impl<W: Write> Text<W> {
    /// Creates a reporter that writes verdicts to `out`, which strips colours unless it is a terminal, and shows
    /// progress on stderr if `live`.
    pub fn new(out: W, live: bool, verbose: bool) -> Self {
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let progress = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if live {
            progress.enable_steady_tick(Duration::from_millis(100));
        }
        Self {
            out,
            progress,
            running: BTreeMap::new(),
            verbose,
            width: usize::MAX,
            reasons: BTreeMap::new(),
            waiting: "bringing systems up",
        }
    }

    /// Wraps lines at `width` columns.
    pub fn within(self, width: usize) -> Self {
        Self { width, ..self }
    }

    fn show_progress(&self) {
        let running = self.running.iter().map(|(name, (judged, of))| {
            if *of > 1 { format!("{name} {judged}/{of}") } else { name.clone() }
        });
        let running = running.collect::<Vec<_>>().join(", ");
        self.progress.set_message(if running.is_empty() {
            self.waiting.to_owned()
        } else {
            running
        });
    }

    /// Writes a block of text without tearing the progress line.
    fn write(&mut self, text: &str) -> io::Result<()> {
        let out = &mut self.out;
        let text = lines_within(text, self.width);
        self.progress.suspend(|| writeln!(out, "{text}").and_then(|()| out.flush()))
    }

    /// A result as it is reported: a system that did not start is the reason for all its scenarios, and reported in full once.
    fn once(&mut self, result: &ScenarioResult) -> Option<ScenarioResult> {
        if !result.cases.is_empty() || result.verdict == Verdict::Skipped {
            return None;
        }
        let mut short = result.clone();
        for reason in &mut short.undecided {
            match self.reasons.get(reason) {
                Some(first) => *reason = format!("for the same reason as `{first}`, above"),
                None => {
                    self.reasons.insert(reason.clone(), result.name.clone());
                }
            }
        }
        Some(short)
    }
}

impl Text<Vec<u8>> {
    /// Takes what was written so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

impl<W: Write> Reporter for Text<W> {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::RunStarted { run_id, environment, scenarios, .. } => {
                let scenarios = count(*scenarios, "scenario");
                self.show_progress();
                self.write(&format!("run {run_id}: {scenarios}, environment {environment}\n"))
            }
            Event::SystemReady { system, took_ms, scenarios } if self.verbose => {
                let scenarios = count(scenarios.len(), "scenario");
                self.write(&format!("      {system} is up after {took_ms} ms, for {scenarios}"))
            }
            Event::SystemReady { .. } => Ok(()),
            Event::ScenarioStarted { name, requests } => {
                self.running.insert(name.clone(), (0, *requests));
                self.waiting = "waiting for what comes late, and taking systems down";
                self.show_progress();
                Ok(())
            }
            Event::CaseJudged { name, judged } => {
                if let Some(running) = self.running.get_mut(name) {
                    running.0 = *judged;
                }
                self.show_progress();
                Ok(())
            }
            Event::ScenarioFinished { result } => {
                self.running.remove(&result.name);
                self.show_progress();
                let short = self.once(result);
                self.write(&scenario(short.as_ref().unwrap_or(result), self.verbose))
            }
            Event::VerdictRevised { from, result } => {
                let what = match result.verdict == *from {
                    true => "as above, with what came after it was judged".to_owned(),
                    false => format!("revised by the audit at the end, from {}", from.name()),
                };
                self.write(&format!("{}\n      {what}", scenario(result, true)))
            }
            Event::Warning { text, more } => {
                let mut text = format!("{} {text}", styled(AnsiColor::Yellow, "warning:"));
                for one in more.iter().filter(|_| self.verbose) {
                    let _infallible = write!(text, "\n      {one}");
                }
                self.write(&text)
            }
            Event::Usage { text } => self.write(&format!("\n      {text}")),
            Event::Compared { comparison } => {
                self.write(&format!("\n{}", compare::render(comparison, self.verbose, self.width)))
            }
            Event::RunFinished { summary } => {
                self.progress.finish_and_clear();
                self.write(&closing(summary, self.verbose))
            }
        }
    }
}

/// Breaks lines that are wider, but for those of trees side by side, whose columns would be lost.
fn lines_within(text: &str, width: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let is_tree = line.contains(" | ") || line.trim_start().starts_with("expected  ");
        let indent = line.len() - line.trim_start_matches(' ').len();
        if is_tree { line.to_owned() } else { wrapped(line, width, indent + 2) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn styled(colour: AnsiColor, text: &str) -> String {
    let style = Style::new().bold().fg_color(Some(colour.into()));
    format!("{style}{text}{style:#}")
}

fn badge(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => styled(AnsiColor::Green, "PASS"),
        Verdict::Fail => styled(AnsiColor::Red, "FAIL"),
        Verdict::Inconclusive => styled(AnsiColor::Yellow, "????"),
        Verdict::Skipped => styled(AnsiColor::Cyan, "SKIP"),
    }
}

/// A scenario's line, and everything behind it where it did not pass.
fn scenario(result: &ScenarioResult, verbose: bool) -> String {
    if result.verdict == Verdict::Skipped {
        let reasons = result.undecided.join("; ");
        return format!("{}  {}\n      {reasons}", badge(result.verdict), result.name);
    }
    let traces = count(result.cases.len(), "trace");
    let spans = count(result.spans(), "span");
    let seconds = result.took_ms as f64 / 1000.0;
    let mut text = format!(
        "{}  {:<34} {traces:>10} {spans:>11} {seconds:>7.2} s",
        badge(result.verdict),
        result.name
    );
    if result.verdict != Verdict::Pass {
        text.push('\n');
        text.push_str(&plain::details(result, CASES_TOLD));
    } else if verbose {
        let _infallible = write!(text, "\n      {}", result.description);
        for (because, rules) in plain::not_required_by_reason(result) {
            let rules = rules.join(", ");
            let _infallible = write!(text, "\n      not evaluated, because {because}: {rules}");
        }
    }
    text
}

fn closing(summary: &Summary, verbose: bool) -> String {
    let counted = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::Skipped]
        .into_iter()
        .map(|verdict| (verdict, summary.count(verdict)))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| match verdict {
            Verdict::Pass => format!("{count} passed"),
            Verdict::Fail => format!("{count} failed"),
            Verdict::Inconclusive => format!("{count} inconclusive"),
            Verdict::Skipped => format!("{count} skipped"),
        });
    let mut counted: Vec<String> = counted.collect();
    if counted.is_empty() {
        counted.push("no scenario was run, so nothing is proved".to_owned());
    }
    let seconds = summary.took_ms as f64 / 1000.0;
    let mut text = String::new();
    for note in summary.notes.iter().filter(|_| verbose) {
        let _infallible = write!(text, "\n      {note}");
    }
    for reason in &summary.undecided {
        let _infallible = write!(text, "\n      undecided: {reason}");
    }
    let verdict = badge(summary.verdict());
    // Not to be read as the number of scenarios alone has it.
    let beyond = match summary.undecided.is_empty() || summary.count(Verdict::Inconclusive) > 0 {
        true => "",
        false => ", and the run is undecided",
    };
    format!("{text}\n{verdict}  {}{beyond} in {seconds:.1} s", counted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Failure;

    fn reported(results: &[ScenarioResult], width: usize) -> String {
        let mut text = Text::new(Vec::new(), false, false).within(width);
        for result in results {
            text.observe(&Event::ScenarioFinished { result: Box::new(result.clone()) }).unwrap();
        }
        String::from_utf8(text.take()).unwrap()
    }

    #[test]
    fn a_system_that_does_not_start_is_reported_in_full_once() {
        let because = "the collector ended with status 1: cannot bind 127.0.0.1:4317";
        let of = |name: &str, because: &str| ScenarioResult::undecided(name, "", because);
        let text =
            reported(&[of("one", because), of("two", because), of("three", "other")], usize::MAX);
        assert_eq!(text.matches("cannot bind").count(), 1, "{text}");
        assert!(text.contains("undecided: for the same reason as `one`, above"), "{text}");
        assert!(text.contains("undecided: other"), "{text}");
    }

    #[test]
    fn what_a_warning_only_counts_is_listed_where_more_is_asked_for() {
        let warning =
            Event::Warning { text: "a; and 1 more".to_owned(), more: vec!["b has c".to_owned()] };
        for verbose in [false, true] {
            let mut text = Text::new(Vec::new(), false, verbose);
            text.observe(&warning).unwrap();
            let text = String::from_utf8(text.take()).unwrap();
            assert_eq!(text.contains("\n      b has c"), verbose, "{text}");
        }
        assert!(serde_json::to_string(&warning).unwrap().contains(r#""more":["b has c"]"#));
    }

    #[test]
    fn failures_are_broken_at_the_width_of_the_terminal_and_trees_are_not() {
        let mut result = ScenarioResult::new("one", "");
        result.verdict = Verdict::Fail;
        let tree = format!("{} | {}", "e".repeat(50), "c".repeat(50));
        let detail = format!("{}\n{tree}", "word ".repeat(40).trim_end());
        result.failures = vec![Failure::new("tree", detail)];
        let text = reported(&[result], 60);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines.iter().filter(|line| line.contains("word")).count() >= 4, "{text}");
        for line in lines {
            assert!(line.chars().count() <= 60 || line.contains(&tree), "{line}");
        }
    }
}
