//! As much of Datadog's payload of traces as the programs look at: which spans are in it.

use std::io::Read as _;

use prost::Message as _;

/// The body of a request to `/api/v0.2/traces`, as `AgentPayload` of Datadog's agent_payload.proto.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentPayload {
    #[prost(message, repeated, tag = "5")]
    tracers: Vec<TracerPayload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TracerPayload {
    #[prost(message, repeated, tag = "6")]
    chunks: Vec<TraceChunk>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TraceChunk {
    #[prost(message, repeated, tag = "3")]
    spans: Vec<Span>,
}

/// A span's ids.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// The low half of the trace's id.
    #[prost(uint64, tag = "4")]
    pub trace_id: u64,
    /// The span's own.
    #[prost(uint64, tag = "5")]
    pub span_id: u64,
}

impl AgentPayload {
    /// Reads a body with this `Content-Encoding`: gzip, zstd, or none.
    ///
    /// # Errors
    ///
    /// If it cannot be decompressed or is no such message.
    pub fn read(encoding: &[u8], body: &[u8]) -> anyhow::Result<Self> {
        let mut plain = Vec::new();
        match encoding {
            b"gzip" => {
                flate2::read::GzDecoder::new(body).read_to_end(&mut plain)?;
            }
            b"zstd" => plain = zstd::stream::decode_all(body)?,
            _ => plain.extend_from_slice(body),
        }
        Ok(Self::decode(&*plain)?)
    }

    /// Iterates over all spans of the payload.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        let chunks = self.tracers.iter().flat_map(|tracer| &tracer.chunks);
        chunks.flat_map(|chunk| &chunk.spans)
    }
}
