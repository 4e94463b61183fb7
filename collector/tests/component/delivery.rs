//! Accepted spans arrive, whatever the intake answers at first.

use std::io::Write as _;

use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::grpc;
use crate::support::{
    DEADLINE, answer, bodies, golden, intake, payloads, recover, request, span_ids, start,
    start_with, stats, until,
};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

#[tokio::test]
async fn traces_over_every_protocol_and_compression_reach_the_intake() {
    let rig = {
        let intake = intake().await;
        answer(&intake, 202, u64::MAX).await;
        start(intake, &[], DEADLINE).await
    };
    let grpc = rig.address("otlp-grpc");
    for compression in [
        None,
        Some(CompressionEncoding::Gzip),
        Some(CompressionEncoding::Zstd),
        Some(CompressionEncoding::Deflate),
    ] {
        let reply = grpc::export(&grpc, golden(), compression).await.unwrap();
        assert!(reply.is_empty(), "no partial success");
    }
    rig.send(golden()).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&golden()).unwrap();
    let reply = rig.post(&[PROTOBUF, ("content-encoding", "gzip")], gzip.finish().unwrap()).await;
    assert_eq!(reply.status, 200);
    let zstd = zstd::encode_all(&*golden(), 1).unwrap();
    let reply = rig.post(&[PROTOBUF, ("content-encoding", "zstd")], zstd).await;
    assert_eq!(reply.status, 200);
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0000000000000000000000000000abcd","spanId":"000000000000abcd","name":"json"}]}]}]}"#;
    let reply = rig.post(&[("content-type", "application/json; charset=utf-8")], json).await;
    assert_eq!((reply.status, &*reply.body), (200, &b"{}"[..]));

    until("57 spans at the intake", async || span_ids(&rig.attempts().await).len() == 57).await;
    let requests = rig.intake.received_requests().await.unwrap();
    let traces = requests.iter().find(|request| request.url.path() == "/api/v0.2/traces").unwrap();
    let header = |name: &str| traces.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("dd-api-key"), "0123456789abcdef0123456789abcdef");
    assert_eq!(
        (header("content-type").as_str(), header("content-encoding").as_str()),
        ("application/x-protobuf", "zstd")
    );
    assert!(header("user-agent").starts_with("Datadog Trace Agent/datadogexporter-collector-"));
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 57);
    until("57 counted as sent", async || rig.metric("otelcol_exporter_sent_spans").await == 57)
        .await;
    assert_eq!(rig.metric("otelcol_processor_batch_batch_send_size_sum").await, 57);
    assert!(rig.metric("otelcol_processor_batch_batch_send_size_count").await > 0);
    assert!(rig.metric("otelcol_processor_batch_batch_send_size_bytes_sum").await > 57 * 20);
    assert_eq!(rig.metric("otelcol_exporter_queue_batch_send_size_sum").await, 57);
    let [batched, sent] = ["processor_batch_batch", "exporter_queue_batch"];
    let bytes = async |stage| rig.metric(&format!("otelcol_{stage}_send_size_bytes_sum")).await;
    assert_eq!(bytes(sent).await, bytes(batched).await);
    assert_eq!(rig.metric("otelcol_processor_batch_metadata_cardinality").await, 1);
    let in_flight = async || rig.metric("otelcol_exporter_in_flight_requests").await;
    until("nothing is on its way", async || in_flight().await == 0).await;
    assert_eq!(rig.metric("target_info").await, 1);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn an_outage_of_the_intake_loses_and_doubles_nothing() {
    let intake = intake().await;
    for status in [503, 500, 429, 408] {
        answer(&intake, status, 1).await;
    }
    answer(&intake, 202, u64::MAX).await;
    let rig = start(intake, &[], DEADLINE).await;
    rig.send(request(1..=5)).await;
    until("five attempts", async || rig.attempts().await.len() == 5).await;
    let attempts = rig.attempts().await;
    assert_eq!(span_ids(&attempts[4..]), [1, 2, 3, 4, 5]);
    assert!(attempts.iter().all(|attempt| *attempt == attempts[0]), "a retry sends the same bytes");
    until("counted as sent", async || rig.metric("otelcol_exporter_sent_spans").await == 5).await;
    assert_eq!(rig.metric("otelcol_exporter_send_failed_spans").await, 20);
    assert_eq!(rig.metric("otelcol_exporter_dropped_spans").await, 0);
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_cut_until_it_fits() {
    let intake = intake().await;
    answer(&intake, 413, 3).await;
    answer(&intake, 202, u64::MAX).await;
    let rig = start(intake, &[], DEADLINE).await;
    rig.send(request(1..=8)).await;
    until("eight sent", async || rig.metric("otelcol_exporter_sent_spans").await == 8).await;
    let attempts = rig.attempts().await;
    let sizes: Vec<_> =
        attempts.iter().map(|attempt| span_ids(std::slice::from_ref(attempt)).len()).collect();
    assert_eq!(sizes, [8, 4, 2, 1, 1, 2, 4]);
    assert_eq!(span_ids(&attempts[3..]), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_refused_key_drops_the_spans_and_counts_them_with_the_reason() {
    for status in [400, 401, 403] {
        let intake = intake().await;
        answer(&intake, status, u64::MAX).await;
        let rig = start(intake, &[], DEADLINE).await;
        rig.send(request(1..=3)).await;
        until("dropped", async || rig.metric("otelcol_exporter_dropped_spans").await == 3).await;
        assert_eq!(rig.attempts().await.len(), 1, "{status} is not tried again");
        let (drained, _) = rig.stop().await;
        assert!(drained.is_clean(), "what was dropped for a reason is not left over");
    }
}

#[tokio::test]
async fn a_full_queue_holds_senders_then_refuses_and_loses_nothing_that_it_took() {
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let settings = [
        "exporters.datadog.sending_queue.queue_size=2",
        "exporters.datadog.sending_queue.num_consumers=1",
        "service.pipelines.traces.processors=[]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(request([1])).await;
    rig.send(request([2])).await;
    let begun = std::time::Instant::now();
    let address = rig.address("otlp-grpc");
    let (refused, status) = tokio::join!(
        rig.post(&[PROTOBUF], request([3])),
        grpc::export(&address, request([4]), None),
    );
    // Less than the 10 s that senders wait.
    assert!((8..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    grpc::expect_delay(&status, 1);
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 2);
    assert_eq!(rig.metric("otelcol_receiver_refused_spans").await, 2);
    assert_eq!(rig.metric("otelcol_exporter_enqueue_failed_spans").await, 2);
    assert_eq!(rig.metric("otelcol_exporter_held_requests").await, 2);

    let held = {
        let (http, address) = (rig.http.clone(), rig.address("otlp-http"));
        tokio::spawn(async move {
            let post = http.post(format!("http://{address}/v1/traces"));
            let post = post.header(PROTOBUF.0, PROTOBUF.1).body(request([5]));
            post.send().await.unwrap().status().as_u16()
        })
    };
    until("it is held", async || rig.metric("otelcol_exporter_held_requests").await == 3).await;
    let recovered = recover(&rig.intake).await;
    assert_eq!(held.await.unwrap(), 200);
    until("three sent", async || rig.metric("otelcol_exporter_sent_spans").await == 3).await;
    assert_eq!(span_ids(&recovered.payloads()), [1, 2, 5]);
}

#[tokio::test]
async fn a_full_queue_lets_senders_wait_where_they_may() {
    for processors in ["[]", "[batch]"] {
        let intake = intake().await;
        answer(&intake, 503, u64::MAX).await;
        let processors = format!("service.pipelines.traces.processors={processors}");
        let settings = [
            "exporters.datadog.sending_queue={queue_size: 1, num_consumers: 1, block_on_overflow: true}",
            "processors.batch.send_batch_size=1",
            &processors,
        ];
        let rig = start(intake, &settings, DEADLINE).await;
        // More than the queue and what stands before it have room for: some wait.
        let posts = (1..=100).map(|id| {
            let (http, address) = (rig.http.clone(), rig.address("otlp-http"));
            tokio::spawn(async move {
                let post = http.post(format!("http://{address}/v1/traces"));
                let post = post.header(PROTOBUF.0, PROTOBUF.1).body(request([id]));
                post.send().await.unwrap().status().as_u16()
            })
        });
        let posts: Vec<_> = posts.collect();
        until("it is full", async || rig.metric("otelcol_exporter_queue_size").await == 1).await;
        assert!(posts.iter().any(|post| !post.is_finished()), "none waits");
        recover(&rig.intake).await;
        for post in posts {
            assert_eq!(post.await.unwrap(), 200);
        }
        until("all sent", async || rig.metric("otelcol_exporter_sent_spans").await == 100).await;
        assert_eq!(rig.metric("otelcol_exporter_enqueue_failed_spans").await, 0);
    }
}

#[tokio::test]
async fn a_sender_that_waits_for_the_result_hears_it() {
    let waits = "exporters.datadog.sending_queue.wait_for_result=true";
    for processors in ["[]", "[batch]"] {
        let intake = intake().await;
        answer(&intake, 503, 3).await;
        answer(&intake, 202, 2).await;
        answer(&intake, 400, u64::MAX).await;
        let processors = format!("service.pipelines.traces.processors={processors}");
        let rig = start(intake, &[waits, &processors], DEADLINE).await;
        rig.send(request([1])).await;
        assert_eq!(rig.attempts().await.len(), 4, "it was answered when it was sent");
        let grpc = rig.address("otlp-grpc");
        grpc::export(&grpc, request([2]), None).await.unwrap();
        let refused = rig.post(&[PROTOBUF], request([3])).await;
        assert_eq!(refused.status, 500);
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains("spans could not be sent: Datadog answered 400"), "{text}");
        let status = grpc::export(&grpc, request([4]), None).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 0);
    }
}

#[tokio::test]
async fn without_retries_a_sender_that_waits_is_asked_to_come_again() {
    for queue in ["{enabled: false}", "{wait_for_result: true}"] {
        let intake = intake().await;
        answer(&intake, 503, 2).await;
        answer(&intake, 202, u64::MAX).await;
        let queue = format!("exporters.datadog.sending_queue={queue}");
        let retry = "exporters.datadog.retry_on_failure.enabled=false";
        let rig = start(intake, &[&queue, retry], DEADLINE).await;
        let refused = rig.post(&[PROTOBUF], request([1])).await;
        assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"3".parse().unwrap()));
        let status = grpc::export(&rig.address("otlp-grpc"), request([1]), None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        rig.send(request([1])).await;
        assert_eq!(span_ids(&rig.attempts().await), [1, 1, 1], "{queue}");
    }
}

#[tokio::test]
async fn without_a_queue_any_number_is_sent_at_the_same_time_and_answered_when_it_is_sent() {
    let intake = intake().await;
    let slow =
        wiremock::ResponseTemplate::new(202).set_delay(std::time::Duration::from_millis(500));
    let traces = wiremock::Mock::given(wiremock::matchers::path("/api/v0.2/traces"));
    traces.respond_with(slow).mount(&intake).await;
    let settings =
        ["exporters.datadog.sending_queue.enabled=false", "service.pipelines.traces.processors=[]"];
    let rig = start(intake, &settings, DEADLINE).await;
    let begun = std::time::Instant::now();
    let one = |id: [u64; 1]| rig.send(request(id));
    tokio::join!(one([1]), one([2]), one([3]), one([4]), one([5]));
    assert!(begun.elapsed().as_millis() >= 500, "they were answered before they were sent");
    assert!(begun.elapsed().as_millis() < 1500, "they waited for each other");
    assert_eq!(span_ids(&rig.attempts().await), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn processors_change_what_goes_on_and_the_connector_counts_nothing_twice() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "processors.memory_limiter={check_interval: 1s, limit_percentage: 99}",
        "processors.resource={attributes: [{key: deployment.environment, value: Changed, action: upsert}]}",
        "processors.attributes={actions: [{key: http.route, action: delete}, {key: hop, value: 7, action: insert}]}",
        "connectors.datadog/connector=",
        "service.pipelines={traces: {receivers: [otlp], processors: [memory_limiter, resource, attributes, batch], exporters: [datadog/connector, datadog]}, metrics: {receivers: [datadog/connector], exporters: [datadog]}}",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(golden()).await;
    until("eight sent", async || rig.metric("otelcol_exporter_sent_spans").await == 8).await;
    let attempts = rig.attempts().await;
    let tracers: Vec<_> = attempts.iter().flat_map(|attempt| &attempt.tracer_payloads).collect();
    assert_eq!(tracers.len(), 3);
    for tracer in tracers {
        for span in tracer.chunks.iter().flat_map(|chunk| &chunk.spans) {
            assert_eq!(span.metrics["hop"], 7.0);
            assert!(!span.meta.contains_key("http.route"));
            assert_eq!(span.meta["deployment.environment"], "Changed");
        }
    }
    let (_, intake) = rig.stop().await;
    let payloads = stats(&intake).await;
    let clients = payloads.iter().flat_map(|payload| &payload.stats);
    let groups = clients.flat_map(|client| &client.stats).flat_map(|bucket| &bucket.stats);
    assert_eq!(groups.map(|group| group.hits).sum::<u64>(), 7);
}

#[tokio::test]
async fn without_stats_none_are_sent() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let gates = ["exporter.datadogexporter.DisableAPMStats".to_owned()];
    let rig = start_with(intake, &[], &gates, DEADLINE).await;
    rig.send(golden()).await;
    let (drained, intake) = rig.stop().await;
    assert!(drained.is_clean());
    assert_eq!(span_ids(&payloads(&intake).await).len(), 8);
    assert!(stats(&intake).await.is_empty());
}

#[tokio::test]
async fn datadog_is_reported_which_hosts_and_what_host_this_is() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = ["exporters.datadog.host_metadata={enabled: true, tags: [team:a]}"];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(golden()).await;
    until("both reported", async || {
        let requests = rig.intake.received_requests().await.unwrap();
        let has = |path: &str| requests.iter().any(|request| request.url.path() == path);
        has("/api/v2/series") && has("/intake")
    })
    .await;
    let json = async |path: &str| -> serde_json::Value {
        serde_json::from_slice(&bodies(&rig.intake, path).await[0]).unwrap()
    };
    let series = json("/api/v2/series").await;
    let hosts: Vec<_> = series["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| &point["resources"][0]["name"])
        .collect();
    assert_eq!(hosts, ["node-2", "node-2", "test-host", "test-host"]);
    let facts = json("/intake").await;
    assert_eq!(
        (&facts["internalHostname"], &facts["host-tags"]["otel"][0]),
        (&"test-host".into(), &"team:a".into())
    );
}

#[tokio::test]
async fn the_ledger_reports_what_became_of_each_trace() {
    let intake = intake().await;
    answer(&intake, 413, 3).await;
    answer(&intake, 202, 1).await;
    answer(&intake, 403, u64::MAX).await;
    let settings = [
        "extensions.trace_ledger={endpoint: '127.0.0.1:0', max_traces: 100}",
        "service.extensions=[health_check, trace_ledger]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    // The one without an id is dropped by the mapping; the others are cut, sent and refused.
    rig.send(request(0..=3)).await;
    until("all decided", async || {
        rig.metric("otelcol_exporter_sent_spans").await
            + rig.metric("otelcol_exporter_dropped_spans").await
            == 4
    })
    .await;
    let reported = async |id: u32| -> serde_json::Value {
        let url = format!("http://{}/debug/traces/{id:032x}", rig.address("ledger"));
        let body = rig.http.get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    };
    let zero = reported(0).await;
    assert_eq!(zero["accepted"], 1);
    assert_eq!(zero["exporters"]["datadog"]["dropped"], serde_json::json!({ "zero_trace_id": 1 }));
    let mut sent = 0;
    for id in 1..=3 {
        let trace = reported(id).await;
        assert_eq!(
            (&trace["accepted"], &trace["refused"], &trace["evicted"]),
            (&1.into(), &0.into(), &false.into())
        );
        let exporter = &trace["exporters"]["datadog"];
        sent += exporter["exported"].as_u64().unwrap();
        let dropped: u64 = exporter["dropped"]
            .as_object()
            .unwrap()
            .values()
            .map(|spans| spans.as_u64().unwrap())
            .sum();
        assert_eq!(exporter["exported"].as_u64().unwrap() + dropped, 1, "{trace}");
    }
    assert_eq!(
        sent, 1,
        "the third 413 is for a single span, the 202 for another, the 403 for the last"
    );
}

#[tokio::test]
async fn senders_are_refused_as_a_test_scripts_it_and_the_ledger_reports_whom() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "extensions.trace_ledger={endpoint: '127.0.0.1:0', max_traces: 100}",
        "service.extensions=[health_check, trace_ledger]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    let ledger = format!("http://{}", rig.address("ledger"));
    let script = async |query: &str| {
        let posted = rig.http.post(format!("{ledger}/debug/replies?{query}")).send().await;
        posted.unwrap().status().as_u16()
    };
    assert_eq!(script("status=99").await, 400);
    assert_eq!(script("status=503&retry_after=2s&next=2&except=x-own").await, 200);
    let agent = ("user-agent", "shop/1");
    let own = rig.post(&[PROTOBUF, ("x-own", "1")], request([1])).await;
    assert_eq!(own.status, 200);
    let refused = rig.post(&[PROTOBUF, agent], request([2])).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"2".parse().unwrap()));
    let grpc = rig.address("otlp-grpc");
    let status = grpc::export(&grpc, request([2]), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    grpc::expect_delay(&status, 2);
    rig.send(request([2])).await;

    assert_eq!(script("status=429").await, 200);
    assert_eq!(rig.post(&[PROTOBUF, agent], request([2])).await.status, 429);
    let cleared = rig.http.delete(format!("{ledger}/debug/replies")).send().await.unwrap();
    assert_eq!(cleared.status(), 200);
    rig.send(request([3])).await;
    // And one that speaks HTTP to the port of gRPC.
    let lost = rig.http.post(format!("http://{grpc}/v1/traces")).header(agent.0, agent.1);
    assert_eq!(lost.body(request([4])).send().await.unwrap().status(), 415);

    let reported = rig.http.get(format!("{ledger}/debug/traces/{:032x}", 2)).send().await.unwrap();
    let reported: serde_json::Value =
        serde_json::from_slice(&reported.bytes().await.unwrap()).unwrap();
    assert_eq!((&reported["accepted"], &reported["refused"]), (&1.into(), &3.into()), "{reported}");
    assert_eq!(reported["refused_from"]["shop/1 (http)"], 2, "{reported}");
    let from = reported["refused_from"].as_object().unwrap();
    assert!(from.keys().any(|name| name.ends_with(" (grpc)")), "{reported}");
    assert_eq!(reported["wrong_port"], serde_json::json!({ "shop/1 (http)": 1 }));
    assert_eq!(rig.metric("otelcol_receiver_refused_requests").await, 3);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 1, "the wrong port's");
}

