//! Package managers and compilers of the languages, each run once for the same list of packages.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::process::Command;

use crate::{
    exporters::Language,
    program::{command, run},
};

/// How long a package manager may take to download and build.
const INSTALL: Duration = Duration::from_secs(600);

/// Tools of a language, for the programs and the list of packages in a folder.
pub(crate) struct Toolchain {
    pub(crate) language: Language,
    pub(crate) folder: PathBuf,
    /// Folder that they put everything into.
    pub(crate) workshop: PathBuf,
}

/// Creates the folder that what is installed under this name goes to.
pub(crate) fn workshop(name: &str) -> std::io::Result<PathBuf> {
    let workshop = Path::new(env!("CARGO_TARGET_TMPDIR")).join("senders").join(name);
    fs::create_dir_all(&workshop)?;
    Ok(workshop)
}

/// Returns the beginning of a command that runs Java, so that a small program starts fast.
pub(crate) fn java() -> Vec<PathBuf> {
    ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"].map(PathBuf::from).to_vec()
}

impl Toolchain {
    /// Installs `requirements.txt` into a venv; returns its `python`.
    pub(crate) async fn python(&self) -> anyhow::Result<PathBuf> {
        let (venv, python) = (self.workshop.join("venv"), self.workshop.join("venv/bin/python"));
        self.once(&["requirements.txt"], async || {
            let mut create = command("python3");
            create.args(["-m", "venv", "--clear"]).arg(&venv);
            self.run(create).await?;
            let mut install = command(&python);
            install
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--only-binary", ":all:", "--requirement"])
                .arg(self.folder.join("requirements.txt"));
            self.run(install).await
        })
        .await?;
        Ok(python)
    }

    /// Installs `package-lock.json`, beside a program.
    pub(crate) async fn npm(&self, program: &str) -> anyhow::Result<()> {
        for name in ["package.json", "package-lock.json", program] {
            fs::copy(self.folder.join(name), self.workshop.join(name))
                .with_context(|| name.to_owned())?;
        }
        self.once(&["package-lock.json"], async || {
            let mut install = command("npm");
            install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            install.arg("--no-update-notifier").current_dir(&self.workshop);
            self.run(install).await
        })
        .await
    }

    /// Lays what `pom.xml` lists into `target`.
    pub(crate) async fn maven(&self) -> anyhow::Result<()> {
        fs::copy(self.folder.join("pom.xml"), self.workshop.join("pom.xml"))?;
        self.once(&["pom.xml"], async || {
            let mut fetch = command("mvn");
            fetch.args(["--quiet", "--batch-mode", "package"]).current_dir(&self.workshop);
            self.run(fetch).await
        })
        .await
    }

    /// Compiles a program of Java.
    pub(crate) async fn javac(&self, source: &str) -> anyhow::Result<()> {
        self.once(&[source], async || {
            let mut compile = command("javac");
            compile.args(["-cp", "target/*", "-d", "."]).arg(self.folder.join(source));
            compile.current_dir(&self.workshop);
            self.run(compile).await
        })
        .await
    }

    /// Does what makes a folder what these files say, unless that was done for the very same files.
    async fn once(
        &self,
        files: &[&str],
        make: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for name in files {
            let wanted = fs::read(self.folder.join(name)).with_context(|| (*name).to_owned())?;
            // Written last, so that a half-made folder is not taken for a whole one.
            let done = self.workshop.join(format!("installed-{name}"));
            if !fs::read(&done).is_ok_and(|has| has == wanted) {
                make().await?;
                return fs::write(done, wanted).map_err(Into::into);
            }
        }
        Ok(())
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, mut command: Command) -> anyhow::Result<()> {
        let needs = match self.language {
            Language::Python => "Python 3.10 or later with venv and pip",
            Language::Node => "Node.js 20.6 or later with npm",
            Language::Java => "a JDK of 17 or later with Maven",
            Language::Go => "Go as new as tests/senders/go/go.mod says",
            Language::Rust => "a Rust toolchain",
        };
        let ran = run(&mut command, INSTALL).await;
        ran.map(drop).map_err(|error| {
            let language = self.language.name();
            anyhow!("the exporters of {language} need {needs}, and a registry of packages that it can reach: {error}")
        })
    }
}
