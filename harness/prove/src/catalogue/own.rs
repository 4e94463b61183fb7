//! Intended results where services of a system file are broken, for breakages that are reported otherwise there than on the chain: these
//! services have no ledger, and it is unknown who calls whom.

use super::{AT, CALLER};

/// Intended result, and the expectation that it needs.
pub(super) struct Own {
    pub(super) rule: &'static str,
    pub(super) hop: &'static str,
    pub(super) stage: Option<&'static str>,
    pub(super) expect: Option<&'static str>,
}

const LINK: &str = "sample-app-2 -> sample-app-3";
/// Text about what is lost behind the collector.
const BEHIND: &str = "something between the collector and Datadog loses spans";

/// Reported by another rule.
const fn by(rule: &'static str, hop: &'static str) -> Own {
    Own { rule, hop, stage: None, expect: None }
}

/// Reported by what became of the spans behind the collector.
const LOST_BEHIND: Own = Own { stage: Some("behind-collector"), ..by("undelivered-span", BEHIND) };

/// Reported by what a scenario expects: a trace without it is a healthy one of a system that does less.
const fn expected(rule: &'static str, hop: &'static str, expect: &'static str) -> Own {
    Own { rule, hop, stage: None, expect: Some(expect) }
}

/// That the service takes part.
const TAKES_PART: Own = expected("services", AT, "services: [sample-app-3]");
/// That its answer is no error.
const SUCCEEDS: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { error: false }, count: 1 }]",
);
/// That its route is reported.
const HAS_A_ROUTE: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { resource: GET /outgoing-sampleapp }, count: 1 }]",
);

/// That its span has the status of its answer.
const TELLS_ITS_STATUS: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { status: 200 }, count: 1 }]",
);
/// That its span says who called.
const HAS_AN_ADDRESS: Own = expected(
    "spans",
    AT,
    "spans: [{ at: sample-app-3, kind: server, is: { meta: { http.client_ip: { exists: true } } }, count: 1 }]",
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
    ("kind-changed", by("wrong-service-edge", AT)),
    ("route-lost", HAS_A_ROUTE),
    ("error-lost", by("error-not-marked", AT)),
    ("error-invented", SUCCEEDS),
    ("collector-stopped", by("no-trace", "its spans did not reach the collector")),
    ("otlp-of-one-service-swallowed", TAKES_PART),
    ("otlp-of-one-service-refused", TAKES_PART),
    ("chunks-of-one-service-cut-out", LOST_BEHIND),
    ("half-of-a-payload-lost", LOST_BEHIND),
    ("client-span-lost-behind-the-collector", LOST_BEHIND),
    ("a-sampler-that-ignores-the-parent", TAKES_PART),
    ("a-ratio-that-ignores-the-parent", expected("services", CALLER, "services: [sample-app-2]")),
    ("all-sampled-out-at-the-entry", by("no-trace", "OTEL_TRACES_SAMPLER=always_off")),
    ("exporter-off", TAKES_PART),
    ("exporter-sends-elsewhere", TAKES_PART),
    ("sdk-off", TAKES_PART),
    ("otel-trace-id-of-another-trace", by("stray-trace", AT)),
    ("traceparent-hard-coded", by("stray-trace", AT)),
    ("traceparent-cut-to-64-bits", by("stray-trace", AT)),
    ("traceparent-not-sampled-now-and-then", by("inconsistent-trace", AT)),
    ("attributes-cut-by-a-limit", HAS_A_ROUTE),
    ("http-attributes-deleted", TELLS_ITS_STATUS),
    ("all-kinds-internal", by("wrong-service-edge", CALLER)),
    ("one-replica-drops-a-service-in-the-middle", by("orphan-span", CALLER)),
    ("upper-half-of-the-trace-id-lost", by("stray-trace", AT)),
    ("ids-in-the-route", HAS_A_ROUTE),
    ("attribute-dropped-before-the-collector", HAS_AN_ADDRESS),
    ("attribute-values-cut-before-the-collector", HAS_A_ROUTE),
    ("all-but-a-few-attributes-dropped-before-the-collector", TELLS_ITS_STATUS),
    ("client-span-beside-its-server-span", by("wrong-service-edge", CALLER)),
    (
        "service-names-swapped",
        by(
            "wrong-service",
            "answers as service `sample-app-3`, and what is called at that of `sample-app-3` as `sample-app-2`",
        ),
    ),
    ("spans-held-back-for-a-minute", TAKES_PART),
    ("client-spans-under-a-service-of-their-own", by("altered-span", CALLER)),
    ("traceparent-of-an-earlier-call", by("inconsistent-trace", LINK)),
    ("times-not-set", by("outside-request", AT)),
    ("end-not-set", by("no-duration", AT)),
    ("begun-ten-seconds-early", by("child-outside-parent", AT)),
    ("clock-behind-on-one-host", by("child-outside-parent", AT)),
    ("times-in-whole-seconds", by("child-outside-parent", AT)),
];

/// Breakages that leave a sound trace of another system, of which nothing that a scenario could ask for is different.
const WITHOUT_TRACE: &[&str] =
    &["duration-in-another-unit-before-the-collector", "status-set-to-ok-before-the-collector"];

/// Returns whether nobody can know that such services were broken so.
pub(super) fn leaves_no_trace(name: &str) -> bool {
    WITHOUT_TRACE.contains(&name)
}

/// How it is reported of such services; `None` where it is reported as on the chain.
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
