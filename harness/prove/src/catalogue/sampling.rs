//! Sampling that differs by hop, and services that do not export.

use super::{AT, Breakage, CALLER, How};

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "a-sampler-that-ignores-the-parent",
        how: How::Env(&[("sample-app-3", "OTEL_TRACES_SAMPLER", "always_off")]),
        twin: Some(How::Env(&[("sample-app-3", "OTEL_TRACES_SAMPLER", "parentbased_always_off")])),
        rule: "sampled-out",
        hop: AT,
        seen: "The trace ends at the caller.",
        cause: "OTEL_TRACES_SAMPLER is `always_off` or `traceidratio` without `parentbased_`.",
        remedy: "Use the `parentbased_` form of the sampler.",
    },
    Breakage {
        name: "a-ratio-that-ignores-the-parent",
        how: How::Env(&[
            ("sample-app-2", "OTEL_TRACES_SAMPLER", "traceidratio"),
            ("sample-app-2", "OTEL_TRACES_SAMPLER_ARG", "0"),
        ]),
        twin: Some(How::Env(&[
            ("sample-app-2", "OTEL_TRACES_SAMPLER", "traceidratio"),
            ("sample-app-2", "OTEL_TRACES_SAMPLER_ARG", "1"),
        ])),
        rule: "sampled-out",
        hop: CALLER,
        seen: "Traces have a hole in the middle, and what is below hangs on nothing.",
        cause: "A service was given a ratio of its own, to save money.",
        remedy: "Decide once at the head (`parentbased_traceidratio`), or sample whole traces at the tail.",
    },
    Breakage {
        name: "all-sampled-out-at-the-entry",
        how: How::Env(&[("sample-app-1", "OTEL_TRACES_SAMPLER", "always_off")]),
        twin: None,
        rule: "no-trace",
        hop: "out (`sample-app-1`)",
        seen: "There are no traces of the services.",
        cause: "Sampling is switched off in the entry, and those behind follow it.",
        remedy: "Set `OTEL_TRACES_SAMPLER=parentbased_always_on` there.",
    },
    Breakage {
        name: "exporter-off",
        how: How::Env(&[("sample-app-3", "OTEL_TRACES_EXPORTER", "none")]),
        twin: None,
        rule: "lost-span",
        hop: AT,
        seen: "The service is missing, though it makes spans.",
        cause: "OTEL_TRACES_EXPORTER is `none`, left over from a test.",
        remedy: "Set it to `otlp`, or remove it.",
    },
    Breakage {
        name: "exporter-sends-elsewhere",
        how: How::Env(&[("sample-app-3", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")]),
        twin: None,
        rule: "lost-span",
        hop: AT,
        seen: "The service is missing.",
        cause: "OTEL_EXPORTER_OTLP_ENDPOINT names a host or port at which no collector is.",
        remedy: "Name the collector's address; the SDK's log says what refuses.",
    },
    Breakage {
        name: "sdk-off",
        how: How::Env(&[("sample-app-3", "OTEL_SDK_DISABLED", "true")]),
        twin: None,
        rule: "missing-hop",
        hop: "sample-app-2 -> sample-app-3",
        seen: "The trace ends at the caller.",
        cause: "OTEL_SDK_DISABLED is set, or the agent is not loaded.",
        remedy: "Remove it; check that the instrumentation is loaded.",
    },
];
