//! Validates a system, and finds all problems at once.

use std::collections::BTreeSet;

use crate::{
    Program, Role, System, Workload,
    reference::{self, Reference, Template},
    start_order,
};
use harness_core::source;

/// Something wrong with a system, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the workload; `None` if the problem is about the system.
    pub workload: Option<String>,
    /// The part of it that is invalid, for example `env.UPSTREAM_URIS`; empty when it is about all of it.
    pub part: String,
    /// The problem.
    pub message: String,
    /// The remedy.
    pub suggestion: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.workload, self.part.as_str()) {
            (Some(workload), "") => write!(f, "workload `{workload}`: ")?,
            (Some(workload), part) => write!(f, "workload `{workload}`, `{part}`: ")?,
            (None, "") => {}
            (None, part) => write!(f, "`{part}`: ")?,
        }
        f.write_str(&self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

/// The most characters of a workload's name; the limit of a DNS label.
const MAX_NAME: usize = 63;

/// The subcommands of `tracecheck` that are workloads.
const BUILTINS: [&str; 4] = ["collector", "intake", "sample-app", "tap"];

impl System {
    /// Returns everything that is wrong with the system: empty if it can be started.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        for workload in &self.workloads {
            self.check_workload(workload, &mut problems);
        }
        match self.workload(&self.entry) {
            None => problems.push(Problem {
                workload: None,
                part: "entry".to_owned(),
                message: format!("there is no workload `{}`", self.entry),
                suggestion: source::nearest_or_known(&self.entry, self.names()),
            }),
            Some(entry) if !entry.has_port("http") => problems.push(Problem {
                workload: Some(entry.name.clone()),
                part: "ports".to_owned(),
                message: "requests are sent to port `http` of the entry, and it has none"
                    .to_owned(),
                suggestion: Some("add `http` to its ports".to_owned()),
            }),
            Some(_) => {}
        }
        let mut services = self.workloads.iter().filter(|one| one.role == Role::Service).peekable();
        if services.peek().is_some() && services.all(|service| !service.traced) {
            problems.push(Problem {
                workload: Some(self.entry.clone()),
                part: "traced".to_owned(),
                message: "no service makes spans (`traced: false` at all), so that there is nothing to judge".to_owned(),
                suggestion: Some("take it away from those that are traced".to_owned()),
            });
        }
        if let Err(error) = start_order::start_order(self) {
            problems.push(Problem {
                workload: Some(error.workload.clone()),
                part: String::new(),
                message: error.to_string(),
                suggestion: None,
            });
        }
        problems
    }

    fn check_names(&self, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        for name in self.names() {
            let mut problem = |message: String, suggestion: &str| {
                problems.push(Problem {
                    workload: Some(name.to_owned()),
                    part: "name".to_owned(),
                    message,
                    suggestion: Some(suggestion.to_owned()),
                });
            };
            if !seen.insert(name) {
                problem(format!("there are two workloads `{name}`"), "rename one");
            }
            if !is_dns_label(name) {
                problem(
                    format!("`{name}` is not a DNS label"),
                    "use at most 63 lower-case letters, digits and `-`, no `-` at an end",
                );
            }
        }
        let count = |role| self.workloads.iter().filter(|one| one.role == role).count();
        for (role, word) in [(Role::Intake, "intake"), (Role::Collector, "collector")] {
            if count(role) > 1 {
                problems.push(Problem {
                    workload: None,
                    part: String::new(),
                    message: format!("there are {} workloads with the role {word}", count(role)),
                    suggestion: Some("keep one".to_owned()),
                });
            }
        }
    }

    fn check_workload(&self, workload: &Workload, problems: &mut Vec<Problem>) {
        let mut add = |part: &str, message: String, suggestion: Option<String>| {
            problems.push(Problem {
                workload: Some(workload.name.clone()),
                part: part.to_owned(),
                message,
                suggestion,
            });
        };
        match &workload.program {
            Program::Builtin(name) if !BUILTINS.contains(&name.as_str()) => add(
                "builtin",
                format!("there is no built-in program `{name}`"),
                source::nearest_or_known(name, BUILTINS),
            ),
            Program::Command(command) if command.is_empty() => {
                add("command", "the command is empty".to_owned(), None);
            }
            Program::Builtin(_) | Program::Command(_) => {}
        }
        let ports = || workload.ports.iter().map(String::as_str);
        let wanted = workload.health.iter().map(|health| ("health", &health.port));
        for (part, port) in wanted.chain(workload.ledger.iter().map(|port| ("ledger", port))) {
            if !workload.has_port(port) {
                let message = format!("it has no port `{port}`");
                add(part, message, source::nearest_or_known(port, ports()));
            }
        }
        if let Some(health) = &workload.health
            && !health.path.starts_with('/')
        {
            add("health", format!("path `{}` must start with `/`", health.path), None);
        }
        for name in workload.files.keys().filter(|name| !is_file_name(name)) {
            let message = "a file's name contains no `/` and is not `.` or `..`".to_owned();
            add(&format!("files.{name}"), message, Some("rename it".to_owned()));
        }
        for name in workload.secrets.keys().filter(|name| workload.env.contains_key(*name)) {
            add(
                "env",
                format!("`{name}` is also a secret"),
                Some("keep one of the two".to_owned()),
            );
        }
        let mut reported = BTreeSet::new();
        for (part, text) in reference::places(workload) {
            let template = match Template::parse(text) {
                Ok(template) => template,
                Err(error) => {
                    add(&part, error.to_string(), None);
                    continue;
                }
            };
            for reference in template.references() {
                reported.extend(reference.own_port().map(str::to_owned));
                if let Some((message, suggestion)) = self.dangling(workload, reference) {
                    add(&part, message, suggestion);
                }
            }
        }
        if matches!(workload.program, Program::Command(_)) {
            for port in workload.ports.iter().filter(|port| !reported.contains(*port)) {
                add(
                    "ports",
                    format!("nothing gives it the port `{port}`"),
                    Some(format!(
                        "put `${{listen:{port}}}` or `${{port:{port}}}` into its args or env"
                    )),
                );
            }
        }
    }

    /// Returns the problem of a well-formed reference, and the remedy.
    fn dangling(
        &self,
        workload: &Workload,
        reference: &Reference,
    ) -> Option<(String, Option<String>)> {
        if let Some((callee, port)) = reference.edge() {
            let Some(target) = self.workload(callee) else {
                let message = format!("`{reference}`: there is no workload `{callee}`");
                return Some((message, source::nearest_or_known(callee, self.names())));
            };
            let known = target.ports.iter().map(String::as_str);
            return (!target.has_port(port)).then(|| {
                let message = format!("`{reference}`: workload `{callee}` has no port `{port}`");
                (message, source::nearest_or_known(port, known))
            });
        }
        if let Some(port) = reference.own_port() {
            let known = workload.ports.iter().map(String::as_str);
            return (!workload.has_port(port)).then(|| {
                let message = format!("`{reference}`: it has no port `{port}`");
                (message, source::nearest_or_known(port, known))
            });
        }
        match reference {
            Reference::File { name } if !workload.files.contains_key(name) => {
                let known = workload.files.keys().map(String::as_str);
                let message = format!("`{reference}`: it has no file `{name}`");
                Some((message, source::nearest_or_known(name, known)))
            }
            _ => None,
        }
    }
}

