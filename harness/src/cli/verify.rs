//! `tracecheck verify`: judges traces that are in Datadog already.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use clap::ValueHint;
use harness::{
    case::{Case, DRIVER_SERVICE, Evidence, Outcome, ResponseParts, ServiceIdentity, Topology},
    datadog_api::DatadogSource,
    event::{self, Event},
    evidence::EvidenceSource,
    judge, load,
    record::{CaseRecord, Record},
    report, rule, run,
    scenario::{Request, Scenario, SystemChoice},
    trace::{SpanId, Trace, TraceId, unix_nanos},
    verdict::{ScenarioResult, Summary, Verdict},
};

use super::{datadog, exit_code, output};

/// How much longer than Datadog's patience a trace that is being made is waited for.
const SPARE: Duration = Duration::from_secs(2);
/// Default time that a trace is searched back for, where its id does not contain its time.
const DEFAULT_RANGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which traces to judge, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Trace ids: 32 hex digits, X-Ray's form `1-<8 hex>-<24 hex>`, or of a 64-bit id 16 hex digits or a decimal number.
    #[arg(required = true, value_name = "TRACE_ID", value_parser = trace_id)]
    trace_ids: Vec<TraceId>,
    /// A scenario whose expectations and faults the traces are judged by, beyond the rules.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    expect: Option<PathBuf>,
    /// Which of that scenario's requests, from 1.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "expect", value_parser = clap::value_parser!(u16).range(1..))]
    request: u16,
    /// Earliest time at which the spans may have begun: RFC 3339, or how long ago, such as `2h`. Needed by the spans search alone;
    /// a day ago where it is left out.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<SystemTime>,
    /// Latest time, in the same way; now where it is left out.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<SystemTime>,
    /// Id of a span that does not report to Datadog, such as a client's: whoever names it as parent is no orphan.
    #[arg(long, value_name = "SPAN_ID")]
    virtual_parent: Option<SpanId>,
    #[command(flatten)]
    datadog: datadog::Args,
    #[command(flatten)]
    output: output::Args,
}

fn trace_id(text: &str) -> Result<TraceId, String> {
    TraceId::from_any_spelling(text).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let ago =
        humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.ok_or_else(|| {
        "write a time such as 2026-11-24T10:00:00Z, or how long ago, such as 2h".to_owned()
    })
}

#[tokio::main]
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let scenario = scenario(&args)?;
    let to = args.to.unwrap_or_else(SystemTime::now);
    let from = args.from.unwrap_or_else(|| to - DEFAULT_RANGE);
    if from >= to {
        bail!("--from is not before --to");
    }
    let source = args.datadog.source()?;
    let mut output = args.output.open(false)?;
    let run_id = run::new_run_id();
    output.observe(&Event::RunStarted {
        schema: event::SCHEMA,
        run_id: run_id.clone(),
        environment: "datadog".to_owned(),
        scenarios: args.trace_ids.len(),
    });
    for id in &args.trace_ids {
        source.look_for_made(*id, from, to);
    }
    let deadline = Instant::now() + args.datadog.patience() + SPARE;
    let mut results: HashMap<TraceId, ScenarioResult> = HashMap::new();
    let mut summary = Summary::new(run_id);
    for id in &args.trace_ids {
        if results.contains_key(id) {
            continue;
        }
        wait_for(&source, *id, deadline).await;
        source.stop_looking(*id);
        let judged = judge_one(&source, &scenario, &args, *id);
        if args.output.is_for_people() {
            args.output.print(&judged.reported)?;
        }
        output.observe(&Event::ScenarioFinished { result: Box::new(judged.result.clone()) });
        summary.scenarios.push(judged.result.clone());
        results.insert(*id, judged.result);
    }
    summary.took_ms = u64::try_from(began.elapsed().as_millis())?;
    let verdict = summary.verdict();
    if let Some(usage) = source.usage() {
        output.observe(&Event::Usage { text: usage });
    }
    output.observe(&Event::RunFinished { summary: Box::new(summary) });
    output.finish()?;
    Ok(exit_code::of(verdict))
}

/// Waits until a trace is there and had its time, or nothing more can be hoped for.
async fn wait_for(source: &DatadogSource, id: TraceId, deadline: Instant) {
    let mut changes = source.changes();
    while Instant::now() < deadline && !source.is_over() {
        changes.borrow_and_update();
        if source.trace(id).is_some() && source.unsettled(id).is_none() {
            return;
        }
        // Age changes without any event.
        let wait =
            deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(250));
        let _changed_or_older = tokio::time::timeout(wait, changes.changed()).await;
    }
}

