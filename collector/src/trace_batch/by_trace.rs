//! Takes a batch apart by trace, for stages that wait for whole traces.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::view::Span;
use super::wire::{Value, put_bytes, raw_fields};
use super::{ResourceSpans, TraceBatch};

/// The spans of one trace within one resource, while its message is written.
struct Part {
    trace_id: u128,
    body: Vec<u8>,
    /// The scope that is being written, and which of the resource's it is.
    scope: Vec<u8>,
    index: usize,
    spans: usize,
}

impl Part {
    fn end_scope(&mut self) {
        if !self.scope.is_empty() {
            put_bytes(&mut self.body, 2, &self.scope);
            self.scope.clear();
        }
    }
}

impl TraceBatch {
    /// Returns the spans of each trace, in the order in which the traces begin here. The parts share no memory with the batch, so that
    /// what is kept of it is all that it takes, and are of no request any more.
    pub(crate) fn by_trace(&self) -> Vec<(u128, Self)> {
        let mut traces: Vec<(u128, Self)> = Vec::new();
        let mut places = HashMap::<u128, usize>::new();
        for resource in &self.resources {
            for Part { trace_id, body, spans, .. } in resource.by_trace() {
                let place = *places.entry(trace_id).or_insert_with(|| {
                    traces.push((trace_id, Self::default()));
                    traces.len() - 1
                });
                traces[place].1.push(ResourceSpans {
                    body: body.into(),
                    skip: 0,
                    take: spans,
                    scopes_first: resource.scopes_first,
                    heads_first: resource.heads_first,
                    origins: Vec::new(),
                });
            }
        }
        traces
    }
}

impl ResourceSpans {
    fn by_trace(&self) -> Vec<Part> {
        let (mut parts, mut places) = (Vec::<Part>::new(), HashMap::<u128, usize>::new());
        let head = other_fields(&self.body);
        let wanted = self.skip..self.skip + self.take;
        let mut number = 0;
        for (index, scope_spans) in super::repeated(&self.body, 2).enumerate() {
            let scope = other_fields(scope_spans);
            for (field, raw, value) in raw_fields(scope_spans) {
                let Value::Bytes(span) = value else { continue };
                if field != 2 {
                    continue;
                }
                number += 1;
                if !wanted.contains(&(number - 1)) {
                    continue;
                }
                let trace_id = Span::new(span).trace_id;
                let place = match places.entry(trace_id) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let (body, scope) = (head.clone(), Vec::new());
                        parts.push(Part { trace_id, body, scope, index, spans: 0 });
                        *new.insert(parts.len() - 1)
                    }
                };
                let part = &mut parts[place];
                if part.index != index {
                    part.end_scope();
                    part.index = index;
                }
                if part.scope.is_empty() {
                    part.scope.extend_from_slice(&scope);
                }
                part.scope.extend_from_slice(raw);
                part.spans += 1;
            }
        }
        parts.iter_mut().for_each(Part::end_scope);
        parts
    }
}

/// The fields of a message but those with its spans, which both messages around spans have as their second.
fn other_fields(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (_, raw, _) in raw_fields(message).filter(|(field, ..)| *field != 2) {
        out.extend_from_slice(raw);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TraceBatch;

    /// A request of resources of scopes of spans, by the numbers of their traces.
    fn request(resources: &[Vec<Vec<u8>>]) -> TraceBatch {
        let mut next = 0;
        let resources: Vec<_> = resources
            .iter()
            .enumerate()
            .map(|(resource, scopes)| {
                let scopes: Vec<_> = scopes
                    .iter()
                    .enumerate()
                    .map(|(scope, traces)| {
                        let spans: Vec<_> = traces
                            .iter()
                            .map(|trace| {
                                next += 1;
                                serde_json::json!({
                                    "traceId": format!("{:032x}", u128::from(*trace) + 1),
                                    "spanId": format!("{next:016x}"),
                                })
                            })
                            .collect();
                        serde_json::json!({ "scope": { "name": format!("s{scope}") }, "spans": spans })
                    })
                    .collect();
                let service = serde_json::json!({ "key": "r", "value": { "intValue": resource } });
                serde_json::json!({
                    "resource": { "attributes": [service] }, "scopeSpans": scopes, "schemaUrl": "u"
                })
            })
            .collect();
        let json = serde_json::json!({ "resourceSpans": resources }).to_string();
        TraceBatch::from_json(json.as_bytes()).unwrap()
    }

    /// Trace, resource, scope and id of each span.
    fn spans(batch: &TraceBatch) -> Vec<(u128, String, Vec<u8>, u64)> {
        let spans = batch.resources().flat_map(|resource| {
            let of = format!("{:?}", resource.attributes().iter().collect::<Vec<_>>());
            resource
                .spans()
                .map(move |(scope, span)| {
                    (span.trace_id, of.clone(), scope.name.to_vec(), span.span_id)
                })
                .collect::<Vec<_>>()
        });
        spans.collect()
    }

    proptest! {
        #[test]
        fn each_trace_has_its_spans_with_their_resources_and_scopes(
            resources in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u8..4, 0..5), 0..3), 0..4),
            front in 0usize..8,
        ) {
            let mut batch = request(&resources);
            // Of a part, only its own.
            let _front = batch.split_front(front);
            let mut expected = spans(&batch);
            let parts = batch.by_trace();
            let mut found = Vec::new();
            for (trace_id, part) in &parts {
                let again = TraceBatch::from_protobuf(part.to_protobuf().into()).unwrap();
                prop_assert_eq!(spans(&again), spans(part));
                prop_assert_eq!(part.span_count(), spans(part).len());
                prop_assert!(spans(part).iter().all(|span| span.0 == *trace_id));
                prop_assert!(spans(part).is_sorted_by_key(|span| span.3));
                found.extend(spans(part));
            }
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
