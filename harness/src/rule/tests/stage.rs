//! Tests of the stage at which spans were lost.

use std::collections::BTreeMap;

use super::{World, altered::shown};
use crate::rule::dropping_samplers;
use crate::{
    case::{Capability, Shape},
    finding::Stage,
    ledger::{CollectorEntry, Exported},
    trace::{SpanId, TraceId},
};

/// Returns a collector's entry: spans that it accepted, sent to Datadog, and dropped with a reason.
pub(super) fn collector(accepted: u64, exported: u64, dropped: &[(&str, u64)]) -> CollectorEntry {
    let dropped = dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    let exporters = BTreeMap::from([(
        "datadog".to_owned(),
        Exported { exported, dropped, ..Exported::default() },
    )]);
    CollectorEntry { accepted, exporters, ..CollectorEntry::default() }
}

#[test]
fn a_lost_span_is_reported_with_the_stage_that_alone_accounts_for_it() {
    let reported = |entry: CollectorEntry| {
        let mut world = World::healthy();
        world.remove(0xb1);
        world.evidence.collector = Some(entry);
        let failures = world.findings().failures;
        let lost = failures.into_iter().find(|failure| failure.rule == "lost-span");
        lost.map(|failure| failure.detail).unwrap_or_default()
    };
    let before = reported(collector(3, 3, &[]));
    assert!(
        before.contains("lost between `app-2` and the collector, which took 3 of the 4 spans"),
        "{before}"
    );
    let dropped = reported(collector(4, 3, &[("too_large", 1)]));
    assert!(
        dropped.contains(
            "lost in the collector, which took 4 spans of the trace and dropped 1 as `too_large`"
        ),
        "{dropped}"
    );
    let inside = reported(collector(4, 3, &[]));
    assert!(inside.contains("took 4 spans of the trace and sent 3: a processor"), "{inside}");
    let behind = reported(collector(4, 4, &[]));
    assert!(
        behind.contains("lost between the collector and the intake: the collector sent 4 spans")
            && behind.contains("and 3 were captured"),
        "{behind}"
    );
    // Numbers that do not fit, more taken than made, and a ledger that has forgotten: no stage is named.
    for unclear in [
        collector(2, 2, &[]),
        collector(6, 6, &[]),
        CollectorEntry { evicted: true, ..collector(0, 0, &[]) },
    ] {
        let reported = reported(unclear);
        assert!(reported.contains("lost between `app-2` and the intake"), "{reported}");
    }
}

#[test]
fn spans_that_were_refused_are_reported_with_the_exporter_that_gave_them_up() {
    let reported = |refused_from: &[(&str, u64)], wrong_port: &[(&str, u64)]| {
        let mut world = World::healthy();
        world.remove(0xb1);
        let by_sender = |of: &[(&str, u64)]| {
            of.iter().map(|(sender, count)| ((*sender).to_owned(), *count)).collect()
        };
        world.evidence.collector = Some(CollectorEntry {
            refused_from: by_sender(refused_from),
            wrong_port: by_sender(wrong_port),
            ..collector(3, 3, &[])
        });
        world.failing().1
    };
    let node = "OTel-OTLP-Exporter-JavaScript/0.301.0 grpc-node-js/1.14.7";
    let gave_up = reported(&[(&format!("{node} (grpc)"), 1)], &[]);
    assert!(
        gave_up.contains(&format!(
            "the collector refused spans to `{node}` (1, each attempt counted): Node's exporter over gRPC does not try again"
        )),
        "{gave_up}"
    );
    let over_http = reported(&[("OTel-OTLP-Exporter-JavaScript/0.301.0 (http)", 1)], &[]);
    assert!(!over_http.contains("does not try again"), "{over_http}");
    let rust = reported(&[("OTel-OTLP-Exporter-Rust/0.33.1 (http)", 1)], &[]);
    assert!(rust.contains("after a second where no delay is given"), "{rust}");
    let unknown = reported(&[("curl/8 (http)", 1)], &[]);
    assert!(
        unknown.contains("refused spans to `curl/8`") && !unknown.contains("exporters"),
        "{unknown}"
    );
    let mistaken = reported(&[], &[("OTel-OTLP-Exporter-Java/1.68.0 (http)", 7)]);
    assert!(
        mistaken.contains("an exporter that speaks HTTP (`OTel-OTLP-Exporter-Java/1.68.0`) is pointed at the gRPC port"),
        "{mistaken}"
    );
    assert!(reported(&[], &[]).contains("look at the service's log"));
}

