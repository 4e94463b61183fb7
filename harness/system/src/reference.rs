//! References such as `${endpoint:collector.otlp-grpc}` in a workload's settings: reading and replacing them.
//!
//! What a reference becomes is the environment's business.

use std::fmt;

use crate::Workload;
use harness_core::source;

/// Something that only the environment knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `${endpoint:WORKLOAD.PORT}`: an edge, as a URL.
    Endpoint {
        /// Name of the callee.
        workload: String,
        /// Name of its port.
        port: String,
    },
    /// `${address:WORKLOAD.PORT}`: an edge, as `host:port`.
    Address {
        /// Name of the callee.
        workload: String,
        /// Name of its port.
        port: String,
    },
    /// `${listen:PORT}`: what the workload itself is to bind, as `host:port`.
    Listen {
        /// Name of its own port.
        port: String,
    },
    /// `${host:PORT}`: what the workload itself is to bind, without the number.
    Host {
        /// Name of its own port.
        port: String,
    },
    /// `${port:PORT}`: what the workload itself is to bind, as a number.
    Port {
        /// Name of its own port.
        port: String,
    },
    /// `${file:NAME}`: the path of one of the workload's own files.
    File {
        /// Its name.
        name: String,
    },
}

impl Reference {
    /// Returns the callee and its port, if the reference is an edge.
    pub fn edge(&self) -> Option<(&str, &str)> {
        match self {
            Self::Endpoint { workload, port } | Self::Address { workload, port } => {
                Some((workload, port))
            }
            Self::Listen { .. } | Self::Host { .. } | Self::Port { .. } | Self::File { .. } => None,
        }
    }

    /// Returns the port, if the reference is to one of the workload's own.
    pub fn own_port(&self) -> Option<&str> {
        match self {
            Self::Listen { port } | Self::Host { port } | Self::Port { port } => Some(port),
            Self::Endpoint { .. } | Self::Address { .. } | Self::File { .. } => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { workload, port } => write!(f, "${{endpoint:{workload}.{port}}}"),
            Self::Address { workload, port } => write!(f, "${{address:{workload}.{port}}}"),
            Self::Listen { port } => write!(f, "${{listen:{port}}}"),
            Self::Host { port } => write!(f, "${{host:{port}}}"),
            Self::Port { port } => write!(f, "${{port:{port}}}"),
            Self::File { name } => write!(f, "${{file:{name}}}"),
        }
    }
}

/// A text with references in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(Reference),
}

/// Error for a text with an invalid reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The braces do not close.
    #[error("`{start}` has no closing brace; write `$${{` for a literal `${{`")]
    Unclosed {
        /// The text from `${` on, shortened.
        start: String,
    },
    /// Not one of the kinds of reference.
    #[error("`{reference}` is not a valid reference: {hint}; write `$${rest}` to pass it on as it is", rest = &reference[1..])]
    UnknownKind {
        /// The reference, with its braces.
        reference: String,
        /// The nearest kind, or all there are.
        hint: String,
    },
    /// An edge without its port.
    #[error("`{reference}` names no port; write `${{{kind}:WORKLOAD.PORT}}`")]
    NoPort {
        /// The reference, with its braces.
        reference: String,
        /// `endpoint` or `address`.
        kind: String,
    },
    /// Nothing after the colon.
    #[error("`{reference}` names nothing; write {form}")]
    Empty {
        /// The reference, with its braces.
        reference: String,
        /// Form in which the reference is written.
        form: &'static str,
    },
}

const KINDS: [(&str, &str); 6] = [
    ("endpoint", "`${endpoint:WORKLOAD.PORT}`"),
    ("address", "`${address:WORKLOAD.PORT}`"),
    ("listen", "`${listen:PORT}`"),
    ("host", "`${host:PORT}`"),
    ("port", "`${port:PORT}`"),
    ("file", "`${file:NAME}`"),
];

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// The first `${…}` in it that is not a valid reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(start) = rest.find("${") {
            let before = &rest[..start];
            let inside = &rest[start + 2..];
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = inside;
                continue;
            }
            literal.push_str(before);
            let Some(end) = inside.find('}') else {
                let start = rest[start..].chars().take(40).collect();
                return Err(ReferenceError::Unclosed { start });
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Reference(reference(&inside[..end])?));
            rest = &inside[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// Iterates over the references in the text, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Reference(reference) => Some(reference),
        })
    }

    /// Expands the text, with `replace` for each reference.
    ///
    /// # Errors
    /// The first error of `replace`.
    pub fn expand<E>(
        &self,
        mut replace: impl FnMut(&Reference) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Reference(reference) => text.push_str(&replace(reference)?),
            }
        }
        Ok(text)
    }
}

/// Replaces the references for which `value` returns a text, and keeps the others; literal text stays literal.
///
/// # Errors
/// The first `${…}` that is not a valid reference.
pub fn replace(
    text: &str,
    value: impl Fn(&Reference) -> Option<String>,
) -> Result<String, ReferenceError> {
    let parts = Template::parse(text)?.0;
    let parts = parts.into_iter().map(|part| match part {
        Part::Text(literal) => escape(&literal),
        Part::Reference(reference) => {
            value(&reference).map_or_else(|| reference.to_string(), |known| escape(&known))
        }
    });
    Ok(parts.collect())
}

