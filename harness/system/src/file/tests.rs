use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/system-file.md");

/// The first YAML block of the document.
fn example() -> &'static str {
    let start = DOCUMENT.split_once("```yaml\n").unwrap().1;
    start.split_once("```").unwrap().0
}

fn variables(name: &str) -> Option<String> {
    match name {
        "JAVA_HOME" => Some("/opt/${java}".to_owned()),
        "PAYMENTS_TOKEN" => Some("t0ken".to_owned()),
        _ => None,
    }
}

fn loaded(text: &str) -> Result<System, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let config = "\
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {datadog: {api: {key: '${env:DD_API_KEY}'}}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [datadog]}}}
";
    fs::write(dir.path().join("collector.yaml"), config).unwrap();
    fs::write(dir.path().join("prices.csv"), "tea,${not:a.reference}\n").unwrap();
    let described = |findings: Vec<Finding>| findings.iter().map(ToString::to_string).collect();
    let file = SystemFile::parse("shop.yaml", text, dir.path(), &variables).map_err(described)?;
    file.system(&Secret::new("5ecret")).map_err(described)
}

#[test]
fn the_documents_example_loads() {
    let system = loaded(example()).unwrap();
    assert_eq!(system.names().collect::<Vec<_>>(), ["intake", "collector", "shop", "payments"]);
    let shop = system.workload("shop").unwrap();
    let Program::Command(program) = &shop.program else { panic!("{:?}", shop.program) };
    assert!(program.starts_with('/') && program.ends_with("bin/shop"), "{program}");
    assert_eq!(shop.args, ["--listen", "${listen:http}"]);
    assert_eq!(shop.health, Some(Health { port: "http".to_owned(), path: "/ready".to_owned() }));
    assert!(shop.files["shop.toml"].expand && !shop.files["prices.csv"].expand);
    let payments = system.workload("payments").unwrap();
    assert_eq!(payments.program, Program::Command("java".to_owned()));
    assert_eq!(payments.env["JAVA_HOME"], "/opt/$${java}");
    assert_eq!(payments.secrets["PAYMENTS_TOKEN"].reveal(), "t0ken");
    let collector = system.workload("collector").unwrap();
    assert_eq!(collector.secrets["DD_API_KEY"].reveal(), "5ecret");
}

#[test]
fn an_unknown_key_and_a_wrong_type_are_reported_with_their_place() {
    let unknown = loaded("entry: a\nworkloads:\n  - name: a\n    comand: [x]\n").unwrap_err();
    assert_eq!(unknown, ["shop.yaml:4:5: unknown key `comand`; did you mean `command`?"]);
    let wrong = loaded("entry: a\nworkloads:\n  - name: a\n    command: x\n").unwrap_err();
    assert!(wrong[0].starts_with("shop.yaml:4:14: "), "{wrong:?}");
    let variant =
        loaded("entry: a\nworkloads:\n  - name: a\n    files: {x: {txt: y}}\n").unwrap_err();
    assert!(variant[0].contains("unknown value `txt`; did you mean `text`?"), "{variant:?}");
}

#[test]
fn everything_that_cannot_be_read_is_reported_at_once() {
    let text = "\
entry: a
workloads:
  - name: a
  - name: collector
    builtin: sample-app
    command: [x]
    inherit: [NOT_SET]
    files:
      x: {path: missing.txt}
collector:
  config: missing.yaml
";
    let findings = loaded(text).unwrap_err();
    let starts = [
        "shop.yaml:11:11: `/",
        "shop.yaml:3:5: workload `a` has neither `command` nor `builtin`; give one of the two",
        "shop.yaml:4:11: `collector` is in every system already; describe it under `collector`",
        "shop.yaml:4:5: workload `collector` has both `command` and `builtin`; give one of the two",
        "shop.yaml:7:15: environment variable `NOT_SET` is not set here",
        "shop.yaml:9:10: `/",
    ];
    assert_eq!(findings.len(), starts.len(), "{findings:#?}");
    for (finding, start) in findings.iter().zip(starts) {
        assert!(finding.starts_with(start), "{finding} does not start with {start}");
    }
}

#[test]
fn everything_wrong_with_the_system_is_reported_where_it_was_written() {
    let text = "\
entry: shop
workloads:
  - name: shopp
    command: [shop, '${endpoint:colector.otlp-grpc}', '${listen:http}']
    env:
      NEXT: ${endpoint:collector.otlp}
    ports: [http]
    health: {port: htp, path: /ready}
";
    let findings = loaded(text).unwrap_err();
    assert_eq!(
        findings,
        [
            "shop.yaml:8:13: workload `shopp`, `health`: it has no port `htp`; did you mean `http`?",
            "shop.yaml:4:21: workload `shopp`, `args[0]`: `${endpoint:colector.otlp-grpc}`: there is no workload \
             `colector`; did you mean `collector`?",
            "shop.yaml:6:13: workload `shopp`, `env.NEXT`: `${endpoint:collector.otlp}`: workload `collector` has no \
             port `otlp`; known are `otlp-grpc`, `otlp-http`, `ledger`, `metrics`",
            "shop.yaml:1:8: `entry`: there is no workload `shop`; did you mean `shopp`?",
        ]
    );
}

