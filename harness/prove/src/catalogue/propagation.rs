//! The context on its way from one service to the next.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue};

use super::{Breakage, How};
use crate::change::Change;

/// The four parts of a `traceparent`, where there is one.
fn parts(headers: &HeaderMap) -> Option<[String; 4]> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<String> = text.split('-').map(str::to_owned).collect();
    parts.try_into().ok()
}

fn write(headers: &mut HeaderMap, parts: &[String; 4]) {
    if let Ok(value) = HeaderValue::try_from(parts.join("-")) {
        headers.insert("traceparent", value);
    }
}

/// Changes one part of the `traceparent`.
fn change(headers: &mut HeaderMap, part: usize, with: impl Fn(&str) -> String) {
    if let Some(mut all) = parts(headers) {
        all[part] = with(&all[part]);
        write(headers, &all);
    }
}

/// Turns a hex digit into another one, never all to zero.
fn other_digits(hex: &str) -> String {
    hex.chars().map(|digit| if digit == 'a' { 'b' } else { 'a' }).collect()
}

const LINK: &str = "sample-app-2 -> sample-app-3";

/// The context of the first call, by whom it was for.
static FIRST: Mutex<BTreeMap<String, HeaderValue>> = Mutex::new(BTreeMap::new());

pub(super) const ALL: &[Breakage] = &[
    Breakage {
        name: "traceparent-dropped",
        how: How::Tap(Change::Headers(|headers, _| {
            headers.remove("traceparent");
        })),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The trace ends at the caller, and the callee's spans are traces of their own.",
        cause: "A gateway, a proxy or a client library between the two passes on only headers that it knows.",
        remedy: "Let it pass `traceparent` and `tracestate` on.",
    },
    Breakage {
        name: "traceparent-dropped-now-and-then",
        how: How::Tap(Change::Headers(|headers, on| {
            if on.nth == 1 {
                headers.remove("traceparent");
            }
        })),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "Most traces are whole, and some end at the caller.",
        cause: "One of several proxies or instances is configured otherwise, or one code path makes its request without the instrumented client.",
        remedy: "Compare the instances, and find the path by the resource name of the caller's span.",
    },
    Breakage {
        name: "traceparent-replaced",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 1, other_digits))),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The callee's spans are in a trace that has no root.",
        cause: "A proxy or service mesh starts a trace of its own in place of the one it was sent.",
        remedy: "Have the proxy continue the trace (its propagator must be W3C), or switch its tracing off.",
    },
    Breakage {
        name: "traceparent-truncated",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 2, |id| id[..8].to_owned()))),
        twin: None,
        rule: "orphan-span",
        hop: LINK,
        stage: None,
        seen: "The callee's spans hang below a span that is not there; an SDK that is strict begins a trace of its own.",
        cause: "A span id that is written without leading zeros, or a header that is cut by a limit on its length.",
        remedy: "Write the id as 16 hex digits; raise the limit.",
    },
    Breakage {
        name: "traceparent-of-an-unknown-version",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 0, |_| "ff".to_owned()))),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The trace ends at the caller; the callee's spans are traces of their own.",
        cause: "The header is built by hand; version `ff` is forbidden.",
        remedy: "Let the propagator of the SDK write the header.",
    },
    Breakage {
        name: "traceparent-with-a-zero-trace-id",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 1, |id| "0".repeat(id.len())))),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The trace ends at the caller; the callee's spans are traces of their own.",
        cause: "The context of a call is read where no span is active, and its empty ids are sent.",
        remedy: "Inject the context of the call's own span.",
    },
    Breakage {
        name: "traceparent-with-another-parent",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 2, other_digits))),
        twin: None,
        rule: "orphan-span",
        hop: LINK,
        stage: None,
        seen: "The callee's spans hang below a span that is not there, beside the caller.",
        cause: "A proxy makes a span of its own between the two, and does not send it to Datadog.",
        remedy: "Export the proxy's spans too, or let it pass the header on unchanged.",
    },
    Breakage {
        name: "traceparent-not-sampled",
        how: How::Tap(Change::Headers(|headers, _| change(headers, 3, |_| "00".to_owned()))),
        twin: None,
        rule: "sampled-out",
        hop: LINK,
        stage: None,
        seen: "The trace ends at the caller, and the callee has no spans at all.",
        cause: "Something between the two decides anew about sampling, and clears the flag.",
        remedy: "Decide about sampling once, at the head.",
    },
    Breakage {
        name: "another-format-than-the-caller-sends",
        how: How::Env(&[("sample-app-3", "OTEL_PROPAGATORS", "xray")]),
        twin: Some(How::Env(&[
            ("sample-app-2", "OTEL_PROPAGATORS", "xray,tracecontext"),
            ("sample-app-3", "OTEL_PROPAGATORS", "xray"),
        ])),
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The trace ends at the caller; the callee's spans are traces of their own.",
        cause: "Two teams chose different propagators (`OTEL_PROPAGATORS`): W3C here, X-Ray or B3 there.",
        remedy: "Have both read and write at least one common format.",
    },
    Breakage {
        name: "propagation-off-in-a-hop",
        how: How::Env(&[("sample-app-2", "OTEL_PROPAGATORS", "none")]),
        twin: None,
        rule: "missing-hop",
        hop: "sample-app-1 -> sample-app-2",
        stage: None,
        seen: "The trace ends at the hop before, and each hop behind is a trace of its own.",
        cause: "No propagator is set up in code, or `OTEL_PROPAGATORS=none`.",
        remedy: "Set up the W3C propagator in that service.",
    },
    Breakage {
        name: "propagation-off-at-the-entry",
        how: How::Env(&[("sample-app-1", "OTEL_PROPAGATORS", "none")]),
        twin: None,
        rule: "no-trace",
        hop: "tracecheck -> sample-app-1",
        stage: None,
        seen: "Requests of traced clients are traces of the client alone.",
        cause: "No propagator is set up in the entry, or a gateway before it removes the header.",
        remedy: "Set up the W3C propagator in that service, and let the gateway pass the header on.",
    },
    Breakage {
        name: "traceparent-hard-coded",
        how: How::Tap(Change::Headers(|headers, _| {
            change(headers, 1, |_| "4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
            change(headers, 2, |_| "00f067aa0ba902b7".to_owned());
        })),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The callee's spans of all requests are in one trace that grows for ever, below a span that is not there.",
        cause: "A header is copied from a page of documentation, or kept from the first request in a client's default headers.",
        remedy: "Let the propagator write the header for each call.",
    },
    Breakage {
        name: "traceparent-cut-to-64-bits",
        how: How::Tap(Change::Headers(|headers, _| {
            change(headers, 1, |id| format!("{:0>32}", &id[16..]));
        })),
        twin: None,
        rule: "missing-hop",
        hop: LINK,
        stage: None,
        seen: "The callee's spans are in a trace of which only the last 16 digits are the same.",
        cause: "A proxy or library between the two keeps ids of 64 bits (Zipkin, Datadog's own headers), and fills them up with zeros.",
        remedy: "Switch 128-bit ids on there, or let it pass the header on unchanged.",
    },
    Breakage {
        name: "traceparent-not-sampled-now-and-then",
        how: How::Tap(Change::Headers(|headers, on| {
            if on.nth == 0 {
                change(headers, 3, |_| "00".to_owned());
            }
        })),
        twin: None,
        rule: "sampled-out",
        hop: LINK,
        stage: None,
        seen: "Most traces are whole, and some end at the caller, with nothing of the callee anywhere.",
        cause: "One of several proxies, or a gateway with a rate of its own, decides anew about sampling.",
        remedy: "Decide about sampling once, at the head.",
    },
    Breakage {
        name: "traceparent-of-an-earlier-call",
        how: How::Tap(Change::Headers(|headers, on| {
            let mut all = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(now) = headers.get("traceparent").cloned() else { return };
            if on.nth == 0 {
                all.insert(on.at.to_owned(), now);
            } else if let Some(first) = all.get(on.at) {
                headers.insert("traceparent", first.clone());
            }
        })),
        twin: None,
        rule: "child-outside-parent",
        hop: LINK,
        stage: None,
        seen: "The callee is in the trace of an earlier request, behind its end, and its own trace ends at the caller.",
        cause: "The context is kept in a thread or a connection of a pool, and used for the next request.",
        remedy: "Take the context from the request that is being handled; see that it is detached at its end.",
    },
    Breakage {
        name: "tracestate-dropped",
        how: How::Tap(Change::Headers(|headers, _| {
            headers.remove("tracestate");
        })),
        twin: None,
        rule: "tracestate-lost",
        hop: LINK,
        stage: None,
        seen: "Traces are whole, and from there on Datadog's priority and origin, and a sampler's threshold, are those of nobody.",
        cause: "A gateway passes on `traceparent`, and does not know the other header.",
        remedy: "Let it pass `tracestate` on too.",
    },
    Breakage {
        name: "tracestate-replaced",
        how: How::Tap(Change::Headers(|headers, _| {
            headers.insert("tracestate", HeaderValue::from_static("gateway=1"));
        })),
        twin: Some(How::Tap(Change::Headers(|headers, _| {
            let others = headers.get("tracestate").and_then(|state| state.to_str().ok());
            let all = others.map_or("gateway=1".to_owned(), |others| format!("gateway=1,{others}"));
            if let Ok(all) = HeaderValue::try_from(all) {
                headers.insert("tracestate", all);
            }
        }))),
        rule: "tracestate-lost",
        hop: LINK,
        stage: None,
        seen: "Traces are whole, and from there on `tracestate` has one vendor's entry.",
        cause: "A gateway writes its own entry in place of those of others.",
        remedy: "Let it put its entry in front of theirs.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_of_the_header_is_changed_and_no_header_is_made() {
        let mut headers = HeaderMap::new();
        change(&mut headers, 3, |_| "00".to_owned());
        assert!(headers.is_empty());
        headers.insert("traceparent", HeaderValue::from_static("00-0af7-b7ad-01"));
        change(&mut headers, 2, other_digits);
        assert_eq!(headers["traceparent"], "00-0af7-aaba-01");
    }
}
