//! `explain`: the reasons for the decision on a tag, and a repository's timeline, now or as a past run saw it.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::arguments::{DataFormat, parse_time};
use super::context::{
    missing_evidence, open_app_to_look, open_for_history, open_read_only, pretty_json, run_until_stopped,
};
use super::output::{print, print_stderr};
use crate::domain::{Failure, RegistryName};
use crate::policy::fields::nearest;
use crate::report::{self, PlanDocument};
use crate::workflow::{self, App, PastRun, RunError, RunOutcome, TagRef};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Name the tag: REGISTRY/REPOSITORY:TAG or HOST/REPOSITORY:TAG
    ///
    /// REGISTRY is a name in the settings. Without a tag, all tags of the repository are shown on a timeline; with a
    /// digest (`@sha256:…`) and no tag, what becomes of that manifest.
    image: String,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
    /// Decide as of this time, such as 2026-12-24 or +14d
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, conflicts_with = "run")]
    at: Option<Timestamp>,
    /// Show what happened to the tag: decisions, holds, removals
    ///
    /// In order of time, with who did it and why.
    #[arg(long, conflicts_with_all = ["at", "run"])]
    history: bool,
    /// Show what a past run decided: its id, a prefix, or `last` for the last one with a plan
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Explains a tag or a repository.
pub(super) async fn explain(config: Option<&Path>, args: &ExplainArgs) -> Result<u8, RunError> {
    let app = match &args.run {
        Some(_) => open_read_only(config).await?,
        None if args.history => open_for_history(config).await?,
        None => open_app_to_look(config).await?,
    };
    let done = match &args.run {
        None if args.history => run_until_stopped(&app, explain_history(&app, args)).await.map(|found| (found, None)),
        Some(run) => explain_past_run(&app, args, run).await.map(|found| (found, None)),
        None => Box::pin(run_until_stopped(&app, explain_current(&app, args))).await,
    };
    app.close().await;
    let (found, missing) = done?;
    print(&found);
    let Some(missing) = missing else { return Ok(0) };
    // The log contains the details, with cause and remedy.
    print_stderr(&missing);
    Ok(RunOutcome::EvidenceMissing.exit_code())
}

/// Explains the history of a tag.
async fn explain_history(app: &App, args: &ExplainArgs) -> Result<String, RunError> {
    let named = find_named(app, &args.image).await?;
    let history = match app.history(&named).await {
        Ok(history) => history,
        Err(error) => return Err(app.explain_bare_word(&args.image, error).await?),
    };
    if history.is_empty() {
        let knows_repository = app.may_know_repository(&named).await?;
        let meant = propose_similar(app, &named).await?;
        let target = target_name(&named);
        let words = match knows_repository {
            false => Some(format!("nothing is known of {target}, and the last plan has no such repository")),
            // A tag that is not there, and has a similar one beside it, is a slip.
            true if history.exists == Some(false) && !meant.is_empty() => {
                Some(format!("nothing is known of {target}, and it is not in the registry"))
            }
            true => None,
        };
        if let Some(words) = words {
            return Err(RunError::Usage(Failure::new((), words).with_help(meant)));
        }
    }
    Ok(match args.format {
        DataFormat::Text => history.text(),
        DataFormat::Json => pretty_json(&json!(history)),
    })
}

/// Describes what could not be read for a decision; `None` if all was read.
fn describe_missing(document: &PlanDocument) -> Option<String> {
    document.evidence_missing().then(|| missing_evidence(&document.attention, document.summary.undecided))
}

