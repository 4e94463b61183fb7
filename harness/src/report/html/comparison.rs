//! The report of two runs that were compared: the same page, with another index and no traces.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde::Serialize;

use super::HtmlError;
use crate::{
    compare::Comparison,
    intake::page::{self, Blocks},
    report,
};

/// All that the page reads.
#[derive(Serialize)]
struct Index<'a> {
    kind: &'static str,
    version: &'static str,
    /// Milliseconds since the Unix epoch.
    at: u64,
    services: [&'static str; 0],
    traces: [&'static str; 0],
    comparison: &'a Comparison,
}

/// Writes the report of two runs that were compared to `path`.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_comparison(path: &Path, comparison: &Comparison) -> Result<(), HtmlError> {
    let title = format!("{}: two runs compared by tracecheck", comparison.outcome.name());
    let text = report::compare::render(comparison, false, usize::MAX);
    let index = Index {
        kind: "compare",
        version: env!("CARGO_PKG_VERSION"),
        at: super::now(),
        services: [],
        traces: [],
        comparison,
    };
    let mut out = BufWriter::new(File::create(path)?);
    page::write_file(&mut out, &title, &text, &index, &Blocks::new(0))?;
    Ok(out.flush()?)
}
