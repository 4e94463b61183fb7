//! Pages in browsers send: they ask first, and read the replies to what they send.

use reqwest::Method;

use crate::support::{DEADLINE, answer, golden, intake, start};

const PAGE: &str = "https://shop.example.com";

#[tokio::test]
async fn pages_of_allowed_origins_send_protobuf_and_json_and_read_every_reply() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let cors = "receivers.otlp.protocols.http.cors={allowed_origins: ['https://*.example.com'], allowed_headers: [content-type, x-team], max_age: 600, exposed_headers: [retry-after]}";
    let rig = start(intake, &[cors], DEADLINE).await;
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));

    let ask = |origin: &'static str| {
        rig.http
            .request(Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-team")
            .send()
    };
    let reply = ask(PAGE).await.unwrap();
    assert_eq!(reply.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type,x-team"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(reply.headers()[name], value, "{name}");
    }
    let reply = ask("https://example.org").await.unwrap();
    assert_eq!(reply.status(), 204);
    assert!(!reply.headers().contains_key("access-control-allow-origin"));

    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"click"}]}]}]}"#.into();
    for (kind, body, status) in [
        ("application/x-protobuf", golden(), 200),
        ("application/json", json, 200),
        ("application/json", "{".into(), 400),
        ("text/plain", "{}".into(), 415),
    ] {
        let reply = rig.post(&[("origin", PAGE), ("content-type", kind)], body).await;
        assert_eq!(reply.status, status, "{kind}: {reply:?}");
        assert_eq!(reply.headers["access-control-allow-origin"], PAGE, "{kind}: {status}");
        assert_eq!(reply.headers["access-control-expose-headers"], "Retry-After");
        assert_eq!(reply.headers["vary"], "Origin");
    }
    // Whoever is no page is served as before.
    rig.send(golden()).await;
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 2, "not for asking");
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn without_the_setting_no_page_is_answered() {
    let rig = start(intake().await, &[], DEADLINE).await;
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
    let ask = rig.http.request(Method::OPTIONS, url).header("origin", PAGE);
    let reply = ask.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(reply.status(), 405);
    assert!(!reply.headers().keys().any(|name| name.as_str().starts_with("access-control")));
}