/// Returns what the traces are judged by: a scenario's expectations, or nothing beyond the rules.
fn scenario(args: &Args) -> anyhow::Result<Scenario> {
    let Some(path) = &args.expect else {
        return Ok(Scenario {
            name: "verify".to_owned(),
            description: String::new(),
            file: PathBuf::new(),
            system: SystemChoice::File(PathBuf::new()),
            requests: vec![Request::get("/")],
            faults: Vec::new(),
            expect: harness::expectation::Expect::default(),
            tolerate: BTreeMap::new(),
            levels: BTreeMap::new(),
            requires: BTreeMap::new(),
        });
    };
    let mut scenarios = load::load(std::slice::from_ref(path))?;
    if scenarios.len() != 1 {
        bail!(
            "--expect: {} holds {} scenarios; name the file of one",
            path.display(),
            scenarios.len()
        );
    }
    let scenario = scenarios.remove(0);
    let requests = scenario.requests.len();
    if usize::from(args.request) > requests {
        let file = path.display();
        return Err(anyhow::anyhow!("the scenario has {requests} requests"))
            .context(format!("--request {}: {file}", args.request));
    }
    Ok(scenario)
}

struct Judged {
    result: ScenarioResult,
    reported: String,
}

fn judge_one(source: &DatadogSource, scenario: &Scenario, args: &Args, id: TraceId) -> Judged {
    let record = record(source, scenario, args, id);
    let mut result = judge::judge(&record);
    if args.expect.is_none() {
        // Nothing says what there should be, and what there is is drawn below.
        result.cases.iter_mut().for_each(|case| case.trees = None);
    }
    let trace = record.cases.iter().find_map(|of| of.evidence.trace.as_ref());
    let mut reported = String::new();
    if let Some(trace) = trace {
        reported = report::trace::waterfall(trace);
        reported.push_str(&checked(&result));
        if report::plain::failing_rules(&result).iter().any(|rule| rule == "orphan-span")
            && let Some(parent) = only_missing_parent(trace)
        {
            let _infallible = writeln!(
                reported,
                "If span {parent} is of a caller that does not report to Datadog, say so: --virtual-parent {parent}\n"
            );
        }
    }
    Judged { result, reported }
}

/// Makes the record of a trace that is in Datadog already.
fn record(source: &DatadogSource, scenario: &Scenario, args: &Args, id: TraceId) -> Record {
    let request = usize::from(args.request) - 1;
    let (name, description) = (format!("trace {id}"), String::new());
    let scenario = Scenario { name, description, ..scenario.clone() };
    let asked = &scenario.requests[request];
    let (method, entry) = (asked.method, asked.entry.clone());
    let found = match source.found(id) {
        Some(found) => format!("found by the {} at query {}", found.by, found.looks),
        None => "not found".to_owned(),
    };
    let trace = source.trace(id);
    // Where the trace is of a run of ours, its own span is on top.
    let own =
        trace.iter().flat_map(|trace| &trace.spans).find(|span| span.service == DRIVER_SERVICE);
    let top = args.virtual_parent.or(own.map(|span| span.id));
    let trace_id = trace.as_ref().map_or(id, |trace| trace.id);
    let case = Case {
        request,
        ordinal: 0,
        trace_id,
        driver_span: top.unwrap_or(SpanId(0)),
        driver_exported: false,
        context_sent: top.is_some(),
        sampled: true,
        sent_at: trace.as_ref().and_then(|trace| trace.spans.first()).map_or(0, |span| span.start),
        ended_at: unix_nanos(SystemTime::now()),
        outcome: Outcome::Unobserved { found },
        method,
        entry,
        answer: ResponseParts::default(),
    };
    let evidence = Evidence { trace, unsettled: source.unsettled(id), ..Evidence::default() };
    let topology = topology(&scenario);
    let mut record = Record::new(scenario, topology, source.capabilities());
    record.cases.push(CaseRecord { case, evidence });
    record
}

/// The one span that is named as a parent and not there; `None` where there are several.
fn only_missing_parent(trace: &Trace) -> Option<SpanId> {
    let parents = trace.spans.iter().filter_map(|span| span.parent_id);
    let missing: BTreeSet<SpanId> =
        parents.filter(|parent| trace.span(*parent).is_none()).collect();
    if missing.len() == 1 { missing.into_iter().next() } else { None }
}

/// Which rules held, which did not, and what was not looked at, each with its reason.
fn checked(result: &ScenarioResult) -> String {
    let failed = |name: &str| report::plain::failing_rules(result).iter().any(|rule| rule == name);
    let skipped = |name: &str| result.unevaluated().any(|skipped| skipped.rule == name);
    let held = rule::RULES.iter().filter(|rule| rule.is_about_a_trace());
    let held: Vec<&str> =
        held.map(|rule| rule.name).filter(|name| !failed(name) && !skipped(name)).collect();
    let mut reported =
        format!("held: {}\n", if held.is_empty() { "nothing".to_owned() } else { held.join(", ") });
    for skipped in report::plain::not_required(result) {
        let _infallible = writeln!(reported, "not evaluated: {skipped}");
    }
    if result.verdict != Verdict::Pass {
        reported.push('\n');
    }
    reported
}

/// Workloads are known by their own names, which a service has by default.
fn topology(scenario: &Scenario) -> Topology {
    let SystemChoice::Chain(chain) = &scenario.system else { return Topology::default() };
    let names = chain.app_names().into_iter();
    let services = names.map(|workload| ServiceIdentity {
        workload,
        service: None,
        instances: Vec::new(),
        meant: None,
        ..ServiceIdentity::default()
    });
    Topology { services: services.collect() }
}
