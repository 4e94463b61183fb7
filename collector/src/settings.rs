//! The ground that all settings stand on: YAML with places, decoding, and all problems at once.
//!
//! Components and the sections around them use this module, and it knows none of them; [`Config`](crate::config::Config)
//! puts them together above.

pub(crate) mod component_id;
pub(crate) mod decode;
mod diagnostics;
pub(crate) mod duration;
mod endpoint;
pub(crate) mod expand;
pub(crate) mod feature_gates;
pub(crate) mod headers;
mod inert;
pub(crate) mod node;
pub(crate) mod pattern;
mod purpose;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod unsupported;

pub(crate) use component_id::ComponentId;
pub(crate) use diagnostics::Diagnostics;
pub(crate) use endpoint::check_endpoint;
pub(crate) use feature_gates::FeatureGates;
pub(crate) use headers::check_headers;
pub(crate) use purpose::Purpose;
pub(crate) use service::{LogEncoding, LogLevel, MetricsEndpoint, Service};
pub(crate) use unsupported::Unsupported;

use node::Node;

/// A component's config that can be decoded from its section.
pub(crate) trait Component: Sized {
    /// The section's key, such as `receivers`.
    const SECTION: &'static str;
    /// One of them, such as `receiver`.
    const NOUN: &'static str;
    /// The types that are supported.
    const KINDS: &'static [&'static str];
    /// Types that are known and not supported, and what to use instead.
    const UNSUPPORTED: Unsupported;

    /// Decodes the settings of a component of this type, one of [`Self::KINDS`].
    fn decode(kind: &str, node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self>;
}
