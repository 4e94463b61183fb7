//! Any bytes as an OTLP request in JSON: what is accepted is a request in protobuf too.

#![no_main]

use collector::internals::{decode_json, decode_protobuf, encode_protobuf, trace_ids};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    let Ok(batch) = decode_json(request) else { return };
    let again = decode_protobuf(encode_protobuf(&batch)).expect("what was written can be read");
    assert_eq!(trace_ids(&again), trace_ids(&batch));
});
