//! Pages with parts that a program writes.

#![expect(clippy::print_stdout, reason = "that is what this is for")]

use std::{fs, path::Path};

use anyhow::Context as _;

pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Writes a part of a page of docs/: what is between `<!-- begin NAME … -->` and `<!-- end NAME -->`.
pub(crate) fn write(page: &str, name: &str, part: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let missing = || format!("{page} has no part `{name}`");
    let begin = text.find(&format!("<!-- begin {name} ")).with_context(missing)?;
    let begin = begin + text[begin..].find("-->").with_context(missing)? + "-->".len();
    let end = text.find(&format!("<!-- end {name} -->")).with_context(missing)?;
    let written = format!("{}\n\n{}\n\n{}", &text[..begin], part.trim(), &text[end..]);
    fs::write(&path, written).with_context(|| path.display().to_string())
}

/// Makes a table of Markdown of a head and rows.
pub(crate) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = line(&vec!["---".to_owned(); head.len()]);
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}", line(head))
}

/// The day, in UTC, as it is written of measurements.
pub(crate) fn today() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()[..10].to_owned()
}
