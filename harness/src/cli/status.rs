//! `tracecheck status`: which systems are up, where their parts are, and whether each can be used.

use std::process::ExitCode;

use clap::ValueEnum;
use harness::standing::{self, Health, Standing, StandingPlace};
use serde_json::json;

use super::standing::{Home, reported};

/// Options of `status`: which systems, and in which format they are shown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every part of every system is usable; 1 some are not; 2 usage."
)]
pub(super) struct Args {
    /// The system's name; all of them when left out.
    name: Option<String>,
    /// Format of stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    home: Home,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One system a line.
    Json,
}

/// State of a system.
enum State {
    /// Its keeper is at it.
    ComingUp,
    Up(Standing, Health),
    /// Its time was over; how it ended, empty where all went well.
    Ended(String),
    /// Nobody keeps it, and nobody took it down.
    Abandoned,
}

#[tokio::main]
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let places = match &args.name {
        Some(name) => vec![args.home.place(name)?],
        None => standing::all(&args.home.dir()?)?,
    };
    let mut text = String::new();
    let mut all_usable = true;
    for place in &places {
        let state = state(place).await?;
        all_usable &= match &state {
            Some(State::Up(_, health)) => health.values().all(Option::is_none),
            Some(State::ComingUp) => true,
            Some(State::Ended(_) | State::Abandoned) | None => false,
        };
        text += &match args.format {
            Format::Text => for_people(place, state.as_ref()),
            Format::Json => format!("{}\n", for_programs(place, state.as_ref())),
        };
    }
    if places.is_empty() && matches!(args.format, Format::Text) {
        text = "no system is up: `tracecheck up` brings one up\n".to_owned();
    }
    super::print(&text)?;
    Ok(if all_usable { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `None` where there is no system of that name.
async fn state(place: &StandingPlace) -> anyhow::Result<Option<State>> {
    let kept = place.keeper()?.is_some();
    let standing = place.standing()?;
    Ok(match (kept, standing) {
        (true, None) => Some(State::ComingUp),
        (true, Some(standing)) => {
            let health = standing::health(&standing).await;
            Some(State::Up(standing, health))
        }
        (false, standing) => match (place.end()?, standing) {
            (Some(how), _) => Some(State::Ended(how)),
            (None, Some(_)) => Some(State::Abandoned),
            (None, None) => None,
        },
    })
}

fn for_people(place: &StandingPlace, state: Option<&State>) -> String {
    let name = place.name();
    match state {
        None => format!("there is no system `{name}`\n"),
        Some(State::ComingUp) => {
            format!("system {name}: starting; progress is logged to {}\n", place.log().display())
        }
        Some(State::Up(standing, health)) => reported(standing, health),
        Some(State::Ended(how)) if how.is_empty() => {
            format!(
                "system {name}: down, its time limit has passed; `tracecheck down {name}` forgets it\n"
            )
        }
        Some(State::Ended(how)) => {
            format!("system {name}: down, but did not stop cleanly: {how}\n")
        }
        Some(State::Abandoned) => format!(
            "system {name}: ABANDONED, its keeper was killed; `tracecheck down {name}` removes what is left of it\n"
        ),
    }
}

fn for_programs(place: &StandingPlace, state: Option<&State>) -> serde_json::Value {
    let name = place.name();
    match state {
        None => json!({ "name": name, "state": "unknown" }),
        Some(State::ComingUp) => json!({ "name": name, "state": "coming-up" }),
        Some(State::Ended(how)) => json!({ "name": name, "state": "down", "how": how }),
        Some(State::Abandoned) => json!({ "name": name, "state": "abandoned" }),
        Some(State::Up(standing, health)) => {
            let unusable = health.iter().filter_map(|((workload, instance), trouble)| {
                let trouble = trouble.as_ref()?;
                Some(json!({ "workload": workload, "instance": instance, "trouble": trouble }))
            });
            let unusable: Vec<_> = unusable.collect();
            json!({ "name": name, "state": "up", "system": standing, "unusable": unusable })
        }
    }
}
