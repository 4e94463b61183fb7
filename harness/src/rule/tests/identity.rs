//! Tests of the rules about who made a span.

use super::{MS, World, span};
use crate::{
    case::{Capability, ServiceIdentity, Shape},
    finding::Findings,
    trace::Span,
};

fn rename(world: &mut World, from: &str, to: &str) {
    for span in world.spans().iter_mut().filter(|span| span.service == from) {
        span.service = to.to_owned();
    }
}

#[test]
fn a_workload_that_reports_as_another_service_is_reported_with_who_named_it_so() {
    let mut world = World::healthy();
    rename(&mut world, "app-2", "oops");
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(details.contains("`app-2` itself does not call its service so"), "{details}");
    world.topology.services[1].service = Some("oops".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(details.contains("reach Datadog as service `oops`, and are meant to be of `app-2`"));
    assert!(details.contains("`app-2` itself calls its service so"), "{details}");
}

#[test]
fn a_service_that_is_meant_to_be_called_so_is_no_wrong_one() {
    let mut world = World::healthy();
    rename(&mut world, "app-2", "getting_started");
    for meant in [None, Some("Getting Started".to_owned())] {
        world.topology.services[1].meant = meant;
        assert_eq!(world.findings(), Findings::default());
    }
}

/// A system of somebody's own: no shape, no ledger, and only the names in its file.
pub(super) fn own_services() -> World {
    let mut world = World::healthy();
    world.shape = Shape::default();
    world.evidence.ledgers.clear();
    for identity in &mut world.topology.services {
        identity.instances.clear();
    }
    for span in world.spans() {
        span.meta.remove("service.instance.id");
    }
    world
}

#[test]
fn one_name_for_all_is_put_down_to_what_all_of_them_pass() {
    let mut world = own_services();
    rename(&mut world, "app-1", "platform");
    rename(&mut world, "app-2", "platform");
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    for text in
        ["as service `platform`, and none as `app-1`, `app-2`", "a processor of the collector"]
    {
        assert!(details.contains(text), "{text}: {details}");
    }
    // Of a system that names none, or keeps one name, nothing is known.
    world.topology.services[0].meant = None;
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_stranger_in_the_place_of_the_only_silent_workload_is_reported() {
    let mut world = own_services();
    assert_eq!(world.findings().failures, []);
    rename(&mut world, "app-2", "oops");
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(
        details.contains("nothing was heard of `app-2`, which is meant to be service `app-2`"),
        "{details}"
    );
}

#[test]
fn a_stranger_that_may_be_somebody_else_is_not_reported() {
    let stranger = || {
        let mut world = own_services();
        rename(&mut world, "app-2", "oops");
        world
    };
    // Another workload, of which no name is written down, may be it.
    let mut unnamed = stranger();
    let third = ServiceIdentity {
        workload: "gateway".to_owned(),
        service: None,
        instances: Vec::new(),
        meant: None,
        ..ServiceIdentity::default()
    };
    unnamed.topology.services.push(third);
    // A database that a client gives a service of its own.
    let mut pseudo = stranger();
    pseudo.span(0xb1).meta.insert("span.kind".to_owned(), "client".to_owned());
    // Everybody is heard of.
    let mut more = own_services();
    more.spans().push(span(0xc1, 0xa2, "oops", "server", 30 * MS, 40 * MS));
    // Somebody else's traffic.
    let mut shared = stranger();
    shared.capabilities.retain(|one| *one != Capability::Exclusiveness);
    for world in [unnamed, pseudo, more, shared] {
        assert_eq!(world.findings().failures, []);
    }
}

#[test]
fn spans_of_one_process_that_disagree_in_their_resource_are_reported() {
    for key in ["service.version", "host.name", "telemetry.sdk.language"] {
        let mut world = World::healthy();
        for (id, value) in [(0xa1, "one"), (0xa2, "two")] {
            let span = world.span(id);
            span.meta.insert(key.to_owned(), value.to_owned());
            if key == "host.name" {
                value.clone_into(&mut span.hostname);
            }
        }
        let (names, details) = world.failing();
        assert_eq!(names, ["resource-mixed"], "{key}");
        assert!(details.contains("`one` on") && details.contains("`two` on"), "{details}");
    }
}

#[test]
fn a_payload_whose_env_or_host_is_not_the_resources_is_reported() {
    type Change = fn(&mut Span);
    let cases: [(&str, Change, &str); 3] = [
        (
            "deployment.environment.name",
            |span| span.env = "staging".to_owned(),
            "came with the env `staging`, but their resource says `prod`",
        ),
        (
            "host.name",
            |span| span.hostname = "staging".to_owned(),
            "came with the host `staging`, but their resource says `prod`",
        ),
        (
            "host.name",
            |span| span.hostname.clear(),
            "came with the host ``, but their resource says `prod`",
        ),
    ];
    for (key, change, reported) in cases {
        let mut world = World::healthy();
        let span = world.span(0xb1);
        span.meta.insert(key.to_owned(), "prod".to_owned());
        (span.env, span.hostname) = ("prod".to_owned(), "prod".to_owned());
        assert_eq!(world.findings(), Findings::default());
        change(world.span(0xb1));
        let (names, details) = world.failing();
        assert_eq!(names, ["resource-mixed"], "{key}");
        assert!(details.contains("1 span of `app-2`"), "{details}");
        assert!(details.contains(reported), "{details}");
    }
}

#[test]
fn resources_that_differ_between_processes_or_in_words_are_no_mix() {
    let mut world = World::healthy();
    for (id, version, env) in [(0xa1, "1", "prod"), (0xa2, "1", "prod"), (0xb1, "2", "Staging EU")]
    {
        let span = world.span(id);
        span.meta.insert("service.version".to_owned(), version.to_owned());
        span.meta.insert("deployment.environment".to_owned(), env.to_owned());
        span.env = env.to_lowercase().replace(' ', "_");
    }
    // Two instances of one service, of two versions.
    rename(&mut world, "app-2", "app-1");
    // The host that a node gives goes before its name.
    world.span(0xb1).meta.insert("host.name".to_owned(), "pod-1".to_owned());
    world.span(0xb1).meta.insert("k8s.node.name".to_owned(), "node-1".to_owned());
    world.span(0xb1).hostname = "node-1".to_owned();
    world.topology.services[1].meant = None;
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn a_payload_of_another_language_than_its_spans_sdk_is_reported() {
    let mut world = World::healthy();
    let span = world.span(0xb1);
    span.meta.insert("telemetry.sdk.language".to_owned(), "rust".to_owned());
    span.language = "rust".to_owned();
    assert_eq!(world.findings(), Findings::default());
    world.span(0xb1).language = "java".to_owned();
    let (names, details) = world.failing();
    assert_eq!(names, ["resource-mixed"]);
    assert!(details.contains("came with the language `java`, but their resource says `rust`"));
    // A run that was saved before has none.
    world.span(0xb1).language = String::new();
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn an_environment_that_arrives_otherwise_of_one_of_those_that_were_given_it_is_reported() {
    let key = "deployment.environment.name";
    let given = || {
        let mut world = World::healthy();
        for service in &mut world.topology.services {
            service.meant_attributes.insert(key.to_owned(), "prod".to_owned());
        }
        for id in [0xa1, 0xa2, 0xb1] {
            let span = world.span(id);
            span.meta.insert(key.to_owned(), "prod".to_owned());
            span.env = "prod".to_owned();
        }
        world
    };
    assert_eq!(given().findings(), Findings::default());
    let mut replaced = given();
    replaced.span(0xb1).meta.insert(key.to_owned(), "staging".to_owned());
    replaced.span(0xb1).env = "staging".to_owned();
    let mut removed = given();
    removed.span(0xb1).meta.remove(key);
    for (mut world, reported) in [
        (replaced, "came with the `deployment.environment.name` `staging`"),
        (removed, "came without"),
    ] {
        let found = world.findings().failures;
        let [only] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((&*only.rule, only.service.as_deref()), ("resource-mixed", Some("app-2")));
        assert!(only.detail.contains(reported), "{}", only.detail);
        // The collector sets it for all.
        for id in [0xa1, 0xa2, 0xb1] {
            let span = world.span(id);
            span.meta.insert(key.to_owned(), "staging".to_owned());
            span.env = "staging".to_owned();
        }
        assert_eq!(world.findings(), Findings::default());
    }
}

/// Puts the first service's spans under the resource of the second one.
fn merge(world: &mut World, service: &str) {
    for id in [0xa1, 0xa2] {
        let span = world.span(id);
        span.service = service.to_owned();
        span.meta.insert("service.instance.id".to_owned(), "app-2-instance".to_owned());
    }
}

#[test]
fn what_one_service_ended_and_came_as_anothers_is_not_invented_but_of_a_wrong_service() {
    for meant in [true, false] {
        let mut world = World::healthy();
        merge(&mut world, "app-2");
        if !meant {
            world.topology.services[0].meant = None;
        }
        let found = world.findings().failures;
        assert!(!found.iter().any(|one| one.rule == "invented-span"), "{found:#?}");
        let found: Vec<_> = found.iter().filter(|one| one.rule == "wrong-service").collect();
        let [only] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(only.service.as_deref(), Some("app-1"));
        let reported = "2 spans of `app-1` (`GET /work` (server, app-2, 00000000000000a1)) reach Datadog as service `app-2`, and are meant to be of `app-1`: `app-1` itself ended them, so something between it and Datadog puts its spans under the resource of `app-2`";
        assert!(only.detail.starts_with(reported), "{}", only.detail);
    }
}

#[test]
fn what_came_with_the_instance_of_another_workload_of_its_name_is_of_a_mixed_resource() {
    let mut world = World::healthy();
    for one in &mut world.topology.services {
        (one.service, one.meant) = (Some("app".to_owned()), Some("app".to_owned()));
    }
    rename(&mut world, "app-1", "app");
    rename(&mut world, "app-2", "app");
    assert_eq!(world.findings().failures, []);
    merge(&mut world, "app");
    let found = world.findings().failures;
    assert!(!found.iter().any(|one| one.rule == "invented-span"), "{found:#?}");
    let found: Vec<_> = found.iter().filter(|one| one.rule == "resource-mixed").collect();
    let [only] = &found[..] else { panic!("{found:#?}") };
    assert!(only.detail.contains("2 spans that `app-1` ended"), "{}", only.detail);
    assert!(only.detail.contains("under the resource of `app-2`"), "{}", only.detail);
}
