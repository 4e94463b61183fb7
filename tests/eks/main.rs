//! `--env eks` with a stand-in for eksctl, which checks what it is given, and fails, hangs and leaves half a cluster behind.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Ran, TRACECHECK, ran, root};

#[expect(dead_code, reason = "other targets use the rest of it")]
#[path = "../it/support.rs"]
mod support;

const RUN: [&str; 8] = [
    "run",
    "scenarios/happy-path.yaml",
    "--env",
    "eks",
    "--image",
    "example/tracecheck:1",
    "--yes",
    "-v",
];

/// An account that is a folder.
struct Account {
    dir: tempfile::TempDir,
}

impl Account {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder can be made") }
    }

    fn command(&self, mode: &str, words: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(TRACECHECK);
        command.args(words).current_dir(root()).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", root().join("tests/eks").display()));
        command.env("EKSCTL_STATE", self.dir.path()).env("EKSCTL_MODE", mode);
        command
    }

    fn run(&self, mode: &str, words: &[&str]) -> Ran {
        ran(self.command(mode, words).output())
    }

    fn cluster(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.cluster"))
    }

    fn add(&self, name: &str, tags: &str) {
        let cluster = format!("{{ \"Name\": \"{name}\", \"Tags\": {tags} }}");
        std::fs::write(self.cluster(name), cluster).expect("a file can be written");
    }

    /// The first two words of each call.
    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let words = |line: &str| {
            let words: Vec<String> = serde_json::from_str(line).expect("a list of words");
            words.into_iter().take(2).collect::<Vec<_>>().join(" ")
        };
        calls.lines().map(words).collect()
    }
}

#[test]
fn nothing_is_made_before_the_user_agrees_to_the_costs() {
    let account = Account::new();
    account
        .run("", &RUN[..6])
        .expect_code(2)
        .expect_stderr("0.10 USD an hour")
        .expect_stderr("needs `--yes`");
    assert_eq!(account.calls(), [""; 0]);
}

#[test]
fn a_system_may_not_stay_longer_than_its_cluster() {
    let account = Account::new();
    let up = ["up", "--env", "eks", "--image", "example/tracecheck:1", "--yes", "--for", "12h"];
    account
        .run("", &up)
        .expect_code(2)
        .expect_stderr("with `--env eks` a system stays up for 11h at most");
    assert_eq!(account.calls(), [""; 0]);
}

#[test]
fn a_cluster_that_was_there_is_refused_and_left_alone() {
    let account = Account::new();
    account.add("tracecheck", "{}");
    account
        .run("", &RUN)
        .expect_code(3)
        .expect_stderr("there is a cluster `tracecheck` in ap-northeast-1 already");
    assert!(account.cluster("tracecheck").exists());
    assert_eq!(account.calls(), ["version", "get cluster"]);
}

#[test]
fn without_credentials_nothing_is_made() {
    let account = Account::new();
    account.run("no-credentials", &RUN).expect_code(3).expect_stderr("no EC2 IMDS role found");
    assert_eq!(account.calls(), ["version", "get cluster"]);
}

#[test]
fn what_failed_and_what_is_half_made_is_deleted() {
    for (mode, reported) in
        [("fails", "no room for another VPC"), ("half", "exceeded max wait time")]
    {
        let account = Account::new();
        let ran = account.run(mode, &RUN).expect_code(3).expect_stderr(reported);
        ran.expect_stderr("what there was of cluster `tracecheck` is deleted")
            .expect_stderr("eksctl: [i]  building cluster stack");
        assert!(!account.cluster("tracecheck").exists());
        assert_eq!(account.calls().last().unwrap(), "delete cluster");
    }
}

#[test]
fn what_cannot_be_deleted_or_is_kept_is_named_with_its_command() {
    let removal = "eksctl delete cluster --name tracecheck --region ap-northeast-1 --wait --force --disable-nodegroup-eviction";
    let account = Account::new();
    let mut command = account.command("half", &RUN);
    command.env("EKSCTL_DELETE", "fails");
    ran(command.output())
        .expect_code(3)
        .expect_stderr("could not be deleted")
        .expect_stderr(removal);

    let account = Account::new();
    account.run("half", &[&RUN[..], &["--keep"]].concat()).expect_code(3).expect_stderr(removal);
    assert!(account.cluster("tracecheck").exists());
    assert!(!account.calls().contains(&"delete cluster".to_owned()));
}

#[test]
fn one_that_somebody_else_made_meanwhile_is_left_alone() {
    let account = Account::new();
    account.run("taken", &RUN).expect_code(3).expect_stderr("is not this run's, and is left alone");
    assert!(account.cluster("tracecheck").exists());
    assert!(!account.calls().contains(&"delete cluster".to_owned()));
}

#[test]
fn one_that_hangs_is_ended_at_its_limit_and_deleted() {
    let account = Account::new();
    account
        .run("hangs", &[&RUN[..], &["--eks-limit", "3s"]].concat())
        .expect_code(3)
        .expect_stderr("did not end within 3s")
        .expect_stderr("is deleted");
    assert!(!account.cluster("tracecheck").exists());
}

#[test]
fn an_interrupt_while_it_is_made_deletes_it() {
    let account = Account::new();
    let mut command = account.command("hangs", &RUN);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&child, || account.cluster("tracecheck").exists());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    ran(child.wait_with_output())
        .expect_code(3)
        .expect_stderr("interrupted while eksctl made cluster");
    assert!(!account.cluster("tracecheck").exists());
}

fn wait_for(child: &Child, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come to that: {child:?}");
        std::thread::yield_now();
    }
}

#[test]
fn reap_takes_what_has_expired_and_what_is_a_runs_by_its_tag_alone() {
    let account = Account::new();
    let tags = |run: &str, expires: &str| {
        format!("{{ \"tracecheck/run\": \"{run}\", \"tracecheck/expires\": \"{expires}\" }}")
    };
    account.add("old", &tags("1", "2020-01-01T00:00:00Z"));
    account.add("young", &tags("2", "2100-01-01T00:00:00Z"));
    account.add("others", "{ \"team\": \"x\" }");
    let reap = ["reap", "--env", "eks"];
    account
        .run("", &[&reap[..], &["--dry-run"]].concat())
        .expect_code(0)
        .expect_stdout("old (run 1)");
    assert!(account.cluster("old").exists());
    account.run("", &reap).expect_code(0).expect_stdout("old (run 1)");
    assert!(!account.cluster("old").exists());
    assert!(account.cluster("young").exists() && account.cluster("others").exists());
    account
        .run("", &[&reap[..], &["--run", "2"]].concat())
        .expect_code(0)
        .expect_stdout("young (run 2)");
    assert!(!account.cluster("young").exists() && account.cluster("others").exists());
}
