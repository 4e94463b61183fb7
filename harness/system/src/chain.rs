//! The built-in system: the mock intake, a collector, and a chain of sample apps that call one another.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Health, Limits, Program, Role, System, Workload,
    parts::{self, COLLECTOR, Collector},
};
use harness_core::{
    secret::Secret,
    source::{self, Finding},
};

/// Lengths that a chain may have, in sample apps.
pub const LENGTHS: RangeInclusive<usize> = 1..=20;

/// Default time that spans wait in a sample app for others: short, so that no scenario waits for it.
const SCHEDULE_DELAY: Duration = Duration::from_millis(50);

/// The built-in system `chain`: `intake`, `collector`, `sample-app-1` to `sample-app-N`, entered at the first.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Number of sample apps, within [`LENGTHS`]; 2 by default.
    pub length: usize,
    /// Naming of the apps in their spans.
    pub naming: Naming,
    /// Protocol in which the apps send spans to the collector.
    pub protocol: Protocol,
    /// Time that spans wait in an app for others (`OTEL_BSP_SCHEDULE_DELAY`); 50 ms by default.
    pub schedule_delay: Duration,
    /// Environment variables of every app, on top of those that make the chain.
    pub env: BTreeMap<String, String>,
    /// Environment variables of single apps, by workload name, on top of `env`.
    pub app_env: BTreeMap<String, BTreeMap<String, String>>,
    /// The collector.
    pub collector: Collector,
    /// The run's API key, which the collector sends and the mock intake expects.
    pub api_key: Secret,
}

/// Naming of apps.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// Each by its workload's name, so that hops can be distinguished.
    #[default]
    Own,
    /// All by one name, as in the article: `service.namespace=GettingStarted,service.name=GettingStartedService`.
    Shared,
}

/// The protocols of OTLP that sample apps speak.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Protocol {
    /// `grpc`
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// `http/protobuf`
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

impl Protocol {
    /// Returns the protocol's name as in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }

    fn transport(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http",
        }
    }
}

impl Chain {
    /// Creates a chain of two apps with the defaults, whose collector uses `api_key`.
    pub fn new(api_key: Secret) -> Self {
        Self {
            length: 2,
            naming: Naming::default(),
            protocol: Protocol::default(),
            schedule_delay: SCHEDULE_DELAY,
            env: BTreeMap::new(),
            app_env: BTreeMap::new(),
            collector: Collector::default(),
            api_key,
        }
    }

    /// Builds the system.
    ///
    /// # Errors
    /// Everything that is wrong with the parameters and with the collector's config.
    pub fn system(&self) -> Result<System, Vec<Finding>> {
        let mut findings = Vec::new();
        if !LENGTHS.contains(&self.length) {
            let (least, most) = (LENGTHS.start(), LENGTHS.end());
            let message = format!("a chain has {least} to {most} sample apps, not {}", self.length);
            findings.push(Finding::new(FILE, message));
        }
        let names: Vec<String> = (1..=self.length).map(app_name).collect();
        for name in self.app_env.keys().filter(|name| !names.contains(name)) {
            let suggestion = source::nearest_or_known(name, names.iter().map(String::as_str));
            let message = format!("there is no sample app `{name}` in a chain of {}", self.length);
            findings.push(Finding::new(FILE, message).suggest(suggestion));
        }
        let collector = match self.collector.workload(&self.api_key) {
            Ok(collector) => Some(collector),
            Err(more) => {
                findings.extend(more);
                None
            }
        };
        let otlp = collector.as_ref().and_then(|collector| self.otlp_port(collector));
        if collector.is_some() && otlp.is_none() {
            let message = format!(
                "no `otlp` receiver has the protocol `{}`, in which the apps send",
                self.protocol.transport()
            );
            findings.push(Finding::new(&self.collector.config.file, message));
        }
        let (Some(collector), Some(otlp), true) = (collector, otlp, findings.is_empty()) else {
            return Err(findings);
        };
        let mut workloads = vec![parts::intake(&self.api_key), collector];
        workloads.extend((1..=self.length).map(|hop| self.app(hop, &otlp)));
        Ok(System { workloads, entry: app_name(1), own_traces: Vec::new() })
    }

