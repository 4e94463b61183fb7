//! Evidence of a case beside its spans: the services' ledgers, what was captured, and what the intake refused.

use std::collections::{HashMap, HashSet};

use super::Checked;
use crate::{
    case::{LedgerReport, View},
    ledger::LedgerSpan,
    trace::SpanId,
};

/// The services whose ledger answered: workload, spans, whether some were evicted.
pub(super) fn known_ledgers<'a>(
    view: View<'a>,
) -> impl Iterator<Item = (&'a str, &'a [LedgerSpan], bool)> {
    view.evidence.ledgers.iter().filter_map(|(workload, report)| match report {
        LedgerReport::Known(entry) => {
            Some((workload.as_str(), entry.spans.as_slice(), entry.evicted))
        }
        LedgerReport::Unknown(_) => None,
    })
}

/// The services by the spans that only they ended.
pub(super) struct Enders<'a>(HashMap<SpanId, Option<&'a str>>);

impl<'a> Enders<'a> {
    pub(super) fn of(view: View<'a>) -> Self {
        let mut by_id: HashMap<SpanId, Option<&str>> = HashMap::new();
        for (workload, spans, _) in known_ledgers(view) {
            for span in spans {
                let known = by_id.entry(span.span_id).or_insert(Some(workload));
                *known = known.filter(|one| *one == workload);
            }
        }
        Self(by_id)
    }

    /// Returns the workload whose ledger alone has a span of this id.
    pub(super) fn ender(&self, id: SpanId) -> Option<&'a str> {
        self.0.get(&id).copied().flatten()
    }
}

/// `Some` when a ledger that should be there could not be read.
pub(super) fn unreadable_ledger(view: View<'_>) -> Option<Checked> {
    view.evidence.ledgers.iter().find_map(|(workload, report)| match report {
        LedgerReport::Unknown(reason) => Some(Checked::NotEvaluated {
            because: format!("the ledger of `{workload}` could not be read: {reason}"),
            required: true,
        }),
        LedgerReport::Known(_) => None,
    })
}

/// Returns the ids of all captured spans.
pub(super) fn captured_ids(view: View<'_>) -> HashSet<SpanId> {
    view.spans().iter().map(|span| span.id).collect()
}

/// Says what the intake refused meanwhile, as the end of a sentence.
pub(super) fn refused(view: View<'_>) -> String {
    let reported = view.evidence.refused.iter().map(|(reply, count)| {
        let remedy = match reply.as_str() {
            "403" => " (the API key is refused)",
            "413" => " (the payloads are too large)",
            _ => "",
        };
        format!("{count} answered {reply}{remedy}")
    });
    let reported: Vec<String> = reported.collect();
    if !view.evidence.ended.is_empty() {
        return format!("; {}", view.evidence.ended.join(", "));
    }
    match reported.is_empty() {
        true => "; look at the collector's log, and at the service's".to_owned(),
        false => format!("; the intake refused attempts meanwhile: {}", reported.join(", ")),
    }
}
