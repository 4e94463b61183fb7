//! OTLP's wire format to that of Datadog's payload, without a model between them.
//!
//! It gives, byte for byte, what the plain translation and [`payload::build`] give; its tests hold it to that. It knows the
//! spans that nearly all traffic consists of. A trace that has anything unusual ([`known`](super::known)) is translated the plain way, and so
//! is every trace where an option asks for another mapping.

mod key;
mod resource;
mod span;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::HashMap;

use super::attributes::Attrs;
use super::sampling::{self, DECISION, RECEIVER_RATE};
use super::span as plain_span;
use super::{Dropped, Settings, Trace, add, add_container_tags, host, payload, tracer_payload};
use crate::exporter::datadog::counting::records::Records;
use crate::exporter::datadog::counting::{ClientKey, Counting};
use crate::exporter::datadog::model::{StatsContext, TracerPayload};
use crate::exporter::datadog::payload::{
    Builder, Sender, put_chunk_head, put_chunk_tag, write_chunk,
};
use crate::trace_batch::{ResourceSpans, TraceBatch};
use resource::Resource;
use span::{Role, Writer};
use traces::{Family, TraceSpans, Traces};

/// Counts of one resource's spans for stats.
#[derive(Debug)]
pub(crate) struct CountedResource<'c, 'a> {
    /// The resource's own facts, and the traces that were translated the plain way.
    pub(crate) tracer: &'c TracerPayload<'a>,
    /// Spans of all other traces.
    pub(crate) records: &'c Records,
}

/// Memory that is used again from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    body: Vec<u8>,
    records: Records,
}

/// Context of a translation besides the batch.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) settings: &'c Settings,
    pub(crate) sender: &'c Sender,
    /// How spans are counted; `None` without stats.
    pub(crate) counting: Option<&'c Counting>,
    /// Nanoseconds since the epoch.
    pub(crate) now: i64,
}

impl Context<'_> {
    /// Returns whether no option asks for another mapping than the usual one.
    fn is_usual(&self) -> bool {
        let settings = self.settings;
        settings.naming.is_second_version()
            && !settings.first_receiver
            && !settings.top_level_by_span_kind
            && settings.ignore_resources.is_empty()
            && self.counting.is_none_or(Counting::is_usual)
    }
}

/// Translates a batch into payloads. `done` gets each one's body with its number of spans, `counted` what stats need, once
/// for each resource. Gives the spans that are not sent on, by reason.
pub(crate) fn translate(
    context: Context<'_>,
    batch: &TraceBatch,
    scratch: &mut Scratch,
    done: &mut dyn FnMut(&[u8], usize),
    counted: &mut dyn FnMut(CountedResource<'_, '_>),
) -> HashMap<Dropped, usize> {
    let is_usual = context.is_usual();
    let Scratch { body, records } = scratch;
    let mut builder = Builder::new(body, context.sender, done);
    let mut dropped = HashMap::new();
    for spans in batch.resources() {
        let full = Attrs::new(spans.attributes());
        let kept = host::without_container_tags(&full);
        let attributes = kept.as_ref().unwrap_or(&full);
        records.clear();
        builder.begin_tracer(spans.byte_count());
        let resource = is_usual.then(|| Resource::new(&full, attributes, context)).flatten();
        let (tracer, is_empty) = match &resource {
            Some(resource) => {
                let mut translated = Translated::new(context, &full, attributes);
                let writer = Writer::new(context, attributes, resource, records);
                translated.write(
                    &Traces::of(spans, attributes),
                    writer,
                    &mut builder,
                    &mut dropped,
                );
                let is_empty = translated.client.is_none();
                (translated.tracer, is_empty)
            }
            None => (plain_resource(context, spans, &mut builder, &mut dropped), true),
        };
        builder.end_tracer(&tracer);
        if !is_empty || !tracer.chunks.is_empty() || !tracer.unsent.is_empty() {
            counted(CountedResource { tracer: &tracer, records });
        }
    }
    builder.finish();
    dropped
}

