//! Senders that are refused or held: the status that each protocol has for it, for how long they are asked to wait, and that none is
//! left without an answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause, resume, sleep, timeout};
use tonic::Code;

use crate::grpc;
use crate::support::{DEADLINE, answer, golden, intake, recover, request, span_ids, start, until};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
/// Longer than any answer takes, by a clock that is paused.
const HANGS: Duration = Duration::from_secs(120);

#[tokio::test]
async fn who_is_refused_at_once_is_asked_to_wait_for_three_seconds() {
    let settings = [
        "processors.memory_limiter={check_interval: 1s, limit_mib: 2, spike_limit_mib: 1}",
        "service.pipelines.traces.processors=[memory_limiter]",
    ];
    let rig = start(intake().await, &settings, DEADLINE).await;
    let short = "the collector has too much in memory; send again later";
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"json"}]}]}]}"#;
    for (kind, body) in [(PROTOBUF, golden()), (JSON, json.into())] {
        let refused = rig.post(&[kind], body).await;
        assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"3".parse().unwrap()));
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains(short), "{text}");
    }
    let status = grpc::export(&rig.address("otlp-grpc"), golden(), None).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, short));
    grpc::expect_delay(&status, 3);
    assert_eq!(rig.metric("otelcol_receiver_refused_requests").await, 3);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 0);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_answered_at_its_deadline() {
    let rig = start(intake().await, &[], DEADLINE).await;
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 1000\r\n\r\n";
    // One sends nothing more, and one a byte every second.
    let mut answers = Vec::new();
    for sends_on in [false, true] {
        let mut stream = TcpStream::connect(rig.address("otlp-http")).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                sleep(if sends_on { Duration::from_secs(1) } else { HANGS * 2 }).await;
            }
        });
        answers.push(tokio::spawn(async move {
            let mut text = Vec::new();
            read.read_to_end(&mut text).await.unwrap();
            String::from_utf8_lossy(&text).into_owned()
        }));
    }
    // So that half a minute need not be waited for.
    pause();
    let begun = Instant::now();
    let address = rig.address("otlp-grpc");
    let over_grpc = grpc::refusal_of_endless(&address, request([1]));
    let status = timeout(HANGS, over_grpc).await.expect("an answer over gRPC");
    for answer in answers {
        let text = timeout(HANGS, answer).await.expect("an answer over HTTP").unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.contains("\r\nretry-after: 3\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
        assert!(text.contains("the request took more than 30 s to arrive"), "{text}");
    }
    assert_eq!(begun.elapsed().as_secs(), 30);
    resume();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    grpc::expect_delay(&status, 3);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 3);
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 0);
}

#[tokio::test]
async fn where_senders_wait_for_the_result_they_are_held_for_room_likewise() {
    for queue in [
        "{enabled: false, queue_size: 1}",
        "{wait_for_result: true, queue_size: 1, num_consumers: 1}",
    ] {
        let intake = intake().await;
        answer(&intake, 503, u64::MAX).await;
        let queue = format!("exporters.datadog.sending_queue={queue}");
        let settings = [&*queue, "service.pipelines.traces.processors=[]"];
        let rig = start(intake, &settings, DEADLINE).await;
        let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
        let post = |id| {
            let post = rig.http.post(&url).header(PROTOBUF.0, PROTOBUF.1).body(request([id]));
            tokio::spawn(async move {
                let response = post.send().await.unwrap();
                (response.status().as_u16(), response.headers().get("retry-after").cloned())
            })
        };
        let taken = post(1);
        until("it is taken", async || rig.metric("otelcol_exporter_queue_size").await == 1).await;
        // So that the hold need not be waited for.
        pause();
        let begun = Instant::now();
        let refused = timeout(HANGS, post(2)).await.expect("an answer").unwrap();
        assert_eq!((begun.elapsed().as_secs(), refused), (8, (503, Some("1".parse().unwrap()))));
        resume();
        assert!(!taken.is_finished(), "it was answered before it was sent");
        let held = post(3);
        until("it is held", async || rig.metric("otelcol_exporter_held_requests").await == 2).await;
        let recovered = recover(&rig.intake).await;
        assert_eq!(taken.await.unwrap(), (200, None));
        assert_eq!(held.await.unwrap(), (200, None), "as soon as there was room, and it was sent");
        assert_eq!(span_ids(&recovered.payloads()), [1, 3], "{queue}");
    }
}
