//! Systems that stay: brought up, looked at, run through, and taken down, as a user does it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Ran, TRACECHECK, ran, root};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A state directory of a test's own. What still stands when the test ends, however it ends, is taken down.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for name in ["default", "other"] {
            // Exits with 2 where there is none.
            let mut down = Command::new(TRACECHECK);
            down.args(["down", name]).env("TRACECHECK_STATE_DIR", self.path().join("state"));
            let ended = down.env("TMPDIR", self.path()).current_dir(root()).output();
            if ended.is_ok_and(|ended| ended.status.success()) && !std::thread::panicking() {
                panic!("the system `{name}` was left behind");
            }
        }
    }
}

fn tracecheck(home: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(TRACECHECK);
    command.args(args).env("TRACECHECK_STATE_DIR", home.join("state")).env("TMPDIR", home);
    ran(command.current_dir(root()).stdin(Stdio::null()).output())
}

fn status(home: &Path) -> serde_json::Value {
    let reported = tracecheck(home, &["status", "--format", "json"]).stdout;
    serde_json::from_str(&reported).unwrap_or_else(|error| panic!("{error}: {reported}"))
}

/// Waits until the status is so.
fn until(home: &Path, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let now = status(home);
        if holds(&now) {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {now:#}");
    }
}

fn kill(pid: &serde_json::Value) {
    let killed = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

/// The process ids of the system's own processes, by workload.
fn processes(home: &Path) -> Vec<serde_json::Value> {
    let runs = std::fs::read_dir(home).into_iter().flatten().flatten();
    let mut records = runs.filter_map(|run| std::fs::read(run.path().join("processes.json")).ok());
    let record = records.next().unwrap_or_else(|| panic!("no run is in {}", home.display()));
    serde_json::from_slice(&record).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_system_file_is_brought_up_without_a_scenario() {
    let home = Home::new();
    let file = home.path().join("shop.system.yaml");
    let text = "entry: shop\nworkloads:\n  - name: shop\n    builtin: sample-app\n    env: { LISTEN_ADDR: '${listen:http}', OTEL_SERVICE_NAME: shop }\n    ports: [http]\n";
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    tracecheck(home.path(), &["up", &file]).expect_code(0).expect_stdout("  shop       service");
    tracecheck(home.path(), &["down"]).expect_code(0);
}

#[test]
fn a_system_file_is_checked_for_its_environment_before_anything_starts() {
    let home = Home::new();
    let file = home.path().join("shop.system.yaml");
    let path = file.display().to_string();
    let up = |program: &str, environment: &str| {
        let text = format!(
            "entry: shop\nworkloads:\n  - name: shop\n    command: [{program}]\n    dir: .\n    env: {{ LISTEN_ADDR: '${{listen:http}}' }}\n    ports: [http]\n"
        );
        std::fs::write(&file, text).unwrap();
        tracecheck(home.path(), &["up", &path, "--env", environment])
    };
    up("./no-such", "process").expect_code(2).expect_stderr("no-such` does not exist; build it");
    up("sh", "docker").expect_code(2).expect_stderr("set WORKDIR in the image");
    tracecheck(home.path(), &["status"]).expect_code(0).expect_stdout("no system is up");
}

#[test]
fn a_system_stays_until_it_is_taken_down_and_scenarios_run_through_it() {
    let home = Home::new();
    let home = home.path();
    tracecheck(home, &["status"]).expect_code(0).expect_stdout("no system is up");
    let up = tracecheck(home, &["up"]).expect_code(0);
    let (_, command) = up.stdout.split_once("tracecheck run SCENARIO… ").unwrap();
    let options = command.lines().next().unwrap();
    let mut run = vec!["run", "scenarios/happy-path.yaml"];
    run.extend(options.split(' '));
    tracecheck(home, &run).expect_code(0).expect_stdout("PASS  happy-path");
    tracecheck(home, &["up"])
        .expect_code(2)
        .expect_stderr("a system `default` is up or starting already");
    assert_eq!(status(home)["state"], "up", "the second one left the first one alone");
    tracecheck(home, &["up", "--name", "other"]).expect_code(0);
    tracecheck(home, &["down", "other"]).expect_code(0).expect_stdout("`other` is down");
    tracecheck(home, &["status"])
        .expect_code(0)
        .expect_stdout("system default: environment process");

    // A part that ends by itself is reported.
    let pids = processes(home);
    kill(&pids.iter().find(|process| process["workload"] == "sample-app-2").unwrap()["pid"]);
    let reported = until(home, "the end is reported", |now| {
        now["system"]["workloads"]["sample-app-2"]["ended"].is_string()
    });
    assert_eq!(reported["unusable"][0]["workload"], "sample-app-2", "{reported:#}");
    tracecheck(home, &["status"]).expect_code(1).expect_stdout("NOT USABLE");

    tracecheck(home, &["down"]).expect_code(0).expect_stdout("`default` is down");
    tracecheck(home, &["down"]).expect_code(2).expect_stderr("there is no system `default`");
    let left: Vec<_> = std::fs::read_dir(home).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [home.join("state")], "nothing is left");
}

#[test]
fn what_a_killed_keeper_left_is_reported_and_removed() {
    let home = Home::new();
    let home = home.path();
    // A program that is not asked to end with its harness does not.
    let scenario = home.join("stays.yaml");
    let text = "name: stays\ndescription: It stays.\nrequests: [{ get: / }]\nsystem: { file: stays.system.yaml }\n";
    std::fs::write(&scenario, text).unwrap();
    let system = format!(
        "entry: web
workloads:
  - name: web
    command: [{TRACECHECK}, sample-app]
    env:
      LISTEN_ADDR: ${{listen:http}}
      OTEL_EXPORTER_OTLP_ENDPOINT: ${{endpoint:collector.otlp-grpc}}
    ports: [http]
"
    );
    std::fs::write(home.join("stays.system.yaml"), system).unwrap();
    tracecheck(home, &["up", scenario.to_str().unwrap()]).expect_code(0);
    let web = processes(home).into_iter().find(|process| process["workload"] == "web").unwrap();
    kill(&status(home)["system"]["keeper"]);
    until(home, "it is abandoned", |now| now["state"] == "abandoned");
    tracecheck(home, &["status"]).expect_code(1).expect_stdout("ABANDONED");
    let down = tracecheck(home, &["down"]).expect_code(0);
    let ends = format!("ends process {} (web: {TRACECHECK})", web["pid"]);
    down.expect_stderr(&ends).expect_stdout("its keeper had been killed");
    let begun = Instant::now();
    while Path::new(&format!("/proc/{}/cwd", web["pid"])).exists() {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
    }
}

#[test]
fn what_does_not_come_up_is_reported_and_leaves_nothing() {
    let home = Home::new();
    let home = home.path();
    tracecheck(home, &["up", "no-such.yaml"]).expect_code(2).expect_stderr("no-such.yaml");
    tracecheck(home, &["up", "--for", "25h"]).expect_code(2).expect_stderr("at most 24h");
    tracecheck(home, &["up", "--name", "../x"]).expect_code(2).expect_stderr("is not a valid name");
    tracecheck(home, &["up", "--for", "1s"]).expect_code(0);
    until(home, "its time is over", |now| now["state"] == "down");
    tracecheck(home, &["status"]).expect_code(1).expect_stdout("its time limit has passed");
    tracecheck(home, &["down"]).expect_code(0);
    tracecheck(home, &["status"]).expect_code(0).expect_stdout("no system is up");
}
