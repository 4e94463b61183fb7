//! The collector through the OpenTelemetry operator: the `OpenTelemetryCollector` that is applied in the place of a
//! Deployment, a Service and a ConfigMap of our own.
//!
//! What the operator makes of it is the operator's: the Deployment and Service `my-collector-collector`, a config in a
//! ConfigMap, a call of the image with `--config=/conf/collector.yaml` and nothing else. So the second config that other
//! environments give a collector is merged into the first one here, its exporters only. Whether the cluster has what this
//! needs is [`preflight`]'s business.

use std::collections::BTreeSet;

use kube::{
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};

pub(crate) mod config;
pub mod preflight;

/// Name of the resource, as in the article; the operator appends `-collector` for what it makes of it.
pub const RESOURCE: &str = "my-collector";
/// The resource's group.
pub const GROUP: &str = "opentelemetry.io";
/// The resource's kind.
pub const KIND: &str = "OpenTelemetryCollector";

/// A version of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `config` is a text; deprecated, and what the article has.
    V1Alpha1,
    /// `config` is an object.
    V1Beta1,
}

impl Version {
    /// Returns the version as in `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "v1alpha1",
            Self::V1Beta1 => "v1beta1",
        }
    }

    /// Returns the description by which a client requests such resources.
    pub fn api(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, self.name(), KIND))
    }
}

/// Facts about the operator that is to create the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The version to apply.
    pub version: Version,
    /// The keys below `spec` that its definition knows; all that we write, where that cannot be determined.
    pub fields: Option<BTreeSet<String>>,
}

impl Operator {
    /// Creates an operator of which only the version is known.
    pub fn of(version: Version) -> Self {
        Self { version, fields: None }
    }

    /// Returns whether its definition has a field that an older operator may not know; one that it cannot do without is left in.
    pub(super) fn knows(&self, field: &str) -> bool {
        const NEEDED: [&str; 6] = ["args", "config", "env", "image", "mode", "serviceAccount"];
        NEEDED.contains(&field) || self.fields.as_ref().is_none_or(|known| known.contains(field))
    }
}

/// The version of a resource that was made here.
pub(super) fn version_of(collector: &DynamicObject) -> Version {
    let written = collector.types.as_ref().map(|types| types.api_version.as_str());
    let is_old = written.is_some_and(|written| written.ends_with(Version::V1Alpha1.name()));
    if is_old { Version::V1Alpha1 } else { Version::V1Beta1 }
}

#[cfg(test)]
mod tests;
