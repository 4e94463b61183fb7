//! The page that shows traces to people: the report of a run as one file, and the intake's own page. Both are the same program in the
//! browser (`page/front/`); they differ in where its data come from.
//!
//! Texts of spans are whatever somebody sent. In a file they are only in base64, and in the browser they are only ever set as text.

use std::io::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

pub use self::{
    blocks::{BlockRange, Blocks},
    model::{Names, Row, TraceView},
    sent::Sent,
};

mod blocks;
mod model;
mod sent;
pub mod serve;
#[cfg(test)]
mod tests;

/// Style sheets and scripts of the page, in the order in which they are put together. The scripts are one module in several files.
const STYLE: &str = include_str!("page/front/page.css");
const SCRIPTS: [&str; 13] = [
    include_str!("page/front/dom.js"),
    include_str!("page/front/source.js"),
    include_str!("page/front/text.js"),
    include_str!("page/front/tree.js"),
    include_str!("page/front/list.js"),
    include_str!("page/front/graph.js"),
    include_str!("page/front/span.js"),
    include_str!("page/front/trace.js"),
    include_str!("page/front/ledger.js"),
    include_str!("page/front/search.js"),
    include_str!("page/front/views.js"),
    include_str!("page/front/compare.js"),
    include_str!("page/front/main.js"),
];

/// Nothing may be fetched, sent or put into the page as markup.
const POLICY_OF_FILE: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                              base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'";
/// The same, but that the intake itself may be asked.
const POLICY_OF_INTAKE: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                                connect-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'";

/// Most characters of the plain text that a file begins with.
const MAX_PLAIN: usize = 64 << 10;

/// Writes a report as one HTML file.
///
/// `plain` is what a reader without scripts sees; `index` is read at once, `blocks` when one of their traces is looked at.
///
/// # Errors
///
/// When `out` cannot be written, or `index` is no JSON.
pub fn write_file(
    out: &mut impl Write,
    title: &str,
    plain: &str,
    index: &impl Serialize,
    blocks: &Blocks,
) -> io::Result<()> {
    head(out, title, POLICY_OF_FILE)?;
    let plain: String = plain.chars().take(MAX_PLAIN).collect();
    writeln!(out, "<body>\n<pre id=\"plain\">{}</pre>", escaped(&plain))?;
    data(out, "index", &blocks::deflate(&serde_json::to_vec(index)?, blocks.effort())?)?;
    for (number, block) in blocks.compressed().iter().enumerate() {
        data(out, &format!("block-{number}"), block)?;
    }
    foot(out)
}

/// Returns the intake's page.
pub fn live() -> String {
    let mut page = Vec::new();
    let written = head(&mut page, "tracecheck intake", POLICY_OF_INTAKE)
        .and_then(|()| {
            writeln!(page, "<body>\n<pre id=\"plain\">This page needs JavaScript.</pre>")
        })
        .and_then(|()| foot(&mut page));
    match written {
        Ok(()) => String::from_utf8_lossy(&page).into_owned(),
        Err(error) => format!("the page cannot be written: {error}"),
    }
}

fn head(out: &mut impl Write, title: &str, policy: &str) -> io::Result<()> {
    let title = escaped(title);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n"
    )
}

/// Base64 has no character that HTML gives a meaning to.
fn data(out: &mut impl Write, id: &str, bytes: &[u8]) -> io::Result<()> {
    writeln!(
        out,
        "<script type=\"application/octet-stream\" id=\"{id}\">{}</script>",
        STANDARD.encode(bytes)
    )
}

fn foot(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "<script type=\"module\">")?;
    for script in SCRIPTS {
        out.write_all(script.as_bytes())?;
    }
    writeln!(out, "</script>\n</body>\n</html>")
}

/// A text as HTML shows it; control characters, and those that turn the direction of what follows, are shown as U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(letter),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}