#[test]
fn spans_that_were_refused_for_their_credentials_are_reported_with_what_to_set() {
    let mut world = World::healthy();
    world.remove(0xb1);
    let refused = ("OTel-OTLP-Exporter-Java/1.68.0 (http): missing".to_owned(), 3);
    world.evidence.collector =
        Some(CollectorEntry { unauthenticated: [refused].into(), ..collector(3, 3, &[]) });
    let (_, reported) = world.failing();
    let cause = "refused requests of `OTel-OTLP-Exporter-Java/1.68.0` for their credentials (missing): set OTEL_EXPORTER_OTLP_HEADERS there";
    assert!(reported.contains(cause), "{reported}");
}

#[test]
fn what_a_log_says_of_an_export_that_failed_is_quoted_with_the_loss_it_explains() {
    let reported = |errors: &[(&str, &str)]| {
        let mut world = World::healthy();
        world.remove(0xb1);
        world.evidence.collector = Some(collector(3, 3, &[]));
        let owned = |(name, line): &(&str, &str)| ((*name).to_owned(), (*line).to_owned());
        world.evidence.export_errors = errors.iter().map(owned).collect();
        world.failing().1
    };
    let of_another = reported(&[("app-1", "status code: 404"), ("collector", "Exporting failed")]);
    assert!(of_another.contains("look at the service's log"), "{of_another}");
    let own = reported(&[("app-2", "status code: 404")]);
    assert!(
        own.contains("lost between `app-2` and the collector, which took 3 of the 4 spans of the trace; the log of `app-2` says `status code: 404`"),
        "{own}"
    );
    let limited = reported(&[("collector", "'memory_limiter' refuses traces: 81 MiB")]);
    assert!(limited.contains("the log of `collector` says `'memory_limiter' refuses"), "{limited}");
}

#[test]
fn a_loss_before_the_collector_is_put_down_to_the_setting_that_causes_it() {
    let mut world = World::healthy();
    world.remove(0xb1);
    world.evidence.collector = Some(collector(3, 3, &[]));
    world.topology.services[1].silenced_by = Some("OTEL_TRACES_EXPORTER=console".to_owned());
    let (_, reported) = world.failing();
    let cause =
        "`app-2` sends no spans to the collector, since OTEL_TRACES_EXPORTER=console is set for it";
    assert!(reported.contains(cause), "{reported}");
}

#[test]
fn spans_that_left_the_collector_by_another_exporter_are_reported_with_it() {
    let reported = |exported: u64| {
        let mut world = World::healthy();
        world.remove(0xb1);
        let mut entry = collector(4, 3, &[]);
        let debug = Exported { exported, ..Exported::default() };
        entry.exporters.insert("debug".to_owned(), debug);
        world.evidence.collector = Some(entry);
        world.failing().1
    };
    assert!(reported(1).contains("the others left it by its exporter `debug`"), "{}", reported(1));
    // One beside Datadog's, in the same pipeline.
    assert!(reported(4).contains("a processor removed the others"), "{}", reported(4));
}

#[test]
fn of_services_without_a_ledger_what_the_collector_took_and_did_not_deliver_is_reported() {
    let reported = |entry: CollectorEntry, spans: usize| {
        let mut world = World::healthy();
        world.shape = Shape::default();
        world.evidence.ledgers.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        world.spans().truncate(spans);
        world.evidence.collector = Some(entry);
        world.failing()
    };
    assert_eq!(reported(collector(4, 4, &[]), 4).0, [""; 0]);
    // What still waits, what a processor removed, and what came twice are no loss.
    assert_eq!(reported(collector(5, 4, &[]), 4).0, [""; 0]);
    assert_eq!(reported(collector(4, 3, &[]), 4).0, [""; 0]);
    let (names, details) = reported(collector(4, 4, &[]), 3);
    assert_eq!(names, ["undelivered-span"]);
    assert!(details.contains("sent 4 spans") && details.contains("3 were captured"), "{details}");
    let (names, details) = reported(collector(4, 3, &[("retries_exhausted", 1)]), 3);
    assert_eq!(names, ["undelivered-span"]);
    assert!(details.contains("dropped 1 as `retries_exhausted`"), "{details}");
    // Nothing but the harness's own span came, or nothing of what came was delivered.
    let (names, details) = reported(collector(1, 1, &[]), 1);
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("the collector took no span of theirs"), "{details}");
    let (names, details) = reported(collector(4, 4, &[]), 1);
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("lost between the collector and the intake"), "{details}");
}

