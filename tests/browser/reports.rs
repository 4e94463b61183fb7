//! Reports to look at: of runs that were really made, and of what is made of them to be large or hostile.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};

/// Two requests through the built-in chain.
const SCENARIO: &str = "name: checkout\ndescription: A customer pays, and both services are in one trace.\nrequests:\n  - { get: /outgoing-sampleapp, times: 2 }\nexpect: { within: 3s }\n";
/// A collector's config that names resources otherwise, and leaves an attribute out.
const OTHER: &str = r#"receivers:
  otlp:
    protocols:
      grpc:
      http:
processors:
  attributes/less:
    actions:
      - { key: user_agent.original, action: delete }
      - { key: resource.name, value: "GET checkout", action: insert }
exporters:
  datadog:
    api:
      key: ${env:DD_API_KEY}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [attributes/less]
      exporters: [datadog]
"#;
/// Traces, or spans of one trace, of the large reports.
const LARGE: usize = 10_000;
/// A text that tries everything.
const HOSTILE: &str = "</script><img src=x onerror=\"hostile=1\"><!--\u{2028}\u{202e}abc\u{0}\u{7}";

/// Files, and names in them.
pub(crate) struct Reports {
    _folder: tempfile::TempDir,
    pub(crate) passed: PathBuf,
    /// The second hop does not take the trace on.
    pub(crate) broken: PathBuf,
    /// The broken one with hostile texts in its spans.
    pub(crate) hostile: PathBuf,
    /// The passed run beside one of another collector's config.
    pub(crate) compared: PathBuf,
    /// The broken run beside the hostile one.
    pub(crate) compared_hostile: PathBuf,
    /// A trace of 10,000 spans.
    pub(crate) long: PathBuf,
    /// A run of 10,000 traces.
    pub(crate) many: PathBuf,
    pub(crate) scenario: String,
    /// A trace of the broken run, the hostile one and the long one.
    pub(crate) trace: String,
    /// A span of that trace.
    pub(crate) span: String,
    /// A trace of the run of 10,000.
    pub(crate) one_of_many: String,
}

/// By how much a measured time may be over its limit: a shared machine is no quiet one.
pub(crate) fn slack() -> f64 {
    match std::env::var("TRACECHECK_BROWSER_SLACK") {
        Ok(text) => text.parse().expect("TRACECHECK_BROWSER_SLACK is a number"),
        Err(_) => 1.0,
    }
}

/// Makes the reports, once for all tests.
pub(crate) fn reports() -> &'static Reports {
    static REPORTS: OnceLock<Reports> = OnceLock::new();
    REPORTS.get_or_init(make)
}

fn tracecheck(args: &[&str], code: i32) {
    let output = Command::new(crate::browser::tracecheck()).args(args).output().unwrap();
    let text =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "tracecheck {args:?}: {}", text.concat());
}

