//! The smaller run: each exporter against our collector while it takes, while it holds, and when it refuses.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;

use crate::{
    exporters::{self, Exporter, Language, Sender, install},
    page::say,
    system::{System, start_senders},
};

/// How many spans each exporter sends: one batch.
const SPANS: u32 = 10;
/// How long an SDK may take to shut down.
const SHUTDOWN: Duration = Duration::from_secs(40);

/// How many spans of each exporter arrived.
type Arrived = BTreeMap<Exporter, u32>;

/// Returns whether an exporter gives a batch up at its first refusal, whatever delay is given.
fn gives_up_at_once(exporter: Exporter) -> bool {
    exporter.language == Language::Node && exporter.is_grpc()
}

/// Runs all three at the same time; whether each exporter did as it is known to.
pub(crate) async fn run() -> anyhow::Result<bool> {
    let senders = install().await?;
    let (taken, held, refused) =
        tokio::try_join!(taken(&senders), held(&senders), refused(&senders))?;
    let (mut passed, mut failed) = (0, 0);
    for (what, arrived) in [
        ("takes at once", taken),
        ("holds until there is room", held),
        ("refuses once, with a delay of 1 s", refused),
    ] {
        for (exporter, spans) in arrived {
            let is_lost = what.starts_with("refuses") && gives_up_at_once(exporter);
            let expected = if is_lost { 0 } else { SPANS };
            if spans == expected {
                passed += 1;
                continue;
            }
            failed += 1;
            say(&format!(
                "{}: {spans} of {SPANS} spans arrived, and {expected} were to, through a collector that {what}; if a new \
                 version does otherwise, run `cargo test -p harness --test senders -- replies` for docs/senders.md, and say so \
                 in tests/senders/check.rs",
                exporter.name()
            ));
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(failed == 0)
}

async fn taken(senders: &BTreeMap<Language, Sender>) -> anyhow::Result<Arrived> {
    let system = System::start().await?;
    let mut sendings = start_senders(senders, |_| &system, SPANS, 0.0).await?;
    for sending in &mut sendings {
        sending.go().await?;
    }
    system.until_all_of(exporters::ALL, SPANS).await;
    for sending in sendings {
        sending.stop(SHUTDOWN).await?;
    }
    system.stop().await
}

/// Through a full queue that has room again as soon as all of them are held.
async fn held(senders: &BTreeMap<Language, Sender>) -> anyhow::Result<Arrived> {
    let system = System::start().await?;
    let mut sendings = start_senders(senders, |_| &system, SPANS, 0.0).await?;
    system.begin_outage().await?;
    let before = system.held().await?;
    for sending in &mut sendings {
        sending.go().await?;
    }
    let all = before + exporters::ALL.len() as u64;
    system.until("all are held", async || Ok(system.held().await? >= all)).await?;
    let early = system.captured().values().sum::<u32>();
    ensure!(early == 0, "{early} spans arrived through a full queue");
    system.end_outage().await?;
    system.until_all_of(exporters::ALL, SPANS).await;
    for sending in sendings {
        sending.stop(SHUTDOWN).await?;
    }
    system.stop().await
}

/// Each through a collector of its own, so that just its first request is refused.
async fn refused(senders: &BTreeMap<Language, Sender>) -> anyhow::Result<Arrived> {
    let mut systems = BTreeMap::new();
    for exporter in exporters::ALL {
        let system = System::start().await?;
        system.refuse_next().await?;
        systems.insert(exporter, system);
    }
    let mut sendings = start_senders(senders, |exporter| &systems[&exporter], SPANS, 0.0).await?;
    for sending in &mut sendings {
        sending.go().await?;
    }
    for (exporter, system) in &systems {
        if gives_up_at_once(*exporter) {
            let is_refused = async || Ok(system.refused().await? > 0);
            system.until("it is refused", is_refused).await?;
        } else {
            system.until_all_of([*exporter], SPANS).await;
        }
    }
    for sending in sendings {
        sending.stop(SHUTDOWN).await?;
    }
    let mut arrived = Arrived::new();
    for (exporter, system) in systems {
        let refused = system.refused().await?;
        ensure!(refused == 1, "{} was refused {refused} times, and not once", exporter.name());
        arrived.insert(exporter, system.stop().await?[&exporter]);
    }
    Ok(arrived)
}
