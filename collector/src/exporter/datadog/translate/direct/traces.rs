//! The spans of a resource, sorted into traces, and how the spans of a trace are related.

use hashbrown::HashMap;

use crate::exporter::datadog::model::Text;
use crate::exporter::datadog::translate::attributes::{Attrs, Both};
use crate::exporter::datadog::translate::{family, naming};
use crate::trace_batch::{ResourceSpans, Scope, Span};

/// In a trace of more spans than this, a parent is looked up in a map.
const SMALL_TRACE: usize = 32;

/// The traces of a resource, in the order of their first spans.
pub(super) struct Traces<'a> {
    records: Vec<Record<'a>>,
    /// Indexes of records, those of a trace in a row.
    order: Vec<u32>,
    pub(super) list: Vec<TraceSpans>,
}

/// A span as it was received, as far as it gives its place in its trace.
pub(super) struct Record<'a> {
    pub(super) span: Span<'a>,
    pub(super) scope: Scope<'a>,
    /// The service that the span's own attributes name.
    pub(super) service: Option<Text<'a>>,
    trace: u32,
}

impl Record<'_> {
    fn service<'s>(&'s self, of_resource: &'s [u8]) -> Service<'s> {
        Service(self.service.as_deref().unwrap_or(of_resource))
    }
}

/// A service's name, of which most spans have the very same one: their resource's.
struct Service<'s>(&'s [u8]);

impl PartialEq for Service<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.0 == other.0
    }
}

/// The spans that share the low 64 bits of their trace id: a range of the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceSpans {
    start: u32,
    end: u32,
}

impl TraceSpans {
    pub(super) fn count(&self) -> usize {
        (self.end - self.start) as usize
    }
}

impl<'a> Traces<'a> {
    pub(super) fn of(resource: &'a ResourceSpans, attributes: &Attrs<'a>) -> Self {
        let mut records: Vec<Record<'a>> = Vec::with_capacity(resource.span_count());
        let mut by_id: HashMap<u64, u32> = HashMap::new();
        let mut list: Vec<TraceSpans> = Vec::new();
        let mut last = None;
        for (scope, span, is_named) in resource.heads() {
            let service = is_named.then(|| {
                let own = Attrs::new(span.attributes());
                naming::service(Both { span: &own, resource: attributes })
            });
            let id = span.trace_id as u64;
            let trace = match last {
                Some((same, trace)) if same == id => trace,
                _ => *by_id.entry(id).or_insert_with(|| {
                    list.push(TraceSpans { start: 0, end: 0 });
                    list.len() as u32 - 1
                }),
            };
            last = Some((id, trace));
            // The spans of a trace are counted first, and become a range below.
            list[trace as usize].end += 1;
            records.push(Record { span, scope, service, trace });
        }
        let mut start = 0;
        for trace in &mut list {
            let count = trace.end;
            *trace = TraceSpans { start, end: start };
            start += count;
        }
        let mut order = vec![0; records.len()];
        for (index, record) in records.iter().enumerate() {
            let trace = &mut list[record.trace as usize];
            order[trace.end as usize] = index as u32;
            trace.end += 1;
        }
        Self { records, order, list }
    }

    pub(super) fn spans(
        &self,
        trace: &TraceSpans,
    ) -> impl DoubleEndedIterator<Item = &Record<'a>> + ExactSizeIterator + Clone {
        let order = &self.order[trace.start as usize..trace.end as usize];
        order.iter().map(|index| &self.records[*index as usize])
    }
}

/// Returns the id of a span's parent.
pub(super) fn parent_id(span: &Span<'_>) -> u64 {
    family::parent_id(span.trace_id as u64, span.span_id, span.parent_span_id)
}

/// How the spans of a trace are related: [`family`]'s rules, with a map where the trace is large.
pub(super) struct Family<'t, 'a> {
    traces: &'t Traces<'a>,
    trace: &'t TraceSpans,
    by_id: Option<HashMap<u64, &'t Record<'a>>>,
    /// Which of its spans stands for the trace.
    pub(super) root: usize,
}

impl<'t, 'a> Family<'t, 'a> {
    pub(super) fn new(traces: &'t Traces<'a>, trace: &'t TraceSpans) -> Self {
        let by_id = (trace.count() > SMALL_TRACE)
            .then(|| traces.spans(trace).map(|record| (record.span.span_id, record)).collect());
        let mut family = Self { traces, trace, by_id, root: 0 };
        let parents = traces.spans(trace).map(|record| parent_id(&record.span));
        family.root = family::root_index(parents, |id| family.find(id).is_some());
        family
    }

    /// The last span of that id.
    fn find(&self, id: u64) -> Option<&'t Record<'a>> {
        match &self.by_id {
            Some(by_id) => by_id.get(&id).copied(),
            None => self.traces.spans(self.trace).rfind(|record| record.span.span_id == id),
        }
    }

    /// Returns whether a service is entered at a span; `service` is that of spans that name none themselves.
    pub(super) fn is_top_level(&self, record: &Record<'a>, service: &[u8]) -> bool {
        family::is_top_level(record.service(service), parent_id(&record.span), |id| {
            self.find(id).map(|parent| parent.service(service))
        })
    }
}