#[test]
fn what_hangs_below_a_span_that_the_collector_lost_is_not_put_down_to_a_service() {
    let found = |is_sent: bool| {
        let mut world = shown();
        world.shape = Shape::default();
        world.evidence.ledgers.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        world.remove(0xa1);
        let entry = world.evidence.collector.as_mut().unwrap();
        let datadog = entry.exporters.get_mut("datadog").unwrap();
        if !is_sent {
            datadog.spans.retain(|span| span.id != SpanId(0xa1));
            datadog.exported -= 1;
            datadog.dropped = BTreeMap::from([("ignored_resource".to_owned(), 1)]);
        }
        let failures = world.findings().failures;
        let of = |rule: &str| failures.iter().find(|one| one.rule == rule).cloned().unwrap();
        (of("orphan-span"), of("undelivered-span"))
    };
    let (orphan, undelivered) = found(false);
    let cause = "the collector took it, `GET /work` (server), and did not send it";
    assert_eq!(orphan.cause.as_deref(), Some(cause));
    assert_eq!((orphan.stage, undelivered.stage), (Some(Stage::Collector), Some(Stage::Collector)));
    assert_eq!(undelivered.service.as_deref(), Some("app-1"));
    let detail = undelivered.detail;
    assert!(
        detail.contains("1 span of trace")
            && detail.contains("did not reach Datadog, `GET /work` (server) the first of them")
            && detail.contains("dropped 1 as `ignored_resource`"),
        "{detail}"
    );
    let (orphan, undelivered) = found(true);
    assert!(orphan.cause.unwrap().ends_with("and sent it, and it did not arrive"));
    assert_eq!(orphan.stage, Some(Stage::BehindCollector));
    assert_eq!(undelivered.stage, Some(Stage::BehindCollector));
}

#[test]
fn a_parent_that_was_captured_elsewhere_or_may_have_been_sent_is_not_said_to_be_lost() {
    let cause = |change: fn(&mut World)| {
        let mut world = shown();
        world.shape = Shape::default();
        world.evidence.ledgers.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        change(&mut world);
        world.remove(0xa1);
        let failures = world.findings().failures;
        let orphan = failures.into_iter().find(|one| one.rule == "orphan-span").unwrap();
        (orphan.stage, orphan.cause.unwrap())
    };
    let (stage, moved) = cause(|world| {
        let mut parent = world.span(0xa1).clone();
        parent.trace_id = TraceId(7);
        world.evidence.elsewhere.push(parent);
    });
    assert_eq!(stage, Some(Stage::BehindCollector));
    assert!(moved.contains("and it was captured under trace 0000"), "{moved}");
    // The collector keeps fewer spans than it sent.
    let (stage, unknown) = cause(|world| {
        let entry = world.evidence.collector.as_mut().unwrap();
        let datadog = entry.exporters.get_mut("datadog").unwrap();
        datadog.spans.retain(|span| span.id != SpanId(0xa1));
    });
    assert_eq!(stage, None);
    assert!(!unknown.contains("did not send it"), "{unknown}");
}

#[test]
fn a_trace_that_a_sampler_dropped_whole_is_not_lost_and_half_of_one_is() {
    let sampled_out = |accepted: u64, exported: u64, dropped: u64| {
        let reasons = BTreeMap::from([("not_sampled".to_owned(), dropped)]);
        let sampled_out = BTreeMap::from([("tail_sampling".to_owned(), reasons)]);
        CollectorEntry { sampled_out, ..collector(accepted, exported, &[]) }
    };
    let mut world = World::healthy();
    world.evidence.trace = None;
    world.evidence.collector = Some(sampled_out(4, 0, 4));
    assert_eq!(world.look(dropping_samplers).as_deref(), Some("`tail_sampling`"));
    // What is too large for it is not what it decided about.
    if let Some(entry) = &mut world.evidence.collector {
        let reasons = BTreeMap::from([("too_large".to_owned(), 4)]);
        entry.sampled_out = BTreeMap::from([("tail_sampling".to_owned(), reasons)]);
    }
    assert_eq!(world.look(dropping_samplers), None);
    // Not all of it was dropped there, or not all of it came there.
    for other in [sampled_out(4, 0, 3), sampled_out(3, 0, 3), collector(4, 0, &[])] {
        world.evidence.collector = Some(other);
        assert_eq!(world.look(dropping_samplers), None);
    }
    let mut world = World::healthy();
    world.remove(0xb1);
    world.evidence.collector = Some(sampled_out(4, 3, 1));
    assert_eq!(world.look(dropping_samplers), None);
    let failures = world.findings().failures;
    let lost = failures.into_iter().find(|failure| failure.rule == "lost-span").unwrap();
    let detail = lost.detail;
    assert!(
        detail.contains("dropped 1 by its sampler `tail_sampling` (`not_sampled`)"),
        "{detail}"
    );
}
