//! Calls of gRPC methods that nobody generated code for: their messages are described by the server's reflection, or by a
//! descriptor set.
//!
//! Messages are JSON on this side, by protobuf's own mapping.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;
use tonic::{
    Code, Status,
    client::Grpc,
    metadata::{Ascii, MetadataKey, MetadataValue},
    transport::{Channel, Endpoint},
};

use self::codec::Raw;
use crate::source;

mod codec;
mod reflection;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most messages of one stream that are kept.
const MAX_MESSAGES: usize = 1_000;

/// Calls methods; keeps what it learnt of each address.
#[derive(Debug, Default)]
pub(super) struct Caller {
    known: Mutex<HashMap<String, Known>>,
}

/// Cached knowledge about an address.
#[derive(Debug, Clone)]
struct Known {
    channel: Channel,
    /// By service.
    pools: BTreeMap<String, DescriptorPool>,
}

/// One call.
pub(super) struct Call<'a> {
    /// `http://host:port`.
    pub(super) url: &'a str,
    /// `/package.Service/Method`.
    pub(super) path: &'a str,
    /// The request as JSON.
    pub(super) message: &'a Value,
    /// Metadata that goes with it.
    pub(super) metadata: Vec<(String, String)>,
    /// Of the whole call.
    pub(super) timeout: Duration,
    /// A descriptor set; without one the server is asked.
    pub(super) descriptors: Option<&'a [u8]>,
}

/// How a call was answered.
#[derive(Debug)]
pub(super) struct Called {
    /// gRPC's status.
    pub(super) code: i32,
    /// Its status message, where it is not OK.
    pub(super) status_message: String,
    /// The answer as JSON, a list where it was a stream; `None` where there is none.
    pub(super) message: Option<Value>,
    /// Metadata of the answer, texts only.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Error for a method that cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MethodError {
    /// Nothing of the kind.
    #[error("`{0}` is not a gRPC method: write `package.Service/Method`")]
    Form(String),
    /// The service is not described.
    #[error("there is no gRPC service `{service}`; {remedy}")]
    Service { service: String, remedy: String },
    /// The service has no such method.
    #[error("`{service}` has no method `{method}`; {remedy}")]
    Method { service: String, method: String, remedy: String },
    /// It wants several requests.
    #[error(
        "`{0}` takes a stream of requests, and only one can be sent: choose a method that takes one"
    )]
    ClientStream(String),
    /// The descriptors cannot be read.
    #[error(
        "the descriptor set cannot be read ({0}); make it by `protoc --include_imports --descriptor_set_out=FILE`"
    )]
    Descriptors(String),
}

/// Error for a call that was not made or not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Method(#[from] MethodError),
    #[error(
        "`{service}` does not describe itself: {reason}; turn server reflection on, or give `descriptor_set`"
    )]
    NoReflection { service: String, reason: String },
    #[error(
        "the port answers by HTTP ({0}), and not by gRPC; name the workload that speaks gRPC by `entry`, or give the entry a port `grpc`"
    )]
    NotGrpc(String),
    #[error("{0}")]
    Message(String),
    #[error("{0}")]
    Transport(String),
}

/// Splits `package.Service/Method`.
pub(crate) fn parts(method: &str) -> Result<(&str, &str), MethodError> {
    let parts = method.trim_start_matches('/').split_once('/');
    let is_name = |name: &str, may: &[char]| {
        let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || may.contains(&c);
        name.chars().all(fits) && name.split('.').all(begins)
    };
    let parts = parts.filter(|(service, method)| is_name(service, &['.']) && is_name(method, &[]));
    parts.ok_or_else(|| MethodError::Form(method.to_owned()))
}

/// Reads a descriptor set.
pub(crate) fn described(descriptors: &[u8]) -> Result<DescriptorPool, MethodError> {
    let mut pool = DescriptorPool::global();
    let read = pool.decode_file_descriptor_set(descriptors);
    read.map_err(|error| MethodError::Descriptors(error.to_string()))?;
    Ok(pool)
}

/// The method of that name, which takes one request.
pub(crate) fn method(pool: &DescriptorPool, path: &str) -> Result<MethodDescriptor, MethodError> {
    let (service, method) = parts(path)?;
    let Some(of) = pool.get_service_by_name(service) else {
        let known: Vec<String> = pool.services().map(|one| one.full_name().to_owned()).collect();
        let remedy = source::nearest_or_known(service, known.iter().map(String::as_str));
        return Err(MethodError::Service {
            service: service.to_owned(),
            remedy: remedy.unwrap_or_else(|| "no service is described".to_owned()),
        });
    };
    let Some(found) = of.methods().find(|one| one.name() == method) else {
        let known: Vec<String> = of.methods().map(|one| one.name().to_owned()).collect();
        let remedy = source::nearest_or_known(method, known.iter().map(String::as_str));
        return Err(MethodError::Method {
            service: service.to_owned(),
            method: method.to_owned(),
            remedy: remedy.unwrap_or_else(|| "it has none at all".to_owned()),
        });
    };
    if found.is_client_streaming() {
        return Err(MethodError::ClientStream(found.full_name().to_owned()));
    }
    Ok(found)
}

