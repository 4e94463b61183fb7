use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    case::{
        Around, Case, Evidence, Origin, Outcome, ResponseParts, ServiceIdentity, Shape, Stray,
        Topology,
    },
    scenario::{Method, Request},
    trace::{PayloadForm, SpanId, Trace, TraceId},
};

const TRACE: TraceId = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
const DRIVER: u64 = 0xd0;

fn span(id: u64, parent: u64, service: &str, kind: &str, resource: &str) -> Span {
    Span {
        trace_id: TRACE,
        datadog_trace_id: TRACE.low(),
        id: SpanId(id),
        parent_id: Some(SpanId(parent)),
        service: service.to_owned(),
        name: "http".to_owned(),
        resource: resource.to_owned(),
        span_type: "web".to_owned(),
        error: false,
        start: i64::try_from(id).unwrap(),
        duration: 1_000_000,
        meta: BTreeMap::from([("span.kind".to_owned(), kind.to_owned())]),
        metrics: BTreeMap::new(),
        hostname: String::new(),
        env: String::new(),
        container_id: String::new(),
        language: String::new(),
        priority: 1,
        dropped: false,
        form: PayloadForm::Datadog,
        attempt: 1,
    }
}

/// `shop` calls `pay`, whose span has an event, a link, texts and numbers.
fn spans() -> Vec<Span> {
    let mut pay = span(3, 2, "pay", "server", "POST /pay");
    let text = |value: Value| value.to_string();
    pay.meta.extend([
        ("order.id".to_owned(), "o-17".to_owned()),
        (
            "events".to_owned(),
            text(json!([
                { "name": "exception", "attributes": { "exception.type": "Declined", "tries": "2" } },
                { "name": "retry" }
            ])),
        ),
        (
            "_dd.span_links".to_owned(),
            text(json!([{ "trace_id": "00000000000000000000000000000007", "span_id": "0000000000000001", "attributes": { "kind": "batch" } }])),
        ),
    ]);
    pay.metrics.insert("order.total".to_owned(), 12.5);
    vec![
        span(1, DRIVER, "shop", "server", "POST /orders"),
        span(2, 1, "shop", "client", "POST"),
        pay,
    ]
}

struct World {
    case: Case,
    evidence: Evidence,
    strays: Vec<Stray>,
    topology: Topology,
    shape: Shape,
}

fn world(spans: Vec<Span>) -> World {
    let case = Case {
        request: 0,
        ordinal: 0,
        trace_id: TRACE,
        driver_span: SpanId(DRIVER),
        driver_exported: false,
        context_sent: true,
        sampled: true,
        sent_at: 0,
        ended_at: 10,
        outcome: Outcome::Response { status: 201, trace_id: None },
        method: Method::Post,
        entry: None,
        answer: ResponseParts::default(),
    };
    let evidence = Evidence { trace: Some(Trace::new(TRACE, spans)), ..Evidence::default() };
    let services = ["shop", "pay"].map(|name| ServiceIdentity {
        workload: name.to_owned(),
        service: Some(name.to_owned()),
        instances: Vec::new(),
        meant: None,
        ..ServiceIdentity::default()
    });
    let topology = Topology { services: services.into() };
    World { case, evidence, strays: Vec::new(), topology, shape: Shape::default() }
}

impl World {
    fn failures(&self, expect: &Expect, request: &Request) -> Vec<String> {
        let Self { case, evidence, topology, shape, .. } = self;
        let strays: Vec<&Stray> = self.strays.iter().collect();
        let (strays, capabilities) = (strays.as_slice(), [Capability::Completeness].as_slice());
        let around = &Around::default();
        let view = View { case, evidence, strays, capabilities, topology, shape, around };
        let findings = check(expect, &request.asked(), view);
        assert_eq!(findings.not_evaluated, []);
        let reported = |failure: Failure| format!("{}: {}", failure.rule, failure.detail);
        findings.failures.into_iter().map(reported).collect()
    }
}

