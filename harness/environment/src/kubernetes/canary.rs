//! A canary on a schedule, as objects of Kubernetes: a CronJob whose pods drive scenarios through a system that is there
//! already, and ask Datadog for their traces. A pure function.
//!
//! The keys are not here: the pods take them from a Secret that is the user's own. Left out are the namespace and that Secret.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar,
            EnvVarSource, KeyToPath, PodSpec, PodTemplateSpec, ResourceRequirements,
            SecretKeySelector, ServiceAccount, Volume,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{
    manifests::{self, mount},
    names::{MANAGED_BY, MANAGER, NAME},
};

/// Folder in a pod that has the scenarios.
pub const SCENARIOS_DIR: &str = "/scenarios";
/// Keys in the user's Secret, and the variables that they are given as; only the site may be left out.
pub const SECRET_KEYS: [(&str, &str); 3] =
    [("DD_API_KEY", "api-key"), ("DD_APP_KEY", "app-key"), ("DD_SITE", "site")];
/// The one of them that has a default.
const OPTIONAL: &str = "DD_SITE";
/// How late a Job may be begun: after that it is a missed one, and the next is waited for. Seconds.
const START_DEADLINE: i64 = 60;
/// How long the pod has to take down what it made after SIGTERM. Seconds.
const STOP_GRACE: i64 = 30;
/// How many Jobs that went well, and that did not, are kept to be looked at.
const KEPT: (i32, i32) = (1, 3);

/// A canary on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Name of all its objects.
    pub name: String,
    /// Namespace of the objects.
    pub namespace: String,
    /// Schedule in cron syntax.
    pub schedule: String,
    /// The image of `tracecheck`.
    pub image: String,
    /// Arguments that follow the image's entrypoint.
    pub args: Vec<String>,
    /// Name of the Secret with Datadog's keys.
    pub secret: String,
    /// The scenarios, and what they name, by their paths below [`SCENARIOS_DIR`].
    pub files: BTreeMap<String, String>,
    /// Time limit of one Job, in seconds.
    pub deadline: i64,
}

/// Objects that are applied for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// One without any right.
    pub account: ServiceAccount,
    /// The files.
    pub config_map: ConfigMap,
    /// The schedule.
    pub cron_job: CronJob,
}

impl Canary {
    /// Builds the canary's Kubernetes objects.
    pub fn objects(&self) -> Objects {
        Objects {
            account: ServiceAccount {
                metadata: self.metadata(),
                automount_service_account_token: Some(false),
                ..ServiceAccount::default()
            },
            config_map: ConfigMap {
                metadata: self.metadata(),
                data: Some(self.keyed().map(|(key, _, text)| (key, text.to_owned())).collect()),
                ..ConfigMap::default()
            },
            cron_job: CronJob {
                metadata: self.metadata(),
                spec: Some(CronJobSpec {
                    schedule: self.schedule.clone(),
                    // Two at once would share Datadog's rate limit, and each see the other's traffic.
                    concurrency_policy: Some("Forbid".to_owned()),
                    starting_deadline_seconds: Some(START_DEADLINE),
                    successful_jobs_history_limit: Some(KEPT.0),
                    failed_jobs_history_limit: Some(KEPT.1),
                    job_template: JobTemplateSpec {
                        metadata: Some(ObjectMeta {
                            labels: Some(self.labels()),
                            ..ObjectMeta::default()
                        }),
                        spec: Some(self.job()),
                    },
                    ..CronJobSpec::default()
                }),
                ..CronJob::default()
            },
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        // Without a run's label: it is a user's to keep, and nothing to be reaped.
        [(MANAGED_BY, MANAGER), (NAME, &self.name)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    /// Key in the ConfigMap, path and text of each file: paths have slashes, which keys may not have.
    fn keyed(&self) -> impl Iterator<Item = (String, &str, &str)> {
        self.files.iter().enumerate().map(|(index, (path, text))| {
            (manifests::key(path, index), path.as_str(), text.as_str())
        })
    }

    fn job(&self) -> JobSpec {
        JobSpec {
            // A verdict that is repeated until it is another one is none.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(self.deadline),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(self.labels()), ..ObjectMeta::default() }),
                spec: Some(self.pod()),
            },
            ..JobSpec::default()
        }
    }

    fn pod(&self) -> PodSpec {
        let items =
            self.keyed().map(|(key, path, _)| KeyToPath { key, path: path.to_owned(), mode: None });
        let scenarios = Volume {
            name: "scenarios".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: self.name.clone(),
                items: Some(items.collect()),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        };
        let scratch = Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("64Mi".to_owned())),
                medium: None,
            }),
            ..Volume::default()
        };
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            service_account_name: Some(self.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(STOP_GRACE),
            security_context: Some(manifests::pod_security(true)),
            containers: vec![self.container()],
            volumes: Some(vec![scenarios, scratch]),
            ..PodSpec::default()
        }
    }

    fn container(&self) -> Container {
        let quantity = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
        let variable = |(name, key): (&str, &str)| EnvVar {
            name: name.to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: self.secret.clone(),
                    key: key.to_owned(),
                    optional: (name == OPTIONAL).then_some(true),
                }),
                ..EnvVarSource::default()
            }),
        };
        Container {
            name: "canary".to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            args: Some(self.args.iter().map(|arg| manifests::escape(arg)).collect()),
            env: Some(SECRET_KEYS.map(variable).into()),
            resources: Some(ResourceRequirements {
                requests: Some([quantity("cpu", "10m"), quantity("memory", "32Mi")].into()),
                limits: Some([quantity("memory", "256Mi")].into()),
                ..ResourceRequirements::default()
            }),
            security_context: Some(manifests::container_security()),
            volume_mounts: Some(vec![
                mount("scenarios", SCENARIOS_DIR, true),
                mount("tmp", "/tmp", false),
            ]),
            ..Container::default()
        }
    }
}
