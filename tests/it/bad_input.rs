//! Bad input ends in a message that names place, cause and remedy, with exit code 2, and nothing is started.

use crate::support::{ScenarioFile, tracecheck};

/// Returns the message of `tracecheck check` for a scenario, without its folder.
fn finding(yaml: &str) -> String {
    let file = ScenarioFile::new(yaml);
    let path = file.path();
    let folder = path.strip_suffix("scenario.yaml").expect("its name").to_owned();
    tracecheck(&["check", &path]).expect_code(2).stderr.replace(&folder, "")
}

const GOOD: &str = "name: one\ndescription: One request.\nrequests:\n  - { get: / }\n";

#[test]
fn of_scenario_files_it_is_reported_what_is_wrong_where_and_what_to_do() {
    let cases = [
        ("syntax", "name: [one\n".to_owned()),
        ("unknown_key", format!("{GOOD}expects: {{}}\n")),
        ("unknown_key_in_a_request", GOOD.replace("get: /", "get: /, tims: 3")),
        ("wrong_type", GOOD.replace("get: /", "get: /, times: many")),
        ("not_a_list", format!("{GOOD}faults: none\n")),
        ("empty", "# later\n".to_owned()),
        ("missing_requests", "name: one\ndescription: x\n".to_owned()),
        ("no_requests", "name: one\ndescription: x\nrequests: []\n".to_owned()),
        ("bad_duration", format!("{GOOD}expect: {{ within: soon }}\n")),
        ("unknown_workload", format!("{GOOD}faults: [{{ at: sample-ap-2, status: 503 }}]\n")),
        ("unknown_rule", format!("{GOOD}tolerate: [{{ rule: orphan-spn, because: x }}]\n")),
        (
            "levels_that_cannot_be",
            format!("{GOOD}levels: [{{ rule: service-tag, level: warn, because: x }}, {{ rule: orphan-span, level: off, because: '' }}]\n"),
        ),
        ("unknown_service_in_the_tree", format!("{GOOD}expect: {{ tree: {{ server: sample-app-3 }} }}\n")),
        (
            "several_at_once",
            "name: One!\ndescription: ''\nrequests:\n  - { get: nowhere, times: 0, status: 99 }\nfaults:\n  - { at: sample-app-1 }\n  - { at: sample-app-2, status: 503, hang: true }\n  - { at: collector, delay: 1s }\nexpect: { absent: true, tree: { server: sample-app-1, client: sample-app-1 } }\n".to_owned(),
        ),
        (
            "stats_that_cannot_be",
            format!("{GOOD}expect: {{ stats: [{{ hits: 1, errors: 2 }}] }}\n"),
        ),
        ("unknown_kind_in_stats", format!("{GOOD}expect: {{ stats: [{{ kind: servr, hits: 1 }}] }}\n")),
        (
            "unknown_feature",
            format!("{GOOD}requires: [{{ collector: apm-stat, because: x }}]\n"),
        ),
        (
            "requires_without_reason_and_twice",
            format!("{GOOD}requires:\n  - {{ collector: apm-stats, because: ' ' }}\n  - {{ collector: apm-stats, because: x }}\n"),
        ),
        ("stats_within_and_no_stats", format!("{GOOD}expect: {{ stats_within: 5s }}\n")),
        (
            "after_what_is_no_act_or_too_late",
            format!("{GOOD}faults:\n  - {{ at: sample-app-2, status: 503, after: 1 }}\n  - {{ at: collector, kill: true, after: 1 }}\n"),
        ),
        (
            "scripts_of_the_collector_that_cannot_be",
            format!("{GOOD}faults:\n  - {{ at: collector, status: 200, next: 1, for: 1s }}\n  - {{ at: collector, status: 503, retry_after: 1500ms }}\n  - {{ at: sample-app-2, status: 503, retry_after: 1s, next: 1 }}\n"),
        ),
        (
            "instances_that_cannot_be",
            format!("{GOOD}system: {{ chain: {{ collector_instances: 0 }} }}\nexpect: {{ balance: {{ collector_instances: 21 }} }}\n"),
        ),
        ("unsampled_without_absent", GOOD.replace("get: /", "get: /, sampled: false")),
        ("no_context_and_no_id", GOOD.replace("get: /", "get: /, propagation: none")),
        ("unknown_method", GOOD.replace("get: /", "options: /")),
        ("no_method_and_two", "name: one\ndescription: x\nrequests:\n  - { times: 2 }\n  - { get: /, post: / }\n".to_owned()),
        (
            "bodies_that_cannot_be",
            "name: one\ndescription: x\nrequests:\n  - { get: /, body: { text: x } }\n  - { head: /, body: { json: 1 }, save: { id: id }, answer: { text: x } }\n  - { post: /, body: { text: x, json: 1 } }\n  - { post: /, body: { file: none.json } }\n  - { post: /, content_type: text/plain }\n  - { post: /, body: { text: x }, content_type: text/html, headers: { Content-Type: text/plain } }\n".to_owned(),
        ),
        (
            "saved_values_that_nobody_saves",
            "name: one\ndescription: x\nrequests:\n  - { get: '/${saved:id}', save: { id: '', 'a b': x } }\n  - { get: '/${saved:ib}' }\n  - { post: '/${svaed:id}', body: { text: '${other}' } }\n".to_owned(),
        ),
        (
            "grpc_that_cannot_be",
            "name: one\ndescription: x\nrequests:\n  - { grpc: Orders }\n  - { grpc: shop.Orders/Create, status: 200, body: { text: x } }\n  - { grpc: shop.Orders/Create, descriptor_set: none.pb }\n  - { get: /, descriptor_set: scenario.yaml }\n".to_owned(),
        ),
        ("unknown_entry", GOOD.replace("get: /", "get: /, entry: sample-app-3")),
        ("answer_that_asks_nothing", GOOD.replace("get: /", "get: /, answer: { headers: {} }")),
        ("condition_that_says_nothing", GOOD.replace("get: /", "get: /, answer: { json: { id: {} } }")),
        ("unknown_condition", GOOD.replace("get: /", "get: /, answer: { json: { id: { equal: 1 } } }")),
        ("condition_of_a_bad_pattern", GOOD.replace("get: /", "get: /, answer: { json: { id: { matches: '(' } } }")),
        (
            "services_that_cannot_be",
            format!("{GOOD}expect: {{ absent: true, services: [sample-ap-1, sample-app-2, sample-app-2] }}\n").replace("get: /", "get: /, sampled: false"),
        ),
        (
            "timing_and_totals_that_cannot_be",
            format!("{GOOD}expect:\n  fails_at: sample-ap-2\n  linked: [{{ more: true }}]\n  order: [{{ first: {{ at: sample-app-1 }}, then: {{ at: sample-app-1 }}, at_least: 2s, at_most: 1s }}]\n  overlap: [{{ one: {{ at: nobody }}, other: {{}} }}]\n  totals: [{{ at: sample-app-1 }}]\n"),
        ),
        (
            "absence_and_what_must_be_there",
            format!("{GOOD}expect:\n  absent: true\n  fails_at: sample-app-2\n  linked: [{{ server: sample-app-1 }}]\n  order: [{{ first: {{ kind: client }}, then: {{ kind: server }} }}]\n  overlap: [{{ one: {{ kind: client }}, other: {{ kind: client }} }}]\n  totals: [{{ count: 1 }}]\n").replace("get: /", "get: /, sampled: false"),
        ),
        ("missing_collector_config", format!("{GOOD}system: {{ chain: {{ collector_config: none.yaml }} }}\n")),
    ];
    for (name, yaml) in cases {
        insta::assert_snapshot!(format!("scenario_{name}"), finding(&yaml));
    }
}

