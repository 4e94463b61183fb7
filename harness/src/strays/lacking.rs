//! Traces with the services that a request must have and its own trace lacks, which began when no other request was in progress: they are
//! its work, though no context shows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    ground::{Ground, Sent, Visit},
    upon::Windows,
};
use crate::{
    case::{DRIVER_SERVICE, Origin},
    trace::{Span, Trace, TraceId},
};

/// Workload, resource and kind of a trace's first span.
type Kind<'a> = (&'a str, &'a str, &'a str);

/// Gives traces of unknown cause to the requests that lack the services in them. Nothing is concluded where requests overlap, where one
/// request had two alike, or where one of that kind began when no request lacked its services: then it may be a job of the service's own.
pub(super) fn assign(
    strays: &[Trace],
    origins: &mut [Origin],
    ground: Ground<'_>,
    visit: Visit<'_>,
) {
    let workload =
        |span: &Span| ground.topology.workload_of(span).unwrap_or(&span.service).to_owned();
    let is_open =
        |origin: &Origin| matches!(origin, Origin::Unexplained | Origin::Unrecorded { .. });
    let windows = Windows::new(&ground.requests.sent);
    let mut alike: BTreeMap<Kind<'_>, Vec<(usize, Option<&Sent>)>> = BTreeMap::new();
    for (index, (stray, origin)) in strays.iter().zip(origins.iter()).enumerate() {
        let Some(root) = stray.root().filter(|_| is_open(origin)) else { continue };
        let at = ground.topology.workload_of(root).unwrap_or(&root.service);
        let upon = windows.upon(root.start);
        alike.entry((at, &root.resource, root.kind())).or_default().push((index, upon));
    }
    let of_interest: BTreeSet<TraceId> =
        alike.values().flatten().filter_map(|(_, upon)| Some(upon.as_ref()?.trace_id)).collect();
    let mut lacking: HashMap<TraceId, BTreeSet<String>> = of_interest
        .iter()
        .filter_map(|id| Some((*id, ground.requests.asked_for.get(id)?.clone())))
        .filter(|(_, services)| !services.is_empty())
        .collect();
    if lacking.is_empty() {
        return;
    }
    visit(&mut |span| {
        if span.service != DRIVER_SERVICE
            && let Some(services) = lacking.get_mut(&span.trace_id)
        {
            services.remove(&span.service);
            services.remove(&workload(span));
        }
    });
    for begun in alike.into_values() {
        let upon: Option<Vec<(TraceId, Vec<String>)>> = begun
            .iter()
            .map(|(index, upon)| {
                let of = upon.as_ref()?.trace_id;
                let lacks = lacking.get(&of)?;
                let spans = strays[*index].spans.iter();
                let names = spans.flat_map(|span| [span.service.clone(), workload(span)]);
                let has: BTreeSet<String> = names.filter(|name| lacks.contains(name)).collect();
                (!has.is_empty()).then(|| (of, has.into_iter().collect()))
            })
            .collect();
        let Some(upon) = upon else { continue };
        let requests: BTreeSet<TraceId> = upon.iter().map(|(of, _)| *of).collect();
        if requests.len() < upon.len() {
            continue;
        }
        for ((index, _), (of, services)) in begun.iter().zip(upon) {
            let caller = match &origins[*index] {
                Origin::Unrecorded { caller } => Some(caller.clone()),
                _ => None,
            };
            origins[*index] = Origin::Lacking { of, services, caller };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::{Case, Outcome, Topology},
        judge::testing::{MS, case, span},
        strays::ground::{Places, Requests},
    };

    /// Requests of 50 ms every 100 ms, each of which must have `stock` and `depot`; the traces of the first `whole` have them.
    struct World {
        requests: Requests,
        whole: u128,
    }

    fn request(number: u128) -> TraceId {
        TraceId(0x100 + number)
    }

    impl World {
        fn new(sent_at: &[i64], whole: u128) -> Self {
            let mut requests = Requests::default();
            for (number, sent_at) in (0..).zip(sent_at) {
                let case = Case {
                    trace_id: request(number),
                    sent_at: sent_at * MS,
                    ended_at: (sent_at + 50) * MS,
                    outcome: Outcome::Response { status: 200, trace_id: None },
                    ..case()
                };
                requests.note(&case, "/orders", &Topology::default());
                let services = ["stock", "depot"].map(str::to_owned);
                requests.note_asked_for(case.trace_id, services.into());
            }
            Self { requests, whole }
        }

        /// The origins of traces that `stock` begins at these times, in ms, each with a span of `with` below.
        fn origins(&self, begun: &[i64], with: &str, origin: &Origin) -> Vec<Origin> {
            let (topology, places) = (Topology::default(), Places::default());
            let strays = (0..).zip(begun).map(|(number, at)| {
                let first = span(0x91, 0, "stock", "client", at * MS, MS);
                let below = span(0x92, 0x91, with, "server", at * MS, MS);
                Trace::new(TraceId(0x900 + number), vec![first, below])
            });
            let strays: Vec<Trace> = strays.collect();
            let mut origins = vec![origin.clone(); strays.len()];
            let requests = self.requests.sent.iter().map(|sent| sent.trace_id);
            let visit = |look: &mut dyn FnMut(&Span)| {
                for (number, id) in (0..).zip(requests.clone()) {
                    let mut own = vec![span(0xa1, 0, "shop", "server", 0, MS)];
                    own.push(span(0xa2, 0xa1, "stock", "server", 0, MS));
                    if number < self.whole {
                        own.push(span(0xa3, 0xa2, "depot", "server", 0, MS));
                    }
                    own.iter_mut().for_each(|span| span.trace_id = id);
                    own.iter().for_each(&mut *look);
                }
            };
            let ground = Ground { topology: &topology, places: &places, requests: &self.requests };
            assign(&strays, &mut origins, ground, &visit);
            origins
        }
    }

    fn lacking(of: u128, caller: Option<&str>) -> Origin {
        let (services, caller) = (vec!["depot".to_owned()], caller.map(str::to_owned));
        Origin::Lacking { of: request(of), services, caller }
    }

    #[test]
    fn a_trace_with_what_the_only_request_of_its_time_lacks_belongs_to_it() {
        let world = World::new(&[0, 100], 0);
        for at in [10, 60] {
            assert_eq!(world.origins(&[at], "depot", &Origin::Unexplained), [lacking(0, None)]);
        }
        assert_eq!(
            world.origins(&[10, 170], "depot", &Origin::Unexplained),
            [lacking(0, None), lacking(1, None)]
        );
        let unrecorded = Origin::Unrecorded { caller: "shop".to_owned() };
        assert_eq!(world.origins(&[10], "depot", &unrecorded), [lacking(0, Some("shop"))]);
    }

    #[test]
    fn what_may_be_a_job_of_the_service_s_own_belongs_to_none() {
        for (sent_at, whole, begun, with, because) in [
            (&[0][..], 1, &[10][..], "depot", "the request lacks nothing"),
            (&[0], 0, &[10], "mail", "it has nothing that the request lacks"),
            (&[0], 0, &[10, 20], "depot", "there are two alike"),
            (&[0], 0, &[-10, 10], "depot", "one began before the request"),
            (&[0], 0, &[2_000], "depot", "it began long after the request"),
            (&[0, 100], 1, &[10, 110], "depot", "one began upon a request that lacks nothing"),
            (&[0, 20], 0, &[30], "depot", "the requests overlap"),
        ] {
            let world = World::new(sent_at, whole);
            let origins = world.origins(begun, with, &Origin::Unexplained);
            assert!(
                origins.iter().all(|one| *one == Origin::Unexplained),
                "{because}: {origins:?}"
            );
        }
        let world = World::new(&[0], 0);
        assert_eq!(world.origins(&[10], "depot", &Origin::Foreign), [Origin::Foreign]);
    }
}