/// Translates a resource the plain way.
fn plain_resource<'a>(
    context: Context<'a>,
    spans: &'a ResourceSpans,
    builder: &mut Builder<'_>,
    dropped: &mut HashMap<Dropped, usize>,
) -> TracerPayload<'a> {
    let tracer = tracer_payload(context.settings, spans, context.now, dropped);
    for chunk in &tracer.chunks {
        builder.chunk(chunk.spans.len(), &tracer, |out| {
            write_chunk(out, chunk);
            true
        });
    }
    tracer
}

/// A resource under translation.
struct Translated<'r, 'a> {
    context: Context<'a>,
    attributes: &'r Attrs<'a>,
    tracer: TracerPayload<'a>,
    /// Environment and version, as far as they were known, of the client whose spans are being noted.
    client: Option<(bool, bool)>,
}

impl<'r, 'a> Translated<'r, 'a> {
    fn new(context: Context<'a>, full: &Attrs<'a>, attributes: &'r Attrs<'a>) -> Self {
        let mut tracer = payload(context.settings, full);
        add_container_tags(&mut tracer, host::container_tags(full));
        Self { context, attributes, tracer, client: None }
    }

    fn write(
        &mut self,
        traces: &Traces<'a>,
        mut writer: Writer<'_, 'a>,
        builder: &mut Builder<'_>,
        dropped: &mut HashMap<Dropped, usize>,
    ) {
        for trace in &traces.list {
            if !self.usual(traces, trace, &mut writer, builder) {
                self.plain(traces, trace, builder, dropped);
            }
        }
    }

    /// Writes a trace; `false`, with nothing written, if it is an unusual one.
    fn usual(
        &mut self,
        traces: &Traces<'a>,
        trace: &TraceSpans,
        writer: &mut Writer<'_, 'a>,
        builder: &mut Builder<'_>,
    ) -> bool {
        let family = Family::new(traces, trace);
        let decision = sampling::decision(None);
        let mark = writer.mark();
        let version = match self.tracer.app_version.is_empty() {
            true => writer.version(),
            false => self.tracer.app_version.clone(),
        };
        let known = (self.tracer.env.is_empty(), version.is_empty());
        if self.client != Some(known) {
            let (hostname, env) = (self.tracer.hostname.clone(), self.tracer.env.clone());
            let counted =
                StatsContext { hostname, env, version: version.clone(), ..StatsContext::default() };
            writer.begin_client(ClientKey::new(
                &counted,
                &self.tracer.language_name,
                self.context.sender,
            ));
        }
        let is_written = builder.chunk(trace.count(), &self.tracer, |out| {
            put_chunk_head(out, decision.priority, b"");
            for (index, record) in traces.spans(trace).enumerate() {
                let role = Role {
                    is_first: index == 0,
                    is_root: index == family.root,
                    is_top_level: family.is_top_level(record, writer.service()),
                    parent_id: traces::parent_id(&record.span),
                    decision,
                };
                if !writer.span(out, record, role) {
                    return false;
                }
            }
            put_chunk_tag(out, RECEIVER_RATE.0.as_bytes(), RECEIVER_RATE.1);
            if let Some(maker) = decision.maker {
                put_chunk_tag(out, DECISION.as_bytes(), maker);
            }
            true
        });
        if !is_written {
            writer.back_to(mark);
            return false;
        }
        self.tracer.app_version = version;
        self.client = Some(known);
        true
    }

    fn plain(
        &mut self,
        traces: &Traces<'a>,
        trace: &TraceSpans,
        builder: &mut Builder<'_>,
        dropped: &mut HashMap<Dropped, usize>,
    ) {
        let Context { settings, now, .. } = self.context;
        let mut plain = Trace { spans: Vec::with_capacity(trace.count()), priority: None };
        for record in traces.spans(trace) {
            let span = record.span.whole();
            let translated = plain_span::translate(settings, &span, &record.scope, self.attributes);
            plain.spans.push(translated.span);
            plain.priority = translated.priority.or(plain.priority);
        }
        let before = self.tracer.chunks.len();
        add(&mut self.tracer, settings, plain, now, dropped);
        for chunk in &self.tracer.chunks[before..] {
            builder.chunk(chunk.spans.len(), &self.tracer, |out| {
                write_chunk(out, chunk);
                true
            });
        }
    }
}
