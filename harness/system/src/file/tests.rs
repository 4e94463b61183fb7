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
    let told = |findings: Vec<Finding>| findings.iter().map(ToString::to_string).collect();
    let file = SystemFile::parse("shop.yaml", text, dir.path(), &variables).map_err(told)?;
    file.system(&Secret::new("5ecret")).map_err(told)
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
fn an_unknown_key_and_a_wrong_type_are_told_with_their_place() {
    let unknown = loaded("entry: a\nworkloads:\n  - name: a\n    comand: [x]\n").unwrap_err();
    assert_eq!(unknown, ["shop.yaml:4:5: unknown key `comand`; did you mean `command`?"]);
    let wrong = loaded("entry: a\nworkloads:\n  - name: a\n    command: x\n").unwrap_err();
    assert!(wrong[0].starts_with("shop.yaml:4:14: "), "{wrong:?}");
    let variant =
        loaded("entry: a\nworkloads:\n  - name: a\n    files: {x: {txt: y}}\n").unwrap_err();
    assert!(variant[0].contains("unknown value `txt`; did you mean `text`?"), "{variant:?}");
}

#[test]
fn everything_that_cannot_be_read_is_told_at_once() {
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
        "shop.yaml:11:11: cannot read `",
        "shop.yaml:3:5: workload `a` has neither `command` nor `builtin`; give one of the two",
        "shop.yaml:4:11: `collector` is in every system already; describe it under `collector`",
        "shop.yaml:4:5: workload `collector` has both `command` and `builtin`; give one of the two",
        "shop.yaml:7:15: environment variable `NOT_SET` is not set here",
        "shop.yaml:9:10: cannot read `",
    ];
    assert_eq!(findings.len(), starts.len(), "{findings:#?}");
    for (finding, start) in findings.iter().zip(starts) {
        assert!(finding.starts_with(start), "{finding} does not start with {start}");
    }
}

#[test]
fn everything_wrong_with_the_system_is_told_where_it_was_written() {
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
             port `otlp`; known are `otlp-grpc`, `otlp-http`, `metrics`",
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
fn a_missing_file_is_told() {
    let findings = SystemFile::read(Path::new("/no/such/shop.yaml"), &variables).unwrap_err();
    assert!(findings[0].to_string().starts_with("/no/such/shop.yaml: cannot read"), "{findings:?}");
}
