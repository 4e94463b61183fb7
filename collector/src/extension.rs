//! Extensions: components that run beside the pipelines.

pub(crate) mod authenticator;
pub(crate) mod basic_auth;
pub(crate) mod bearer_token_auth;
pub(crate) mod credentials;
pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod trace_ledger;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of an extension.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum ExtensionConfig {
    BasicAuth(basic_auth::Config),
    BearerTokenAuth(bearer_token_auth::Config),
    FileStorage(file_storage::Config),
    HealthCheck(health_check::Config),
    /// Ours: the Collector has none.
    TraceLedger(trace_ledger::Config),
}

impl Component for ExtensionConfig {
    const SECTION: &'static str = "extensions";
    const NOUN: &'static str = "extension";
    const KINDS: &'static [&'static str] =
        &["basicauth", "bearertokenauth", "file_storage", "health_check", "trace_ledger"];
    const UNSUPPORTED: Unsupported = unsupported::EXTENSIONS;

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "basicauth" => basic_auth::Config::decode(diagnostics).map(Self::BasicAuth),
            "bearertokenauth" => {
                bearer_token_auth::Config::decode(diagnostics).map(Self::BearerTokenAuth)
            }
            "file_storage" => file_storage::Config::decode(diagnostics).map(Self::FileStorage),
            "trace_ledger" => trace_ledger::Config::decode(diagnostics).map(Self::TraceLedger),
            _ => health_check::Config::decode(diagnostics).map(Self::HealthCheck),
        }
    }
}
