//! Objects of one kind, as types of Kubernetes, read and written through [`DynamicObject`].
//!
//! serde's code for a type such as `Pod` is large, and is compiled once for each deserializer that it meets; kube's client has
//! several (bytes, text, the events of a watch). Here a type meets one alone, that of [`serde_json::Value`].

use std::marker::PhantomData;

use futures_util::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt, conditions,
        utils::Backoff,
        wait::{self, await_condition},
        watcher::{self, Event, watcher},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The objects of one kind in one namespace, or in the whole cluster.
pub(super) struct Typed<K> {
    api: Api<DynamicObject>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()>> Typed<K> {
    /// Returns those of the whole cluster.
    pub(super) fn all(client: &Client) -> Self {
        let api = Api::all_with(client.clone(), &ApiResource::erase::<K>(&()));
        Self { api, kind: PhantomData }
    }

    /// Returns those of one namespace.
    pub(super) fn namespaced(client: &Client, namespace: &str) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        let kind = ApiResource::erase::<K>(&());
        Self { api: Api::namespaced_with(client.clone(), namespace, &kind), kind: PhantomData }
    }
}

impl<K> Typed<K> {
    /// Deletes the object of that name.
    ///
    /// # Errors
    /// What the API server answers instead.
    pub(super) async fn delete(&self, name: &str, params: &DeleteParams) -> kube::Result<()> {
        self.api.delete(name, params).await.map(drop)
    }

    /// Changes the number of pods of the object of that name.
    ///
    /// # Errors
    /// What the API server answers instead.
    pub(super) async fn patch_scale(&self, name: &str, patch: &Value) -> kube::Result<()> {
        let patch = Patch::Merge(patch);
        self.api.patch_scale(name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Waits until the object of that name and uid is gone.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) async fn await_deleted(self, name: &str, uid: &str) -> Result<(), wait::Error> {
        await_condition(self.api, name, conditions::is_deleted(uid)).await.map(drop)
    }
}

impl<K: Serialize> Typed<K> {
    /// Applies an object under the name of a manager, which takes over what others have set.
    ///
    /// # Errors
    /// What the API server answers instead.
    pub(super) async fn apply(&self, name: &str, manager: &str, object: &K) -> kube::Result<()> {
        let object = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
        let params = PatchParams::apply(manager).force();
        self.api.patch(name, &params, &Patch::Apply(object)).await.map(drop)
    }
}

impl<K: Resource + DeserializeOwned> Typed<K> {
    /// Lists what the parameters select.
    ///
    /// # Errors
    /// What the API server answers instead, and an object that is not of this kind.
    pub(super) async fn list(&self, params: &ListParams) -> kube::Result<Vec<K>> {
        self.api.list(params).await?.items.into_iter().map(read).collect()
    }

    /// Returns the object of that name, where there is one.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn get_opt(&self, name: &str) -> kube::Result<Option<K>> {
        self.api.get_opt(name).await?.map(read).transpose()
    }

    /// Returns the object of that name; a missing one is an error with the code 404.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn get(&self, name: &str) -> kube::Result<K> {
        self.api.get(name).await.and_then(read)
    }

    /// Creates an object, and returns it as the API server keeps it.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) async fn create(&self, params: &PostParams, object: &K) -> kube::Result<K>
    where
        K: Serialize,
    {
        let object = serde_json::to_value(object).and_then(serde_json::from_value);
        let object = object.map_err(kube::Error::SerdeError)?;
        self.api.create(params, &object).await.and_then(read)
    }

    /// Watches all of them, for ever: as they are at first, and each change after that. An object that is not of this kind is an
    /// error, and the watch goes on.
    pub(super) fn watch(
        self,
        backoff: impl Backoff,
    ) -> impl Stream<Item = Result<Event<K>, String>> {
        let events = watcher(self.api, watcher::Config::default()).backoff(backoff);
        events.map(|event| {
            let event = event.map_err(|error| harness_core::chain_of(&error))?;
            let read = |object| read(object).map_err(|error| harness_core::chain_of(&error));
            Ok(match event {
                Event::Init => Event::Init,
                Event::InitDone => Event::InitDone,
                Event::InitApply(object) => Event::InitApply(read(object)?),
                Event::Apply(object) => Event::Apply(read(object)?),
                Event::Delete(object) => Event::Delete(read(object)?),
            })
        })
    }
}

/// Reads an object as one of a kind.
fn read<K: Resource + DeserializeOwned>(object: DynamicObject) -> kube::Result<K> {
    let value = serde_json::to_value(object);
    value.and_then(serde_json::from_value).map_err(kube::Error::SerdeError)
}