#[test]
fn all_files_are_checked_and_names_must_differ() {
    let file = ScenarioFile::new(GOOD).with("two.yaml", GOOD).with("three.yaml", "name: 3\n");
    let folder = file.path().replace("/scenario.yaml", "");
    tracecheck(&["check", &folder])
        .expect_code(2)
        .expect_stderr("three.yaml:1:1: ")
        .expect_stderr("two.yaml:1:7: the name `one` is taken by");
}

#[test]
fn system_files_beside_scenarios_are_checked_and_are_no_scenarios() {
    let file = ScenarioFile::new(GOOD).with("own.yaml", SYSTEM).with("shop.system.yaml", SYSTEM);
    let folder = file.path().replace("/scenario.yaml", "");
    let reported = tracecheck(&["check", &folder]).expect_code(0).stdout;
    assert_eq!(reported, "1 scenario with 1 request and 2 system files are valid\n");
    let own = format!("{folder}/own.yaml");
    let reported = tracecheck(&["check", &own]).expect_code(0).stdout;
    assert_eq!(reported, "1 system file is valid\n");
    tracecheck(&["run", &own])
        .expect_code(2)
        .expect_stderr("own.yaml: is a system file, and there is no scenario; a scenario names it");
    let file = file.with("shop.system.yaml", "entry: web\nworkload: []\n");
    tracecheck(&["check", &folder])
        .expect_code(2)
        .expect_stderr("shop.system.yaml:2:1: unknown key `workload`; did you mean `workloads`?");
    drop(file);
}

