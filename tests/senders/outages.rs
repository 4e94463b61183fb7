//! Losses of senders while the queue is full: every exporter sends through outages of the intake to our collector.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    exporters::{self, Exporter, Language, Sender, install},
    page::{say, table, today, write},
    system::{System, start_senders},
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

/// Our collector in its settings, by what they are called.
const SUBJECTS: [(&str, &[&str]); 2] = [
    ("ours, its defaults", &[]),
    ("ours, `block_on_overflow`", &["exporters.datadog.sending_queue.block_on_overflow=true"]),
];

/// Runs all, and writes the table into `docs/reliability.md`.
pub(crate) async fn run() -> anyhow::Result<bool> {
    let senders = install().await?;
    let mut head = vec!["subject".to_owned()];
    head.extend(OUTAGES.map(|seconds| format!("{seconds} s")));
    let mut rows = Vec::new();
    for (name, settings) in SUBJECTS {
        let mut row = vec![name.to_owned()];
        // All at the same time, since they mostly wait.
        let runs = OUTAGES.map(|seconds| lose(&senders, settings, seconds));
        for (lost, seconds) in futures_util::future::try_join_all(runs).await?.iter().zip(OUTAGES) {
            let total: u32 = lost.values().sum();
            let of = lost.iter().filter(|(_, spans)| **spans > 0);
            let of: Vec<_> =
                of.map(|(exporter, spans)| format!("{} {spans}", exporter.name())).collect();
            say(&format!("{name}, {seconds} s: {total} lost: {}", of.join(", ")));
            row.push(match of.is_empty() {
                true => "**0**".to_owned(),
                false => format!("**{total}** ({})", of.join(", ")),
            });
        }
        rows.push(row);
    }
    let reported = format!("Seen on {}.\n\n{}", today(), table(&head, &rows));
    write("reliability.md", "outages", &reported)?;
    say("docs/reliability.md is written");
    Ok(true)
}

/// Sends through an outage of so many seconds; returns how many spans of each exporter never arrived.
async fn lose(
    senders: &BTreeMap<Language, Sender>,
    settings: &[&str],
    outage: u64,
) -> anyhow::Result<BTreeMap<Exporter, u32>> {
    let system = System::start(settings).await?;
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
