//! One span from wire to wire.

use std::borrow::Cow;

use self::entries::Own;
use self::tail::{Tail, put_cut, put_scope, put_unless_empty};
use super::Context;
use super::key::Table;
use super::resource::Resource;
use super::traces::Record;
use crate::exporter::datadog::counting::ClientKey;
use crate::exporter::datadog::counting::records::{Facts, Mark, Records};
use crate::exporter::datadog::model::Text;
use crate::exporter::datadog::payload::{META, put_entry, put_metric, put_span, put_text};
use crate::exporter::datadog::translate::agent::{Obfuscated, TOP_LEVEL};
use crate::exporter::datadog::translate::attributes::{Attrs, Both};
use crate::exporter::datadog::translate::concepts::{DB_NAMESPACE, ENV, grpc_status_number};
use crate::exporter::datadog::translate::known::{class, place};
use crate::exporter::datadog::translate::limits::{
    MAX_RESOURCE_BYTES, MAX_TYPE_BYTES, MAX_VALUE_BYTES,
};
use crate::exporter::datadog::translate::span::{
    events, grpc_status_code, hex, links, status_code, status_name,
};
use crate::exporter::datadog::translate::table::{Class, STATUS_CODE};
use crate::exporter::datadog::translate::{agent, naming, normalize, sampling};
use crate::trace_batch::wire::put_uint;
use crate::trace_batch::{AnyValue, Parts, SpanKind, StatusCode};

mod entries;
mod tail;

/// A span's place in its trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) is_first: bool,
    pub(super) is_root: bool,
    pub(super) is_top_level: bool,
    pub(super) parent_id: u64,
    pub(super) decision: sampling::Decision,
}