/// A file is put beside the workload's other ones, and nowhere else.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".."
}

fn is_dns_label(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(inside) && ends
}

#[cfg(test)]
mod tests {
    use crate::testing::{service, system};

    #[test]
    fn a_sound_system_has_no_problems() {
        let system = system([
            service("a", &["${endpoint:b.http}", "${listen:http}"]),
            service("b", &["${port:http}"]),
        ]);
        assert_eq!(system.problems(), []);
    }

    #[test]
    fn a_files_name_cannot_lead_out_of_its_directory() {
        let mut one = service("a", &["${listen:http}"]);
        for name in ["../x", "..", "/etc/x", ""] {
            let file = crate::File { contents: String::new(), expand: false };
            one.files = [(name.to_owned(), file)].into();
            let problems = system([one.clone()]).problems();
            assert!(problems.len() == 1 && problems[0].message.contains("no `/`"), "{problems:?}");
        }
    }

    #[test]
    fn some_service_must_make_spans() {
        let mut system =
            system([service("a", &["${listen:http}"]), service("b", &["${listen:http}"])]);
        system.workloads[1].traced = false;
        assert_eq!(system.problems(), []);
        system.workloads[0].traced = false;
        let problems = system.problems();
        assert!(
            problems.len() == 1 && problems[0].message.contains("no service makes spans"),
            "{problems:?}"
        );
    }

    #[test]
    fn everything_wrong_is_reported_at_once_with_the_names_there_are() {
        let mut a = service("a", &["${endpoint:bb.http}", "${address:b.htp}", "${listen:grpc}"]);
        a.env.insert("CONFIG".to_owned(), "${file:x.yaml}".to_owned());
        a.ledger = Some("http2".to_owned());
        let mut b = service("b", &[]);
        b.name = "Bad_Name".to_owned();
        let mut system = system([a, b]);
        system.entry = "c".to_owned();
        let problems: Vec<String> = system.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "workload `Bad_Name`, `name`: `Bad_Name` is not a DNS label; use at most 63 lower-case letters, digits \
                 and `-`, no `-` at an end",
                "workload `a`, `ledger`: it has no port `http2`; did you mean `http`?",
                "workload `a`, `args[0]`: `${endpoint:bb.http}`: there is no workload `bb`; known are `a`, `Bad_Name`",
                "workload `a`, `args[1]`: `${address:b.htp}`: there is no workload `b`; known are `a`, `Bad_Name`",
                "workload `a`, `args[2]`: `${listen:grpc}`: it has no port `grpc`; known are `http`",
                "workload `a`, `env.CONFIG`: `${file:x.yaml}`: it has no file `x.yaml`",
                "workload `a`, `ports`: nothing gives it the port `http`; put `${listen:http}` or \
                 `${port:http}` into its args or env",
                "workload `Bad_Name`, `ports`: nothing gives it the port `http`; put `${listen:http}` or \
                 `${port:http}` into its args or env",
                "`entry`: there is no workload `c`; known are `a`, `Bad_Name`",
            ]
        );
    }
}