/// Explains the current state: returns the explanation, and what could not be read.
async fn explain_current(app: &App, args: &ExplainArgs) -> Result<(String, Option<String>), RunError> {
    if let Some(named) = app.find_manifest_ref(&args.image)? {
        let decision = app.decide_repository(&named.registry, &named.repository, args.at).await?;
        let view = app.manifest_trace(&decision, &named);
        if view.is_missing() {
            require_read(
                &decision.document,
                &named.registry,
                &format!("{}@{}", named.repository, named.digest.short()),
            )?;
        }
        let found = match args.format {
            DataFormat::Text => view.text(),
            DataFormat::Json => pretty_json(&json!(view)),
        };
        return Ok((found, describe_missing(&decision.document)));
    }
    let named = find_named(app, &args.image).await?;
    let TagRef { registry, repository, tag } = &named;
    let decision = app.decide_repository(registry, repository, args.at).await?;
    let document = &decision.document;
    let missing = describe_missing(document);
    let Some(tag) = tag else {
        let Some(view) = app.timeline(&decision, &named) else {
            require_read(document, registry, repository.as_str())?;
            let meant = propose_similar(app, &named).await?;
            let error = RunError::Usage(Failure::new((), describe_not_found(&named)).with_help(meant));
            return Err(app.explain_bare_word(&args.image, error).await?);
        };
        let found = match args.format {
            DataFormat::Text => report::timeline_text(&view),
            DataFormat::Json => pretty_json(&json!(view)),
        };
        return Ok((found, missing));
    };
    let Some(weighed) = app.rule_trace(&decision, &named) else {
        let history = app.history(&named).await?;
        // An answer about the tag itself counts more than a list that could not be read.
        if history.exists != Some(false) {
            let read = require_read(document, registry, &format!("{repository}:{tag}"));
            read.map_err(|error| error.with_help(history.describe_last_event()))?;
        }
        let Some(gone) = app.removed_tag(&decision, &named).await? else {
            let meant = match nearest_planned(document, tag.as_str()) {
                Some(meant) => workflow::propose(&[format!("{registry}/{repository}:{meant}")]),
                None => propose_similar(app, &named).await?,
            };
            let words = format!("{}: {}", describe_not_found(&named), history.describe_absence());
            return Err(RunError::Usage(Failure::new((), words).with_help(meant)));
        };
        let found = match args.format {
            DataFormat::Text => gone.text(),
            DataFormat::Json => pretty_json(&json!(gone)),
        };
        return Ok((found, missing));
    };
    let size = app.removal_size(&decision, &named).await?;
    let (registry, repository, tag) = (registry.as_str(), repository.as_str(), tag.as_str());
    let size = size.as_ref();
    let found = match args.format {
        DataFormat::Text => report::explanation_with_rules(document, registry, repository, tag, &weighed, size),
        DataFormat::Json => report::explanation_with_rules_json(document, registry, repository, tag, &weighed, size)
            .map(|json| pretty_json(&json)),
    };
    Ok((found.ok_or_else(|| RunError::usage(describe_not_found(&named)))?, missing))
}

/// Explains the decision and the actions of a past run.
async fn explain_past_run(app: &App, args: &ExplainArgs, run: &str) -> Result<String, RunError> {
    let named = app.find_tag_ref(&args.image)?;
    let recalled = app.past_run(run).await?;
    let (registry, repository) = (named.registry.as_str(), named.repository.as_str());
    let Some(document) = &recalled.document else { return Ok(explain_from_journal(&recalled, &named, args.format)) };
    let missing = || {
        if recalled.keeps_kept {
            return Err(RunError::usage(format!("run {} knew no {}", recalled.record.run.id, target_name(&named))));
        }
        Ok(explain_from_journal(&recalled, &named, args.format))
    };
    let note = if recalled.keeps_kept { "" } else { KEPT_PRUNED };
    let Some(tag) = &named.tag else {
        let Some(view) = report::recorded_timeline(document, registry, repository) else { return missing() };
        return Ok(match args.format {
            DataFormat::Text => {
                run_heading(&recalled) + &report::timeline_text(&view) + note + &run_actions(&recalled, &named)
            }
            DataFormat::Json => pretty_json(&add_run(json!(view), &recalled, &named)),
        });
    };
    let tag = tag.as_str();
    let found = match args.format {
        DataFormat::Text => report::explanation(document, registry, repository, tag)
            .map(|text| run_heading(&recalled) + &text + note + &run_actions(&recalled, &named)),
        DataFormat::Json => report::explanation_json(document, registry, repository, tag)
            .map(|value| pretty_json(&add_run(value, &recalled, &named))),
    };
    found.map_or_else(missing, Ok)
}

/// The note below an explanation by an older plan.
const KEPT_PRUNED: &str = "\nThe details of tags that stayed are stored for the last complete plan only.\n";

