//! Runs the program against a cluster, and looks into the cluster from beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::gvk::GroupVersionKind,
    discovery,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
};

/// The program under test.
const TRACECHECK: &str = env!("CARGO_BIN_EXE_tracecheck");
/// Longest wait for a whole run.
const RUN_LIMIT: Duration = Duration::from_secs(400);

/// These tests measure nothing, but each brings whole systems up.
pub(crate) async fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How many scenarios are run without anything being named.
pub(crate) fn scenario_count() -> usize {
    let files = fs::read_dir(root().join("scenarios")).unwrap();
    let count = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "yaml"))
        .count();
    assert!(count >= 10, "{count}");
    count
}

/// A scenario in a file of its own.
pub(crate) fn scenario_file(yaml: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), yaml).unwrap();
    file
}

/// Waits for a condition; fails the test at the deadline.
pub(crate) async fn wait_until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A cluster, and how the program gets there.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) kubeconfig: PathBuf,
    /// `host:port` of its API server.
    pub(crate) server: String,
    /// Options that name the environment.
    options: Vec<String>,
    image: String,
}

/// The cluster that `KUBECONFIG` leads to; fails where there is none.
pub(crate) async fn cluster() -> Cluster {
    let kubeconfig = std::env::var("KUBECONFIG").expect(
        "these tests need a cluster: set KUBECONFIG, as .ci/run does, or leave this target out",
    );
    let image = std::env::var("TRACECHECK_TEST_IMAGE").expect(
        "these tests need an image of tracecheck that the cluster's nodes have: set TRACECHECK_TEST_IMAGE, as .ci/run does",
    );
    let kubeconfig = PathBuf::from(kubeconfig);
    let (client, server) = connect(&kubeconfig).await;
    Cluster { client, kubeconfig, server, options: Vec::new(), image }
}

async fn connect(kubeconfig: &Path) -> (Client, String) {
    let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let config = config.expect("a context that can be used");
    let server = config.cluster_url.authority().expect("an address").to_string();
    (Client::try_from(config).expect("credentials"), server)
}

impl Cluster {
    /// The same, by another kubeconfig.
    pub(crate) fn by(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// The same, with other options of `run`.
    pub(crate) fn with(&self, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { options, ..self.clone() }
    }

    /// The image of tracecheck.
    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    /// The same with another image.
    pub(crate) fn with_image(&self, image: &str) -> Self {
        Self { image: image.to_owned(), ..self.clone() }
    }

    /// The same, with the API server behind this address.
    pub(crate) fn through(&self, address: std::net::SocketAddr) -> Self {
        let text = fs::read_to_string(&self.kubeconfig).unwrap();
        let changed = text.replace(&self.server, &address.to_string());
        assert_ne!(text, changed, "{} is not in the kubeconfig", self.server);
        self.by(&keep(&changed))
    }

    /// Runs scenarios to the end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        self.start(args).ended().await
    }

    /// Begins to run scenarios.
    pub(crate) fn start(&self, args: &[&str]) -> Run {
        let mut words = vec!["run"];
        words.extend(args);
        words.extend(["--env", "cluster", "--image", &self.image]);
        words.extend(self.options.iter().map(String::as_str));
        Run::start(&words, &self.kubeconfig)
    }

    /// Runs any subcommand to its end.
    pub(crate) async fn tracecheck(&self, args: &[&str]) -> Ran {
        Run::start(args, &self.kubeconfig).ended().await
    }

    /// Prints manifests.
    pub(crate) async fn manifests(&self, args: &[&str]) -> Ran {
        let mut words = vec!["manifests", "--image", &self.image];
        words.extend(args);
        self.tracecheck(&words).await
    }

    /// The namespaces of a run.
    pub(crate) async fn namespaces_of(&self, run_id: &str) -> Vec<String> {
        let params = ListParams::default().labels(&format!("tracecheck/run={run_id}"));
        let list = Api::<Namespace>::all(self.client.clone()).list(&params).await;
        list.expect("namespaces").iter().map(ResourceExt::name_any).collect()
    }

