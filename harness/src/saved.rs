//! A saved run: the records of its scenarios, to be judged again without running anything.
//!
//! One folder a system: `system.json` (the records), `attempts.jsonl` (what reached the intake, raw, for people and other
//! programs) and the logs of its workloads. Secrets are not in it: the intake redacts them before anything is kept.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{
    intake::{
        attempt::Attempt,
        client::IntakeClient,
        decode::{self, DEFAULT_MAX_DECODED},
        store::{Bounds, Store},
    },
    record::{Record, SystemFacts},
    session::Session,
    strays::Nobodys,
    trace::{Trace, TraceId},
    verdict::ScenarioResult,
};

mod run;

pub use self::run::SavedRun;

/// Name of the file with the records.
const SYSTEM_FILE: &str = "system.json";
/// Name of the file with the attempts.
const ATTEMPTS_FILE: &str = "attempts.jsonl";
/// Name of the file with the results of scenarios that have no record.
const NOT_JUDGED_FILE: &str = "not-judged.json";
/// Version of the form; a reader refuses another.
const FORM: u32 = 4;

/// Error for a run that cannot be saved or read.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A file or folder cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not of the form that this version writes.
    #[error("{path}:{line}: not a saved run of this version: {reason}")]
    Form {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The problem.
        reason: String,
    },
    /// A file was written whole, and is not any more.
    #[error(
        "{path}:{line}: {reason}: the saved run was cut off; copy it whole, or run once more with `--save`"
    )]
    CutOff {
        /// Path of the file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The problem.
        reason: String,
    },
    /// There is nothing in the folder.
    #[error(
        "{path} holds no saved run: it has no folder `system-…`; name the folder that `tracecheck run --save` was given"
    )]
    Empty {
        /// Path of the folder.
        path: PathBuf,
    },
}

/// The content of `system.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct System<Records, Facts, Strays> {
    form: u32,
    scenarios: Records,
    /// How many attempts were written; absent in runs that older programs saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<usize>,
    facts: Facts,
    /// Captured traces that belong to no request.
    nobodys: Strays,
}

/// The part of it that every version has.
#[derive(Debug, Deserialize)]
struct Form {
    form: u32,
}

/// Saves the records of one system's scenarios into `dir`, with the raw attempts and the logs of its workloads. Returns the number of
/// attempts.
pub(crate) async fn save(
    dir: &Path,
    session: &Session,
    records: &[&Record],
    of_system: (&SystemFacts, &Nobodys),
) -> Result<usize, SavedError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| SavedError::Io { path: dir.to_owned(), source })?;
    let attempts = session.intake().map_or_else(Vec::new, IntakeClient::attempts);
    write_records(dir, records, of_system, attempts.len())?;
    write(&dir.join(ATTEMPTS_FILE), |out| {
        for attempt in &attempts {
            serde_json::to_writer(&mut *out, attempt.as_ref())?;
            writeln!(out)?;
        }
        Ok(())
    })?;
    session.up().collect_logs(dir).await.map_err(|error| SavedError::Io {
        path: dir.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(attempts.len())
}

/// Writes the records alone, in the place of those that were saved before.
pub(crate) fn write_records(
    dir: &Path,
    records: &[&Record],
    (facts, nobodys): (&SystemFacts, &Nobodys),
    attempts: usize,
) -> Result<(), SavedError> {
    let attempts = Some(attempts);
    write(&dir.join(SYSTEM_FILE), |out| {
        let system = System { form: FORM, scenarios: records, attempts, facts, nobodys };
        serde_json::to_writer(&mut *out, &system)?;
        writeln!(out)
    })
}

/// Writes the results of scenarios that have no record into the folder of a saved run: those that were skipped, whose system did not come
/// up, or that were not reached. Without them a run that was cut short would be judged again as one that passed.
pub(crate) fn write_not_judged(dir: &Path, results: &[ScenarioResult]) -> Result<(), SavedError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| SavedError::Io { path: dir.to_owned(), source })?;
    write(&dir.join(NOT_JUDGED_FILE), |out| {
        serde_json::to_writer(&mut *out, results)?;
        writeln!(out)
    })
}

