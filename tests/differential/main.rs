//! The differential test: generated OTLP goes through our collector and through two references side by side, and what they
//! send to Datadog is compared: Datadog's own trace agent v0.85.4, whose mapping is ours, and the OpenTelemetry Collector with
//! contrib's Datadog exporter v0.155.0, which is a whole collector with an older mapping. Where the two references differ by a
//! rule that is newer than the latter, ours must do as the agent does.
//!
//! It needs the references, so it is no part of `cargo test`:
//!
//! ```text
//! REFERENCE_COLLECTOR=$(tests/differential/build-reference) cargo test -p harness --test differential
//! ```
//!
//! The agent is built by the same script, unless `REFERENCE_AGENT` has its path.
//!
//! `DIFFERENTIAL_CASES` (default 500) says how many requests are sent, `DIFFERENTIAL_SEED` which ones;
//! `DIFFERENTIAL_ONLY` sends one alone, by its number; `DIFFERENTIAL_PROGRAM` tests another build of `tracecheck`.
//! Everything but the times, which are relative to now, depends on seed and number only. What is meant to differ
//! stands in `allowed.yaml`. The last run of each test has our side rename spans, and must find that.

mod allowed;
mod compare;
mod datadog;
mod generate;
mod otlp;
mod profile;
mod report;
mod side;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::{
    StreamExt,
    future::{join, join_all, try_join3},
    stream,
};
use prost::Message;

use self::{
    allowed::{Context, Rule},
    compare::{Difference, TIMES_SENT},
    datadog::{Fields, MARKER},
    generate::{Case, Limits, STATS_COMPUTED},
    otlp::{KeyValue, Request, Resource, ResourceSpans, ScopeSpans, Span},
    profile::{PROFILES, Profile, STATS_OFF, STATS_ON},
    report::{Outcome, class, say, shortened, shown},
    side::{AGENT, CONTRIB, GIVEN_TO_AGENT, Options, Program, Side},
};

const HOW_TO_BUILD: &str = "build it with tests/differential/build-reference (needs Go), and set \
                            REFERENCE_COLLECTOR to the path it prints";

/// From so many cases on, a rule that allowed nothing is not needed: some are about what occurs ten times in 2,000 cases, or
/// not at all.
const ENOUGH_TO_TELL: u32 = 10_000;
/// The references' flush interval is 5 s; stats come after two of their 10 s buckets.
const ARRIVAL: Duration = Duration::from_secs(90);

/// As many cases go through one set of collectors: contrib's sampler of errors keeps ten traces a second once it has seen for
/// a while that more come (ours keeps all, ADR 0004), so that after many cases speed would decide what is sent. The agent's is
/// configured to keep all.
const AT_ONCE: usize = 2_000;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// Settings of a run, from the environment.
#[derive(Clone)]
struct Plan {
    ours: PathBuf,
    contrib: PathBuf,
    agent: PathBuf,
    seed: u64,
    numbers: Vec<u32>,
    now: u64,
}

fn main() -> ExitCode {
    match tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<bool> {
    let began = Instant::now();
    // Several libraries bring rustls; one provider is to be chosen before the first client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plan = plan()?;
    let rules = allowed::load()?;
    say(&format!(
        "differential test: {} cases, DIFFERENTIAL_SEED={}",
        plan.numbers.len(),
        plan.seed
    ));
    let parts = plan.numbers.chunks(AT_ONCE);
    let parts: Vec<_> = parts.map(|part| Plan { numbers: part.to_vec(), ..plan.clone() }).collect();
    let mut fine = true;
    let mut outcomes = Vec::new();
    let mut run = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let runs = PROFILES.iter().map(|profile| compare_profile(part, profile, &rules));
        // The one that must differ goes beside the first ones, since all of them mostly wait.
        let must_find = async { if index == 0 { must_find(part, &rules).await } else { Ok(()) } };
        let (outcomes, blind) = join(join_all(runs), must_find).await;
        blind?;
        run.extend(outcomes);
    }
    for outcome in run {
        match outcome {
            Ok(both) => outcomes.extend(both),
            Err(error) => {
                fine = false;
                say(&format!("error: {error:#}"));
            }
        }
    }
    let mut used = BTreeMap::<String, usize>::new();
    for outcome in &outcomes {
        for (rule, count) in &outcome.allowed {
            *used.entry(rule.clone()).or_default() += count;
        }
        fine &= outcome.found.is_empty();
        report::print(outcome);
    }
    for rule in &rules {
        let count = used.get(&rule.name).copied().unwrap_or_default();
        say(&format!("allowed: {} {count} times", rule.name));
        if count == 0 && plan.numbers.len() >= ENOUGH_TO_TELL as usize {
            say(&format!("  never occurred: take `{}` off allowed.yaml", rule.name));
            fine = false;
        }
    }
    say(&format!(
        "{} in {:.0?}; again with DIFFERENTIAL_SEED={}",
        if fine { "no difference but the allowed ones" } else { "DIFFERENT" },
        began.elapsed(),
        plan.seed
    ));
    Ok(fine)
}

