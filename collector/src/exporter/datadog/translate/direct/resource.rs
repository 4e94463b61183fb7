//! The part of a resource in each of its spans, encoded once.

use super::Context;
use super::key::Table;
use crate::exporter::datadog::model::Text;
use crate::exporter::datadog::payload::{META, put_entry};
use crate::exporter::datadog::translate::attributes::{Attrs, Both, Filter};
use crate::exporter::datadog::translate::concepts::{ENV, VERSION};
use crate::exporter::datadog::translate::known::{class, number, place};
use crate::exporter::datadog::translate::limits::MAX_VALUE_BYTES;
use crate::exporter::datadog::translate::table::Class;
use crate::exporter::datadog::translate::{agent, host, naming, normalize};
use crate::trace_batch::go_text::as_text;

/// A resource's part in each of its spans.
pub(super) struct Resource<'a> {
    /// Its attributes as entries of a span's meta, in the order of the wire.
    pub(super) entries: Vec<Entry<'a>>,
    /// All entries, encoded.
    pub(super) encoded: Vec<u8>,
    pub(super) table: Table,
    pub(super) filter: Filter,
    pub(super) service: Text<'a>,
    pub(super) version: Text<'a>,
    pub(super) env: Text<'a>,
    /// Whether spans may have an environment of their own: the payload has one already.
    pub(super) has_env: bool,
    pub(super) has_db_name: bool,
    /// Under which keys its spans have their scope's name and version.
    pub(super) scope_keys: &'static [(&'static str, &'static str)],
}

/// One of them.
pub(super) struct Entry<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Text<'a>,
    /// Its rank among peer tags.
    pub(super) peer: Option<u16>,
}

impl<'a> Resource<'a> {
    /// None for a resource that has anything unusual; `full` has its container tags too.
    pub(super) fn new(
        full: &Attrs<'a>,
        attributes: &Attrs<'a>,
        context: Context<'a>,
    ) -> Option<Self> {
        let none = Attrs::default();
        let both = Both { span: &none, resource: attributes };
        let mut resource = Self {
            entries: Vec::with_capacity(attributes.iter().len()),
            encoded: Vec::with_capacity(512),
            table: Table::default(),
            filter: Filter::default(),
            service: naming::service(both),
            version: both.normal(VERSION),
            env: normalize::tag_value(both.normal(ENV)),
            has_env: false,
            has_db_name: false,
            scope_keys: context.settings.scope_keys(),
        };
        resource.has_env = !normalize::tag_value(attributes.concept(ENV)).is_empty();
        // Without one a payload's host may be given by one of its spans.
        if host::hostname(full, &context.settings.hostname).is_empty() {
            return None;
        }
        resource.table.reset(attributes.iter().len());
        for (key, value) in attributes.iter() {
            if context.settings.obfuscation.covers(key) {
                return None;
            }
            let mut value = as_text(&value);
            let class = class(key, number(key, place(key)));
            match class {
                Class::DbName => resource.has_db_name = true,
                Class::PeerService => value = agent::service_tag(value),
                Class::StatusCode
                | Class::GrpcCode
                | Class::Url
                | Class::Query
                | Class::Header
                | Class::Unusual => return None,
                Class::Skipped | Class::Same | Class::Renamed(_) | Class::OfResource => {}
            }
            let Some(key) = class.key(key) else { continue };
            let entries = &resource.entries;
            if value.len() > MAX_VALUE_BYTES
                || resource.table.len() == usize::from(u16::MAX)
                || resource.table.insert(key, |index| entries[index].key).is_some()
            {
                return None;
            }
            resource.filter.set(place(key));
            put_entry(&mut resource.encoded, META, key, &value);
            let peer = context.counting.and_then(|counting| counting.peer_tag(key));
            resource.entries.push(Entry { key, value, peer });
        }
        Some(resource)
    }
}
