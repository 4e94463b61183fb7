//! A saved run: everything needed to judge it again without running anything.
//!
//! One folder a system: `system.json` (who is who, the cases and what the ledgers said) and `attempts.jsonl` (what reached
//! the intake, raw). Secrets are not in it: the intake redacts them before anything is kept.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::facts::{self, Facts};
use crate::{
    case::{Capability, Case, Evidence, LedgerReport, Topology, View},
    evidence,
    intake::{
        attempt::Attempt,
        client::IntakeClient,
        decode::{self, DEFAULT_MAX_DECODED},
        store::{Bounds, Store},
    },
    judge,
    scenario::Scenario,
    session::Session,
    stats::{self, Captured},
    strays::Strays,
    trace::{Trace, TraceId},
    verdict::ScenarioResult,
};

/// Name of the file with the cases.
const SYSTEM_FILE: &str = "system.json";
/// Name of the file with the attempts.
const ATTEMPTS_FILE: &str = "attempts.jsonl";
/// Version of the form; a reader refuses another.
const FORM: u32 = 1;

/// Why a run could not be saved or read.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A file or folder cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A file is not of the form that this version writes.
    #[error("{path}:{line}: not a saved run of this version: {reason}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// There is nothing in the folder.
    #[error(
        "{path} holds no saved run: it has no folder `system-…`; name the folder that `tracecheck run --save` was given"
    )]
    Empty {
        /// Which folder.
        path: PathBuf,
    },
}

/// One system of a saved run, but for its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSystem {
    form: u32,
    topology: Topology,
    capabilities: Vec<Capability>,
    claims: Vec<TraceId>,
    scenarios: Vec<SavedScenario>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedScenario {
    scenario: Scenario,
    cases: Vec<SavedCase>,
    facts: Facts,
    /// Number of the attempt up to which its stats were judged; `None` where they were not.
    #[serde(default)]
    stats_until: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCase {
    case: Case,
    ledgers: BTreeMap<String, LedgerReport>,
    refused: BTreeMap<String, u64>,
    /// What the source told of its trace; `None` where the attempts tell it.
    #[serde(default)]
    seen: Option<SavedTrace>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTrace {
    trace: Option<Trace>,
    unsettled: Option<String>,
}

/// What is kept of one scenario.
pub(super) struct Kept<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) cases: &'a [Case],
    pub(super) ledgers: &'a [BTreeMap<String, LedgerReport>],
    pub(super) facts: &'a Facts,
    pub(super) stats_until: Option<u64>,
}

/// Saves one system's evidence into `dir`, with the logs of its workloads.
pub(super) async fn save<'a>(
    dir: &Path,
    session: &Session,
    kept: impl Iterator<Item = Kept<'a>>,
) -> Result<(), SavedError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| SavedError::Io { path: dir.to_owned(), source })?;
    let source = session.source();
    let refused = source.refused();
    // The intake's attempts are kept whole, below; of another source only the traces are.
    let seen = |case: &Case| {
        session.intake().is_none().then(|| SavedTrace {
            trace: source.trace(case.trace_id),
            unsettled: source.unsettled(case.trace_id),
        })
    };
    let scenarios = kept.map(|kept| {
        let cases = kept.cases.iter().zip(kept.ledgers).map(|(case, ledgers)| SavedCase {
            case: case.clone(),
            ledgers: ledgers.clone(),
            refused: refused.clone(),
            seen: seen(case),
        });
        SavedScenario {
            cases: cases.collect(),
            scenario: kept.scenario.clone(),
            facts: kept.facts.clone(),
            stats_until: kept.stats_until,
        }
    });
    let scenarios = scenarios.collect();
    let capabilities = session.capabilities();
    let system = SavedSystem {
        form: FORM,
        topology: session.topology().clone(),
        capabilities,
        claims: session.claims(),
        scenarios,
    };
    write(&dir.join(SYSTEM_FILE), |out| {
        serde_json::to_writer_pretty(&mut *out, &system)?;
        writeln!(out)
    })?;
    write(&dir.join(ATTEMPTS_FILE), |out| {
        for attempt in session.intake().map_or_else(Vec::new, IntakeClient::attempts) {
            serde_json::to_writer(&mut *out, attempt.as_ref())?;
            writeln!(out)?;
        }
        Ok(())
    })?;
    session.collect_logs(dir).await.map_err(|error| SavedError::Io {
        path: dir.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })
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

/// A system of a saved run with its evidence, ready to be judged again.
pub struct Replay {
    system: SavedSystem,
    store: Store,
}

/// Reads a saved run: every `system-…` folder in `dir`, by name.
///
/// # Errors
///
/// When there is none, or a file cannot be read.
pub fn read(dir: &Path) -> Result<Vec<Replay>, SavedError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| SavedError::Io { path: dir.to_owned(), source })?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join(SYSTEM_FILE).is_file());
    folders.sort();
    if folders.is_empty() {
        return Err(SavedError::Empty { path: dir.to_owned() });
    }
    folders.iter().map(|folder| Replay::read(folder)).collect()
}

