//! The plain way of translating beside the direct one, as the oracle of fuzzing.

use super::translate::direct::{self, Scratch};
use super::{Concentrator, Datadog, payload, translate};
use crate::trace_batch::TraceBatch;

/// Output of one way of translating a batch.
#[derive(Debug, PartialEq)]
pub(crate) struct Made {
    /// Each payload with its number of spans.
    pub(crate) payloads: Vec<(Vec<u8>, usize)>,
    /// Reasons of spans that are not sent, with their number.
    pub(crate) dropped: Vec<(&'static str, usize)>,
    /// The groups of APM stats, each as text.
    pub(crate) groups: Vec<String>,
}

impl Datadog {
    /// Translates a batch at that time, in nanoseconds since the epoch, the plain way and the direct way.
    pub(crate) fn both_ways(&self, batch: &TraceBatch, now: i64) -> [Made; 2] {
        let concentrator = || Concentrator::new(self.stats.counting().clone(), 0);

        let (translation, stats) =
            (translate::translate(&self.settings, batch, now), concentrator());
        for tracer in &translation.tracers {
            stats.add(tracer, &self.sender, 0);
        }
        let plain = Made {
            payloads: payload::build(&translation.tracers, &self.sender),
            dropped: named(translation.dropped),
            groups: self.groups(&stats),
        };

        let (mut payloads, stats) = (Vec::new(), concentrator());
        let dropped = direct::translate(
            self.context(now),
            batch,
            &mut Scratch::default(),
            &mut |body, spans| payloads.push((body.to_vec(), spans)),
            &mut |counted| {
                stats.add(counted.tracer, &self.sender, 0);
                stats.add_records(counted.records, 0);
            },
        );
        let direct = Made { payloads, dropped: named(dropped), groups: self.groups(&stats) };
        [plain, direct]
    }

    fn groups(&self, stats: &Concentrator) -> Vec<String> {
        let (payloads, _) = stats.flush(&self.sender, 0, true);
        let clients = payloads.into_iter().flat_map(|payload| payload.stats);
        let mut groups = Vec::new();
        for client in clients {
            for bucket in &client.stats {
                for group in &bucket.stats {
                    let about = (&client.hostname, &client.env, &client.version, &client.lang);
                    groups.push(format!("{about:?} {} {group:?}", bucket.start));
                }
            }
        }
        groups.sort();
        groups
    }
}

fn named(
    dropped: impl IntoIterator<Item = (translate::Dropped, usize)>,
) -> Vec<(&'static str, usize)> {
    let dropped = dropped.into_iter().filter(|(_, spans)| *spans > 0);
    let mut dropped: Vec<_> = dropped.map(|(reason, spans)| (reason.name(), spans)).collect();
    dropped.sort_unstable();
    dropped
}