fn plan() -> anyhow::Result<Plan> {
    let Some(contrib) = std::env::var_os("REFERENCE_COLLECTOR").map(PathBuf::from) else {
        bail!("REFERENCE_COLLECTOR is not set: {HOW_TO_BUILD}");
    };
    let agent = match std::env::var_os("REFERENCE_AGENT") {
        Some(path) => path.into(),
        None => built_agent()?,
    };
    for (name, path) in [("REFERENCE_COLLECTOR", &contrib), ("REFERENCE_AGENT", &agent)] {
        ensure!(path.is_file(), "{name}: {} is no file: {HOW_TO_BUILD}", path.display());
    }
    let cases = number("DIFFERENTIAL_CASES")?.unwrap_or(500);
    let only = number("DIFFERENTIAL_ONLY")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let ours = std::env::var_os("DIFFERENTIAL_PROGRAM");
    Ok(Plan {
        ours: ours.map_or_else(|| env!("CARGO_BIN_EXE_tracecheck").into(), PathBuf::from),
        contrib,
        agent,
        seed: number("DIFFERENTIAL_SEED")?.unwrap_or_else(rand::random),
        numbers: only.map_or_else(|| (0..cases).collect(), |only| vec![only]),
        now: u64::try_from(now.as_nanos())?,
    })
}

/// Builds the agent, unless it was built before, and returns its path.
fn built_agent() -> anyhow::Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/differential/build-reference");
    let mut command = std::process::Command::new(script);
    command.arg("--agent").stderr(std::process::Stdio::inherit());
    let built = command.output().with_context(|| format!("{script} --agent"))?;
    ensure!(built.status.success(), "{script} --agent: {}", built.status);
    Ok(String::from_utf8(built.stdout)?.trim().into())
}

fn number<T: std::str::FromStr>(name: &str) -> anyhow::Result<Option<T>> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name}: `{text}` is not the number that is expected"),
        },
    }
}

/// Sends a profile's cases through all collectors, and compares ours with each of the references.
async fn compare_profile(
    plan: &Plan,
    profile: &Profile,
    rules: &[Rule],
) -> anyhow::Result<[Outcome; 2]> {
    let began = Instant::now();
    let numbers = plan.numbers.iter().filter(|number| profile.share.contains(&(*number % 20)));
    let ignoring = profile.options.traces.iter().any(|line| line.starts_with("ignore_resources"));
    let asking = profile.asks_for_stats();
    let limits = Limits { now: plan.now, tame: profile.stats, ignoring, asking };
    let cases: Vec<Case> =
        numbers.map(|number| generate::case(plan.seed, *number, limits)).collect();
    let outcome = |reference| {
        let profile = profile.name;
        Outcome { profile, reference, cases: cases.len(), ..Outcome::default() }
    };
    let (mut with_agent, mut with_contrib) = (outcome(AGENT), outcome(CONTRIB));
    if cases.is_empty() {
        return Ok([with_agent, with_contrib]);
    }
    let all = sent(plan, &cases, profile.options, profile.options, profile.stats).await;
    let Sides { ours, agent, contrib, answers } =
        all.with_context(|| format!("{}, DIFFERENTIAL_SEED={}", profile.name, plan.seed))?;
    for (outcome, theirs) in [(&mut with_agent, &agent), (&mut with_contrib, &contrib)] {
        compare_spans(&cases, &ours, theirs, &agent, rules, outcome);
        for what in &theirs.unreadable {
            outcome.add(&format!("({} sent what cannot be read)", theirs.name), || what.clone());
        }
    }
    for what in &ours.unreadable {
        with_agent.add("(ours sent what cannot be read)", || what.clone());
    }
    for (number, answers) in answers {
        if answers.windows(2).any(|pair| pair[0] != pair[1]) {
            with_agent.add("(status of the answer)", || format!("case {number}: {answers:?}"));
        }
    }
    if profile.stats {
        // Those of contrib are another mapping's, and no span shows which group it made different.
        with_agent.stats_groups = agent.stats.len();
        for difference in compare::stats(&ours.stats, &agent.stats)? {
            let class = format!("(stats: {})", difference.what);
            with_agent.add(&class, || shortened(&difference.text, 3000));
        }
    }
    with_agent.took = began.elapsed();
    with_contrib.took = began.elapsed();
    for side in [ours, agent, contrib] {
        side.stop().await?;
    }
    Ok([with_agent, with_contrib])
}

