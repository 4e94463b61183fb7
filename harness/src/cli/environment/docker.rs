//! `--env docker`.

use std::{collections::BTreeMap, time::Duration};

use harness::{
    environment::{
        Environment, EnvironmentError,
        docker::{self, DockerRun, Settings},
    },
    image,
};

use super::Chosen;
use crate::cli;

/// Options that only Docker has.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The host at which ports that Docker publishes are reached; found out when left out.
    #[arg(long, value_name = "HOST")]
    docker_address: Option<String>,
}

impl Args {
    /// Finds the engine and makes sure that it has the image.
    pub(super) async fn docker(
        &self,
        run_id: &str,
        image: Option<String>,
        images: BTreeMap<String, String>,
        start_limit: Option<Duration>,
    ) -> anyhow::Result<Chosen> {
        // Before the image is made, which takes a moment.
        docker::version().await?;
        let image = match image {
            Some(image) => image,
            None => {
                let made = || cli::image::of_this_program(None);
                let made = tokio::task::spawn_blocking(made).await??;
                image::docker::load(&made).await?;
                made.reference().to_owned()
            }
        };
        let mut settings = Settings { images, ..Settings::new(run_id, image) };
        settings.start_limit = start_limit.unwrap_or(settings.start_limit);
        let remote = || docker::address_of(&std::env::var("DOCKER_HOST").ok()?);
        if let Some(address) = self.docker_address.clone().or_else(remote) {
            settings.address = address;
        }
        let run = DockerRun::connect(settings).await?;
        let new = Box::new(move || -> Result<Box<dyn Environment>, _> {
            Ok(Box::new(run.environment()?))
        });
        Ok(Chosen { name: docker::NAME, new, release: None })
    }
}

/// Removes the containers of runs of this machine whose process is gone. A run can go on beside what others left, so that what
/// could not be removed is only logged.
pub(super) async fn remove_orphans() {
    if let Err(error) = remove().await {
        cli::warn(&format!("what a run that was killed left behind is still there: {error}"));
    }
}

async fn remove() -> Result<(), EnvironmentError> {
    let mut orphans = docker::leftovers().await?;
    orphans.retain(|leftover| leftover.owner_lives == Some(false));
    docker::remove(&orphans).await
}
