use super::telemetry::{ExporterSettings, OtlpProtocol, OtlpSettings, PropagatorName, RootSampler};
use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Settings, String> {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::from_vars(&vars).map_err(|error| error.to_string())
}

fn otlp(vars: &[(&str, &str)]) -> OtlpSettings {
    match read(vars).unwrap().telemetry.exporter {
        ExporterSettings::Otlp(otlp) => otlp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.name, "sample-app");
    assert_eq!(settings.listen_addr.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.client_timeout, Duration::from_secs(5));
    assert_eq!((settings.client_retries, settings.upstreams.len()), (0, 0));
    assert!(settings.telemetry.sampler.parent_based);
    assert_eq!(
        settings.telemetry.propagators,
        [PropagatorName::TraceContext, PropagatorName::Baggage]
    );
    let otlp = otlp(&[]);
    assert_eq!(
        (otlp.protocol, otlp.endpoint.as_str()),
        (OtlpProtocol::Grpc, "http://localhost:4317")
    );
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let settings =
        read(&[("LISTEN_ADDR", ""), ("OTEL_PROPAGATORS", " "), ("UPSTREAM_URIS", "")]).unwrap();
    assert_eq!(settings.listen_addr.port(), 8080);
    assert_eq!(settings.telemetry.propagators.len(), 2);
}

#[test]
fn the_http_endpoint_gets_the_path_unless_it_is_the_traces_own() {
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/prefix/");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:4318/mine");
    assert_eq!(otlp(&[protocol]).endpoint, "http://localhost:4318/v1/traces");
    assert_eq!(otlp(&[protocol, base]).endpoint, "http://collector:4318/prefix/v1/traces");
    assert_eq!(otlp(&[protocol, base, own]).endpoint, "http://other:4318/mine");
}

#[test]
fn variables_for_traces_come_before_those_for_all_signals() {
    let settings = otlp(&[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
    ]);
    assert_eq!(
        (settings.protocol, settings.timeout),
        (OtlpProtocol::Grpc, Duration::from_millis(250))
    );
}

#[test]
fn headers_are_decoded_and_their_values_never_shown() {
    let settings = otlp(&[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=se%20cret, x-other=1")]);
    assert_eq!(settings.headers.0["x-key"], "se cret");
    assert!(!format!("{settings:?}").contains("cret"), "{settings:?}");
    let message = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret,oops")]).unwrap_err();
    assert_eq!(
        message,
        "OTEL_EXPORTER_OTLP_HEADERS=***: entry 2 is not KEY=VALUE; \
         write KEY=VALUE,KEY=VALUE, what is special in a value percent-encoded"
    );
}

#[test]
fn the_service_name_variable_comes_before_the_attribute() {
    let attributes =
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=GettingStarted,service.name=a%2Cb");
    let resource = |vars: &[_]| read(vars).unwrap().telemetry.resource;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        resource(&[attributes]),
        [pair("service.namespace", "GettingStarted"), pair("service.name", "a,b")]
    );
    assert!(
        resource(&[attributes, ("OTEL_SERVICE_NAME", "shop")])
            .contains(&pair("service.name", "shop"))
    );
}

#[test]
fn a_sampler_and_its_ratio_are_read() {
    let vars =
        [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
    let sampler = read(&vars).unwrap().telemetry.sampler;
    assert_eq!((sampler.parent_based, sampler.root), (true, RootSampler::TraceIdRatio(0.25)));
}

#[test]
fn standing_faults_are_read_in_fake_services_words() {
    let faults = |vars: &[_]| read(vars).unwrap().faults;
    let id = opentelemetry::TraceId::from(1);
    assert_eq!(faults(&[]).of(id), None);
    assert_eq!(faults(&[("ERROR_RATE", "1")]).of(id), Some(&FaultKind::Status(500)));
    assert_eq!(
        faults(&[("ERROR_RATE", "1"), ("ERROR_CODE", "503")]).of(id),
        Some(&FaultKind::Status(503))
    );
    assert_eq!(
        faults(&[("ERROR_RATE", "1"), ("ERROR_TYPE", "hang")]).of(id),
        Some(&FaultKind::Hang)
    );
    let delay = [("ERROR_RATE", "1"), ("ERROR_TYPE", "delay"), ("ERROR_DELAY", "10ms")];
    assert_eq!(faults(&delay).of(id), Some(&FaultKind::Delay(Duration::from_millis(10))));
}

#[test]
fn each_bad_value_is_named_with_its_variable_and_a_remedy() {
    for (name, value, remedy) in [
        ("NAME", "a,b", "leave out"),
        ("LISTEN_ADDR", "localhost", "127.0.0.1:8080"),
        ("UPSTREAM_URIS", "sample-app-2:8080", "http://127.0.0.1:8081"),
        ("UPSTREAM_URIS", "http://a:1,,", "separated by commas"),
        ("OUTGOING_HTTP_CALL_URL", "/path", "http://127.0.0.1:9090/path"),
        ("HTTP_CLIENT_REQUEST_TIMEOUT", "5", "500ms or 5s"),
        ("HTTP_CLIENT_REQUEST_TIMEOUT", "0s", "500ms or 5s"),
        ("HTTP_CLIENT_RETRIES", "2", "from 0 to 1"),
        ("ERROR_RATE", "1.5", "from 0 (never) to 1 (always)"),
        ("ERROR_TYPE", "boom", "http_error, delay, abort, hang, panic"),
        ("ERROR_TYPE", "delay", "such as 250ms"),
        ("ERROR_CODE", "200", "400 to 599"),
        ("ERROR_DELAY", "2m", "at most 60s"),
        ("TIMING_50_PERCENTILE", "soon", "such as 250ms"),
        ("RAND_SEED", "-1", "whole number"),
        ("OTEL_SDK_DISABLED", "yes", "true or false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "br", "gzip, zstd, none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name", "KEY=VALUE"),
        ("OTEL_PROPAGATORS", "tracecontext,b3", "tracecontext, baggage and xray"),
        ("OTEL_TRACES_SAMPLER", "xray", "always_on, always_off or traceidratio"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "milliseconds"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "whole number"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "raise OTEL_BSP_MAX_QUEUE_SIZE"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many", "whole number"),
    ] {
        let message = read(&[(name, value)]).unwrap_err();
        assert!(message.starts_with(&format!("{name}={value:?}: ")), "{message}");
        assert!(message.split_once("; ").unwrap().1.contains(remedy), "{message}");
    }
    let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "half")];
    assert!(read(&ratio).unwrap_err().starts_with("OTEL_TRACES_SAMPLER_ARG=\"half\": "));
}
