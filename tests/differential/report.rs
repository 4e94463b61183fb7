//! Report of a run.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use crate::{datadog, generate};

/// How many examples of one difference are shown.
const EXAMPLES: usize = 2;
/// Outcome of one profile.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) profile: &'static str,
    /// The reference that ours was compared with.
    pub(crate) reference: &'static str,
    pub(crate) cases: usize,
    pub(crate) spans: usize,
    /// Of the spans, those that both sides left out.
    pub(crate) dropped: usize,
    pub(crate) stats_groups: usize,
    /// By field.
    pub(crate) found: BTreeMap<String, Finding>,
    /// By rule.
    pub(crate) allowed: BTreeMap<String, usize>,
    pub(crate) took: Duration,
}

#[derive(Default)]
pub(crate) struct Finding {
    pub(crate) count: usize,
    pub(crate) examples: Vec<String>,
}

impl Outcome {
    /// Counts a difference, and keeps the first examples.
    pub(crate) fn add(&mut self, field: &str, example: impl FnOnce() -> String) {
        let finding = self.found.entry(field.to_owned()).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES {
            finding.examples.push(example());
        }
    }
}

/// Prints a line.
pub(crate) fn say(text: &str) {
    // Nobody may be reading it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The field; where it is an attribute of a made-up name, any of them.
pub(crate) fn class(field: &str) -> String {
    let parts = ["span.meta.", "span.metrics."].map(|part| (part, field.strip_prefix(part)));
    for (part, key) in parts {
        match key {
            Some(key) if !key.is_empty() && !datadog::is_ours(key) && !generate::is_known(key) => {
                return format!("{part}(any)");
            }
            _ => {}
        }
    }
    field.to_owned()
}

/// A value as it is printed.
pub(crate) fn shown(value: Option<&datadog::Value>) -> String {
    value.map_or_else(|| "(missing)".to_owned(), |value| shortened(&format!("{value:?}"), 1500))
}

/// Text with its middle left out, if it is long.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    let count = text.chars().count();
    if count <= length {
        return text.to_owned();
    }
    let head: String = text.chars().take(length / 2).collect();
    let tail: String = text.chars().skip(count - length / 2).collect();
    format!("{head}[... {} characters ...]{tail}", count - length / 2 * 2)
}

/// Prints what came of a profile.
pub(crate) fn print(outcome: &Outcome) {
    let differences: usize = outcome.found.values().map(|finding| finding.count).sum();
    let allowed: usize = outcome.allowed.values().sum();
    say(&format!(
        "{}, beside {}: {} cases, {} spans ({} left out by both), {} stats groups, {allowed} allowed differences, \
         {differences} differences, {:.0?}",
        outcome.profile,
        outcome.reference,
        outcome.cases,
        outcome.spans,
        outcome.dropped,
        outcome.stats_groups,
        outcome.took,
    ));
    for (field, finding) in &outcome.found {
        say(&format!("  {field}: {} times", finding.count));
        for example in &finding.examples {
            say(&format!("    {example}"));
        }
    }
}
