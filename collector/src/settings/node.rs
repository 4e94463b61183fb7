//! YAML as a tree that knows where each part came from, and the merging of such trees.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};

/// How many nodes a file may have once its aliases are followed.
const MAX_NODES: usize = 100_000;
/// How deep maps and lists may be nested.
const MAX_DEPTH: usize = 64;

/// A place in a config source; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) source: Arc<str>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Location,
    /// The text of a variable that is a list or a map by it, for where text is wanted.
    pub(crate) text: Option<Box<str>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// Source of a scalar's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Style {
    /// Its text: `5` is a number, `true` a boolean.
    Plain,
    /// Quotes make it a string.
    Quoted,
    /// It came out of a reference such as `${env:NAME}`: a string where a string is wanted, else by its text.
    Expanded,
    /// It refers to the variable of this name, which is not set: the text is what there is without it.
    Unset(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Location,
}

/// Error for a text that is not the YAML of a config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub(crate) struct YamlError {
    pub(crate) at: Location,
    pub(crate) problem: String,
}

/// Kind of the part that another one was taken out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// A map.
    Entry,
    /// A list.
    Item,
}

impl Node {
    pub(crate) fn new(value: Value, at: Location) -> Self {
        Self { value, at, text: None }
    }

    /// The list or the map that a variable holds, if it is one; all of it stands where the reference does.
    pub(crate) fn held_by_variable(text: &str, at: &Location) -> Option<Self> {
        let mut node = Self::parse("", text).ok()?;
        if !matches!(node.value, Value::List(_) | Value::Map(_)) {
            return None;
        }
        node.settle(at);
        node.text = Some(text.into());
        Some(node)
    }

    /// Places all of a tree that came out of a variable at a reference to it.
    fn settle(&mut self, at: &Location) {
        self.at = at.clone();
        match &mut self.value {
            Value::Null => {}
            // What came out of a variable may be a secret.
            Value::Scalar(scalar) => {
                let is_text =
                    Scalar { style: Style::Plain, ..scalar.clone() }.resolve() == Resolved::Text;
                if scalar.style == Style::Plain || is_text {
                    scalar.style = Style::Expanded;
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| item.settle(at)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.at = at.clone();
                    node.settle(at);
                }
            }
        }
    }

    /// Reads one YAML document; an empty one is null.
    pub(crate) fn parse(source: &str, text: &str) -> Result<Self, YamlError> {
        let source: Arc<str> = source.into();
        let mut options = granit_parser::Options::default();
        options.set_emit_comments(false);
        let mut builder = Builder {
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            nodes: 0,
            source: Arc::clone(&source),
        };
        let mut root = None;
        while let Some((event, at)) = builder.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                // Nothing behind a last `---`, which generated files have.
                Event::Scalar(text, ScalarStyle::Plain, ..)
                    if root.is_some() && matches!(&*text, "" | "~") => {}
                _ if root.is_some() => {
                    let problem = "a second YAML document begins here; one file is one document";
                    return Err(YamlError { at, problem: problem.into() });
                }
                event => root = Some(builder.node(event, at, 0)?),
            }
        }
        Ok(root.unwrap_or_else(|| Self::new(Value::Null, Location { source, line: 1, column: 1 })))
    }

    /// Lays `over` upon this tree: maps are merged key by key, anything else is replaced.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Map(entries), Value::Map(others)) => {
                for (key, node) in others {
                    match entries.iter_mut().find(|(known, _)| known.name == key.name) {
                        Some((_, known)) => known.merge(node),
                        None => entries.push((key, node)),
                    }
                }
            }
            (value, other) => {
                *value = other;
                self.at = over.at;
            }
        }
    }

    /// The entry of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// As [`Node::get`], to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|(key, _)| key.name == name).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// Takes the part with this path out; of an item of a list, those behind it move up. Returns what it was taken out of, if it was there.
    pub(crate) fn remove(&mut self, path: &[&str]) -> Option<Removed> {
        let (last, before) = path.split_last()?;
        let mut node = self;
        for name in before {
            let next = match &mut node.value {
                Value::List(items) => {
                    name.parse().ok().and_then(|index: usize| items.get_mut(index))
                }
                Value::Map(entries) => {
                    entries.iter_mut().find(|(key, _)| key.name == *name).map(|(_, node)| node)
                }
                Value::Null | Value::Scalar(_) => None,
            };
            node = next?;
        }
        match &mut node.value {
            Value::Map(entries) => {
                let count = entries.len();
                entries.retain(|(key, _)| key.name != *last);
                (entries.len() < count).then_some(Removed::Entry)
            }
            Value::List(items) => {
                let index = last.parse().ok().filter(|index| *index < items.len())?;
                items.remove(index);
                Some(Removed::Item)
            }
            Value::Null | Value::Scalar(_) => None,
        }
    }

    /// Returns whether both are the same text.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
            _ => false,
        }
    }

    /// Returns the place of the part with this path (keys joined by `.`, or as far down as it exists).
    pub(crate) fn locate<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> &Location {
        let mut node = self;
        for name in path {
            let next = match &node.value {
                Value::List(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
                _ => node.get(name),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        &node.at
    }

    /// Calls `see` for each variable below that is referred to and not set, with the path of keys to the reference.
    pub(crate) fn each_unset(
        &self,
        path: &mut Vec<String>,
        see: &mut impl FnMut(&[String], &Self, &str),
    ) {
        match &self.value {
            Value::Scalar(Scalar { style: Style::Unset(name), .. }) => see(path, self, name),
            Value::Null | Value::Scalar(_) => {}
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    item.each_unset(path, see);
                    path.pop();
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    path.push(key.name.clone());
                    value.each_unset(path, see);
                    path.pop();
                }
            }
        }
    }

    /// Describes the kind of the value, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing (null)".into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Scalar(Scalar { style: Style::Unset(name), .. }) => {
                format!("a reference to the variable `{name}`, which is not set")
            }
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => "nothing (null)".into(),
                Resolved::Bool(value) => format!("the boolean `{value}`"),
                Resolved::Int(_) | Resolved::Float(_) if scalar.style == Style::Plain => {
                    format!("the number `{}`", scalar.text)
                }
                // What came out of a variable may be a secret.
                _ if scalar.style == Style::Expanded => "text from a `${…}` reference".into(),
                _ => format!("the text `{}`", scalar.text),
            },
        }
    }
}