/// Reads the results of a saved run's scenarios that have no record. There are none where an older program saved it.
///
/// # Errors
///
/// When the file is there and cannot be read.
fn read_not_judged(dir: &Path) -> Result<Vec<ScenarioResult>, SavedError> {
    if dir.is_file() {
        return Err(SavedError::Empty { path: dir.to_owned() });
    }
    let path = dir.join(NOT_JUDGED_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            serde_json::from_str(&text).map_err(|error| unreadable(&path, error.line(), &error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(SavedError::Io { path, source }),
    }
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), SavedError> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush()
    });
    written.map_err(|source| SavedError::Io { path: path.to_owned(), source })
}

/// A system of a saved run.
#[derive(Debug)]
pub struct SavedSystem {
    dir: PathBuf,
    records: Vec<Record>,
    attempts: Option<usize>,
    facts: SystemFacts,
    nobodys: Nobodys,
}

/// Reads a saved run: every `system-…` folder in `dir`, by number.
///
/// # Errors
///
/// When there is none, or a file cannot be read.
pub fn read(dir: &Path) -> Result<Vec<SavedSystem>, SavedError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| SavedError::Io { path: dir.to_owned(), source })?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join(SYSTEM_FILE).is_file());
    // By their numbers, of which a longer one is a greater one.
    folders.sort_by_key(|folder| (folder.as_os_str().len(), folder.clone()));
    if folders.is_empty() {
        return Err(SavedError::Empty { path: dir.to_owned() });
    }
    folders.into_iter().map(SavedSystem::read).collect()
}

impl SavedSystem {
    fn read(dir: PathBuf) -> Result<Self, SavedError> {
        let path = dir.join(SYSTEM_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SavedError::Io { path: path.clone(), source })?;
        let refuse =
            |line: usize, reason: String| SavedError::Form { path: path.clone(), line, reason };
        let unreadable = |error: serde_json::Error| unreadable(&path, error.line(), &error);
        let other = |form: u32| refuse(1, format!("its form is {form}, this version reads {FORM}"));
        let system = serde_json::from_str(&text).map_err(|error| {
            // One of another form may have anything else in it.
            match serde_json::from_str(&text) {
                Ok(Form { form }) if form != FORM => other(form),
                _ => unreadable(error),
            }
        });
        drop(text);
        let system: System<Vec<Record>, SystemFacts, Nobodys> = system?;
        if system.form != FORM {
            return Err(other(system.form));
        }
        for Record { scenario, cases, .. } in &system.scenarios {
            let requests = scenario.requests.len();
            if let Some(strange) = cases.iter().find(|of| of.case.request >= requests) {
                let reason = format!(
                    "scenario `{}` has a case of request {}, and {requests} requests",
                    scenario.name, strange.case.request
                );
                return Err(refuse(1, reason));
            }
        }
        let System { scenarios: records, attempts, facts, nobodys, .. } = system;
        Ok(Self { dir, records, attempts, facts, nobodys })
    }

    /// Returns the records of the system's scenarios.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the facts about the system that belong to none of its scenarios.
    pub fn facts(&self) -> &SystemFacts {
        &self.facts
    }

    /// Returns the captured traces that belong to no request.
    pub fn nobodys(&self) -> &Nobodys {
        &self.nobodys
    }

