//! `tracecheck doctor`: what each environment needs, what of it is there, and how to get the rest.
//!
//! Nothing is made or changed. Every look has a time limit, and no key is ever shown.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use futures_util::future::join_all;
use harness::environment::{
    EnvironmentError, docker,
    kubernetes::{
        cluster::{Client, permissions},
        eks, kind,
        operator::preflight,
    },
};
use serde::Serialize;
use tokio::{net::TcpListener, process::Command, time::timeout};

use super::{
    datadog,
    environment::{
        eks::ConfigArgs,
        kubernetes::{AccessArgs, CLUSTER, Install},
    },
    exit_code,
};

/// Options of `doctor`: what is looked at, and in which format it is reported.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Looks at this only, and ends with 3 where it cannot be used; may be given several times. Without it all are looked at, and
    /// `process` alone has to be usable.
    #[arg(long, value_enum)]
    env: Vec<DoctorTarget>,
    /// How long each look may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    limit: Duration,
    /// Format of stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    access: AccessArgs,
    /// How a run's collector is to get into the cluster: for the `operator`, `cluster` is usable only where all is there that it
    /// needs.
    #[arg(long, value_enum, value_name = "WAY", default_value_t = Install::Manifests, help_heading = "Kubernetes")]
    collector_install: Install,
    #[command(flatten)]
    eks: ConfigArgs,
}

/// Format of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One look a line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum DoctorTarget {
    /// Processes of this machine.
    Process,
    /// A Docker engine.
    Docker,
    /// The program kind, and Docker.
    Kind,
    /// An existing Kubernetes cluster.
    Cluster,
    /// The program eksctl, and access to AWS.
    Eks,
    /// Datadog's API and its keys, for `--evidence datadog` and `verify`.
    Datadog,
}

const ALL: [DoctorTarget; 6] = [
    DoctorTarget::Process,
    DoctorTarget::Docker,
    DoctorTarget::Kind,
    DoctorTarget::Cluster,
    DoctorTarget::Eks,
    DoctorTarget::Datadog,
];

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// It is there.
    Ok,
    /// It is not there, and not needed for everything.
    Optional,
    /// It is not there, and nothing goes without it.
    Missing,
}

/// One look.
#[derive(Debug, Serialize)]
struct Finding {
    environment: DoctorTarget,
    what: &'static str,
    outcome: Outcome,
    /// A version, or what else was seen.
    seen: String,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Result of one look: what was seen, or what is missing and how to get it.
type Seen = Result<String, (String, String)>;

#[tokio::main]
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut places = if args.env.is_empty() { ALL.to_vec() } else { args.env.clone() };
    places.dedup();
    let looks = places.iter().map(|place| look(*place, args));
    let found = join_all(looks).await;
    let mut text = String::new();
    for (place, findings) in places.iter().zip(&found) {
        match args.format {
            Format::Json => {
                for finding in findings {
                    text.push_str(&format!("{}\n", serde_json::to_string(finding)?));
                }
            }
            Format::Text => text.push_str(&reported(*place, findings)),
        }
    }
    super::print(&text)?;
    let needed = |place: &DoctorTarget| !args.env.is_empty() || *place == DoctorTarget::Process;
    let mut looked = places.iter().zip(&found);
    Ok(match looked.all(|(place, findings)| !needed(place) || is_usable(findings)) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit_code::INCONCLUSIVE),
    })
}

fn is_usable(findings: &[Finding]) -> bool {
    !findings.is_empty() && findings.iter().all(|finding| finding.outcome != Outcome::Missing)
}

fn reported(place: DoctorTarget, findings: &[Finding]) -> String {
    let name =
        place.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let usable = if is_usable(findings) { "can be used" } else { "cannot be used" };
    let mut text = format!("{name}: {usable}\n");
    for finding in findings {
        let sign = match finding.outcome {
            Outcome::Ok => "ok",
            Outcome::Optional => "optional",
            Outcome::Missing => "missing",
        };
        let seen = finding.seen.trim().replace('\n', "\n            ");
        text.push_str(&format!("  {sign:<8}  {}: {seen}\n", finding.what));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("            -> {}\n", remedy.replace('\n', "\n            ")));
        }
    }
    text
}

