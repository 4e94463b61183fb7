//! Agents that trace a program unchanged, against each refusal: for how long they keep a batch, and whether that is as long as the SDK
//! of their language does by itself.

use std::path::PathBuf;

use tokio::time::sleep;

use crate::{
    exporters::{Case, Exporter, Language, Plan, Sender, Sending, pinned, sources},
    page::{say, table, today, write},
    replies::{REFUSALS, TAKEN, WATCHED, kept},
    scripted::{Attempt, Reply, Scripted},
    toolchain::{Toolchain, java, workshop},
};

/// One span, so that there is one batch whenever it is sent.
static PLAN: Plan = Plan { cases: Vec::new(), spans: 1, seconds: 0.0 };
/// How many of them start at a time: each keeps a core busy.
const STARTING: usize = 2;

/// Languages that have such an agent, and its protocols as `OTEL_EXPORTER_OTLP_PROTOCOL` spells them: first the one that it has by
/// default, for which the variable is not set.
const AGENTS: [(Language, &[&str]); 3] = [
    (Language::Java, &["http/protobuf", "grpc"]),
    (Language::Python, &["grpc", "http/protobuf"]),
    (Language::Node, &["http/protobuf", "grpc", "http/json"]),
];

/// One agent that exports over one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Agent {
    exporter: Exporter,
    is_default: bool,
}

fn all() -> impl Iterator<Item = Agent> {
    AGENTS.into_iter().flat_map(|(language, protocols)| {
        protocols.iter().enumerate().map(move |(index, protocol)| Agent {
            exporter: Exporter { language, protocol },
            is_default: index == 0,
        })
    })
}

impl Agent {
    fn name(self) -> String {
        let of = match self.exporter.language {
            Language::Java => "agent",
            Language::Python => "distro",
            _ => "`register`",
        };
        let language = self.exporter.language.name();
        let name = self.exporter.name().replacen(language, &format!("{language} {of}"), 1);
        if self.is_default { format!("{name} (by default)") } else { name }
    }

    /// Returns how the program is started that it traces, and exports to this address.
    fn sender(self, command: &[PathBuf], endpoint: String) -> Sender {
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            // Others ask addresses of clouds that are not there.
            ("OTEL_NODE_RESOURCE_DETECTORS", "env".to_owned()),
        ];
        if !self.is_default {
            variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", self.exporter.protocol.to_owned()));
        }
        Sender { command: command.to_vec(), variables }
    }
}

/// Installs the agent of a language, and returns how a program is started with it.
async fn install(language: Language) -> anyhow::Result<Vec<PathBuf>> {
    let folder = match language {
        Language::Java => "java",
        Language::Python => "python",
        _ => "node",
    };
    let folder = sources().join("agents").join(folder);
    let workshop = workshop(&format!("{}-agent", language.name()))?;
    let toolchain = Toolchain { language, folder, workshop };
    let Toolchain { folder, workshop, .. } = &toolchain;
    Ok(match language {
        Language::Java => {
            toolchain.maven().await?;
            toolchain.javac("Work.java").await?;
            let jar = workshop.join("target/opentelemetry-javaagent.jar");
            let agent = format!("-javaagent:{}", jar.display());
            let path = workshop.clone();
            [java(), vec![agent.into(), "-cp".into(), path, "Work".into()]].concat()
        }
        Language::Python => {
            let python = toolchain.python().await?;
            let instrument = workshop.join("venv/bin/opentelemetry-instrument");
            vec![instrument, python, folder.join("work.py")]
        }
        _ => {
            toolchain.npm("work.js").await?;
            // By its path: a name is looked for from where the program is started.
            let package = "node_modules/@opentelemetry/auto-instrumentations-node";
            let register = workshop.join(package).join("dist/register.cjs");
            vec!["node".into(), "--require".into(), register, workshop.join("work.js")]
        }
    })
}

