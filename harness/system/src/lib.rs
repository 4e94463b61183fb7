//! Systems to run, in words that no environment owns: workloads, their ports, and the edges between them.
//!
//! How a workload is started is `environment`'s business; what it must do is a scenario's.
//!
//! Arguments, environment variables and expandable files may hold references, which an environment replaces:
//!
//! | Reference | Becomes |
//! | --- | --- |
//! | `${endpoint:WORKLOAD.PORT}` | `http://host:port`, where others reach that workload |
//! | `${address:WORKLOAD.PORT}` | `host:port`, where others reach that workload |
//! | `${listen:PORT}` | `host:port` that the workload itself is to bind |
//! | `${host:PORT}` | the address that the workload itself is to bind, without the port number |
//! | `${port:PORT}` | the port number that the workload itself is to bind; `0` where it reports what it got |
//! | `${file:NAME}` | the path of one of its own files |
//! | `$${` | `${`, for a program that expands such things itself |

use std::{
    collections::BTreeMap, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration,
};

use harness_core::secret::Secret;

pub mod chain;
pub mod collector_overlay;
pub mod feature;
pub mod file;
pub mod parts;
pub mod program;
pub mod reference;
pub mod start_order;
pub mod taps;
mod validate;

pub use self::validate::Problem;

/// Numbers of instances that a workload may have.
pub const INSTANCES: RangeInclusive<u32> = 1..=20;

/// The set of workloads that a scenario needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// In the order they were written; started callees first, by their edges.
    pub workloads: Vec<Workload>,
    /// Name of the workload that the driver sends requests to, at its port `http`.
    pub entry: String,
    /// Traces that services begin by themselves, as scheduled jobs do.
    pub own_traces: Vec<OwnTraces>,
}

/// Traces that a service begins by itself, without a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTraces {
    /// The workload, or its service name.
    pub service: String,
    /// The resource of their first span; `*` stands for any text.
    pub resource: String,
}

impl OwnTraces {
    /// Returns whether the declaration covers traces that begin with this resource.
    pub fn is_about(&self, resource: &str) -> bool {
        let mut parts = self.resource.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = resource.strip_prefix(first) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        true
    }
}

/// One process, container or pod set of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Unique in the system; a DNS label.
    pub name: String,
    /// Its role for the harness.
    pub role: Role,
    /// The program to start.
    pub program: Program,
    /// Arguments; may hold references, see [`crate`].
    pub args: Vec<String>,
    /// Environment variables; values may hold references. Values of secrets are in `secrets` instead.
    pub env: BTreeMap<String, String>,
    /// The service name that whoever wrote the system gave it, where a caller's variable took its place.
    pub meant_service: Option<String>,
    /// Whether it makes spans. One that does not (a proxy, a stub, a database) is no service of a trace: those behind it are reached
    /// through it.
    pub traced: bool,
    /// Whether it begins a trace of its own for each request, and links it to the one that its caller names.
    pub public: bool,
    /// Environment variables that must not be printed or written to a log. Values hold no references.
    pub secrets: BTreeMap<String, Secret>,
    /// Port names, for example `http` or `otlp-grpc`.
    pub ports: Vec<String>,
    /// Health check beyond the bound ports.
    pub health: Option<Health>,
    /// Port of its ledger routes, where it has them.
    pub ledger: Option<String>,
    /// Number of instances behind one address, at least 1; not every environment supports more.
    pub instances: u32,
    /// Files it is given, by file name; `${file:NAME}` is the path where it finds one.
    pub files: BTreeMap<String, File>,
    /// Working directory of its processes, so that its relative paths mean what they mean to its author; the harness's
    /// own directory when `None`. Of no effect where it runs from an image.
    pub working_dir: Option<PathBuf>,
    /// Time limits for startup and shutdown, and the signal that requests shutdown.
    pub limits: Limits,
    /// Number of the user that runs it, never 0; what the environment gives when `None`. Of no effect where it runs as a process.
    pub user: Option<u32>,
}

/// Time limits of a workload for startup and shutdown, and the signal that requests shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Time limit for startup; the environment's where `None`.
    pub start: Option<Duration>,
    /// Grace period after the request to shut down, before the workload is killed; the environment's where `None`.
    /// Where it is set, having to kill the workload does not count as an unclean stop.
    pub stop: Option<Duration>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
}

/// A signal that asks a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT, as Ctrl-C sends it.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGKILL: it is not asked.
    Kill,
}