fn make() -> Reports {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.display().to_string();
    std::fs::write(at("checkout.yaml"), SCENARIO).unwrap();
    let run = |name: &str, more: &[&str], code| {
        let (html, saved, scenario) = (at(&format!("{name}.html")), at(name), at("checkout.yaml"));
        let args = ["run", &text(&scenario), "--html", &text(&html), "--save", &text(&saved)];
        tracecheck(&[args.as_slice(), more].concat(), code);
        html
    };
    let passed = run("passed", &[], 0);
    let broken = run("broken", &["--app-env", "sample-app-2:OTEL_PROPAGATORS=none"], 1);
    let read = |name: &str| -> Value {
        let bytes = std::fs::read(at(name).join("system-0/system.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let of_broken = read("broken");
    let first = &of_broken["scenarios"][0]["cases"][0]["evidence"]["trace"];
    let trace = first["id"].as_str().unwrap().to_owned();
    let span = first["spans"][0]["id"].as_str().unwrap().to_owned();
    let replay = |name: &str, system: &Value, code| {
        let saved = at(name);
        std::fs::create_dir_all(saved.join("system-0")).unwrap();
        let mut system = system.clone();
        system["attempts"] = json!(0);
        std::fs::write(saved.join("system-0/system.json"), system.to_string()).unwrap();
        std::fs::write(saved.join("system-0/attempts.jsonl"), "").unwrap();
        let html = at(&format!("{name}.html"));
        tracecheck(&["replay", &text(&saved), "--html", &text(&html), "--format", "json"], code);
        html
    };
    let hostile = replay("hostile", &hostile(of_broken.clone()), 1);
    let compare = |a: &str, b: &str| {
        let html = at(&format!("{a}-{b}.html"));
        tracecheck(&["compare", &text(&at(a)), &text(&at(b)), "--html", &text(&html)], 1);
        html
    };
    std::fs::write(at("other.yaml"), OTHER).unwrap();
    run("other", &["--collector-config", &text(&at("other.yaml"))], 0);
    let (compared, compared_hostile) = (compare("passed", "other"), compare("broken", "hostile"));
    let long = replay("long", &long(of_broken), 1);
    let (of_many, one_of_many) = many(read("passed"));
    let many = replay("many", &of_many, 1);
    let scenario = "checkout".to_owned();
    Reports {
        _folder: folder,
        passed,
        broken,
        hostile,
        compared,
        compared_hostile,
        long,
        many,
        scenario,
        trace,
        span,
        one_of_many,
    }
}

fn hostile(mut system: Value) -> Value {
    for span in
        system["scenarios"][0]["cases"][0]["evidence"]["trace"]["spans"].as_array_mut().unwrap()
    {
        span["resource"] = json!(HOSTILE);
        span["meta"][HOSTILE] = json!("x".repeat(25_000));
        span["meta"]["rtl"] = json!("\u{5e9}\u{5dc}\u{5d5}\u{5dd} </td>");
    }
    system
}

/// A caller with thousands of children, each of which has one, too.
fn long(mut system: Value) -> Value {
    let spans =
        system["scenarios"][0]["cases"][0]["evidence"]["trace"]["spans"].as_array_mut().unwrap();
    let root = spans.iter().find(|span| span["meta"]["span.kind"] == "server").unwrap().clone();
    let start = root["start"].as_i64().unwrap();
    for span in spans
        .iter_mut()
        .filter(|span| span["meta"]["span.kind"] != "client" || span["parent_id"].is_null())
    {
        span["duration"] = json!(1_020_000_000);
    }
    for number in spans.len()..LARGE {
        let mut span = root.clone();
        let id = format!("{:016x}", 0x7000_0000 + number);
        let above = if number % 4 == 0 {
            root["id"].clone()
        } else {
            json!(format!("{:016x}", 0x7000_0000 + number - 1))
        };
        let service = ["cart", "stock", "payments", "mail"][number % 4];
        span["id"] = json!(id);
        span["parent_id"] = if number < 8 { root["id"].clone() } else { above };
        span["service"] = json!(service);
        span["meta"]["span.kind"] = json!("internal");
        span["resource"] = json!(format!("span {}", with_comma(number)));
        // Spread, so that there is something to see on the first screen.
        span["start"] = json!(start + (number as i64 * 61 % LARGE as i64) * 90_000);
        span["duration"] = json!(2_000_000 + (number as i64 * 7_919_113) % 90_000_000);
        span["error"] = json!(number % 97 == 0);
        span["meta"].as_object_mut().unwrap().remove("service.instance.id");
        spans.push(span);
    }
    system
}

fn with_comma(number: usize) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", number / 1_000, number % 1_000)
    }
}

/// The same trace again and again, with ids of its own; one has a text that no other has.
fn many(mut system: Value) -> (Value, String) {
    let cases = system["scenarios"][0]["cases"].as_array_mut().unwrap();
    let template = cases[0].to_string();
    let id = cases[0]["case"]["trace_id"].as_str().unwrap().to_owned();
    let of = |number: usize| format!("{}{number:08x}", &id[..24]);
    for number in 0..LARGE {
        let mut case: Value = serde_json::from_str(&template.replace(&id, &of(number))).unwrap();
        case["case"]["ordinal"] = json!(number);
        if number == LARGE / 2 {
            case["evidence"]["trace"]["spans"][0]["meta"]["note"] = json!("a needle in no list");
        }
        match number {
            0..2 => cases[number] = case,
            _ => cases.push(case),
        }
    }
    (system, of(LARGE / 3))
}