impl Replay {
    fn read(dir: &Path) -> Result<Self, SavedError> {
        let path = dir.join(SYSTEM_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SavedError::Io { path: path.clone(), source })?;
        let system: SavedSystem = serde_json::from_str(&text).map_err(|error| {
            SavedError::Form { path: path.clone(), line: error.line(), reason: error.to_string() }
        })?;
        if system.form != FORM {
            let reason = format!("its form is {}, this version reads {FORM}", system.form);
            return Err(SavedError::Form { path, line: 1, reason });
        }
        let path = dir.join(ATTEMPTS_FILE);
        let file =
            File::open(&path).map_err(|source| SavedError::Io { path: path.clone(), source })?;
        let mut store = Store::new(Bounds { max_bytes: usize::MAX, max_attempts: usize::MAX });
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|source| SavedError::Io { path: path.clone(), source })?;
            let attempt: Attempt = serde_json::from_str(&line).map_err(|error| {
                SavedError::Form { path: path.clone(), line: index + 1, reason: error.to_string() }
            })?;
            let decoded = decode::decode(&attempt, DEFAULT_MAX_DECODED);
            store.insert(attempt, decoded, Instant::now());
        }
        Ok(Self { system, store })
    }

    /// What was captured for a trace.
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        let cases = self.system.scenarios.iter().flat_map(|scenario| &scenario.cases);
        let mut seen = cases.filter_map(|case| case.seen.as_ref()?.trace.as_ref());
        let seen = seen.find(|trace| trace.id == id).cloned();
        seen.or_else(|| self.store.trace(id))
    }

    /// As the runner does it, from what there was then.
    fn judge_stats(&self, saved: &SavedScenario, result: &mut ScenarioResult) {
        let scenario = &saved.scenario;
        let has_payloads = self.system.capabilities.contains(&Capability::RawPayloads);
        let store = has_payloads.then_some(&self.store);
        let found = stats::judge_trace_metrics(scenario.expect.trace_metrics, store);
        result.failures.extend(found.failures);
        result.not_evaluated.extend(found.not_evaluated);
        if !self.system.capabilities.contains(&Capability::Stats) {
            result.not_evaluated.push(stats::unseen(scenario.expect.stats.is_some()));
            return;
        }
        let captured = Captured::until(&self.store, saved.stats_until.unwrap_or(u64::MAX));
        match (&scenario.expect.stats, saved.stats_until) {
            (Some(expect), Some(_)) => {
                let traces = saved.cases.iter().map(|saved| saved.case.trace_id).collect();
                let tolerated = |rule: &str| scenario.tolerate.contains_key(rule);
                let capabilities = &self.system.capabilities;
                let findings = stats::judge(expect, &captured, &traces, capabilities, tolerated);
                result.failures.extend(findings.failures);
                result.not_evaluated.extend(findings.not_evaluated);
            }
            (Some(_), None) => result.not_evaluated.push(stats::not_reached()),
            (None, _) => result.not_evaluated.push(stats::not_asked(&captured)),
        }
    }

    /// Judges every scenario of this system again.
    pub fn judge(&self) -> Vec<ScenarioResult> {
        let claims: HashSet<TraceId> = self.system.claims.iter().copied().collect();
        let strays = Strays::new(evidence::unclaimed(&self.store, &claims));
        let topology = &self.system.topology;
        let judge_scenario = |saved: &SavedScenario| {
            let scenario = &saved.scenario;
            let mut result = ScenarioResult::undecided(&scenario.name, &scenario.description, "");
            result.undecided.clear();
            for saved in &saved.cases {
                let case = &saved.case;
                let shape = judge::shape(scenario, &scenario.requests[case.request]);
                let (trace, unsettled) = match &saved.seen {
                    Some(seen) => (seen.trace.clone(), seen.unsettled.clone()),
                    None => (self.store.trace(case.trace_id), None),
                };
                let evidence = Evidence {
                    trace,
                    ledgers: saved.ledgers.clone(),
                    strays: strays.during(case),
                    capabilities: self.system.capabilities.clone(),
                    refused: saved.refused.clone(),
                    ended: Vec::new(),
                    unsettled,
                };
                let findings = judge::judge(scenario, case, &evidence, topology, &shape);
                let view = View { case, evidence: &evidence, topology, shape: &shape };
                result.cases.push(judge::result(scenario, view, findings, None));
            }
            self.judge_stats(saved, &mut result);
            let cases: Vec<Case> = saved.cases.iter().map(|saved| saved.case.clone()).collect();
            facts::conclude(scenario, &cases, topology, &saved.facts, &mut result);
            result
        };
        self.system.scenarios.iter().map(judge_scenario).collect()
    }
}
