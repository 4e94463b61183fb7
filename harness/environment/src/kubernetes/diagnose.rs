//! Obstacles to a workload's readiness, as its pods and its Deployment report them: what is final, and what may still come.

use harness_system::Role;

use super::pods::PodState;

/// How often a service's container may end while its system comes up: what it needs may not be there yet.
const MAX_RESTARTS: i32 = 2;
/// The same of a collector and the intake, which need nothing that is not there: a second end is one too many, and the third start
/// would come 10 s later.
const MAX_RESTARTS_ALONE: i32 = 1;

/// Reason why a workload does not become ready, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

impl Problem {
    fn new(what: impl Into<String>, remedy: &'static str) -> Self {
        Self { what: what.into(), remedy }
    }
}

/// Returns what waiting does not mend of the pods of a workload in this role; `None` where there may be hope.
pub(super) fn final_problem(
    role: Role,
    pods: &[PodState],
    refused: Option<&str>,
) -> Option<Problem> {
    if let Some(problem) = refused.and_then(refusal) {
        return Some(problem);
    }
    pods.iter().filter(|pod| !pod.deleting).find_map(|pod| of_pod(role, pod))
}

fn of_pod(role: Role, pod: &PodState) -> Option<Problem> {
    let max_restarts = match role {
        Role::Service => MAX_RESTARTS,
        Role::Collector | Role::Intake | Role::Tap => MAX_RESTARTS_ALONE,
    };
    if let Some(why) = &pod.failed {
        let what = format!("pod `{}` was ended by the cluster ({why})", pod.name);
        return Some(Problem::new(what, "see what its node says of it"));
    }
    let ended = pod.ended.as_ref().or(pod.ended_before.as_ref());
    if let Some(exit) = ended.filter(|_| pod.restarts >= max_restarts && !pod.ready) {
        let what = format!(
            "its container ends again and again ({}; started {} times)",
            exit.text(),
            pod.restarts + 1
        );
        let remedy = match exit.reason.as_str() {
            "OOMKilled" => "it needs more memory than its limit",
            _ => "see the end of its log",
        };
        return Some(Problem::new(what, remedy));
    }
    let (reason, message) = pod.waiting.as_ref()?;
    match reason.as_str() {
        // `ErrImagePull` is tried once more; what comes after it is the second time.
        "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => {
            Some(Problem::new(
                format!("its image cannot be pulled ({reason}): {message}"),
                "does that image exist, and may the cluster's nodes pull it? an image of this machine must be loaded into \
             the nodes or pushed to a registry that they reach; name it with `--image`",
            ))
        }
        "CreateContainerConfigError"
            if message.contains("runAsNonRoot") || message.contains("non-root") =>
        {
            Some(Problem::new(
                format!("its container cannot be made: {message}"),
                match role {
                    Role::Collector => {
                        "pods run under Kubernetes' restricted policy, which wants a user by number: name the one that the image \
                         is made for with `--collector-user`, where it has a name there"
                    }
                    Role::Service | Role::Intake | Role::Tap => {
                        "pods run under Kubernetes' restricted policy, which wants a user by number that is not root: name the one that \
                         the image is made for (`user: 10001` at the workload in the system file, or `USER 10001` in its Dockerfile)"
                    }
                },
            ))
        }
        // The kubelet had not heard of the object yet, and asks again.
        "CreateContainerConfigError" if message.contains("timed out waiting for the condition") => {
            None
        }
        "CreateContainerConfigError" => Some(Problem::new(
            format!("its container cannot be made: {message}"),
            "look for the ConfigMap or Secret it names",
        )),
        "CreateContainerError" | "RunContainerError" => Some(Problem::new(
            format!("its container cannot be started ({reason}): {message}"),
            "is the program that is to run in the image, and may it be executed?",
        )),
        _ => None,
    }
}

/// Finds why no pod is created at all.
fn refusal(message: &str) -> Option<Problem> {
    let what = format!("the cluster refuses its pods: {message}");
    if message.contains("exceeded quota") || message.contains("failed quota") {
        return Some(Problem::new(what, "raise the namespace's quota, or have pods need less"));
    }
    if message.contains("violates PodSecurity") {
        return Some(Problem::new(what, "the namespace's pod security policy does not take them"));
    }
    if message.contains("admission webhook") || message.contains("is forbidden") {
        // A new account is not known everywhere at once.
        let soon = message.contains("serviceaccount") && message.contains("not found");
        return (!soon).then(|| {
            Problem::new(
                what,
                "an admission policy of the cluster does not take them; ask who runs it",
            )
        });
    }
    None
}

/// Says what is waited for, for whoever waited in vain.
pub(super) fn waits_for(pods: &[PodState], refused: Option<&str>, wanted: usize) -> String {
    if let Some(message) = refused {
        return format!("no pod was made: {message}");
    }
    let Some(pod) = pods.iter().find(|pod| !pod.ready && !pod.deleting) else {
        let ready = pods.iter().filter(|pod| pod.ready && !pod.deleting).count();
        return format!("{ready} of {wanted} pods are there and ready");
    };
    let name = &pod.name;
    if let Some(why) = &pod.unschedulable {
        return format!(
            "no node takes pod `{name}`: {why}; free or add capacity, or run fewer systems at once (`--parallel`)"
        );
    }
    if let Some((reason, message)) = &pod.waiting {
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        let before = pod.ended_before.as_ref();
        let before =
            before.map_or(String::new(), |exit| format!(", after it ended ({})", exit.text()));
        return format!("the container of pod `{name}` waits ({reason}{message}){before}");
    }
    if let Some(exit) = &pod.ended {
        return format!("the container of pod `{name}` ended ({})", exit.text());
    }
    if pod.running {
        return format!("pod `{name}` runs, but does not answer its readiness probe");
    }
    format!("pod `{name}` has not started")
}

