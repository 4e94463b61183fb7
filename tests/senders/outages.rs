//! Losses of senders while the queue is full: every exporter sends through outages of the intake to our collector.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use tokio::time::sleep;

use crate::{
    exporters::{self, Exporter, Language, Sender, install, sources},
    page::{say, table, today, write},
    program,
    system::{Subject, System, start_senders},
    toolchain::workshop,
};

/// How many spans each exporter sends, and over how long.
const SPANS: u32 = 1000;
const SECONDS: f64 = 100.0;
/// How long the outages are.
const OUTAGES: [u64; 4] = [5, 10, 20, 30];
/// For how long nothing must arrive, after all spans are ended and the intake is back, before what is missing is lost.
const QUIET: Duration = Duration::from_secs(20);
/// How long an SDK may take to shut down.
const SHUTDOWN: Duration = Duration::from_secs(40);
/// How long the build of the reference may take.
const BUILD: Duration = Duration::from_secs(1800);

/// How often each is run.
const RUNS: usize = 3;

/// Collectors: what they are called on the command line and in the table.
const SUBJECTS: [(&str, &str); 4] = [
    ("defaults", "ours, its defaults"),
    ("block", "ours, `block_on_overflow`"),
    ("reference", "the reference, its Datadog exporter"),
    ("reference-otlp", "the reference, its OTLP exporter"),
];

/// Lost spans: by subject, the seconds of the outage, and run, of each exporter by name.
type Lost = BTreeMap<String, BTreeMap<u64, Vec<BTreeMap<String, u32>>>>;

/// Runs the subjects and the outages that are named, or all, and writes the table into `docs/reliability.md`. What was lost in others is
/// kept beside what is built, so that one after the other can be run.
pub(crate) async fn run(named: &[&str]) -> anyhow::Result<bool> {
    let (outages, subjects): (Vec<&str>, Vec<&str>) = named
        .iter()
        .copied()
        .partition(|name| OUTAGES.iter().any(|seconds| *name == seconds.to_string()));
    for name in &subjects {
        ensure!(
            SUBJECTS.iter().any(|(known, _)| known == name),
            "`{name}` is none of the outages {OUTAGES:?} and subjects {:?}",
            SUBJECTS.map(|(name, _)| name)
        );
    }
    let subjects: Vec<_> = SUBJECTS
        .into_iter()
        .filter(|(name, _)| subjects.is_empty() || subjects.contains(name))
        .collect();
    let reference = match subjects.iter().any(|(name, _)| name.starts_with("reference")) {
        true => Some(reference().await?),
        false => None,
    };
    let subject = &|name: &str| match (name, &reference) {
        ("reference", Some(path)) => Subject::Reference(path, "datadog"),
        ("reference-otlp", Some(path)) => Subject::Reference(path, "otlphttp"),
        ("block", _) => Subject::Ours(&["exporters.datadog.sending_queue.block_on_overflow=true"]),
        _ => Subject::Ours(&[]),
    };
    let senders = &install().await?;
    let kept = workshop("outages")?.join("lost.json");
    let mut lost: Lost = match fs::read(&kept) {
        Ok(json) if !named.is_empty() => serde_json::from_slice(&json)?,
        _ => Lost::new(),
    };
    for seconds in OUTAGES {
        if !outages.is_empty() && !outages.contains(&&*seconds.to_string()) {
            continue;
        }
        // All at the same time, since they mostly wait, and so that they meet the same.
        let runs = subjects
            .iter()
            .flat_map(|(name, _)| (0..RUNS).map(move |_| lose(senders, subject(name), seconds)));
        let runs = futures_util::future::try_join_all(runs).await?;
        for ((name, shown), runs) in subjects.iter().zip(runs.chunks(RUNS)) {
            let by_name = |of_each: &BTreeMap<Exporter, u32>| -> BTreeMap<String, u32> {
                let lost = of_each.iter().filter(|(_, spans)| **spans > 0);
                lost.map(|(exporter, spans)| (exporter.name(), *spans)).collect()
            };
            let runs: Vec<_> = runs.iter().map(by_name).collect();
            for of_each in &runs {
                say(&format!("{shown}, {seconds} s: {} lost: {of_each:?}", total(of_each)));
            }
            lost.entry((*name).to_owned()).or_default().insert(seconds, runs);
        }
        fs::write(&kept, serde_json::to_vec(&lost)?)?;
    }
    write("reliability.md", "outages", &format!("Seen on {}.\n\n{}", today(), shown(&lost)))?;
    say("docs/reliability.md is written");
    Ok(true)
}

/// Builds the reference, unless it is built.
async fn reference() -> anyhow::Result<PathBuf> {
    let build = sources().join("../differential/build-reference");
    let built = program::run(&mut program::command(&build), BUILD).await;
    Ok(built.map_err(|error| anyhow!("{error}"))?.stdout.trim().into())
}

fn total(of_each: &BTreeMap<String, u32>) -> u32 {
    of_each.values().sum()
}

/// The totals of each run, and of whom they were in the one in the middle.
fn shown(lost: &Lost) -> String {
    let mut head = vec!["subject".to_owned()];
    head.extend(OUTAGES.map(|seconds| format!("{seconds} s")));
    let rows: Vec<_> = SUBJECTS
        .iter()
        .filter_map(|(name, shown)| {
            let runs = lost.get(*name)?;
            let cells = OUTAGES.map(|seconds| {
                let Some(runs) = runs.get(&seconds) else { return "–".to_owned() };
                let mut runs = runs.clone();
                runs.sort_by_key(total);
                let totals: Vec<_> =
                    runs.iter().map(|of_each| total(of_each).to_string()).collect();
                let middle = runs.get(runs.len() / 2).cloned().unwrap_or_default();
                let middle: Vec<_> =
                    middle.iter().map(|(exporter, spans)| format!("{exporter} {spans}")).collect();
                match middle.is_empty() {
                    true => format!("**{}**", totals.join(", ")),
                    false => format!("**{}** ({})", totals.join(", "), middle.join(", ")),
                }
            });
            Some([vec![(*shown).to_owned()], cells.to_vec()].concat())
        })
        .collect();
    table(&head, &rows)
}

/// Sends through an outage of so many seconds; returns how many spans of each exporter never arrived.
async fn lose(
    senders: &BTreeMap<Language, Sender>,
    subject: Subject<'_>,
    outage: u64,
) -> anyhow::Result<BTreeMap<Exporter, u32>> {
    let system = System::start_with(&subject).await?;
    let mut sendings = start_senders(senders, |_| &system, SPANS, SECONDS).await?;
    system.begin_outage().await?;
    let begun = Instant::now();
    for sending in &mut sendings {
        sending.go().await?;
    }
    sleep(Duration::from_secs(outage)).await;
    system.end_outage().await?;
    let mut last = (Instant::now(), 0);
    while last.0.elapsed() < QUIET || begun.elapsed() < Duration::from_secs_f64(SECONDS) + QUIET {
        let captured = system.captured().values().sum();
        if captured != last.1 {
            last = (Instant::now(), captured);
        }
        if captured == SPANS * exporters::ALL.len() as u32 {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    for sending in sendings {
        sending.stop(SHUTDOWN).await?;
    }
    let captured = system.stop().await?;
    Ok(captured.into_iter().map(|(exporter, spans)| (exporter, SPANS - spans.min(SPANS))).collect())
}
