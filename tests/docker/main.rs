//! Systems as containers of a Docker engine: all scenarios, early ends of all sorts, and nothing left behind.
//!
//! Needs a Docker engine; run by name: `cargo test -p harness --test docker`.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The program under test.
const TRACECHECK: &str = env!("CARGO_BIN_EXE_tracecheck");

/// Each test looks at what is left in the one engine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(TRACECHECK);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    command.args(args).current_dir(root).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let reported = [&output.stdout, &output.stderr];
    reported.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[track_caller]
fn tracecheck(args: &[&str], code: i32) -> String {
    let output = command(args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

/// Names of all that tracecheck has in the engine, asked of Docker itself.
fn there() -> BTreeSet<String> {
    let lists: [&[&str]; 3] = [
        &["ps", "--all", "--format", "{{.Names}}"],
        &["network", "ls", "--format", "{{.Name}}"],
        &["volume", "ls", "--format", "{{.Name}}"],
    ];
    let mut names = BTreeSet::new();
    for list in lists {
        let filter = ["--filter", "label=tracecheck.owner"];
        let output = Command::new("docker").args(list).args(filter).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        names.extend(text(&output).lines().map(str::to_owned));
    }
    names
}

#[track_caller]
fn nothing_is_left() {
    assert_eq!(there(), BTreeSet::new());
}

fn scenario(dir: &Path, yaml: &str) -> String {
    let path = dir.join("scenario.yaml");
    std::fs::write(&path, yaml).unwrap();
    path.display().to_string()
}

const ONE: &str =
    "name: one\ndescription: One request.\nrequests: [{ get: /outgoing-sampleapp }]\n";

/// Starts a run that stays up, and returns when its scenario is judged.
fn kept(path: &str) -> Child {
    let mut child = command(&["run", path, "--env", "docker", "--keep", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let finished = lines.any(|line| line.contains("\"event\":\"scenario-finished\""));
    assert!(finished, "it ended before its scenario was judged");
    // Read on, so that the run is not held up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn every_scenario_passes_and_nothing_is_left() {
    let _alone = alone();
    let reported = tracecheck(&["run", "scenarios", "--env", "docker"], 0);
    assert!(!reported.contains("skipped") && reported.contains(" passed in "), "{reported}");
    nothing_is_left();
}

/// It passes only where the faults strike: what stands between has taken what went there, and changed it.
#[test]
fn what_stands_between_two_workloads_strikes_what_passes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(
        dir.path(),
        "name: between\ndescription: The context is lost on the way, and payloads come late.\n\
         requests: [{ get: /outgoing-sampleapp }]\n\
         faults:\n\
         \x20 - { between: [sample-app-1, sample-app-2], drop_header: traceparent }\n\
         \x20 - { between: [collector, intake], delay: 10ms }\n",
    );
    let reported = tracecheck(&["run", &path, "--env", "docker"], 0);
    assert!(reported.contains("1 passed"), "{reported}");
    nothing_is_left();
}

#[test]
fn an_interrupted_run_takes_everything_down() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut child = kept(&scenario(dir.path(), ONE));
    assert!(there().len() >= 5, "{:?}", there());
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    nothing_is_left();
}

#[test]
fn what_a_killed_run_left_is_reaped_and_a_run_that_goes_on_is_spared() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(dir.path(), ONE);
    let mut killed = kept(&path);
    let of_killed = there();
    signal(&killed, Signal::SIGKILL);
    killed.wait().unwrap();
    assert_eq!(there(), of_killed);

    let young = ["reap", "--env", "docker", "--older-than", "1h"];
    assert!(tracecheck(&young, 0).contains("nothing is left behind"));
    let all = ["reap", "--env", "docker", "--older-than", "0s"];
    let dry = tracecheck(&[&all[..], &["--dry-run"]].concat(), 0);
    assert!(dry.starts_with("tracecheck-"), "{dry}");
    assert_eq!(there(), of_killed);
    assert_eq!(tracecheck(&all, 0), dry);
    nothing_is_left();

    // The next run removes it as well; and reaping spares that run.
    let mut killed = kept(&path);
    let of_killed = there();
    signal(&killed, Signal::SIGKILL);
    killed.wait().unwrap();
    let mut goes_on = kept(&path);
    let of_other = there();
    assert!(of_other.is_disjoint(&of_killed), "{of_other:?} and {of_killed:?}");
    assert!(tracecheck(&all, 0).contains("nothing is left behind"));
    assert_eq!(there(), of_other);
    signal(&goes_on, Signal::SIGTERM);
    assert_eq!(goes_on.wait().unwrap().code(), Some(0));
    nothing_is_left();
}

#[test]
fn a_system_stays_and_what_a_killed_keeper_left_is_removed() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let home = home.path().display().to_string();
    let up = ["up", "--env", "docker", "--state-dir", &home];
    assert!(tracecheck(&up, 0).contains("environment docker"));
    assert!(tracecheck(&["status", "--state-dir", &home], 0).contains("system default"));
    assert!(there().len() >= 5, "{:?}", there());
    assert!(tracecheck(&["down", "--state-dir", &home], 0).contains("`default` is down"));
    nothing_is_left();

    tracecheck(&up, 0);
    let keeper = std::fs::read_to_string(Path::new(&home).join("default/keeper")).unwrap();
    kill(Pid::from_raw(keeper.parse().unwrap()), Signal::SIGKILL).unwrap();
    let down = tracecheck(&["down", "--state-dir", &home], 0);
    assert!(down.contains("its keeper had been killed"), "{down}");
    nothing_is_left();
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(dir.path(), &ONE.replace("-sampleapp", "-sampleapp, times: 20"));
    let run = || {
        let mut command = command(&["run", &path, "--env", "docker"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs = [run(), run()];
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    nothing_is_left();
}

#[test]
fn an_image_that_does_not_work_is_reported_and_decides_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(dir.path(), ONE);
    let missing = "sample-app-2=localhost/no-such-image:1";
    let reported = tracecheck(&["run", &path, "--env", "docker", "--image", missing], 3);
    assert!(reported.contains("localhost/no-such-image:1"), "{reported}");
    nothing_is_left();
}

/// The folder that a run says it kept logs in; gone when this is.
struct Kept(PathBuf);

impl Kept {
    fn said_in(reported: &str) -> Self {
        let path = reported.split("are kept in ").nth(1).and_then(|rest| rest.lines().next());
        Self(PathBuf::from(path.unwrap_or_else(|| panic!("no folder is named: {reported}"))))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

#[test]
fn logs_of_a_system_that_did_not_pass_are_kept_and_their_ends_reported() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(dir.path(), &format!("{ONE}expect: {{ within: 3s }}\n"));
    let broken = ["--app-env", "sample-app-1:OTEL_PROPAGATORS=none"];
    let reported = tracecheck(&[&["run", &path, "--env", "docker"], &broken[..]].concat(), 1);
    let kept = Kept::said_in(&reported);
    // From its start to its end, though its container is gone.
    let log = kept.read("sample-app-1.log");
    assert!(log.starts_with("{\"listening\":") && log.lines().count() > 1, "{log}");
    let last = log.lines().last().unwrap();
    let shown: String = last.chars().take(160).collect();
    assert!(reported.contains(&format!("sample-app-1.log: {shown}")), "{reported}");
    assert!(kept.0.join("collector.log").exists() && kept.0.join("intake.log").exists());
    nothing_is_left();

    // As well where the system did not come up; and not where the run itself is kept, or all passed.
    let missing = ["--image", "sample-app-2=localhost/no-such-image:1"];
    let reported = tracecheck(&[&["run", &path, "--env", "docker"], &missing[..]].concat(), 3);
    assert!(Kept::said_in(&reported).0.join("sample-app-2.log").exists());
    let saved = dir.path().join("saved").display().to_string();
    let reported = tracecheck(
        &[&["run", &path, "--env", "docker", "--save", &saved], &broken[..]].concat(),
        1,
    );
    assert!(!reported.contains("are kept in"), "{reported}");
    let reported = tracecheck(&["run", &path, "--env", "docker"], 0);
    assert!(!reported.contains("are kept in"), "{reported}");
    nothing_is_left();
}

#[test]
fn without_docker_it_says_what_is_missing_and_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = scenario(dir.path(), ONE);
    let socket = dir.path().join("none.sock");
    let output = command(&["run", &path, "--env", "docker"])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .output()
        .unwrap();
    let reported = text(&output);
    assert_eq!(output.status.code(), Some(3), "{reported}");
    assert!(
        reported.contains("no Docker engine answers") && reported.contains("DOCKER_HOST"),
        "{reported}"
    );
}
