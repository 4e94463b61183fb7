//! The scenario file as it is written: YAML types, with the place of every value that is checked later.
//!
//! Only what serde can determine is checked here (syntax, keys, types); [`super::load`] checks the meaning and resolves
//! defaults. The doc comments are the descriptions in the JSON Schema.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use self::{expect::ExpectFile, fault::FaultFile, request::RequestFile, value::Whole};
use crate::{
    scenario::{CollectorFeature, Level, Naming, Protocol},
    system::INSTANCES,
};

pub(super) mod expect;
pub(super) mod fault;
pub(super) mod request;
pub(super) mod value;

/// Most sample apps in a chain.
pub(super) const MAX_APPS: u32 = 20;
/// Most instances of a workload.
pub(super) const MAX_INSTANCES: u32 = *INSTANCES.end();

/// A scenario: the requests that are driven through a system, what breaks on the way, and what must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// Unique among the scenarios of a run; lower-case words joined by hyphens.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// One sentence that a user would say.
    #[schemars(with = "String")]
    pub(super) description: Spanned<String>,
    /// The system that it needs; the built-in chain of two sample apps when left out.
    #[schemars(with = "Option<SystemFile>")]
    pub(super) system: Option<Spanned<SystemFile>>,
    /// Requests that are sent to the entry, one after the other.
    #[schemars(with = "Vec<RequestFile>")]
    pub(super) requests: Spanned<Vec<Spanned<RequestFile>>>,
    /// Faults that are injected.
    #[serde(default)]
    #[schemars(with = "Vec<FaultFile>")]
    pub(super) faults: Vec<Spanned<FaultFile>>,
    /// Expectations beyond the rules, which always hold (`tracecheck explain`).
    #[serde(default)]
    pub(super) expect: ExpectFile,
    /// Rules that may fail here, each with its reason.
    #[serde(default)]
    #[schemars(with = "Vec<TolerateFile>")]
    pub(super) tolerate: Vec<Spanned<TolerateFile>>,
    /// The levels of rules about conventions, each with its reason; they warn where none is given.
    #[serde(default)]
    #[schemars(with = "Vec<LevelFile>")]
    pub(super) levels: Vec<Spanned<LevelFile>>,
    /// Features of the collector that it needs, each with its reason. With another collector than the built-in one, the
    /// scenario is skipped, and reported as skipped, unless the feature is declared for that collector.
    #[serde(default)]
    #[schemars(with = "Vec<RequireFile>")]
    pub(super) requires: Vec<Spanned<RequireFile>>,
}

/// System that a scenario needs: the built-in chain, or a system file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemFile {
    /// The built-in chain: `sample-app-1` calls `sample-app-2`, and so on.
    pub(super) chain: Option<ChainFile>,
    /// Path of a system file, relative to the scenario.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
}

/// Parameters of the built-in chain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainFile {
    /// Number of sample apps, 1 to 20; 2 by default.
    #[schemars(with = "Option<u32>")]
    pub(super) apps: Option<Spanned<Whole<1, MAX_APPS>>>,
    /// `own`: each app is a service of its own name; `shared`: all are one service, as in the article. `own` when left out.
    pub(super) services: Option<Naming>,
    /// Protocol in which the apps send OTLP; `grpc` by default.
    pub(super) protocol: Option<Protocol>,
    /// Environment variables by app name; `all` for every app.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    pub(super) env: HashMap<Spanned<String>, BTreeMap<String, String>>,
    /// Path of the collector's config, relative to the scenario; passed on unchanged. A small one of the harness's own when left out.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) collector_config: Option<Spanned<PathBuf>>,
    /// Number of instances of the collector behind its address, 1 to 20; 1 by default. More than one is supported on
    /// Kubernetes only: elsewhere the scenario is inconclusive.
    #[schemars(with = "Option<u32>")]
    pub(super) collector_instances: Option<Spanned<Whole<1, MAX_INSTANCES>>>,
}

/// A feature that a scenario needs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequireFile {
    /// The feature of the collector: `apm-stats` (computes APM stats, and sends them to Datadog), `otlphttp-exporter` (has that
    /// exporter), `outage-survival` (exports within a second, and keeps what the intake did not take until it does),
    /// `stats-at-end` (sends what it has of APM stats when it ends), `scripted-refusals` (refuses services on demand).
    pub(super) collector: CollectorFeature,
    /// The reason why it is needed here.
    pub(super) because: String,
}

/// A rule that may fail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TolerateFile {
    /// Name of the rule.
    #[schemars(with = "String")]
    pub(super) rule: Spanned<String>,
    /// The reason why it may fail here.
    pub(super) because: String,
}

/// The level of a rule about conventions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LevelFile {
    /// Name of the rule: `deprecated-attribute`, `hidden-try`, `high-cardinality-name`, `service-tags`,
    /// `unmarked-failure` or `wrong-peer`.
    #[schemars(with = "String")]
    pub(super) rule: Spanned<String>,
    /// The effect of a broken convention.
    pub(super) level: Level,
    /// The reason why it is so here.
    pub(super) because: String,
}
