//! Runs the program as a user would, and keeps what it said.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The program under test.
pub(crate) const TRACECHECK: &str = env!("CARGO_BIN_EXE_tracecheck");

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Outcome of a run of the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails the test, with everything that was printed, unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless stdout holds this text.
    #[track_caller]
    pub(crate) fn expect_stdout(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text),
            "`{text}` is not in stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless stderr holds this text.
    #[track_caller]
    pub(crate) fn expect_stderr(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "`{text}` is not in stderr:\n{}\nstdout:\n{}",
            self.stderr,
            self.stdout
        );
        self
    }
}

/// Runs the program at the root of the repository until it ends; every run has limits of its own.
pub(crate) fn tracecheck(args: &[&str]) -> Ran {
    ran(Command::new(TRACECHECK).args(args).current_dir(root()).stdin(Stdio::null()).output())
}

pub(crate) fn ran(output: std::io::Result<Output>) -> Ran {
    let output = output.expect("the program can be started");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A scenario in a file of its own, gone when dropped.
pub(crate) struct ScenarioFile {
    dir: tempfile::TempDir,
}

impl ScenarioFile {
    pub(crate) fn new(yaml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("scenario.yaml"), yaml).expect("a file in it");
        Self { dir }
    }

    pub(crate) fn path(&self) -> String {
        self.dir.path().join("scenario.yaml").display().to_string()
    }

    /// Writes another file beside it.
    pub(crate) fn with(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(name), text).expect("a file beside it");
        self
    }

    /// Runs it.
    pub(crate) fn run(&self, more: &[&str]) -> Ran {
        let path = self.path();
        tracecheck(&[&["run", path.as_str()], more].concat())
    }
}
