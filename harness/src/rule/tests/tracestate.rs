//! Tests of the rule about `tracestate`.

use super::World;
use crate::finding::Hop;

/// A world in which all spans have the harness's entry.
fn marked() -> World {
    let mut world = World::healthy();
    for span in world.spans() {
        let more = [
            ("w3c.tracestate", "tracecheck=1"),
            ("telemetry.sdk.language", "go"),
            ("telemetry.sdk.version", "1.40.0"),
        ];
        span.meta.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    world
}

fn set(world: &mut World, key: &str, value: &str) {
    world.span(0xb1).meta.insert(key.to_owned(), value.to_owned());
}

#[test]
fn an_entry_that_is_lost_on_a_link_is_named_there() {
    let mut world = marked();
    assert_eq!(world.findings().failures, []);
    set(&mut world, "w3c.tracestate", "gateway=1");
    let failures = world.findings().failures;
    let [only] = failures.as_slice() else { panic!("{failures:?}") };
    let link = Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() };
    assert_eq!((only.rule.as_str(), &only.hop), ("tracestate-lost", &Some(link)));
    assert!(
        only.detail.contains("with the `tracestate` `gateway=1`, though its parent"),
        "{}",
        only.detail
    );
    set(&mut world, "w3c.tracestate", "gateway=1, tracecheck=1");
    assert_eq!(world.findings().failures, []);
}

#[test]
fn nothing_is_said_of_who_is_not_known_to_take_it_over() {
    let mut world = marked();
    world.span(0xb1).meta.remove("w3c.tracestate");
    assert_eq!(world.failing().0, ["tracestate-lost"]);
    let mut other_sdk = marked();
    other_sdk.span(0xb1).meta.remove("w3c.tracestate");
    set(&mut other_sdk, "telemetry.sdk.language", "php");
    assert_eq!(other_sdk.findings().failures, []);
    world.topology.services[1].propagators = Some("b3".to_owned());
    assert_eq!(world.findings().failures, []);
    world.topology.services[1].propagators = Some("tracecontext,baggage".to_owned());
    assert_eq!(world.failing().0, ["tracestate-lost"]);
}