/// The versions of the agents, and of the SDKs beside which they were seen.
fn versions() -> anyhow::Result<String> {
    let list = |path: &str| sources().join("agents").join(path);
    let java = pinned(&list("java/pom.xml"), r"<version>(\d+\.\d+\.\d+)</version>")?;
    let requirements = list("python/requirements.txt");
    let distro = pinned(&requirements, r"opentelemetry-distro==(\S+)")?;
    let python = pinned(&requirements, r"opentelemetry-exporter-otlp==(\S+)")?;
    let node = list("node/package.json");
    let node = pinned(&node, r#"auto-instrumentations-node": "(\S+)""#)?;
    let lock = list("node/package-lock.json");
    let base = pinned(&lock, r#"otlp-exporter-base": "(\d[^"]*)""#)?;
    let mut sdks = Vec::new();
    for (language, _) in AGENTS {
        sdks.push(format!("{} {}", language.name(), language.versions()?));
    }
    Ok(format!(
        "Seen on {}: Java agent {java}; Python distro {distro} (exporters {python}); Node.js auto-instrumentations {node} (exporters {base}). \
         The SDKs beside them: {}.",
        today(),
        sdks.join(", ")
    ))
}

/// An agent's exporter, or its SDK's, against one reply.
struct Run {
    exporter: Exporter,
    is_agent: bool,
    reply: Reply,
    stand_in: Scripted,
}

/// Every reply that an exporter is to meet.
fn replies(exporter: Exporter) -> Vec<Reply> {
    let side = usize::from(exporter.is_grpc());
    let refusals = REFUSALS.iter().filter_map(|(_, replies)| replies[side]);
    refusals.chain([TAKEN]).collect()
}

/// Runs all, and writes the tables into `docs/senders.md`.
pub(crate) async fn run() -> anyhow::Result<bool> {
    let mut runs = Vec::new();
    for exporter in all().map(|agent| agent.exporter) {
        for reply in replies(exporter) {
            for is_agent in [true, false] {
                let stand_in = Scripted::start(reply, String::new()).await?;
                runs.push(Run { exporter, is_agent, reply, stand_in });
            }
        }
    }
    let mut sendings = Vec::new();
    for (language, _) in AGENTS {
        let command = install(language).await?;
        let agents = all().filter(|agent| agent.exporter.language == language);
        let senders: Vec<_> = agents
            .flat_map(|agent| {
                let of_it =
                    runs.iter().filter(move |run| run.is_agent && run.exporter == agent.exporter);
                of_it.map(move |run| (agent, format!("http://{}", run.stand_in.address)))
            })
            .map(|(agent, endpoint)| agent.sender(&command, endpoint))
            .collect();
        for some in senders.chunks(STARTING) {
            let started = some.iter().map(|sender| sender.start(&PLAN));
            sendings.extend(futures_util::future::try_join_all(started).await?);
        }
        sendings.push(sdk(language, &runs).await?);
        say(&format!("{} programs in {} and its SDK are ready", senders.len(), language.name()));
    }
    for sending in &mut sendings {
        sending.go().await?;
    }
    sleep(WATCHED).await;
    for sending in sendings {
        sending.kill().await?;
    }
    let silent: Vec<_> = runs.iter().filter(|run| run.stand_in.attempts().is_empty()).collect();
    for run in &silent {
        let of = if run.is_agent { "agent" } else { "SDK" };
        say(&format!(
            "{}, {of}: nothing came where {:?} is replied",
            run.exporter.name(),
            run.reply
        ));
    }
    let agents: Vec<_> = all().collect();
    let mut are_as_expected = silent.is_empty();
    for agent in agents.iter().filter(|agent| agent.is_default) {
        let kind = first(&runs, *agent).map(|attempt| attempt.kind).unwrap_or_default();
        let expected = match agent.exporter.protocol {
            "grpc" => "application/grpc",
            _ => "application/x-protobuf",
        };
        if !kind.starts_with(expected) {
            say(&format!(
                "{}: by default it sends `{kind}`, and was to send `{expected}`",
                agent.name()
            ));
            are_as_expected = false;
        }
    }
    write("senders.md", "agents", &format!("{}\n\n{}", versions()?, delays(&runs, &agents)))?;
    write("senders.md", "agents-habits", &habits(&runs, &agents))?;
    say("docs/senders.md is written");
    Ok(are_as_expected)
}

/// Starts the SDK by itself.
async fn sdk(language: Language, runs: &[Run]) -> anyhow::Result<Sending> {
    let of_it = runs.iter().filter(|run| !run.is_agent && run.exporter.language == language);
    let cases = of_it.map(|run| Case {
        name: "sender".to_owned(),
        protocol: run.exporter.protocol.to_owned(),
        endpoint: format!("http://{}", run.stand_in.address),
    });
    let plan = Plan { cases: cases.collect(), ..PLAN.clone() };
    language.install().await?.start(&plan).await
}

fn attempts(runs: &[Run], exporter: Exporter, is_agent: bool, reply: Reply) -> Vec<Attempt> {
    let run = runs
        .iter()
        .find(|run| (run.exporter, run.is_agent, run.reply) == (exporter, is_agent, reply));
    run.map(|run| run.stand_in.attempts()).unwrap_or_default()
}

fn first(runs: &[Run], agent: Agent) -> Option<Attempt> {
    attempts(runs, agent.exporter, true, TAKEN).into_iter().next()
}

/// For how long each agent keeps a batch that is refused, and its SDK where that differs.
fn delays(runs: &[Run], agents: &[Agent]) -> String {
    let mut head = vec!["agent".to_owned()];
    head.extend(REFUSALS.map(|(name, _)| name.to_owned()));
    head.push("its SDK".to_owned());
    let rows: Vec<_> = agents
        .iter()
        .map(|agent| {
            let mut row = vec![agent.name()];
            let mut differences = Vec::new();
            for (name, replies) in REFUSALS {
                let Some(reply) = replies[usize::from(agent.exporter.is_grpc())] else {
                    row.push("–".to_owned());
                    continue;
                };
                let [agents, sdks] =
                    [true, false].map(|is_agent| attempts(runs, agent.exporter, is_agent, reply));
                row.push(kept(&agents));
                if agents.len().abs_diff(sdks.len()) > 0 {
                    differences.push(format!("{name}: {}", kept(&sdks)));
                }
            }
            row.push(match differences.is_empty() {
                true => "measured equal".to_owned(),
                false => differences.join("; "),
            });
            row
        })
        .collect();
    table(&head, &rows)
}

fn habits(runs: &[Run], agents: &[Agent]) -> String {
    let head = ["agent", "User-Agent", "compressed"].map(str::to_owned);
    let rows: Vec<_> = agents
        .iter()
        .map(|agent| {
            let taken = first(runs, *agent);
            let (name, compression) =
                taken.map(|attempt| (attempt.agent, attempt.compression)).unwrap_or_default();
            let compression = if ["", "identity"].contains(&&*compression) {
                "no".to_owned()
            } else {
                compression
            };
            vec![agent.name(), format!("`{name}`"), compression]
        })
        .collect();
    table(&head, &rows)
}
