//! The service map: who called whom in captured traces, how often, with how many errors, and what is missing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{family::by_id, trace::Span};

/// Calls between services, counted over traces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceMap {
    nodes: BTreeMap<String, Node>,
    edges: BTreeMap<(String, String), Calls>,
}

/// Span counts of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Node {
    spans: u64,
    errors: u64,
}

/// Counts of one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Calls {
    calls: u64,
    errors: u64,
    missing: u64,
}

/// A map as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Services by name, each with its spans and how many of them are marked as errors.
    pub nodes: Vec<(String, u64, u64)>,
    /// Edges: caller, callee, calls, calls whose span in the callee is marked as an error, and traces in which the call is missing.
    pub edges: Vec<(String, String, u64, u64, u64)>,
}

impl ServiceMap {
    /// Adds the spans of one trace, each with the name of its service. A call is a span whose parent is in another service.
    pub fn add<'a>(
        &mut self,
        spans: impl Iterator<Item = &'a Span> + Clone,
        service: impl Fn(&'a Span) -> &'a str,
    ) {
        let by_id = by_id(spans.clone());
        for span in spans {
            let name = service(span);
            let node = self.nodes.entry(name.to_owned()).or_default();
            node.spans += 1;
            node.errors += u64::from(span.error);
            let parent = span.parent_id.and_then(|id| by_id.get(&id)).copied();
            let Some(caller) = parent.map(&service).filter(|one| *one != name) else {
                continue;
            };
            let calls = self.edges.entry((caller.to_owned(), name.to_owned())).or_default();
            calls.calls += 1;
            calls.errors += u64::from(span.error);
        }
    }

    /// Adds a trace in which a call from one service to another is missing.
    pub fn add_missing(&mut self, caller: &str, callee: &str) {
        for name in [caller, callee] {
            self.nodes.entry(name.to_owned()).or_default();
        }
        self.edges.entry((caller.to_owned(), callee.to_owned())).or_default().missing += 1;
    }

    /// Returns whether one service called another.
    pub fn has_call(&self, caller: &str, callee: &str) -> bool {
        let edge = (caller.to_owned(), callee.to_owned());
        self.edges.get(&edge).is_some_and(|calls| calls.calls > 0)
    }

    /// Adds another map.
    pub fn merge(&mut self, other: &Self) {
        for (name, node) in &other.nodes {
            let own = self.nodes.entry(name.clone()).or_default();
            own.spans += node.spans;
            own.errors += node.errors;
        }
        for (edge, calls) in &other.edges {
            let own = self.edges.entry(edge.clone()).or_default();
            own.calls += calls.calls;
            own.errors += calls.errors;
            own.missing += calls.missing;
        }
    }

    /// Returns the map as it is written.
    pub fn written(&self) -> Written {
        let nodes = self.nodes.iter().map(|(name, node)| (name.clone(), node.spans, node.errors));
        let edges = self.edges.iter().map(|((caller, callee), calls)| {
            (caller.clone(), callee.clone(), calls.calls, calls.errors, calls.missing)
        });
        Written { nodes: nodes.collect(), edges: edges.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::testing::span;

    #[test]
    fn calls_cross_services_and_what_is_missing_has_an_edge_too() {
        let spans = [
            span(1, 0, "shop", false),
            span(2, 1, "shop", true),
            span(3, 2, "pay", true),
            span(4, 2, "pay", false),
            // Its parent was not captured: nobody is known to have called it.
            span(5, 9, "stock", false),
        ];
        let mut map = ServiceMap::default();
        map.add(spans.iter(), |span| &span.service);
        map.add_missing("pay", "stock");
        let mut twice = map.clone();
        twice.merge(&map);
        let Written { nodes, edges } = twice.written();
        let node = |name: &str, spans, errors| (name.to_owned(), spans, errors);
        assert_eq!(nodes, [node("pay", 4, 2), node("shop", 4, 2), node("stock", 2, 0)]);
        let edge = |from: &str, to: &str, calls, errors, missing| {
            (from.to_owned(), to.to_owned(), calls, errors, missing)
        };
        assert_eq!(edges, [edge("pay", "stock", 0, 0, 2), edge("shop", "pay", 4, 2, 0)]);
    }
}
