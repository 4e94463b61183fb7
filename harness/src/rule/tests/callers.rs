//! The workload that is named as the caller, where its span is not there.

use super::{MS, World, identity::own_services, span};
use crate::{
    case::ServiceIdentity,
    finding::{Failure, Hop},
    trace::SpanId,
};

/// A chain of three services that is not declared as one; the last one's server span is an orphan, since its caller's client
/// span is gone.
fn broken() -> World {
    let mut world = own_services();
    let third = ServiceIdentity {
        workload: "app-3".to_owned(),
        service: Some("app-3".to_owned()),
        meant: Some("app-3".to_owned()),
        ..ServiceIdentity::default()
    };
    world.topology.services.push(third);
    let mut last = span(0xc1, 0xb2, "app-3", "server", 40 * MS, 10 * MS);
    last.meta.remove("service.instance.id");
    world.spans().push(last);
    world
}

fn orphan(world: &World) -> Failure {
    let failures = world.findings().failures;
    let orphans: Vec<_> = failures.into_iter().filter(|one| one.rule == "orphan-span").collect();
    let [only] = &orphans[..] else { panic!("{orphans:#?}") };
    only.clone()
}

fn orphan_of(world: &World, id: u64) -> Failure {
    let failures = world.findings().failures;
    let found = failures.iter().find(|one| one.span == Some(SpanId(id)));
    found.unwrap_or_else(|| panic!("{failures:#?}")).clone()
}

fn caller(world: &World) -> Option<String> {
    orphan(world).hop.map(|hop| hop.caller)
}

#[test]
fn the_service_that_was_deepest_at_work_is_the_caller() {
    let world = broken();
    let found = orphan(&world);
    let hop = Hop { caller: "app-2".to_owned(), callee: "app-3".to_owned() };
    assert_eq!(found.hop, Some(hop));
    assert!(found.detail.contains("`app-2` was at work on the request"), "{}", found.detail);
}

#[test]
fn the_only_one_that_is_given_the_address_is_the_caller_and_no_link_of_another_is_blamed() {
    let mut world = broken();
    world.remove(0xb1);
    world.spans().push(span(0xb3, 0xb2, "app-2", "internal", 35 * MS, MS));
    // Nobody answers app-1's call, whose answer is lost, while app-3 is at work.
    let blamed = orphan_of(&world, 0xc1);
    assert!(blamed.detail.contains("on the link app-1 -> app-3"), "{}", blamed.detail);
    world.topology.services[0].callees = vec!["app-2".to_owned()];
    world.topology.services[1].callees = vec!["app-3".to_owned()];
    let found = orphan_of(&world, 0xc1);
    let hop = Hop { caller: "app-2".to_owned(), callee: "app-3".to_owned() };
    assert_eq!(found.hop, Some(hop), "{}", found.detail);
}

#[test]
fn of_two_that_were_at_work_side_by_side_none_is() {
    let mut world = broken();
    let mut beside = span(0xe1, 0xa2, "app-4", "server", 35 * MS, 30 * MS);
    beside.meta.remove("service.instance.id");
    let fourth = ServiceIdentity {
        workload: "app-4".to_owned(),
        service: Some("app-4".to_owned()),
        ..ServiceIdentity::default()
    };
    world.topology.services.push(fourth);
    world.spans().push(beside);
    assert_eq!(caller(&world), None);
}

#[test]
fn one_whose_work_was_over_is_not_and_neither_is_the_orphan_itself() {
    let mut over = broken();
    over.span(0xb1).duration = MS;
    over.span(0xc1).start = 60 * MS;
    // The one before it was still at work.
    assert_eq!(caller(&over).as_deref(), Some("app-1"));
    let mut itself = broken();
    for id in [0xd0, 0xa1, 0xa2, 0xb1] {
        itself.remove(id);
    }
    assert_eq!(caller(&itself), None);
}

#[test]
fn a_silent_service_that_alone_is_given_the_address_is_the_caller_and_no_link_of_others_is_blamed()
{
    let mut world = broken();
    world.topology.services[0].callees = vec!["app-2".to_owned()];
    world.topology.services[1].callees = vec!["app-3".to_owned()];
    world.remove(0xb1);
    let found = orphan(&world);
    let hop = Hop { caller: "app-2".to_owned(), callee: "app-3".to_owned() };
    assert_eq!(found.hop, Some(hop), "{}", found.detail);
    assert!(found.detail.contains("`app-2` is the one that is given the address of `app-3`"));
    // Where it is not known who is given which address, the open call of another is all there is.
    world.topology.services[1].callees.clear();
    assert_eq!(caller(&world).as_deref(), Some("app-1"));
    // Another that is given it made a call that nobody answers: that one it may be.
    world.topology.services[1].callees = vec!["app-3".to_owned()];
    world.topology.services[0].callees.push("app-3".to_owned());
    assert_eq!(caller(&world).as_deref(), Some("app-1"));
}
