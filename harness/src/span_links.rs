//! The links of a span, as Datadog keeps them.

use serde::Deserialize;

use crate::trace::{Span, SpanId, TraceId};

/// Meta in which a span's links stand, as JSON.
pub(crate) const LINKS: &str = "_dd.span_links";

/// The other traces that a span links to, each with the span in it where the link says which.
pub(crate) fn to_other_traces(span: &Span) -> impl Iterator<Item = (TraceId, Option<SpanId>)> {
    #[derive(Deserialize)]
    struct Link {
        trace_id: String,
        #[serde(default)]
        span_id: String,
    }
    let listed = span.meta.get(LINKS).and_then(|text| serde_json::from_str::<Vec<Link>>(text).ok());
    let ids = listed
        .into_iter()
        .flatten()
        .filter_map(|link| Some((link.trace_id.parse().ok()?, link.span_id.parse().ok())));
    let own = span.trace_id;
    ids.filter(move |(trace, _)| *trace != own)
}