    /// The collector's port for the apps' protocol: that of the receiver `otlp`, else of the first one.
    fn otlp_port(&self, collector: &Workload) -> Option<String> {
        let transport = self.protocol.transport();
        let plain = format!("otlp-{transport}");
        let other =
            |port: &&String| port.starts_with("otlp/") && port.ends_with(&format!("-{transport}"));
        let port = collector.ports.iter().find(|port| **port == plain);
        port.or_else(|| collector.ports.iter().find(other)).cloned()
    }

    fn app(&self, hop: usize, otlp: &str) -> Workload {
        let name = app_name(hop);
        let next = match hop < self.length {
            true => format!("${{endpoint:{}.http}}", app_name(hop + 1)),
            false => String::new(),
        };
        let (service, resource) = match self.naming {
            Naming::Own => ("OTEL_SERVICE_NAME", name.clone()),
            Naming::Shared => (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.namespace=GettingStarted,service.name=GettingStartedService".to_owned(),
            ),
        };
        let own = [
            ("NAME", name.clone()),
            ("LISTEN_ADDR", "${listen:http}".to_owned()),
            ("UPSTREAM_URIS", next),
            (service, resource),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("${{endpoint:{COLLECTOR}.{otlp}}}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.as_str().to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", self.schedule_delay.as_millis().to_string()),
        ];
        let mut env: BTreeMap<String, String> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let given = self.env.iter().chain(self.app_env.get(&name).into_iter().flatten());
        env.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        // Another name may be meant; that of another app is a copy of its settings.
        let is_copied = env.get("OTEL_SERVICE_NAME").is_some_and(|set| {
            (1..=self.length).any(|other| other != hop && *set == app_name(other))
        });
        Workload {
            meant_service: is_copied.then(|| name.clone()),
            name,
            role: Role::Service,
            program: Program::Builtin("sample-app".to_owned()),
            args: Vec::new(),
            env,
            traced: true,
            public: false,
            secrets: BTreeMap::new(),
            ports: vec!["http".to_owned()],
            health: Some(Health { port: "http".to_owned(), path: "/health".to_owned() }),
            ledger: Some("http".to_owned()),
            instances: 1,
            files: BTreeMap::new(),
            working_dir: None,
            limits: Limits::default(),
            user: None,
        }
    }
}

/// How findings about parameters are headed.
const FILE: &str = "built-in system `chain`";

