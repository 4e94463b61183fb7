use std::{convert::Infallible, future::Future, pin::Pin, task::Poll};

use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use serde_json::json;
use tonic::{
    body::Body,
    codegen::Service,
    server::{NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};

use super::{reflection::http_answer, *};

const CREATE: &str = "/shop.v1.Orders/Create";

fn field(name: &str, number: i32, of: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        json_name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(of as i32),
        ..FieldDescriptorProto::default()
    }
}

/// `shop.v1.Orders` with the method `Create`, and one that takes a stream.
pub(crate) fn descriptor_set() -> Vec<u8> {
    let message = |name: &str, field: FieldDescriptorProto| DescriptorProto {
        name: Some(name.to_owned()),
        field: vec![field],
        ..DescriptorProto::default()
    };
    let method = |name: &str, client_streaming: bool| MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(".shop.v1.CreateRequest".to_owned()),
        output_type: Some(".shop.v1.Order".to_owned()),
        client_streaming: Some(client_streaming),
        ..MethodDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("shop/v1/orders.proto".to_owned()),
        package: Some("shop.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![
            message("CreateRequest", field("item", 1, Type::Int32)),
            message("Order", field("id", 1, Type::String)),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some("Orders".to_owned()),
            method: vec![method("Create", false), method("Upload", true)],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// Answers `Create` with an order of that id, and refuses one of nothing.
#[derive(Clone)]
struct Orders;

impl NamedService for Orders {
    const NAME: &'static str = "shop.v1.Orders";
}

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(Create, request).await) })
    }
}

struct Create;

impl UnaryService<Bytes> for Create {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let context = request.metadata().get("traceparent").cloned();
        let method = method(&described(&descriptor_set()).unwrap(), CREATE).unwrap();
        let asked = DynamicMessage::decode(method.input(), request.into_inner()).unwrap();
        let item = serde_json::to_value(&asked).unwrap()["item"].as_i64();
        Box::pin(async move {
            let item = item.ok_or_else(|| Status::invalid_argument("an order of nothing"))?;
            let order = json!({ "id": format!("o-{item}") });
            let order = DynamicMessage::deserialize(method.output(), order).unwrap();
            let mut response = tonic::Response::new(Bytes::from(order.encode_to_vec()));
            if let Some(context) = context {
                response.metadata_mut().insert("x-got", context);
            }
            Ok(response)
        })
    }
}

/// A server of `Orders`; its URL.
async fn serve(with_reflection: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let set = descriptor_set();
    let reflection = with_reflection.then(|| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&set)
            .build_v1()
            .unwrap()
    });
    let server = Server::builder().add_service(Orders).add_optional_service(reflection);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    url
}

async fn called(
    url: &str,
    path: &str,
    message: Value,
    set: Option<&[u8]>,
) -> Result<Called, String> {
    let call = Call {
        url,
        path,
        message: &message,
        metadata: vec![("traceparent".to_owned(), "00-1-2-01".to_owned())],
        timeout: Duration::from_secs(10),
        descriptors: set,
    };
    Caller::default().call(call).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_method_is_called_with_json_by_reflection_or_a_descriptor_set() {
    let set = descriptor_set();
    for (with_reflection, set) in [(true, None), (false, Some(set.as_slice()))] {
        let url = serve(with_reflection).await;
        let called = called(&url, CREATE, json!({ "item": 7 }), set).await.unwrap();
        assert_eq!((called.code, called.message), (0, Some(json!({ "id": "o-7" }))));
        assert_eq!(called.metadata["x-got"], "00-1-2-01");
    }
}

#[tokio::test]
async fn a_status_that_the_server_gives_is_an_answer() {
    let url = serve(true).await;
    let called = called(&url, CREATE, json!({}), None).await.unwrap();
    assert_eq!((called.code, called.status_message.as_str()), (3, "an order of nothing"));
    assert_eq!(called.message, None);
}

#[tokio::test]
async fn what_cannot_be_called_is_reported_with_what_can() {
    let url = serve(true).await;
    let described =
        async |path: &str, message: Value| called(&url, path, message, None).await.unwrap_err();
    assert_eq!(
        described("/shop.v1.Orders/Crate", json!({})).await,
        "`shop.v1.Orders` has no method `Crate`; did you mean `Create`?"
    );
    assert_eq!(
        described("/shop.v1.Order/Create", json!({})).await,
        "there is no gRPC service `shop.v1.Order`; did you mean `shop.v1.Orders`?"
    );
    let stream = described("/shop.v1.Orders/Upload", json!({})).await;
    assert!(stream.starts_with("`shop.v1.Orders.Upload` takes a stream of requests"), "{stream}");
    let fit = described(CREATE, json!({ "itm": 7 })).await;
    assert!(fit.starts_with("the message does not fit `shop.v1.CreateRequest` ("), "{fit}");
    assert!(fit.ends_with("its fields are `item`"), "{fit}");
    let silent = serve(false).await;
    let none = called(&silent, CREATE, json!({}), None).await.unwrap_err();
    assert!(none.starts_with("`shop.v1.Orders` does not describe itself: Unimplemented"), "{none}");
    assert!(none.ends_with("turn server reflection on, or give `descriptor_set`"), "{none}");
    // A port at which nobody listens any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = called(&format!("http://{gone}"), CREATE, json!({}), None).await.unwrap_err();
    assert!(gone.to_lowercase().contains("refused"), "{gone}");
}

#[test]
fn only_package_service_and_method_are_a_method() {
    assert_eq!(parts("shop.v1.Orders/Create"), Ok(("shop.v1.Orders", "Create")));
    for wrong in
        ["shop.v1.Orders", "shop..Orders/Create", "Orders/", "/", "a b/C", "Orders/Create/x"]
    {
        assert!(parts(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_server_that_speaks_no_grpc_is_known_by_what_it_answers() {
    let message = "protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1) while receiving response with status: 404 Not Found";
    assert_eq!(http_answer(message), Some("404 Not Found"));
    assert_eq!(http_answer("there is no such order"), None);
}
