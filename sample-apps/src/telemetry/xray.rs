//! The X-Ray propagator, for headers that a load balancer of AWS wrote.
//!
//! An ALB adds `X-Amzn-Trace-Id: Root=…` to each request that has none. It has no span, and so names no parent. The
//! propagator makes a remote context without a span id of it all the same, which hides a valid `traceparent` that was read
//! before, and which a parent-based sampler takes for a parent that was not sampled. Python's propagator leaves the context
//! as it was, and so does this one.

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_aws::trace::XrayPropagator;

/// Propagates X-Ray's header where it names a parent.
#[derive(Debug, Default)]
pub(super) struct Xray(XrayPropagator);

impl TextMapPropagator for Xray {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        self.0.inject_context(context, injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let extracted = self.0.extract_with_context(context, extractor);
        match extracted.span().span_context().is_valid() {
            true => extracted,
            false => context.clone(),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::Context;
    use opentelemetry::propagation::TextMapPropagator as _;
    use opentelemetry::trace::TraceContextExt as _;

    use super::super::make_propagator;
    use crate::settings::telemetry::PropagatorName;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const ROOT: &str = "Root=1-67891233-abcdef012345678912345678";

    fn extract(headers: &[(&str, &str)]) -> Context {
        let headers: HashMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let names = [PropagatorName::TraceContext, PropagatorName::Xray];
        make_propagator(&names).extract_with_context(&Context::new(), &headers)
    }

    #[test]
    fn what_a_load_balancer_adds_does_not_hide_the_caller() {
        let context = extract(&[("traceparent", TRACEPARENT), ("x-amzn-trace-id", ROOT)]);
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(span.is_sampled() && span.is_remote());
    }

    #[test]
    fn a_root_alone_is_no_parent_so_that_the_sampler_decides() {
        assert!(!extract(&[("x-amzn-trace-id", ROOT)]).has_active_span());
    }

    #[test]
    fn a_header_that_names_a_parent_is_taken() {
        let header = format!("{ROOT};Parent=53995c3f42cd8ad8;Sampled=1");
        let context = extract(&[("traceparent", TRACEPARENT), ("x-amzn-trace-id", &header)]);
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id().to_string(), "67891233abcdef012345678912345678");
        assert_eq!(span.span_id().to_string(), "53995c3f42cd8ad8");
        assert!(span.is_sampled());
    }
}