/// The collectors, once all has arrived.
struct Sides {
    ours: Side,
    agent: Side,
    contrib: Side,
    /// The statuses of the answers to each case, in this order.
    answers: Vec<(u32, [u16; 3])>,
}

/// Starts the collectors, sends them all cases, and waits until all has arrived.
async fn sent(
    plan: &Plan,
    cases: &[Case],
    options_of_ours: Options,
    options: Options,
    stats: bool,
) -> anyhow::Result<Sides> {
    let dir = tempfile::tempdir()?;
    let start = async |program, options| Side::start(&program, options, dir.path()).await;
    let mut ours = start(Program::Ours(plan.ours.clone()), options_of_ours).await?;
    let mut agent = start(Program::Agent(plan.agent.clone()), options).await?;
    let mut contrib = start(Program::Contrib(plan.contrib.clone()), options).await?;
    let answers: Vec<anyhow::Result<_>> = stream::iter(cases)
        .map(|case| {
            // Each fourth request is sent as JSON, where JSON can say it, but for the agent, which does not read it.
            let json = if case.number % 4 == 3 { case.request.to_json() } else { None };
            let protobuf = case.request.encode_to_vec();
            let (content, body) = match json {
                Some(json) => (JSON, json.into_bytes()),
                None => (PROTOBUF, protobuf.clone()),
            };
            let sending = try_join3(
                ours.send(content, body.clone()),
                agent.send(PROTOBUF, protobuf),
                contrib.send(content, body),
            );
            async move { Ok((case.number, sending.await?.into())) }
        })
        .buffer_unordered(4)
        .collect()
        .await;
    let answers = answers.into_iter().collect::<anyhow::Result<_>>()?;
    // The first one may overtake what other workers of a reference still hold; the second is sent after all that
    // was flushed with the first.
    for round in ["sentinel.1", "sentinel.2"] {
        let asks = stats && options.gates.contains(&STATS_OFF);
        let body = sentinel(plan, round, asks);
        for side in [&mut ours, &mut agent, &mut contrib] {
            let status = side.send(PROTOBUF, body.clone()).await?;
            ensure!(status == 200, "{}: the sentinel was answered {status}", side.name);
        }
        for side in [&mut ours, &mut agent, &mut contrib] {
            side.until(round, ARRIVAL, |side| side.spans.contains_key(round)).await?;
        }
    }
    if stats {
        // Its bucket is the newest, so it is sent last.
        for side in [&mut ours, &mut agent] {
            let arrived =
                |side: &Side| side.stats.iter().any(|group| group.service == "sentinel.2");
            side.until("the sentinel's stats", ARRIVAL, arrived).await?;
        }
    }
    Ok(Sides { ours, agent, contrib, answers })
}

/// A request of one span that is recognized; `asks` for stats where the collectors compute none by themselves.
fn sentinel(plan: &Plan, marker: &str, asks: bool) -> Vec<u8> {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_nanos() as u64);
    let now = elapsed.unwrap_or(plan.now);
    let span = Span {
        trace_id: vec![7; 16],
        span_id: vec![7; 8],
        start: now - 1000,
        end: now,
        attributes: vec![KeyValue::text(MARKER, marker)],
        ..Span::default()
    };
    let mut attributes = vec![KeyValue::text("service.name", marker)];
    if asks {
        attributes.push(KeyValue::text(STATS_COMPUTED, "false"));
    }
    let resource = Resource { attributes, ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource = ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() };
    Request { resource_spans: vec![resource] }.encode_to_vec()
}

