//! The documentation is true: its examples load, and the reference has every key of the schema and no other.

use std::{collections::BTreeSet, fs, path::Path};

use harness::load::{self, schema};
use serde_json::Value;

use crate::support::{root, tracecheck};

/// The sections of the reference with a table of keys, and the part of the schema that each explains.
const SECTIONS: [(&str, &str); 24] = [
    ("Scenario", ""),
    ("System", "SystemFile"),
    ("Chain", "ChainFile"),
    ("Requests", "RequestFile"),
    ("Body", "BodyFile"),
    ("Answer", "AnswerFile"),
    ("Conditions", "Conditions"),
    ("Trace id from", "TraceIdFromFile"),
    ("Faults", "FaultFile"),
    ("Error rate", "ErrorRateFile"),
    ("Expectations", "ExpectFile"),
    ("Tree", "NodeFile"),
    ("Span", "SpanFile"),
    ("Events", "EventFile"),
    ("Links", "LinkFile"),
    ("Counts", "SpanCountFile"),
    ("Selection", "SelectFile"),
    ("Order", "OrderFile"),
    ("Overlap", "OverlapFile"),
    ("Balance", "BalanceFile"),
    ("Stats", "StatsCountFile"),
    ("Levels", "LevelFile"),
    ("Requirements", "RequireFile"),
    ("Tolerated rules", "TolerateFile"),
];

#[test]
fn every_yaml_example_of_the_scenario_reference_loads() {
    let dir = tempfile::tempdir().unwrap();
    let system = "entry: shop\nworkloads: [{ name: shop, command: [shop, '${listen:http}'], ports: [http] }]\n";
    fs::write(dir.path().join("my-system.yaml"), system).unwrap();
    fs::write(dir.path().join("my-collector.yaml"), "").unwrap();
    let examples = yaml_blocks(&reference());
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());
    for example in examples {
        if let Err(wrong) = loads(dir.path(), &example) {
            panic!("{wrong}\nin this example:\n{example}");
        }
    }
}

#[test]
fn an_example_with_a_mistake_does_not_load() {
    let wrong = loads(Path::new("."), "expect: { witin: 5s }\n").unwrap_err();
    assert!(wrong.contains("did you mean `within`?"), "{wrong}");
}

#[test]
fn the_scenario_reference_has_every_key_of_the_schema_and_no_other() {
    let problems = differences(&reference(), &schema());
    assert!(problems.is_empty(), "docs/scenario-reference.md: {}", problems.join("; "));
}

#[test]
fn a_key_that_is_missing_from_the_reference_or_not_in_the_schema_is_found() {
    let changed = reference().replacen("| `times` |", "| `tiems` |", 1).replace("`xray`", "X-Ray");
    assert_eq!(
        differences(&changed, &schema()),
        [
            "section `Requests` has no row for `times`",
            "section `Requests` has a row for `tiems`, which is no key",
            "the value `xray` of Propagation is not mentioned",
        ]
    );
}

#[test]
fn the_collector_config_of_the_intakes_page_is_valid() {
    let configs = yaml_blocks(&page("intake.md"));
    assert_eq!(configs.len(), 1);
    // A validation needs no real key.
    let config = configs[0].replace("${env:DD_API_KEY}", "0123456789abcdef0123456789abcdef");
    tracecheck(&["collector", "validate", "--config", &format!("yaml:{config}")]).expect_code(0);
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("a page of the documentation")
}

fn reference() -> String {
    page("scenario-reference.md")
}

fn schema() -> Value {
    serde_json::from_str(&schema::json()).expect("the schema is JSON")
}

/// The contents of all blocks that are fenced as `yaml`.
fn yaml_blocks(markdown: &str) -> Vec<String> {
    let after_fences = markdown.split("\n```yaml\n").skip(1);
    after_fences.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Loads an example, with the keys that every scenario needs where it leaves them out.
fn loads(dir: &Path, example: &str) -> Result<(), String> {
    let mut whole = example.to_owned();
    for (key, line) in [
        ("name:", "name: example\n"),
        ("description:", "description: An example.\n"),
        ("requests:", "requests: [{ get: /outgoing-sampleapp }]\n"),
    ] {
        if !example.lines().any(|written| written.starts_with(key)) {
            whole.push_str(line);
        }
    }
    match load::parse(&dir.join("example.yaml"), &whole) {
        Ok(_) => Ok(()),
        Err(findings) => {
            Err(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Returns the keys that only the schema or only the reference has.
fn differences(reference: &str, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let definitions = schema["$defs"].as_object().expect("the schema has definitions");
    for (heading, name) in SECTIONS {
        let definition = if name.is_empty() { schema } else { &schema["$defs"][name] };
        let keys: BTreeSet<&str> =
            definition["properties"].as_object().into_iter().flatten().map(|(k, _)| &**k).collect();
        let rows = rows(reference, heading);
        for key in keys.difference(&rows) {
            found.push(format!("section `{heading}` has no row for `{key}`"));
        }
        for row in rows.difference(&keys) {
            found.push(format!("section `{heading}` has a row for `{row}`, which is no key"));
        }
    }
    for (name, definition) in definitions {
        let explained = SECTIONS.iter().any(|(_, section)| section == name);
        if definition.get("properties").is_some() && !explained {
            found.push(format!("no section explains {name}"));
        }
        for value in values(definition) {
            if !reference.contains(&format!("`{value}`")) {
                found.push(format!("the value `{value}` of {name} is not mentioned"));
            }
        }
    }
    found
}

/// The first cells of the table that follows a heading, up to the next heading.
fn rows<'a>(reference: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let lines = reference.lines();
    let section = lines.skip_while(|line| {
        line.trim_start_matches('#').trim() != heading || !line.starts_with('#')
    });
    let table = section.skip(1).take_while(|line| !line.starts_with('#'));
    table
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key))
        .collect()
}

/// The words that a choice allows.
fn values(definition: &Value) -> Vec<&str> {
    let plain = definition["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let documented = definition["oneOf"].as_array().into_iter().flatten();
    plain.chain(documented.filter_map(|choice| choice["const"].as_str())).collect()
}
