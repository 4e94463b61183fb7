//! Each origin, alone and among other requests that are in progress at the same time.

use std::collections::BTreeMap;

use super::*;
use crate::{
    case::{Case, LedgerReport, Outcome, ServiceIdentity, Topology},
    finding::SystemFindings,
    judge::testing::{MS, case, span},
    ledger::{LedgerEntry, LedgerSpan},
    system::OwnTraces,
    trace::{Span, SpanId, Trace},
};

mod nobodys;

/// How many requests are in flight at the same time.
const REQUESTS: u128 = 12;
/// The id of the stray trace that tests look at.
const STRAY: u128 = 0x9000;

/// A shop that calls payments, and requests to it that overlap.
struct World {
    topology: Topology,
    places: Places,
    requests: Requests,
    /// All that was captured.
    spans: Vec<Span>,
}

fn id(request: u128) -> TraceId {
    TraceId(0x100 + request)
}

/// The id of a span of a request's trace: its server's, its client's, the called server's.
fn of(request: u128, number: u64) -> u64 {
    0x1000 * (request as u64 + 1) + number
}

impl World {
    /// `requests` healthy requests that begin one millisecond after another and take 100 ms each.
    fn new(requests: u128) -> Self {
        let services = ["shop", "pay", "mail"].map(|name| ServiceIdentity {
            workload: name.to_owned(),
            service: Some(name.to_owned()),
            instances: Vec::new(),
            meant: None,
            ..ServiceIdentity::default()
        });
        let topology = Topology { services: services.into() };
        let mut world = Self {
            topology,
            places: Places::default(),
            requests: Requests::default(),
            spans: Vec::new(),
        };
        for request in 0..requests {
            let began = request as i64 * MS;
            world.requests.claim(id(request), began);
            let case = Case {
                trace_id: id(request),
                driver_span: SpanId(of(request, 0)),
                sent_at: began,
                ended_at: began + 100 * MS,
                outcome: Outcome::Response { status: 200, trace_id: Some(id(request)) },
                ..case()
            };
            world.requests.note(&case, "/orders?full=1", &world.topology);
            for (number, below, service, kind, from, to) in [
                (1, 0, "shop", "server", 5, 95),
                (2, 1, "shop", "client", 10, 80),
                (3, 2, "pay", "server", 15, 70),
            ] {
                let mut span = span(
                    of(request, number),
                    of(request, below),
                    service,
                    kind,
                    began + from * MS,
                    (to - from) * MS,
                );
                span.trace_id = id(request);
                let path = if number == 1 { "/orders" } else { "/charge" };
                http(&mut span, "GET", path, 200);
                world.spans.push(span);
            }
        }
        world
    }

    fn span(&mut self, id: u64) -> &mut Span {
        self.spans.iter_mut().find(|span| span.id == SpanId(id)).unwrap()
    }

    /// Moves the called service's span of a request into a trace of its own, as a context that was not handed on does.
    fn break_the_call(&mut self, request: u128, stray: u128) {
        let span = self.span(of(request, 3));
        (span.trace_id, span.parent_id) = (TraceId(stray), None);
    }

    /// Adds a trace of one span.
    fn stray(&mut self, service: &str, kind: &str, start: i64) -> &mut Span {
        let mut span = span(0x77, 0, service, kind, start, 10 * MS);
        span.trace_id = TraceId(STRAY);
        span.metrics.remove("http.status_code");
        self.spans.push(span);
        self.spans.last_mut().unwrap()
    }

    fn found(&self) -> Strays<Stray> {
        let claims = self.requests.claims();
        let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
        for span in self.spans.iter().filter(|span| !claims.contains(&span.trace_id)) {
            traces.entry(span.trace_id).or_default().push(span.clone());
        }
        let traces = traces.into_iter().map(|(id, spans)| Trace::new(id, spans)).collect();
        Strays::new(resolve(traces, self.ground(), &|look| self.spans.iter().for_each(look)))
    }

