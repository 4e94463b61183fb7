//! An index over the spans of a trace, built once for all questions about parents and children.

use std::collections::HashMap;

use crate::trace::{Span, SpanId};

/// The captured spans by their ids, and by their parents' ids.
#[derive(Debug, Default)]
pub(crate) struct Family<'a> {
    by_id: HashMap<SpanId, &'a Span>,
    children: HashMap<SpanId, Vec<&'a Span>>,
}

impl<'a> Family<'a> {
    /// Indexes spans; of those of one id, the first is found by it.
    pub(crate) fn new(spans: &'a [Span]) -> Self {
        let mut family =
            Self { by_id: HashMap::with_capacity(spans.len()), children: HashMap::new() };
        for span in spans {
            family.by_id.entry(span.id).or_insert(span);
            if let Some(parent) = span.parent_id {
                family.children.entry(parent).or_default().push(span);
            }
        }
        family
    }

    /// Returns the first span of this id.
    pub(crate) fn span(&self, id: SpanId) -> Option<&'a Span> {
        self.by_id.get(&id).copied()
    }

    /// Returns the captured parent of a span.
    pub(crate) fn parent(&self, span: &Span) -> Option<&'a Span> {
        self.span(span.parent_id?)
    }

    /// Returns the spans that name this one as their parent, in their order.
    pub(crate) fn children(&self, id: SpanId) -> &[&'a Span] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }
}