/// Returns the name of the nth sample app, counted from 1.
pub fn app_name(hop: usize) -> String {
    format!("sample-app-{hop}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start_order::start_order;

    #[test]
    fn an_app_that_is_given_another_ones_name_is_meant_to_have_its_own() {
        let meant = |service: &str| {
            let mut chain = Chain::new(Secret::new("5ecret"));
            let env = BTreeMap::from([("OTEL_SERVICE_NAME".to_owned(), service.to_owned())]);
            chain.app_env.insert("sample-app-2".to_owned(), env);
            chain.system().unwrap().workload("sample-app-2").unwrap().meant_service().unwrap()
        };
        assert_eq!(meant("sample-app-1"), "sample-app-2");
        assert_eq!(meant("shop"), "shop");
    }

    fn chain() -> Chain {
        Chain::new(Secret::new("5ecret"))
    }

    #[test]
    fn a_chain_of_any_length_is_sound_and_starts_from_its_end() {
        for length in LENGTHS {
            let system = Chain { length, ..chain() }.system().unwrap();
            assert_eq!(system.problems(), []);
            let order = start_order(&system).unwrap();
            let names: Vec<&str> =
                order.iter().map(|step| system.workloads[step.workload].name.as_str()).collect();
            assert_eq!(&names[..3], ["intake", "collector", &app_name(length)]);
            assert_eq!(names.last().copied(), Some("sample-app-1"));
            assert_eq!(system.entry, "sample-app-1");
        }
    }

    #[test]
    fn each_app_calls_the_next_and_the_last_calls_nobody() {
        let system = chain().system().unwrap();
        let env = |app: &str| system.workload(app).unwrap().env.clone();
        assert_eq!(env("sample-app-1")["UPSTREAM_URIS"], "${endpoint:sample-app-2.http}");
        assert_eq!(env("sample-app-2")["UPSTREAM_URIS"], "");
        assert_eq!(env("sample-app-2")["OTEL_SERVICE_NAME"], "sample-app-2");
        assert_eq!(env("sample-app-1")["OTEL_BSP_SCHEDULE_DELAY"], "50");
        assert_eq!(
            env("sample-app-1")["OTEL_EXPORTER_OTLP_ENDPOINT"],
            "${endpoint:collector.otlp-grpc}"
        );
    }

    #[test]
    fn the_articles_naming_protocol_and_variables_of_single_apps_are_parameters() {
        let single = BTreeMap::from([("ERROR_RATE".to_owned(), "1".to_owned())]);
        let system = Chain {
            naming: Naming::Shared,
            protocol: Protocol::HttpProtobuf,
            env: BTreeMap::from([("OTEL_PROPAGATORS".to_owned(), "xray".to_owned())]),
            app_env: BTreeMap::from([("sample-app-2".to_owned(), single)]),
            ..chain()
        }
        .system()
        .unwrap();
        let (one, two) = (&system.workloads[2].env, &system.workloads[3].env);
        assert_eq!(
            one["OTEL_RESOURCE_ATTRIBUTES"],
            "service.namespace=GettingStarted,service.name=GettingStartedService"
        );
        assert!(!one.contains_key("OTEL_SERVICE_NAME"));
        assert_eq!(one["OTEL_EXPORTER_OTLP_ENDPOINT"], "${endpoint:collector.otlp-http}");
        assert_eq!(one["OTEL_EXPORTER_OTLP_PROTOCOL"], "http/protobuf");
        assert_eq!((&*one["OTEL_PROPAGATORS"], one.get("ERROR_RATE")), ("xray", None));
        assert_eq!(two["ERROR_RATE"], "1");
    }

    #[test]
    fn another_collector_gets_both_configs_after_its_own_arguments() {
        let mut chain = chain();
        chain.collector.command = vec!["/opt/otelcol".to_owned(), "--feature-gates=x".to_owned()];
        let system = chain.system().unwrap();
        let collector = system.workload(COLLECTOR).unwrap();
        assert_eq!(collector.program, Program::Command("/opt/otelcol".to_owned()));
        assert_eq!(
            collector.args,
            [
                "--feature-gates=x",
                "--config=${file:collector.yaml}",
                "--config=${file:overlay.json}"
            ]
        );
        assert_eq!(system.problems(), []);
    }

    #[test]
    fn everything_wrong_with_the_parameters_is_reported() {
        let mut chain = Chain { length: 21, ..chain() };
        chain.app_env.insert("sampel-app-2".to_owned(), BTreeMap::new());
        chain.collector.config.text.push_str("  telemetry: {logs: {processors: [{batch: }]}}\n");
        let findings: Vec<String> =
            chain.system().unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(findings.len(), 3, "{findings:#?}");
        assert_eq!(findings[0], "built-in system `chain`: a chain has 1 to 20 sample apps, not 21");
        assert!(findings[1].ends_with("did you mean `sample-app-2`?"), "{findings:#?}");
        assert!(findings[2].starts_with("built-in collector config:"), "{findings:#?}");
    }

    #[test]
    fn a_collector_without_the_apps_protocol_is_reported() {
        let mut chain = chain();
        chain.collector.config.text = chain.collector.config.text.replace("      grpc:\n", "");
        let findings = chain.system().unwrap_err();
        assert!(findings[0].message.contains("protocol `grpc`"), "{findings:?}");
    }
}