/// A scalar by YAML's core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

impl Scalar {
    /// The type that the scalar's text has.
    pub(crate) fn resolve(&self) -> Resolved {
        if matches!(self.style, Style::Quoted | Style::Unset(_)) {
            return Resolved::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
            "true" | "True" | "TRUE" => return Resolved::Bool(true),
            "false" | "False" | "FALSE" => return Resolved::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" => return Resolved::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
            _ => {}
        }
        let digits = self.text.strip_prefix(['+', '-']).unwrap_or(&self.text);
        if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            return Resolved::Text;
        }
        // As the Collector's reader has it: `1_000` is a thousand, and `062` octal.
        let digits = digits.replace('_', "");
        let sign = if self.text.starts_with('-') { "-" } else { "" };
        let prefixes =
            [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2), ("0", 8)];
        for (prefix, radix) in prefixes {
            if let Some(digits) = digits.strip_prefix(prefix)
                && digits.starts_with(|first: char| first.is_digit(radix))
                && let Ok(value) = i128::from_str_radix(&format!("{sign}{digits}"), radix)
            {
                return Resolved::Int(value);
            }
        }
        let number = format!("{sign}{digits}");
        match (number.parse(), number.parse()) {
            (Ok(value), _) => Resolved::Int(value),
            (_, Ok(value)) => Resolved::Float(value),
            _ => Resolved::Text,
        }
    }
}

struct Builder<'a, I: granit_parser::BorrowedInput<'a>> {
    parser: Parser<'a, I>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    source: Arc<str>,
}

impl<'a, I: granit_parser::BorrowedInput<'a>> Builder<'a, I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Location)>, YamlError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.location(&span.start)))),
            Some(Err(error)) => {
                let at = self.location(error.marker());
                Err(YamlError { at, problem: format!("not YAML: {}", error.info()) })
            }
        }
    }

    fn location(&self, marker: &granit_parser::Marker) -> Location {
        Location { source: Arc::clone(&self.source), line: marker.line(), column: marker.col() + 1 }
    }

    fn node(&mut self, event: Event<'a>, at: Location, depth: usize) -> Result<Node, YamlError> {
        self.count(1, &at)?;
        if depth > MAX_DEPTH {
            let problem = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(YamlError { at, problem });
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !is_string;
                let style = if plain { Style::Plain } else { Style::Quoted };
                let scalar = Scalar { text: text.into_owned(), style };
                let value = match scalar.resolve() {
                    Resolved::Null => Value::Null,
                    _ => Value::Scalar(scalar),
                };
                (value, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Some((Event::SequenceEnd, _)) | None => break,
                        Some((event, at)) => items.push(self.node(event, at, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    let problem = "an alias to an anchor that is not complete yet";
                    return Err(YamlError { at, problem: problem.into() });
                };
                self.count(node.size(), &at)?;
                return Ok(node);
            }
            _ => return Err(YamlError { at, problem: "not a YAML value".into() }),
        };
        let node = Node::new(value, at);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, at) = match self.next()? {
                Some((Event::MappingEnd, _)) | None => break,
                Some(next) => next,
            };
            let Event::Scalar(name, style, ..) = event else {
                return Err(YamlError { at, problem: "a key must be plain text".into() });
            };
            let Some((event, value_at)) = self.next()? else { break };
            let node = self.node(event, value_at, depth + 1)?;
            if *name == *"<<" && style == ScalarStyle::Plain {
                merged.push(node);
                continue;
            }
            if let Some((known, _)) = entries.iter().find(|(key, _)| key.name == *name) {
                let problem = format!("key `{name}` is given twice; the first is at {}", known.at);
                return Err(YamlError { at, problem });
            }
            entries.push((Key { name: name.into_owned(), at }, node));
        }
        for node in merged {
            let nodes = match node.value {
                Value::List(nodes) => nodes,
                _ => vec![node],
            };
            for node in nodes {
                let Value::Map(others) = node.value else {
                    let problem = "`<<` takes a map or a list of maps".into();
                    return Err(YamlError { at: node.at, problem });
                };
                for (key, node) in others {
                    if entries.iter().all(|(known, _)| known.name != key.name) {
                        entries.push((key, node));
                    }
                }
            }
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, nodes: usize, at: &Location) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let problem = format!("more than {MAX_NODES} values");
            return Err(YamlError { at: at.clone(), problem });
        }
        Ok(())
    }
}

impl Node {
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
            Value::Null | Value::Scalar(_) => 0,
        }
    }
}
