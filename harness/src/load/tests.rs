//! Texts that people write from habit: each case of a snapshot is a text and all that is reported of it.

use std::fmt::Write as _;

use super::*;

const GOOD: &str = "name: one\ndescription: One request.\nrequests:\n  - { get: / }\n";

/// Returns each text with what is reported of it.
fn reported(texts: &[String]) -> String {
    let mut reported = String::new();
    for text in texts {
        let found = match parse(Path::new("one.yaml"), text) {
            Ok(_) => "nothing\n".to_owned(),
            Err(findings) => findings.iter().map(|finding| format!("{finding}\n")).collect(),
        };
        let text = text.strip_prefix(GOOD).unwrap_or(text).trim_end();
        let _infallible =
            writeln!(reported, "{text}\n=> {}", found.replace('\n', "\n   ").trim_end());
    }
    reported
}

#[test]
fn files_of_other_kinds_are_called_what_they_are() {
    let texts = [
        "services:\n  web: { image: nginx }\n",
        "apiVersion: v1\nkind: Service\n",
        "receivers: { otlp: }\nexporters: { debug: }\n",
        "entry: web\nworkloads: []\n",
        "- name: one\n  requests: [{ get: / }]\n",
    ];
    insta::assert_snapshot!(reported(&texts.map(str::to_owned)));
}

#[test]
fn what_is_written_in_another_form_is_answered_with_the_right_one() {
    let more = [
        "tolerate: [orphan-span]\n",
        "tolerate: orphan-span\n",
        "tolerate: { orphan-span: late }\n",
        "tolerate: [{ rule: orphan-span }]\n",
        "levels: [service-tags]\n",
        "levels: [{ rule: service-tags, level: warning, because: x }]\n",
        "levels: [{ rule: service-tags, level: none, because: x }]\n",
        "requires: [apm-stats]\n",
        "system: shop.system.yaml\n",
        "system: { path: shop.system.yaml }\n",
        "system: { chain: { env: { all: { A: } } } }\n",
        "faults: [stop]\n",
        "faults: [{ service: sample-app-2, status: 503 }]\n",
        "expect: true\n",
        "expect: { services: sample-app-1 }\n",
        "expect: { tree: [{ server: sample-app-1 }] }\n",
        "expect: { tree: { server: sample-app-1, http.route: /x } }\n",
        "expect: { spans: { at: sample-app-1, count: 1 } }\n",
        "expect: { spans: [{ kind: SERVER, count: 1 }] }\n",
        "expect: { spans: [{ count: 1, is: { http.status_code: 200 } }] }\n",
        "expect: { spans: [{ count: 1, is: { db.system: postgresql, db.rows: 2 } }] }\n",
        "expect: { spans: [{ count: 1, http.route: /x }] }\n",
        "expect: { totals: [{ at: [sample-app-1], count: 1 }] }\n",
    ];
    insta::assert_snapshot!(reported(&more.map(|more| format!("{GOOD}{more}"))));
}

#[test]
fn requests_that_are_written_in_another_form_are_answered_with_the_right_one() {
    let requests = [
        "get: /",
        "- get /orders",
        "- { GET: / }",
        "- { path: /orders, method: POST }",
        "- { post: /, body: { item: 7 } }",
        "- { post: /, body: '{ \"item\": 7 }' }",
        "- { post: /, body: { json: '{ \"item\": 7 }' } }",
        "- { post: /, json: { item: 7 } }",
        "- { get: /, status: 2xx }",
        "- { get: /, status: [200, 201] }",
        "- { get: /, headers: [A] }",
        "- { get: /, headers: { A: } }",
        "- { get: /, expect: { status: 200 } }",
        "- { get: '/${env:ORDER}' }",
        "- { get: /${env:ORDER} }",
        "- { grpc: shop.Orders.Create }",
    ];
    let texts = requests
        .map(|request| format!("name: one\ndescription: One request.\nrequests:\n  {request}\n"));
    insta::assert_snapshot!(reported(&texts));
}

#[test]
fn all_that_is_wrong_in_a_file_is_reported_at_once() {
    let texts = [
        "name: one\ndescripton: x\nrequests:\n  - { gett: /, tims: 3 }\n  - get: /x\n    staus: 200\nexpect:\n  witin: 3s\n  spans:\n    - { att: sample-app-1, count: one }\n",
        "name: one\ndescription: x\nname: two\nrequests:\n\t- get: /\n",
        "name: one\nname: two\ndescription: x: y\n",
        "name: one\n description: x\n",
    ];
    insta::assert_snapshot!(reported(&texts.map(str::to_owned)));
}

#[test]
fn a_name_that_is_a_workload_s_and_another_one_s_service_name_is_ambiguous() {
    let dir = tempfile::tempdir().unwrap();
    let workload = |name: &str, service: &str| {
        format!(
            "  - name: {name}\n    builtin: sample-app\n    env: {{ LISTEN_ADDR: '${{listen:http}}', OTEL_SERVICE_NAME: {service} }}\n    ports: [http]\n"
        )
    };
    let found = |services: [&str; 2]| {
        let [pay, mail] = [workload("pay", services[0]), workload("mail", services[1])];
        let text = format!("entry: pay\nworkloads:\n{pay}{mail}");
        std::fs::write(dir.path().join("own.system.yaml"), text).unwrap();
        let text =
            format!("{GOOD}system: {{ file: own.system.yaml }}\nexpect: {{ services: [pay] }}\n");
        let findings = parse(&dir.path().join("one.yaml"), &text).map(|_| ()).err();
        let findings = findings.into_iter().flatten();
        findings
            .map(|finding| format!("{}", Finding { file: "one.yaml".to_owned(), ..finding }))
            .collect::<Vec<String>>()
    };
    let ambiguous: Vec<String> = found(["charges", "pay"]);
    assert_eq!(
        ambiguous,
        [
            "one.yaml:6:22: `pay` is ambiguous: the workload of that name has the service name `charges`, and it is the service name of \
             workload `mail`; write `charges` for the one and `mail` for the other, or give the workload the name of its service"
        ]
    );
    for sound in [["pay", "mail"], ["charges", "mail"], ["pay", "pay"]] {
        assert_eq!(found(sound), Vec::<String>::new(), "{sound:?}");
    }
}