/// Checks the world's spans against the `expect` of a scenario, written as YAML.
fn failures(world: &World, expect: &str) -> Vec<String> {
    let text = format!(
        "name: one\ndescription: x\nrequests: [{{ post: /orders, status: 201 }}]\nexpect: {expect}\nsystem: {{ file: own.yaml }}\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let system = "entry: shop\nworkloads:\n  - { name: shop, command: [shop, '${listen:http}'], ports: [http] }\n";
    std::fs::write(dir.path().join("own.yaml"), system).unwrap();
    let path = dir.path().join("scenario.yaml");
    let (scenario, _) =
        crate::load::parse(&path, &text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    world.failures(&scenario.expect, &scenario.requests[0])
}

fn of_pay(is: &str) -> Vec<String> {
    failures(&world(spans()), &format!("{{ spans: [{{ at: pay, is: {is}, count: 1 }}] }}"))
}

#[test]
fn texts_numbers_events_and_links_that_are_as_asked_for_pass() {
    for is in [
        "{ meta: { order.id: o-17 } }",
        "{ meta: { order.id: { matches: '^o-[0-9]+$', contains: '17', type: text }, none: { exists: false } } }",
        "{ metrics: { order.total: 12.5 } }",
        "{ metrics: { order.total: { at_least: 12, at_most: 13 }, none: { exists: false } } }",
        "{ events: [{ name: exception, attributes: { exception.type: Declined, tries: { at_least: 2 } } }] }",
        "{ events: [{ name: timeout, count: 0 }, { name: { matches: '^re' }, count: 1 }] }",
        "{ links: [{ trace: another, attributes: { kind: batch } }, { trace: same, count: 0 }] }",
    ] {
        assert_eq!(of_pay(is), Vec::<String>::new(), "{is}");
    }
}

#[test]
fn what_is_not_as_asked_for_is_reported_of_the_nearest_span() {
    let cases = [
        (
            "{ meta: { order.id: { matches: '^x' } } }",
            "meta `order.id` should match `^x`, is `o-17`",
        ),
        (
            "{ meta: { order.id: { exists: false } } }",
            "meta `order.id` should not be there, is `o-17`",
        ),
        (
            "{ meta: { order.total: { exists: true } } }",
            "meta `order.total` should be there, is not there; it is a number: metrics `order.total` is 12.5",
        ),
        (
            "{ metrics: { order.total: { at_most: 10 } } }",
            "metrics `order.total` should be at most 10, is `12.5`",
        ),
        (
            "{ metrics: { order.id: 1 } }",
            "metrics `order.id` should be `1`, is not there; it is a text: meta `order.id` is `o-17`",
        ),
        (
            "{ events: [{ name: timeout }] }",
            "should have one event whose name should be `timeout`, has 0; its events: `exception`, `retry`",
        ),
        (
            "{ events: [{ name: exception, attributes: { exception.type: Timeout } }] }",
            "of its event `exception`, `exception.type` should be `Timeout`, is `Declined`",
        ),
        (
            "{ links: [{ trace: same }] }",
            "should have one link into its own trace, has 0; it has 1 in all",
        ),
        (
            "{ links: [{ attributes: { kind: single } }] }",
            "should have one link with what is asked of `kind`, has 0; of one, `kind` should be `single`, is `batch`",
        ),
    ];
    for (is, reported) in cases {
        let failed = of_pay(is);
        assert_eq!(failed.len(), 1, "{is}");
        let begin = "spans: 1 of `pay` expected, 0 captured; the nearest is `POST /pay` (server, pay, 0000000000000003): ";
        assert!(
            failed[0].starts_with(begin) && failed[0].ends_with(reported),
            "{is}: {}",
            failed[0]
        );
    }
}

#[test]
fn who_must_be_there_and_is_not_is_reported_with_who_is() {
    let mut world = world(spans());
    assert_eq!(failures(&world, "{ services: [shop, pay, PAY] }"), Vec::<String>::new());
    world.evidence.trace.as_mut().unwrap().spans.retain(|span| span.service == "shop");
    let missing = format!("services: `pay` has no span in trace {TRACE}: it has 2 of `shop`");
    assert_eq!(failures(&world, "{ services: [shop, pay] }"), std::slice::from_ref(&missing));
    let own = TraceId(7);
    let mut stray = span(9, 0, "pay", "server", "POST /pay");
    stray.parent_id = None;
    let trace = Trace::new(own, vec![stray]);
    world.strays.push(Stray { trace, origin: Origin::Answer { of: TRACE } });
    let reported = failures(&world, "{ services: [pay] }");
    let started = format!("{missing}; it started trace {own} of its own");
    assert!(reported[0].starts_with(&format!("{started} meanwhile")), "{reported:?}");
    world.strays[0].origin = Origin::Link { of: TRACE, also: Vec::new() };
    let reported = failures(&world, "{ services: [pay] }");
    assert!(
        reported[0].starts_with(&format!("{started}, which is linked to this one")),
        "{reported:?}"
    );
}

#[test]
fn who_is_further_down_in_a_linked_trace_is_to_be_asked_for_there() {
    let mut world = world(spans());
    let linked = TraceId(7);
    let mut stray = span(9, 0, "worker", "consumer", "order");
    stray.parent_id = None;
    let call = span(10, 9, "mail", "server", "POST /mail");
    let trace = Trace::new(linked, vec![stray, call]);
    world.strays.push(Stray { trace, origin: Origin::Link { of: TRACE, also: Vec::new() } });
    let reported = failures(&world, "{ services: [mail] }");
    let there = format!(
        "it has spans in trace {linked}, which is linked to this one: ask for them under `linked`"
    );
    assert!(reported[0].ends_with(&there), "{reported:?}");
}

#[test]
fn a_wrong_status_is_placed_at_the_span_that_failed_first() {
    let mut world = world(spans());
    world.case.outcome = Outcome::Response { status: 502, trace_id: Some(TRACE) };
    let wrong = "response: POST /orders should be answered with status 201: got status 502";
    let failed = |world: &mut World, ids: &[u64]| {
        for span in &mut world.evidence.trace.as_mut().unwrap().spans {
            span.error = ids.contains(&span.id.0);
        }
        failures(world, "{ within: 1s }").remove(0)
    };
    assert_eq!(failed(&mut world, &[]), wrong);
    let found = failed(&mut world, &[1, 2, 3]);
    let first = format!("{wrong}: it fails first at `POST /pay` (server, pay, 0000000000000003)");
    assert_eq!(found, first);
    // Of two that failed by themselves it is not known which one did it.
    let call = span(4, 1, "shop", "client", "GET");
    world.evidence.trace.as_mut().unwrap().spans.push(call);
    assert_eq!(failed(&mut world, &[1, 2, 3, 4]), wrong);
}

#[test]
fn a_count_that_nothing_could_fail_is_reported() {
    let mut world = world(spans());
    let none_failed = "{ spans: [{ at: pay, is: { error: true }, count: 0 }] }";
    assert_eq!(failures(&world, none_failed), Vec::<String>::new());
    world.evidence.trace.as_mut().unwrap().spans.retain(|span| span.service == "shop");
    let reported = failures(&world, none_failed);
    assert!(
        reported.len() == 1
            && reported[0].contains("has no span of `pay` at all, so that says nothing"),
        "{reported:?}"
    );
    // That it has no span at all is what this asks for.
    assert_eq!(failures(&world, "{ spans: [{ at: pay, count: 0 }] }"), Vec::<String>::new());
}

#[test]
fn spans_that_are_too_many_are_named() {
    let reported = failures(&world(spans()), "{ spans: [{ at: shop, at_most: 1 }] }");
    assert_eq!(
        reported,
        [
            "spans: 0 to 1 of `shop` expected, 2 captured: `POST /orders` (server, shop, 0000000000000001), `POST` (client, shop, 0000000000000002)"
        ]
    );
}

#[test]
fn more_children_are_allowed_below_too_unless_a_node_takes_it_back() {
    let world = world(spans());
    let tree = |more: &str| {
        format!("{{ tree: {{ server: shop, {more} children: [{{ client: shop }}] }} }}")
    };
    assert_eq!(failures(&world, &tree("more: true,")), Vec::<String>::new());
    let unexpected = [
        "tree: `POST /pay` (server, pay, 0000000000000003) was not expected below `POST` (client, shop, 0000000000000002)",
    ];
    assert_eq!(failures(&world, &tree("")), unexpected);
    let taken_back =
        "{ tree: { server: shop, more: true, children: [{ client: shop, more: false }] } }";
    assert_eq!(failures(&world, taken_back), unexpected);
}

/// `shop` asks `pay` twice: what hangs below decides which of two like calls is meant, whatever the order of either.
#[test]
fn like_siblings_are_matched_by_what_hangs_below_them() {
    let call = |id: u64, answer: &str| {
        [span(id, 1, "shop", "client", "POST"), span(id + 1, id, "pay", "server", answer)]
    };
    let mut all = vec![span(1, DRIVER, "shop", "server", "POST /orders")];
    all.extend([call(2, "POST /no"), call(4, "POST /ok"), call(6, "POST /ok")].concat());
    let calls = |answers: &[&str]| {
        let child = |answer: &&str| {
            format!(
                "{{ client: shop, children: [{{ server: pay, is: {{ resource: POST {answer} }} }}] }}"
            )
        };
        let children: Vec<String> = answers.iter().map(child).collect();
        format!("{{ tree: {{ server: shop, children: [{}] }} }}", children.join(", "))
    };
    for answers in [["/no", "/ok", "/ok"], ["/ok", "/no", "/ok"], ["/ok", "/ok", "/no"]] {
        assert_eq!(failures(&world(all.clone()), &calls(&answers)), Vec::<String>::new());
    }
    // Only what differs is named, of the one that is left.
    assert_eq!(
        failures(&world(all.clone()), &calls(&["/ok", "/no", "/other"])),
        [
            "tree: `POST /ok` (server, pay, 0000000000000007): resource should be `POST /other`, is `POST /ok`"
        ]
    );
    // One that asks for less does not take what another asks for.
    let less = "{ tree: { server: shop, children: [{ client: shop, more: true }, { client: shop, children: [{ server: pay, is: { resource: POST /no } }] }, { client: shop, more: true }] } }";
    assert_eq!(failures(&world(all), less), Vec::<String>::new());
}

/// Beyond what is worked out, each takes what fits it best.
#[test]
fn very_many_siblings_are_matched_too() {
    let mut all = vec![span(1, DRIVER, "shop", "server", "POST /orders")];
    let many = 200;
    all.extend((0..many).map(|one| span(1000 + one, 1, "shop", "client", &format!("call {one}"))));
    let child = |one: u64| format!("{{ client: shop, is: {{ resource: call {one} }} }}");
    let children: Vec<String> = (0..many).rev().map(child).collect();
    let tree = format!("{{ tree: {{ server: shop, children: [{}] }} }}", children.join(", "));
    assert_eq!(failures(&world(all), &tree), Vec::<String>::new());
}

#[test]
fn a_node_that_is_missing_is_reported_with_where_it_is() {
    let tree = "{ tree: { server: shop, more: true, children: [{ server: pay }, { client: pay }, { internal: nobody }] } }";
    assert_eq!(
        failures(&world(spans()), tree),
        [
            "tree: `pay server` is missing below `POST /orders` (server, shop, 0000000000000001); `POST /pay` (server, pay, 0000000000000003) is below `POST` (client, shop, 0000000000000002)",
            "tree: `pay client` is missing below `POST /orders` (server, shop, 0000000000000001); the trace has 1 span of `pay`, 2 of `shop`",
            "tree: `nobody internal` is missing below `POST /orders` (server, shop, 0000000000000001); the trace has 1 span of `pay`, 2 of `shop`",
        ]
    );
}

/// `shop` calls `pay` from 10 to 50 ms, and then `mail` from 60 to 90 ms; both calls and the request itself fail where they are marked.
fn timed(marked: &[u64]) -> World {
    world(timed_spans(marked))
}

fn timed_spans(marked: &[u64]) -> Vec<Span> {
    let of = |id: u64, parent: u64, service: &str, kind: &str, from: i64, to: i64| Span {
        start: from * 1_000_000,
        duration: (to - from) * 1_000_000,
        error: marked.contains(&id),
        ..span(id, parent, service, kind, &format!("{kind} {id}"))
    };
    vec![
        of(1, DRIVER, "shop", "server", 0, 100),
        of(2, 1, "shop", "client", 10, 50),
        of(3, 2, "pay", "server", 15, 45),
        of(4, 1, "shop", "client", 60, 90),
        of(5, 4, "mail", "server", 65, 85),
        of(6, 5, "mail", "internal", 70, 80),
    ]
}

#[test]
fn a_failure_begins_at_the_deepest_span_that_is_marked_without_a_gap() {
    let reported =
        |marked: &[u64], at: &str| failures(&timed(marked), &format!("{{ fails_at: {at} }}"));
    for (marked, at) in [
        (&[1][..], "shop"),
        (&[1, 2], "shop"),
        (&[1, 2, 3], "PAY"),
        (&[1, 4, 5, 6], "mail"),
        // What failed first is the cause of what failed later.
        (&[1, 2, 3, 4, 5, 6], "pay"),
        // Nothing leads from the top to the span of `mail`.
        (&[1, 2, 5], "shop"),
    ] {
        assert_eq!(reported(marked, at), Vec::<String>::new(), "{marked:?} {at}");
    }
    assert_eq!(
        reported(&[1, 2], "pay"),
        [
            "fails_at: the failure should begin at `pay`, but begins at `client 2` (client, shop, 0000000000000002), the last span that is marked as an error on the way down: `server 1` (server, shop, 0000000000000001) > `client 2` (client, shop, 0000000000000002); `server 3` (server, pay, 0000000000000003), below it, is not marked"
        ]
    );
    assert_eq!(
        reported(&[1], "nobody"),
        [
            "fails_at: the failure should begin at `nobody`, but begins at `server 1` (server, shop, 0000000000000001), the last span that is marked as an error; of `nobody`, no other span comes close"
        ]
    );
    assert_eq!(
        reported(&[], "pay"),
        ["fails_at: the failure should begin at `pay`, but no span is marked as an error"]
    );
    assert_eq!(
        reported(&[3], "pay"),
        [
            "fails_at: the failure should begin at `pay`, but of what the trace begins with, nothing is marked as an error: only `server 3` (server, pay, 0000000000000003)"
        ]
    );
}

/// Frameworks make internal spans that are not marked where what they call fails.
#[test]
fn a_failure_begins_below_internal_spans_that_are_not_marked() {
    let marked = |id: u64, parent: u64, service: &str, kind: &str, error: bool| Span {
        error,
        ..span(id, parent, service, kind, &format!("{kind} {id}"))
    };
    let all = |client: bool| {
        world(vec![
            marked(1, DRIVER, "shop", "server", true),
            marked(2, 1, "shop", "internal", false),
            marked(3, 2, "shop", "internal", false),
            marked(4, 3, "shop", "client", client),
            marked(5, 4, "pay", "server", true),
        ])
    };
    assert_eq!(failures(&all(true), "{ fails_at: pay }"), Vec::<String>::new());
    assert_eq!(
        failures(&all(false), "{ fails_at: pay }"),
        [
            "fails_at: the failure should begin at `pay`, but begins at `server 1` (server, shop, 0000000000000001), the last span that is marked as an error; `client 4` (client, shop, 0000000000000004), below it, is not marked"
        ]
    );
}

#[test]
fn spans_come_in_their_order_with_their_gap() {
    let reported = |order: &str| failures(&timed(&[]), &format!("{{ order: [{{ {order} }}] }}"));
    let then = "first: { at: pay }, then: { at: mail }";
    for holds in [then, &format!("{then}, at_least: 20ms, at_most: 20ms")] {
        assert_eq!(reported(holds), Vec::<String>::new(), "{holds}");
    }
    for (order, wrong) in [
        (
            "first: { at: mail }, then: { at: pay }",
            "`pay` should begin after `mail`, but `server 3` (server, pay, 0000000000000003) begins 70ms before the end of `server 5` (server, mail, 0000000000000005)",
        ),
        (
            &format!("{then}, at_least: 21ms"),
            "`mail` should begin after `pay` by at least 21ms, but `server 5` (server, mail, 0000000000000005) begins 20ms after the end of `server 3` (server, pay, 0000000000000003)",
        ),
        (
            &format!("{then}, at_most: 19ms"),
            "`mail` should begin after `pay` by at most 19ms, but `server 5` (server, mail, 0000000000000005) begins 20ms after the end of `server 3` (server, pay, 0000000000000003)",
        ),
        (
            "first: { at: pay, kind: client }, then: { at: mail }",
            "`mail` should begin after `pay client`, but there is no `pay client`; the nearest is `server 3` (server, pay, 0000000000000003): is not of `pay client`",
        ),
        (
            "first: { at: pay }, then: { at: bank }",
            "`bank` should begin after `pay`, but there is no `bank`; the trace has 2 of `mail`, 1 span of `pay`, 3 of `shop`",
        ),
    ] {
        assert_eq!(reported(order), [format!("order: {wrong}")], "{order}");
    }
}

#[test]
fn clocks_of_two_hosts_may_differ_by_what_ntp_leaves() {
    let on_two_hosts = timed_spans(&[]).into_iter().map(|span| Span {
        hostname: if span.service == "mail" { "node-2" } else { "node-1" }.to_owned(),
        ..span
    });
    let world = world(on_two_hosts.collect());
    let reported = |expect: &str| failures(&world, expect);
    let order = |limit: &str| {
        format!("{{ order: [{{ first: {{ at: pay }}, then: {{ at: mail }}, {limit} }}] }}")
    };
    for holds in ["at_least: 32ms", "at_most: 8ms"] {
        assert_eq!(reported(&order(holds)), Vec::<String>::new(), "{holds}");
    }
    for (limit, by) in [("at_least: 33ms", "at least 33ms"), ("at_most: 7ms", "at most 7ms")] {
        assert_eq!(
            reported(&order(limit)),
            [format!(
                "order: `mail` should begin after `pay` by {by}, but `server 5` (server, mail, 0000000000000005) begins 20ms after the end of `server 3` (server, pay, 0000000000000003) (`node-1` and `node-2`, between whose clocks 12ms are allowed)"
            )]
        );
    }
    assert_eq!(
        reported("{ order: [{ first: { at: mail }, then: { at: pay } }] }").len(),
        1,
        "70 ms are no matter of clocks"
    );
}

#[test]
fn spans_run_at_the_same_time_or_not() {
    let reported =
        |overlap: &str| failures(&timed(&[]), &format!("{{ overlap: [{{ {overlap} }}] }}"));
    assert_eq!(
        reported("one: { at: shop, kind: server }, other: { kind: client }"),
        Vec::<String>::new()
    );
    let both = "one: { at: shop, kind: client }, other: { at: shop, kind: client }";
    assert_eq!(
        reported(both),
        [
            "overlap: all of `shop client` should run at the same time, but `client 4` (client, shop, 0000000000000004) begins 10ms after the end of `client 2` (client, shop, 0000000000000002)"
        ]
    );
    assert_eq!(
        reported("one: { at: pay }, other: { at: pay }"),
        [
            "overlap: all of `pay` should run at the same time, but there is only `server 3` (server, pay, 0000000000000003)"
        ]
    );
    assert_eq!(
        reported("one: { at: pay }, other: { at: bank }"),
        [
            "overlap: `pay` and `bank` should run at the same time, but there is no `bank`; the trace has 2 of `mail`, 1 span of `pay`, 3 of `shop`"
        ]
    );
}

#[test]
fn a_linked_trace_is_a_tree_of_its_own() {
    let mut world = timed(&[]);
    let reported =
        |world: &World, linked: &str| failures(world, &format!("{{ linked: [{linked}] }}"));
    let letter = "{ consumer: mail, children: [{ internal: mail, is: { error: false } }] }";
    assert_eq!(
        reported(&world, letter),
        [
            "linked: no linked trace begins with `mail consumer`; no other trace is linked with this one, which has 2 of `mail`, 1 span of `pay`, 3 of `shop`"
        ]
    );
    let mut add = |id: u128, origin: Origin| {
        let own = TraceId(id);
        let spans = [(10, 0, "consumer"), (11, 10, "internal")].map(|(id, parent, kind)| Span {
            trace_id: own,
            parent_id: (parent != 0).then_some(SpanId(parent)),
            start: 200_000_000,
            ..span(id, parent, "mail", kind, kind)
        });
        world.strays.push(Stray { trace: Trace::new(own, spans.into()), origin });
    };
    add(8, Origin::Answer { of: TRACE });
    add(7, Origin::Link { of: TRACE, also: Vec::new() });
    assert_eq!(reported(&world, letter), Vec::<String>::new());
    // Each answers for one, and what is in order may be in a linked one.
    let second = reported(&world, &format!("{letter}, {{ consumer: mail, more: true }}"));
    assert!(
        second.len() == 1
            && second[0]
                .starts_with("linked: no linked trace begins with `mail consumer`; no other"),
        "{second:?}"
    );
    let order = "{ order: [{ first: { at: shop }, then: { at: mail, kind: consumer }, at_least: 100ms, at_most: 100ms }] }";
    assert_eq!(failures(&world, order), Vec::<String>::new());
    for (linked, wrong) in [
        (
            "{ consumer: mail }",
            "in linked trace 00000000000000000000000000000007, `internal` (internal, mail, 000000000000000b) was not expected below `consumer` (consumer, mail, 000000000000000a)",
        ),
        (
            "{ consumer: mail, more: true, is: { error: true } }",
            "in linked trace 00000000000000000000000000000007, `consumer` (consumer, mail, 000000000000000a): should be marked as an error",
        ),
        (
            "{ server: pay }",
            "no linked trace begins with `pay server`; trace 00000000000000000000000000000007 begins with `consumer` (consumer, mail, 000000000000000a)",
        ),
    ] {
        assert_eq!(reported(&world, linked), [format!("linked: {wrong}")], "{linked}");
    }
}
