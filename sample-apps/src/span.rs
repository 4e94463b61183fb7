//! A span that is open for as long as this value lives, and that the ledger hears of even if it is not sampled.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, TraceId};
use opentelemetry_semantic_conventions::attribute as semconv;

use crate::ledger::{Ledger, LedgerSpan};
use crate::telemetry::Telemetry;

/// An open span. It ends when it is dropped, even with the future that holds it; it ends as a failure unless
/// [`OpenSpan::end`] was called.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    context: Context,
    kind: SpanKind,
    complete: bool,
    /// The ledger entry of a span that no span processor sees.
    unsampled: Option<(Arc<Ledger>, LedgerSpan)>,
}

impl OpenSpan {
    pub(crate) fn start(
        telemetry: &Telemetry,
        parent: &Context,
        name: Cow<'static, str>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let builder = SpanBuilder::from_name(name.clone())
            .with_kind(kind.clone())
            .with_attributes(attributes);
        let parent_context = parent.span().span_context().clone();
        let context = parent.with_span(telemetry.tracer().build_with_context(builder, parent));
        let span = context.span();
        let unsampled = (telemetry.enabled()
            && !span.is_recording()
            && span.span_context().is_valid())
        .then(|| {
            telemetry.ledger.open();
            let id = span.span_context().span_id();
            let entry = LedgerSpan::unsampled(id, &parent_context, name, &kind);
            (Arc::clone(&telemetry.ledger), entry)
        });
        Self { context, kind, complete: false, unsampled }
    }

    /// Starts a span of a trace of its own, as a consumer does that takes a message later; `link` leads to what sent it.
    pub(crate) fn start_apart(
        telemetry: &Telemetry,
        name: &'static str,
        link: Option<SpanContext>,
    ) -> Self {
        let links = link.map(|to| Link::new(to, Vec::new(), 0)).into_iter().collect();
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Consumer).with_links(links);
        let parent = Context::new();
        let span = telemetry.tracer().build_with_context(builder, &parent);
        let context = parent.with_span(span);
        Self { context, kind: SpanKind::Consumer, complete: false, unsampled: None }
    }

    /// The context in which this span is the current one.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        self.context.span().span_context().trace_id()
    }

    pub(crate) fn set(&self, attribute: KeyValue) {
        self.context.span().set_attribute(attribute);
    }

    /// Ends the span as it is.
    pub(crate) fn end(mut self) {
        self.complete = true;
    }

    /// Marks the span as failed, once at most: `error.type` is a word of few values, the description is for people; it stays empty
    /// where a status code says it already (HTTP semantic conventions, "Status").
    pub(crate) fn fail(
        &self,
        error_type: impl Into<Cow<'static, str>>,
        description: impl Into<Cow<'static, str>>,
    ) {
        self.set(KeyValue::new(semconv::ERROR_TYPE, error_type.into()));
        self.context.span().set_status(Status::Error { description: description.into() });
    }

    /// Records an `exception` event.
    pub(crate) fn record_exception(&self, exception_type: &'static str, message: String) {
        let attributes = vec![
            KeyValue::new(semconv::EXCEPTION_TYPE, exception_type),
            KeyValue::new(semconv::EXCEPTION_MESSAGE, message),
        ];
        self.context.span().add_event("exception", attributes);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if !self.complete {
            match self.kind {
                SpanKind::Client => self.fail("cancelled", "given up before it was answered"),
                _ => {
                    self.fail("client_disconnected", "the caller went away before it was answered")
                }
            }
        }
        // Not left to the context: handlers hold clones of it.
        self.context.span().end();
        if let Some((ledger, entry)) = self.unsampled.take() {
            ledger.close(self.trace_id(), entry);
        }
    }
}