fn compare_spans(
    cases: &[Case],
    ours: &Side,
    theirs: &Side,
    newest: &Side,
    rules: &[Rule],
    outcome: &mut Outcome,
) {
    let mut known = BTreeSet::from(["sentinel.1".to_owned(), "sentinel.2".to_owned()]);
    let none: Vec<Fields> = Vec::new();
    let name = theirs.name;
    for case in cases {
        for (index, (resource, scope, span)) in case.request.spans().enumerate() {
            let marker = format!("{}.{index}", case.number);
            let ours_sent = ours.spans.get(&marker).unwrap_or(&none).as_slice();
            let theirs_sent = theirs.spans.get(&marker).unwrap_or(&none).as_slice();
            outcome.spans += 1;
            outcome.dropped += usize::from(ours_sent.is_empty() && theirs_sent.is_empty());
            let newest = newest.spans.get(&marker).unwrap_or(&none).as_slice();
            let context = Context { resource, scope, span, ours: ours_sent.first() };
            // What the newest mapping has otherwise than ours too is no newer rule.
            let mut from_newest = compare::spans(ours_sent, newest);
            // What chance left out there says nothing of a rule.
            from_newest.retain(|other| {
                other.field != TIMES_SENT
                    || !rules
                        .iter()
                        .any(|rule| !rule.is_newer() && rule.allows(AGENT, other, &context))
            });
            let is_reported = |difference: &Difference| {
                name == AGENT && GIVEN_TO_AGENT.contains(&&*difference.field)
            };
            for difference in compare::spans(ours_sent, theirs_sent) {
                if is_reported(&difference) {
                    continue;
                }
                let is_newest = name != AGENT
                    && !from_newest
                        .iter()
                        .any(|other| other.field == difference.field || other.field == TIMES_SENT);
                if let Some(rule) = rules
                    .iter()
                    .filter(|rule| is_newest || !rule.is_newer())
                    .find(|rule| rule.allows(name, &difference, &context))
                {
                    *outcome.allowed.entry(rule.name.clone()).or_default() += 1;
                    continue;
                }
                let Difference { field, ours, theirs } = difference;
                let sent = [ours_sent, theirs_sent].concat();
                let of_others = !field.starts_with("span.");
                outcome.add(&class(&field), || {
                    let evidence = match of_others {
                        // Other spans of the trace may be the reason.
                        true => otlp::trace_evidence(resource, span),
                        false => otlp::evidence(resource, scope, span),
                    };
                    let mut text = format!("case {} span {index} {field}\n", case.number);
                    let _ = writeln!(text, "    ours      {}", shown(ours.as_ref()));
                    let _ = writeln!(text, "    {name:9} {}", shown(theirs.as_ref()));
                    let _ = write!(text, "    {}", shortened(&evidence.to_string(), 20_000));
                    if field == TIMES_SENT {
                        let _ = write!(text, "\n    {}", shortened(&format!("{sent:?}"), 3000));
                    }
                    text
                });
            }
            known.insert(marker);
        }
    }
    for side in [ours, theirs] {
        for marker in side.spans.keys().filter(|marker| !known.contains(*marker)) {
            outcome.add(&format!("({} sent a span that nobody sent it)", side.name), || {
                format!("marker {marker:?}")
            });
        }
    }
}

/// Proves that this test can fail: our side is configured to name spans otherwise.
async fn must_find(plan: &Plan, rules: &[Rule]) -> anyhow::Result<()> {
    let limits = Limits { now: plan.now, tame: true, ignoring: false, asking: false };
    let cases: Vec<_> = (0..20).map(|number| generate::case(plan.seed, number, limits)).collect();
    let renaming =
        Options { traces: &["span_name_as_resource_name: true"], gates: &[STATS_ON], flags: &[] };
    let usual = Options { traces: &[], gates: &[STATS_ON], flags: &["--stats"] };
    let Sides { ours, agent, contrib, .. } = sent(plan, &cases, renaming, usual, true)
        .await
        .context("the run in which our side renames spans")?;
    let stats = compare::stats(&ours.stats, &agent.stats)?.len();
    let spans = [&agent, &contrib].map(|theirs| {
        let mut outcome = Outcome::default();
        compare_spans(&cases, &ours, theirs, &agent, rules, &mut outcome);
        outcome.found.get("span.name").map_or(0, |finding| finding.count)
    });
    for side in [ours, agent, contrib] {
        side.stop().await?;
    }
    ensure!(
        spans.iter().all(|spans| *spans > 0) && stats > 0,
        "our side renamed all spans, and {spans:?} spans and {stats} groups of stats were found different from those of \
         the agent and of contrib: the comparison is blind"
    );
    say(&format!(
        "as it must, the comparison finds {spans:?} names that our side was configured to change, and {stats} groups of stats"
    ));
    Ok(())
}
