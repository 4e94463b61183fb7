//! Keeps the comments of sources to the words of docs/glossary.md.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::support::root;

/// Folders whose comments keep to the glossary; whoever rewrites another one adds it.
const REWRITTEN: [&str; 18] = [
    "bench/src",
    "collector/src/journal",
    "collector/src/pipeline",
    "collector/src/processor",
    "collector/src/settings",
    "collector/src/telemetry",
    "collector/src/trace_batch",
    "harness/environment/src/docker",
    "harness/environment/src/image",
    "harness/environment/src/process",
    "harness/intake/src/server",
    "harness/intake/src/store",
    "harness/src/datadog_api",
    "harness/src/driver",
    "harness/src/report",
    "harness/src/standing",
    "harness/src/strays",
    "sample-apps/src",
];

/// Words and phrases that are not used, each with what to write instead.
const WORDS: [(&str, &str); 5] = [
    (r"(?i)\b(tells?|told|telling)\b", "report, notify, ask, give, distinguish, determine"),
    (r"(?i)\bnot built\b", "not supported"),
    (r"(?i)\bnobody (says|knows)\b", "is not specified, is unknown"),
    (r"(?i)\bnot to go on\b", "cancelled"),
    (r"(?i)\bin peace\b", "cleanly"),
];

#[test]
fn comments_keep_to_the_glossary() {
    let mut found = Vec::new();
    for folder in REWRITTEN {
        let mut files = Vec::new();
        find(&root().join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has no sources");
        for path in files {
            let name = path.strip_prefix(root()).unwrap().display();
            let complaints = complaints(&fs::read_to_string(&path).unwrap());
            found.extend(complaints.into_iter().map(|one| format!("{name}:{one}")));
        }
    }
    assert!(found.is_empty(), "see docs/glossary.md, \"Prose\":\n{}", found.join("\n"));
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the lines of a file that do not keep to the glossary, each as `LINE: what is wrong`.
fn complaints(text: &str) -> Vec<String> {
    let opening = Regex::new(r"^\s*//[/!] (What|Why|Where|Who|Whose|Whether)\b").unwrap();
    let words = WORDS.map(|(word, instead)| (Regex::new(word).unwrap(), instead));
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_first = at == 0 || !is_doc(lines[at - 1]);
        if let Some(word) = opening.captures(line).filter(|_| is_first)
            && !(&word[1] == "Whether" && documents_a_field(&lines[at..]))
        {
            found.push(format!(
                "{}: a doc comment begins with a verb or a noun, not with `{}`",
                at + 1,
                &word[1]
            ));
        }
        let Some(comment) = line.find("//").map(|begin| &line[begin..]) else { continue };
        for (word, instead) in &words {
            if let Some(one) = word.find(comment) {
                found.push(format!("{}: `{}`; write instead: {instead}", at + 1, one.as_str()));
            }
        }
    }
    found
}

fn is_doc(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("///") || line.starts_with("//!")
}

/// Returns whether the doc comment at the beginning of these lines is that of a field: a Boolean one may begin with *Whether*.
fn documents_a_field(lines: &[&str]) -> bool {
    let field = Regex::new(r"^\s*(pub(\([a-z ]+\))? )?\w+: .*bool\b").unwrap();
    let item = lines.iter().find(|line| !is_doc(line) && !line.trim_start().starts_with("#["));
    item.is_some_and(|item| field.is_match(item))
}

#[test]
fn what_does_not_keep_to_the_glossary_is_found() {
    let text = "/// What it is.\n/// Where nothing continues is no opening.\nfn a() {}\n\
                /// Whether it holds.\nfn holds() -> bool {}\n\
                struct B {\n    /// Whether it holds.\n    #[serde(default)]\n    pub holds: bool,\n}\n\
                let told = 1; // It is told.\n";
    let found = complaints(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("1: ") && found[0].ends_with("`What`"), "{found:?}");
    assert!(found[1].starts_with("4: ") && found[1].ends_with("`Whether`"), "{found:?}");
    assert_eq!(
        found[2],
        "11: `told`; write instead: report, notify, ask, give, distinguish, determine"
    );
}
