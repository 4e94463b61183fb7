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

use super::{Reporter, plain, plain::count};
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
}

impl<W: Write> Text<W> {
    /// Writes verdicts to `out`, which strips colours where it is no terminal; shows progress on stderr if `live`.
    pub fn new(out: W, live: bool, verbose: bool) -> Self {
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let progress = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if live {
            progress.enable_steady_tick(Duration::from_millis(100));
        }
        Self { out, progress, running: BTreeMap::new(), verbose }
    }

    fn show_progress(&self) {
        let running = self.running.iter().map(|(name, (judged, of))| {
            if *of > 1 { format!("{name} {judged}/{of}") } else { name.clone() }
        });
        self.progress.set_message(running.collect::<Vec<_>>().join(", "));
    }

    /// Writes a block of text without tearing the progress line.
    fn write(&mut self, text: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.progress.suspend(|| writeln!(out, "{text}").and_then(|()| out.flush()))
    }
}

impl<W: Write> Reporter for Text<W> {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::RunStarted { run_id, environment, scenarios, .. } => {
                let scenarios = count(*scenarios, "scenario");
                self.write(&format!("run {run_id}: {scenarios}, environment {environment}\n"))
            }
            Event::SystemReady { system, took_ms, scenarios } if self.verbose => {
                let scenarios = count(scenarios.len(), "scenario");
                self.write(&format!("      {system} is up after {took_ms} ms, for {scenarios}"))
            }
            Event::SystemReady { .. } => Ok(()),
            Event::ScenarioStarted { name, requests } => {
                self.running.insert(name.clone(), (0, *requests));
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
                self.write(&scenario(result, self.verbose))
            }
            Event::VerdictRevised { from, result } => {
                let text = format!(
                    "{}\n      revised by the audit at the end, from {}",
                    scenario(result, true),
                    from.name()
                );
                self.write(&text)
            }
            Event::Warning { text } => {
                self.write(&format!("{} {text}", styled(AnsiColor::Yellow, "warning:")))
            }
            Event::Usage { text } => self.write(&format!("\n      {text}")),
            Event::RunFinished { summary } => {
                self.progress.finish_and_clear();
                self.write(&closing(summary, self.verbose))
            }
        }
    }
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
        for skipped in plain::not_required(result) {
            let _infallible = write!(text, "\n      not evaluated: {skipped}");
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
    format!("{text}\n{verdict}  {} in {seconds:.1} s", counted.join(", "))
}
