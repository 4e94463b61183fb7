//! JSON that is well-formed, made of OTLP's names in any shape, as an OTLP request: what is accepted is a request in protobuf too. Bytes that
//! are no JSON end soon in the target `otlp_json`; these go deep.

#![no_main]

use collector::internals::{decode_json, decode_protobuf, encode_protobuf, trace_ids};
use libfuzzer_sys::fuzz_target;

/// Names of fields, in both ways of writing, and some that are none.
const NAMES: [&str; 32] = [
    "resourceSpans",
    "resource_spans",
    "resource",
    "scopeSpans",
    "scope_spans",
    "scope",
    "spans",
    "attributes",
    "key",
    "value",
    "stringValue",
    "intValue",
    "doubleValue",
    "boolValue",
    "bytesValue",
    "arrayValue",
    "kvlistValue",
    "values",
    "traceId",
    "spanId",
    "parentSpanId",
    "traceState",
    "name",
    "kind",
    "startTimeUnixNano",
    "status",
    "code",
    "events",
    "links",
    "entityRefs",
    "schemaUrl",
    "x",
];
/// Values that stand at an end.
const ENDS: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "5",
    "1.5",
    "1e30",
    "18446744073709551615",
    "\"\"",
    "\"5\"",
    "\"-7\"",
    "\"00000000000000000000000000000001\"",
    "\"0000000000000001\"",
    "\"SPAN_KIND_SERVER\"",
    "\"AAEC\"",
    "\"NaN\"",
];

/// Writes the value that the next bytes stand for.
fn write(bytes: &mut std::slice::Iter<'_, u8>, depth: usize, out: &mut String) {
    let byte = bytes.next().copied().unwrap_or_default();
    let count = usize::from(byte >> 2 & 3);
    match byte & 3 {
        1 | 3 if depth < 120 => {
            out.push('{');
            for index in 0..=count {
                let name =
                    NAMES[usize::from(bytes.next().copied().unwrap_or_default()) % NAMES.len()];
                out.push_str(if index > 0 { ",\"" } else { "\"" });
                out.push_str(name);
                out.push_str("\":");
                write(bytes, depth + 1, out);
            }
            out.push('}');
        }
        2 if depth < 120 => {
            out.push('[');
            for index in 0..count {
                if index > 0 {
                    out.push(',');
                }
                write(bytes, depth + 1, out);
            }
            out.push(']');
        }
        _ => out.push_str(ENDS[usize::from(byte >> 4)]),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut json = String::new();
    write(&mut bytes.iter(), 0, &mut json);
    let Ok(batch) = decode_json(json.as_bytes()) else { return };
    let again = decode_protobuf(encode_protobuf(&batch)).expect("what was written can be read");
    assert_eq!(trace_ids(&again), trace_ids(&batch));
});
