//! Changes the names and statuses of spans.

pub(crate) mod config;

pub(crate) use config::Config;
use config::{Code, ToAttributes};

use super::matching::text;
use crate::trace_batch::wire::{Value, put_bytes, put_message, put_uint, raw_fields};
use crate::trace_batch::{AnyValue, Span, TraceBatch};

/// Field numbers of a span's name, attributes and status.
const NAME: u32 = 5;
const ATTRIBUTES: u32 = 9;
const STATUS: u32 = 15;

/// Changes every span that is chosen.
pub(crate) fn process(config: &Config, batch: &TraceBatch) -> TraceBatch {
    batch.change_spans(|resource, scope, span| {
        let is_chosen = config.chosen.has(resource, scope, span);
        is_chosen.then(|| change(config, span)).flatten()
    })
}

/// A span with another name, more attributes and another status; `None` if nothing changes.
fn change(config: &Config, message: &[u8]) -> Option<Vec<u8>> {
    let mut name = named_by_attributes(config, message);
    let mut attributes = Vec::new();
    if let Some(to) = &config.name.to_attributes {
        let before = name.clone().unwrap_or_else(|| Span::new(message).name.to_vec());
        if let Some(new) = extract(config, to, &before, &mut attributes) {
            name = Some(new);
        }
    }
    if name.is_none() && attributes.is_empty() && config.status.is_none() {
        return None;
    }
    let mut out = Vec::with_capacity(message.len() + 64);
    for (number, raw, value) in raw_fields(message) {
        let is_replaced = match (number, value) {
            (NAME, _) => name.is_some(),
            (STATUS, _) => config.status.is_some(),
            (ATTRIBUTES, Value::Bytes(pair)) => {
                attributes.iter().any(|(key, _)| is_of_key(pair, key))
            }
            _ => false,
        };
        if !is_replaced {
            out.extend_from_slice(raw);
        }
    }
    if let Some(name) = &name {
        put_bytes(&mut out, NAME, name);
    }
    for (key, value) in &attributes {
        put_message(&mut out, ATTRIBUTES, |out| {
            put_bytes(out, 1, key.as_bytes());
            put_message(out, 2, |out| put_bytes(out, 1, value.as_bytes()));
        });
    }
    if let Some(status) = &config.status {
        put_message(&mut out, STATUS, |out| {
            if !status.description.is_empty() {
                put_bytes(out, 2, status.description.as_bytes());
            }
            put_uint(
                out,
                3,
                match status.code {
                    Code::Unset => 0,
                    Code::Ok => 1,
                    Code::Error => 2,
                },
            );
        });
    }
    Some(out)
}

/// The name of a span by its attributes, if they are to make it and it has them all.
fn named_by_attributes(config: &Config, message: &[u8]) -> Option<Vec<u8>> {
    let keys = &config.name.from_attributes;
    if keys.is_empty() {
        return None;
    }
    let attributes = Span::new(message).attributes();
    let mut name = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let (_, value) = attributes.raw().find(|(known, _)| *known == key.as_bytes())?;
        if index > 0 {
            name.extend_from_slice(config.name.separator.as_bytes());
        }
        let value: AnyValue<'_> = value.get();
        name.extend_from_slice(&text(value).unwrap_or(b"<unknown-attribute-type>".into()));
    }
    Some(name)
}

/// Takes attributes out of a name; returns the new name, unless it stays.
fn extract(
    config: &Config,
    to: &ToAttributes,
    name: &[u8],
    attributes: &mut Vec<(String, String)>,
) -> Option<Vec<u8>> {
    let mut name = String::from_utf8_lossy(name).into_owned();
    let mut is_new = false;
    for (pattern, groups) in &config.rules {
        if name.is_empty() {
            break;
        }
        let Some(captures) = pattern.captures(&name) else { continue };
        let (mut new, mut at) = (String::new(), 0);
        for (index, group) in groups.iter().enumerate() {
            let found = captures.get(index + 1);
            let value = found.map_or("", |found| found.as_str()).to_owned();
            match attributes.iter_mut().find(|(key, _)| key == group) {
                Some((_, known)) => *known = value,
                None => attributes.push((group.clone(), value)),
            }
            // A group within another, or without a part in the match, has no place of its own in the name.
            if let Some(found) = found.filter(|found| found.start() >= at) {
                new.push_str(&name[at..found.start()]);
                new.push_str(&format!("{{{group}}}"));
                at = found.end();
            }
        }
        new.push_str(&name[at..]);
        if !to.keep_original_name {
            (name, is_new) = (new, true);
        }
        if to.break_after_match {
            break;
        }
    }
    is_new.then(|| name.into_bytes())
}

fn is_of_key(pair: &[u8], key: &str) -> bool {
    raw_fields(pair).any(|(number, _, value)| number == 1 && value == Value::Bytes(key.as_bytes()))
}

#[cfg(test)]
mod tests;