#[tokio::test]
async fn a_sender_is_answered_within_the_time_that_it_waits() {
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let settings = [
        "exporters.datadog.sending_queue={wait_for_result: true, queue_size: 1, num_consumers: 1}",
        "service.pipelines.traces.processors=[]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    let address = rig.address("otlp-grpc");
    let (code, message) = grpc::refusal_within(&address, &request([1]), "200m").await;
    assert_eq!(
        (code, message.as_str()),
        (Code::DeadlineExceeded, "the spans are held, and are not sent yet; send again later")
    );
    // The queue is full now: said while the sender still waits.
    let (code, message) = grpc::refusal_within(&address, &request([2]), "200m").await;
    assert_eq!(
        (code, message.as_str()),
        (Code::Unavailable, "the queue is full; send again later")
    );
    assert_eq!(rig.metric("otelcol_exporter_held_requests").await, 1);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 0);
    let (code, message) = grpc::refusal_within(&address, &request([3]), "0S").await;
    let late = "the request did not arrive within its `grpc-timeout`";
    assert_eq!((code, message.as_str()), (Code::DeadlineExceeded, late));
    let (code, message) = grpc::refusal_within(&address, &request([4]), "10s").await;
    assert_eq!(code, Code::Internal, "{message}");
    assert!(message.starts_with("`grpc-timeout: 10s` is no time"), "{message}");
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 2);
    recover(&rig.intake).await;
    until("the first is sent", async || rig.metric("otelcol_exporter_sent_spans").await == 1).await;
}

