//! `tracecheck init`: a system file and a first scenario for services of one's own.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use harness::{
    load::{self, LoadError},
    source::{self, Finding},
};

/// Which services there are, and how they are reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A service and how it is started with its instrumentation, for example `pay=opentelemetry-instrument uvicorn pay:app --port $PORT`; the
    /// first one is the entry. Once for each.
    #[arg(long = "service", value_name = "NAME=COMMAND", value_parser = service)]
    services: Vec<Service>,
    /// A call between two services, and the variable that gives the caller the address: `shop:PAY_URL=pay`. Once for each.
    #[arg(long = "calls", value_name = "CALLER:VARIABLE=CALLEE", value_parser = call)]
    calls: Vec<Call>,
    /// The variable that gives a service the port to listen on.
    #[arg(long, value_name = "VARIABLE", default_value = "PORT")]
    port_variable: String,
    /// The path of the first scenario's request.
    #[arg(long, value_name = "PATH", default_value = "/")]
    get: String,
}

/// A service and its command.
#[derive(Debug, Clone)]
struct Service {
    name: String,
    command: Vec<String>,
}

/// One service's reference to another.
#[derive(Debug, Clone)]
struct Call {
    caller: String,
    variable: String,
    callee: String,
}

fn service(text: &str) -> Result<Service, String> {
    let usage = "write NAME=COMMAND, for example shop='python shop.py'";
    let (name, command) = text.split_once('=').ok_or(usage)?;
    let command = shlex::split(command).filter(|words| !words.is_empty());
    let command = command.ok_or("its command is empty, or has a quote that is not closed")?;
    if name.is_empty() {
        return Err(usage.to_owned());
    }
    Ok(Service { name: name.to_owned(), command })
}

fn call(text: &str) -> Result<Call, String> {
    let parts = text.split_once(':').and_then(|(caller, rest)| {
        let (variable, callee) = rest.split_once('=')?;
        let given = ![caller, variable, callee].contains(&"");
        given.then(|| Call {
            caller: caller.to_owned(),
            variable: variable.to_owned(),
            callee: callee.to_owned(),
        })
    });
    parts.ok_or_else(|| "write CALLER:VARIABLE=CALLEE, for example shop:PAY_URL=pay".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let names = || args.services.iter().map(|service| service.name.as_str());
    for call in &args.calls {
        for name in [&call.caller, &call.callee] {
            if !names().any(|known| known == name) {
                let remedy = source::nearest_or_known(name, names()).unwrap_or_default();
                bail!("--calls: there is no --service `{name}`; {remedy}");
            }
        }
    }
    let Some(entry) = args.services.first().map(|service| &service.name) else {
        bail!(
            "no service is named: give each with the command that starts it, for example\n  tracecheck init --service shop='node --require @opentelemetry/auto-instrumentations-node/register shop.js' --service pay='opentelemetry-instrument uvicorn pay:app --port $PORT' --calls shop:PAY_URL=pay --get /orders/1"
        );
    };
    let system = PathBuf::from(format!("{entry}.system.yaml"));
    let scenario = PathBuf::from(format!("{entry}-first.yaml"));
    for path in [&system, &scenario] {
        if path.exists() {
            bail!("{} already exists and is not overwritten; move it first", path.display());
        }
    }
    let first = scenario_text(args, &system);
    write(&system, &system_text(args))?;
    if let Err(error) =
        write(&scenario, &first).and_then(|()| Ok(load::load(std::slice::from_ref(&scenario))?))
    {
        // What cannot be used helps nobody.
        for path in [&system, &scenario] {
            let _ = std::fs::remove_file(path);
        }
        return Err(match error.downcast::<LoadError>() {
            Ok(LoadError::Invalid(findings)) => invalid_options(&findings),
            Err(error) => error,
        });
    }
    super::print(&format!(
        "{} says what runs, {} what is driven through it and must hold.\nrun it:  tracecheck run {}\n",
        system.display(),
        scenario.display(),
        scenario.display()
    ))
}

/// Says what is wrong with the options, without the places in files that are not there any more.
fn invalid_options(findings: &[Finding]) -> anyhow::Error {
    let reported = findings.iter().filter(|finding| !finding.message.ends_with("(see below)"));
    let reported = reported.map(|Finding { message, suggestion, .. }| match suggestion {
        Some(suggestion) => format!("\n  {message}; {suggestion}"),
        None => format!("\n  {message}"),
    });
    let reported: String = reported.collect();
    anyhow!("the options do not describe a valid system; nothing was written:{reported}")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A text as YAML takes it, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let begins_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.');
    let word = ["true", "false", "null", "yes", "no", "on", "off"];
    match begins_plain
        && text.chars().all(is_plain)
        && !word.contains(&text.to_lowercase().as_str())
    {
        true => text.to_owned(),
        // Every JSON text is one of YAML.
        false => serde_json::Value::from(text).to_string(),
    }
}

/// A word of a command as it is meant: no shell reads it, so that variables which the service is given are references of the file, and
/// what else looks like one is none.
fn word(text: &str, given: &[(String, String)]) -> String {
    let mut rest = text;
    let mut word = String::new();
    while let Some(at) = rest.find('$') {
        word.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, end) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match given.iter().find(|(variable, _)| variable == name) {
            Some((_, reference)) => {
                word.push_str(reference);
                rest = &after[end..];
            }
            None => {
                word.push_str(if after.starts_with('{') { "$$" } else { "$" });
                rest = after;
            }
        }
    }
    word.push_str(rest);
    quoted(&word)
}