    fn ground(&self) -> Ground<'_> {
        Ground { topology: &self.topology, places: &self.places, requests: &self.requests }
    }

    fn origin_of(&self, stray: u128) -> Origin {
        let found = self.found();
        let stray = found.all.iter().find(|one| one.trace.id == TraceId(stray)).unwrap();
        stray.origin.clone()
    }

    /// The stray's origin, which every other request must be left out of.
    fn origin(&self) -> Origin {
        let origin = self.origin_of(STRAY);
        let found = self.found();
        for request in 0..REQUESTS {
            let case = Case { trace_id: id(request), ..case() };
            let of_it = found.of(&case).len();
            assert_eq!(of_it, usize::from(origin.owner() == Some(id(request))), "{request}");
        }
        origin
    }

    fn judge(&self) -> SystemFindings {
        Nobodys::new(self.found().nobodys(), self.ground()).judge("the shop", None)
    }
}

fn http(span: &mut Span, method: &str, path: &str, status: u16) {
    span.meta.insert("http.method".to_owned(), method.to_owned());
    span.meta.insert("url.path".to_owned(), path.to_owned());
    span.metrics.insert("http.status_code".to_owned(), f64::from(status));
    span.resource = format!("{method} {path}");
}

fn links(to: &[TraceId]) -> String {
    let links = to.iter().map(|to| serde_json::json!({ "trace_id": to.to_string() }));
    serde_json::Value::from_iter(links).to_string()
}

fn link(span: &mut Span, to: TraceId) {
    let links = format!("[{{\"trace_id\":\"{to}\",\"span_id\":\"0000000000000001\"}}]");
    span.meta.insert("_dd.span_links".to_owned(), links);
}

/// Each world with one request alone, and with eleven others beside it.
fn alone_and_among_others(check: impl Fn(&mut World)) {
    check(&mut World::new(1));
    check(&mut World::new(REQUESTS));
}

#[test]
fn healthy_requests_leave_no_stray() {
    assert!(World::new(REQUESTS).found().all.is_empty());
}

#[test]
fn a_trace_that_an_answer_named_is_that_requests() {
    alone_and_among_others(|world| {
        world.stray("shop", "server", 50 * MS);
        let outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(STRAY)) };
        let case = Case { trace_id: id(0), driver_span: SpanId(of(0, 0)), outcome, ..case() };
        world.requests.note(&case, "/orders", &Topology::default());
        assert_eq!(world.origin(), Origin::Answer { of: id(0) });
    });
}

#[test]
fn a_link_in_either_direction_and_over_others_makes_a_linked_trace() {
    alone_and_among_others(|world| {
        link(world.stray("mail", "consumer", 900 * MS), id(0));
        assert_eq!(world.origin(), Origin::Link { of: id(0), also: Vec::new() });
        assert_eq!(world.judge(), SystemFindings::default());
    });
    alone_and_among_others(|world| {
        world.stray("mail", "consumer", 900 * MS);
        link(world.span(of(0, 3)), TraceId(STRAY));
        assert_eq!(world.origin(), Origin::Link { of: id(0), also: Vec::new() });
    });
    let mut chain = World::new(REQUESTS);
    for number in 0..20 {
        let to = if number == 0 { id(3) } else { TraceId(STRAY + number) };
        let span = chain.stray("mail", "consumer", 900 * MS);
        span.trace_id = TraceId(STRAY + number + 1);
        link(span, to);
    }
    assert_eq!(chain.found().all.len(), 20);
    assert_eq!(chain.origin_of(STRAY + 20), Origin::Link { of: id(3), also: Vec::new() });
}

#[test]
fn a_parent_in_a_requests_trace_shows_whose_it_is() {
    alone_and_among_others(|world| {
        world.stray("pay", "server", 20 * MS).parent_id = Some(SpanId(of(0, 2)));
        let (span, parent) = (SpanId(0x77), SpanId(of(0, 2)));
        assert_eq!(world.origin(), Origin::Parent { of: id(0), span, parent });
    });
}

