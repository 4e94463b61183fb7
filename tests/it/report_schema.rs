//! The published schema of `--format json` is what the program prints, and what it prints is valid by it.

use std::fs;

use serde_json::{Value, json};

use crate::support::{ScenarioFile, root, tracecheck};

fn schema() -> Value {
    let printed = tracecheck(&["schema", "--of", "report"]).expect_code(0).stdout;
    let path = root().join("docs/report.schema.json");
    let published = fs::read_to_string(path).expect("the published schema");
    assert!(
        printed == published,
        "docs/report.schema.json is not what the program prints: `tracecheck schema --of report > docs/report.schema.json`, and \
         raise `event::SCHEMA` where a reader of the old form would misread the new one"
    );
    serde_json::from_str(&printed).expect("the schema is JSON")
}

#[test]
fn every_line_of_a_run_is_valid_by_the_published_schema() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    let broken = ScenarioFile::new(
        "name: broken\ndescription: The second hop begins a trace of its own.\nsystem: { chain: { env: { sample-app-2: { OTEL_PROPAGATORS: none } } } }\nrequests:\n  - { get: /outgoing-sampleapp }\nexpect: { within: 3s }\n",
    );
    let ran = broken
        .run(&[
            "--format",
            "json",
            "--compare-with-collector",
            "scenarios/collector/otlp-intake.yaml",
        ])
        .expect_code(1);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    for line in &lines {
        let errors: Vec<String> = validator
            .iter_errors(line)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{line}\n{errors:#?}");
    }
    let of = |event: &str| lines.iter().find(|line| line["event"] == event);
    let finished = of("scenario-finished").expect("a scenario finished");
    assert!(of("compared").is_some() && of("run-finished").is_some());
    let failure = &finished["result"]["cases"][0]["findings"]["failures"][0];
    for field in ["rule", "detail", "service", "hop", "cause"] {
        assert!(!failure[field].is_null(), "no `{field}` in {failure}");
    }
    // What is not of the form is refused.
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut line = finished.clone();
        change(&mut line);
        assert!(!validator.is_valid(&line), "{line}");
    };
    wrong(&|line| line["event"] = json!("scenario-ended"));
    wrong(&|line| line["result"]["verdict"] = json!("passed"));
    wrong(&|line| line["result"]["cases"][0]["trace_id"] = json!("abc"));
    wrong(&|line| {
        line["result"]["cases"][0]["findings"]["failures"][0]["stage"] = json!("nowhere")
    });
    wrong(&|line| {
        line["result"].as_object_mut().expect("an object").remove("name");
    });
}
