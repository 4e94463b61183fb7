//! Traces that belong to no request of the run.

use super::*;

#[test]
fn a_request_of_somebody_else_is_one_warning_and_nobodys_failure() {
    alone_and_among_others(|world| {
        http(world.stray("pay", "server", 50 * MS), "POST", "/login", 404);
        assert_eq!(world.origin(), Origin::Foreign);
        let found = world.judge();
        assert_eq!(found.undecided, [""; 0]);
        let [warning] = found.warnings.as_slice() else { panic!("{found:?}") };
        let reported = "`pay` began `POST /login` (server, answered 404)";
        assert!(warning.text.contains(reported), "{warning:?}");
    });
}

#[test]
fn a_trace_that_goes_on_from_somebody_elses_is_foreign() {
    let mut world = World::new(REQUESTS);
    world.stray("pay", "server", 50 * MS).parent_id = Some(SpanId(0xdead));
    assert_eq!(world.origin(), Origin::Foreign);
}

#[test]
fn what_goes_on_below_a_span_of_the_service_s_own_is_not_put_down_to_third_parties() {
    let mut world = World::new(REQUESTS);
    world.stray("pay", "internal", 50 * MS).parent_id = Some(SpanId(0xdead));
    assert_eq!(world.origin(), Origin::Foreign);
    let found = world.judge();
    assert_eq!((found.undecided.len(), found.warnings.len()), (0, 0), "{found:?}");
    assert!(found.notes[0].contains("below spans that were not captured"), "{found:?}");
}

#[test]
fn a_lost_context_long_after_the_answer_is_named_at_the_run() {
    alone_and_among_others(|world| {
        let last = world.requests.sent.last().unwrap().ended_at;
        world.stray("mail", "consumer", last + 104 * MS).resource = "process order".to_owned();
        assert_eq!(world.origin(), Origin::Unexplained);
        let found = world.judge();
        let [undecided] = found.undecided.as_slice() else { panic!("{found:?}") };
        for text in [
            "the shop: 1 trace began by no known request",
            "`mail` began `process order` (consumer)",
            "104 ms after the answer to GET /orders",
            "`own_traces`",
        ] {
            assert!(undecided.contains(text), "{text}: {undecided}");
        }
    });
}

#[test]
fn alike_traces_are_named_once_and_counted() {
    let mut world = World::new(REQUESTS);
    for number in 0..30 {
        let span = world.stray("mail", "internal", 300 * MS);
        (span.trace_id, span.resource) = (TraceId(STRAY + number), "tick".to_owned());
    }
    let found = world.judge();
    let [undecided] = found.undecided.as_slice() else { panic!("{found:?}") };
    assert!(undecided.contains("30 traces began"), "{undecided}");
    assert_eq!(undecided.matches("`tick`").count(), 1, "{undecided}");
}

#[test]
fn a_call_without_a_span_of_the_caller_is_not_taken_for_foreign() {
    let mut world = World::new(REQUESTS);
    // The shop's calls leave no spans, and payments does not get the context.
    for request in 0..REQUESTS {
        world.break_the_call(request, STRAY + request);
    }
    world.spans.retain(|span| span.kind() != "client");
    assert_eq!(world.origin_of(STRAY), Origin::Foreign);
    world.places.callees.insert("shop".to_owned(), ["pay".to_owned()].into());
    let unrecorded = Origin::Unrecorded { caller: "shop".to_owned() };
    assert_eq!(world.origin_of(STRAY), unrecorded);
    let found = world.judge();
    let [undecided] = found.undecided.as_slice() else { panic!("{found:?}") };
    assert!(undecided.contains("`shop` is given that address"), "{undecided}");
    assert!(undecided.contains("`pay` began"), "{undecided}");
    // Its calls to a database, and to others by their address, leave spans; those to payments still leave none.
    let call = |number: u64| {
        let mut call = span(number, of(0, 1), "shop", "client", 10 * MS, 10 * MS);
        call.trace_id = id(0);
        call
    };
    for (key, value) in [("db.system", "postgresql"), ("server.address", "api.example.com")] {
        let mut call = call(0xdb);
        call.meta.insert("url.path".to_owned(), "/other".to_owned());
        call.meta.insert(key.to_owned(), value.to_owned());
        world.spans.push(call);
        assert_eq!(world.origin_of(STRAY), unrecorded, "{key}");
    }
    // One that may have gone anywhere may have gone there.
    world.spans.push(Span { resource: "GET /charge".to_owned(), ..call(0xdc) });
    world.spans.last_mut().unwrap().meta.insert("url.path".to_owned(), "/other".to_owned());
    assert_eq!(world.origin_of(STRAY + 1), Origin::Foreign);
    // Some of its calls leave spans, and one does not, in which payments was asked for what it is asked for in the others.
    let mut one = World::new(REQUESTS);
    one.break_the_call(0, STRAY);
    one.spans.retain(|span| span.kind() != "client" || span.trace_id != id(0));
    for call in one.spans.iter_mut().filter(|span| span.kind() == "client") {
        call.meta.insert("server.address".to_owned(), "pay".to_owned());
    }
    one.places.callees.insert("shop".to_owned(), ["pay".to_owned()].into());
    assert_eq!(one.origin_of(STRAY), unrecorded);
    one.span(of(0, 3)).resource = "GET /metrics".to_owned();
    assert_eq!(one.origin_of(STRAY), Origin::Foreign);
    // Where calls of the shop do leave spans, this was none.
    let mut other = World::new(REQUESTS);
    other.places.callees.insert("shop".to_owned(), ["pay".to_owned(), "mail".to_owned()].into());
    other.stray("mail", "server", 50 * MS);
    assert_eq!(other.origin(), Origin::Foreign);
}