#[test]
fn a_span_that_a_ledger_has_in_a_requests_trace_shows_whose_it_is() {
    alone_and_among_others(|world| {
        world.stray("pay", "server", 20 * MS);
        let made = LedgerSpan {
            span_id: SpanId(0x77),
            parent_span_id: None,
            name: String::new(),
            kind: "server".to_owned(),
            sampled: true,
            parent_sampled: None,
            recorded: None,
        };
        let entry = LedgerEntry { trace_id: id(0), spans: vec![made], evicted: false };
        let ledgers = BTreeMap::from([("pay".to_owned(), LedgerReport::Known(entry))]);
        world.requests.note_ledgers(&Case { trace_id: id(0), ..case() }, &ledgers);
        assert_eq!(world.origin(), Origin::Moved { of: id(0), span: SpanId(0x77) });
    });
}

#[test]
fn the_call_that_nobody_answers_shows_whose_it_is() {
    alone_and_among_others(|world| {
        world.break_the_call(0, STRAY);
        let (caller, what) = ("shop".to_owned(), "GET /charge".to_owned());
        let call = SpanId(of(0, 2));
        assert_eq!(world.origin(), Origin::Call { of: id(0), call, caller, what });
    });
}

#[test]
fn each_unanswered_call_has_one_answer() {
    let mut world = World::new(REQUESTS);
    for request in 0..REQUESTS {
        world.break_the_call(request, STRAY + request);
    }
    let found = world.found();
    for request in 0..REQUESTS {
        assert_eq!(found.of(&Case { trace_id: id(request), ..case() }).len(), 1, "{request}");
    }
}

#[test]
fn the_harness_s_own_request_is_a_call_to_the_entry() {
    alone_and_among_others(|world| {
        for number in 1..=3 {
            world.span(of(0, number)).trace_id = TraceId(STRAY);
        }
        world.span(of(0, 1)).parent_id = None;
        let (caller, what) = ("tracecheck".to_owned(), "GET /orders".to_owned());
        let call = SpanId(of(0, 0));
        assert_eq!(world.origin(), Origin::Call { of: id(0), call, caller, what });
    });
}

#[test]
fn what_belongs_to_a_stray_belongs_to_its_request() {
    let mut world = World::new(REQUESTS);
    world.break_the_call(4, STRAY);
    // The one that was called calls on, and loses the context again; what it calls links a consumer to it.
    let mut onward = span(0x81, of(4, 3), "pay", "client", 20 * MS, 30 * MS);
    onward.trace_id = TraceId(STRAY);
    let mut answer = span(0x82, 0, "mail", "server", 25 * MS, 10 * MS);
    answer.trace_id = TraceId(STRAY + 1);
    let mut consumer = span(0x83, 0, "mail", "consumer", 900 * MS, 10 * MS);
    consumer.trace_id = TraceId(STRAY + 2);
    link(&mut consumer, TraceId(STRAY + 1));
    world.spans.extend([onward, answer, consumer]);
    for stray in STRAY..=STRAY + 2 {
        assert_eq!(world.origin_of(stray).owner(), Some(id(4)), "{stray:x}");
    }
    assert!(world.origin_of(STRAY + 2).is_link());
}