/// Writes the spans of a resource.
pub(super) struct Writer<'w, 'a> {
    context: Context<'w>,
    attributes: &'w Attrs<'a>,
    resource: &'w Resource<'a>,
    records: &'w mut Records,
    /// The attributes of the span that is written, each with what its key asks for.
    own: Attrs<'a>,
    classes: Vec<Class>,
    /// Indices at which filters have its keys.
    places: Vec<usize>,
    has_status_code: bool,
    has_grpc_code: bool,
    /// Its keys in meta, each with whether it has a value.
    keys: Vec<(&'a [u8], bool)>,
    table: Table,
    metrics: Vec<(&'a [u8], f64)>,
    /// Which of the resource's entries its own ones replace.
    replaced: Vec<usize>,
    /// The entry with a trace's id, and that id.
    trace: (u128, Vec<u8>),
    tail: Tail<'a>,
}

impl<'w, 'a> Writer<'w, 'a> {
    pub(super) fn new(
        context: Context<'w>,
        attributes: &'w Attrs<'a>,
        resource: &'w Resource<'a>,
        records: &'w mut Records,
    ) -> Self {
        Self {
            context,
            attributes,
            resource,
            records,
            own: Attrs::default(),
            classes: Vec::new(),
            places: Vec::new(),
            has_status_code: false,
            has_grpc_code: false,
            keys: Vec::new(),
            table: Table::default(),
            metrics: Vec::new(),
            replaced: Vec::new(),
            trace: (0, Vec::new()),
            tail: Tail::default(),
        }
    }

    /// The service of spans that name none.
    pub(super) fn service(&self) -> &[u8] {
        &self.resource.service
    }

    pub(super) fn version(&self) -> Text<'a> {
        self.resource.version.clone()
    }

    /// The spans from here on are of this client.
    pub(super) fn begin_client(&mut self, client: ClientKey) {
        self.records.begin_client(client);
    }

    /// Returns the ends of all records; what comes behind them can be taken back.
    pub(super) fn mark(&self) -> Mark {
        self.records.mark()
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        self.records.back_to(mark);
    }

    /// Reads the attributes; `None` if one of them is unusual.
    fn read(&mut self, record: &Record<'a>) -> Option<Parts<'a>> {
        let Self { own, classes, places, .. } = self;
        own.clear();
        classes.clear();
        places.clear();
        (self.has_status_code, self.has_grpc_code) = (false, false);
        record.span.read_parts(|key, value| {
            let place = place(key);
            let class = class(key, own.push_at(place, key, value));
            match class {
                Class::Unusual | Class::Header | Class::OfResource => return false,
                Class::StatusCode => self.has_status_code = true,
                Class::GrpcCode => self.has_grpc_code = true,
                _ => {}
            }
            classes.push(class);
            places.push(place);
            true
        })
    }

    /// Writes a span; `false` if it is an unusual one, and then what it wrote is to be taken back.
    pub(super) fn span(&mut self, out: &mut Vec<u8>, record: &Record<'a>, role: Role) -> bool {
        let span = &record.span;
        if span.span_id == 0 || span.trace_id as u64 == 0 || !record.scope.attributes().is_empty() {
            return false;
        }
        let Some(parts) = self.read(record) else { return false };
        let Parts { status, has_events, has_links } = parts;
        let both = Both { span: &self.own, resource: self.attributes };
        let Some(status_code) = self.status_code() else { return false };
        let Some(grpc_code) = self.grpc_code() else { return false };
        if sampling::rate_of_trace_state(span.trace_state).is_some() {
            return false;
        }
        let own_env = self.own.has(ENV);
        if own_env && !self.resource.has_env || self.classes.len() >= usize::from(u16::MAX) {
            return false;
        }
        let naming = &self.context.settings.naming;
        let service = record.service.as_ref().unwrap_or(&self.resource.service);
        let name = normalize::name(naming::operation(naming, span, &record.scope, both));
        let span_type = naming::span_type(span, both).0;
        let taken_out = self.context.settings.obfuscation.of_span(both, &span_type);
        let (mut resource, is_query) = naming::resource(naming, span, both);
        if let Some(taken_out) = taken_out.filter(|_| is_query) {
            resource = taken_out.query(resource);
        }
        if resource.is_empty() {
            resource = name.clone();
        }
        let span_type = normalize::shortened(span_type, MAX_TYPE_BYTES);
        let obfuscated = Obfuscated::of(&span_type);
        let mut query = None;
        match obfuscated {
            Obfuscated::Queries => {
                let without_literals = agent::obfuscated_query(&resource);
                query = Some(std::mem::replace(&mut resource, without_literals));
            }
            Obfuscated::Commands => resource = agent::quantized(&resource),
            Obfuscated::Url | Obfuscated::Nothing => {}
        }
        let whole_resource = resource;
        let resource = normalize::shortened(Cow::Borrowed(&*whole_resource), MAX_RESOURCE_BYTES);
        let (start, duration) = agent::times(span.start, span.end, self.context.now);
        let is_error = status.code == StatusCode::Error;
        let kind = naming::kind_name(span.kind);
        let counted = self
            .context
            .counting
            .is_some_and(|counting| role.is_top_level || counting.counts_kind(span.kind));
        let counts_peers = counted
            && matches!(span.kind, SpanKind::Client | SpanKind::Producer | SpanKind::Consumer);
        if counted {
            self.records.begin(&Facts {
                service,
                name: &name,
                resource: &resource,
                span_type: &span_type,
                kind: kind.as_bytes(),
                status_code,
                grpc_status_code: &grpc_code.as_deref().map(grpc_status_number).unwrap_or_default(),
                is_trace_root: role.parent_id == 0,
            });
        }
        let is_written = put_span(out, |out| {
            put_text(out, 1, service);
            put_text(out, 2, &name);
            put_text(out, 3, &resource);
            put_uint(out, 4, span.trace_id as u64);
            put_uint(out, 5, span.span_id);
            put_uint(out, 6, role.parent_id);
            put_uint(out, 7, start as u64);
            put_uint(out, 8, duration as u64);
            put_uint(out, 9, u64::from(is_error));
            out.extend_from_slice(kind_entry(span.kind));
            let own = Own {
                status_code,
                grpc_code: grpc_code.as_deref(),
                hides_password: obfuscated == Obfuscated::Url,
                query: query.as_deref().map(|raw| (raw, &*whole_resource)),
                counts_peers,
                taken_out,
            };
            let Some(has_db_name) = self.own_entries(out, &own) else { return false };
            out.extend_from_slice(self.trace_entry(span.trace_id));
            let is_plain = !has_links
                && !has_events
                && !own_env
                && span.trace_state.is_empty()
                && status.message.is_empty();
            if is_plain {
                let tail = self.tail.get(self.resource, &record.scope, status.code);
                match self.replaced.is_empty() {
                    true => out.extend_from_slice(&tail.encoded),
                    false => out.extend_from_slice(&tail.encoded[..tail.resource]),
                }
            } else {
                self.put_tail(out, record, parts, own_env);
                if self.replaced.is_empty() {
                    out.extend_from_slice(&self.resource.encoded);
                }
            }
            self.resource_entries(out, counts_peers);
            if !has_db_name && !self.resource.has_db_name {
                let both = Both { span: &self.own, resource: self.attributes };
                let name = both.text(DB_NAMESPACE);
                put_unless_empty(out, b"db.name", &name);
                if counts_peers
                    && let Some(tag) =
                        self.context.counting.and_then(|counting| counting.peer_tag(b"db.name"))
                {
                    self.records.peer(tag, &name);
                }
            }
            if let Some(maker) = role.decision.maker.filter(|_| role.is_first) {
                put_entry(out, META, sampling::DECISION.as_bytes(), maker);
            }
            if status_code != 0 {
                put_metric(out, STATUS_CODE, f64::from(status_code));
            }
            for (key, value) in &self.metrics {
                put_metric(out, key, *value);
            }
            if role.is_top_level {
                put_metric(out, TOP_LEVEL, 1.0);
            }
            if role.is_root && sampling::reports_rate(role.decision.priority, role.parent_id) {
                put_metric(out, sampling::PRIORITY_RATE, 1.0);
            }
            put_text(out, 12, &span_type);
            true
        });
        if counted && is_written {
            self.records.end(start, duration, is_error, role.is_top_level);
        }
        is_written
    }

    /// The entry with a trace's id.
    fn trace_entry(&mut self, id: u128) -> &[u8] {
        let (last, entry) = &mut self.trace;
        if *last != id {
            *last = id;
            entry.clear();
            put_entry(entry, META, b"otel.trace_id", &hex(&id.to_be_bytes()));
        }
        entry
    }

    /// Writes what a span says behind its own attributes, up to those of its resource.
    fn put_tail(&self, out: &mut Vec<u8>, record: &Record<'a>, parts: Parts<'a>, own_env: bool) {
        let (span, Parts { status, has_events, has_links }) = (&record.span, parts);
        put_unless_empty(out, b"version", &self.resource.version);
        if has_links {
            put_cut(out, b"_dd.span_links", &links(span.links()));
        }
        if has_events {
            put_cut(out, b"events", &events(span.events()));
            if span.events().any(|event| event.name == b"exception") {
                put_entry(out, META, b"_dd.span_events.has_exception", b"true");
            }
        }
        put_unless_empty(out, b"w3c.tracestate", span.trace_state);
        put_scope(out, &record.scope, self.resource.scope_keys);
        put_entry(out, META, b"otel.status_code", status_name(status.code));
        put_unless_empty(out, b"otel.status_description", status.message);
        if status.code == StatusCode::Error {
            put_unless_empty(out, b"error.msg", status.message);
        }
        match own_env {
            true => {
                let both = Both { span: &self.own, resource: self.attributes };
                put_unless_empty(out, b"env", &normalize::tag_value(both.normal(ENV)));
            }
            false => put_unless_empty(out, b"env", &self.resource.env),
        }
    }

    /// HTTP's status code, 0 if there is none; `None` if it is not a number or is 0.
    fn status_code(&self) -> Option<u32> {
        if !self.has_status_code {
            return Some(0);
        }
        let codes = self.own.raw().zip(&self.classes);
        let mut codes = codes.filter(|(_, class)| **class == Class::StatusCode);
        let are_numbers = codes.all(|((_, value), _)| matches!(value.get(), AnyValue::Int(_)));
        let both = Both { span: &self.own, resource: self.attributes };
        let code = status_code(both).filter(|_| are_numbers)?;
        u32::try_from(code).ok().filter(|code| *code != 0)
    }

    /// gRPC's status code, if there is one; `None` if it is not a whole number or text.
    fn grpc_code(&self) -> Option<Option<Text<'a>>> {
        if !self.has_grpc_code {
            return Some(None);
        }
        let mut codes = self.own.raw().zip(&self.classes);
        let is_usual = codes.all(|((_, value), class)| {
            *class != Class::GrpcCode
                || matches!(value.get(), AnyValue::Int(_) | AnyValue::String(_))
        });
        let both = Both { span: &self.own, resource: self.attributes };
        let code = is_usual.then(|| grpc_status_code(both))?;
        Some(code.filter(|code| code.len() <= MAX_VALUE_BYTES))
    }
}

/// The entry with a span's kind.
fn kind_entry(kind: SpanKind) -> &'static [u8] {
    match kind {
        SpanKind::Internal => b"\x52\x15\x0a\x09span.kind\x12\x08internal",
        SpanKind::Server => b"\x52\x13\x0a\x09span.kind\x12\x06server",
        SpanKind::Client => b"\x52\x13\x0a\x09span.kind\x12\x06client",
        SpanKind::Producer => b"\x52\x15\x0a\x09span.kind\x12\x08producer",
        SpanKind::Consumer => b"\x52\x15\x0a\x09span.kind\x12\x08consumer",
        SpanKind::Unspecified | SpanKind::Unknown => {
            b"\x52\x18\x0a\x09span.kind\x12\x0bunspecified"
        }
    }
}
