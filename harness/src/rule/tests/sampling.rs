//! Decisions that differ by hop.

use super::World;
use crate::{
    case::Shape,
    finding::{Failure, Hop},
};

fn differently(world: &World) -> Vec<Failure> {
    let failures = world.findings().failures;
    failures.into_iter().filter(|one| one.rule == "sampled-differently").collect()
}

/// A request that is sent as one not to be sampled; the first service drops it.
fn dropped_at_the_head() -> World {
    let mut world = World::healthy();
    world.case.sampled = false;
    world.case.driver_exported = false;
    for id in [0xd0, 0xa1, 0xa2] {
        world.remove(id);
    }
    world.ledger("app-1").spans.iter_mut().for_each(|span| span.sampled = false);
    world
}

#[test]
fn a_service_that_keeps_what_its_caller_dropped_is_named_with_the_link() {
    let world = dropped_at_the_head();
    let found = differently(&world);
    let [only] = &found[..] else { panic!("{found:#?}") };
    let hop = Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() };
    assert_eq!((only.service.as_deref(), &only.hop), (Some("app-2"), &Some(hop)));
    assert!(only.detail.contains("`app-2` kept 1 span of trace"), "{}", only.detail);
    assert!(!only.detail.contains("lost"), "{}", only.detail);
}

#[test]
fn without_ledgers_it_is_reported_where_the_request_itself_says_so() {
    let mut world = dropped_at_the_head();
    world.evidence.ledgers.clear();
    world.shape = Shape::default();
    let found = differently(&world);
    let [only] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((only.service.as_deref(), &only.hop), (Some("app-2"), &None));
    world.topology.services[0].callees = vec!["app-2".to_owned()];
    let hop = Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() };
    assert_eq!(differently(&world)[0].hop, Some(hop));
    // As long as the rest may still come, nothing is said.
    world.evidence.unsettled = Some("it may still come".to_owned());
    assert_eq!(differently(&world), []);
}

#[test]
fn where_all_decide_alike_or_nothing_shows_who_decided_it_is_not_reported() {
    // All drop.
    let mut all_drop = dropped_at_the_head();
    all_drop.remove(0xb1);
    all_drop.ledger("app-2").spans[0].sampled = false;
    // All keep what the request says is not to be kept: a collector decides at the tail.
    let mut all_keep = World::healthy();
    all_keep.case.sampled = false;
    let mut all_keep_unseen = World::healthy();
    all_keep_unseen.case.sampled = false;
    all_keep_unseen.evidence.ledgers.clear();
    all_keep_unseen.shape = Shape::default();
    // Of a sampled request, spans of a service that are not there may be lost as well.
    let mut missing = World::healthy();
    missing.evidence.ledgers.clear();
    missing.shape = Shape::default();
    missing.remove(0xa1);
    missing.remove(0xa2);
    // The head keeps, and one behind drops: that is another rule's.
    let mut drops = World::healthy();
    drops.remove(0xb1);
    drops.ledger("app-2").spans[0].sampled = false;
    for (what, world) in [
        ("all drop", all_drop),
        ("all keep", all_keep),
        ("all keep, no ledgers", all_keep_unseen),
        ("missing", missing),
        ("drops", drops),
    ] {
        assert_eq!(differently(&world), [], "{what}");
    }
}
