//! The differences between two runs, as text.

use std::fmt::Write as _;

use super::{plain::count, visible::visible};
use crate::compare::{Comparison, Difference, Example, Impact, Kind, Outcome, Side};

/// Most characters of a value.
const MAX_VALUE: usize = 160;
/// Most examples of a cause.
const EXAMPLES: usize = 1;

/// Formats a comparison for people, without colours and `width` columns wide, with all examples if `verbose`.
pub fn render(comparison: &Comparison, verbose: bool, width: usize) -> String {
    let mut out = String::new();
    for (letter, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        let _infallible = writeln!(out, "{letter}  {}", describe(side));
    }
    let _infallible = writeln!(out, "\n{}", headline(comparison));
    for impact in Impact::ALL {
        let of_impact = comparison.differences.iter().filter(|one| one.impact == impact);
        for (number, one) in of_impact.enumerate() {
            if number == 0 {
                let _infallible = writeln!(out, "\n{}", impact.title());
            }
            difference(&mut out, one, if verbose { usize::MAX } else { EXAMPLES }, width);
        }
    }
    for (what, texts) in [("undecided", &comparison.undecided), ("note", &comparison.notes)] {
        for text in texts {
            let text = format!("{what}: {}", visible(text, usize::MAX));
            let _infallible = write!(out, "\n{}", super::wrapped::wrapped(&text, width, 6));
        }
        if !texts.is_empty() {
            out.push('\n');
        }
    }
    out
}

/// Formats the outcome of a comparison on one line.
pub fn headline(comparison: &Comparison) -> String {
    let pairs = count(comparison.pairs, "pair");
    let of = format!("in {pairs} of spans of {}", count(comparison.scenarios, "scenario"));
    match comparison.outcome {
        Outcome::Equal => format!("EQUAL  nothing differs {of}"),
        Outcome::Undecided => {
            format!("????  nothing differs {of}, and not everything was compared")
        }
        Outcome::Different => {
            format!("DIFFERENT  {} {of}", count(comparison.differences.len(), "cause"))
        }
    }
}

fn describe(side: &Side) -> String {
    let forms = side.forms.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    let forms = if forms.is_empty() { forms } else { format!(", {forms}") };
    let (traces, spans) = (count(side.traces, "trace"), count(side.spans, "span"));
    format!("{}: {traces}, {spans}{forms}", visible(&side.name, MAX_VALUE))
}

/// Formats the extent of a difference, for example `3 spans in 2 scenarios`.
pub fn extent(difference: &Difference) -> String {
    match difference.kind {
        Kind::Verdict => count(difference.count, "scenario"),
        Kind::Answer => count(difference.count, "request"),
        Kind::Stats => count(difference.count, "group"),
        _ => {
            let spans = count(difference.count, "span");
            format!("{spans} in {}", count(difference.scenarios.len(), "scenario"))
        }
    }
}

fn difference(out: &mut String, one: &Difference, examples: usize, width: usize) {
    let line = format!("  {}: {}", visible(&one.title, MAX_VALUE * 2), extent(one));
    let _infallible = writeln!(out, "{}", super::wrapped::wrapped(&line, width, 6));
    for example in one.examples.iter().take(examples) {
        let Example { scenario, place, trace_a, trace_b, a, b } = example;
        for (letter, value, trace) in [("A", a, trace_a), ("B", b, trace_b)] {
            let Some(value) = value else { continue };
            let trace = trace.filter(|_| examples > EXAMPLES);
            let trace = trace.map_or_else(String::new, |trace| format!("  (trace {trace})"));
            let value =
                if value.is_empty() { "(empty)".to_owned() } else { visible(value, MAX_VALUE) };
            let _infallible = writeln!(out, "      {letter}  {value}{trace}");
        }
        let place = visible(place, MAX_VALUE);
        let place = if scenario.is_empty() { place } else { format!("{place} of {scenario}") };
        let _infallible = writeln!(out, "         {}", super::wrapped::wrapped(&place, width, 9));
    }
    if one.stats_that_follow > 0 {
        let _infallible = writeln!(
            out,
            "      and {} of APM stats with it",
            count(one.stats_that_follow, "group")
        );
    }
    let meaning = format!("      in Datadog: {}", one.meaning);
    let _infallible = writeln!(out, "{}", super::wrapped::wrapped(&meaning, width, 8));
}
