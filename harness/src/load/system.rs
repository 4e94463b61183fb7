//! Loads a scenario's choice of system: the built-in chain, or a system file.

use std::{collections::BTreeMap, path::PathBuf};

use serde_saphyr::Spanned;

use super::{
    Resolver, Workloads,
    file::{ChainFile, MAX_APPS, MAX_INSTANCES, SystemFile, value::Whole},
};
use crate::{
    scenario::{ChainChoice, Naming, Protocol, SHARED_SERVICE, SystemChoice},
    secret::Secret,
    source,
    system::{Workload, chain, file as system_file, parts::Collector},
};

impl Resolver<'_> {
    pub(super) fn system(
        &mut self,
        system: Option<Spanned<SystemFile>>,
    ) -> (SystemChoice, Workloads) {
        let Some(system) = system else { return self.chain(ChainFile::default()) };
        if system.value.chain.is_some() && system.value.file.is_some() {
            self.wrong(&system, "give either `chain` or `file`, not both");
        }
        match system.value.file {
            Some(file) => self.system_file(&file),
            None => self.chain(system.value.chain.unwrap_or_default()),
        }
    }

    /// How many instances are meant.
    pub(super) fn instances(&mut self, given: Option<&Spanned<Whole<1, MAX_INSTANCES>>>) -> u32 {
        let Some(given) = given else { return 1 };
        if !(1..=MAX_INSTANCES).contains(&given.value.0) {
            let message = format!(
                "the number of instances should be a whole number from 1 to {MAX_INSTANCES}, is `{}`",
                given.value.0
            );
            self.wrong(given, message);
        }
        given.value.0
    }

    fn system_file(&mut self, file: &Spanned<PathBuf>) -> (SystemChoice, Workloads) {
        let path = self.beside(&file.value);
        let (mut services, mut entries, mut named) = (Vec::new(), Vec::new(), None);
        let mut built = None;
        match system_file::load(&path) {
            Ok(system) => {
                services.extend(system.service_names());
                named = system.workloads.iter().map(Workload::service_name).collect();
                let open = system
                    .workloads
                    .iter()
                    .filter(|workload| workload.has_port("http") || workload.has_port("grpc"));
                entries.extend(open.map(|workload| workload.name.clone()));
                // Its key is made for the run; any will do to see whether the rest fits together.
                match system.system(&Secret::new("check")) {
                    Ok(system) => built = Some(system),
                    Err(findings) => self.findings.extend(findings),
                }
            }
            Err(findings) => {
                self.wrong(
                    file,
                    format!("the system file {} is invalid (see below)", path.display()),
                );
                self.findings.extend(findings);
            }
        }
        (
            SystemChoice::File(path),
            Workloads { services, entries, named, builtin: false, system: built },
        )
    }

    fn chain(&mut self, chain: ChainFile) -> (SystemChoice, Workloads) {
        let apps = match chain.apps {
            Some(apps) if (1..=MAX_APPS).contains(&apps.value.0) => apps.value.0,
            Some(apps) => {
                self.wrong(
                    &apps,
                    format!("a chain has 1 to {MAX_APPS} apps, not {}", apps.value.0),
                );
                MAX_APPS.min(apps.value.0.max(1))
            }
            None => 2,
        };
        let collector_config = chain.collector_config.map(|config| {
            let path = self.beside(&config.value);
            if !path.is_file() {
                self.wrong(&config, format!("there is no file {}", path.display()));
            }
            path
        });
        let mut resolved = ChainChoice {
            apps,
            services: chain.services.unwrap_or(Naming::Own),
            protocol: chain.protocol.unwrap_or(Protocol::Grpc),
            env: BTreeMap::new(),
            collector_config,
            collector_instances: self.instances(chain.collector_instances.as_ref()),
        };
        let names = resolved.app_names();
        for (app, variables) in chain.env {
            if app.value != "all" && !names.contains(&app.value) {
                let known = names.iter().map(String::as_str).chain(["all"]);
                let suggestion = source::nearest_or_known(&app.value, known);
                self.wrong_with(
                    &app,
                    format!("there is no app `{}` in the chain", app.value),
                    suggestion,
                );
            }
            resolved.env.insert(app.value, variables);
        }
        let shared = (resolved.services == Naming::Shared).then(|| SHARED_SERVICE.to_owned());
        let named = Some(shared.into_iter().collect());
        let entries = names.clone();
        let built = chain::Chain {
            length: apps as usize,
            protocol: resolved.protocol,
            collector: Collector {
                instances: resolved.collector_instances,
                ..Collector::default()
            },
            ..chain::Chain::new(Secret::new("check"))
        };
        let system = built.system().ok();
        (
            SystemChoice::Chain(resolved),
            Workloads { services: names, entries, named, builtin: true, system },
        )
    }
}
