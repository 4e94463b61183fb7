//! A run while it goes on, as the page of the report shows it: put together anew whenever the page asks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;
use tokio::sync::watch;

use super::{Book, Index, LedgerView, ScenarioView, ServiceMap, now, of_case, of_stray, relation};
use crate::{
    event::Event,
    intake::{
        attempt::Attempt,
        client::IntakeClient,
        page::{Row, Sent, TraceView, serve::Shown},
    },
    record::Record,
    report::Reporter,
    run::Watch,
    trace::{Span, Trace, TraceId},
    verdict::{ScenarioResult, Summary},
};

/// The verdict of what has none yet.
const RUNNING: &str = "running";

/// A run that goes on, or is over, for the page.
#[derive(Debug, Clone)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Number of changes; wakes the pages.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    at: u64,
    run: String,
    environment: String,
    /// Scenarios that are not judged yet, each with how far it is.
    running: BTreeMap<String, Progress>,
    judged: BTreeMap<String, (ScenarioResult, Option<Record>)>,
    systems: Vec<SystemOf>,
    warnings: Vec<String>,
    summary: Option<Summary>,
}

#[derive(Debug)]
struct Progress {
    requests: u32,
    text: String,
}

/// Attempts of the system of some scenarios.
#[derive(Debug)]
struct SystemOf {
    scenarios: Vec<String>,
    attempts: Attempts,
}

#[derive(Debug)]
enum Attempts {
    /// It is up, and more may come.
    Up(Arc<IntakeClient>),
    /// It is down, and these are all of them.
    Down(HashMap<u64, Arc<Attempt>>),
}

/// A trace that nobody judged.
#[derive(Serialize)]
struct Unjudged {
    trace: TraceView,
}

impl Default for Board {
    fn default() -> Self {
        let state = State {
            began: Instant::now(),
            at: now(),
            run: String::new(),
            environment: String::new(),
            running: BTreeMap::new(),
            judged: BTreeMap::new(),
            systems: Vec::new(),
            warnings: Vec::new(),
            summary: None,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(0) }))
    }
}

impl Shared {
    /// A change is whole or not begun, so a panic elsewhere is no reason to stop.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state());
        self.0.wake();
    }
}

impl Reporter for Board {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        self.change(|state| match event {
            Event::RunStarted { run_id, environment, .. } => {
                (state.run, state.environment) = (run_id.clone(), environment.clone());
            }
            Event::ScenarioStarted { name, requests } => {
                let progress = Progress { requests: *requests, text: "it runs".to_owned() };
                state.running.insert(name.clone(), progress);
            }
            Event::CaseJudged { name, judged } => {
                if let Some(progress) = state.running.get_mut(name) {
                    progress.text =
                        format!("{judged} of {} requests are judged", progress.requests);
                }
            }
            Event::ScenarioFinished { result } | Event::VerdictRevised { result, .. } => {
                state.take(result, None);
            }
            Event::Warning { text, .. } => state.warnings.push(text.clone()),
            Event::RunFinished { summary } => {
                for result in &summary.scenarios {
                    state.take(result, None);
                }
                state.running.clear();
                state.summary = Some((**summary).clone());
            }
            Event::SystemReady { .. } | Event::Usage { .. } | Event::Compared { .. } => {}
        });
        Ok(())
    }
}

impl Watch for Board {
    fn up(&self, scenarios: &[String], intake: &Arc<IntakeClient>) {
        let mut more = intake.changed();
        let board = self.clone();
        // Ends with the intake's client.
        tokio::spawn(async move {
            while more.changed().await.is_ok() {
                board.0.wake();
            }
        });
        let attempts = Attempts::Up(Arc::clone(intake));
        self.change(|state| {
            state.systems.push(SystemOf { scenarios: scenarios.to_vec(), attempts });
        });
    }

    fn judged(&self, record: &Record, result: &ScenarioResult) {
        self.change(|state| state.take(result, Some(record)));
    }

    fn down(&self, scenarios: &[String]) {
        self.change(|state| {
            for system in state.systems.iter_mut().filter(|system| system.scenarios == scenarios) {
                if let Attempts::Up(intake) = &system.attempts {
                    let all = intake.attempts().into_iter();
                    system.attempts =
                        Attempts::Down(all.map(|attempt| (attempt.seq, attempt)).collect());
                }
            }
        });
    }
}

impl Shown for Board {
    fn index(&self) -> io::Result<Vec<u8>> {
        let state = self.0.state();
        Ok(serde_json::to_vec(&state.index()?)?)
    }

