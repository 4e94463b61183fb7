//! The differences that are meant, each with its reason.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;

/// Kinds of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The Collector accepts a config that ours refuses, with this finding.
    OursRefuses,
    /// The Collector refuses a config that ours accepts, with this message.
    OursAccepts,
    /// Both accept, and a setting is not the same.
    Value,
    /// Ours refuses what the Collector prints of a config that both accept, with this finding.
    Printed,
    /// A request is not answered with the same status.
    Answer,
    /// The status of an answer is the same, and its body or type is not.
    Reply,
    /// Both accept a request or both refuse it, and not the same spans go on.
    SentOn,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    difference: Kind,
    /// A regular expression on what shows the difference.
    text: String,
    reason: String,
}

/// The list, and which of its entries came up.
pub(crate) struct Meant {
    entries: Vec<(Entry, Regex)>,
    seen: BTreeSet<usize>,
    unexplained: Vec<String>,
}

impl Meant {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/differential/newest/meant.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let entries: Vec<Entry> = serde_saphyr::from_str(&text).unwrap();
        let entries = entries.into_iter().map(|entry| {
            assert!(entry.reason.len() > 10, "{:?} has no reason", entry.text);
            let text = Regex::new(&entry.text).unwrap();
            (entry, text)
        });
        Self { entries: entries.collect(), seen: BTreeSet::new(), unexplained: Vec::new() }
    }

    /// Notes a difference; `case` says where it was found.
    pub(crate) fn note(&mut self, kind: Kind, text: &str, case: &str) {
        let fits =
            |(entry, regex): &(Entry, Regex)| entry.difference == kind && regex.is_match(text);
        let known: Vec<_> =
            (0..self.entries.len()).filter(|index| fits(&self.entries[*index])).collect();
        if known.is_empty() {
            let first = format!("{kind:?}: {text}\n");
            if !self.unexplained.iter().any(|known| known.starts_with(&first)) {
                self.unexplained.push(format!("{first}    in {case}"));
            }
        }
        self.seen.extend(known);
    }

    /// Fails if a difference is not in the list, or, if it is to be whole, an entry did not come up.
    pub(crate) fn settle(self, kinds: &[Kind], is_whole: bool) {
        let stale: Vec<_> = (0..self.entries.len())
            .filter(|index| kinds.contains(&self.entries[*index].0.difference))
            .filter(|index| !self.seen.contains(index))
            .map(|index| {
                format!("{:?}: {}", self.entries[index].0.difference, self.entries[index].0.text)
            })
            .collect();
        let differences = self.unexplained.join("\n");
        assert!(
            self.unexplained.is_empty(),
            "{} differences are not in meant.yaml:\n{differences}",
            self.unexplained.len()
        );
        assert!(
            !is_whole || stale.is_empty(),
            "these did not come up; take them out of meant.yaml:\n{}",
            stale.join("\n")
        );
    }
}
