//! Builds of our collector to measure: the working tree's, and another revision's in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

/// A program that has the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// `tracecheck collector`: the program that ships
    Tracecheck,
    /// The collector alone, which is built in a fraction of the time and takes less memory
    Collector,
}

/// An executable that is started as the collector.
#[derive(Debug, Clone)]
pub struct Executable {
    /// Its file.
    pub path: PathBuf,
    /// Whether the collector is a subcommand of it.
    pub is_subcommand: bool,
}

/// A revision of this repository.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Name by which the revision was requested.
    pub name: String,
    commit: String,
}

/// The workspace that this program was built from.
fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

impl Revision {
    /// Finds a revision by any name that git knows.
    ///
    /// # Errors
    ///
    /// If git cannot be run, or there is no such revision.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        let found = git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])
            .stderr(Stdio::inherit())
            .output()
            .context("`git` cannot be run, which `--against` needs")?;
        anyhow::ensure!(
            found.status.success(),
            "there is no revision `{name}` in the repository `{}`; a shallow clone has few of them: `git fetch --unshallow` gets the rest",
            root().display()
        );
        let commit = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        Ok(Self { name: name.to_owned(), commit })
    }

    /// Builds a program of the revision below the target directory, with the profile of this working tree, or reuses
    /// an earlier build.
    ///
    /// # Errors
    ///
    /// If the revision has no such program, or it cannot be built.
    pub fn build(&self, program: Program, profile: &str) -> anyhow::Result<Executable> {
        let target = metadata(root())?["target_directory"].as_str().map(PathBuf::from);
        let target = target.context("cargo gives no target directory")?;
        let folder = target.join("against").join(&self.commit);
        let sources = folder.join("src");
        if !sources.is_dir() {
            self.unpack(&folder, &sources)?;
        }
        // Profiles came and went: without this, the two would differ by how they were built.
        let profiles = folder.join("profiles.toml");
        std::fs::write(
            &profiles,
            profiles_of(&std::fs::read_to_string(root().join("Cargo.toml"))?),
        )?;
        let options =
            [Path::new("--config"), &profiles, Path::new("--target-dir"), &folder.join("target")];
        let what = format!("revision `{}`", self.name);
        build(&sources, &what, program, profile, &options)
    }

    fn unpack(&self, folder: &Path, sources: &Path) -> anyhow::Result<()> {
        let context = || format!("unpacking revision `{}` into `{}`", self.name, folder.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        // What is there under its name is there whole.
        let part = tempfile::tempdir_in(folder).with_context(context)?;
        let mut archive = git(&["archive", "--format=tar", &self.commit])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(context)?;
        let files = archive.stdout.take().with_context(context)?;
        tar::Archive::new(files).unpack(part.path()).with_context(context)?;
        let status = archive.wait()?;
        anyhow::ensure!(status.success(), "`git archive {}` failed ({status})", self.commit);
        std::fs::rename(part.path(), sources).with_context(context)
    }
}

/// Builds a program of the working tree.
///
/// # Errors
///
/// If it cannot be built.
pub fn working_tree(program: Program, profile: &str) -> anyhow::Result<Executable> {
    build(root(), "the working tree", program, profile, &[])
}

fn build(
    sources: &Path,
    what: &str,
    program: Program,
    profile: &str,
    options: &[&Path],
) -> anyhow::Result<Executable> {
    let name = match program {
        Program::Tracecheck => "tracecheck",
        Program::Collector => "collector",
    };
    let metadata = metadata(sources).with_context(|| format!("reading the packages of {what}"))?;
    let package = program_of(&metadata, what, name)?;
    let out = cargo(sources)
        .args(["build", "--locked", "--profile", profile, "-p", package, "--bin", name])
        .arg("--message-format=json-render-diagnostics")
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    anyhow::ensure!(
        out.status.success(),
        "`{name}` of {what} cannot be built ({}): cargo says why above; its sources are in `{}`",
        out.status,
        sources.display()
    );
    let path = executable(&String::from_utf8_lossy(&out.stdout), name)
        .with_context(|| format!("cargo built no `{name}` of {what}"))?;
    Ok(Executable { path, is_subcommand: program == Program::Tracecheck })
}

