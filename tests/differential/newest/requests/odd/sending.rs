//! Oddities of how a request is sent.

use std::io::Write as _;

use axum::http::Method;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::super::made::{Call, framed};
use super::{Change, Oddity};

pub(super) const ALL: &[Oddity] = &[
    Oddity("no content type", Change::Http(|it| it.set("content-type", ""))),
    Oddity("the type of text", Change::Http(|it| it.set("content-type", "text/plain"))),
    Oddity(
        "the type of a form",
        Change::Http(|it| it.set("content-type", "application/x-www-form-urlencoded")),
    ),
    Oddity(
        "the type of protobuf without x",
        Change::Http(|it| it.set("content-type", "application/protobuf")),
    ),
    Oddity("the type of gRPC", Change::Http(|it| it.set("content-type", "application/grpc"))),
    Oddity("the type of JSON", Change::Http(|it| it.set("content-type", "application/json"))),
    Oddity(
        "the type of protobuf",
        Change::Http(|it| it.set("content-type", "application/x-protobuf")),
    ),
    Oddity("a charset", Change::Http(|it| suffix(it, "; charset=utf-8"))),
    Oddity("parameters without a space", Change::Http(|it| suffix(it, ";proto=x;q=1"))),
    Oddity("broken parameters", Change::Http(|it| suffix(it, "; =;"))),
    Oddity(
        "a type in upper case",
        Change::Http(|it| {
            let kind = it.headers.first().map_or_else(String::new, |(_, kind)| kind.to_uppercase());
            it.set("content-type", &kind);
        }),
    ),
    Oddity("more letters in the type", Change::Http(|it| suffix(it, "x"))),
    Oddity("gzip", Change::Http(|it| encoded(it, "gzip", gzip))),
    Oddity("gzip in upper case", Change::Http(|it| encoded(it, "GZIP", gzip))),
    Oddity("x-gzip", Change::Http(|it| encoded(it, "x-gzip", gzip))),
    Oddity(
        "gzip in two members",
        Change::Http(|it| {
            encoded(it, "gzip", |body| {
                let (first, last) = body.split_at(body.len() / 2);
                [gzip(first), gzip(last)].concat()
            })
        }),
    ),
    Oddity("gzip in name only", Change::Http(|it| encoded(it, "gzip", <[u8]>::to_vec))),
    Oddity("gzip of nothing", Change::Http(|it| encoded(it, "gzip", |_| gzip(b"")))),
    Oddity("gzip that is empty", Change::Http(|it| encoded(it, "gzip", |_| Vec::new()))),
    Oddity("gzip that breaks off", Change::Http(|it| encoded(it, "gzip", |body| half(gzip(body))))),
    Oddity("gzip with a wrong sum", Change::Http(|it| encoded(it, "gzip", wrong_sum))),
    Oddity(
        "gzip with more behind it",
        Change::Http(|it| encoded(it, "gzip", |body| [&gzip(body)[..], b"more"].concat())),
    ),
    Oddity("gzip twice", Change::Http(|it| encoded(it, "gzip, gzip", |body| gzip(&gzip(body))))),
    Oddity("gzip that is not said", Change::Http(|it| it.body = gzip(&it.body))),
    Oddity(
        "gzip of 22 MiB",
        Change::Http(|it| encoded(it, "gzip", |_| gzip(&vec![b' '; 22 << 20]))),
    ),
    Oddity("deflate", Change::Http(|it| encoded(it, "deflate", zlib))),
    Oddity("zlib", Change::Http(|it| encoded(it, "zlib", zlib))),
    Oddity(
        "deflate that is broken",
        Change::Http(|it| encoded(it, "deflate", |body| half(zlib(body)))),
    ),
    Oddity("zstd", Change::Http(|it| encoded(it, "zstd", zstd))),
    Oddity("zstd that is broken", Change::Http(|it| encoded(it, "zstd", |body| half(zstd(body))))),
    Oddity("zstd in name only", Change::Http(|it| encoded(it, "zstd", <[u8]>::to_vec))),
    Oddity("snappy in name only", Change::Http(|it| encoded(it, "snappy", <[u8]>::to_vec))),
    Oddity("lz4 in name only", Change::Http(|it| encoded(it, "lz4", <[u8]>::to_vec))),
    Oddity("identity", Change::Http(|it| encoded(it, "identity", <[u8]>::to_vec))),
    Oddity("an unknown content encoding", Change::Http(|it| encoded(it, "br", <[u8]>::to_vec))),
    Oddity("GET", Change::Http(|it| it.method = Method::GET)),
    Oddity(
        "GET without a body",
        Change::Http(|it| {
            it.method = Method::GET;
            it.body.clear();
            it.headers.clear();
        }),
    ),
    Oddity("PUT", Change::Http(|it| it.method = Method::PUT)),
    Oddity("PATCH", Change::Http(|it| it.method = Method::PATCH)),
    Oddity("DELETE", Change::Http(|it| it.method = Method::DELETE)),
    Oddity("HEAD", Change::Http(|it| it.method = Method::HEAD)),
    Oddity("OPTIONS", Change::Http(|it| it.method = Method::OPTIONS)),
    Oddity("the path /", Change::Http(|it| "/".clone_into(&mut it.path))),
    Oddity("the path /v1/trace", Change::Http(|it| "/v1/trace".clone_into(&mut it.path))),
    Oddity("the path /v1/traces/", Change::Http(|it| "/v1/traces/".clone_into(&mut it.path))),
    Oddity("the path /V1/Traces", Change::Http(|it| "/V1/Traces".clone_into(&mut it.path))),
    Oddity("the path //v1/traces", Change::Http(|it| "//v1/traces".clone_into(&mut it.path))),
    Oddity("the path /v1%2Ftraces", Change::Http(|it| "/v1%2Ftraces".clone_into(&mut it.path))),
    Oddity(
        "the path of the old receiver",
        Change::Http(|it| "/v1/traces/v1/traces".clone_into(&mut it.path)),
    ),
    Oddity("a query", Change::Http(|it| "/v1/traces?x=1".clone_into(&mut it.path))),
    Oddity(
        "the path of profiles",
        Change::Http(|it| "/v1development/profiles".clone_into(&mut it.path)),
    ),
    Oddity(
        "other headers",
        Change::Http(|it| {
            it.set("x-tenant", "a,b");
            it.set("authorization", "Bearer x");
            it.set("accept", "text/html");
            it.set("accept-encoding", "gzip, br");
        }),
    ),
    // gRPC.
    Oddity(
        "metadata",
        Change::Grpc(|it| {
            it.set("x-tenant", "a");
            it.set("x-bytes-bin", "AAEC");
            it.set("authorization", "Bearer x");
        }),
    ),
    Oddity("metadata that is no base64", Change::Grpc(|it| it.set("x-bytes-bin", "%%%"))),
    Oddity("gRPC's type with proto", Change::Grpc(|it| suffix(it, "+proto"))),
    Oddity("gRPC's type with JSON", Change::Grpc(|it| suffix(it, "+json"))),
    Oddity("gRPC's type with a parameter", Change::Grpc(|it| suffix(it, ";charset=utf-8"))),
    Oddity("gRPC's type for the web", Change::Grpc(|it| suffix(it, "-web"))),
    Oddity(
        "gRPC with the type of protobuf",
        Change::Grpc(|it| it.set("content-type", "application/x-protobuf")),
    ),
    Oddity("gRPC with no type", Change::Grpc(|it| it.set("content-type", ""))),
    Oddity("no trailers asked for", Change::Grpc(|it| it.set("te", ""))),
    Oddity("gRPC by GET", Change::Grpc(|it| it.method = Method::GET)),
    Oddity("gRPC by PUT", Change::Grpc(|it| it.method = Method::PUT)),
    Oddity(
        "an unknown service",
        Change::Grpc(|it| "/nosuch.Service/Export".clone_into(&mut it.path)),
    ),
    Oddity(
        "an unknown method",
        Change::Grpc(|it| {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Nosuch".clone_into(&mut it.path);
        }),
    ),
    Oddity("gRPC to /v1/traces", Change::Grpc(|it| "/v1/traces".clone_into(&mut it.path))),
    Oddity("gRPC to /", Change::Grpc(|it| "/".clone_into(&mut it.path))),
    Oddity("a long time limit", Change::Grpc(|it| it.set("grpc-timeout", "50S"))),
    Oddity("a time limit without a unit", Change::Grpc(|it| it.set("grpc-timeout", "50"))),
    Oddity("a time limit of words", Change::Grpc(|it| it.set("grpc-timeout", "soon"))),
    Oddity("a time limit of nine digits", Change::Grpc(|it| it.set("grpc-timeout", "123456789S"))),
    Oddity("a time limit below zero", Change::Grpc(|it| it.set("grpc-timeout", "-1S"))),
    Oddity("gRPC's gzip", Change::Grpc(|it| compressed(it, "gzip", 1, gzip))),
    Oddity(
        "gRPC's gzip that breaks off",
        Change::Grpc(|it| compressed(it, "gzip", 1, |body| half(gzip(body)))),
    ),
    Oddity("gRPC's gzip with a wrong sum", Change::Grpc(|it| compressed(it, "gzip", 1, wrong_sum))),
    Oddity(
        "gRPC's gzip in name only",
        Change::Grpc(|it| compressed(it, "gzip", 1, <[u8]>::to_vec)),
    ),
    Oddity(
        "gRPC's gzip that is not used",
        Change::Grpc(|it| compressed(it, "gzip", 0, <[u8]>::to_vec)),
    ),
    Oddity("gRPC's gzip that is not said", Change::Grpc(|it| compressed(it, "", 1, gzip))),
    Oddity("gRPC's gzip of nothing", Change::Grpc(|it| compressed(it, "gzip", 1, |_| gzip(b"")))),
    Oddity(
        "gRPC's gzip of 22 MiB",
        Change::Grpc(|it| compressed(it, "gzip", 1, |_| gzip(&vec![0; 22 << 20]))),
    ),
    Oddity(
        "gRPC's gzip by HTTP's name",
        Change::Grpc(|it| {
            it.set("content-encoding", "gzip");
            it.body = gzip(&it.body);
        }),
    ),
    Oddity("gRPC's zstd", Change::Grpc(|it| compressed(it, "zstd", 1, zstd))),
    Oddity("gRPC's deflate", Change::Grpc(|it| compressed(it, "deflate", 1, zlib))),
    Oddity("gRPC's identity", Change::Grpc(|it| compressed(it, "identity", 0, <[u8]>::to_vec))),
    Oddity(
        "gRPC's identity with a flag",
        Change::Grpc(|it| compressed(it, "identity", 1, <[u8]>::to_vec)),
    ),
    Oddity(
        "an encoding that gRPC does not know",
        Change::Grpc(|it| compressed(it, "br", 1, <[u8]>::to_vec)),
    ),
    Oddity(
        "an unknown encoding that is not used",
        Change::Grpc(|it| compressed(it, "br", 0, <[u8]>::to_vec)),
    ),
    Oddity(
        "a flag of two",
        Change::Grpc(|it| it.body.iter_mut().take(1).for_each(|flag| *flag = 2)),
    ),
    Oddity("no frame", Change::Grpc(|it| it.body.clear())),
    Oddity("a frame of nothing", Change::Grpc(|it| it.body = framed(0, b""))),
    Oddity("half of a frame", Change::Grpc(|it| it.body = half(std::mem::take(&mut it.body)))),
    Oddity("three bytes of a frame", Change::Grpc(|it| it.body.truncate(3))),
    Oddity("two frames", Change::Grpc(|it| it.body = it.body.repeat(2))),
    Oddity("a byte behind the frame", Change::Grpc(|it| it.body.push(0))),
    Oddity("a huge frame", Change::Grpc(|it| it.body = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])),
    Oddity(
        "a message without a frame",
        Change::Grpc(|it| {
            it.body.drain(..it.body.len().min(5));
        }),
    ),
];

fn suffix(call: &mut Call, suffix: &str) {
    let kind = call.headers.iter().find(|(name, _)| *name == "content-type");
    let kind = kind.map_or_else(String::new, |(_, kind)| format!("{kind}{suffix}"));
    call.set("content-type", &kind);
}

fn encoded(call: &mut Call, name: &str, encode: fn(&[u8]) -> Vec<u8>) {
    call.set("content-encoding", name);
    call.body = encode(&call.body);
}

/// Compresses the message of a frame.
fn compressed(call: &mut Call, name: &str, flag: u8, encode: fn(&[u8]) -> Vec<u8>) {
    call.set("grpc-encoding", name);
    let message = encode(call.body.get(5..).unwrap_or_default());
    call.body = framed(flag, &message);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 0).unwrap()
}

fn half(mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(body.len() / 2);
    body
}

/// gzip whose sum of check is another one.
fn wrong_sum(body: &[u8]) -> Vec<u8> {
    let mut body = gzip(body);
    let sum = body.len() - 8;
    body[sum] ^= 1;
    body
}
