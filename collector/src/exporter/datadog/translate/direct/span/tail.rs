//! The entries that a span has behind its own attributes, up to its resource's.

use std::borrow::Cow;

use super::super::resource::Resource;
use crate::exporter::datadog::payload::{META, put_entry};
use crate::exporter::datadog::translate::limits::MAX_VALUE_BYTES;
use crate::exporter::datadog::translate::normalize;
use crate::exporter::datadog::translate::span::status_name;
use crate::trace_batch::{Scope, StatusCode};

/// Entries that most spans of a scope have behind their own attributes.
#[derive(Default)]
pub(super) struct Tail<'a> {
    /// The scope's name and version, and the status; none before the first.
    of: Option<(&'a [u8], &'a [u8], StatusCode)>,
    pub(super) encoded: Vec<u8>,
    /// Offset of the resource's entries.
    pub(super) resource: usize,
}

impl<'a> Tail<'a> {
    /// The tail of spans of a scope that have this status.
    pub(super) fn get(
        &mut self,
        resource: &Resource<'_>,
        scope: &Scope<'a>,
        status: StatusCode,
    ) -> &Self {
        let is_same = self.of.is_some_and(|(name, version, of)| {
            of == status && std::ptr::eq(name, scope.name) && std::ptr::eq(version, scope.version)
        });
        if !is_same {
            self.of = Some((scope.name, scope.version, status));
            let out = &mut self.encoded;
            out.clear();
            put_unless_empty(out, b"version", &resource.version);
            put_scope(out, scope, resource.scope_keys);
            put_entry(out, META, b"otel.status_code", status_name(status));
            put_unless_empty(out, b"env", &resource.env);
            self.resource = out.len();
            out.extend_from_slice(&resource.encoded);
        }
        self
    }
}

pub(super) fn put_scope(out: &mut Vec<u8>, scope: &Scope<'_>, keys: &[(&str, &str)]) {
    for (name, version) in keys {
        put_unless_empty(out, name.as_bytes(), scope.name);
        put_unless_empty(out, version.as_bytes(), scope.version);
    }
}

pub(super) fn put_unless_empty(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        put_cut(out, key, value);
    }
}

/// Writes an entry, cut to what Datadog keeps.
pub(super) fn put_cut(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_entry(out, META, key, &normalize::cut(Cow::Borrowed(value), MAX_VALUE_BYTES));
}
