//! Applies objects to the cluster, and names what refuses them.

use futures_util::future::try_join_all;
use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde::Serialize;
use tokio::time::timeout;

use super::{CALL_LIMIT, cluster, manifests::Objects, names::MANAGER, operator, typed::Typed};
use crate::EnvironmentError;

/// Applies objects in one namespace.
pub(super) struct Applier<'a> {
    pub(super) environment: &'static str,
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

impl Applier<'_> {
    /// Makes the namespace, and then everything in it.
    ///
    /// # Errors
    /// What the API server refused; also when the namespace is there already.
    pub(super) async fn apply(&self, objects: &Objects) -> Result<(), EnvironmentError> {
        // Made, not applied: one that is there already is somebody else's.
        let namespaces = Typed::<Namespace>::all(self.client);
        let params =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let what = format!("create the namespace `{}`", self.namespace);
        let made = self.call(&what, namespaces.create(&params, &objects.namespace)).await?;
        self.all::<ServiceAccount>("service account", &objects.accounts).await?;
        // What is outside of the namespace goes with it all the same, whoever deletes that.
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: self.namespace.to_owned(),
            uid: made.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        };
        self.of_cluster("cluster role", &objects.cluster_roles, &owner).await?;
        self.of_cluster("cluster role binding", &objects.cluster_role_bindings, &owner).await?;
        tokio::try_join!(
            self.all::<Secret>("secret", &objects.secrets),
            self.all::<ConfigMap>("config map", &objects.config_maps),
            self.all::<Service>("service", &objects.services),
        )?;
        for collector in &objects.collectors {
            self.collector(collector).await?;
        }
        self.all::<Deployment>("deployment", &objects.deployments).await
    }

    /// Applies what the operator is to make a collector of.
    async fn collector(&self, collector: &DynamicObject) -> Result<(), EnvironmentError> {
        let (name, version) = (collector.name_any(), operator::version_of(collector));
        let api = Api::<DynamicObject>::namespaced_with(
            self.client.clone(),
            self.namespace,
            &version.api(),
        );
        let params = PatchParams::apply(MANAGER).force();
        let what = format!("apply the {} `{name}` ({})", operator::KIND, version.name());
        self.call(&what, api.patch(&name, &params, &Patch::Apply(collector))).await.map(drop)
    }

    /// Applies objects that belong to no namespace.
    async fn of_cluster<K>(
        &self,
        kind: &str,
        objects: &[K],
        owner: &OwnerReference,
    ) -> Result<(), EnvironmentError>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Serialize + Clone,
    {
        let api = Typed::<K>::all(self.client);
        for object in objects {
            let mut object = object.clone();
            object.owner_references_mut().push(owner.clone());
            let name = object.name_any();
            let what = format!("apply the {kind} `{name}`");
            self.call(&what, api.apply(&name, MANAGER, &object)).await?;
        }
        Ok(())
    }

    async fn all<K>(&self, kind: &str, objects: &[K]) -> Result<(), EnvironmentError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
    {
        let api = Typed::<K>::namespaced(self.client, self.namespace);
        let apply = async |object: &K| {
            let name = object.name_any();
            let what = format!("apply the {kind} `{name}`");
            self.call(&what, api.apply(&name, MANAGER, object)).await
        };
        try_join_all(objects.iter().map(apply)).await.map(drop)
    }

    /// Waits for one call's response, and says what was to be done where it fails.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, EnvironmentError> {
        let failed = |reason: String| EnvironmentError::Backend {
            environment: self.environment,
            what: what.to_owned(),
            reason,
        };
        match timeout(CALL_LIMIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let reported = cluster::described(&error);
                let remedy =
                    match reported.contains(operator::GROUP) || reported.contains(operator::KIND) {
                        true => operator::preflight::remedy(&reported),
                        false => cluster::remedy(&error).to_owned(),
                    };
                Err(failed(format!("{reported}; {remedy}")))
            }
            Err(_) => Err(failed(format!("the API server did not answer within {CALL_LIMIT:?}"))),
        }
    }
}