#[tokio::test]
async fn a_call_with_two_messages_is_refused_and_nothing_of_it_is_taken() {
    let rig = start(intake().await, &["service.pipelines.traces.processors=[]"], DEADLINE).await;
    let address = rig.address("otlp-grpc");
    let messages = [request([1]), request([2])];
    let two: Vec<&[u8]> = messages.iter().map(|message| message.as_ref()).collect();
    let (code, message) = grpc::refusal_of_several(&address, &two).await;
    assert_eq!((code, message.as_str()), (Code::Internal, "the call has more than one message"));
    let (code, message) = grpc::refusal_of_several(&address, &[]).await;
    assert_eq!((code, message.as_str()), (Code::Internal, "the call has no message"));
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 2);
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 0);
}

#[tokio::test]
async fn a_sampler_keeps_traces_by_their_ids_in_front_of_batches_and_counts_what_goes() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "processors.probabilistic_sampler={sampling_percentage: 50, mode: equalizing}",
        "exporters.datadog.sending_queue.wait_for_result=true",
        "service.pipelines.traces.processors=[batch, probabilistic_sampler]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    // By the last 56 bits of the trace id, the upper half stays.
    let kept = 1 << 55;
    rig.send(request([1, 2, kept, kept + 1])).await;
    rig.send(request([3])).await;
    until("two are sent", async || span_ids(&rig.attempts().await) == [kept, kept + 1]).await;
    let judged = async |sampled: &str| {
        let name = "otelcol_processor_probabilistic_sampler_count_spans_processed";
        rig.metric(&format!("{name}{{processor=\"probabilistic_sampler\",policy=\"trace_id_w3c\",sampled=\"{sampled}\"}}")).await
    };
    assert_eq!((judged("true").await, judged("false").await), (2, 3));
    assert_eq!(rig.metric("otelcol_processor_batch_batch_send_size_sum").await, 2);
    assert!(rig.stop().await.0.is_clean());
}

