//! Configs: who accepts them, and what each setting is then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::generate::{Case, base, cases};
use crate::meant::{Kind, Meant};
use crate::program::{Verdict, print_config};
use crate::{CASES, SEED, asked, newest};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");

/// Answers of both to a config, and of ours to the Collector's print of it.
struct Both {
    ours: Verdict,
    theirs: Verdict,
    printed: Option<Verdict>,
}

#[test]
fn configs_are_read_as_by_the_newest_collector() {
    let newest = newest();
    let (seed, is_usual_seed) = asked("NEWEST_SEED", SEED);
    let (count, is_usual_count) = asked("NEWEST_CASES", CASES);
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Case> = std::iter::once(base()).chain(cases(seed, count)).collect();
    let verdicts = ask_all(&newest, folder.path(), &all);
    let mut meant = Meant::read();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (case, both) in all.iter().zip(verdicts) {
        let what = match (&both.ours, &both.theirs) {
            (Verdict::Accepts(ours), Verdict::Accepts(theirs)) => {
                compare(ours, theirs, &mut meant, case);
                "both accept"
            }
            (Verdict::Refuses(why), Verdict::Accepts(_)) => {
                note_findings(Kind::OursRefuses, why, &mut meant, case);
                "ours refuses"
            }
            (Verdict::Accepts(_), Verdict::Refuses(why)) => {
                meant.note(Kind::OursAccepts, why.trim(), &case.to_string());
                "ours accepts"
            }
            (Verdict::Refuses(_), Verdict::Refuses(_)) => "both refuse",
        };
        *counts.entry(what).or_default() += 1;
        if let Some(Verdict::Refuses(why)) = &both.printed {
            note_findings(Kind::Printed, why, &mut meant, case);
        }
        if case.laid.is_empty() {
            assert!(
                both.ours.is_accepted() && both.theirs.is_accepted(),
                "{:?} {:?}",
                both.ours,
                both.theirs
            );
        }
    }
    println!("seed {seed}, {count} configs: {counts:?}");
    let kinds = [Kind::OursRefuses, Kind::OursAccepts, Kind::Value, Kind::Printed];
    meant.settle(&kinds, is_usual_seed && is_usual_count);
    assert!(counts["both accept"] > count / 4 && counts["both refuse"] > count / 8, "{counts:?}");
}

/// Asks both, on all cores.
fn ask_all(newest: &Path, folder: &Path, cases: &[Case]) -> Vec<Both> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut answers: Vec<(usize, Both)> = std::thread::scope(|scope| {
        let ask = || {
            let mut answers = Vec::new();
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                answers.push((case.number, ask(newest, folder, case)));
            }
            answers
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, both)| both).collect()
}

fn ask(newest: &Path, folder: &Path, case: &Case) -> Both {
    let files: Vec<PathBuf> = case
        .sources()
        .iter()
        .enumerate()
        .map(|(index, source)| {
            let file = folder.join(format!("{}-{index}.yaml", case.number));
            std::fs::write(&file, source).unwrap();
            file
        })
        .collect();
    let ours = print_config(Path::new(OURS), &["collector"], &files);
    let theirs = print_config(newest, &[], &files);
    let printed = match (&ours, &theirs) {
        (Verdict::Accepts(_), Verdict::Accepts(theirs)) => {
            let file = folder.join(format!("{}-printed.yaml", case.number));
            std::fs::write(&file, with_units(theirs).to_string()).unwrap();
            Some(print_config(Path::new(OURS), &["collector"], &[file]))
        }
        _ => None,
    };
    Both { ours, theirs, printed }
}

/// Returns what the Collector prints as YAML: durations have units there, and are nanoseconds in its JSON, where they are the only numbers of
/// that size.
fn with_units(value: &Value) -> Value {
    match value {
        Value::Number(number)
            if number.as_i64().is_some_and(|nanos| nanos % 1_000 == 0 && nanos > 1_000_000) =>
        {
            Value::String(format!("{number}ns"))
        }
        Value::Array(items) => items.iter().map(with_units).collect(),
        Value::Object(entries) => Value::Object(
            entries.iter().map(|(key, value)| (key.clone(), with_units(value))).collect(),
        ),
        other => other.clone(),
    }
}

/// Notes each finding of a message of ours.
fn note_findings(kind: Kind, why: &str, meant: &mut Meant, case: &Case) {
    let findings: Vec<_> = why.lines().filter(|line| line.starts_with("  ")).collect();
    match findings.as_slice() {
        [] => meant.note(kind, why.trim(), &case.to_string()),
        findings => findings.iter().for_each(|line| {
            // Without the place, whose folder is another one each time.
            let text = line.split_once(": `").map_or(*line, |(_, finding)| finding);
            meant.note(kind, text, &case.to_string());
        }),
    }
}

/// Compares each setting that both have.
fn compare(ours: &Value, theirs: &Value, meant: &mut Meant, case: &Case) {
    let (mut mine, mut others) = (BTreeMap::new(), BTreeMap::new());
    leaves(ours, "", &mut mine);
    leaves(theirs, "", &mut others);
    for (path, ours) in &mine {
        if let Some(theirs) = others.get(path)
            && !is_same(ours, theirs)
        {
            meant.note(
                Kind::Value,
                &format!("{path}: ours {ours}, theirs {theirs}"),
                &case.to_string(),
            );
        }
    }
}

fn leaves<'a>(value: &'a Value, path: &str, found: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => entries.iter().for_each(|(key, value)| {
            leaves(value, format!("{path}/{key}").trim_start_matches('/'), found);
        }),
        other => {
            found.insert(path.to_owned(), other);
        }
    }
}

/// Returns whether values mean the same: durations are text here and nanoseconds there, words are in any case, and what is not set is
/// nothing, empty or zero.
fn is_same(ours: &Value, theirs: &Value) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(is) => !is,
    };
    match (ours, theirs) {
        (Value::String(ours), Value::String(theirs)) => ours.eq_ignore_ascii_case(theirs),
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        (Value::String(ours), Value::Number(nanos)) => {
            nanos_of(ours).is_some() && nanos_of(ours) == nanos.as_f64()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => ours
            .iter()
            .all(|(key, ours)| theirs.get(key).is_none_or(|theirs| is_same(ours, theirs))),
        (ours, theirs) => ours == theirs || is_nothing(ours) && is_nothing(theirs),
    }
}

/// The nanoseconds of a duration in Go's notation.
fn nanos_of(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let number = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let unit =
            rest[number..].find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len() - number);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == &rest[number..number + unit])?;
        nanos += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[number + unit..];
    }
    Some(nanos.round())
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "config {}", self.number)?;
        self.laid.iter().try_for_each(|(key, value)| write!(out, " · {key}: {value}"))
    }
}
