//! Indexes over the spans of a trace: by id, and by parent.
//!
//! Where spans share an id, all of the harness takes the first of them for the one that the id names.

use std::collections::HashMap;

use crate::trace::{Span, SpanId};

/// Indexes spans by their ids; of those of one id, the first is found by it.
pub fn by_id<'a>(spans: impl IntoIterator<Item = &'a Span>) -> HashMap<SpanId, &'a Span> {
    let spans = spans.into_iter();
    let mut by_id = HashMap::with_capacity(spans.size_hint().0);
    for span in spans {
        by_id.entry(span.id).or_insert(span);
    }
    by_id
}

/// The captured spans by their ids, and by their parents' ids.
#[derive(Debug, Default)]
pub struct Family<'a> {
    by_id: HashMap<SpanId, &'a Span>,
    children: HashMap<SpanId, Vec<&'a Span>>,
}

impl<'a> Family<'a> {
    /// Indexes spans; of those of one id, the first is found by it.
    pub fn new(spans: &'a [Span]) -> Self {
        let mut children: HashMap<SpanId, Vec<&Span>> = HashMap::new();
        for span in spans {
            if let Some(parent) = span.parent_id {
                children.entry(parent).or_default().push(span);
            }
        }
        Self { by_id: by_id(spans), children }
    }

    /// Returns the first span of this id.
    pub fn span(&self, id: SpanId) -> Option<&'a Span> {
        self.by_id.get(&id).copied()
    }

    /// Returns the captured parent of a span.
    pub fn parent(&self, span: &Span) -> Option<&'a Span> {
        self.span(span.parent_id?)
    }

    /// Returns the spans that name this one as their parent, in their order.
    pub fn children(&self, id: SpanId) -> &[&'a Span] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{service_map::ServiceMap, trace::testing::span};

    #[test]
    fn of_spans_that_share_an_id_the_first_is_the_parent_for_all() {
        let spans =
            [span(1, 0, "shop", false), span(1, 0, "mail", false), span(2, 1, "pay", false)];
        let family = Family::new(&spans);
        assert_eq!(family.span(SpanId(1)), Some(&spans[0]));
        assert_eq!(family.parent(&spans[2]), by_id(&spans).get(&SpanId(1)).copied());
        assert_eq!(family.children(SpanId(1)), [&spans[2]]);
        let mut map = ServiceMap::default();
        map.add(spans.iter(), |span| &span.service);
        assert!(map.has_call("shop", "pay") && !map.has_call("mail", "pay"));
    }
}
