//! The command line: what it says, and its exit codes.

use std::io::{BufRead, BufReader};

use crate::support::{ScenarioFile, TRACECHECK, root, tracecheck};

#[test]
fn help_reports_the_commands_and_the_exit_codes() {
    let help = tracecheck(&["--help"]).expect_code(0).stdout;
    insta::assert_snapshot!("help", help);
}

#[test]
fn an_intake_that_no_pod_could_reach_is_refused_before_anything_is_looked_for() {
    let cluster = ["--env", "cluster", "--image", "r/t:1", "--intake-listen"];
    for (options, because) in [
        (&["--intake-listen", "127.0.0.1:8126"][..], "takes the intake out of a cluster"),
        (
            &[&cluster[..], &["0.0.0.0:8126"]].concat(),
            "is not an address at which pods reach this machine",
        ),
        (
            &[&cluster[..], &["10.0.0.1:0", "--intake-url", "http://me:8126"]].concat(),
            "give --intake-listen one",
        ),
        (&[&cluster[..], &["10.0.0.1:8126", "--keep"]].concat(), "use port 0"),
    ] {
        tracecheck(&[&["run", "scenarios"], options].concat())
            .expect_code(2)
            .expect_stderr(because);
    }
}

/// The options of a canary's manifests.
const CANARY: [&str; 10] = [
    "manifests",
    "--image",
    "registry.example/tracecheck:1",
    "--schedule",
    "*/15 * * * *",
    "--entry",
    "shop/sample-app-1:8080",
    "--otlp",
    "http://my-collector-collector.shop.svc:4317",
    "--canary",
];

#[test]
fn a_canary_on_a_schedule_is_printed_with_its_keys_by_reference() {
    let file = ScenarioFile::new(
        "name: happy\ndescription: A request.\nsystem: { file: shop.yaml }\nrequests: [{ get: / }]\n",
    );
    let file = file
        .with("shop.yaml", "entry: shop\nworkloads: [{ name: shop, command: [shop, '${listen:http}'], ports: [http] }]\n");
    let printed = tracecheck(&[CANARY.as_slice(), &[&file.path()]].concat())
        .expect_code(0)
        .expect_stderr("create secret generic datadog --from-literal=api-key=\"$DD_API_KEY\"")
        .stdout;
    insta::assert_snapshot!("canary_manifests", printed);
}

#[test]
fn a_canary_that_could_never_come_to_a_verdict_is_not_printed() {
    for (scenario, because) in [
        ("requests: [{ get: /, sampled: false }]\nexpect: { absent: true }\n", "expects `absent`"),
        (
            "requests: [{ get: / }]\nfaults: [{ at: sample-app-2, stop: true }]\n",
            "acts on a workload",
        ),
    ] {
        let text = format!("name: never\ndescription: It needs more.\n{scenario}");
        let file = ScenarioFile::new(&text);
        tracecheck(&[CANARY.as_slice(), &[&file.path()]].concat())
            .expect_code(2)
            .expect_stderr("no verdict can come of it here")
            .expect_stderr(because);
    }
    let happy = "scenarios/happy-path.yaml";
    let args = ["manifests", "--image", "r/t:1", "--canary", happy, "--schedule", "5m", "--entry"];
    tracecheck(&[args.as_slice(), &["http://shop:8080"]].concat())
        .expect_code(2)
        .expect_stderr("write five fields");
    let mut args = args;
    args[6] = "@hourly";
    tracecheck(&[args.as_slice(), &["shop/shop:http"]].concat())
        .expect_code(2)
        .expect_stderr("give the number");
}

#[test]
fn manifests_of_what_means_nothing_in_a_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write(
        "shop.system.yaml",
        "entry: shop\nworkloads:\n  - name: shop\n    command: [shop]\n    stop_signal: SIGINT\n    env: { LISTEN_ADDR: '${listen:http}' }\n    ports: [http]\n",
    );
    let scenario = "name: shop\ndescription: Our own.\nsystem: { file: shop.system.yaml }\nrequests: [{ get: / }]\n";
    let scenario = write("shop.yaml", scenario);
    tracecheck(&["manifests", &scenario, "--image", "r/t:1", "--image", "shop=r/shop:1"])
        .expect_code(2)
        .expect_stderr("set STOPSIGNAL in the image");
}