impl StopSignal {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Term, Self::Int, Self::Quit, Self::Hup, Self::Usr1, Self::Usr2, Self::Kill];

    /// Returns the signal's name, for example `SIGTERM`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Kill => "SIGKILL",
        }
    }
}

/// Error for a text that is no [`StopSignal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal that can stop a workload")]
pub struct ParseSignalError(String);

impl FromStr for StopSignal {
    type Err = ParseSignalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |signal: &Self| {
            signal.name() == text || signal.name().trim_start_matches("SIG") == text
        };
        Self::ALL.into_iter().find(named).ok_or_else(|| ParseSignalError(text.to_owned()))
    }
}

/// Role of a workload for the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The mock intake.
    Intake,
    /// The collector under test.
    Collector,
    /// A service under test.
    Service,
    /// Something that stands between two of the others.
    Tap,
}

/// Program of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A subcommand of `tracecheck` itself (`intake`, `collector`, `sample-app`, `tap`): binds port 0 and reports where.
    Builtin(String),
    /// A program of a third party, which is given the port to use.
    Command(String),
}

/// An HTTP route that answers 2xx once the workload can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Port name.
    pub port: String,
    /// Path, with its leading `/`.
    pub path: String,
}

/// A file that a workload is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its text.
    pub contents: String,
    /// Whether references in it are replaced; a user's own file is passed on unchanged.
    pub expand: bool,
}

impl System {
    /// Looks up a workload by name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// Iterates over the names of all workloads, in the order of the system's description.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.workloads.iter().map(|workload| workload.name.as_str())
    }
}

/// The attributes that are meant of a resource beside its service.
const MEANT: [&str; 3] =
    ["deployment.environment.name", "deployment.environment", "service.version"];

impl Workload {
    /// Returns whether the workload has more than one instance.
    pub fn is_replicated(&self) -> bool {
        self.instances > 1
    }

    /// Returns how long spans may wait in the workload's SDK before they are exported: `OTEL_BSP_SCHEDULE_DELAY`, or
    /// the specification's default of 5 s.
    pub fn export_delay(&self) -> Duration {
        self.set_export_delay().unwrap_or(Duration::from_secs(5))
    }

    /// Returns how long spans wait in the workload's SDK, if its environment sets `OTEL_BSP_SCHEDULE_DELAY`.
    pub fn set_export_delay(&self) -> Option<Duration> {
        let set = self.env.get("OTEL_BSP_SCHEDULE_DELAY").and_then(|text| text.trim().parse().ok());
        set.map(Duration::from_millis)
    }

    /// Returns the environment variable, as `NAME=value`, that disables the workload's SDK, or has it drop
    /// sampled spans or send them elsewhere than by OTLP; `None` if no variable does.
    pub fn silenced_by(&self) -> Option<String> {
        let value = |name: &str| self.env.get(name).map(|value| value.trim());
        let is_off = |name: &str, value: &str| match name {
            "OTEL_SDK_DISABLED" => value.eq_ignore_ascii_case("true"),
            "OTEL_TRACES_EXPORTER" => {
                !value.is_empty() && !value.split(',').any(|one| one.trim().starts_with("otlp"))
            }
            "OTEL_TRACES_SAMPLER" => {
                let share = self.env.get("OTEL_TRACES_SAMPLER_ARG");
                let share = share.and_then(|share| share.trim().parse::<f64>().ok());
                value == "always_off" || (value == "traceidratio" && share == Some(0.0))
            }
            _ => false,
        };
        let names = ["OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER"];
        let mut set = names.into_iter().filter_map(|name| Some((name, value(name)?)));
        set.find(|(name, value)| is_off(name, value)).map(|(name, value)| format!("{name}={value}"))
    }

