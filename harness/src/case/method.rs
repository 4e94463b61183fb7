//! How a request asks.

use serde::{Deserialize, Serialize};

/// The methods of HTTP that a request can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD: a GET that is answered without a body.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// A call of a gRPC method: the path is `/package.Service/Method`, the body its message as JSON, the status gRPC's number.
    Grpc,
}

impl Method {
    /// Returns the method's name as in HTTP and in messages, for example `GET`; `gRPC` for a gRPC call.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Grpc => "gRPC",
        }
    }

    /// Returns the status of a successful response where a scenario gives none: 200, or 0 for gRPC.
    pub fn success(self) -> u16 {
        match self {
            Self::Grpc => 0,
            _ => 200,
        }
    }

    /// Returns whether the method is safe (RFC 9110, 9.2.1), so that the harness may repeat the request for its own
    /// purposes.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}
