//! Senders that are let in and that are not, and what becomes of what requests say of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::Code;

use crate::grpc;
use crate::support::{DEADLINE, Rig, answer, intake, request, span_ids, start, until};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A collector whose receiver authenticates on both protocols by this extension.
async fn rig(extension: &str, settings: &str, more: &[&str]) -> Rig {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let auth =
        |protocol| format!("receivers.otlp.protocols.{protocol}.auth.authenticator={extension}");
    let own = [
        format!("extensions.{extension}={settings}"),
        format!("service.extensions=[health_check, {extension}]"),
        auth("grpc"),
        auth("http"),
    ];
    let all: Vec<_> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
    start(intake, &all, DEADLINE).await
}

/// The value of the counter for requests that were not let in for this reason.
async fn not_let_in(rig: &Rig, reason: &str) -> u64 {
    let text = rig.metrics().await;
    let series = text.lines().filter(|line| {
        line.starts_with("otelcol_receiver_unauthenticated_requests")
            && line.contains(&format!("reason=\"{reason}\""))
    });
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_sender_without_a_valid_token_is_refused_and_counted_by_the_reason() {
    let rig = rig("bearertokenauth", "{tokens: [one, two]}", &[]).await;
    let reply = rig.post(&[PROTOBUF], request([1])).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{text}");
    let reply = rig.post(&[JSON, ("authorization", "Bearer three")], "{}").await;
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &body["code"]), (401, &16.into()));
    // Nothing is said of paths either, and a page's browser asks nobody for a password.
    let elsewhere = format!("http://{}/v1/metrics", rig.address("otlp-http"));
    let reply = rig.http.post(elsewhere).header("origin", "https://a").send().await.unwrap();
    assert_eq!(reply.status(), 401);
    assert!(!reply.headers().contains_key("www-authenticate"));
    assert_eq!((not_let_in(&rig, "missing").await, not_let_in(&rig, "wrong").await), (2, 1));

    let address = rig.address("otlp-grpc");
    let refused = grpc::export(&address, request([2]), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    let wrong = [("authorization", "Bearer three")];
    let refused = grpc::export_with(&address, request([2]), &wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    assert_eq!((not_let_in(&rig, "missing").await, not_let_in(&rig, "wrong").await), (3, 2));
    assert_eq!(rig.metric("otelcol_receiver_refused_requests").await, 5);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 0);

    let reply = rig.post(&[PROTOBUF, ("authorization", "Bearer one")], request([3])).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    grpc::export_with(&address, request([4]), &[("authorization", "Bearer two")]).await.unwrap();
    until("sent", async || span_ids(&rig.attempts().await) == [3, 4]).await;
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn a_token_file_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "one").unwrap();
    let rig = rig("bearertokenauth", &format!("{{filename: {}}}", path.display()), &[]).await;
    let status = async |token: &str| {
        rig.post(&[PROTOBUF, ("authorization", &format!("Bearer {token}"))], request([1]))
            .await
            .status
    };
    assert_eq!((status("one").await, status("two").await), (200, 401));
    std::fs::write(&path, "two").unwrap();
    until("the new one is valid", async || status("two").await == 200).await;
    assert_eq!(status("one").await, 401);
    std::fs::write(&path, "").unwrap();
    let is_counted = |line: &str| {
        line.starts_with("otelcol_file_reloads{key=\"extensions.bearertokenauth.filename\"")
            && line.contains("failure")
            && !line.ends_with(" 0")
    };
    until("it is counted", async || rig.metrics().await.lines().any(is_counted)).await;
    assert_eq!(status("two").await, 200);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn a_user_sends_and_spans_say_who_it_was_and_with_which_metadata() {
    let actions = "processors.attributes.actions=[{key: user, from_context: auth.username, action: upsert}, {key: tenant, from_context: metadata.X-Tenant, action: upsert}, {key: client, from_context: client.address, action: upsert}, {key: at, from_context: metadata.host, action: upsert}]";
    let more = [
        actions,
        "receivers.otlp.protocols.grpc.include_metadata=true",
        "receivers.otlp.protocols.http.include_metadata=true",
        "receivers.otlp.protocols.http.cors.allowed_origins=['https://a']",
        "service.pipelines.traces.processors=[attributes, batch]",
    ];
    let inline = r"{htpasswd: {inline: 'shop:$$2a$$06$$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe'}}";
    let rig = rig("basicauth", inline, &more).await;
    let right = format!("Basic {}", STANDARD.encode("shop:a"));
    let wrong = format!("Basic {}", STANDARD.encode("shop:b"));
    let tenant = ("x-tenant", "blue");
    let reply = rig.post(&[PROTOBUF, ("authorization", &wrong)], request([1])).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"otlp\", charset=\"UTF-8\"");
    let reply = rig.post(&[PROTOBUF, ("authorization", &right), tenant], request([1])).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let grpc_port = rig.address("otlp-grpc");
    let metadata = [("authorization", right.as_str()), tenant];
    grpc::export_with(&grpc_port, request([2]), &metadata).await.unwrap();
    // A browser asks without credentials.
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
    let ask = rig.http.request(reqwest::Method::OPTIONS, url).header("origin", "https://a");
    let reply = ask.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(reply.headers()["access-control-allow-origin"], "https://a");

    until("sent", async || span_ids(&rig.attempts().await) == [1, 2]).await;
    let payloads = rig.attempts().await;
    let tracers = payloads.iter().flat_map(|payload| &payload.tracer_payloads);
    let spans = tracers.flat_map(|tracer| &tracer.chunks).flat_map(|chunk| &chunk.spans);
    for span in spans {
        let address = rig.address(if span.span_id == 1 { "otlp-http" } else { "otlp-grpc" });
        for (key, value) in
            [("user", "shop"), ("tenant", "blue"), ("client", "127.0.0.1"), ("at", &address)]
        {
            assert_eq!(span.meta.get(key).map(String::as_str), Some(value), "{key}: {span:?}");
        }
    }
    assert!(rig.stop().await.0.is_clean());
}
