//! Any bytes as a request to the mock intake: the first two choose the route and the encodings, the rest is the body.

#![no_main]

use harness_intake::{
    attempt::{Attempt, Reply},
    decode::{Route, decode},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [route, encoding, body @ ..] = data else { return };
    let route = Route::ALL[usize::from(*route) % Route::ALL.len()];
    let compression = ["identity", "gzip", "deflate", "zstd"][usize::from(*encoding) % 4];
    let kind = ["application/x-protobuf", "application/json"][usize::from(*encoding) / 4 % 2];
    let headers = [("content-encoding", compression), ("content-type", kind)];
    let attempt = Attempt {
        seq: 0,
        received_at: 0,
        method: "POST".to_owned(),
        path: route.path().to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: body.to_vec(),
        reply: Reply::Status(202),
    };
    let _anything_but_a_panic = decode(&attempt, 1 << 20);
});
