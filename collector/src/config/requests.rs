//! Checks of what receivers and processors say of requests: who may send, and what is kept of them.

use std::collections::BTreeSet;

use super::Config;
use crate::extension::ExtensionConfig;
use crate::processor::actions::Action;
use crate::receiver::ReceiverConfig;
use crate::settings::service::Pipeline;
use crate::settings::{ComponentId, Diagnostics};

impl Config {
    /// Checks that receivers refer to authenticators that there are.
    pub(super) fn check_authenticators(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        exists: impl Fn(&str, &ComponentId) -> bool,
    ) {
        for (id, receiver) in &self.receivers {
            let ReceiverConfig::Otlp(receiver) = receiver;
            for (protocol, authenticator) in receiver.authenticators() {
                let problem = match self.extensions.get(authenticator) {
                    Some(ExtensionConfig::BasicAuth(_) | ExtensionConfig::BearerTokenAuth(_)) => {
                        if self.service.extensions.contains(authenticator) {
                            continue;
                        }
                        format!(
                            "refers to `{authenticator}`, which is not named in `service.extensions`"
                        )
                    }
                    Some(_) => format!(
                        "refers to `{authenticator}`, which authenticates nobody; use `basicauth` or `bearertokenauth`"
                    ),
                    // It is configured wrongly, which was reported.
                    None if exists("extensions", authenticator) => continue,
                    None => format!(
                        "refers to `{authenticator}`, which is not configured under `extensions`"
                    ),
                };
                let id = id.to_string();
                let path = ["receivers", &id, "protocols", protocol, "auth", "authenticator"];
                diagnostics.add(&path, &problem);
            }
        }
    }

    /// Notes where metadata of requests is kept and not read, or read and not kept.
    pub(super) fn check_metadata(&self, diagnostics: &mut Diagnostics<'_>) {
        let mut read_of = BTreeSet::new();
        for pipeline in self.service.trace_pipelines() {
            let receivers = self.receivers_before(pipeline);
            for processor in &pipeline.processors {
                let Some(config) = self.processors.get(processor) else { continue };
                let Some(index) = config.actions().iter().position(Action::needs_metadata) else {
                    continue;
                };
                read_of.extend(receivers.iter().copied());
                let is_kept = receivers.iter().any(|id| {
                    self.receivers.get(*id).is_some_and(|ReceiverConfig::Otlp(receiver)| {
                        receiver.keeps_metadata().next().is_some()
                    })
                });
                if !is_kept {
                    let key = match processor.kind() {
                        "resource" => "attributes",
                        _ => "actions",
                    };
                    let (id, index) = (processor.to_string(), index.to_string());
                    let text = "reads metadata of requests, which no receiver of its pipelines keeps, so that it finds nothing; set `include_metadata: true` for the receiver's protocols";
                    diagnostics.note(&["processors", &id, key, &index, "from_context"], text);
                }
            }
        }
        for (id, receiver) in &self.receivers {
            let ReceiverConfig::Otlp(receiver) = receiver;
            for protocol in receiver.keeps_metadata() {
                if !read_of.contains(id) {
                    let id = id.to_string();
                    let text = "keeps what nothing in this config reads: `from_context` of the processors `attributes` and `resource` does";
                    let path = ["receivers", &id, "protocols", protocol, "include_metadata"];
                    diagnostics.note(&path, text);
                }
            }
        }
    }

    /// The receivers of a pipeline, those in front of connectors included.
    fn receivers_before<'a>(&'a self, pipeline: &'a Pipeline) -> BTreeSet<&'a ComponentId> {
        let is_before =
            |other: &&Pipeline| other.exporters.iter().any(|id| pipeline.receivers.contains(id));
        let before = self.service.trace_pipelines().filter(is_before);
        let receivers = before.flat_map(|other| &other.receivers).chain(&pipeline.receivers);
        receivers.filter(|id| self.receivers.contains_key(*id)).collect()
    }
}