    /// Fails the test when anything of a run is still there.
    pub(crate) async fn expect_nothing_left(&self, ran: &Ran) {
        let left = self.namespaces_of(&ran.run_id()).await;
        assert!(left.is_empty(), "{left:?} are still there:\n{}\n{}", ran.stdout, ran.stderr);
    }
}

/// Keeps a text in a file until the process ends.
pub(crate) fn keep(text: &str) -> PathBuf {
    let file = tempfile::Builder::new().prefix("tracecheck-test-").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let (_, path) = file.keep().unwrap();
    path
}

/// A run of the program that goes on.
pub(crate) struct Run {
    child: Child,
    stdout: BufReader<tokio::process::ChildStdout>,
    said: String,
}

impl Run {
    pub(crate) fn start(words: &[&str], kubeconfig: &Path) -> Self {
        let mut command = Command::new(TRACECHECK);
        command.args(words).current_dir(root()).env("KUBECONFIG", kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("the program can be started");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, stdout, said: String::new() }
    }

    /// Its id, which it says first.
    pub(crate) async fn run_id(&mut self) -> String {
        let line = self.stdout.read_line(&mut self.said);
        let read = tokio::time::timeout(Duration::from_secs(60), line).await;
        read.expect("it says its id within a minute").expect("its output can be read");
        id_in(&self.said)
    }

    /// Waits until it has printed a line that has this in it.
    pub(crate) async fn has_printed(&mut self, what: &str, limit: Duration) {
        let from = self.said.len();
        let read = tokio::time::timeout(limit, async {
            while !self.said[from..].contains(what) {
                let read =
                    self.stdout.read_line(&mut self.said).await.expect("its output can be read");
                assert!(read > 0, "it ended without `{what}`:\n{}", self.said);
            }
        });
        let in_time = read.await.is_ok();
        assert!(in_time, "`{what}` is not printed within {limit:?}:\n{}", self.said);
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(crate) fn interrupt(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("it takes signals");
    }

    pub(crate) async fn ended(mut self) -> Ran {
        let mut stderr = self.child.stderr.take().expect("a pipe");
        let mut errors = String::new();
        let all = async {
            tokio::join!(
                self.stdout.read_to_string(&mut self.said),
                stderr.read_to_string(&mut errors)
            )
        };
        let all = tokio::time::timeout(RUN_LIMIT, all).await;
        let _ = all.unwrap_or_else(|_| panic!("it did not end:\n{}\n{errors}", "(see above)"));
        let status = self.child.wait().await.expect("its status");
        Ran { code: status.code(), stdout: self.said, stderr: errors }
    }
}

/// Result of a run of the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn expect_stdout(self, text: &str) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert!(stdout.contains(text), "`{text}` is not in stdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_stderr(self, text: &str) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert!(stderr.contains(text), "`{text}` is not in stderr:\n{stderr}\nstdout:\n{stdout}");
        self
    }

    pub(crate) fn run_id(&self) -> String {
        id_in(&self.stdout)
    }
}

/// The id in `run 590bc6e5: 1 scenario, …`, or in the first event.
fn id_in(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("run "));
    let event = || said.split("\"run_id\":\"").nth(1)?.split('"').next();
    let id = line.and_then(|line| line.split(':').next()).or_else(event);
    id.unwrap_or_else(|| panic!("no id of a run in:\n{said}")).to_owned()
}

