//! The JSON Schema of scenario files, for editors.

/// Returns the JSON schema of scenario files, pretty-printed, with a final newline.
pub fn json() -> String {
    let schema = schemars::schema_for!(super::file::ScenarioFile);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}