#[cfg(test)]
mod tests {
    use super::{super::pods::Exit, *};

    fn waiting(reason: &str, message: &str) -> PodState {
        let waiting = Some((reason.to_owned(), message.to_owned()));
        PodState { name: "web-1".to_owned(), waiting, ..PodState::default() }
    }

    #[test]
    fn a_kubelet_that_is_slow_to_hear_of_a_secret_is_waited_for() {
        let why = "CreateContainerConfigError";
        let slow = "failed to sync secret cache: timed out waiting for the condition";
        assert!(of_pod(Role::Service, &waiting(why, slow)).is_none());
        assert!(of_pod(Role::Service, &waiting(why, "secret \"x\" not found")).is_some());
    }

    #[test]
    fn each_cause_has_a_message_of_its_own() {
        let exit =
            |code, reason: &str| Exit { code, reason: reason.to_owned(), message: String::new() };
        let crash = |restarts, code, reason: &str| PodState {
            restarts,
            ended_before: Some(exit(code, reason)),
            ..waiting("CrashLoopBackOff", "back-off 10s")
        };
        let evicted = PodState { failed: Some("Evicted: disk".to_owned()), ..PodState::default() };
        for (pods, refused, reported, remedy) in [
            (
                vec![waiting("ImagePullBackOff", "not found")],
                None,
                "image cannot be pulled",
                "--image",
            ),
            (
                vec![waiting(
                    "CreateContainerConfigError",
                    "container has runAsNonRoot and image will run as root",
                )],
                None,
                "cannot be made",
                "not root",
            ),
            (
                vec![waiting("RunContainerError", "exec: no such file")],
                None,
                "cannot be started",
                "in the image",
            ),
            (
                vec![crash(2, 2, "Error")],
                None,
                "again and again (exit code 2; started 3 times)",
                "log",
            ),
            (vec![crash(3, 137, "OOMKilled")], None, "OOMKilled", "memory"),
            (vec![evicted], None, "Evicted", "node"),
            (vec![], Some("pods \"a\" is forbidden: exceeded quota: q"), "exceeded quota", "quota"),
            (
                vec![],
                Some("pods \"a\" is forbidden: violates PodSecurity \"restricted\""),
                "violates",
                "policy",
            ),
            (
                vec![],
                Some("admission webhook \"x\" denied the request"),
                "denied",
                "admission policy",
            ),
        ] {
            let problem = final_problem(Role::Service, &pods, refused).unwrap();
            assert!(
                problem.what.contains(reported) && problem.remedy.contains(remedy),
                "{problem:?}"
            );
        }
    }

    #[test]
    fn a_collector_that_ends_twice_is_given_up_and_a_service_waited_for() {
        let exit = Exit { code: 1, reason: "Error".to_owned(), message: String::new() };
        let once = PodState { restarts: 1, ended: Some(exit), ..PodState::default() };
        let problem = final_problem(Role::Collector, std::slice::from_ref(&once), None).unwrap();
        assert!(problem.what.contains("(exit code 1; started 2 times)"), "{problem:?}");
        assert_eq!(final_problem(Role::Service, &[once], None), None);
    }

    #[test]
    fn a_user_without_a_number_has_the_remedy_of_its_role() {
        let named = waiting(
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (aoc), cannot verify user is non-root",
        );
        let remedy = |role| final_problem(role, std::slice::from_ref(&named), None).unwrap().remedy;
        assert!(remedy(Role::Collector).contains("--collector-user"));
        assert!(remedy(Role::Service).contains("`user: 10001` at the workload"));
    }

    #[test]
    fn what_may_pass_is_waited_for_and_reported_at_the_end() {
        let unschedulable = PodState {
            unschedulable: Some("0/1 nodes: insufficient cpu".to_owned()),
            name: "a".to_owned(),
            ..PodState::default()
        };
        let once = PodState {
            restarts: 1,
            ended_before: Some(Exit {
                code: 1,
                reason: "Error".to_owned(),
                message: String::new(),
            }),
            ..waiting("CrashLoopBackOff", "")
        };
        let account = "pods \"a\" is forbidden: error looking up serviceaccount x/y: serviceaccount \"y\" not found";
        for (pods, refused, reported) in [
            (vec![unschedulable], None, "no node takes pod `a`: 0/1 nodes: insufficient cpu"),
            (vec![waiting("ErrImagePull", "timeout")], None, "(ErrImagePull: timeout)"),
            (vec![once], None, "after it ended (exit code 1)"),
            (vec![], Some(account), "serviceaccount"),
            (vec![], None, "0 of 1 pods"),
        ] {
            assert_eq!(final_problem(Role::Service, &pods, refused), None);
            let waits_for = waits_for(&pods, refused, 1);
            assert!(waits_for.contains(reported), "{waits_for}");
        }
    }
}
