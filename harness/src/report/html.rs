//! The HTML report: one file with everything that is known of a run, for people.
//!
//! It is made of the results and of the records that were saved, so that a run and a saved run that is judged again come to the same
//! page. The page itself is `intake::page`'s.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use self::{
    detail::{Apart, Detail},
    ledger::LedgerView,
    stats::StatsView,
};
use super::plain;
use crate::{
    case::{Origin, Stray, Topology},
    finding::Failure,
    intake::page::{self, Blocks, Names, Row, Sent, TraceView},
    record::{CaseRecord, Record},
    saved::{SavedError, SavedSystem},
    trace::{Trace, TraceId},
    verdict::{CaseResult, ScenarioResult, Summary, Verdict},
};
use harness_core::service_map::{ServiceMap, Written as WrittenMap};

mod comparison;
mod detail;
mod ledger;
pub mod live;
mod stats;
#[cfg(test)]
mod tests;

pub use self::comparison::write_comparison;

/// Most bytes of JSON of traces; what is more is left out, and counted.
const MAX_TRACES: usize = 512 << 20;
/// Most characters of a failure in lists.
const MAX_FAILURE: usize = 400;

/// Error for a report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HtmlError {
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The run that was saved cannot be read.
    #[error(transparent)]
    Saved(#[from] SavedError),
}

/// A run that is over.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Its results.
    pub summary: &'a Summary,
    /// Name of the environment.
    pub environment: &'a str,
    /// Its systems as they were saved.
    pub systems: &'a [SavedSystem],
}

/// All that the page reads at once.
#[derive(Serialize)]
struct Index<'a> {
    kind: &'static str,
    version: &'static str,
    run: &'a str,
    environment: &'a str,
    /// Milliseconds since the Unix epoch.
    at: u64,
    took_ms: u64,
    verdict: &'static str,
    undecided: &'a [String],
    warnings: &'a [String],
    notes: &'a [String],
    services: Names,
    scenarios: Vec<ScenarioView<'a>>,
    traces: Vec<Row>,
    map: WrittenMap,
    left_out: usize,
}

/// A scenario with its result.
#[derive(Serialize)]
struct ScenarioView<'a> {
    name: &'a str,
    description: &'a str,
    verdict: &'static str,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    revised_from: Option<&'static str>,
    failures: &'a [Failure],
    reasons: Vec<String>,
    not_evaluated: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
    failing_traces: usize,
    requests: usize,
    spans: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<LedgerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<StatsView>,
    map: WrittenMap,
}

/// Writes the report to `path`; returns the number of traces whose spans were left out for lack of room.
///
/// # Errors
///
/// When the file cannot be written, or the saved run cannot be read.
pub fn write(path: &Path, run: Run<'_>) -> Result<usize, HtmlError> {
    let (index, blocks) = put_together(run, MAX_TRACES)?;
    let title = format!("{}: run {} of tracecheck", index.verdict, index.run);
    let mut out = BufWriter::new(File::create(path)?);
    page::write_file(&mut out, &title, &text(run.summary), &index, &blocks)?;
    out.flush()?;
    Ok(blocks.left_out())
}

fn put_together(run: Run<'_>, max_bytes: usize) -> Result<(Index<'_>, Blocks), HtmlError> {
    let Run { summary, environment, systems } = run;
    let mut records = HashMap::new();
    for (number, system) in systems.iter().enumerate() {
        records.extend(system.records().iter().map(|one| (&one.scenario.name, (number, one))));
    }
    let mut book = Book { blocks: Some(Blocks::new(max_bytes)), ..Book::default() };
    let mut order: Vec<&ScenarioResult> = summary.scenarios.iter().collect();
    // What did not pass comes first, so that it has its room.
    order.sort_by_key(|result| std::cmp::Reverse(result.verdict));
    let mut sent: (Option<usize>, Sent) = (None, Sent::default());
    for result in order {
        let record = records.get(&result.name).copied();
        if let Some((number, _)) = record
            && sent.0 != Some(number)
        {
            let mut of_system = Sent::default();
            systems[number].each_attempt(|attempt| of_system.add(&attempt))?;
            sent = (Some(number), of_system);
        }
        book.add(result, record.map(|(_, record)| record), &sent.1)?;
    }
    let mut blocks = book.blocks.take().unwrap_or_else(|| Blocks::new(0));
    blocks.close()?;
    let index = Index {
        kind: "run",
        version: env!("CARGO_PKG_VERSION"),
        run: &summary.run_id,
        environment,
        at: now(),
        took_ms: summary.took_ms,
        verdict: summary.verdict().name(),
        undecided: &summary.undecided,
        warnings: &summary.warnings,
        notes: &summary.notes,
        services: book.services,
        scenarios: book.scenarios,
        traces: book.rows,
        map: book.map.written(),
        left_out: blocks.left_out(),
    };
    Ok((index, blocks))
}

