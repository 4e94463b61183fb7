//! A user's own services, described in a system file: what nobody can see must not pass.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Ran, ScenarioFile, TRACECHECK, ran, tracecheck};

/// A shop that calls payments; `pay` is put into the environment of the second.
fn system(pay: &str) -> String {
    format!(
        "entry: shop
workloads:
  - name: shop
    builtin: sample-app
    env:
      OTEL_SERVICE_NAME: shop
      LISTEN_ADDR: ${{listen:http}}
      OTEL_EXPORTER_OTLP_ENDPOINT: ${{endpoint:collector.otlp-grpc}}
      UPSTREAM_URIS: ${{endpoint:pay.http}}
      OTEL_BSP_SCHEDULE_DELAY: \"50\"
    ports: [http]
  - name: pay
    builtin: sample-app
    env:
      OTEL_SERVICE_NAME: pay
      LISTEN_ADDR: ${{listen:http}}
      OTEL_EXPORTER_OTLP_ENDPOINT: ${{endpoint:collector.otlp-grpc}}
      {pay}
    ports: [http]
"
    )
}

const SCENARIO: &str = "name: own\ndescription: Our own services.\nsystem: { file: own.system.yaml }\nrequests:\n  - { get: /outgoing-sampleapp }\n";

pub(crate) fn scenario(pay: &str, more: &str) -> ScenarioFile {
    ScenarioFile::new(&format!("{SCENARIO}{more}")).with("own.system.yaml", &system(pay))
}

#[test]
fn services_without_a_ledger_pass_when_all_of_them_are_heard_of() {
    scenario("OTEL_BSP_SCHEDULE_DELAY: \"50\"", "")
        .run(&[])
        .expect_code(0)
        .expect_stdout("1 passed");
}

#[test]
fn a_service_that_is_never_heard_of_is_inconclusive() {
    scenario("OTEL_TRACES_EXPORTER: none", "").run(&[]).expect_code(3).expect_stdout(
        "silent-service: no span of `pay` was captured of any request in the whole run",
    );
}

#[test]
fn a_service_that_reports_under_another_name_than_its_file_gives_it_fails() {
    scenario("OTEL_BSP_SCHEDULE_DELAY: \"50\"", "")
        .run(&["--app-env", "pay:OTEL_SERVICE_NAME=oops"])
        .expect_code(1)
        .expect_stdout("wrong-service: 1 span of `pay`")
        .expect_stdout("reach Datadog as service `oops`, and are meant to be of `pay`");
}

#[test]
fn a_silent_service_may_be_tolerated_with_a_reason() {
    let tolerate = "tolerate: [{ rule: silent-service, because: it is not traced }]\n";
    scenario("OTEL_TRACES_EXPORTER: none", tolerate).run(&[]).expect_code(0);
}

#[test]
fn a_service_that_the_scenario_asks_for_fails_when_it_is_missing() {
    let expect = "expect: { within: 1s, spans: [{ at: pay, kind: server, count: 1 }] }\n";
    scenario("OTEL_TRACES_EXPORTER: none", expect)
        .run(&[])
        .expect_code(1)
        .expect_stdout("spans: 1 of `pay server` expected, 0 captured");
}

/// A scenario over the two services that sends these requests.
fn requests(requests: &str) -> ScenarioFile {
    let text = format!(
        "name: own\ndescription: Our own services.\nsystem: {{ file: own.system.yaml }}\nrequests:\n{requests}"
    );
    ScenarioFile::new(&text).with("own.system.yaml", &system("OTEL_BSP_SCHEDULE_DELAY: \"50\""))
}

#[test]
fn a_value_of_an_answer_goes_into_a_later_request() {
    let both = requests(
        "  - { get: /outgoing-sampleapp, save: { first: traceId }, answer: { json: { name: { matches: . } } } }
  - { get: '/?after=${saved:first}', entry: pay, answer: { json: { traceId: { matches: '^[0-9a-f]{32}$' } } } }\n",
    );
    both.run(&[]).expect_code(0).expect_stdout("2 traces");
}

#[test]
fn what_is_wrong_with_an_answer_is_reported_with_what_it_was() {
    let wrong = requests(
        "  - { get: /, answer: { json: { name: nobody, none.at.all: { exists: true } }, headers: { content-type: text/html } } }\n",
    );
    wrong
        .run(&[])
        .expect_code(1)
        .expect_stdout("answer: in the answer to GET /, `name` should be `nobody`, is `")
        .expect_stdout("`none.at.all` should be there, is not there; the body begins with `{")
        .expect_stdout("the header `content-type` should be `text/html`, is `application/json`");
}

/// Runs a scenario that fails, in less time than its traces are given.
fn fails_within(scenario: &ScenarioFile, more: &[&str], within: Duration) -> Ran {
    let began = Instant::now();
    let ran = scenario.run(more).expect_code(1);
    assert!(began.elapsed() < within, "it waited for its traces: {}", ran.stdout);
    ran
}

