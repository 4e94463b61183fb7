//! `sh` plays `tracecheck` here: `sh sample-app …` runs the script `sample-app` of the workload's directory.

use std::{
    io::Write, net::TcpListener, os::unix::process::ExitStatusExt, process::ExitStatus,
    time::Instant,
};

use super::*;
use harness_core::secret::Secret;
use harness_system::testing::{service, system};

/// Reports a port and ends with 0 when asked to.
const WELL_BEHAVED: &str = r#"
trap 'exit 0' TERM
case $LISTEN in *:0) LISTEN=127.0.0.1:$FIRST_PORT;; esac
echo "listen on $LISTEN, process $$"
echo "{\"listening\":{\"http\":\"$LISTEN\"}}"
while :; do sleep 0.02; done
"#;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn environment(&self) -> Builder {
        let variables = std::env::vars_os();
        ProcessEnvironment::builder("/bin/sh")
            .dir(self.dir.path().join("run"))
            .start_limit(Duration::from_secs(5))
            .stop_grace(Duration::from_secs(5))
            .variables(variables.filter(|(name, _)| name == "PATH"))
    }

    /// A built-in workload whose program is this script.
    fn builtin(&self, name: &str, script: &str) -> Workload {
        let scripts = self.dir.path().join(name);
        fs::create_dir_all(&scripts).unwrap();
        fs::write(scripts.join("sample-app"), script).unwrap();
        let mut workload = service(name, &[]);
        workload.program = Program::Builtin("sample-app".to_owned());
        workload.working_dir = Some(scripts);
        workload.env.insert("LISTEN".to_owned(), "${listen:http}".to_owned());
        workload.env.insert("FIRST_PORT".to_owned(), free_port().to_string());
        workload
    }

    /// Somebody else's program without ports.
    fn foreign(&self, name: &str, script: &str) -> Workload {
        let mut workload = service(name, &["-c", script]);
        workload.program = Program::Command("/bin/sh".to_owned());
        workload.ports = Vec::new();
        workload
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The state letter that Linux gives a process; `None` when there is none.
fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn runs(pid: &str) -> bool {
    !matches!(state(pid), None | Some('Z'))
}

/// The last word of the first line that has this one in it.
async fn logged(environment: &ProcessEnvironment, workload: &str, word: &str) -> String {
    let mut found = None;
    until(word, async || {
        let lines = environment.log_tail(workload, 100).await;
        let line = lines.iter().rev().find(|line| line.contains(word));
        found = line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn callers_are_given_their_callees_addresses_and_all_end_cleanly() {
    let fixture = Fixture::new();
    let mut caller = fixture.builtin("caller", WELL_BEHAVED);
    caller.args = vec!["--next=${endpoint:callee.http}".to_owned()];
    fs::write(
        fixture.dir.path().join("caller/sample-app"),
        format!("echo \"called with $1\"{WELL_BEHAVED}"),
    )
    .unwrap();
    let system = system([caller, fixture.builtin("callee", WELL_BEHAVED)]);
    let mut environment = fixture.environment().build().unwrap();

    let endpoints = environment.up(&system).await.unwrap();

    let url = endpoints.url("callee", "http").unwrap();
    let log = environment.log_tail("caller", 10).await;
    assert!(log.contains(&format!("called with --next={url}")), "{log:?}");
    assert!(environment.process_record().exists());
    assert!(matches!(environment.up(&system).await, Err(EnvironmentError::AlreadyUp)));
    environment.down().await.unwrap();
    environment.down().await.unwrap();
    assert!(!environment.process_record().exists());
    let saved = fixture.dir.path().join("saved");
    environment.collect_logs(&saved).await.unwrap();
    assert!(fs::read_to_string(saved.join("caller.log")).unwrap().contains("--next="));
}

#[tokio::test]
async fn a_workload_that_dies_at_start_is_reported_with_its_status_and_its_last_lines() {
    let fixture = Fixture::new();
    let script = "echo 'error: no such option' >&2; exit 7";
    let system = system([fixture.builtin("app", script)]);
    let mut environment = fixture.environment().build().unwrap();
    let error = environment.up(&system).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`app` ended while it started (exit status: 7); its last log lines:\n  error: no such option"
    );
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_workload_that_never_reports_is_killed_at_the_limit() {
    let fixture = Fixture::new();
    let system = system([fixture.builtin("app", "echo \"process $$\"; exec sleep 600")]);
    let limit = Duration::from_millis(300);
    let mut environment = fixture.environment().start_limit(limit).build().unwrap();
    let error = environment.up(&system).await.unwrap_err().to_string();
    assert!(
        error.contains("not ready within 300ms: it has not printed its listening line"),
        "{error}"
    );
    let pid = logged(&environment, "app", "process").await;
    assert!(!runs(&pid));
}

#[tokio::test]
async fn several_instances_are_unsupported() {
    let fixture = Fixture::new();
    let mut app = fixture.builtin("app", "");
    app.instances = 2;
    let mut environment = fixture.environment().build().unwrap();
    let error = environment.up(&system([app])).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Unsupported { .. }), "{error}");
    let reported = error.to_string();
    assert!(
        reported.contains("several instances of `app`") && reported.contains("--env kind"),
        "{reported}"
    );
}

#[tokio::test]
async fn a_missing_port_and_a_missing_program_are_reported() {
    let fixture = Fixture::new();
    let script = "echo '{\"listening\":{\"grpc\":\"127.0.0.1:1\"}}'; exec sleep 600";
    let mut environment = fixture.environment().build().unwrap();
    let error = environment.up(&system([fixture.builtin("app", script)])).await.unwrap_err();
    assert!(error.to_string().contains("has no port `http`, only `grpc`"), "{error}");

    let mut missing = fixture.foreign("app", "");
    missing.ports = vec!["http".to_owned()];
    missing.args = vec!["${port:http}".to_owned()];
    missing.program = Program::Command("/no/such/program".to_owned());
    let error = environment.up(&system([missing])).await.unwrap_err().to_string();
    assert!(error.contains("cannot start `/no/such/program`"), "{error}");
}

#[tokio::test]
async fn a_foreign_workload_that_finds_its_port_taken_is_given_another() {
    let fixture = Fixture::new();
    let reported = fixture.dir.path().join("port");
    // The script leaves word of its port; this test listens there in its place.
    let script = format!(
        "if [ ! -e {reported}.first ]; then touch {reported}.first; echo 'bind: Address already in use' >&2; exit 1; fi; \
         echo $0 > {reported}.new; mv {reported}.new {reported}; exec sleep 600",
        reported = reported.display()
    );
    let mut app = fixture.foreign("app", &script);
    app.ports = vec!["http".to_owned()];
    app.args.push("${port:http}".to_owned());
    let mut environment = fixture.environment().build().unwrap();
    let system = system([app]);
    let listen = async {
        until("a port", async || reported.exists()).await;
        let port = fs::read_to_string(&reported).unwrap();
        TcpListener::bind(format!("127.0.0.1:{}", port.trim())).unwrap()
    };
    let (endpoints, listener) = tokio::join!(environment.up(&system), listen);
    let endpoints = endpoints.unwrap();
    assert_eq!(
        endpoints.address("app", "http").unwrap(),
        listener.local_addr().unwrap().to_string()
    );
    environment.down().await.unwrap();
}

#[tokio::test]
async fn workloads_that_need_each_others_address_are_given_it_beforehand() {
    let fixture = Fixture::new();
    let reported = fixture.dir.path().join("port");
    let script = format!("echo $0 > {0}.new; mv {0}.new {0}; exec sleep 600", reported.display());
    let mut front = fixture.builtin("front", &format!("echo \"next is $1\"{WELL_BEHAVED}"));
    front.env.insert("LISTEN".to_owned(), "127.0.0.1:0".to_owned());
    front.args.push("${address:back.http}".to_owned());
    let mut back = fixture.foreign("back", &script);
    back.ports = vec!["http".to_owned()];
    back.args.extend(["${port:http}".to_owned(), "${address:front.http}".to_owned()]);
    let mut environment = fixture.environment().build().unwrap();
    let system = system([front, back]);
    let listen = async {
        until("a port", async || reported.exists()).await;
        let port = fs::read_to_string(&reported).unwrap();
        // Fails if the harness still kept the port.
        tokio::net::TcpListener::bind(format!("127.0.0.1:{}", port.trim())).await.unwrap()
    };
    let (endpoints, listener) = tokio::join!(environment.up(&system), listen);
    let address = endpoints.unwrap().address("back", "http").unwrap().to_owned();
    assert_eq!(address, listener.local_addr().unwrap().to_string());
    let log = environment.log_tail("front", 10).await;
    assert!(log.contains(&format!("next is {address}")), "{log:?}");
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_foreign_workload_that_always_finds_its_port_taken_is_an_error() {
    let fixture = Fixture::new();
    let mut app = fixture.foreign("app", "echo 'Error: listen EADDRINUSE' >&2; exit 1");
    app.ports = vec!["http".to_owned()];
    app.args.push("${port:http}".to_owned());
    let mut environment = fixture.environment().build().unwrap();
    let error = environment.up(&system([app])).await.unwrap_err().to_string();
    assert!(error.starts_with("`app` cannot bind 127.0.0.1:"), "{error}");
    assert!(error.contains("after 5 attempts") && error.contains("EADDRINUSE"), "{error}");
}

#[tokio::test]
async fn a_stopped_workload_comes_back_at_the_same_address() {
    let fixture = Fixture::new();
    let mut environment = fixture.environment().build().unwrap();
    let system = system([fixture.builtin("app", WELL_BEHAVED)]);
    let endpoints = environment.up(&system).await.unwrap();
    let address = endpoints.address("app", "http").unwrap();
    environment.stop("app").await.unwrap();
    environment.stop("app").await.unwrap();
    environment.start("app").await.unwrap();
    environment.restart("app").await.unwrap();
    let log = environment.log_tail("app", 100).await;
    let starts = log.iter().filter(|line| line.contains(&format!("listen on {address}"))).count();
    assert_eq!(starts, 3, "{log:?}");
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_killed_workload_has_no_time_to_end_and_comes_back_at_the_same_address() {
    let fixture = Fixture::new();
    let script = WELL_BEHAVED.replace("'exit 0'", "'echo farewell; exit 0'");
    let mut environment = fixture.environment().build().unwrap();
    let system = system([fixture.builtin("app", &script)]);
    let endpoints = environment.up(&system).await.unwrap();
    let address = endpoints.address("app", "http").unwrap();
    environment.kill("app").await.unwrap();
    assert_eq!(environment.unexpected_exits().await, []);
    let log = environment.log_tail("app", 100).await.join("\n");
    assert!(!log.contains("farewell"), "{log}");
    environment.kill("app").await.unwrap();
    environment.start("app").await.unwrap();
    let log = environment.log_tail("app", 100).await;
    let starts = log.iter().filter(|line| line.contains(&format!("listen on {address}"))).count();
    assert_eq!(starts, 2, "{log:?}");
    let error = environment.scale("app", 0).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Unsupported { verb: "scale", .. }), "{error}");
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_stopped_workload_whose_port_was_taken_cannot_start() {
    let fixture = Fixture::new();
    let script = format!(
        "case $LISTEN in *:0) ;; *) echo 'error: Address already in use' >&2; exit 2;; esac{WELL_BEHAVED}"
    );
    let limit = Duration::from_millis(500);
    let mut environment = fixture.environment().start_limit(limit).build().unwrap();
    environment.up(&system([fixture.builtin("app", &script)])).await.unwrap();
    environment.stop("app").await.unwrap();
    let error = environment.start("app").await.unwrap_err();
    assert!(matches!(error, EnvironmentError::PortTaken { .. }), "{error}");
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_paused_workload_stands_still_until_it_is_resumed() {
    let fixture = Fixture::new();
    let mut environment = fixture.environment().build().unwrap();
    let script = "echo \"process $$\"; exec sleep 600";
    let entry = fixture.builtin("entry", WELL_BEHAVED);
    environment.up(&system([entry, fixture.foreign("app", script)])).await.unwrap();
    let pid = logged(&environment, "app", "process").await;
    environment.pause("app").await.unwrap();
    assert_eq!(state(&pid), Some('T'));
    environment.resume("app").await.unwrap();
    until("resumed", async || state(&pid) != Some('T')).await;
    environment.pause("app").await.unwrap();
    environment.down().await.unwrap();
    let error = environment.pause("app").await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Unsupported { verb: "pause", .. }), "{error}");
}

#[tokio::test]
async fn a_workload_deaf_to_sigterm_is_killed_and_reported() {
    let fixture = Fixture::new();
    let script = WELL_BEHAVED.replace("'exit 0'", "''");
    let grace = Duration::from_millis(200);
    let mut environment = fixture.environment().stop_grace(grace).build().unwrap();
    environment.up(&system([fixture.builtin("app", &script)])).await.unwrap();
    let pid = logged(&environment, "app", "process").await;
    let error = environment.down().await.unwrap_err().to_string();
    assert!(error.contains("`app`: killed, since it still ran 200ms after SIGTERM"), "{error}");
    assert!(!runs(&pid));
}

#[tokio::test]
async fn a_workload_that_is_known_to_be_deaf_is_killed_after_its_own_limit_as_foreseen() {
    let fixture = Fixture::new();
    let mut deaf = fixture.builtin("app", &WELL_BEHAVED.replace("trap 'exit 0'", "trap ''"));
    deaf.limits.stop = Some(Duration::from_millis(200));
    let mut environment = fixture.environment().build().unwrap();
    environment.up(&system([deaf])).await.unwrap();
    let began = Instant::now();
    let reported = environment.stop("app").await.unwrap_err().foreseen().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(reported, ["`app` was killed, since it still ran 200ms after SIGTERM"]);
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_workload_is_asked_to_end_by_its_own_signal() {
    let fixture = Fixture::new();
    let deaf = WELL_BEHAVED.replace("trap 'exit 0'", "trap ''");
    let script = format!("trap 'echo asked; exit 0' USR1\n{deaf}");
    // A shell that was started in the background cannot trap SIGINT.
    for signal in [StopSignal::Usr1, StopSignal::Kill] {
        let mut app = fixture.builtin("app", &script);
        app.limits.stop_signal = signal;
        let mut environment = fixture.environment().build().unwrap();
        environment.up(&system([app])).await.unwrap();
        environment.stop("app").await.unwrap();
        let log = environment.log_tail("app", 10).await;
        let asked = log.iter().any(|line| line == "asked");
        assert_eq!(asked, signal == StopSignal::Usr1, "{log:?}");
        environment.down().await.unwrap();
    }
}

#[tokio::test]
async fn a_workload_s_own_start_limit_takes_the_place_of_the_run_s() {
    let fixture = Fixture::new();
    let mut slow = fixture.builtin("app", &format!("sleep 0.5\n{WELL_BEHAVED}"));
    let limit = Duration::from_millis(200);
    let mut environment = fixture.environment().start_limit(limit).build().unwrap();
    let error = environment.up(&system([slow.clone()])).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::NotReady { .. }), "{error}");
    let remedy = "give it more by `start_limit` of `app` in the system file, or `--start-limit`";
    assert!(error.to_string().contains(remedy), "{error}");
    environment.down().await.unwrap();
    slow.limits.start = Some(Duration::from_secs(10));
    environment.up(&system([slow])).await.unwrap();
    environment.down().await.unwrap();
}

#[tokio::test]
async fn a_collector_that_could_not_drain_is_reported() {
    let fixture = Fixture::new();
    let mut collector = fixture.builtin("collector", &WELL_BEHAVED.replace("exit 0", "exit 1"));
    collector.role = Role::Collector;
    let mut environment = fixture.environment().build().unwrap();
    environment.up(&system([collector])).await.unwrap();
    let error = environment.down().await.unwrap_err().to_string();
    assert!(error.contains("`collector`: exit status: 1"), "{error}");
}

#[test]
fn only_a_foreign_service_may_end_by_the_signal_itself() {
    let dir = tempfile::tempdir().unwrap();
    let unclean = |program: Program, role: Role, status: ExitStatus| {
        let mut workload = service("app", &[]);
        (workload.program, workload.role) = (program, role);
        let log = Log::create(&dir.path().join("log"), Vec::new(), 1).unwrap();
        let (log, addresses) = (Arc::new(log), BTreeMap::new());
        let instance = Instance { workload, log, addresses, state: State::stopped() };
        instance.is_unclean(&Exit { status: Some(status), text: String::new() })
    };
    let foreign = || Program::Command("app".to_owned());
    let builtin = || Program::Builtin("sample-app".to_owned());
    let (by_signal, code_143) = (ExitStatus::from_raw(15), ExitStatus::from_raw(143 << 8));
    for status in [by_signal, code_143] {
        assert!(!unclean(foreign(), Role::Service, status));
        assert!(unclean(foreign(), Role::Collector, status));
        assert!(unclean(builtin(), Role::Service, status));
    }
    assert!(unclean(foreign(), Role::Service, ExitStatus::from_raw(1 << 8)));
    assert!(!unclean(builtin(), Role::Collector, ExitStatus::from_raw(0)));
}

#[tokio::test]
async fn nothing_is_left_running_when_the_environment_is_dropped() {
    let fixture = Fixture::new();
    let script = format!("sleep 600 & echo \"grandchild $!\"{WELL_BEHAVED}");
    let mut environment = fixture.environment().build().unwrap();
    environment.up(&system([fixture.builtin("app", &script)])).await.unwrap();
    let child = logged(&environment, "app", "process").await;
    let grandchild = logged(&environment, "app", "grandchild").await;
    assert!(runs(&child) && runs(&grandchild));
    drop(environment);
    until("all gone", async || !runs(&child) && !runs(&grandchild)).await;
}

#[tokio::test]
async fn nothing_is_left_running_when_starting_is_given_up() {
    let fixture = Fixture::new();
    let mut environment = fixture.environment().build().unwrap();
    let system = system([fixture.builtin("app", "echo \"process $$\"; exec sleep 600")]);
    let given_up = tokio::time::timeout(Duration::from_millis(300), environment.up(&system)).await;
    assert!(given_up.is_err());
    let pid = logged(&environment, "app", "process").await;
    environment.down().await.unwrap();
    until("it is gone", async || !runs(&pid)).await;
    assert!(!environment.process_record().exists());
}

#[tokio::test]
async fn a_workload_that_ends_by_itself_is_reported_once() {
    let fixture = Fixture::new();
    let end = fixture.dir.path().join("end");
    let script = WELL_BEHAVED.replace(
        "do sleep",
        &format!("do if [ -e {} ]; then echo bye; exit 3; fi; sleep", end.display()),
    );
    let mut environment = fixture.environment().build().unwrap();
    environment.up(&system([fixture.builtin("app", &script)])).await.unwrap();
    assert_eq!(environment.unexpected_exits().await, []);
    fs::File::create(&end).unwrap().flush().unwrap();
    let mut exits = Vec::new();
    until("an exit", async || {
        exits.extend(environment.unexpected_exits().await);
        !exits.is_empty()
    })
    .await;
    assert_eq!((exits.len(), exits[0].status.as_str()), (1, "exit status: 3"));
    assert_eq!(exits[0].log_tail.last().unwrap(), "bye");
    assert_eq!(environment.unexpected_exits().await, []);
    environment.down().await.unwrap();
}

#[tokio::test]
async fn an_unsound_system_and_an_unknown_workload_are_refused() {
    let fixture = Fixture::new();
    let mut app = fixture.builtin("app", WELL_BEHAVED);
    app.args.push("${endpoint:nobody.http}".to_owned());
    let mut environment = fixture.environment().build().unwrap();
    let error = environment.up(&system([app])).await.unwrap_err().to_string();
    assert!(
        error.contains("`app`, `args[0]`: `${endpoint:nobody.http}`: there is no workload"),
        "{error}"
    );
    let error = environment.stop("other").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no workload `other` in the system: it has none");
}

#[tokio::test]
async fn a_child_gets_its_own_variables_and_the_safe_ones_of_the_caller_only() {
    let fixture = Fixture::new();
    let mut app = fixture.builtin("app", &format!("env{WELL_BEHAVED}"));
    app.env.insert("OTEL_SERVICE_NAME".to_owned(), "mine".to_owned());
    app.secrets.insert("DD_API_KEY".to_owned(), Secret::new("5ecret"));
    let variables = [("PATH", "/usr/bin:/bin"), ("DD_SITE", "x"), ("OTEL_TRACES_SAMPLER", "y")];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let mut environment = fixture.environment().variables(variables).build().unwrap();
    let system = system([app]);
    environment.up(&system).await.unwrap();
    let log = environment.log_tail("app", 100).await.join("\n");
    for there in ["PATH=/usr/bin:/bin", "OTEL_SERVICE_NAME=mine", "TRACECHECK_EXIT_WITH_PARENT=1"] {
        assert!(log.contains(there), "{there} in {log}");
    }
    assert!(!log.contains("DD_SITE") && !log.contains("SAMPLER"), "{log}");
    assert!(log.contains("DD_API_KEY=***"), "{log}");
    let record = fs::read_to_string(environment.process_record()).unwrap();
    assert!(record.contains("\"workload\": \"app\"") && !record.contains("5ecret"), "{record}");
    assert!(!format!("{system:?}").contains("5ecret"));
    environment.down().await.unwrap();
}

#[test]
fn a_health_route_that_is_none_is_said_to_be_set_by_its_key() {
    use reqwest::StatusCode;
    let described = |status| crate::unhealthy("http://127.0.0.1:80/health", status);
    assert_eq!(
        described(StatusCode::NOT_FOUND),
        "http://127.0.0.1:80/health answers 404 Not Found, and 2xx is waited for: name a route that answers so by \
         `health: { port: …, path: … }` of its workload, or leave `health` out, and only connections are waited for"
    );
    let starting = described(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(starting, "http://127.0.0.1:80/health answers 503 Service Unavailable");
}