/// A JSON message as the method takes it.
pub(crate) fn message(method: &MethodDescriptor, json: &Value) -> Result<DynamicMessage, String> {
    let input = method.input();
    DynamicMessage::deserialize(input.clone(), json.clone()).map_err(|error| {
        let fields: Vec<String> =
            input.fields().map(|field| field.json_name().to_owned()).collect();
        let known = source::list(fields.iter().map(String::as_str));
        format!(
            "the message does not fit `{}` ({error}); its fields are {known}",
            input.full_name()
        )
    })
}

impl Caller {
    /// Calls a method and waits for its whole answer.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Called, CallError> {
        let limit = call.timeout;
        match tokio::time::timeout(limit, self.call_without_limit(call)).await {
            Ok(called) => called,
            Err(_) => Err(CallError::Transport(format!("it was not answered within {limit:?}"))),
        }
    }

    async fn call_without_limit(&self, call: Call<'_>) -> Result<Called, CallError> {
        let (service, _) = parts(call.path)?;
        let channel = self.channel(call.url)?;
        let pool = match call.descriptors {
            Some(descriptors) => described(descriptors)?,
            None => self.reflected(call.url, &channel, service).await?,
        };
        let method = method(&pool, call.path)?;
        let sent = message(&method, call.message).map_err(CallError::Message)?;
        let mut request = tonic::Request::new(Bytes::from(sent.encode_to_vec()));
        request.set_timeout(call.timeout);
        for (name, value) in &call.metadata {
            let name = MetadataKey::<Ascii>::from_bytes(name.as_bytes());
            let value: Result<MetadataValue<Ascii>, _> = value.parse();
            if let (Ok(name), Ok(value)) = (name, value) {
                request.metadata_mut().insert(name, value);
            }
        }
        let path = call.path.parse::<PathAndQuery>();
        let path = path.map_err(|_| MethodError::Form(call.path.to_owned()))?;
        let mut client = ready(channel).await?;
        let answered = match method.is_server_streaming() {
            false => client.unary(request, path, Raw).await.map(|answer| {
                let (metadata, message, _) = answer.into_parts();
                (metadata, vec![message])
            }),
            true => match client.server_streaming(request, path, Raw).await {
                Ok(answer) => {
                    let (metadata, mut stream, _) = answer.into_parts();
                    let mut messages = Vec::new();
                    loop {
                        match stream.message().await {
                            Ok(Some(message)) if messages.len() < MAX_MESSAGES => {
                                messages.push(message)
                            }
                            Ok(Some(_)) => {}
                            Ok(None) => break Ok((metadata, messages)),
                            Err(status) => break Err(status),
                        }
                    }
                }
                Err(status) => Err(status),
            },
        };
        let (metadata, messages) = match answered {
            Ok(answered) => answered,
            Err(status) => return refused(&status),
        };
        let read = |bytes: Bytes| -> Result<Value, CallError> {
            let message = DynamicMessage::decode(method.output(), bytes);
            let message = message.map_err(|error| {
                let name = method.output().full_name().to_owned();
                CallError::Message(format!(
                    "the response is not a `{name}` ({error}): is the descriptor set that of the server?"
                ))
            })?;
            serde_json::to_value(&message).map_err(|error| CallError::Message(error.to_string()))
        };
        let messages = messages.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let message = match method.is_server_streaming() {
            true => Some(Value::Array(messages)),
            false => messages.into_iter().next(),
        };
        Ok(Called {
            code: Code::Ok as i32,
            status_message: String::new(),
            message,
            metadata: texts(&metadata),
        })
    }

    fn channel(&self, url: &str) -> Result<Channel, CallError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(url) {
            return Ok(known.channel.clone());
        }
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| CallError::Transport(crate::chain_of(&error)))?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy();
        known.insert(url.to_owned(), Known { channel: channel.clone(), pools: BTreeMap::new() });
        Ok(channel)
    }

    /// Returns the server's description of one of its services; queried once.
    async fn reflected(
        &self,
        url: &str,
        channel: &Channel,
        service: &str,
    ) -> Result<DescriptorPool, CallError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(url).and_then(|known| known.pools.get(service).cloned())
        };
        if let Some(pool) = known {
            return Ok(pool);
        }
        let pool = reflection::reflect(channel, service).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(url) {
            known.pools.insert(service.to_owned(), pool.clone());
        }
        Ok(pool)
    }
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, CallError> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| CallError::Transport(crate::chain_of(&error)))?;
    Ok(client)
}

/// A status that the server gave is an answer; one that stands for a connection that failed is none.
fn refused(status: &Status) -> Result<Called, CallError> {
    if let Some(source) = status.source() {
        return Err(CallError::Transport(format!(
            "{}: {}",
            status.message(),
            crate::chain_of(source)
        )));
    }
    Ok(Called {
        code: status.code() as i32,
        status_message: status.message().to_owned(),
        message: None,
        metadata: texts(status.metadata()),
    })
}

fn texts(metadata: &tonic::metadata::MetadataMap) -> BTreeMap<String, String> {
    let headers = metadata.as_ref().iter();
    headers
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
