//! Has the built-in collector check a user's config before anything starts, so that a mistake in it is a usage error.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use harness::{
    environment::process::INHERITED,
    system::{
        Program, Role, System, Workload,
        parts::TRACES_ONLY,
        reference::{Reference, Template},
    },
};
use tokio::process::Command;

/// Longest wait for the collector's word.
const LIMIT: Duration = Duration::from_secs(10);

/// Lets the system's collector check `config`, as the run would start it but for the addresses, which are not known yet.
/// Another collector than the built-in one reports problems of its config only when it runs.
pub(super) async fn check(system: &System, config: &Path) -> anyhow::Result<()> {
    let collector = system.workloads.iter().find(|workload| workload.role == Role::Collector);
    let Some(collector) = collector.filter(|one| matches!(one.program, Program::Builtin(_))) else {
        return Ok(());
    };
    let program =
        std::env::current_exe().context("the path of this program cannot be determined")?;
    let mut command = Command::new(program);
    command.args(["collector", "validate"]).arg("--config").arg(config);
    command.args(collector.args.iter().filter(|arg| *arg == TRACES_ONLY));
    for (name, file) in collector.files.iter().filter(|(_, file)| file.expand) {
        let text = expanded(&file.contents, collector).with_context(|| name.clone())?;
        command.arg(format!("--config=yaml:{text}"));
    }
    command.env_clear();
    command.envs(
        std::env::vars_os().filter(|(name, _)| {
            INHERITED.iter().any(|inherited| name.to_str() == Some(*inherited))
        }),
    );
    for (name, value) in &collector.env {
        command.env(name, expanded(value, collector).unwrap_or_default());
    }
    for (name, secret) in &collector.secrets {
        command.env(name, secret.reveal());
    }
    if let Some(dir) = &collector.working_dir {
        command.current_dir(dir);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("the collector did not check its config within {LIMIT:?}"))?
        .context("the collector cannot be started to check its config")?;
    if !output.status.success() {
        let reported = String::from_utf8_lossy(&output.stderr);
        let reported = reported.trim();
        bail!(
            "the collector rejects its config:\n{}",
            reported.strip_prefix("error: ").unwrap_or(reported)
        );
    }
    Ok(())
}

/// The text with stand-ins for what only a run knows.
fn expanded(text: &str, collector: &Workload) -> anyhow::Result<String> {
    let text = Template::parse(text)?.expand(|reference| {
        Ok::<_, std::convert::Infallible>(match reference {
            Reference::Endpoint { .. } => "http://127.0.0.1:1".to_owned(),
            Reference::Address { .. } => "127.0.0.1:1".to_owned(),
            Reference::Listen { .. } => "127.0.0.1:0".to_owned(),
            Reference::Host { .. } => "127.0.0.1".to_owned(),
            Reference::Port { .. } => "0".to_owned(),
            Reference::File { name } => format!("{}/{name}", collector.name),
        })
    })?;
    Ok(text)
}