    /// Returns the environment variable, as `NAME=value`, that limits how many attributes the workload's SDK keeps of a span, with that
    /// number; `None` if none is set.
    pub fn most_attributes(&self) -> Option<(String, usize)> {
        self.limit(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"])
    }

    /// Returns the environment variable, as `NAME=value`, that limits the length of the values of a span's attributes, with that number of
    /// characters; `None` if none is set.
    pub fn longest_value(&self) -> Option<(String, usize)> {
        self.limit(["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
    }

    /// The first of these that is set to a number: the one of spans alone comes before the general one.
    fn limit(&self, names: [&str; 2]) -> Option<(String, usize)> {
        names.into_iter().find_map(|name| {
            let value = self.env.get(name)?.trim();
            Some((format!("{name}={value}"), value.parse().ok()?))
        })
    }

    /// Returns the setting, as `NAME=value`, by which its SDK exports to a fixed address, which may be another than the collector's; `None`
    /// where it is given a reference, or no address.
    pub fn exports_to(&self) -> Option<String> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let mut set = names.into_iter().filter_map(|name| Some((name, self.env.get(name)?)));
        let (name, value) = set.next().filter(|(_, value)| !value.contains("${"))?;
        Some(format!("{name}={value}"))
    }

    /// Returns the environment variable, as `NAME=value`, by which its SDK drops some traces whatever their parents say; `None` if none does.
    pub fn own_sampler(&self) -> Option<String> {
        let name = "OTEL_TRACES_SAMPLER";
        let sampler = self.env.get(name)?.trim();
        let share = self.env.get("OTEL_TRACES_SAMPLER_ARG");
        let share = share.and_then(|share| share.trim().parse::<f64>().ok());
        // Without a share, it keeps all.
        let drops = sampler == "traceidratio" && share.is_some_and(|share| share < 1.0);
        drops.then(|| format!("{name}={sampler}"))
    }

    /// Returns the environment variables, as `NAME=value`, that leave some of its libraries or routes without instrumentation: of Node's and
    /// Python's automatic instrumentation, and of the Java agent.
    pub fn uninstrumented_by(&self) -> Vec<String> {
        let leaves_out = |name: &str, value: &str| match name {
            "OTEL_NODE_DISABLED_INSTRUMENTATIONS"
            | "OTEL_NODE_ENABLED_INSTRUMENTATIONS"
            | "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS" => true,
            _ if name.starts_with("OTEL_PYTHON_") => name.ends_with("EXCLUDED_URLS"),
            _ => {
                name.starts_with("OTEL_INSTRUMENTATION_")
                    && name.ends_with("_ENABLED")
                    && value.eq_ignore_ascii_case("false")
            }
        };
        let set = self.env.iter().map(|(name, value)| (name, value.trim()));
        let set = set.filter(|(name, value)| !value.is_empty() && leaves_out(name, value));
        set.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Returns the settings by which its SDK exports to one of the collector's ports what is not taken there, in words: the protocol of the
    /// other port, or a path that is not that of traces; `None` where it does not, or where it is not known.
    pub fn misdirected(&self) -> Option<String> {
        let set = |names: [&'static str; 2]| {
            let mut set = names.into_iter().filter_map(|name| Some((name, self.env.get(name)?)));
            set.next().map(|(name, value)| (name, value.trim()))
        };
        let (at, endpoint) =
            set(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])?;
        let protocol = set(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        let (reference, path) = endpoint.strip_prefix("${endpoint:")?.split_once('}')?;
        let is_http = reference.ends_with(".otlp-http");
        if !is_http && !reference.ends_with(".otlp-grpc") {
            return None;
        }
        if let Some((name, protocol)) = protocol
            && (protocol == "grpc") == is_http
        {
            let port = if is_http { "HTTP" } else { "gRPC" };
            return Some(format!(
                "{name}={protocol} is set for it, and {at}={endpoint} is the collector's port for OTLP over {port}"
            ));
        }
        // That of traces alone is taken as it is; to the general one, SDKs add the path.
        let is_of_traces = at == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        (is_http && is_of_traces && path != "/v1/traces").then(|| {
            format!("{at}={endpoint} is set for it, to which SDKs add no path, and traces are taken at /v1/traces")
        })
    }

    /// Returns the service name that the workload's environment gives its SDK.
    pub fn service_name(&self) -> Option<String> {
        let reported = self.env.get("OTEL_SERVICE_NAME").cloned();
        reported.or_else(|| {
            let attributes = self.env.get("OTEL_RESOURCE_ATTRIBUTES")?;
            let name =
                attributes.split(',').find_map(|one| one.trim().strip_prefix("service.name="))?;
            Some(name.to_owned())
        })
    }

    /// Returns the service name that Datadog should receive, as the system declares it before a caller's variables
    /// change it; `None` if it is not declared, or contains references.
    pub fn meant_service(&self) -> Option<String> {
        let meant = self.meant_service.clone().or_else(|| self.service_name());
        meant.filter(|name| !name.is_empty() && !name.contains(['$', '%']))
    }

    /// Returns the deployment environment and the version that the workload's environment gives its SDK, by
    /// attribute; values that contain references are omitted.
    pub fn meant_attributes(&self) -> BTreeMap<String, String> {
        let reported = self.env.get("OTEL_RESOURCE_ATTRIBUTES").map_or("", String::as_str);
        let pairs = reported.split(',').filter_map(|one| one.split_once('='));
        let pairs = pairs.map(|(key, value)| (key.trim(), value.trim()));
        let is_plain = |value: &str| !value.is_empty() && !value.contains(['$', '%']);
        let meant = pairs.filter(|(key, value)| MEANT.contains(key) && is_plain(value));
        meant.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Returns whether the workload has a port of this name.
    pub fn has_port(&self, port: &str) -> bool {
        self.ports.iter().any(|known| known == port)
    }
}

#[cfg(any(test, feature = "testing"))]
/// Small systems for tests.
pub mod testing {
    use super::{BTreeMap, Limits, Program, Role, System, Workload};

    /// Creates a service with the port `http` that a command with these arguments starts.
    pub fn service(name: &str, args: &[&str]) -> Workload {
        Workload {
            name: name.to_owned(),
            role: Role::Service,
            program: Program::Command("service".to_owned()),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: BTreeMap::new(),
            meant_service: None,
            traced: true,
            public: false,
            secrets: BTreeMap::new(),
            ports: vec!["http".to_owned()],
            health: None,
            ledger: None,
            instances: 1,
            files: BTreeMap::new(),
            working_dir: None,
            limits: Limits::default(),
            user: None,
        }
    }

    /// Creates a system of these workloads, with the first as its entry.
    pub fn system(workloads: impl IntoIterator<Item = Workload>) -> System {
        let workloads: Vec<Workload> = workloads.into_iter().collect();
        System { entry: workloads[0].name.clone(), workloads, own_traces: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnTraces, testing};

    #[test]
    fn what_is_meant_of_a_resource_is_what_is_written_down_and_no_reference() {
        let mut shop = testing::service("shop", &[]);
        assert!(shop.meant_attributes().is_empty());
        let reported =
            "service.name=shop, deployment.environment.name = prod,team=a,service.version=$TAG";
        shop.env.insert("OTEL_RESOURCE_ATTRIBUTES".to_owned(), reported.to_owned());
        let meant: Vec<(String, String)> = shop.meant_attributes().into_iter().collect();
        assert_eq!(meant, [("deployment.environment.name".to_owned(), "prod".to_owned())]);
    }

    #[test]
    fn an_exporter_that_is_given_a_fixed_address_is_known() {
        let mut shop = testing::service("shop", &[]);
        assert_eq!(shop.exports_to(), None);
        let mut set = |name: &str, value: &str| {
            shop.env.insert(name.to_owned(), value.to_owned());
            shop.exports_to()
        };
        let reference = "${endpoint:collector.otlp-http}";
        assert_eq!(set("OTEL_EXPORTER_OTLP_ENDPOINT", reference), None);
        let fixed = "http://127.0.0.1:9";
        let found = set("OTEL_EXPORTER_OTLP_ENDPOINT", fixed);
        assert_eq!(found, Some(format!("OTEL_EXPORTER_OTLP_ENDPOINT={fixed}")));
        assert_eq!(set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", reference), None);
    }

    #[test]
    fn an_exporter_that_speaks_to_the_collector_what_is_not_taken_there_is_known() {
        let misdirected = |set: &[(&str, &str)]| {
            let mut shop = testing::service("shop", &[]);
            let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            shop.env.extend(set);
            shop.misdirected()
        };
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let of_traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let protocol = "OTEL_EXPORTER_OTLP_PROTOCOL";
        let (http, grpc) = ("${endpoint:collector.otlp-http}", "${endpoint:collector.otlp-grpc}");
        for (set, reported) in [
            (
                &[(endpoint, http), (protocol, "grpc")][..],
                "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is set for it, and OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint:collector.otlp-http} is the collector's port for OTLP over HTTP",
            ),
            (
                &[(endpoint, grpc), (protocol, "http/protobuf")],
                "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf is set for it, and OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint:collector.otlp-grpc} is the collector's port for OTLP over gRPC",
            ),
            (
                &[(of_traces, http), (endpoint, http), (protocol, "http/protobuf")],
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=${endpoint:collector.otlp-http} is set for it, to which SDKs add no path, and traces are taken at /v1/traces",
            ),
        ] {
            assert_eq!(misdirected(set).as_deref(), Some(reported));
        }
        for sound in [
            &[][..],
            &[(endpoint, http)],
            &[(endpoint, http), (protocol, "http/json")],
            &[(endpoint, grpc), (protocol, "grpc")],
            &[(of_traces, "${endpoint:collector.otlp-http}/v1/traces")],
            &[(of_traces, grpc)],
            &[(endpoint, "http://127.0.0.1:4318"), (protocol, "grpc")],
            &[(endpoint, "${endpoint:relay.http}"), (protocol, "grpc")],
        ] {
            assert_eq!(misdirected(sound), None, "{sound:?}");
        }
    }

    #[test]
    fn settings_of_samplers_and_instrumentation_are_known() {
        let shop = |name: &str, value: &str| {
            let mut shop = testing::service("shop", &[]);
            shop.env.insert(name.to_owned(), value.to_owned());
            shop
        };
        for (sampler, share, drops) in [
            ("always_on", "0.5", false),
            ("traceidratio", "0.5", true),
            ("traceidratio", "1.0", false),
            ("traceidratio", "", false),
            ("parentbased_traceidratio", "0.5", false),
        ] {
            let mut shop = shop("OTEL_TRACES_SAMPLER", sampler);
            shop.env.insert("OTEL_TRACES_SAMPLER_ARG".to_owned(), share.to_owned());
            assert_eq!(shop.own_sampler(), drops.then(|| format!("OTEL_TRACES_SAMPLER={sampler}")));
        }
        for (name, value, leaves_out) in [
            ("OTEL_NODE_DISABLED_INSTRUMENTATIONS", "undici", true),
            ("OTEL_PYTHON_EXCLUDED_URLS", "prices", true),
            ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "prices", true),
            ("OTEL_INSTRUMENTATION_JDBC_ENABLED", "false", true),
            ("OTEL_INSTRUMENTATION_JDBC_ENABLED", "true", false),
            ("OTEL_PYTHON_EXCLUDED_URLS", "", false),
            ("OTEL_PYTHON_LOG_LEVEL", "debug", false),
        ] {
            let found = shop(name, value).uninstrumented_by();
            let expected = leaves_out.then(|| format!("{name}={value}"));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn limits_on_attributes_are_known_and_that_of_spans_comes_first() {
        let mut shop = testing::service("shop", &[]);
        assert_eq!((shop.most_attributes(), shop.longest_value()), (None, None));
        let mut set = |name: &str, value: &str| {
            shop.env.insert(name.to_owned(), value.to_owned());
            (shop.most_attributes(), shop.longest_value())
        };
        let limit = |set: &str, number| Some((set.to_owned(), number));
        let count = "OTEL_ATTRIBUTE_COUNT_LIMIT=9";
        assert_eq!(set("OTEL_ATTRIBUTE_COUNT_LIMIT", " 9 "), (limit(count, 9), None));
        let count = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=3";
        assert_eq!(set("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"), (limit(count, 3), None));
        let length = limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=8", 8);
        assert_eq!(set("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "8"), (limit(count, 3), length));
    }

    #[test]
    fn settings_that_leave_no_span_of_sampled_requests_are_known() {
        let of = |settings: &[(&str, &str)]| {
            let mut shop = testing::service("shop", &[]);
            let settings = settings.iter();
            shop.env.extend(settings.map(|(name, value)| ((*name).into(), (*value).into())));
            shop.silenced_by()
        };
        let sampler = "OTEL_TRACES_SAMPLER";
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_TRACES_EXPORTER", "console"),
            (sampler, "always_off"),
        ] {
            assert_eq!(of(&[(name, value)]), Some(format!("{name}={value}")));
        }
        let share = |share| of(&[(sampler, "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", share)]);
        assert_eq!(share("0"), Some("OTEL_TRACES_SAMPLER=traceidratio".to_owned()));
        assert_eq!(share("0.5"), None);
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "false"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "console, otlp_proto_http"),
            ("OTEL_TRACES_EXPORTER", ""),
            (sampler, "parentbased_always_off"),
        ] {
            assert_eq!(of(&[(name, value)]), None, "{name}={value}");
        }
    }

    #[test]
    fn a_star_in_a_resource_stands_for_any_text() {
        let about = |pattern: &str, resource: &str| {
            OwnTraces { service: String::new(), resource: pattern.to_owned() }.is_about(resource)
        };
        for (pattern, resource) in [
            ("clean up", "clean up"),
            ("*", ""),
            ("clean *", "clean orders"),
            ("* orders", "clean orders"),
            ("clean * of *", "clean orders of today"),
            ("a*a", "aba"),
        ] {
            assert!(about(pattern, resource), "{pattern} {resource}");
        }
        for (pattern, resource) in [
            ("clean", "clean up"),
            ("clean *", "a clean sheet"),
            ("clean * of *", "clean orders"),
            ("a*a", "a"),
            ("", "clean up"),
        ] {
            assert!(!about(pattern, resource), "{pattern} {resource}");
        }
    }
}