/// Explains a tag from the journal if the plan, or its list of retained tags, is no longer stored: the actions done or
/// skipped, and why.
fn explain_from_journal(recalled: &PastRun, named: &TagRef, format: DataFormat) -> String {
    let run = &recalled.record.run;
    if format == DataFormat::Json {
        let value = json!({
            "schema": "tagwarden.explanation/1",
            "plan": recalled.document.as_ref().map(|document| &document.id),
            "evaluated_at": recalled.evaluated_at(),
            "registry": named.registry.as_str(),
            "repository": named.repository.as_str(),
            "tag": named.tag.as_ref().map(crate::domain::TagName::as_str),
        });
        return pretty_json(&add_run(value, recalled, named));
    }
    let lost = match &recalled.document {
        Some(_) => {
            "lists no such removal, and the details of tags that stayed are stored for the last complete plan only"
        }
        None => "is not kept any more (`records.plans`)",
    };
    let mut out = format!(
        "The plan of run {} ({}) of {} {lost}; this is what its journal says of {}:\n",
        run.id,
        run.kind.label(),
        run.started_at.strftime("%Y-%m-%d %H:%M UTC"),
        target_name(named)
    );
    for entry in recalled.entries(named) {
        let _ = writeln!(out, "  {}{}", report::entry_text(entry), report::policy_suffix(entry));
        for reason in entry.reason_views() {
            let _ = writeln!(out, "    {}", report::sanitize(&reason.sentence()));
        }
    }
    if recalled.entries(named).next().is_none() {
        out.push_str("  nothing: the run neither removed nor skipped it; what it decided stood in the plan\n");
    }
    out
}

fn run_heading(recalled: &PastRun) -> String {
    let run = &recalled.record.run;
    let time = recalled.evaluated_at().strftime("%Y-%m-%d %H:%M UTC");
    format!("As run {} ({}) decided on {time}:\n", run.id, run.kind.label())
}

fn run_actions(recalled: &PastRun, named: &TagRef) -> String {
    let mut out = String::from("\nWhat that run did\n");
    let before = out.len();
    for entry in recalled.entries(named) {
        let _ = writeln!(out, "  {}{}", report::entry_text(entry), report::policy_suffix(entry));
    }
    if out.len() == before {
        out.push_str("  nothing\n");
    }
    out
}

fn add_run(mut value: Value, recalled: &PastRun, named: &TagRef) -> Value {
    let entries: Vec<_> = recalled.entries(named).collect();
    value["run"] = json!(recalled.view.without_journal());
    value["journal"] = json!(entries);
    if !recalled.keeps_kept {
        value["kept_pruned"] = json!(true);
    }
    value
}

fn target_name(named: &TagRef) -> String {
    match &named.tag {
        Some(tag) => format!("tag {}/{}:{tag}", named.registry, named.repository),
        None => format!("repository {}/{}", named.registry, named.repository),
    }
}

/// Makes sure that the registry was read in which something was not found.
///
/// # Errors
/// [`RunError::Unread`], with the first part that could not be read.
fn require_read(document: &PlanDocument, registry: &RegistryName, what: &str) -> Result<(), RunError> {
    let found = document.registries.iter().find(|found| found.name == registry.as_str());
    let Some(gap) = found.and_then(|found| found.gaps.first()) else { return Ok(()) };
    let words = format!("not known whether {registry}/{what} is in the registry now: {} could not be read", gap.at);
    Err(RunError::Unread(Failure::new((), format!("{words}: {}", gap.message))))
}

/// Returns the repository or tag that an argument names.
///
/// # Errors
/// Returns an error if it names none of the configured registries; it proposes the full names of a tag.
async fn find_named(app: &App, image: &str) -> Result<TagRef, RunError> {
    match app.find_tag_ref(image) {
        Ok(named) => Ok(named),
        Err(error) => Err(app.explain_bare_word(image, error).await?),
    }
}

/// Proposes the repository or tag that was probably meant: one with a similar name, or that very tag elsewhere; empty
/// if there is none.
async fn propose_similar(app: &App, named: &TagRef) -> Result<String, RunError> {
    if let Some(meant) = app.similar_name(named).await? {
        return Ok(workflow::propose(&[meant]));
    }
    let Some(tag) = &named.tag else { return Ok(String::new()) };
    let this = format!("{}/{}:{tag}", named.registry, named.repository);
    let mut meant = app.tags_named(tag.as_str()).await?;
    meant.retain(|name| *name != this);
    Ok(workflow::propose(&meant))
}

fn describe_not_found(named: &TagRef) -> String {
    let TagRef { registry, repository, tag } = named;
    match tag {
        Some(tag) => format!("{registry} has no tag {repository}:{tag} right now"),
        None => format!("{registry} has no repository {repository} with a tag in it right now"),
    }
}

/// Returns the tag of a plan of one repository that was probably meant.
fn nearest_planned(document: &PlanDocument, tag: &str) -> Option<String> {
    let removed = document.removals.iter().map(|removal| removal.tag.clone());
    let known: Vec<String> = removed.chain(document.kept.iter().map(|kept| kept.tag.clone())).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    nearest(tag, &known).map(str::to_owned)
}
