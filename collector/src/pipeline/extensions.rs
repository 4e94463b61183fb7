//! The extensions of a config that other components use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StartError;
use crate::config::Config;
use crate::extension::ExtensionConfig;
use crate::extension::authenticator::Authenticator;
use crate::extension::basic_auth::BasicAuth;
use crate::extension::bearer_token_auth::BearerTokenAuth;
use crate::settings::ComponentId;
use crate::telemetry::Registry;

/// Starts the extensions that authenticate senders.
pub(super) fn authenticators(
    config: &Config,
    registry: &Registry,
) -> Result<BTreeMap<ComponentId, Authenticator>, StartError> {
    let mut started = BTreeMap::new();
    for id in &config.service.extensions {
        let name = id.to_string();
        let outcome = match config.extensions.get(id) {
            Some(ExtensionConfig::BasicAuth(config)) => {
                let basic = BasicAuth::start(config, &name, registry);
                basic.map(|basic| Authenticator::Basic(Arc::new(basic)))
            }
            Some(ExtensionConfig::BearerTokenAuth(config)) => {
                let token = BearerTokenAuth::start(config, &name, registry);
                token.map(|token| Authenticator::BearerToken(Arc::new(token)))
            }
            _ => continue,
        };
        let authenticator =
            outcome.map_err(|problem| StartError::Extension { id: name, problem })?;
        started.insert(id.clone(), authenticator);
    }
    Ok(started)
}
