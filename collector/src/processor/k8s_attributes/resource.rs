//! Attributes of one resource, read from and added to its message.

use crate::trace_batch::wire::{Value, put_bytes, put_message, raw_fields};

/// A resource, and what is to be added to it.
pub(super) struct Resource<'a> {
    message: &'a [u8],
    /// Attributes that it has, each with its text, if it is one; those without any value are not among them.
    has: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// Integers that it has.
    integers: Vec<(&'a [u8], i64)>,
    added: Vec<(String, Added)>,
}

enum Added {
    Text(String),
    List(String),
}

impl<'a> Resource<'a> {
    pub(super) fn read(message: &'a [u8]) -> Self {
        let (mut has, mut integers) = (Vec::new(), Vec::new());
        for (number, _, value) in raw_fields(message) {
            let (1, Value::Bytes(pair)) = (number, value) else { continue };
            let (key, value) = pair_of(pair);
            match value {
                None | Some((1, Value::Bytes(b""))) => {}
                Some((1, Value::Bytes(text))) => has.push((key, Some(text))),
                Some((3, Value::Varint(number))) => {
                    has.push((key, None));
                    integers.push((key, number.cast_signed()));
                }
                Some(_) => has.push((key, None)),
            }
        }
        Self { message, has, integers, added: Vec::new() }
    }

    /// The text that an attribute has, be it added or not.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let own = self.has.iter().find(|(key, _)| *key == name.as_bytes());
        match own {
            Some((_, text)) => text.and_then(|text| std::str::from_utf8(text).ok()),
            None => self.added.iter().find_map(|(key, value)| match value {
                Added::Text(text) if key == name => Some(text.as_str()),
                _ => None,
            }),
        }
    }

    /// The number that an attribute has, written as a number or as text.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let own = self.integers.iter().find(|(key, _)| *key == name.as_bytes());
        own.map(|(_, number)| *number).or_else(|| self.text(name)?.parse().ok())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.has.iter().any(|(key, _)| *key == name.as_bytes())
            || self.added.iter().any(|(key, _)| key == name)
    }

    /// Adds an attribute, unless there is one of that name.
    pub(super) fn put(&mut self, name: &str, value: &str) {
        if !self.has(name) {
            self.added.push((name.to_owned(), Added::Text(value.to_owned())));
        }
    }

    /// Adds an attribute that is a list of one text, unless there is one of that name.
    pub(super) fn put_list(&mut self, name: &str, value: &str) {
        if !self.has(name) {
            self.added.push((name.to_owned(), Added::List(value.to_owned())));
        }
    }

    /// The message with what was added.
    pub(super) fn written(&self) -> Vec<u8> {
        let size = |(key, value): &(String, Added)| {
            let (Added::Text(value) | Added::List(value)) = value;
            key.len() + value.len() + 16
        };
        let added = self.added.iter().map(size).sum::<usize>();
        let mut out = Vec::with_capacity(self.message.len() + added);
        for (number, raw, value) in raw_fields(self.message) {
            let key = match (number, value) {
                (1, Value::Bytes(pair)) => pair_of(pair).0,
                _ => b"",
            };
            // One without a value gives way.
            if key.is_empty() || !self.added.iter().any(|(name, _)| name.as_bytes() == key) {
                out.extend_from_slice(raw);
            }
        }
        for (name, value) in &self.added {
            put_message(&mut out, 1, |out| {
                put_bytes(out, 1, name.as_bytes());
                put_message(out, 2, |out| match value {
                    Added::Text(text) => put_bytes(out, 1, text.as_bytes()),
                    Added::List(text) => put_message(out, 5, |out| {
                        put_message(out, 1, |out| put_bytes(out, 1, text.as_bytes()));
                    }),
                });
            });
        }
        out
    }
}

/// Key of an attribute, and the field of its value, if it has one.
fn pair_of(pair: &[u8]) -> (&[u8], Option<(u32, Value<'_>)>) {
    let (mut key, mut value) = (&b""[..], None);
    for (number, _, field) in raw_fields(pair) {
        match (number, field) {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => {
                value = raw_fields(bytes).map(|(number, _, field)| (number, field)).last();
            }
            _ => {}
        }
    }
    (key, value)
}