/// Applies manifests as `kubectl apply` does, waits until all their pods are ready, and removes their namespace.
pub(crate) async fn apply_and_wait(cluster: &Cluster, manifests: &str, namespace: &str) {
    let params = PatchParams::apply("tracecheck-test");
    let mut kinds = Vec::new();
    for document in manifests.split("---\n").filter(|text| !text.trim().is_empty()) {
        let object: DynamicObject = serde_saphyr::from_str(document).expect("a manifest");
        let types = object.types.clone().expect("its kind");
        let (group, version) =
            types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let kind = GroupVersionKind::gvk(group, version, &types.kind);
        let (resource, capabilities) =
            discovery::pinned_kind(&cluster.client, &kind).await.expect("a kind that is served");
        let api = match capabilities.scope {
            discovery::Scope::Cluster => Api::all_with(cluster.client.clone(), &resource),
            discovery::Scope::Namespaced => {
                assert_eq!(object.namespace().as_deref(), Some(namespace), "{types:?}");
                Api::<DynamicObject>::namespaced_with(cluster.client.clone(), namespace, &resource)
            }
        };
        kinds.push(types.kind);
        api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.expect("it is taken");
    }
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("Namespace"), count("Deployment"), count("Service")), (1, 4, 4), "{kinds:?}");
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    wait_until("all four pods are ready", Duration::from_secs(60), async || {
        let pods = pods.list(&ListParams::default()).await.expect("pods");
        let conditions =
            |pod: &Pod| pod.status.clone().and_then(|status| status.conditions).unwrap_or_default();
        let ready = |pod: &&Pod| {
            conditions(pod).iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        pods.iter().filter(ready).count() == 4
    })
    .await;
    remove_namespace(&cluster.client, namespace).await;
}

/// Removes a namespace of a test, and waits until it is gone.
pub(crate) async fn remove_namespace(client: &Client, namespace: &str) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let _gone_already = namespaces.delete(namespace, &DeleteParams::default()).await;
    wait_until("the namespace is gone", Duration::from_secs(90), async || {
        namespaces.get_opt(namespace).await.expect("an answer").is_none()
    })
    .await;
}

/// A service account with the rights that docs/environments.md asks for, and no others.
pub(crate) struct Account {
    pub(crate) token: String,
}

impl Account {
    const NAME: &str = "tracecheck-test-account";

    pub(crate) async fn make(cluster: &Cluster) -> Self {
        let docs = fs::read_to_string(root().join("docs/environments.md")).expect("the page");
        let rules = docs.split("```yaml\n").find(|block| block.contains("kind: ClusterRole\n"));
        let role = rules.and_then(|block| block.split("```").next()).expect("its ClusterRole");
        let mut role: serde_json::Value = serde_saphyr::from_str(role).expect("YAML");
        role["metadata"]["name"] = Self::NAME.into();
        let binding = serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": Self::NAME },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": Self::NAME },
            "subjects": [{ "kind": "ServiceAccount", "name": Self::NAME, "namespace": Self::NAME }],
        });
        let meta = serde_json::json!({ "name": Self::NAME });
        let namespace =
            serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": meta });
        let account =
            serde_json::json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta });
        let params = PatchParams::apply("tracecheck-test").force();
        let client = || cluster.client.clone();
        Api::<Namespace>::all(client())
            .patch(Self::NAME, &params, &Patch::Apply(&namespace))
            .await
            .unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(client(), Self::NAME);
        accounts.patch(Self::NAME, &params, &Patch::Apply(&account)).await.unwrap();
        Api::<ClusterRole>::all(client())
            .patch(Self::NAME, &params, &Patch::Apply(&role))
            .await
            .unwrap();
        Api::<ClusterRoleBinding>::all(client())
            .patch(Self::NAME, &params, &Patch::Apply(&binding))
            .await
            .unwrap();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(),
                bound_object_ref: None,
                expiration_seconds: Some(600),
            },
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(Self::NAME, &PostParams::default(), &request)
            .await
            .unwrap();
        Self { token: token.status.expect("a token").token }
    }

    pub(crate) async fn remove(self, cluster: &Cluster) {
        let params = DeleteParams::default();
        let client = || cluster.client.clone();
        Api::<ClusterRoleBinding>::all(client()).delete(Self::NAME, &params).await.unwrap();
        Api::<ClusterRole>::all(client()).delete(Self::NAME, &params).await.unwrap();
        remove_namespace(&cluster.client, Self::NAME).await;
    }
}
