//! The messages of an OTLP trace request: their fields' names in JSON, numbers in protobuf, and kinds.

/// A message.
pub(super) struct Message {
    fields: &'static [Field],
    /// Whether its fields exclude each other: the last one counts.
    pub(super) is_oneof: bool,
    /// How many bytes its length is expected to take; a body whose length takes others is moved.
    pub(super) length_bytes: usize,
}

/// A field of a message.
pub(super) struct Field {
    /// In camelCase.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// Type of a field, in JSON and in protobuf.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Text; if it is empty it is left out.
    Text,
    /// Text that is a value, and so is written even if it is empty.
    Value,
    /// Hexadecimal digits; bytes.
    Id,
    /// Base64; bytes.
    Bytes,
    Bool,
    /// A varint of 32 bits.
    Uint,
    /// A varint of 64 bits with a sign; written even if it is zero.
    Int,
    Fixed32,
    Fixed64,
    /// Written even if it is zero.
    Double,
    /// A number, or the name at that position.
    Enumeration(&'static [&'static str]),
    Message(&'static Message),
    /// An array of objects; as many messages.
    Messages(&'static Message),
    /// An array of texts, written even if they are empty.
    Texts,
}

impl Kind {
    /// Describes the problem of a value that is not of this kind.
    pub(super) fn problem(self) -> &'static str {
        match self {
            Self::Text | Self::Value => "is not a string",
            Self::Id => "is not an id in hexadecimal digits",
            Self::Bytes => "is not base64",
            Self::Bool => "is not a boolean",
            Self::Uint | Self::Fixed32 => {
                "is not an unsigned integer of 32 bits, or a string of one"
            }
            Self::Fixed64 => "is not an unsigned integer, or a string of one",
            Self::Int => "is not an integer, or a string of one",
            Self::Double => "is not a number",
            Self::Enumeration(_) => "is neither the name nor the number of a value",
            Self::Message(_) => "is not an object",
            Self::Messages(_) | Self::Texts => "is not an array",
        }
    }
}

impl Message {
    const fn new(length_bytes: usize, fields: &'static [Field]) -> Self {
        Self { fields, is_oneof: false, length_bytes }
    }

    /// The field of that name, in camelCase or in snake_case.
    pub(super) fn field(&self, name: &[u8]) -> Option<&'static Field> {
        self.fields.iter().find(|field| is_name(field.name.as_bytes(), name))
    }
}

/// Returns whether `given` is `name`, or `name` in snake_case.
fn is_name(name: &[u8], given: &[u8]) -> bool {
    if name == given {
        return true;
    }
    let mut rest = given;
    for letter in name {
        if letter.is_ascii_uppercase() {
            match rest {
                [b'_', others @ ..] => rest = others,
                _ => return false,
            }
        }
        match rest {
            [first, others @ ..] if *first == letter.to_ascii_lowercase() => rest = others,
            _ => return false,
        }
    }
    rest.is_empty()
}

const fn field(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { name, number, kind }
}