    /// Reads the attempts one after the other; none where there was no mock intake.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are not all there.
    pub fn each_attempt(&self, mut take: impl FnMut(Attempt)) -> Result<(), SavedError> {
        let path = self.dir.join(ATTEMPTS_FILE);
        let file =
            File::open(&path).map_err(|source| SavedError::Io { path: path.clone(), source })?;
        let mut read = 0;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|source| SavedError::Io { path: path.clone(), source })?;
            read += 1;
            take(serde_json::from_str(&line).map_err(|error| unreadable(&path, read, &error))?);
        }
        match self.attempts {
            Some(all) if read < all => {
                let reason = format!("it ends after {read} of {all} attempts");
                Err(SavedError::CutOff { path, line: read, reason })
            }
            _ => Ok(()),
        }
    }

    /// Returns the captured spans of a trace.
    ///
    /// # Errors
    ///
    /// When the attempts cannot be read.
    pub fn trace(&self, id: TraceId) -> Result<Option<Trace>, SavedError> {
        let captured = self.store()?.trace(id);
        let cases = self.records.iter().flat_map(|record| &record.cases);
        // Where there was no mock intake there are no attempts.
        let mut seen = cases.filter_map(|of| of.evidence.trace.as_ref());
        Ok(captured.or_else(|| seen.find(|trace| trace.id == id).cloned()))
    }

    fn store(&self) -> Result<Store, SavedError> {
        let mut store = Store::new(Bounds { max_bytes: usize::MAX, max_attempts: usize::MAX });
        self.each_attempt(|attempt| {
            let decoded = decode::decode(&attempt, DEFAULT_MAX_DECODED);
            store.insert(attempt, decoded, Instant::now());
        })?;
        Ok(store)
    }
}

/// The error for a line that cannot be read.
fn unreadable(path: &Path, line: usize, error: &serde_json::Error) -> SavedError {
    let (path, line) = (path.to_owned(), line.max(1));
    match error.is_eof() {
        true => SavedError::CutOff { path, line, reason: "it ends in the middle".to_owned() },
        false => SavedError::Form { path, line, reason: error.to_string() },
    }
}

/// Saved runs for other modules' tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Saves records as a run does that captured no attempt.
    pub(crate) fn write(dir: &Path, records: &[&Record], nobodys: &Nobodys) {
        write_records(dir, records, (&SystemFacts::default(), nobodys), 0).unwrap();
        std::fs::write(dir.join(ATTEMPTS_FILE), "").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{judge, testing::World};

    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SYSTEM_FILE), text).unwrap();
        let error = SavedSystem::read(dir.path().to_owned()).unwrap_err().to_string();
        error.split_once(SYSTEM_FILE).unwrap().1.to_owned()
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_to_the_same_verdict() {
        let mut world = World::healthy();
        world.lose("app-2");
        let dir = tempfile::tempdir().unwrap();
        let gaps = vec!["3 attempts".to_owned()];
        let facts = SystemFacts { name: "the shop".to_owned(), gaps, ..SystemFacts::default() };
        let nobodys = Nobodys::default();
        write_records(dir.path(), &[&world.record], (&facts, &nobodys), 0).unwrap();
        let read = SavedSystem::read(dir.path().to_owned()).unwrap();
        assert_eq!(read.records(), std::slice::from_ref(&world.record));
        assert_eq!((read.facts(), read.nobodys()), (&facts, &nobodys));
        assert_eq!(judge(&read.records()[0]), judge(&world.record));
    }

    #[test]
    fn what_is_no_saved_run_of_this_version_is_refused_with_the_place() {
        assert_eq!(
            refused("{\"form\": 1, \"claims\": []}"),
            ":1: not a saved run of this version: its form is 1, this version reads 4"
        );
        assert!(refused("{\"form\": 4,\n\"scenarios\": 7}").starts_with(":2: not a saved run"));
        assert!(refused("[").starts_with(":1: it ends in the middle: the saved run was cut off"));
        let mut record = World::healthy().record;
        record.cases[0].case.request = 5;
        let (facts, nobodys) = (SystemFacts::default(), Nobodys::default());
        let system = System { form: FORM, scenarios: [record], attempts: None, facts, nobodys };
        let text = serde_json::to_string(&system).unwrap();
        assert!(refused(&text).contains("has a case of request 5, and 1 requests"));
    }
}