#[test]
fn a_wrong_answer_is_reported_without_waiting_for_what_would_not_mend_it() {
    // Five spans are never made, so that the trace is never whole.
    let wrong = requests(
        "  - { get: /outgoing-sampleapp, status: 201 }\nexpect: { within: 2m, spans: [{ at: pay, kind: server, count: 5 }] }\n",
    );
    fails_within(&wrong, &[], Duration::from_secs(120))
        .expect_stdout("should be answered with status 201: got status 200")
        .expect_stdout("the request fails in any case, so that no more spans were waited for")
        .expect_stdout("Seen so far: 5 of `pay server` expected, 1 captured");
    // The answer says that its trace is another one.
    let scenario = ScenarioFile::new(
        "name: own\ndescription: It breaks.\nrequests: [{ get: /outgoing-sampleapp }]\nexpect: { within: 2m }\n",
    );
    let broken = ["--app-env", "sample-app-1:OTEL_PROPAGATORS=none"];
    fails_within(&scenario, &broken, Duration::from_secs(120))
        .expect_stdout("the link tracecheck -> sample-app-1 is broken");
}

/// A collector that gives every span the status of a failure.
const MARKING: &str = "receivers: { otlp: { protocols: { grpc: , http: } } }
processors: { span: { status: { code: Error } }, batch: { timeout: 50ms } }
exporters: { datadog: { api: { key: '${env:DD_API_KEY}' } } }
service: { pipelines: { traces: { receivers: [otlp], processors: [span, batch], exporters: [datadog] } } }
";

#[test]
fn a_link_that_breaks_further_down_is_reported_without_waiting_for_what_went_elsewhere() {
    let patient = "expect: { within: 2m, services: [shop, pay] }\n";
    let scenario = scenario("OTEL_BSP_SCHEDULE_DELAY: \"50\"", patient);
    let broken = ["--app-env", "pay:OTEL_PROPAGATORS=none"];
    fails_within(&scenario, &broken, Duration::from_secs(120))
        .expect_stdout("the link shop -> pay is broken")
        .expect_stdout("services: `pay` has no span in trace");
    let chain = ScenarioFile::new(
        "name: own\ndescription: It breaks.\nrequests: [{ get: /outgoing-sampleapp }]\nexpect: { within: 2m }\n",
    );
    let broken = ["--app-env", "sample-app-2:OTEL_PROPAGATORS=none"];
    fails_within(&chain, &broken, Duration::from_secs(120))
        .expect_stdout("missing-hop: `sample-app-2` has no server span");
    // Marks that nothing accounts for do not go away, though a span that is expected never comes.
    let marked = ScenarioFile::new(
        "name: own\ndescription: All spans are errors.\nsystem: { chain: { collector_config: collector.yaml } }\nrequests: [{ get: /outgoing-sampleapp }]\nexpect: { within: 2m, spans: [{ at: sample-app-2, kind: server, count: 5 }] }\n",
    )
    .with("collector.yaml", MARKING);
    fails_within(&marked, &[], Duration::from_secs(120)).expect_stdout("error-not-injected: ");
}

#[test]
fn a_value_that_an_answer_lacks_fails_there_and_where_it_is_used() {
    let lacking = requests(
        "  - { get: /, save: { id: order.id } }
  - { get: '/orders/${saved:id}', any_status: true }\n",
    );
    lacking
        .run(&[])
        .expect_code(1)
        .expect_stdout(
            "save: the answer to GET / has nothing at `order.id`, which is to be saved as `id`",
        )
        .expect_stdout("the request was not sent: it needs the value `id`, which no answer gave");
}

#[test]
fn the_harness_s_own_span_and_every_message_name_the_method() {
    let post =
        requests("  - { post: /outgoing-sampleapp, body: { json: { item: 7 } }, status: 201 }\n");
    post.run(&[])
        .expect_code(1)
        .expect_stdout(
            "POST /outgoing-sampleapp should be answered with status 201: got status 200",
        )
        .expect_stdout("tracecheck client POST");
}

#[test]
fn a_service_that_does_not_end_when_asked_is_stopped_all_the_same() {
    // What is ignored before a program begins stays ignored in it.
    let command = format!("command: [sh, -c, \"trap '' QUIT; exec $0 sample-app\", {TRACECHECK}]");
    let deaf = system("OTEL_BSP_SCHEDULE_DELAY: \"50\"").replacen(
        "  - name: pay\n    builtin: sample-app",
        &format!("  - name: pay\n    {command}\n    stop_signal: SIGQUIT\n    stop_limit: 300ms"),
        1,
    );
    let text = format!(
        "{SCENARIO}faults: [{{ at: pay, stop: true }}]\nexpect: {{ services: [shop] }}\ntolerate: [{{ rule: silent-service, because: it is down }}]\n"
    )
    .replace("get: /outgoing-sampleapp", "get: /outgoing-sampleapp, status: 502");
    ScenarioFile::new(&text)
        .with("own.system.yaml", &deaf)
        .run(&[])
        .expect_code(0)
        .expect_stdout("the fault at `pay`: it was killed, since it still ran 300ms after SIGQUIT");
}