#[test]
fn manifests_of_a_collector_that_the_operator_makes_are_its_resource_and_its_account() {
    let role = "arn:aws:iam::123456789012:role/aws-otel-collector";
    let args = ["manifests", "--image", "r/t:1", "--collector-install", "operator"];
    let of = |more: &[&str]| tracecheck(&[args.as_slice(), more].concat());
    let printed = of(&["--irsa-role-arn", role]).expect_code(0).stdout;
    let documents: Vec<serde_json::Value> = printed
        .split("---\n")
        .filter(|text| !text.is_empty())
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect();
    let of_kind = |kind: &str| -> Vec<&serde_json::Value> {
        documents.iter().filter(|document| document["kind"] == kind).collect()
    };
    let collector = of_kind("OpenTelemetryCollector")[0];
    assert_eq!(collector["apiVersion"], "opentelemetry.io/v1beta1");
    assert_eq!(collector["metadata"]["name"], "my-collector");
    let spec = &collector["spec"];
    assert_eq!(
        (&spec["serviceAccount"], &spec["image"]),
        (&"aws-otel-collector".into(), &"r/t:1".into())
    );
    let endpoint = &spec["config"]["exporters"]["datadog"]["traces"]["endpoint"];
    assert_eq!(endpoint, "http://intake:8080");
    // The operator makes its Deployment and Service.
    assert_eq!((of_kind("Deployment").len(), of_kind("Service").len()), (3, 3));
    let accounts = of_kind("ServiceAccount");
    let account = accounts.iter().find(|one| one["metadata"]["name"] == "aws-otel-collector");
    assert_eq!(account.unwrap()["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], role);

    of(&["--collector-api-version", "v1alpha1"])
        .expect_code(0)
        .expect_stdout("apiVersion: opentelemetry.io/v1alpha1");
    tracecheck(&["manifests", "--image", "r/t:1", "--collector-api-version", "v1alpha1"])
        .expect_code(2)
        .expect_stderr("only with `--collector-install operator`");
}

#[test]
fn the_collector_inside_reports_its_version() {
    for flag in ["--version", "-v"] {
        tracecheck(&["collector", flag]).expect_code(0).expect_stdout(env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn check_counts_what_is_valid() {
    tracecheck(&["check", "scenarios"]).expect_code(0).expect_stdout("scenarios with");
}

#[test]
fn check_counts_one_as_one() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let reported = tracecheck(&["check", &file.path()]).expect_code(0).stdout;
    assert_eq!(reported, "1 scenario with 1 request is valid\n");
}

#[test]
fn a_filter_that_matches_nothing_names_the_scenarios_there_are() {
    tracecheck(&["run", "scenarios", "--filter", "hapy-path"])
        .expect_code(3)
        .expect_stderr("did you mean `happy-path`?")
        .expect_stderr("`slow-hop`");
}

#[test]
fn a_reader_of_stdout_that_goes_away_does_not_change_the_verdict() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let mut child = std::process::Command::new(TRACECHECK)
        .args(["run", &file.path(), "--format", "json"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let reported = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), reported.as_ref()), (Some(0), ""));
}

#[test]
fn a_terminal_that_is_closed_ends_the_run_with_its_clean_up() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let temporary = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(TRACECHECK)
        .args(["run", &file.path(), "--format", "json", "--keep"])
        .env("TMPDIR", temporary.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // It waits for a signal once it is through: one that comes before, such as during the audit, leaves it undecided.
    for line in lines.map_while(Result::ok) {
        if line.contains("is kept running until Ctrl-C") {
            assert_ne!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_saved_run_is_judged_again_in_the_formats_of_a_run() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().display().to_string();
    let junit = dir.path().join("report.xml");
    let page = dir.path().join("run.html").display().to_string();
    file.run(&["--save", &saved, "--html", &page]).expect_code(0);
    let report = junit.display().to_string();
    let args = ["replay", &saved, "--format", "json", "--junit", &report, "--filter", "on"];
    let last = tracecheck(&args).expect_code(0).stdout;
    let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(last["summary"]["scenarios"][0]["name"], "one");
    assert!(std::fs::read_to_string(junit).unwrap().contains("name=\"one\""));
    // Without a script, the verdicts are there.
    let again = dir.path().join("replay.html").display().to_string();
    tracecheck(&["replay", &saved, "--html", &again]).expect_code(0);
    for page in [page, again] {
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(
            page.contains("pass  one") && page.contains("id=\"block-0\""),
            "{}",
            &page[..2_000]
        );
    }
    tracecheck(&["replay", &saved, "--filter", "zzz"])
        .expect_code(3)
        .expect_stderr("there are `one`");
}

#[test]
fn explain_lists_the_rules_and_reports_of_each() {
    let list = tracecheck(&["explain"]).expect_code(0).stdout;
    insta::assert_snapshot!("explain", list);
    for rule in list.lines().filter_map(|line| line.split_whitespace().next()) {
        tracecheck(&["explain", rule]).expect_code(0).expect_stdout(rule);
    }
    tracecheck(&["explain", "orphan-spam"])
        .expect_code(2)
        .expect_stderr("did you mean `orphan-span`?");
}

#[test]
fn a_spans_names_are_explained_by_their_rules() {
    let page = tracecheck(&["explain", "mapping"]).expect_code(0).stdout;
    assert_eq!(page, std::fs::read_to_string(root().join("docs/mapping.md")).unwrap());
    let span = ["explain", "mapping", "--kind", "client", "--name", "GET", "--resource"];
    let attributes = ["service.name=shop", "http.request.method=GET", "url.template=/users/{id}"];
    tracecheck(&[&span[..], &attributes].concat())
        .expect_code(0)
        .expect_stdout("operation name  http.client.request\n    rule `http`")
        .expect_stdout("made of http.request.method=GET, url.template=/users/{id}");
    tracecheck(&["explain", "mapping", "--kind", "sever"])
        .expect_code(2)
        .expect_stderr("`sever` is no kind of span");
    tracecheck(&["explain", "mapping", "http.route"])
        .expect_code(2)
        .expect_stderr("`http.route` is not an attribute; write `key=value`");
    tracecheck(&["explain", "orphan-span", "a=b"])
        .expect_code(2)
        .expect_stderr("are for `tracecheck explain mapping`");
}

#[test]
fn json_events_begin_with_the_schema_and_end_with_the_summary() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let ran = file.run(&["--format", "json"]).expect_code(0);
    let events: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is one event"))
        .collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "run-started",
            "system-ready",
            "scenario-started",
            "case-judged",
            "scenario-finished",
            "run-finished"
        ]
    );
    assert_eq!(events[0]["schema"], 1);
    assert_eq!(events[5]["summary"]["scenarios"][0]["verdict"], "pass");
}

#[test]
fn no_secret_is_in_anything_that_is_kept_or_printed() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let dir = tempfile::tempdir().unwrap();
    let ran = file.run(&["-vv", "--save", &dir.path().display().to_string()]).expect_code(0);
    let mut kept = ran.stdout + &ran.stderr;
    for entry in std::fs::read_dir(dir.path().join("system-0")).unwrap() {
        kept += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert!(kept.contains("\"dd-api-key\":\"***\""), "the key's header is not among what was kept");
    // The run's key is the only text of 32 hex digits that is no trace id; every trace id is on a line with its name.
    for line in kept
        .lines()
        .filter(|line| line.to_lowercase().contains("api_key") || line.contains("api-key"))
    {
        let digits = line.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() == 32);
        assert!(!digits, "{line}");
    }
}