/// The present: milliseconds since the Unix epoch.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A report that is being put together.
#[derive(Default)]
struct Book<'a> {
    services: Names,
    scenarios: Vec<ScenarioView<'a>>,
    rows: Vec<Row>,
    /// The traces themselves; `None` where the page asks for each by its id.
    blocks: Option<Blocks>,
    map: ServiceMap,
}

impl<'a> Book<'a> {
    fn add(
        &mut self,
        result: &'a ScenarioResult,
        record: Option<&'a Record>,
        sent: &Sent,
    ) -> io::Result<()> {
        let (mut map, mut ledger) = (ServiceMap::default(), None);
        if let Some(record) = record {
            let cases: Vec<_> = record.cases.iter().zip(&result.cases).collect();
            // The same for the traces of one scenario.
            let (failing, others): (Vec<_>, Vec<_>) =
                cases.into_iter().partition(|(_, case)| verdict(case) == Verdict::Fail);
            for (of, case) in failing.into_iter().chain(others) {
                let of_case = LedgerView::new(record, of);
                ledger.get_or_insert_with(LedgerView::default).add(&of_case);
                add_to_map(&mut map, &record.topology, of, case);
                self.add_case((record, of, case), of_case, sent)?;
            }
            for stray in &record.strays {
                self.add_stray(stray, sent)?;
            }
        }
        self.map.merge(&map);
        let first = |failures: &[Failure]| failures.first().map(headline);
        let of_cases = || result.cases.iter().find_map(|case| first(&case.findings.failures));
        let is_failing = |case: &&CaseResult| verdict(case) == Verdict::Fail;
        self.scenarios.push(ScenarioView {
            name: &result.name,
            description: &result.description,
            verdict: result.verdict.name(),
            took_ms: result.took_ms,
            revised_from: record
                .and_then(|record| record.facts.first_verdict)
                .filter(|_| result.revised)
                .map(Verdict::name),
            failures: &result.failures,
            reasons: result.reasons(),
            not_evaluated: plain::not_required(result),
            first_failure: first(&result.failures).or_else(of_cases),
            failing_traces: result.cases.iter().filter(is_failing).count(),
            requests: result.cases.len(),
            spans: result.spans(),
            file: record.map(|record| record.scenario.file.display().to_string()),
            ledger,
            whole_system: result.ledger.as_deref(),
            stats: record.and_then(|record| StatsView::new(&record.stats)),
            map: map.written(),
        });
        Ok(())
    }

    fn add_case(
        &mut self,
        (record, of, case): (&Record, &CaseRecord, &CaseResult),
        ledger: LedgerView,
        sent: &Sent,
    ) -> io::Result<()> {
        let none = Trace::new(case.trace_id, Vec::new());
        let trace = of.evidence.trace.as_ref().unwrap_or(&none);
        let row = Row::new(case.trace_id, trace.spans.iter(), &mut self.services);
        let start = if trace.spans.is_empty() { of.case.sent_at as f64 / 1e6 } else { row.start };
        let number = self.scenarios.len();
        let place = match &mut self.blocks {
            Some(blocks) => blocks.add(&of_case(number, (record, of, case), ledger, sent))?,
            None => None,
        };
        self.rows.push(Row {
            start,
            scenario: Some(self.scenarios.len()),
            verdict: Some(verdict(case).name()),
            request: Some(case.request.clone()),
            failure: case.findings.failures.first().map(headline),
            place,
            ..row
        });
        Ok(())
    }

    /// Adds a trace that no request claims as one of its own.
    fn add_stray(&mut self, stray: &Stray, sent: &Sent) -> io::Result<()> {
        let (trace, request) = (&stray.trace, relation(stray));
        let number = self.scenarios.len();
        let place = match &mut self.blocks {
            Some(blocks) => blocks.add(&of_stray(number, stray, &request, sent))?,
            None => None,
        };
        let row = Row::new(trace.id, trace.spans.iter(), &mut self.services);
        let scenario = Some(self.scenarios.len());
        self.rows.push(Row { scenario, request: Some(request), place, ..row });
        Ok(())
    }
}