#[test]
fn what_does_not_fit_a_call_is_not_its_answer() {
    let misfit = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(REQUESTS);
        world.break_the_call(0, STRAY);
        change(&mut world);
        world.origin_of(STRAY)
    };
    let server = of(0, 3);
    assert_eq!(misfit(&|world| http(world.span(server), "POST", "/charge", 200)), Origin::Foreign);
    assert_eq!(misfit(&|world| http(world.span(server), "GET", "/admin", 200)), Origin::Foreign);
    assert_eq!(misfit(&|world| http(world.span(server), "GET", "/charge", 404)), Origin::Foreign);
    assert_eq!(misfit(&|world| world.span(server).start = 300 * MS), Origin::Foreign);
    let to_mail = |world: &mut World| {
        world
            .span(of(0, 2))
            .meta
            .insert("url.full".to_owned(), "http://mail:8080/charge".to_owned());
    };
    assert_eq!(misfit(&to_mail), Origin::Foreign);
    let port = |world: &mut World| {
        world.places.ports.insert("mail".to_owned(), [4711].into());
        world
            .span(of(0, 2))
            .meta
            .insert("url.full".to_owned(), "http://127.0.0.1:4711/charge".to_owned());
    };
    assert_eq!(misfit(&port), Origin::Foreign);
    let to_a_database = |world: &mut World| {
        world.span(of(0, 2)).meta.insert("db.system".to_owned(), "postgresql".to_owned());
    };
    assert_eq!(misfit(&to_a_database), Origin::Foreign);
}

/// Between the shop and payments stands a proxy that makes no spans, as the system file says or since none was captured; it drops the
/// context, or puts another one in its place.
#[test]
fn a_call_through_a_silent_proxy_is_answered_by_who_is_behind_it() {
    for (parent, is_declared) in [(None, true), (Some(SpanId(0xdead)), true), (None, false)] {
        let mut world = World::new(REQUESTS);
        world.break_the_call(0, STRAY);
        world.span(of(0, 3)).parent_id = parent;
        let call = world.span(of(0, 2));
        call.meta.insert("server.address".to_owned(), "proxy".to_owned());
        if is_declared {
            world.places.untraced.insert("proxy".to_owned());
        } else {
            let proxy = ServiceIdentity { workload: "proxy".to_owned(), ..Default::default() };
            world.topology.services.push(proxy);
        }
        assert_eq!(world.origin_of(STRAY), Origin::Foreign, "nothing leads from it to payments");
        world.places.callees.insert("proxy".to_owned(), ["pay".to_owned()].into());
        let found = world.origin_of(STRAY);
        assert!(matches!(&found, Origin::Call { caller, .. } if caller == "shop"), "{found:?}");
        // One of which spans were captured would have answered in the caller's trace.
        if !is_declared {
            world.spans.push(span(0x88, 0, "proxy", "server", 0, MS));
            assert_eq!(world.origin_of(STRAY), Origin::Foreign);
        }
    }
}

/// A client that follows a redirect makes one span of it all, with the status that it got in the end.
#[test]
fn a_redirect_is_the_answer_to_a_call_whatever_came_of_it() {
    let mut world = World::new(REQUESTS);
    world.break_the_call(0, STRAY);
    http(world.span(of(0, 3)), "GET", "/charge", 302);
    assert!(matches!(world.origin_of(STRAY), Origin::Call { .. }));
    http(world.span(of(0, 3)), "GET", "/charge", 500);
    assert_eq!(world.origin_of(STRAY), Origin::Foreign);
}

#[test]
fn a_trace_that_links_to_several_requests_belongs_to_each() {
    let mut world = World::new(REQUESTS);
    let stray = world.stray("mail", "consumer", 300 * MS);
    stray.meta.insert("_dd.span_links".to_owned(), links(&[id(3), id(1), TraceId(STRAY + 1)]));
    // Links to the batch, and to nothing else.
    let mut after = span(0x78, 0, "mail", "consumer", 310 * MS, MS);
    after.trace_id = TraceId(STRAY + 2);
    link(&mut after, TraceId(STRAY));
    world.spans.push(after);
    // One message more, whose trace the batch links to.
    let mut producer = span(0x79, 0, "shop", "producer", 290 * MS, MS);
    producer.trace_id = TraceId(STRAY + 1);
    link(&mut producer, id(5));
    world.spans.push(producer);
    let all = Origin::Link { of: id(1), also: vec![id(3), id(5)] };
    assert_eq!(world.origin_of(STRAY), all);
    assert_eq!(world.origin_of(STRAY + 2), all);
    let its_own = Origin::Link { of: id(5), also: Vec::new() };
    assert_eq!(world.origin_of(STRAY + 1), its_own, "what others link to is not theirs");
    let found = world.found();
    for (request, count) in [(0, 0), (1, 2), (3, 2), (5, 3)] {
        let case = Case { trace_id: id(request), ..case() };
        assert_eq!(found.of(&case).len(), count, "{request}");
    }
    let cases = [1, 3, 5].map(|request| Case { trace_id: id(request), ..case() });
    assert_eq!(found.of_all(cases.iter()).len(), 3, "each is kept once");
}

