//! Traces that begin upon each of several equal requests, and at no other time: the requests are their cause, though no context shows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    ground::{Ground, Sent},
    upon::Windows,
};
use crate::{
    case::Origin,
    trace::{Trace, TraceId},
};

/// How many equal requests must have had one: fewer may be by chance.
const AT_LEAST: usize = 3;

/// Workload, resource and kind of a trace's first span.
type Kind<'a> = (&'a str, &'a str, &'a str);

/// Gives traces of unknown cause to the requests that they recur with. Nothing is concluded where requests overlap, where one of the equal
/// requests had none or several, or where one began before or long after them: then it may be a job of the service's own.
pub(super) fn assign(strays: &[Trace], origins: &mut [Origin], ground: Ground<'_>) {
    let mut alike: BTreeMap<Kind<'_>, Vec<(usize, i64)>> = BTreeMap::new();
    for (index, (stray, origin)) in strays.iter().zip(origins.iter()).enumerate() {
        let is_open = matches!(origin, Origin::Unexplained | Origin::Unrecorded { .. });
        let Some(root) = stray.root().filter(|_| is_open) else { continue };
        let at = ground.topology.workload_of(root).unwrap_or(&root.service);
        alike.entry((at, &root.resource, root.kind())).or_default().push((index, root.start));
    }
    alike.retain(|_, begun| begun.len() >= AT_LEAST);
    if alike.is_empty() {
        return;
    }
    let windows = Windows::new(&ground.requests.sent);
    let mut equal: HashMap<(&Option<String>, &str, &str), BTreeSet<TraceId>> = HashMap::new();
    for sent in &ground.requests.sent {
        equal.entry(asked(sent)).or_default().insert(sent.trace_id);
    }
    for begun in alike.into_values() {
        let within: Option<Vec<&Sent>> = begun.iter().map(|(_, at)| windows.upon(*at)).collect();
        let Some(within) = within else { continue };
        let had: BTreeSet<TraceId> = within.iter().map(|sent| sent.trace_id).collect();
        let should_have: BTreeSet<TraceId> =
            within.iter().flat_map(|sent| &equal[&asked(sent)]).copied().collect();
        if had.len() == begun.len() && had == should_have {
            for ((index, _), sent) in begun.iter().zip(within) {
                let caller = match &origins[*index] {
                    Origin::Unrecorded { caller } => Some(caller.clone()),
                    _ => None,
                };
                let (of, requests) = (sent.trace_id, had.len());
                origins[*index] = Origin::Within { of, requests, caller };
            }
        }
    }
}

/// Returns what makes requests equal, as far as it is known here.
fn asked(sent: &Sent) -> (&Option<String>, &str, &str) {
    (&sent.to, &sent.method, &sent.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::{Case, Outcome, Topology},
        judge::testing::{MS, case, span},
        strays::ground::{Places, Requests},
    };

    fn request(number: u128) -> TraceId {
        TraceId(0x100 + number)
    }

    /// The origins of traces of `shop` that begin at these times, in ms, beside equal requests of 50 ms every 100 ms.
    fn origins_of(requests: u128, begun: &[i64]) -> Vec<Origin> {
        let (topology, places) = (Topology::default(), Places::default());
        let mut known = Requests::default();
        for number in 0..requests {
            let sent_at = number as i64 * 100 * MS;
            let case = Case {
                trace_id: request(number),
                sent_at,
                ended_at: sent_at + 50 * MS,
                outcome: Outcome::Response { status: 200, trace_id: None },
                ..case()
            };
            known.note(&case, "/orders", &topology);
        }
        let strays = begun.iter().map(|at| {
            Trace::new(TraceId(0x900), vec![span(0x91, 0, "shop", "client", at * MS, MS)])
        });
        let strays: Vec<Trace> = strays.collect();
        let mut origins = vec![Origin::Unexplained; strays.len()];
        let ground = Ground { topology: &topology, places: &places, requests: &known };
        assign(&strays, &mut origins, ground);
        origins
    }

    #[test]
    fn one_within_each_of_several_equal_requests_belongs_to_it() {
        let origins = origins_of(3, &[10, 110, 210]);
        for (number, origin) in origins.iter().enumerate() {
            assert_eq!(
                *origin,
                Origin::Within { of: request(number as u128), requests: 3, caller: None }
            );
        }
    }

    #[test]
    fn one_after_each_of_several_equal_requests_belongs_to_it() {
        let origins = origins_of(3, &[70, 199, 900]);
        assert!(origins.iter().all(|one| matches!(one, Origin::Within { .. })), "{origins:?}");
    }

    #[test]
    fn what_may_be_a_job_of_the_service_s_own_belongs_to_none() {
        for (requests, begun, because) in [
            (2, &[10, 110][..], "there are too few"),
            (4, &[10, 110, 210], "one of the requests had none"),
            (3, &[10, 20, 110], "one of the requests had two"),
            (3, &[-10, 10, 110, 210], "one began before them"),
            (3, &[10, 110, 2_000], "one began long after them"),
        ] {
            let origins = origins_of(requests, begun);
            assert!(
                origins.iter().all(|one| *one == Origin::Unexplained),
                "{because}: {origins:?}"
            );
        }
    }
}
