//! `explain`: why a tag stays or goes, a repository's tags on a timeline, now or as a run of the past saw it.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::commands::{interruptible, open, pretty};
use super::output::{print, say};
use super::{DataFormat, results};
use crate::report::{self, EntryView, PlanDocument, RunView};
use crate::run::{House, Named, Recalled, RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The image: HOST/REPOSITORY:TAG, or REGISTRY/REPOSITORY:TAG with a registry's name in the settings. Without a tag:
    /// the tags of the repository on a timeline
    image: String,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
    /// Decide as of that time
    #[arg(long, value_name = "TIME", value_parser = super::time, conflicts_with = "run")]
    at: Option<Timestamp>,
    /// What that run decided then, and did; the run's id, or its beginning
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Explains a tag or a repository.
pub(super) async fn explain(config: Option<&Path>, args: &ExplainArgs) -> Result<u8, RunError> {
    let house = open(config).await?;
    let done = match &args.run {
        Some(run) => recalled(&house, args, run).await.map(|found| (found, Vec::new())),
        None => interruptible(&house, now(&house, args)).await,
    };
    house.close().await;
    let (found, missing) = done?;
    print(&found);
    for words in &missing {
        say(words);
    }
    Ok(if missing.is_empty() { 0 } else { RunOutcome::EvidenceMissing.exit_code() })
}

/// As it is now: the explanation, and what could not be read.
async fn now(house: &House, args: &ExplainArgs) -> Result<(String, Vec<String>), RunError> {
    let named = house.find_named(&args.image)?;
    let Named { registry, repository, tag } = &named;
    let decision = house.decide_repository(registry, repository, args.at).await?;
    let document = &decision.document;
    let missing = unread(document);
    let Some(tag) = tag else {
        let view = house.timeline(&decision, &named).ok_or_else(|| not_there(document, &named))?;
        let found = match args.format {
            DataFormat::Text => report::timeline_text(&view),
            DataFormat::Json => pretty(&json!(view)),
        };
        return Ok((found, missing));
    };
    let Some(weighed) = house.weighed(&decision, &named) else {
        let gone = house.gone(&decision, &named).await?.ok_or_else(|| not_there(document, &named))?;
        let found = match args.format {
            DataFormat::Text => gone.text(),
            DataFormat::Json => pretty(&json!(gone)),
        };
        return Ok((found, missing));
    };
    let (registry, repository, tag) = (registry.as_str(), repository.as_str(), tag.as_str());
    let found = match args.format {
        DataFormat::Text => report::explanation_by_rule(document, registry, repository, tag, &weighed),
        DataFormat::Json => {
            report::explanation_by_rule_json(document, registry, repository, tag, &weighed).map(|json| pretty(&json))
        }
    };
    Ok((found.ok_or_else(|| not_there(document, &named))?, missing))
}

/// As a run of the past decided, with what it did.
async fn recalled(house: &House, args: &ExplainArgs, run: &str) -> Result<String, RunError> {
    let named = house.find_named(&args.image)?;
    let recalled = house.recall(run).await?;
    let document = &recalled.document;
    let (registry, repository) = (named.registry.as_str(), named.repository.as_str());
    let missing = || RunError::Usage(format!("run {} knew no {}", recalled.record.run.id, words(&named)));
    let Some(tag) = &named.tag else {
        let view = report::recorded_timeline(document, registry, repository).ok_or_else(missing)?;
        return Ok(match args.format {
            DataFormat::Text => preface(&recalled) + &report::timeline_text(&view) + &done(&recalled, &named),
            DataFormat::Json => pretty(&with_run(json!(view), &recalled, &named)),
        });
    };
    let tag = tag.as_str();
    let found = match args.format {
        DataFormat::Text => report::explanation(document, registry, repository, tag)
            .map(|text| preface(&recalled) + &text + &done(&recalled, &named)),
        DataFormat::Json => report::explanation_json(document, registry, repository, tag)
            .map(|value| pretty(&with_run(value, &recalled, &named))),
    };
    found.ok_or_else(missing)
}

fn preface(recalled: &Recalled) -> String {
    let run = &recalled.record.run;
    let time = recalled.evaluated_at().strftime("%Y-%m-%d %H:%M UTC");
    format!("As run {} ({}) decided on {time}:\n", run.id, run.kind.label())
}

fn done(recalled: &Recalled, named: &Named) -> String {
    let mut out = String::from("\nWhat that run did\n");
    let before = out.len();
    for entry in recalled.done(named) {
        let _ = writeln!(out, "  {}", report::entry_text(&EntryView::new(entry, None)));
    }
    if out.len() == before {
        out.push_str("  nothing\n");
    }
    out
}

fn with_run(mut value: Value, recalled: &Recalled, named: &Named) -> Value {
    let entries: Vec<_> = recalled.done(named).cloned().collect();
    value["run"] = results::runs_json(std::slice::from_ref(&recalled.record))[0].take();
    value["journal"] = json!(RunView::new(&recalled.record, &entries).journal);
    value
}

fn words(named: &Named) -> String {
    match &named.tag {
        Some(tag) => format!("tag {}/{}:{tag}", named.registry, named.repository),
        None => format!("repository {}/{}", named.registry, named.repository),
    }
}

fn not_there(document: &PlanDocument, named: &Named) -> RunError {
    let gaps = document.registries.iter().flat_map(|registry| &registry.gaps);
    let why: Vec<String> = gaps.map(|gap| format!("; {} could not be read: {}", gap.at, gap.message)).collect();
    let Named { registry, repository, tag } = named;
    RunError::Usage(match tag {
        Some(tag) => format!("{registry} has no tag {repository}:{tag} right now{}", why.concat()),
        None => format!("{registry} has no repository {repository} with a tag in it right now{}", why.concat()),
    })
}

/// What could not be read, each with the cause, which an explanation of a single tag has no room for.
fn unread(document: &PlanDocument) -> Vec<String> {
    let failed = document.sources.iter().filter_map(|source| {
        source.error.as_ref().map(|error| format!("evidence is missing: source {} failed: {error}", source.name))
    });
    let gaps = document.registries.iter().flat_map(|registry| registry.gaps.iter().map(move |gap| (registry, gap)));
    let gaps = gaps.map(|(registry, gap)| {
        format!("evidence is missing: {}: {} could not be read: {}", registry.name, gap.at, gap.message)
    });
    failed.chain(gaps).collect()
}