#[test]
fn spans_of_the_start_are_counted_and_nothing_else() {
    let mut world = World::new(REQUESTS);
    world.stray("shop", "client", -1).resource = "create table".to_owned();
    assert_eq!(world.origin(), Origin::StartUp);
    let found = world.judge();
    assert_eq!((found.undecided.len(), found.warnings.len()), (0, 0));
    assert!(found.notes[0].contains("1 trace began at the start of services"), "{found:?}");
    // Once requests are sent, the start is over; but not for a service that was started again.
    let mut late = World::new(REQUESTS);
    late.stray("shop", "client", 300 * MS);
    assert_eq!(late.origin(), Origin::Unexplained);
    late.requests.note_out("pay", 200 * MS, false);
    assert_eq!(late.origin(), Origin::Unexplained);
    late.requests.note_out("shop", 200 * MS, false);
    assert_eq!(late.origin(), Origin::StartUp);
    late.requests.note_back("shop", 301 * MS);
    assert_eq!(late.origin(), Origin::StartUp);
}

#[test]
fn a_start_up_after_a_restart_ends() {
    let mut world = World::new(REQUESTS);
    world.stray("shop", "internal", 300 * MS);
    world.requests.note_out("shop", 200 * MS, false);
    world.requests.note_back("shop", 299 * MS);
    assert_eq!(world.origin(), Origin::Unexplained);
    world.requests.note_out("shop", 299 * MS, true);
    assert_eq!(world.origin(), Origin::Unexplained, "what was frozen does not start up");
    world.requests.note_out("shop", 299 * MS, false);
    assert_eq!(world.origin(), Origin::StartUp);
}

#[test]
fn who_could_not_be_reached_is_known_by_what_was_out() {
    let reached = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(1);
        let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        world.places.callees.insert("shop".to_owned(), to(&["mail"]));
        world.places.callees.insert("mail".to_owned(), to(&["pay"]));
        change(&mut world);
        world.requests.could_reach("pay", &world.places)
    };
    assert!(reached(&|_| {}));
    for out in ["pay", "mail"] {
        assert!(!reached(&|world| world.requests.note_out(out, -MS, false)), "{out}");
        assert!(!reached(&|world| world.requests.note_out(out, -MS, true)), "{out}");
    }
    let meanwhile = |world: &mut World| world.requests.note_out("mail", 50 * MS, false);
    assert!(reached(&meanwhile), "it was stopped while the request was in progress");
    let before = |world: &mut World| {
        world.requests.note_out("mail", -2 * MS, false);
        world.requests.note_back("mail", -MS);
    };
    assert!(reached(&before));
    let on_another_way = |world: &mut World| {
        world.requests.note_out("mail", -MS, false);
        world.places.callees.get_mut("shop").unwrap().insert("pay".to_owned());
    };
    assert!(reached(&on_another_way));
    let by_nobody_known = |world: &mut World| {
        world.requests.note_out("mail", -MS, false);
        world.places.callees.clear();
    };
    assert!(reached(&by_nobody_known));
    // The harness's own request afterwards shows something only where it was answered well.
    for (status, shows) in [(200, true), (502, false)] {
        let later = |world: &mut World| {
            world.requests.note_out("pay", -MS, false);
            world.requests.note_back("pay", 200 * MS);
            let outcome = Outcome::Response { status, trace_id: None };
            let (sent_at, ended_at) = (300 * MS, 310 * MS);
            let case = Case { trace_id: id(9), sent_at, ended_at, outcome, ..case() };
            world.requests.note(&case, "/orders", &world.topology);
            world.requests.note_for_itself(id(9));
        };
        assert_eq!(reached(&later), shows, "{status}");
    }
}