#[test]
fn a_cases_own_strays_are_kept_before_its_linked_ones_and_a_record_keeps_the_same() {
    let mut world = World::new(1);
    for number in 0..200 {
        let span = world.stray("mail", "consumer", 900 * MS);
        span.trace_id = TraceId(STRAY + 1 + number);
        link(span, id(0));
    }
    world.break_the_call(0, STRAY);
    let found = world.found();
    let case = Case { trace_id: id(0), ..case() };
    let of_case: Vec<TraceId> = found.of(&case).iter().map(|stray| stray.trace.id).collect();
    assert_eq!((of_case[0], of_case.len()), (TraceId(STRAY), 1 + LINKED_KEPT));
    let kept = Strays::new(found.of_all([&case].into_iter()));
    assert_eq!(kept.of(&case).iter().map(|stray| stray.trace.id).collect::<Vec<_>>(), of_case);
}

#[test]
fn strays_are_looked_for_again_only_when_something_became_known() {
    let mut now = StraysNow::default();
    let mut looks = 0;
    let mut look = |version: Version, found: Vec<Stray>| {
        now.refresh(version, || {
            looks += 1;
            found
        });
        looks
    };
    let one = Stray { trace: Trace::new(TraceId(STRAY), Vec::new()), origin: Origin::Foreign };
    assert_eq!(look((1, 1, 1), Vec::new()), 1);
    // Without a stray, ledgers change nothing.
    assert_eq!(look((1, 1, 2), Vec::new()), 1);
    assert_eq!(look((2, 1, 2), vec![one.clone()]), 2);
    assert_eq!(look((2, 1, 2), vec![one.clone()]), 2);
    assert_eq!(look((2, 1, 3), vec![one.clone()]), 3);
    assert_eq!(look((2, 2, 3), vec![one]), 4);
}

#[test]
fn spans_of_requests_that_were_put_into_an_earlier_trace_are_theirs() {
    let mut world = World::new(REQUESTS);
    world.stray("pay", "server", -50 * MS);
    assert_eq!(world.origin_of(STRAY), Origin::StartUp);
    let moved = of(2, 3);
    world.span(moved).trace_id = TraceId(STRAY);
    let parent = SpanId(of(2, 2));
    let found = Origin::Parent { of: id(2), span: SpanId(moved), parent };
    assert_eq!(world.origin_of(STRAY), found);
}

#[test]
fn a_workload_is_called_by_who_says_so_through_those_that_pass_calls_on() {
    let mut world = World::new(1);
    let names = |world: &World| {
        let of = ["pay", "mail"].map(str::to_owned).into();
        let called = called(of, world.ground(), &|look| world.spans.iter().for_each(look));
        Vec::from_iter(called)
    };
    assert_eq!(names(&world), [] as [&str; 0]);
    let call = world.span(of(0, 2));
    call.meta.insert("server.address".to_owned(), "gateway".to_owned());
    world.places.untraced.insert("gateway".to_owned());
    assert_eq!(names(&world), [] as [&str; 0]);
    world.places.callees.insert("gateway".to_owned(), ["pay".to_owned()].into());
    assert_eq!(names(&world), ["pay"]);
    world.span(of(0, 2)).error = true;
    assert_eq!(names(&world), [] as [&str; 0]);
}
