//! A cluster of kind whose creation is interrupted. A script stands in for kind here; `tests/kind` has the real one.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{TRACECHECK, ran, root};

/// A `kind` that makes a cluster a second after it was begun, in a process of its own, as Docker's command does; and does not delete it at once.
const KIND: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$1 $2" in
'version ') echo stand-in ;;
'get clusters') cat clusters ;;
'create cluster')
  (sleep 1; echo tracecheck >>clusters; touch created) &
  touch begun
  wait
  exec sleep 60
  ;;
'delete cluster')
  if [ -e asked ]; then : >clusters; else touch asked; exit 1; fi
  ;;
*) echo "$*" >&2; exit 1 ;;
esac
"#;

#[tokio::test]
async fn what_kind_still_makes_when_it_is_interrupted_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("kind"), KIND).unwrap();
    std::fs::set_permissions(file("kind"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(file("clusters"), "other\n").unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let run = Command::new(TRACECHECK)
        .args(["run", "scenarios", "--filter", "happy-path", "--env", "kind"])
        .current_dir(root())
        .env("PATH", path)
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = wait_for(&file("begun")).await;
    kill(Pid::from_raw(i32::try_from(run.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = run.wait_with_output();
    assert!(begun, "kind was not started: {output:?}");
    let ran = ran(output);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(wait_for(&file("created")).await, "{ran:?}");
    let left = std::fs::read_to_string(file("clusters")).unwrap();
    assert_eq!(left, "", "{ran:?}");
    ran.expect_stderr("kind: deleting what was made of cluster `tracecheck`");
}

/// Waits until there is such a file; false when that takes too long.
async fn wait_for(path: &Path) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !path.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    path.exists()
}