#[test]
fn loading_checks_the_system_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.yaml");
    let text = "entry: shop\nworkloads:\n  - {name: shop, builtin: sample-app, ports: [http]}\n";
    fs::write(&path, text).unwrap();
    assert_eq!(load(&path).unwrap().service_names(), ["shop"]);
    fs::write(&path, text.replace("entry: shop", "entry: shp")).unwrap();
    let findings = load(&path).unwrap_err();
    assert!(findings[0].to_string().contains("shop.yaml:1:8: `entry`"), "{findings:?}");
}

#[test]
fn a_missing_file_is_reported() {
    let findings = SystemFile::read(Path::new("/no/such/shop.yaml"), &variables).unwrap_err();
    assert_eq!(findings[0].to_string(), "/no/such/shop.yaml: does not exist");
}

const SHOP: &str = "entry: shop\nworkloads:\n  - name: shop\n    command: [sh, '${listen:http}']\n    ports: [http]\n";

#[test]
fn a_workload_says_where_it_starts_and_how_long_it_may_take() {
    let more = "    dir: sub\n    start_limit: 2m\n    stop_limit: 500ms\n    stop_signal: INT\n    user: 10001\n";
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let text = format!("{SHOP}{more}");
    let file = SystemFile::parse("shop.yaml", &text, dir.path(), &variables).unwrap();
    let shop = &file.workloads[0];
    let stop_signal = StopSignal::Int;
    let (start, stop) = (Some(Duration::from_secs(120)), Some(Duration::from_millis(500)));
    assert_eq!(shop.limits, Limits { start, stop, stop_signal });
    assert_eq!(shop.user, Some(10_001));
    assert!(shop.working_dir.as_ref().unwrap().ends_with("sub"), "{shop:?}");
    assert_eq!(file.beyond_start_limit(Duration::from_secs(120)), []);
    let beyond: Vec<String> =
        file.beyond_start_limit(Duration::from_secs(60)).iter().map(ToString::to_string).collect();
    assert_eq!(
        beyond,
        [
            "shop.yaml:7:18: workload `shop`, `start_limit`: 120s is beyond the run's limit of 60s; raise `--start-limit`, or lower it here"
        ]
    );
}

#[test]
fn limits_that_cannot_be_are_reported_with_the_remedy() {
    let more = "    dir: none\n    start_limit: soon\n    stop_limit: 0s\n    stop_signal: SIGTREM\n    user: 0\n";
    let wrong = loaded(&format!("{SHOP}{more}")).unwrap_err();
    assert_eq!(wrong.len(), 5, "{wrong:?}");
    assert!(
        wrong[0].starts_with("shop.yaml:7:18: `start_limit`: `soon` is not a duration"),
        "{wrong:?}"
    );
    assert!(
        wrong[1].starts_with("shop.yaml:8:17: `stop_limit` should be more than no time"),
        "{wrong:?}"
    );
    assert!(wrong[2].ends_with("did you mean `SIGTERM`?"), "{wrong:?}");
    assert!(wrong[3].starts_with("shop.yaml:6:10: there is no directory"), "{wrong:?}");
    assert!(
        wrong[4].starts_with("shop.yaml:10:11: `user`: 0 is root, as whom no workload runs"),
        "{wrong:?}"
    );
}

#[test]
fn what_means_nothing_in_an_image_is_reported_with_the_remedy() {
    let text = format!("{SHOP}    dir: .\n    stop_signal: SIGINT\n    stop_limit: 2s\n");
    let described = |text: &str, is_cluster: bool| {
        let file = SystemFile::parse("shop.yaml", text, Path::new("."), &variables).unwrap();
        let reported = file.not_for_images(is_cluster);
        reported.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let dir = "shop.yaml:6:10: workload `shop`, `dir`: it is a directory of this machine, and an image has its own; set WORKDIR in the image, and take `dir` out for it";
    assert_eq!(described(&text, false), [dir]);
    assert_eq!(
        described(&text, true),
        [
            dir,
            "shop.yaml:7:18: workload `shop`, `stop_signal`: Kubernetes does not send SIGINT for a workload's sake; set STOPSIGNAL in the image, and take `stop_signal` out for it"
        ]
    );
    assert_eq!(described(SHOP, true), [""; 0]);
}

#[test]
fn programs_that_are_not_there_are_reported_with_what_they_are_instead() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain"), "").unwrap();
    let of = |program: &str| {
        let text = SHOP.replace("[sh,", &format!("[{program},"));
        let file = SystemFile::parse("shop.yaml", &text, dir.path(), &variables).unwrap();
        let missing = file.missing_programs(Some("/bin:/usr/bin".as_ref()));
        missing.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of("sh"), Vec::<String>::new());
    assert_eq!(of("/bin/sh"), Vec::<String>::new());
    let begins = "shop.yaml:4:15: workload `shop`, `command`: the program `";
    for (program, reported) in [
        ("./plain", "may not be executed; make it executable"),
        ("./none", "does not exist; build it, or correct its path"),
        (".//", "is a directory"),
        ("no-such-program", "is not in PATH; install it"),
    ] {
        let missing = of(program);
        assert!(missing.len() == 1 && missing[0].starts_with(begins), "{missing:?}");
        assert!(missing[0].contains(reported), "{missing:?}");
    }
}