#[tokio::test]
async fn only_chosen_spans_are_changed_and_all_go_on() {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "processors.span={include: {match_type: strict, span_names: [span]}, status: {code: Error, description: d}}",
        "processors.attributes={exclude: {match_type: strict, span_names: [span]}, actions: [{key: added, value: x, action: insert}]}",
        "exporters.datadog.traces={span_name_as_resource_name: true}",
        "service.pipelines.traces.processors=[span, attributes, batch]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(request(1..=3)).await;
    let other = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0000000000000000000000000000abcd","spanId":"000000000000abcd","name":"other"}]}]}]}"#;
    assert_eq!(rig.post(&[("content-type", "application/json")], other).await.status, 200);
    until("all are sent", async || span_ids(&rig.attempts().await).len() == 4).await;
    let payloads = rig.attempts().await;
    let tracers = payloads.iter().flat_map(|payload| &payload.tracer_payloads);
    for span in tracers.flat_map(|tracer| &tracer.chunks).flat_map(|chunk| &chunk.spans) {
        let is_other = span.span_id == 0xabcd;
        let added = span.meta.get("added").map(String::as_str);
        assert_eq!((span.error, added), (i32::from(!is_other), is_other.then_some("x")));
    }
    assert!(rig.stop().await.0.is_clean());
}
