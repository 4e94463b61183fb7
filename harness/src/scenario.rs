//! The scenario: which requests are driven through which system, what breaks on the way, and what must hold.
//!
//! A scenario states outcomes, never mechanics: it does not say where it runs or how evidence is gathered. The
//! YAML form and its checks are in [`crate::load`]; after that nothing is optional that has a default.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

pub mod fault;
pub(crate) mod implied;
pub mod request;

pub use crate::case::Method;
use crate::expectation::Expect;
pub use fault::{Fault, FaultKind};
pub use harness_system::{
    chain::{Naming, Protocol},
    feature::CollectorFeature,
};
pub use request::{DEFAULT_TIMEOUT, Propagation, Request, TraceIdFrom};

/// A checked scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Unique among the scenarios of a run; kebab-case.
    pub name: String,
    /// The sentence that a user would say.
    pub description: String,
    /// File it was read from.
    pub file: PathBuf,
    /// The system that it needs.
    pub system: SystemChoice,
    /// Requests to drive, in order.
    pub requests: Vec<Request>,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// Expectations beyond the rules.
    pub expect: Expect,
    /// Rules that may fail here, by name, with the reason the scenario gives.
    pub tolerate: BTreeMap<String, String>,
    /// The level of each rule about conventions that the scenario gives one; the others warn.
    #[serde(default)]
    pub levels: BTreeMap<String, Leveled>,
    /// Features it requires of the collector, each with the scenario's reason.
    #[serde(default)]
    pub requires: BTreeMap<CollectorFeature, String>,
}

/// The effect of a broken convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A finding fails the scenario.
    Error,
    /// A finding is reported, and fails nothing.
    Warn,
    /// A finding is not reported.
    Off,
}

/// A level, and the scenario's reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leveled {
    /// The level.
    pub level: Level,
    /// The reason.
    pub because: String,
}

/// System that a scenario needs. Scenarios with equal choices share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SystemChoice {
    /// The built-in chain of sample apps.
    Chain(ChainChoice),
    /// A system file of the user's, at this path.
    File(PathBuf),
}

/// Parameters of the built-in chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainChoice {
    /// Number of sample apps, at least 1.
    pub apps: u32,
    /// Naming of the apps' services.
    pub services: Naming,
    /// Protocol in which the apps send OTLP.
    pub protocol: Protocol,
    /// Environment variables by app; `all` for every app.
    pub env: BTreeMap<String, BTreeMap<String, String>>,
    /// The collector's config, passed on unchanged; `None` for the built-in one.
    pub collector_config: Option<PathBuf>,
    /// Number of instances of the collector behind one address.
    #[serde(default = "one")]
    pub collector_instances: u32,
}

fn one() -> u32 {
    1
}

impl Default for ChainChoice {
    fn default() -> Self {
        Self {
            apps: 2,
            services: Naming::Own,
            protocol: Protocol::Grpc,
            env: BTreeMap::new(),
            collector_config: None,
            collector_instances: 1,
        }
    }
}

impl ChainChoice {
    /// Returns the workload names of the apps, the entry first.
    pub fn app_names(&self) -> Vec<String> {
        (1..=self.apps).map(|n| format!("sample-app-{n}")).collect()
    }

    /// Returns the value of the environment variable `name` for an app: its own, else that of `all`.
    pub fn app_env(&self, app: &str, name: &str) -> Option<&str> {
        let of = |owner: &str| self.env.get(owner)?.get(name).map(String::as_str);
        of(app).or_else(|| of("all"))
    }
}

/// The service name of the article's sample apps, `GettingStartedService`, as Datadog normalizes it.
pub const SHARED_SERVICE: &str = "gettingstartedservice";

impl Scenario {
    /// Returns whether the scenario must have its system to itself: it scripts the intake or the collector, acts on
    /// workloads, has faults that outlast requests, or checks APM stats or a balance, which cannot be attributed to
    /// scenarios.
    pub fn is_exclusive(&self) -> bool {
        self.expect.stats.is_some()
            || self.expect.balance.is_some()
            || self.expect.asks_senders()
            || self.faults.iter().any(|fault| fault.kind.needs_own_system())
    }

    /// Returns the reason to skip the scenario with a collector for which `lack` returns why it lacks a feature
    /// (`None` if it has the feature); `None` if nothing is lacking.
    pub fn is_beyond(&self, lack: impl Fn(CollectorFeature) -> Option<String>) -> Option<String> {
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (feature, because) in &self.requires {
            if let Some(lack) = lack(*feature) {
                missing.entry(lack).or_default().push(format!("`{}` ({because})", feature.name()));
            }
        }
        let needs = missing.iter().map(|(lack, features)| {
            format!("it needs a collector with {}, and {lack}", features.join(" and "))
        });
        (!missing.is_empty()).then(|| needs.collect::<Vec<_>>().join("; "))
    }

    /// Returns the request that the harness repeats for its own purposes, for example as a sentinel: the first with a
    /// safe method and without saved values, else the first.
    pub fn harmless(&self) -> &Request {
        &self.requests[self.harmless_index()]
    }

    /// Returns the index of [`Self::harmless`] among the requests.
    pub fn harmless_index(&self) -> usize {
        let harmless =
            |one: &Request| one.method.is_safe() && one.uses().is_ok_and(|uses| uses.is_empty());
        self.requests.iter().position(harmless).unwrap_or(0)
    }

    /// Returns the number of requests that the scenario sends, repetitions included.
    pub fn request_count(&self) -> u32 {
        self.requests.iter().map(|request| request.times).sum()
    }
}