fn git(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(root()).args(arguments);
    command
}

fn cargo(sources: &Path) -> Command {
    // The one that runs this program, if one does.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(sources);
    command
}

fn metadata(sources: &Path) -> anyhow::Result<Value> {
    let out = cargo(sources)
        .args(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    anyhow::ensure!(out.status.success(), "`cargo metadata` failed ({})", out.status);
    Ok(serde_json::from_slice(&out.stdout)?)
}

fn program_of<'m>(metadata: &'m Value, what: &str, name: &str) -> anyhow::Result<&'m str> {
    package_of(metadata, name).with_context(|| {
        format!(
            "{what} has no program `{name}`: choose another with `--program`, or another revision"
        )
    })
}

/// The package that has a program of this name.
fn package_of<'m>(metadata: &'m Value, program: &str) -> Option<&'m str> {
    let is_it = |target: &Value| {
        target["name"] == program
            && target["kind"].as_array().is_some_and(|kind| kind.contains(&"bin".into()))
    };
    let packages = metadata["packages"].as_array()?;
    let mut with_targets = packages
        .iter()
        .filter_map(|package| package["targets"].as_array()?.iter().any(is_it).then_some(package));
    with_targets.next()?["name"].as_str()
}

/// Finds a program by the messages of its build.
fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = messages.filter(|message| message["target"]["name"] == program);
    built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// The profiles of a manifest, as a config of cargo's.
fn profiles_of(manifest: &str) -> String {
    let mut is_profile = false;
    let lines = manifest.split_inclusive('\n').filter(|line| {
        if line.starts_with('[') {
            is_profile = line.starts_with("[profile.");
        }
        is_profile
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Revision, executable, package_of, profiles_of, program_of};

    #[test]
    fn profiles_are_taken_from_the_manifest_and_nothing_else() {
        let manifest = "[workspace]\nmembers = []\n\n[profile.dist]\nlto = \"thin\"\n[profile.dist.package]\na.codegen-units = 1\n[lints]\nx = 1\n";
        let expected =
            "[profile.dist]\nlto = \"thin\"\n[profile.dist.package]\na.codegen-units = 1\n";
        assert_eq!(profiles_of(manifest), expected);
    }

    #[test]
    fn a_program_is_found_by_its_name_in_whichever_package_has_it() {
        let metadata = json!({ "packages": [
            { "name": "a", "targets": [{ "name": "p", "kind": ["lib"] }] },
            { "name": "b", "targets": [{ "name": "b", "kind": ["lib"] }, { "name": "p", "kind": ["bin"] }] },
        ] });
        assert_eq!(package_of(&metadata, "p"), Some("b"));
        assert_eq!(package_of(&metadata, "q"), None);
        let messages = "{\"target\":{\"name\":\"p\"},\"executable\":null}\nnot JSON\n{\"target\":{\"name\":\"p\"},\"executable\":\"/t/p\"}\n{\"target\":{\"name\":\"q\"},\"executable\":\"/t/q\"}\n";
        assert_eq!(executable(messages, "p"), Some("/t/p".into()));
    }

    #[test]
    fn a_revision_that_is_not_there_is_said_to_be_missing() {
        let error = Revision::find("no-such-revision").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no revision `no-such-revision` in the repository"),
            "{error}"
        );
    }

    #[test]
    fn a_revision_without_the_program_says_what_to_do() {
        let none = json!({ "packages": [] });
        let error = program_of(&none, "revision `x`", "tracecheck").unwrap_err().to_string();
        assert!(error.starts_with("revision `x` has no program `tracecheck`: choose"), "{error}");
    }
}
