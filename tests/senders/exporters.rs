//! The exporters: how each is installed, and a program that ends spans through it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use regex::Regex;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    program::command,
    toolchain::{Toolchain, java, workshop},
};

/// How long a program may take to get ready, beside as many others.
const READY: Duration = Duration::from_secs(120);

/// A language whose SDK is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Language {
    Python,
    Node,
    Java,
    Go,
    Rust,
}

/// One exporter of an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exporter {
    pub(crate) language: Language,
    /// As `OTEL_EXPORTER_OTLP_PROTOCOL` spells it.
    pub(crate) protocol: &'static str,
}

/// Every official exporter of these languages.
pub(crate) const ALL: [Exporter; 11] = {
    use Language::{Go, Java, Node, Python, Rust};
    const fn of(language: Language, protocol: &'static str) -> Exporter {
        Exporter { language, protocol }
    }
    [
        of(Python, "grpc"),
        of(Python, "http/protobuf"),
        of(Node, "grpc"),
        of(Node, "http/protobuf"),
        of(Node, "http/json"),
        of(Java, "grpc"),
        of(Java, "http/protobuf"),
        of(Go, "grpc"),
        of(Go, "http/protobuf"),
        of(Rust, "grpc"),
        of(Rust, "http/protobuf"),
    ]
};

/// The folder that the programs and their lists of packages are in.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/senders")
}

/// Returns the version that a pattern finds in a list of packages.
pub(crate) fn pinned(list: &Path, pattern: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let found = Regex::new(pattern)?.captures(&text);
    Ok(found.context(anyhow!("{}: no version", list.display()))?[1].to_owned())
}

impl Exporter {
    pub(crate) fn is_grpc(self) -> bool {
        self.protocol == "grpc"
    }

    /// As it is called in tables.
    pub(crate) fn name(self) -> String {
        let protocol = match self.protocol {
            "grpc" => "gRPC",
            "http/json" => "HTTP, JSON",
            _ if self.language == Language::Node => "HTTP, protobuf",
            _ => "HTTP",
        };
        format!("{} {protocol}", self.language.name())
    }
}

impl Language {
    pub(crate) const ALL: [Self; 5] = [Self::Python, Self::Node, Self::Java, Self::Go, Self::Rust];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Java => "Java",
            Self::Go => "Go",
            Self::Rust => "Rust",
        }
    }

    fn folder(self) -> PathBuf {
        let folder = match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Java => "java",
            Self::Go => "go",
            Self::Rust => "rust",
        };
        sources().join(folder)
    }

    /// Which versions of its exporters are pinned, and where that stands.
    pub(crate) fn versions(self) -> anyhow::Result<String> {
        let (file, pattern, shown) = match self {
            Self::Python => {
                ("requirements.txt", r"opentelemetry-exporter-otlp-proto-grpc==(\S+)", "{}")
            }
            Self::Node => (
                "package.json",
                r#"exporter-trace-otlp-grpc": "(\S+)""#,
                "{} (experimental packages)",
            ),
            Self::Java => ("pom.xml", r"<version>(\d+\.\d+\.\d+)</version>", "{}"),
            Self::Go => ("go.mod", r"otlptracegrpc v(\S+)", "{}"),
            Self::Rust => ("Cargo.toml", r#"opentelemetry-otlp = \{ version = "([^"]+)""#, "{}"),
        };
        Ok(shown.replace("{}", &pinned(&self.folder().join(file), pattern)?))
    }

    /// Installs its SDK, unless that was done before, and returns how the sending program is started.
    pub(crate) async fn install(self) -> anyhow::Result<Sender> {
        let toolchain =
            Toolchain { language: self, folder: self.folder(), workshop: workshop(self.name())? };
        let Toolchain { folder, workshop, .. } = &toolchain;
        let command = match self {
            Self::Python => vec![toolchain.python().await?, folder.join("send.py")],
            Self::Node => {
                toolchain.npm("send.js").await?;
                vec!["node".into(), workshop.join("send.js")]
            }
            Self::Java => {
                toolchain.maven().await?;
                toolchain.javac("Send.java").await?;
                let classes = format!("{0}:{0}/target/*", workshop.display());
                [java(), vec!["-cp".into(), classes.into(), "Send".into()]].concat()
            }
            Self::Go => {
                let program = workshop.join("send");
                let mut build = command("go");
                build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&program).arg(".");
                build.current_dir(folder);
                toolchain.run(build).await?;
                vec![program]
            }
            Self::Rust => {
                let mut build = command("cargo");
                build.args(["build", "--locked", "--quiet"]).current_dir(folder);
                build.env("CARGO_TARGET_DIR", workshop);
                // Flags of the workspace around it are not its own.
                build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
                toolchain.run(build).await?;
                vec![workshop.join("debug/send")]
            }
        };
        Ok(Sender { command, variables: Vec::new() })
    }
}

/// Installs the SDKs of all languages.
pub(crate) async fn install() -> anyhow::Result<BTreeMap<Language, Sender>> {
    let mut senders = BTreeMap::new();
    // One after the other: each keeps all cores busy.
    for language in Language::ALL {
        senders.insert(language, language.install().await?);
    }
    Ok(senders)
}

/// Plan of a sending program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    /// How many spans each of them ends.
    pub(crate) spans: u32,
    /// Over how many seconds, evenly.
    pub(crate) seconds: f64,
}

/// One exporter in a sending program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    /// The service's.
    pub(crate) name: String,
    pub(crate) protocol: String,
    /// `http://host:port`, without a path.
    pub(crate) endpoint: String,
}

/// How the sending program of a language is started.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) command: Vec<PathBuf>,
    /// Variables of its environment.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// A sending program that is ready. Dropped, it ends at once.
pub(crate) struct Sending {
    child: Child,
    input: ChildStdin,
    said: JoinHandle<String>,
}

impl Sender {
    /// Starts it, and waits until its exporters are there.
    pub(crate) async fn start(&self, plan: &Plan) -> anyhow::Result<Sending> {
        let mut command = command(&self.command[0]);
        command.args(&self.command[1..]).env("NO_PROXY", "127.0.0.1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{:?}", self.command))?;
        let mut input = child.stdin.take().context("its input")?;
        let mut errors = child.stderr.take().context("its errors")?;
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            let _ = errors.read_to_end(&mut said).await;
            String::from_utf8_lossy(&said).into_owned()
        });
        input.write_all(format!("{}\n", serde_json::to_string(plan)?).as_bytes()).await?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let ready = timeout(READY, lines.next_line()).await;
        if !matches!(&ready, Ok(Ok(Some(line))) if line == "ready") {
            child.start_kill()?;
            let said = said.await?;
            bail!("{:?} did not get ready ({ready:?}): {said}", self.command);
        }
        // Read to its end, so that nothing it prints ends it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Sending { child, input, said })
    }
}

impl Sending {
    /// Has it begin to end spans.
    pub(crate) async fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.input.write_all(b"go\n").await?)
    }

    /// Has its SDK shut down, and waits for its end for so long; returns what it said.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<String> {
        self.input.write_all(b"stop\n").await?;
        if timeout(limit, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(self.said.await?)
    }

    /// Ends it at once; returns what it said.
    pub(crate) async fn kill(mut self) -> anyhow::Result<String> {
        self.child.kill().await?;
        Ok(self.said.await?)
    }
}
