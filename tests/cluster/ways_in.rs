//! Contexts, credentials and their plugins.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{cluster, keep, one_at_a_time};

const ARGS: [&str; 3] = ["scenarios", "--filter", "happy-path"];

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_is_not_there_is_a_mistake_of_the_callers() {
    let cluster = cluster().await.with(&["--context", "no-such-context"]);
    let ran = cluster.run(&ARGS).await.expect_code(2);
    ran.expect_stderr("there is no context `no-such-context`").expect_stderr("it has `");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_is_not_there_or_none_is_reported_with_its_path() {
    let cluster = cluster().await;
    let ran = cluster.with(&["--kubeconfig", "/no/such/file"]).run(&ARGS).await.expect_code(2);
    ran.expect_stderr("/no/such/file").expect_stderr("--kubeconfig");
    let broken = keep("contexts: {");
    let ran = cluster.by(&broken).run(&ARGS).await.expect_code(2);
    ran.expect_stderr("kubeconfig");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_decides_nothing_and_says_to_log_in_again() {
    let cluster = cluster().await;
    // The API server answers one that has expired as it does any that it does not take.
    let cluster = cluster.by(&kubeconfig_with(&cluster.kubeconfig, "token: expired"));
    let ran = cluster.run(&ARGS).await.expect_code(3);
    ran.expect_stderr("Unauthorized").expect_stderr("log in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_is_reported_with_its_address() {
    let cluster = cluster().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let ran = cluster.through(address).run(&ARGS).await.expect_code(3);
    ran.expect_stderr(&address.to_string()).expect_stderr("can be reached from here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugin_that_fails_is_reported() {
    let cluster = cluster().await;
    let plugin = script("#!/bin/sh\necho 'the session has ended' >&2\nexit 7\n");
    let user = format!(
        "exec: {{ apiVersion: client.authentication.k8s.io/v1, command: {plugin}, interactiveMode: Never }}"
    );
    let cluster = cluster.by(&kubeconfig_with(&cluster.kubeconfig, &user));
    let ran = cluster.run(&ARGS).await.expect_code(3);
    ran.expect_stderr("credential plugin");
}

/// As on EKS, where a plugin gives tokens that last a quarter of an hour: here each lasts some seconds, so that a run needs
/// several.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugins_tokens_are_renewed_during_a_run() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let account = crate::support::Account::make(&cluster).await;
    let count = keep("");
    // A token is renewed some time before it expires, so one that lasts 70 s is asked for again after a few.
    let plugin = script(&format!(
        "#!/bin/sh\necho x >> {}\nat=$(date -u -d '+64 seconds' +%Y-%m-%dT%H:%M:%SZ)\n\
         echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{}\",\"expirationTimestamp\":\"'$at'\"}}}}'\n",
        count.display(),
        account.token,
    ));
    let user = format!(
        "exec: {{ apiVersion: client.authentication.k8s.io/v1, command: {plugin}, interactiveMode: Never }}"
    );
    let through = cluster.by(&kubeconfig_with(&cluster.kubeconfig, &user));
    let ran = through.run(&["scenarios", "--filter", "happy-path", "--filter", "article"]).await;
    account.remove(&cluster).await;
    let ran = ran.expect_code(0);
    let asked = fs::read_to_string(&count).unwrap().lines().count();
    assert!(asked >= 2, "the plugin was asked {asked} times");
    cluster.expect_nothing_left(&ran).await;
}

/// The kubeconfig with another user.
fn kubeconfig_with(original: &std::path::Path, user: &str) -> std::path::PathBuf {
    let text = fs::read_to_string(original).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let user: serde_json::Value = serde_saphyr::from_str(user).unwrap();
    config["users"][0]["user"] = user;
    // JSON is YAML.
    keep(&config.to_string())
}

fn script(text: &str) -> String {
    let path = keep(text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}