#[test]
fn missing_paths_and_empty_folders_are_named() {
    tracecheck(&["run", "no/such/place"])
        .expect_code(2)
        .expect_stderr("no/such/place: does not exist");
    let empty = tempfile::tempdir().unwrap();
    tracecheck(&["run", &empty.path().display().to_string()])
        .expect_code(2)
        .expect_stderr("holds no scenario");
    let file = empty.path().join("run.json");
    std::fs::write(&file, "{}").unwrap();
    for path in [empty.path(), &file] {
        tracecheck(&["replay", &path.display().to_string()])
            .expect_code(2)
            .expect_stderr("holds no saved run");
    }
}

#[test]
fn usage_errors_say_how_to_write_it() {
    for (given, lack) in [("dsk", "no `:`"), ("sample-app-1:A", "no `=`"), (":A=B", "empty")] {
        tracecheck(&["run", "--app-env", given])
            .expect_code(2)
            .expect_stderr(lack)
            .expect_stderr("write APP:NAME=VALUE, for example sample-app-1:OTEL_PROPAGATORS=none");
    }
    tracecheck(&["run", "scenarios", "--app-env", "sample-app1:A=B"]).expect_code(2).expect_stderr(
        "no service `sample-app1` to give a variable to, did you mean `sample-app-1`?",
    );
    tracecheck(&["run", "scenarios", "--app-env", "sample-app-9:A=B"])
        .expect_code(2)
        .expect_stderr("no service `sample-app-9`")
        .expect_stderr("`sample-app-1`, `sample-app-2`")
        .expect_stderr("--filter");
    tracecheck(&["show", "123"]).expect_code(2).expect_stderr("write 32 hex digits");
    tracecheck(&["run", "--env", "moon"]).expect_code(2).expect_stderr("possible values");
    tracecheck(&["run", "scenarios", "--junit", "no/such/dir/report.xml"])
        .expect_code(2)
        .expect_stderr("no/such/dir/report.xml");
    tracecheck(&["run", "scenarios", "--html", "no/such/dir/report.html"])
        .expect_code(2)
        .expect_stderr("--html: the report no/such/dir/report.html cannot be written; name a file in a folder that is there");
    tracecheck(&["replay", "no/such/run", "--html", "/"])
        .expect_code(2)
        .expect_stderr("--html: the report / cannot");
    tracecheck(&["canary", "scenarios", "--html", "report.html"])
        .expect_code(2)
        .expect_stderr("`tracecheck replay --html`");
}

#[test]
fn a_collector_config_that_sends_elsewhere_or_is_wrong_is_refused_before_anything_starts() {
    let config = |exporter: &str| {
        format!(
            "receivers: {{ otlp: {{ protocols: {{ grpc: , http: }} }} }}\nexporters: {{ {exporter} }}\nservice: {{ pipelines: {{ traces: {{ receivers: [otlp], exporters: [{}] }} }} }}\n",
            exporter.split(':').next().unwrap_or_default()
        )
    };
    let run = |text: &str| {
        let file = ScenarioFile::new(GOOD).with("collector.yaml", text);
        let path = file.path().replace("scenario.yaml", "collector.yaml");
        file.run(&["--collector-config", &path])
    };
    run(&config("zipkin: { endpoint: 'http://example.org' }"))
        .expect_code(2)
        .expect_stderr("zipkin");
    run(&config("datadog: { api: { key: x, site: '${env:NOBODY_SET_THIS}' } }"))
        .expect_code(2)
        .expect_stderr("NOBODY_SET_THIS");
    run("receivers: [\n").expect_code(2).expect_stderr("collector.yaml:");
}

#[test]
fn a_wrong_collector_config_that_only_the_collector_can_find_is_refused_with_its_message() {
    let text = "receivers: { otlp: { protocols: { grpc: , http: } } }\nprocessors: { batch: { timeout_: 1s } }\nexporters: { datadog: { api: { key: x } } }\nservice: { pipelines: { traces: { receivers: [otlp], processors: [batch], exporters: [datadog] } } }\n";
    let file = ScenarioFile::new(GOOD).with("collector.yaml", text);
    let path = file.path().replace("scenario.yaml", "collector.yaml");
    file.run(&["--collector-config", &path])
        .expect_code(2)
        .expect_stderr("rejects its config")
        .expect_stderr(&path)
        .expect_stderr("timeout_")
        .expect_stderr("did you mean `timeout`");
}