#[test]
fn traces_of_a_services_own_are_read_and_name_a_service_that_is_there() {
    let own = |service: &str, resource: &str| {
        loaded(&format!(
            "{SHOP}    env: {{ OTEL_SERVICE_NAME: the-shop }}\nown_traces: [{{ service: {service}, resource: {resource} }}]\n"
        ))
    };
    let declared = own("shop", "clean *").unwrap().own_traces;
    assert!(declared[0].service == "shop" && declared[0].is_about("clean up"), "{declared:?}");
    assert!(own("the-shop", "'*'").is_ok());
    let wrong = own("shp", "''").unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].ends_with("there is no service `shp`; did you mean `shop`?"), "{wrong:?}");
    assert!(wrong[1].contains("`own_traces`: `resource` is empty"), "{wrong:?}");
    // A service may name itself in its code.
    let unnamed = format!("{SHOP}own_traces: [{{ service: billing, resource: tick }}]\n");
    assert!(loaded(&unnamed).is_ok());
}

#[test]
fn what_people_write_from_habit_is_answered_with_the_right_form() {
    let whole = [
        "services:\n  web: { image: nginx }\n",
        "apiVersion: apps/v1\nkind: Deployment\n",
        "receivers: { otlp: }\nexporters: { debug: }\n",
        "name: one\ndescription: x\nrequests: [{ get: / }]\n",
        "entry: web\nworkloads:\n  web:\n    command: [x]\n",
        "entri: web\nworkloads:\n  - nam: web\n    comand: [x]\n    port: [http]\n  - name: b\n    command: [x]\n    start_limt: 3s\n",
        "entry: web\nworkloads: [{ name: web, command: [x, --port, ${port:http}] }]\n",
        "entry: web\nworkloads:\n  - name: web\n    command: [x]\n    env: {A: ${x}}\n",
    ];
    let parts = [
        "command: npm run start",
        "command: { run: x }",
        "env: [A=B]",
        "env: { A: }",
        "env: { A: [1], B: { c: d } }",
        "env: { A: '${env:HOME}', B: '${DB_URL:-x}' }",
        "environment: { A: b }",
        "image: nginx",
        "depends_on: [db]",
        "ports: 8080",
        "health: /ready",
        "health: { path: /ready }",
        "files: { a.txt: hello }",
        "files: { a.txt: { content: hello } }",
        "files: { a.txt: { path: nowhere } }",
        "files: { a.txt: { path: . } }",
        "inherit: { A: b }",
        "traced: no",
        "start_limit: 60",
    ];
    let parts = parts.map(|part| {
        let command = if part.starts_with("command") { "" } else { "    command: [x]\n" };
        format!("entry: web\nworkloads:\n  - name: web\n{command}    {part}\n")
    });
    let collectors = ["collector.yaml", "{ config: nowhere.yaml }", "{ config: { receivers: } }"];
    let collectors = collectors.map(|collector| {
        format!("entry: web\nworkloads: [{{ name: web, command: [x] }}]\ncollector: {collector}\n")
    });
    let mut reported = String::new();
    for text in whole.map(str::to_owned).iter().chain(&parts).chain(&collectors) {
        let dir = tempfile::tempdir().unwrap();
        let read = SystemFile::parse("shop.yaml", text, dir.path(), &variables);
        let found = read.and_then(|file| file.system(&Secret::new("")).map(|_| ()));
        let found = found.err().into_iter().flatten().map(|finding| format!("\n   {finding}"));
        let found: String = found.collect();
        let folder = fs::canonicalize(dir.path()).unwrap().display().to_string();
        let found = found.replace(&format!("{folder}/"), "");
        let text = text.strip_prefix("entry: web\nworkloads:\n  - name: web\n").unwrap_or(text);
        reported += &format!("{}\n=>{found}\n", text.trim_end());
    }
    insta::assert_snapshot!(reported);
}
