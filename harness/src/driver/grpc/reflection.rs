//! Descriptions of a server's methods, by its reflection service.
//!
//! Source: `grpc/reflection/v1/reflection.proto`, and the same as `v1alpha`, which older servers have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, prost_types::FileDescriptorProto};
use tonic::{Code, Status, transport::Channel};

use super::{CallError, MethodError, codec::Raw, ready, refused};
use crate::source;

/// Longest wait for one response of the reflection service.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most files that describe one service: more are no description, but a circle without end.
const MAX_FILES: usize = 2_000;
/// The reflection service in its versions, the newest first.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Asks a server for all files that describe a service.
pub(super) async fn reflect(channel: &Channel, service: &str) -> Result<DescriptorPool, CallError> {
    let mut version = 0;
    let mut pool = DescriptorPool::global();
    let mut files: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let mut wanted =
        vec![Asked { file_containing_symbol: Some(service.to_owned()), ..Asked::default() }];
    while let Some(question) = wanted.pop() {
        let reported = loop {
            match ask(channel, PATHS[version], question.clone()).await? {
                // The older one may be there.
                Err(status)
                    if status.code() == Code::Unimplemented && version + 1 < PATHS.len() =>
                {
                    version += 1
                }
                Err(status) => {
                    if let Some(answer) = http_answer(status.message()) {
                        return Err(CallError::NotGrpc(answer.to_owned()));
                    }
                    let reason = format!("{:?} ({})", status.code(), status.message());
                    return Err(CallError::NoReflection { service: service.to_owned(), reason });
                }
                Ok(reported) => break reported,
            }
        };
        if let Some(error) = reported.error {
            if question.file_containing_symbol.is_some() {
                return Err(unknown_service(channel, PATHS[version], service).await?.into());
            }
            let reason = format!("its reflection lacks a file ({})", error.message);
            return Err(CallError::NoReflection { service: service.to_owned(), reason });
        }
        for bytes in reported.files.unwrap_or_default().files {
            let file = FileDescriptorProto::decode(bytes.as_slice()).map_err(|error| {
                let reason =
                    format!("what it returned is not a protobuf file descriptor ({error})");
                CallError::NoReflection { service: service.to_owned(), reason }
            })?;
            if pool.get_file_by_name(file.name()).is_none() {
                files.entry(file.name().to_owned()).or_insert(file);
            }
        }
        let missing = files
            .values()
            .flat_map(|file| &file.dependency)
            .filter(|name| !files.contains_key(*name) && pool.get_file_by_name(name).is_none());
        let missing: BTreeSet<String> = missing.cloned().collect();
        for name in missing {
            if asked.len() < MAX_FILES && asked.insert(name.clone()) {
                wanted.push(Asked { file_by_filename: Some(name), ..Asked::default() });
            }
        }
    }
    pool.add_file_descriptor_protos(files.into_values()).map_err(|error| {
        let reason = format!("its files do not fit together ({error})");
        CallError::NoReflection { service: service.to_owned(), reason }
    })?;
    Ok(pool)
}

/// The HTTP status of a server that speaks no gRPC, as tonic has it in its message.
pub(super) fn http_answer(message: &str) -> Option<&str> {
    let (_, status) = message.split_once("while receiving response with status: ")?;
    Some(status.trim_end_matches(')'))
}

/// Which services there are instead.
async fn unknown_service(
    channel: &Channel,
    reflection: &'static str,
    service: &str,
) -> Result<MethodError, CallError> {
    let question = Asked { list_services: Some(String::new()), ..Asked::default() };
    let reported = ask(channel, reflection, question).await?;
    let services =
        reported.ok().and_then(|reported| reported.services).unwrap_or_default().services;
    let known = services.iter().map(|one| one.name.as_str());
    let known = known.filter(|name| !name.starts_with("grpc.reflection."));
    let remedy = source::nearest_or_known(service, known);
    Ok(MethodError::Service {
        service: service.to_owned(),
        remedy: remedy.unwrap_or_else(|| "the server lists none".to_owned()),
    })
}

/// One question and its answer, each in a stream of its own.
async fn ask(
    channel: &Channel,
    reflection: &'static str,
    question: Asked,
) -> Result<Result<Reported, Status>, CallError> {
    let mut client = ready(channel.clone()).await?;
    let question = Bytes::from(question.encode_to_vec());
    let mut request = tonic::Request::new(stream::iter([question]));
    request.set_timeout(TIMEOUT);
    let path = PathAndQuery::from_static(reflection);
    let reported = match client.streaming(request, path, Raw).await {
        Ok(answer) => answer.into_inner().message().await,
        Err(status) => Err(status),
    };
    match reported {
        Ok(Some(bytes)) => {
            Ok(Reported::decode(bytes).map_err(|error| Status::internal(error.to_string())))
        }
        Ok(None) => Ok(Err(Status::internal("it says nothing"))),
        Err(status) => match refused(&status) {
            Ok(_) => Ok(Err(status)),
            Err(error) => Err(error),
        },
    }
}

/// `grpc.reflection.v1.ServerReflectionRequest`, as far as it is asked.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, optional, tag = "3")]
    file_by_filename: Option<String>,
    #[prost(string, optional, tag = "4")]
    file_containing_symbol: Option<String>,
    #[prost(string, optional, tag = "7")]
    list_services: Option<String>,
}

/// `grpc.reflection.v1.ServerReflectionResponse`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Reported {
    #[prost(message, optional, tag = "4")]
    files: Option<ReportedFiles>,
    #[prost(message, optional, tag = "6")]
    services: Option<ReportedServices>,
    #[prost(message, optional, tag = "7")]
    error: Option<ReportedError>,
}

#[derive(Clone, PartialEq, Message)]
struct ReportedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ReportedServices {
    #[prost(message, repeated, tag = "1")]
    services: Vec<ReportedService>,
}

#[derive(Clone, PartialEq, Message)]
struct ReportedService {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReportedError {
    #[prost(string, tag = "2")]
    message: String,
}
