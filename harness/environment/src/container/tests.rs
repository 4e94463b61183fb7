use std::time::Duration;

use super::*;
use harness_core::secret::Secret;
use harness_system::{
    chain::Chain,
    testing::{service, system},
};

fn planned(system: &System, images: &[(&str, &str)]) -> Result<Vec<Container>, EnvironmentError> {
    let images = images.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned()));
    let images = images.collect();
    let host = |name: &str| format!("{name}.svc");
    plan(system, &Choices { environment: "docker", host: &host, images: &images })
}

#[test]
fn port_numbers_are_the_usual_ones_and_never_meet() {
    let names = ["zpages", "otlp-http", "health", "otlp/b-grpc", "http", "metrics", "otlp-grpc"];
    let numbers = port_numbers(&names.map(str::to_owned));
    assert_eq!(numbers["http"], 8080);
    assert_eq!(numbers["otlp-grpc"], 4317);
    assert_eq!(numbers["otlp-http"], 4318);
    assert_eq!(numbers["metrics"], 8888);
    assert_eq!(numbers["health"], 13_133);
    assert_eq!((numbers["otlp/b-grpc"], numbers["zpages"]), (9000, 9001));
    let distinct: BTreeSet<u16> = numbers.values().copied().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn the_built_in_chain_is_wired_by_host_names_and_listens_for_others() {
    let system = Chain::new(Secret::new("5ecret")).system().unwrap();
    let containers = planned(&system, &[]).unwrap();
    let of = |name: &str| containers.iter().find(|one| one.workload == name).unwrap();
    assert_eq!(of("intake").args, ["--listen=0.0.0.0:8080"]);
    assert_eq!(of("intake").entrypoint, ["/tracecheck", "intake"]);
    let collector = of("collector");
    assert!(collector.args.contains(&"--config=/etc/tracecheck/files/overlay.json".to_owned()));
    let overlay: serde_json::Value =
        serde_json::from_str(&collector.files["overlay.json"]).unwrap();
    assert_eq!(overlay["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"], "0.0.0.0:4317");
    assert_eq!(overlay["exporters"]["datadog"]["traces"]["endpoint"], "http://intake.svc:8080");
    let reader = &overlay["service"]["telemetry"]["metrics"]["readers"][0];
    let served = serde_json::json!({ "host": "0.0.0.0", "port": 8888 });
    assert_eq!(reader["pull"]["exporter"]["prometheus"], served);
    let first = of("sample-app-1");
    assert!(first.env.values().any(|value| value == "http://sample-app-2.svc:8080"), "{first:?}");
    assert_eq!(first.image, Image::Tracecheck);
}

#[test]
fn what_stands_between_two_workloads_is_a_container_of_its_own_on_their_way() {
    let mut system = Chain::new(Secret::new("5ecret")).system().unwrap();
    for (caller, callee) in [("sample-app-1", "sample-app-2"), ("collector", "intake")] {
        system.put_between(caller, callee).unwrap();
    }
    let containers = planned(&system, &[]).unwrap();
    let of = |name: &str| containers.iter().find(|one| one.workload == name).unwrap();
    let calls = of("tap-sample-app-1-sample-app-2");
    assert_eq!((&calls.image, &*calls.entrypoint[1]), (&Image::Tracecheck, "tap"));
    assert_eq!(
        calls.args,
        ["--edge=http=0.0.0.0:8080=sample-app-2.svc:8080", "--control=0.0.0.0:9000"]
    );
    assert_eq!(calls.ports, [("http".to_owned(), 8080), ("tap-control".to_owned(), 9000)].into());
    let way = "http://tap-sample-app-1-sample-app-2.svc:8080";
    assert_eq!(of("sample-app-1").env["UPSTREAM_URIS"], way);
    let payloads = of("tap-collector-intake");
    assert_eq!(payloads.args[0], "--edge=http=0.0.0.0:8080=intake.svc:8080");
    let overlay: serde_json::Value =
        serde_json::from_str(&of("collector").files["overlay.json"]).unwrap();
    let traces = &overlay["exporters"]["datadog"]["traces"]["endpoint"];
    assert_eq!(traces, "http://tap-collector-intake.svc:8080");
}

#[test]
fn a_program_of_this_machine_needs_an_image() {
    let system = system([service("web", &["--at", "${listen:http}"])]);
    let error = planned(&system, &[]).unwrap_err().to_string();
    assert!(error.contains("cannot start `web`") && error.contains("--image web="), "{error}");
    let containers = planned(&system, &[("web", "shop/web:1")]).unwrap();
    assert_eq!(containers[0].image, Image::Named("shop/web:1".to_owned()));
    assert_eq!(containers[0].entrypoint, ["service"]);
    assert_eq!(containers[0].args, ["--at", "0.0.0.0:8080"]);
}

#[test]
fn a_reference_to_what_is_not_there_is_an_error() {
    let system = system([service("web", &["${endpoint:shop.http}"])]);
    let error = planned(&system, &[("web", "x")]).unwrap_err().to_string();
    assert!(error.contains("`web`") && error.contains("${endpoint:shop.http}"), "{error}");
}

#[test]
fn how_long_a_workload_has_and_what_ends_it_goes_with_its_container() {
    let mut shop = service("shop", &["http"]);
    let (start, stop) = (Some(Duration::from_secs(90)), Some(Duration::from_millis(2100)));
    shop.limits = Limits { start, stop, stop_signal: StopSignal::Int };
    let images = [("shop", "example.org/shop:1")];
    let containers = planned(&system(vec![shop.clone()]), &images).unwrap();
    let of = |name: &str| containers.iter().find(|one| one.workload == name).unwrap();
    let planned = of("shop");
    assert_eq!(planned.limits, shop.limits);
    assert_eq!((planned.stop_seconds(30), planned.status_of_stop()), (3, 130));
    assert!(
        containers
            .iter()
            .filter(|one| one.workload != "shop")
            .all(|one| one.stop_seconds(30) == 30 && one.status_of_stop() == 143)
    );
}
