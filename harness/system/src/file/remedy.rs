//! Remedies for what people write into a system file from habit.

use harness_core::source::{Problem, Wrong};

/// Returns the remedy for something that a system file's types do not take; `None` where the nearest key says enough.
pub(super) fn remedy(wrong: &Wrong<'_>) -> Option<String> {
    let Wrong { path, value, problem } = *wrong;
    let remedy = match (path, problem) {
        (["workloads"], Problem::Type) => "each workload begins with `- name: …`",
        (["workloads", "[]", "command"], Problem::Type) if is_one_line(value) => {
            return Some(format!("write each word as an item: `[{}]`", words(value)));
        }
        (["workloads", "[]", "command" | "args"], Problem::Type) => {
            "write each word as an item: `[node, server.js]`"
        }
        (["workloads", "[]", "env"] | ["collector", "env"], Problem::Type) => {
            "write `NAME: value`, each on a line of its own below `env`, without `- `"
        }
        (["workloads", "[]", "health"], Problem::Type | Problem::Missing(_)) => {
            "write `health: { port: http, path: /ready }`"
        }
        (["workloads", "[]", "ports"], Problem::Type) => {
            "write names, `[http]`; the run chooses the number, and `${port:http}` passes it to the program"
        }
        (["workloads", "[]", list @ ("inherit" | "inherit_secrets")], Problem::Type) => {
            return Some(format!("write the names of variables: `{list}: [JAVA_HOME]`"));
        }
        (["workloads", "[]", "files", ..], Problem::Type | Problem::UnknownWord) => {
            "write `NAME: { text: … }`, or `NAME: { path: … }` for a file that is there"
        }
        (["collector"], Problem::Type) => "write `collector: { config: collector.yaml }`",
        (["collector", "config"], Problem::Type) => {
            "write the path of a file with the config in it"
        }
        (["entry"], Problem::Type) => "name one workload",
        (["workloads", "[]", key], Problem::UnknownKey) => return instead_of(key),
        _ => return None,
    };
    Some(remedy.to_owned())
}

/// Returns what to write instead of a key of Docker Compose or Kubernetes.
fn instead_of(key: &str) -> Option<String> {
    let remedy = match key {
        "environment" => "write `env`",
        "cmd" | "run" | "exec" | "entrypoint" | "start" | "program" => "write `command`",
        "cwd" | "working_dir" | "workdir" | "workingDir" => "write `dir`",
        "port" | "expose" => "write `ports`, a list of names",
        "healthcheck" | "readiness" | "readinessProbe" => {
            "write `health: { port: http, path: /ready }`"
        }
        "depends_on" => {
            "remove it: a workload that refers to another by `${endpoint:…}` is started after it"
        }
        "image" | "build" => {
            "remove it; `command` is what starts the program, and `--image` names the image"
        }
        "volumes" | "configs" => "write `files`",
        "replicas" | "scale" => "write `instances`",
        "secrets" => "write `inherit_secrets`",
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn is_one_line(value: &str) -> bool {
    !value.is_empty() && !value.contains(['{', '[', '|', '>', '\n'])
}

/// The words of a command line as items of a list.
fn words(line: &str) -> String {
    let words = line.trim_matches(['"', '\'']).split_whitespace();
    words.collect::<Vec<_>>().join(", ")
}