const SYSTEM: &str = "entry: web\nworkloads:\n  - name: web\n    builtin: sample-app\n    env: { LISTEN_ADDR: '${listen:http}', OTEL_SERVICE_NAME: web }\n    ports: [http]\n";

#[test]
fn a_system_s_programs_that_are_not_there_and_limits_beyond_the_run_s_are_reported_before_anything_starts()
 {
    let system = SYSTEM.replace("builtin: sample-app", "command: [./bin/web]\n    start_limit: 3m");
    let yaml = format!("{GOOD}system: {{ file: own.yaml }}\n");
    let file = ScenarioFile::new(&yaml).with("own.yaml", &system);
    let path = file.path();
    let folder = std::fs::canonicalize(path.strip_suffix("scenario.yaml").expect("its name"));
    let folder = folder.expect("a folder").display().to_string();
    let plain = |text: &str| {
        text.replace(&format!("{folder}/./"), "./")
            .replace(&format!("{folder}/"), "")
            .replace(path.strip_suffix("scenario.yaml").expect("its name"), "")
    };
    let reported = tracecheck(&["check", &path]).expect_code(2).stderr;
    insta::assert_snapshot!("system_program_that_is_not_there", plain(&reported));
    tracecheck(&["check", "--for-images", &path]).expect_code(0);
    let reported = file.run(&["--start-limit", "1m"]).expect_code(2).stderr;
    insta::assert_snapshot!("system_limits_that_cannot_be", plain(&reported));
}

#[test]
fn a_service_that_nobody_in_a_system_file_has_is_reported_where_all_names_are_known() {
    let yaml = format!(
        "{GOOD}system: {{ file: own.yaml }}\nexpect: {{ services: [wed], spans: [{{ at: shop, count: 1 }}] }}\n"
    );
    let file = ScenarioFile::new(&yaml)
        .with("own.yaml", &SYSTEM.replace("SERVICE_NAME: web", "SERVICE_NAME: shop"));
    file.run(&[]).expect_code(2).expect_stderr(
        "scenario.yaml:6:22: there is no service `wed` in the system; did you mean `web`?",
    );
    // What sets its name in its code cannot be known.
    let unnamed = SYSTEM.replace(", OTEL_SERVICE_NAME: web", "");
    let file = ScenarioFile::new(&yaml).with("own.yaml", &unnamed);
    tracecheck(&["check", &file.path()]).expect_code(0);
}

#[test]
fn the_command_line_s_variables_and_config_are_for_system_files_too() {
    let yaml = format!("{GOOD}system: {{ file: own.yaml }}\n");
    let file = ScenarioFile::new(&yaml).with("own.yaml", SYSTEM).with("bad.yaml", "receivers: [\n");
    file.run(&["--app-env", "wed:A=B"])
        .expect_code(2)
        .expect_stderr("no service `wed`")
        .expect_stderr("it has `web`");
    file.run(&["--app-env", "web:A=${endpoint:nobody.http}"])
        .expect_code(2)
        .expect_stderr("nobody");
    let config = file.path().replace("scenario.yaml", "bad.yaml");
    file.run(&["--collector-config", &config]).expect_code(2).expect_stderr("bad.yaml:");
}

#[test]
fn a_command_line_that_cannot_be_split_is_refused() {
    for command in ["'/opt/my collector", " "] {
        tracecheck(&["run", "scenarios", "--collector-command", command])
            .expect_code(2)
            .expect_stderr("--collector-command");
    }
}

#[test]
fn a_folder_that_cannot_keep_the_run_is_refused_before_anything_starts() {
    let file = ScenarioFile::new(GOOD);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    std::fs::create_dir(dir.path().join("system-0")).unwrap();
    file.run(&["--save", &path]).expect_code(2).expect_stderr("holds a run already; name another");
    file.run(&["--save", &file.path()]).expect_code(2).expect_stderr("cannot be used");
}

#[test]
fn the_intake_refuses_bounds_that_would_keep_nothing() {
    for bound in ["--max-memory", "--max-attempts"] {
        tracecheck(&["intake", bound, "0"]).expect_code(2).expect_stderr("nothing would be kept");
    }
}