#[test]
fn the_start_limit_of_a_run_is_for_processes_too() {
    let silent = system("OTEL_BSP_SCHEDULE_DELAY: \"50\"").replacen(
        "  - name: pay\n    builtin: sample-app",
        "  - name: pay\n    command: [sleep, \"600\"]",
        1,
    );
    ScenarioFile::new(SCENARIO)
        .with("own.system.yaml", &silent)
        .run(&["--start-limit", "5s"])
        .expect_code(3)
        .expect_stdout("`pay` was not ready within 5s");
}

#[test]
fn a_service_that_the_scenario_restarts_or_stops_is_not_called_silent_before_its_batch_can_come() {
    let restart = "faults: [{ at: pay, restart: true }]\n";
    // It keeps all that it has until it is stopped in the end.
    let late = "OTEL_BSP_SCHEDULE_DELAY: \"60000\"";
    scenario(late, restart).run(&[]).expect_code(0).expect_stdout("1 passed");
    let silent = scenario("OTEL_TRACES_EXPORTER: none", restart).run(&[]);
    silent.expect_code(3).expect_stdout("silent-service: no span of `pay`");
    let stop = "faults: [{ at: pay, stop: true }]\nexpect: { services: [shop] }\n";
    let text = format!("{SCENARIO}{stop}")
        .replace("get: /outgoing-sampleapp", "get: /outgoing-sampleapp, status: 502");
    let stopped = ScenarioFile::new(&text).with("own.system.yaml", &system(late));
    stopped.run(&[]).expect_code(0).expect_stdout("1 passed");
}

#[test]
fn what_a_service_sends_only_when_it_is_stopped_is_judged_too() {
    // The second service does not take over the context, and would export after a minute: its trace comes at the end.
    let pay = "OTEL_PROPAGATORS: none\n      OTEL_BSP_SCHEDULE_DELAY: \"60000\"";
    let tolerate = "tolerate: [{ rule: silent-service, because: it sends late }]\n";
    scenario(pay, tolerate)
        .run(&[])
        .expect_code(1)
        .expect_stdout("stray-trace")
        .expect_stdout("revised by the audit at the end, from pass");
}

#[test]
fn init_writes_a_system_and_a_scenario_that_pass_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let init = |calls: &str| {
        // The sample app has its own words for where to listen and whom to call.
        let app = format!("sh -c 'LISTEN_ADDR=127.0.0.1:$PORT exec {TRACECHECK} sample-app'");
        let shop = format!("shop={app}");
        let pay = format!("pay={app}");
        let args = [
            "init",
            "--service",
            &shop,
            "--service",
            &pay,
            "--calls",
            calls,
            "--get",
            "/outgoing-sampleapp",
        ];
        ran(Command::new(TRACECHECK).args(args).current_dir(dir.path()).output())
    };
    let none = ran(Command::new(TRACECHECK).arg("init").current_dir(dir.path()).output());
    none.expect_code(2).expect_stderr("no service is named: give each with the command");
    init("shop:UPSTREAM_URIS=pey")
        .expect_code(2)
        .expect_stderr("no --service `pey`; did you mean `pay`?");
    let unsound = ["init", "--service", "My_Shop=sh", "--service", "collector=sh"];
    let unsound = ran(Command::new(TRACECHECK).args(unsound).current_dir(dir.path()).output());
    let reported = unsound.expect_code(2).stderr;
    let named = ["nothing was written", "`collector` is in every system already"];
    assert!(named.iter().all(|part| reported.contains(part)), "{reported}");
    assert!(!reported.contains(".yaml"), "cites a file that is not there: {reported}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    init("shop:UPSTREAM_URIS=pay").expect_code(0).expect_stdout("tracecheck run shop-first.yaml");
    init("shop:UPSTREAM_URIS=pay")
        .expect_code(2)
        .expect_stderr("shop.system.yaml already exists and is not overwritten");
    let scenario = dir.path().join("shop-first.yaml").display().to_string();
    tracecheck(&["run", &scenario]).expect_code(0).expect_stdout("1 passed");
}

#[test]
fn a_service_that_some_of_many_equal_requests_lack_is_named() {
    // Three of four trace ids are kept; that all of sixty are, or half of them, does not happen.
    let sampler = "OTEL_TRACES_SAMPLER: traceidratio\n      OTEL_TRACES_SAMPLER_ARG: \"0.75\"";
    let text = SCENARIO.replace(
        "get: /outgoing-sampleapp",
        "get: /outgoing-sampleapp, times: 60, concurrency: 10",
    );
    let run = |more: &str| {
        let file = ScenarioFile::new(&format!("{text}{more}"));
        file.with("own.system.yaml", &system(sampler)).run(&[])
    };
    run("")
        .expect_code(1)
        .expect_stdout("inconsistent-trace: ")
        .expect_stdout("revised by the audit at the end, from pass")
        .expect_stdout(
            "of 60 equal requests (GET /outgoing-sampleapp, answered 200) have spans of `pay`",
        )
        .expect_stdout("tracecheck explain inconsistent-trace");
    run("tolerate: [{ rule: inconsistent-trace, because: pay keeps what it likes }]\n")
        .expect_code(0);
}