#[test]
fn probes_are_known_by_their_path_their_client_and_their_service() {
    let probe = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(REQUESTS);
        http(world.stray("pay", "server", 50 * MS), "GET", "/ready", 200);
        change(&mut world);
        world.origin()
    };
    let stray = |world: &mut World, key: &str, value: &str| {
        world.spans.last_mut().unwrap().meta.insert(key.to_owned(), value.to_owned());
    };
    assert_eq!(probe(&|_| {}), Origin::Foreign);
    let health = |world: &mut World| {
        world.places.health.insert("pay".to_owned(), "/ready?deep=1".to_owned());
    };
    assert_eq!(probe(&health), Origin::Probe);
    let agent = |world: &mut World| stray(world, "http.useragent", "kube-probe/1.33");
    assert_eq!(probe(&agent), Origin::Probe);
    let reflection = "grpc.reflection.v1.ServerReflection";
    assert_eq!(probe(&|world| stray(world, "rpc.service", reflection)), Origin::Probe);
    assert_eq!(probe(&|world| stray(world, "rpc.service", "shop.Orders")), Origin::Foreign);
}

#[test]
fn declared_traces_are_the_services_own() {
    let mut world = World::new(REQUESTS);
    world.stray("mail", "internal", 300 * MS).resource = "cleanup of orders".to_owned();
    assert_eq!(world.origin(), Origin::Unexplained);
    let own =
        |service: &str| OwnTraces { service: service.to_owned(), resource: "cleanup *".to_owned() };
    world.places.own_traces = vec![own("pay")];
    assert_eq!(world.origin(), Origin::Unexplained);
    world.places.own_traces = vec![own("mail")];
    assert_eq!(world.origin(), Origin::Declared);
    assert_eq!(world.judge().undecided, [""; 0]);
}

#[test]
fn where_something_may_be_missing_nothing_is_concluded() {
    let mut world = World::new(REQUESTS);
    world.stray("mail", "internal", 300 * MS);
    let nobodys = Nobodys::new(world.found().nobodys(), world.ground());
    let found = nobodys.judge("the shop", Some("the evidence has a gap"));
    assert_eq!((found.undecided.len(), found.warnings.len()), (0, 0));
    assert!(found.notes[0].contains("not judged: the evidence has a gap"), "{found:?}");
}

#[test]
fn calls_of_a_service_that_was_never_heard_of_are_not_taken_for_foreign() {
    let mut world = World::new(REQUESTS);
    // Mail goes on with the order in a trace of its own, of which nothing is captured, and calls payments.
    world.stray("pay", "server", 300 * MS).metrics.insert("http.status_code".to_owned(), 200.0);
    assert_eq!(world.origin_of(STRAY), Origin::Foreign);
    world.places.callees.insert("mail".to_owned(), ["pay".to_owned()].into());
    assert_eq!(world.origin_of(STRAY), Origin::Unrecorded { caller: "mail".to_owned() });
    // Once mail is heard of, its own calls leave spans, or it is at work meanwhile.
    let mut linked = span(0x79, 0, "mail", "consumer", 400 * MS, 50 * MS);
    linked.trace_id = TraceId(STRAY + 1);
    link(&mut linked, id(3));
    world.spans.push(linked);
    assert_eq!(world.origin_of(STRAY), Origin::Foreign);
    world.span(0x79).start = 290 * MS;
    assert_eq!(world.origin_of(STRAY), Origin::Unrecorded { caller: "mail".to_owned() });
}