/// Replaces each reference for which `to` returns another one; literal text stays literal.
///
/// # Errors
/// The first `${…}` that is not a valid reference.
pub fn rewrite(
    text: &str,
    to: impl Fn(&Reference) -> Option<Reference>,
) -> Result<String, ReferenceError> {
    let parts = Template::parse(text)?.0.into_iter().map(|part| match part {
        Part::Text(literal) => escape(&literal),
        Part::Reference(reference) => to(&reference).unwrap_or(reference).to_string(),
    });
    Ok(parts.collect())
}

/// Writes a text so that reading it as a template gives the text back.
pub fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

/// Iterates over the places of a workload that may hold references, each described and with its text.
pub fn places(workload: &Workload) -> impl Iterator<Item = (String, &str)> {
    let args = workload.args.iter().enumerate();
    let args = args.map(|(index, text)| (format!("args[{index}]"), text.as_str()));
    let env = workload.env.iter().map(|(name, text)| (format!("env.{name}"), text.as_str()));
    let files = workload.files.iter().filter(|(_, file)| file.expand);
    let files = files.map(|(name, file)| (format!("files.{name}"), file.contents.as_str()));
    args.chain(env).chain(files)
}

/// Returns all valid references of a workload; validation reports the invalid ones.
pub fn references(workload: &Workload) -> Vec<Reference> {
    let templates = places(workload).filter_map(|(_, text)| Template::parse(text).ok());
    templates.flat_map(|template| template.references().cloned().collect::<Vec<_>>()).collect()
}

fn reference(inside: &str) -> Result<Reference, ReferenceError> {
    let whole = || format!("${{{inside}}}");
    let (kind, rest) = inside.split_once(':').unwrap_or((inside, ""));
    let Some((_, form)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
        let kinds = KINDS.map(|(known, _)| known);
        let hint = match source::variable(inside) {
            Some(name) => format!(
                "your environment's variables are not read here; list `{name}` under `inherit`, which hands it on, or write its value"
            ),
            None => source::nearest_or_known(kind, kinds).unwrap_or_default(),
        };
        return Err(ReferenceError::UnknownKind { reference: whole(), hint });
    };
    if rest.is_empty() {
        return Err(ReferenceError::Empty { reference: whole(), form });
    }
    let name = rest.to_owned();
    match kind {
        "listen" => return Ok(Reference::Listen { port: name }),
        "host" => return Ok(Reference::Host { port: name }),
        "port" => return Ok(Reference::Port { port: name }),
        "file" => return Ok(Reference::File { name }),
        _ => {}
    }
    match rest.split_once('.') {
        Some((workload, port)) if !workload.is_empty() && !port.is_empty() => {
            let (workload, port) = (workload.to_owned(), port.to_owned());
            Ok(match kind {
                "endpoint" => Reference::Endpoint { workload, port },
                _ => Reference::Address { workload, port },
            })
        }
        _ => Err(ReferenceError::NoPort { reference: whole(), kind: kind.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn expanded(text: &str) -> String {
        let template = Template::parse(text).unwrap();
        template.expand(|reference| Ok::<_, Infallible>(format!("<{reference}>"))).unwrap()
    }

    fn problem(text: &str) -> String {
        Template::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_of_reference_is_read_and_replaced_where_it_stands() {
        for text in [
            "${endpoint:collector.otlp-grpc}",
            "${address:sample-app-1.http}",
            "${address:collector.otlp/x-grpc}",
            "${listen:http}",
            "${port:http}",
            "${file:collector.yaml}",
        ] {
            assert_eq!(expanded(&format!("a {text} b")), format!("a <{text}> b"));
        }
        assert_eq!(expanded("${port:a}${port:b}"), "<${port:a}><${port:b}>");
    }

    #[test]
    fn text_without_references_and_escaped_text_stays_as_it_is() {
        assert_eq!(expanded("costs $5, $HOME and $$"), "costs $5, $HOME and $$");
        assert_eq!(expanded("$${env:KEY} and ${port:p}"), "${env:KEY} and <${port:p}>");
        assert_eq!(expanded(&escape("${env:KEY}")), "${env:KEY}");
    }

    #[test]
    fn a_wrong_reference_is_reported_with_its_remedy() {
        assert_eq!(
            problem("${endpont:a.b}"),
            "`${endpont:a.b}` is not a valid reference: did you mean `endpoint`?; write `$${endpont:a.b}` to pass it on as it is"
        );
        assert_eq!(
            problem("${env:HOME}"),
            "`${env:HOME}` is not a valid reference: your environment's variables are not read here; list `HOME` under \
             `inherit`, which hands it on, or write its value; write `$${env:HOME}` to pass it on as it is"
        );
        for variable in ["${HOME}", "${HOME:-/root}", "${env:HOME:-/root}"] {
            assert!(problem(variable).contains("list `HOME` under `inherit`"), "{variable}");
        }
        assert_eq!(
            problem("${endpoint:collector}"),
            "`${endpoint:collector}` names no port; write `${endpoint:WORKLOAD.PORT}`"
        );
        assert_eq!(problem("${port:}"), "`${port:}` names nothing; write `${port:PORT}`");
        assert_eq!(
            problem("x ${file"),
            "`${file` has no closing brace; write `$${` for a literal `${`"
        );
    }
}