#[test]
fn a_scenario_that_needs_what_another_collector_has_not_is_skipped_and_never_passed() {
    let yaml = "name: needs-more\ndescription: It needs a feature.\nrequires: [{ collector: apm-stats, because: it counts }]\nrequests: [{ get: / }]\nexpect: { within: 3s }\n";
    let plain = "name: plain\ndescription: It needs none.\nrequests: [{ get: / }]\nexpect: { within: 3s }\n";
    let file = ScenarioFile::new(yaml).with("plain.yaml", plain);
    let both = file.path().replace("/scenario.yaml", "");
    let other = format!("{TRACECHECK} collector");
    let because = "it needs a collector with `apm-stats` (it counts), and this one is not declared to have it";

    let junit = file.path().replace("scenario.yaml", "junit.xml");
    tracecheck(&["run", &both, "--collector-command", &other, "--junit", &junit])
        .expect_code(0)
        .expect_stdout("SKIP  needs-more")
        .expect_stdout(because)
        .expect_stdout("1 passed, 1 skipped");
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(report.contains("<skipped") && report.contains("is not declared"), "{report}");

    file.run(&["--collector-command", &other]).expect_code(3).expect_stdout("????  1 skipped");
    file.run(&["--collector-command", &other, "--collector-has", "apm-stats"])
        .expect_code(0)
        .expect_stdout("1 passed");
    file.run(&[]).expect_code(0).expect_stdout("1 passed");
    file.run(&["--collector-command", &other, "--collector-has", "apm-stat"])
        .expect_code(2)
        .expect_stderr("did you mean `apm-stats`?");
}

