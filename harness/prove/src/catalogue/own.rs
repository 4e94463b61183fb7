//! What must be found where services of a system file are broken, for breakages that are told otherwise there than on the chain: these
//! services have no ledger, and nobody says who calls whom.

use super::{AT, CALLER};

/// What must be found, and what must be expected for it.
pub(super) struct Own {
    pub(super) rule: &'static str,
    pub(super) hop: &'static str,
    pub(super) stage: Option<&'static str>,
    pub(super) expect: Option<&'static str>,
}

const LINK: &str = "sample-app-2 -> sample-app-3";
/// What is said of what is lost behind the collector.
const BEHIND: &str = "something between the collector and Datadog loses spans";

/// Told by another rule.
const fn by(rule: &'static str, hop: &'static str) -> Own {
    Own { rule, hop, stage: None, expect: None }
}

/// Told by what became of the spans behind the collector.
const LOST_BEHIND: Own = Own { stage: Some("behind-collector"), ..by("undelivered-span", BEHIND) };

/// Told by what a scenario expects: a trace without it is a sound one of a system that does less.
const fn expected(rule: &'static str, hop: &'static str, expect: &'static str) -> Own {
    Own { rule, hop, stage: None, expect: Some(expect) }
}

/// That the service takes part.
const TAKES_PART: Own = expected("services", AT, "services: [sample-app-3]");
/// That it answers a request, whatever it calls the span.
const ANSWERS: Own = expected("spans", AT, "spans: [{ at: sample-app-3, kind: server, count: 1 }]");
/// That its answer is no error.
const SUCCEEDS: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { error: false }, count: 1 }]",
);
/// That its answer is one.
const FAILS: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { error: true }, count: 1 }]",
);
/// That its route is told.
const HAS_A_ROUTE: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { resource: GET /outgoing-sampleapp }, count: 1 }]",
);

const OTHERWISE: &[(&str, Own)] = &[
    ("traceparent-dropped", by("stray-trace", LINK)),
    ("traceparent-dropped-now-and-then", by("stray-trace", LINK)),
    ("traceparent-replaced", by("stray-trace", AT)),
    ("traceparent-of-an-unknown-version", by("stray-trace", LINK)),
    ("traceparent-with-a-zero-trace-id", by("stray-trace", LINK)),
    ("traceparent-not-sampled", TAKES_PART),
    ("another-format-than-the-caller-sends", by("stray-trace", LINK)),
    ("propagation-off-in-a-hop", by("stray-trace", "sample-app-1 -> sample-app-2")),
    ("server-span-lost", TAKES_PART),
    ("server-span-in-the-middle-lost", by("orphan-span", CALLER)),
    ("client-span-lost", by("orphan-span", LINK)),
    ("parent-unknown", by("orphan-span", LINK)),
    ("parent-removed", by("several-roots", AT)),
    ("a-span-is-its-own-parent", by("parent-cycle", AT)),
    ("trace-id-cut-to-64-bits", by("stray-trace", AT)),
    ("spans-put-into-another-trace", by("stray-trace", AT)),
    ("kind-changed", ANSWERS),
    ("route-lost", HAS_A_ROUTE),
    ("error-lost", FAILS),
    ("error-invented", SUCCEEDS),
    ("collector-stopped", by("no-trace", "does not reach the intake")),
    ("otlp-of-one-service-swallowed", TAKES_PART),
    ("otlp-of-one-service-refused", TAKES_PART),
    ("chunks-of-one-service-cut-out", LOST_BEHIND),
    ("half-of-a-payload-lost", LOST_BEHIND),
    ("client-span-lost-behind-the-collector", LOST_BEHIND),
    ("a-sampler-that-ignores-the-parent", TAKES_PART),
    ("a-ratio-that-ignores-the-parent", expected("services", CALLER, "services: [sample-app-2]")),
    ("all-sampled-out-at-the-entry", by("no-trace", "the collector took no span of theirs")),
    ("exporter-off", TAKES_PART),
    ("exporter-sends-elsewhere", TAKES_PART),
    ("sdk-off", TAKES_PART),
    ("otel-trace-id-of-another-trace", by("stray-trace", AT)),
    ("parent-lost-behind-the-collector", by("several-roots", AT)),
    ("error-flag-lost-behind-the-collector", FAILS),
];

/// How it is told of such services; `None` where it is told as on the chain.
pub(super) fn otherwise(name: &str) -> Option<&'static Own> {
    OTHERWISE.iter().find(|(of, _)| *of == name).map(|(_, own)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_of_a_breakage_that_there_is_and_what_is_expected_names_a_place() {
        for (name, own) in OTHERWISE {
            assert!(super::super::all().any(|one| one.name == *name), "{name}");
            assert!(own.expect.is_none() || [CALLER, AT].contains(&own.hop), "{name}");
        }
    }
}
