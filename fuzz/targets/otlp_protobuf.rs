//! Any bytes as an OTLP request in protobuf: what is accepted can be cut, joined, taken apart by trace, written and read again.

#![no_main]

use bytes::Bytes;
use collector::internals::{decode_protobuf, encode_protobuf, pieces, trace_ids, traces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    let Ok(batch) = decode_protobuf(Bytes::copy_from_slice(request)) else { return };
    let ids = trace_ids(&batch);
    assert_eq!(ids.len(), batch.span_count());
    let again = decode_protobuf(encode_protobuf(&batch)).expect("what was written can be read");
    assert_eq!(trace_ids(&again), ids);

    let (mut apart, mut sorted) = (Vec::new(), ids.clone());
    for (id, trace) in traces(&batch) {
        let read = decode_protobuf(encode_protobuf(&trace)).expect("a trace can be read");
        assert!(trace_ids(&read).iter().all(|of| *of == id));
        apart.extend(trace_ids(&read));
    }
    sorted.sort_unstable();
    apart.sort_unstable();
    assert_eq!(apart, sorted);

    // Cutting is quadratic in the number of spans.
    if ids.len() <= 64 {
        let mut cut = Vec::new();
        for piece in pieces(batch) {
            assert!(piece.span_count() <= 1);
            let read = decode_protobuf(encode_protobuf(&piece)).expect("a piece can be read");
            cut.extend(trace_ids(&read));
        }
        assert_eq!(cut, ids);
    }
});
