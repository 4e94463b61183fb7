//! Objects as they come from the API: only what attributes are made of is read.

use std::borrow::Cow;

use kube::Resource;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::Deserialize;

use super::super::kind::Kind;
use super::super::object::{Object, Owner, Spec, Status};

/// An object of any kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Item {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

impl Resource for Item {
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.of_resource().2.into()
    }

    fn group(kind: &Kind) -> Cow<'_, str> {
        kind.of_resource().0.into()
    }

    fn version(_: &Kind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.of_resource().1.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl From<Item> for Object {
    fn from(item: Item) -> Self {
        let metadata = item.metadata;
        let created = metadata.creation_timestamp.map(|time| time.0);
        let owners = metadata.owner_references.unwrap_or_default().into_iter();
        Self {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created: created.map_or(0, |time| time.as_second()),
            created_text: created.map(|time| time.to_string()).unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            owners: owners
                .map(|owner| Owner {
                    kind: owner.kind,
                    name: owner.name,
                    uid: owner.uid,
                    is_controller: owner.controller == Some(true),
                })
                .collect(),
            spec: item.spec,
            status: item.status,
        }
    }
}