/// `ExportTraceServiceRequest`.
pub(super) static REQUEST: Message =
    Message::new(1, &[field(1, "resourceSpans", Kind::Messages(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = Message::new(
    3,
    &[
        field(1, "resource", Kind::Message(&RESOURCE)),
        field(2, "scopeSpans", Kind::Messages(&SCOPE_SPANS)),
        field(3, "schemaUrl", Kind::Text),
    ],
);

static RESOURCE: Message = Message::new(
    2,
    &[
        field(1, "attributes", Kind::Messages(&KEY_VALUE)),
        field(2, "droppedAttributesCount", Kind::Uint),
        field(3, "entityRefs", Kind::Messages(&ENTITY_REF)),
    ],
);

static ENTITY_REF: Message = Message::new(
    1,
    &[
        field(1, "schemaUrl", Kind::Text),
        field(2, "type", Kind::Text),
        field(3, "idKeys", Kind::Texts),
        field(4, "descriptionKeys", Kind::Texts),
    ],
);

static SCOPE_SPANS: Message = Message::new(
    3,
    &[
        field(2, "spans", Kind::Messages(&SPAN)),
        field(1, "scope", Kind::Message(&SCOPE)),
        field(3, "schemaUrl", Kind::Text),
    ],
);

static SCOPE: Message = Message::new(
    1,
    &[
        field(1, "name", Kind::Text),
        field(2, "version", Kind::Text),
        field(3, "attributes", Kind::Messages(&KEY_VALUE)),
        field(4, "droppedAttributesCount", Kind::Uint),
    ],
);

static SPAN: Message = Message::new(
    2,
    &[
        field(1, "traceId", Kind::Id),
        field(2, "spanId", Kind::Id),
        field(3, "traceState", Kind::Text),
        field(4, "parentSpanId", Kind::Id),
        field(16, "flags", Kind::Fixed32),
        field(5, "name", Kind::Text),
        field(
            6,
            "kind",
            Kind::Enumeration(&[
                "SPAN_KIND_UNSPECIFIED",
                "SPAN_KIND_INTERNAL",
                "SPAN_KIND_SERVER",
                "SPAN_KIND_CLIENT",
                "SPAN_KIND_PRODUCER",
                "SPAN_KIND_CONSUMER",
            ]),
        ),
        field(7, "startTimeUnixNano", Kind::Fixed64),
        field(8, "endTimeUnixNano", Kind::Fixed64),
        field(9, "attributes", Kind::Messages(&KEY_VALUE)),
        field(10, "droppedAttributesCount", Kind::Uint),
        field(11, "events", Kind::Messages(&EVENT)),
        field(12, "droppedEventsCount", Kind::Uint),
        field(13, "links", Kind::Messages(&LINK)),
        field(14, "droppedLinksCount", Kind::Uint),
        field(15, "status", Kind::Message(&STATUS)),
    ],
);

static EVENT: Message = Message::new(
    1,
    &[
        field(1, "timeUnixNano", Kind::Fixed64),
        field(2, "name", Kind::Text),
        field(3, "attributes", Kind::Messages(&KEY_VALUE)),
        field(4, "droppedAttributesCount", Kind::Uint),
    ],
);

static LINK: Message = Message::new(
    1,
    &[
        field(1, "traceId", Kind::Id),
        field(2, "spanId", Kind::Id),
        field(3, "traceState", Kind::Text),
        field(4, "attributes", Kind::Messages(&KEY_VALUE)),
        field(5, "droppedAttributesCount", Kind::Uint),
        field(6, "flags", Kind::Fixed32),
    ],
);

static STATUS: Message = Message::new(
    1,
    &[
        field(2, "message", Kind::Text),
        field(
            3,
            "code",
            Kind::Enumeration(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"]),
        ),
    ],
);

static KEY_VALUE: Message =
    Message::new(1, &[field(1, "key", Kind::Text), field(2, "value", Kind::Message(&ANY_VALUE))]);

pub(super) static ANY_VALUE: Message = Message {
    fields: &[
        field(1, "stringValue", Kind::Value),
        field(3, "intValue", Kind::Int),
        field(2, "boolValue", Kind::Bool),
        field(4, "doubleValue", Kind::Double),
        field(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        field(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        field(7, "bytesValue", Kind::Bytes),
    ],
    is_oneof: true,
    length_bytes: 1,
};

static ARRAY_VALUE: Message = Message::new(1, &[field(1, "values", Kind::Messages(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = Message::new(1, &[field(1, "values", Kind::Messages(&KEY_VALUE))]);

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_known_in_both_ways_of_writing() {
        let is = |name: &str, given: &str| is_name(name.as_bytes(), given.as_bytes());
        assert!(is("startTimeUnixNano", "startTimeUnixNano"));
        assert!(is("startTimeUnixNano", "start_time_unix_nano"));
        assert!(!is("startTimeUnixNano", "start_timeUnixNano"));
        assert!(!is("startTimeUnixNano", "start_time_unix_nan"));
        assert!(!is("startTimeUnixNano", "start_time_unix_nanos"));
        assert!(!is("name", "Name"));
    }
}