async fn look(place: DoctorTarget, args: &Args) -> Vec<Finding> {
    let limit = args.limit;
    let within = async |what: &'static str,
                        missing: Outcome,
                        look: &mut (dyn Future<Output = Seen> + Unpin)| {
        let seen = match timeout(limit, look).await {
            Ok(seen) => seen,
            Err(_) => Err((
                format!("no answer within {}", humantime::format_duration(limit)),
                "check by hand whether it answers; `--limit` gives it more time".to_owned(),
            )),
        };
        match seen {
            Ok(seen) => {
                Finding { environment: place, what, outcome: Outcome::Ok, seen, remedy: None }
            }
            Err((seen, remedy)) => {
                Finding { environment: place, what, outcome: missing, seen, remedy: Some(remedy) }
            }
        }
    };
    macro_rules! within {
        ($what:literal, $missing:ident, $look:expr) => {
            within($what, Outcome::$missing, &mut Box::pin($look)).await
        };
    }
    match place {
        DoctorTarget::Process => vec![
            within!("program", Missing, own_program()),
            within!("loopback", Missing, loopback()),
            within!("temporary folder", Missing, temporary()),
        ],
        DoctorTarget::Docker => {
            vec![
                within!("Docker", Missing, docker_engine()),
                within!("image", Optional, own_image()),
            ]
        }
        DoctorTarget::Kind => vec![
            within!("Docker", Missing, docker_engine()),
            within!("kind", Missing, async { kind::version().await.map_err(parts) }),
            within!("image", Optional, own_image()),
        ],
        DoctorTarget::Cluster => {
            let mut found = None;
            let mut findings = vec![within!("cluster", Missing, async {
                let (client, seen) = cluster(&args.access).await?;
                found = Some(client);
                Ok(seen)
            })];
            if let Some(client) = found {
                findings.push(within!("permissions", Missing, may(&client)));
                findings.push(match args.collector_install {
                    Install::Operator => {
                        within!("OpenTelemetry operator", Missing, operator(&client, true))
                    }
                    Install::Manifests => {
                        within!("OpenTelemetry operator", Optional, operator(&client, false))
                    }
                });
            }
            findings
        }
        DoctorTarget::Eks => vec![
            within!("eksctl", Missing, async { eks::version().await.map_err(parts) }),
            within!("AWS credentials", Missing, async { aws_credentials() }),
            within!("configuration", Missing, async { eks_config(&args.eks) }),
            within!("tokens for the cluster", Missing, token_program()),
        ],
        DoctorTarget::Datadog => vec![within!("keys", Missing, async { datadog_keys() })],
    }
}

/// Splits an environment's error into reason and remedy.
fn parts(error: EnvironmentError) -> (String, String) {
    match error {
        EnvironmentError::Unavailable { reason, remedy, .. } => (reason, remedy),
        other => (other.to_string(), "see what it says".to_owned()),
    }
}

async fn own_program() -> Seen {
    match std::env::current_exe() {
        Ok(path) => Ok(format!("tracecheck {} at {}", env!("CARGO_PKG_VERSION"), path.display())),
        Err(error) => Err((
            format!("the path of this program cannot be determined: {error}"),
            "start it by its path, and do not remove it while it runs".to_owned(),
        )),
    }
}

async fn loopback() -> Seen {
    match TcpListener::bind("127.0.0.1:0").await {
        Ok(_) => Ok("ports of 127.0.0.1 can be bound".to_owned()),
        Err(error) => Err((
            format!("no port of 127.0.0.1 can be bound: {error}"),
            "bring the loopback interface up".to_owned(),
        )),
    }
}

async fn temporary() -> Seen {
    let dir = std::env::temp_dir();
    match tempfile::tempfile_in(&dir) {
        Ok(_) => Ok(format!("{} can be written to", dir.display())),
        Err(error) => Err((
            format!("{} cannot be written to: {error}", dir.display()),
            "set TMPDIR to another folder".to_owned(),
        )),
    }
}

async fn docker_engine() -> Seen {
    let version = docker::version().await.map_err(parts)?;
    Ok(format!("{}, API {}, {}", version.version, version.api, version.platform))
}