#[test]
fn github_gets_annotations_and_a_summary_of_the_step() {
    let file = ScenarioFile::new(
        "# A comment.\nname: asks-for-too-much\ndescription: It fails.\nrequests:\n  - { get: /outgoing-sampleapp, status: 418 }\nexpect: { within: 2s }\n",
    );
    let summary = file.path().replace("scenario.yaml", "summary.md");
    let run = |summary: &str| {
        let mut command = std::process::Command::new(TRACECHECK);
        command.args(["run", &file.path(), "--format", "github"]).current_dir(root());
        let folder = file.path().replace("/scenario.yaml", "");
        command.env("GITHUB_WORKSPACE", folder).env("GITHUB_STEP_SUMMARY", summary);
        crate::support::ran(command.output())
    };
    let ran = run(&summary).expect_code(1);
    let annotations: Vec<&str> =
        ran.stdout.lines().filter(|line| line.starts_with("::error")).collect();
    assert_eq!(annotations.len(), 1, "{}", ran.stdout);
    let expected = "::error file=scenario.yaml,line=2,title=asks-for-too-much%3A ";
    assert!(annotations[0].starts_with(expected), "{}", annotations[0]);
    // Everything else is between marks that stop commands.
    let stopped = ran.stdout.matches("::stop-commands::").count();
    assert!(stopped >= 3 && ran.stdout.starts_with("::stop-commands::"), "{}", ran.stdout);
    let page = std::fs::read_to_string(&summary).unwrap();
    assert!(
        page.starts_with("### tracecheck: fail\n")
            && page.contains("| ❌ fail | asks-for-too-much | 1 |")
    );
    assert!(page.contains("<details><summary>❌ asks-for-too-much</summary>"), "{page}");
    run("no/such/folder/summary.md").expect_code(2).expect_stderr(
        "GITHUB_STEP_SUMMARY names no/such/folder/summary.md, which cannot be written",
    );
}

#[test]
fn shells_get_completions_and_man_gets_pages() {
    let bash = tracecheck(&["completions", "bash"]).expect_code(0);
    bash.expect_stdout("_tracecheck()").expect_stdout("--compare-with-collector");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1").display().to_string();
    tracecheck(&["man", "--dir", &folder]).expect_code(0);
    let page = |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
    assert!(page("tracecheck.1").contains("Exit codes"), "{}", page("tracecheck.1"));
    assert!(page("tracecheck-run.1").contains("compare\\-with\\-collector"));
    assert!(!dir.path().join("man1/tracecheck-inside.1").exists());
    tracecheck(&["man"]).expect_code(0).expect_stdout(".TH tracecheck 1");
    tracecheck(&["man", "--dir", "/dev/null/man"])
        .expect_code(2)
        .expect_stderr("--dir: the manual cannot be written");
}
