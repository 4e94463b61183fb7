//! How long Datadog's texts may be.

/// Bytes of a key in meta and metrics; a longer one is cut, and ends in three points.
pub(super) const MAX_KEY_BYTES: usize = 200;
/// Bytes of a value in meta; a longer one is cut, and ends in three points.
pub(super) const MAX_VALUE_BYTES: usize = 25_000;
/// Bytes of a resource name.
pub(super) const MAX_RESOURCE_BYTES: usize = 5000;
/// Bytes of a type.
pub(super) const MAX_TYPE_BYTES: usize = 100;
/// Bytes of a service's name, and of an operation's.
pub(super) const MAX_NAME_BYTES: usize = 100;
/// Characters of what is made a tag.
pub(super) const MAX_TAG_CHARS: usize = 200;
