//! Asking a collector what it makes of a config.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long reading a config may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answer of a collector to a config: the config as it understands it, or why it refuses.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Accepts(Value),
    Refuses(String),
}

impl Verdict {
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepts(_))
    }
}

/// Has a collector print a config.
pub(crate) fn print_config(program: &Path, first: &[&str], configs: &[PathBuf]) -> Verdict {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg(program).args(first);
    command.args(["print-config", "--format=json"]);
    for config in configs {
        command.arg("--config").arg(config);
    }
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("SET", "42").env("EMPTY", "").env("WORDS", "some text").env("LIST", "[a, b]");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => match serde_json::from_slice(&output.stdout) {
            Ok(printed) => Verdict::Accepts(printed),
            Err(error) => panic!("{}: not JSON: {error}: {:?}", program.display(), output.stdout),
        },
        Some(124) | None => panic!("{}: no end: {:?}\n{stderr}", program.display(), output.status),
        Some(_) => Verdict::Refuses(stderr),
    }
}
