//! `tagwarden registries`: the state, capabilities and rights of each registry, probes on request, and corrections by a
//! person.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::DataFormat;
use super::context::{json_document, open_app, open_app_to_look, open_existing, run_until_stopped};
use super::output::print;
use crate::domain::{Failure, RepositoryName};
use crate::report;
use crate::workflow::{self, RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct RegistriesArgs {
    #[command(subcommand)]
    command: Option<RegistriesCommand>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text, global = true)]
    format: DataFormat,
}

#[derive(Debug, Subcommand)]
enum RegistriesCommand {
    /// Test whether a registry deletes, with a name that cannot exist
    ///
    /// Sends one deletion of a random name, or two if it refuses, and stores the answer for later plans. Nothing is deleted;
    /// the requests appear in the registry's log.
    Probe {
        /// Name the registry, as in the settings
        name: String,
        /// Ask in this repository [default: the first by name]
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Accept a list of repositories that was doubted
    ///
    /// For a registry whose list is empty, or has lost at least half of its repositories, and is right.
    Accept {
        /// Name the registry, as in the settings
        name: String,
    },
    /// Forget what removals showed of a registry
    ///
    /// For a registry that was upgraded or repaired: what it refused or destroyed before is tried again, with one tag.
    Forget {
        /// Name the registry, as in the settings
        name: String,
    },
}

/// Shows registries, probes one, or records a person's correction.
pub(super) async fn registries(config: Option<&Path>, args: &RegistriesArgs) -> Result<u8, RunError> {
    match &args.command {
        None => list_registries(config, args.format).await,
        Some(RegistriesCommand::Probe { name, repository }) => {
            let repository = repository.as_deref().map(str::parse::<RepositoryName>).transpose();
            let repository =
                repository.map_err(|error| RunError::Usage(Failure::new((), "--repository").caused_by(error)))?;
            probe(config, name, repository, args.format).await
        }
        Some(RegistriesCommand::Accept { name }) => {
            let app = open_existing(config).await?;
            let accepted = app.accept_catalogue(name).await;
            app.close().await;
            let names = workflow::describe_repository_count(accepted?);
            print(&format!("registry {name}: its list of repositories is believed, with {names}\n"));
            Ok(0)
        }
        Some(RegistriesCommand::Forget { name }) => {
            let app = open_existing(config).await?;
            let forgotten = app.forget_registry(name).await;
            app.close().await;
            let words = if forgotten? { "forgot what removals showed of" } else { "nothing was remembered of" };
            print(&format!("{words} registry {name}\n"));
            Ok(0)
        }
    }
}

async fn list_registries(config: Option<&Path>, format: DataFormat) -> Result<u8, RunError> {
    let app = open_app_to_look(config).await?;
    let registries = run_until_stopped(&app, app.registry_states()).await;
    app.close().await;
    let registries = registries?;
    match format {
        DataFormat::Text => print(&report::registries_text(&registries)),
        DataFormat::Json => {
            print(&json_document("tagwarden.registries/1", json!({ "registries": to_json(&registries)? })));
        }
    }
    let unread = registries.iter().any(|registry| registry.error.is_some());
    Ok(if unread { RunOutcome::EvidenceMissing.exit_code() } else { 0 })
}

async fn probe(
    config: Option<&Path>,
    name: &str,
    repository: Option<RepositoryName>,
    format: DataFormat,
) -> Result<u8, RunError> {
    let app = open_app(config).await?;
    let probe = run_until_stopped(&app, app.probe(name, repository)).await;
    app.close().await;
    let probe = probe?;
    match format {
        DataFormat::Text => print(&report::probe_text(&probe.view)),
        DataFormat::Json => print(&json_document("tagwarden.probe/1", to_json(&probe.view)?)),
    }
    Ok(probe.outcome.exit_code())
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value, RunError> {
    serde_json::to_value(value)
        .map_err(|error| RunError::Output(Failure::new((), "the view cannot be written as JSON").caused_by(error)))
}
