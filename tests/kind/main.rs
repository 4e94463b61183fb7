//! All scenarios in a cluster of kind, which is made and deleted; and a cluster that was there before, which is not deleted.
//!
//! Needs Docker and kind, and a node image, named by `TRACECHECK_TEST_NODE_IMAGE` where kind cannot pull its own.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The program under test.
const TRACECHECK: &str = env!("CARGO_BIN_EXE_tracecheck");

/// All of them use the one Docker of the machine.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A cluster of a name of its own, gone when dropped.
struct Kind {
    name: String,
    config: tempfile::NamedTempFile,
}

impl Kind {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = std::fs::read_to_string(root().join("kind-config.yaml")).unwrap();
        let named = text.replace("name: tracecheck", &format!("name: {name}"));
        assert_ne!(text, named);
        std::fs::write(config.path(), named).unwrap();
        Self { name, config }
    }

    /// Returns the command line of `tracecheck run` for it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TRACECHECK);
        command
            .arg("run")
            .args(args)
            .args(["--env", "kind", "--kind-config"])
            .arg(self.config.path());
        if let Ok(image) = std::env::var("TRACECHECK_TEST_NODE_IMAGE") {
            command.args(["--kind-node-image", &image]);
        }
        command.current_dir(root()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program can be started")
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started")
    }

    fn is_there(&self) -> bool {
        clusters().contains(&self.name)
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        let _gone_already =
            kind(&["delete", "cluster", "--name", &self.name, "--kubeconfig", "/dev/null"]);
    }
}

fn kind(args: &[&str]) -> Output {
    Command::new("kind")
        .args(args)
        .output()
        .expect("these tests need the program `kind`, and Docker")
}

fn clusters() -> Vec<String> {
    let reported = kind(&["get", "clusters"]);
    assert!(
        reported.status.success(),
        "kind does not work: {}",
        String::from_utf8_lossy(&reported.stderr)
    );
    String::from_utf8_lossy(&reported.stdout).lines().map(str::to_owned).collect()
}

#[track_caller]
fn expect(output: &Output, code: i32, stdout: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}\n{errors}");
    assert!(said.contains(stdout), "`{stdout}` is not in\n{said}\n{errors}");
}

#[test]
fn every_scenario_passes_in_a_cluster_that_is_made_for_it_and_gone_afterwards() {
    let _alone = one_at_a_time();
    let cluster = Kind::new("tracecheck-all");
    let files = std::fs::read_dir(root().join("scenarios")).unwrap();
    let yaml = |file: &std::fs::DirEntry| file.path().extension().is_some_and(|end| end == "yaml");
    let count = files.filter(|file| yaml(file.as_ref().unwrap())).count();
    expect(&cluster.run(&["scenarios"]), 0, &format!("{count} passed"));
    assert!(!cluster.is_there(), "{:?}", clusters());
}

#[test]
fn a_cluster_that_was_there_is_used_by_two_runs_at_once_and_left_alone() {
    let _alone = one_at_a_time();
    let cluster = Kind::new("tracecheck-mine");
    let config = cluster.config.path().display().to_string();
    let image = std::env::var("TRACECHECK_TEST_NODE_IMAGE").ok();
    let mut words = vec![
        "create",
        "cluster",
        "--config",
        &config,
        "--kubeconfig",
        "/dev/null",
        "--wait",
        "120s",
    ];
    words.extend(image.iter().flat_map(|image| ["--image", image.as_str()]));
    let made = kind(&words);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let args = ["scenarios", "--filter", "happy-path"];
    let runs = [cluster.start(&args), cluster.start(&args)];
    for run in runs {
        expect(&run.wait_with_output().unwrap(), 0, "1 passed");
    }
    assert!(cluster.is_there());
}

#[test]
fn a_run_that_is_interrupted_while_the_cluster_is_made_leaves_none() {
    let _alone = one_at_a_time();
    let cluster = Kind::new("tracecheck-halted");
    let run = cluster.start(&["scenarios", "--filter", "happy-path"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.is_there() {
        assert!(Instant::now() < deadline, "the cluster did not come");
        #[expect(
            clippy::disallowed_methods,
            reason = "kind sends no event: it is asked again until the deadline"
        )]
        std::thread::sleep(Duration::from_millis(200));
    }
    kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(!cluster.is_there(), "{:?}", clusters());
}

#[test]
fn a_machine_without_kind_is_given_what_to_install() {
    let cluster = Kind::new("tracecheck-none");
    let output = cluster.command(&["scenarios"]).env("PATH", "/no/such/folder").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(
        errors.contains("there is no program `kind`") && errors.contains("install it"),
        "{errors}"
    );
}