    fn trace(&self, id: TraceId) -> io::Result<Option<Vec<u8>>> {
        self.0.state().trace(id)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl State {
    /// Takes a verdict, which may be another one than before.
    fn take(&mut self, result: &ScenarioResult, record: Option<&Record>) {
        self.running.remove(&result.name);
        let (last, known) =
            self.judged.entry(result.name.clone()).or_insert_with(|| (result.clone(), None));
        last.clone_from(result);
        if let Some(record) = record {
            *known = Some(record.clone());
        }
    }

    fn index(&self) -> io::Result<Index<'_>> {
        let mut book = Book::default();
        for (result, record) in self.judged.values() {
            book.add(result, record.as_ref(), &Sent::default())?;
        }
        let running = self.running.iter();
        book.scenarios.extend(running.map(|(name, progress)| ScenarioView {
            name,
            description: &progress.text,
            verdict: RUNNING,
            took_ms: 0,
            revised_from: None,
            failures: &[],
            reasons: Vec::new(),
            not_evaluated: Vec::new(),
            first_failure: None,
            failing_traces: 0,
            requests: progress.requests as usize,
            spans: 0,
            file: None,
            ledger: None,
            whole_system: None,
            stats: None,
            map: ServiceMap::default().written(),
        }));
        let known: HashSet<TraceId> = book.rows.iter().map(|row| row.id).collect();
        let mut new = Vec::new();
        for system in &self.systems {
            let Attempts::Up(intake) = &system.attempts else { continue };
            intake.with_store(|store| {
                for (id, spans) in store.traces().filter(|(id, _)| !known.contains(id)) {
                    let spans = spans.iter().map(AsRef::as_ref);
                    book.map.add(spans.clone(), |span| &span.service);
                    new.push(Row::new(id, spans, &mut book.services));
                }
            });
        }
        new.sort_by(|one, other| other.start.total_cmp(&one.start));
        new.append(&mut book.rows);
        let summary = self.summary.as_ref();
        Ok(Index {
            kind: "run",
            version: env!("CARGO_PKG_VERSION"),
            run: &self.run,
            environment: &self.environment,
            at: self.at,
            took_ms: summary.map_or_else(
                || u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
                |summary| summary.took_ms,
            ),
            verdict: summary.map_or(RUNNING, |summary| summary.verdict().name()),
            undecided: summary.map_or(&[], |summary| &summary.undecided),
            warnings: summary.map_or(&self.warnings, |summary| &summary.warnings),
            notes: summary.map_or(&[], |summary| &summary.notes),
            services: book.services,
            scenarios: book.scenarios,
            traces: new,
            map: book.map.written(),
            left_out: 0,
        })
    }

    fn trace(&self, id: TraceId) -> io::Result<Option<Vec<u8>>> {
        for (number, (result, record)) in self.judged.values().enumerate() {
            let Some(record) = record else { continue };
            let mut cases = record.cases.iter().zip(&result.cases);
            if let Some((of, case)) = cases.find(|(of, _)| of.case.trace_id == id) {
                let apart = record.strays.iter().map(|stray| &stray.trace);
                let spans = of.evidence.trace.iter().chain(apart).flat_map(|trace| &trace.spans);
                let sent = self.sent(&result.name, spans);
                let ledger = LedgerView::new(record, of);
                let detail = of_case(number, (record, of, case), ledger, &sent);
                return Ok(Some(serde_json::to_vec(&detail)?));
            }
            if let Some(stray) = record.strays.iter().find(|stray| stray.trace.id == id) {
                let sent = self.sent(&result.name, stray.trace.spans.iter());
                let request = relation(stray);
                let detail = of_stray(number, stray, &request, &sent);
                return Ok(Some(serde_json::to_vec(&detail)?));
            }
        }
        for system in &self.systems {
            let Attempts::Up(intake) = &system.attempts else { continue };
            if let Some(trace) = intake.trace(id) {
                let sent = system.sent(trace.spans.iter());
                return Ok(Some(serde_json::to_vec(&unjudged(&trace, &sent))?));
            }
        }
        Ok(None)
    }

    /// Returns what was sent around spans of a scenario.
    fn sent<'a>(&self, scenario: &str, spans: impl Iterator<Item = &'a Span>) -> Sent {
        let mut systems = self.systems.iter();
        let system = systems.find(|system| system.scenarios.iter().any(|name| name == scenario));
        system.map(|system| system.sent(spans)).unwrap_or_default()
    }
}

impl SystemOf {
    fn sent<'a>(&self, spans: impl Iterator<Item = &'a Span>) -> Sent {
        let wanted: HashSet<u64> = spans.map(|span| span.attempt).collect();
        let mut sent = Sent::default();
        for seq in wanted {
            let attempt = match &self.attempts {
                Attempts::Up(intake) => intake
                    .with_store(|store| store.entry(seq).map(|entry| Arc::clone(&entry.attempt))),
                Attempts::Down(all) => all.get(&seq).cloned(),
            };
            if let Some(attempt) = attempt {
                sent.add(&attempt);
            }
        }
        sent
    }
}

fn unjudged(trace: &Trace, sent: &Sent) -> Unjudged {
    let base = trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    Unjudged { trace: TraceView::new(trace, base, sent) }
}

#[cfg(test)]
mod tests;