/// A request's trace, with what was found of it.
fn of_case<'a>(
    scenario: usize,
    (record, of, case): (&Record, &CaseRecord, &'a CaseResult),
    ledger: LedgerView,
    sent: &Sent,
) -> Detail<'a> {
    let none = Trace::new(case.trace_id, Vec::new());
    let trace = of.evidence.trace.as_ref().unwrap_or(&none);
    let base = trace.spans.iter().map(|span| span.start).min().unwrap_or(of.case.sent_at);
    let belongs = |stray: &&Stray| stray.origin.owners().any(|id| id == case.trace_id);
    let strays = record.strays.iter().filter(belongs).take(detail::MAX_APART);
    let apart = strays.map(|stray| Apart {
        relation: relation(stray),
        linked: stray.origin.is_link(),
        trace: TraceView::new(&stray.trace, base, sent),
    });
    Detail {
        trace: TraceView::new(trace, base, sent),
        apart: apart.collect(),
        missing: detail::missing(record, of),
        scenario,
        request: &case.request,
        failures: &case.findings.failures,
        not_evaluated: &case.findings.not_evaluated,
        trees: case.trees.as_ref(),
        ledger: Some(ledger),
        ledger_text: case.ledger.as_deref(),
        virtual_parent: (of.case.context_sent && !of.case.driver_exported)
            .then_some(of.case.driver_span),
    }
}

/// A trace that no request claims as one of its own.
fn of_stray<'a>(scenario: usize, stray: &Stray, request: &'a str, sent: &Sent) -> Detail<'a> {
    let base = stray.trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    Detail {
        trace: TraceView::new(&stray.trace, base, sent),
        apart: Vec::new(),
        missing: Vec::new(),
        scenario,
        request,
        failures: &[],
        not_evaluated: &[],
        trees: None,
        ledger: None,
        ledger_text: None,
        virtual_parent: None,
    }
}

/// The verdict of a single case.
fn verdict(case: &CaseResult) -> Verdict {
    match () {
        () if !case.findings.failures.is_empty() => Verdict::Fail,
        () if case.findings.not_evaluated.iter().any(|one| one.required) => Verdict::Inconclusive,
        () => Verdict::Pass,
    }
}

/// A failure in one line, for lists.
fn headline(failure: &Failure) -> String {
    let line = format!("{}: {}", failure.rule, failure.detail);
    match line.char_indices().nth(MAX_FAILURE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Says whose a stray is.
fn relation(stray: &Stray) -> String {
    let of = |id: &TraceId| format!("trace {id}");
    match &stray.origin {
        Origin::Answer { of: id } => format!("named by the response to {}", of(id)),
        Origin::Link { of: id, also } if also.is_empty() => format!("linked to {}", of(id)),
        Origin::Link { of: id, also } => format!("linked to {} and {} more", of(id), also.len()),
        Origin::Moved { of: id, span } => format!("holds span {span}, which ended in {}", of(id)),
        Origin::Parent { of: id, parent, .. } => {
            format!("names span {parent} of {} as its parent", of(id))
        }
        Origin::Call { of: id, caller, what, .. } => {
            format!("began while the call `{what}` of `{caller}` in {} was in flight", of(id))
        }
        Origin::Within { of: id, .. } | Origin::Lacking { of: id, .. } => {
            format!("began upon the request of {}", of(id))
        }
        Origin::Declared => "declared by the system file".to_owned(),
        Origin::StartUp => "began at startup".to_owned(),
        Origin::Probe => "a probe".to_owned(),
        Origin::Foreign => "called by a third party".to_owned(),
        Origin::Unrecorded { caller } => {
            format!("began by a call that `{caller}` may have made without a span")
        }
        Origin::Unexplained => "began by no known request".to_owned(),
    }
}

/// Adds a case's trace to a map, and the hops that failed and are not in it.
fn add_to_map(map: &mut ServiceMap, topology: &Topology, of: &CaseRecord, case: &CaseResult) {
    let mut own = ServiceMap::default();
    if let Some(trace) = &of.evidence.trace {
        own.add(trace.spans.iter(), |span| topology.workload_of(span).unwrap_or(&span.service));
    }
    let failures = case.findings.failures.iter().flat_map(Failure::unfolded);
    let mut hops: Vec<_> = failures.filter_map(|(_, failure)| failure.hop.as_ref()).collect();
    hops.sort_by_key(|hop| (&hop.caller, &hop.callee));
    hops.dedup();
    for hop in hops {
        if !own.has_call(&hop.caller, &hop.callee) {
            own.add_missing(&hop.caller, &hop.callee);
        }
    }
    map.merge(&own);
}

/// The verdicts as plain text, for a reader that runs no scripts.
fn text(summary: &Summary) -> String {
    let mut text = format!("{}  run {}\n", summary.verdict().name(), summary.run_id);
    for reason in &summary.undecided {
        let _infallible = writeln!(text, "      undecided: {reason}");
    }
    let mut results: Vec<_> = summary.scenarios.iter().collect();
    results.sort_by_key(|result| std::cmp::Reverse(result.verdict));
    for result in results {
        let _infallible = writeln!(text, "\n{}  {}", result.verdict.name(), result.name);
        if result.verdict != Verdict::Pass {
            let _infallible = writeln!(text, "{}", plain::details(result, 2));
        }
    }
    text
}