/// Returns whether this program can build an image of itself; it is built when it is needed.
async fn own_image() -> Seen {
    match cfg!(target_os = "linux") {
        true => Ok("is made of this very program when it is needed".to_owned()),
        false => Err((
            "this executable is not a Linux binary, so no image can be built from it".to_owned(),
            "build one with the repository's Dockerfile, and name it with `--image`".to_owned(),
        )),
    }
}

async fn cluster(access: &AccessArgs) -> Result<(Client, String), (String, String)> {
    let found = access.find().await.map_err(|error| {
        (
            format!("{error:#}"),
            "get a kubeconfig for a cluster, for EKS with `aws eks update-kubeconfig --name NAME`; `--env kind` creates a cluster here"
                .to_owned(),
        )
    })?;
    let (client, version) = found.connect(CLUSTER).await.map_err(parts)?;
    Ok((client, format!("Kubernetes {}, {}", version.git_version, found.name)))
}

async fn may(client: &Client) -> Seen {
    match permissions::missing(client).await {
        Ok(missing) if missing.is_empty() => Ok("all that a run needs".to_owned()),
        Ok(missing) => Err((
            format!("not allowed: {}", missing.join(", ")),
            "bind the ClusterRole of docs/environments.md to this user".to_owned(),
        )),
        Err(reason) => Err((
            format!("the permissions cannot be determined: {reason}"),
            "try `kubectl auth can-i --list`".to_owned(),
        )),
    }
}

/// Returns whether the operator can make a collector, as a run finds out before it makes anything.
async fn operator(client: &Client, needed: bool) -> Seen {
    match preflight::look(client, None).await {
        Ok(operator) => Ok(format!("serves {}", operator.version.name())),
        Err(findings) => {
            let list = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let remedy = match needed {
                true => "a run with `--collector-install operator` ends here with the same",
                false => "needed only for `--collector-install operator`",
            };
            Err((list, remedy.to_owned()))
        }
    }
}

/// Finds where credentials are, never what they are.
fn aws_credentials() -> Seen {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("AWS_ACCESS_KEY_ID") && set("AWS_SECRET_ACCESS_KEY") {
        return Ok("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set (not verified)".to_owned());
    }
    for name in [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ] {
        if set(name) {
            return Ok(format!("{name} is set (not verified)"));
        }
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |variable: &str, name: &str| match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => home.join(".aws").join(name),
    };
    let files =
        [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")];
    match files.iter().find(|file| file.is_file()) {
        Some(file) => Ok(format!("{} exists (not verified)", file.display())),
        None => Err((
            "neither the variables nor the files of AWS contain any".to_owned(),
            "log in with `aws configure sso` or `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; on an AWS machine with a role of its own, none is needed"
                .to_owned(),
        )),
    }
}

fn eks_config(args: &ConfigArgs) -> Seen {
    match args.read() {
        Ok(config) => {
            Ok(format!("cluster `{}` in {}, {}", config.name, config.region, config.nodes()))
        }
        Err(error) => Err((
            format!("{error:#}"),
            "fix the file, or name another with `--eks-config`".to_owned(),
        )),
    }
}

/// The program that kubeconfigs of EKS get tokens from.
async fn token_program() -> Seen {
    for (program, word) in [("aws", "--version"), ("aws-iam-authenticator", "version")] {
        let Some(path) = in_path(program) else { continue };
        let mut command = Command::new(&path);
        command.arg(word).stdin(Stdio::null()).kill_on_drop(true);
        return match command.output().await {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Ok(format!("{program} at {}: {said}", path.display()))
            }
            Err(error) => Err((
                format!("{} cannot be run: {error}", path.display()),
                "look at the program".to_owned(),
            )),
        };
    }
    Err((
        "there is neither `aws` nor `aws-iam-authenticator`".to_owned(),
        "install the AWS CLI (aws.amazon.com/cli)".to_owned(),
    ))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| Path::new(file).is_file())
}

fn datadog_keys() -> Seen {
    match datadog::keys() {
        Ok(site) => Ok(format!("DD_API_KEY and DD_APP_KEY are set, for {site} (not verified)")),
        Err(error) => Err((
            format!("{error:#}"),
            "needed for `--evidence datadog` and `verify` only".to_owned(),
        )),
    }
}