fn system_text(args: &Args) -> String {
    let mut text = format!(
        "# What runs. Every key: docs/system-file.md; check it with: tracecheck check.\nentry: {}\nworkloads:\n",
        quoted(&args.services[0].name)
    );
    for Service { name, command } in &args.services {
        let calls = args.calls.iter().filter(|call| &call.caller == name);
        let calls = calls
            .map(|call| (call.variable.clone(), format!("${{endpoint:{}.http}}", call.callee)));
        let mut given = vec![(args.port_variable.clone(), "${port:http}".to_owned())];
        given.extend(calls);
        let command: Vec<String> = command.iter().map(|text| word(text, &given)).collect();
        let mut env = vec![
            given.remove(0),
            ("OTEL_SERVICE_NAME".to_owned(), name.clone()),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                "${endpoint:collector.otlp-http}".to_owned(),
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "http/protobuf".to_owned()),
            ("OTEL_TRACES_EXPORTER".to_owned(), "otlp".to_owned()),
            ("OTEL_METRICS_EXPORTER".to_owned(), "none".to_owned()),
            ("OTEL_LOGS_EXPORTER".to_owned(), "none".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned()),
        ];
        env.extend(given);
        let _infallible = writeln!(text, "  - name: {}", quoted(name));
        let _infallible = writeln!(text, "    command: [{}]", command.join(", "));
        text.push_str("    env:\n");
        for (variable, value) in env {
            let _infallible = writeln!(text, "      {}: {}", quoted(&variable), quoted(&value));
        }
        text.push_str("    ports: [http]\n");
    }
    text
}

fn scenario_text(args: &Args, system: &Path) -> String {
    let names: Vec<String> = args.services.iter().map(|service| quoted(&service.name)).collect();
    format!(
        "# What is driven and must hold. Every key: docs/scenario-reference.md.\n\
         name: first\n\
         description: A request leaves one whole trace, with every service in it.\n\
         system: {{ file: {} }}\n\
         requests:\n  - get: {}\n    times: 3 # equal ones show what belongs to them, and what comes and goes\n\
         expect:\n  services: [{}]\n",
        quoted(&system.display().to_string()),
        quoted(&args.get),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_would_read_otherwise_is_quoted() {
        for (text, reported) in [
            ("shop", "shop"),
            ("./bin/shop", "./bin/shop"),
            ("--port", "\"--port\""),
            ("yes", "\"yes\""),
            ("8080", "\"8080\""),
            ("a: b", "\"a: b\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
        ] {
            assert_eq!(quoted(text), reported);
        }
    }

    #[test]
    fn variables_that_a_service_is_given_are_references_in_its_command_and_others_are_none() {
        let given = [("PORT", "${port:http}"), ("PAY_URL", "${endpoint:pay.http}")];
        let given = given.map(|(name, reference)| (name.to_owned(), reference.to_owned()));
        for (text, expected) in [
            ("$PORT", "${port:http}"),
            ("--port=${PORT}", "--port=${port:http}"),
            ("127.0.0.1:$PORT/x", "127.0.0.1:${port:http}/x"),
            ("$PORTS$", "$PORTS$"),
            ("${HOME}", "$${HOME}"),
            ("${HOME", "$${HOME"),
            ("$PAY_URL$PORT", "${endpoint:pay.http}${port:http}"),
        ] {
            assert_eq!(word(text, &given), format!("\"{expected}\""), "{text}");
        }
        assert_eq!(word("--é", &given), "\"--é\"");
        assert_eq!(word("shop.py", &given), "shop.py");
    }
}
