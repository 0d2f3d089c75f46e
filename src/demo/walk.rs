//! The walk of `tagwarden demo` through the sample, over real HTTP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use tokio::sync::watch;
use uuid::Uuid;

use super::registry::{AcrOptions, Admin, Dialect, EmbeddedRegistry, Options};
use super::sample::Sample;
use crate::apply::Clock;
use crate::domain::{Digest, Failure, Outcome};
use crate::report::{self, Format, KeptView, PlanDocument, ReasonView};
use crate::workflow::{self, App, Approval, RunError};

/// The options of the demo.
pub struct DemoOptions<'a> {
    /// The folder for its files; `None` means `tagwarden-demo` in the current one.
    pub folder: Option<&'a Path>,
    /// True if the registry keeps running until the demo is stopped.
    pub serve: bool,
    /// The time.
    pub clock: Clock,
    /// The user that runs it.
    pub by: String,
    /// Becomes true when it is stopped.
    pub stop: watch::Receiver<bool>,
    /// The output for the narration.
    pub narrate: &'a (dyn Fn(&str) + Sync),
}

/// The file that marks a folder of the demo.
const MARKER_FILE: &str = ".tagwarden-demo";
const EXAMPLE_COUNT: usize = 4;

/// Runs the whole workflow: plan, report, explain, apply, plan again, restore, and a preview of two weeks later.
///
/// # Errors
/// Returns an error if the folder is not the demo's, or any step fails.
pub async fn run_demo(demo: DemoOptions<'_>) -> Result<(), RunError> {
    let say = demo.narrate;
    let folder = demo.folder.unwrap_or(Path::new("tagwarden-demo"));
    let unwritable = |error: io::Error| {
        let failure = Failure::new((), format!("cannot write to {}", folder.display())).caused_by(error);
        RunError::Output(failure.with_help("name a folder that you may write to with `--folder`"))
    };
    if has_foreign_files(folder).map_err(unwritable)? {
        let message = format!("{} has other files in it; choose an empty folder with `--folder`", folder.display());
        return Err(RunError::usage(message));
    }
    prepare_folder(folder).map_err(unwritable)?;
    let sample = Sample::at((demo.clock)());
    let (registry, admin) = start_registry(&sample, &demo.clock).await.map_err(unwritable)?;
    sample.write_folder(folder, &registry.url(), Some(&admin)).map_err(unwritable)?;
    say(&format!(
        "This is an embedded sample: the registry of a fictional company with {} tags, on {} in this process.\n\
         It speaks the API of Azure Container Registry. Everything else is real: settings, policies and release records\n\
         in {}, and all requests over HTTP.\n",
        sample.tag_count(),
        registry.url(),
        folder.display()
    ));

    let loaded = workflow::load(&folder.join("tagwarden.toml"), std::iter::empty())?;
    let app = App::open(loaded, demo.by.clone(), demo.clock.clone(), demo.stop.clone()).await?.with_own_state();
    let played = run_walkthrough(&app, folder, say).await;
    app.close().await;
    played?;

    say(&format!("\nLook around in {}: tagwarden.toml, policies/, releases/, deploy/, reports/.", folder.display()));
    let config = folder.join("tagwarden.toml");
    if demo.serve {
        say(&format!(
            "The registry runs at {url} until you press Ctrl-C. In another terminal:\n  \
             tagwarden plan --config {config}\n  tagwarden runs --config {config}\n\
             Other tools sign in as {user} with the password {password}, which is new for each demo:\n  \
             curl --user {user}:{password} {url}/acr/v1/shop/api/_tags\n  \
             skopeo list-tags --tls-verify=false --creds {user}:{password} docker://{host}/shop/api",
            url = registry.url(),
            host = registry.host(),
            user = admin.user,
            password = admin.password,
            config = config.display()
        ));
        let mut stop = demo.stop.clone();
        // An error means that no stop can come anymore; then there is no client to serve either.
        let _ = stop.wait_for(|stopped| *stopped).await;
    } else {
        say("The sample registry has stopped; `tagwarden demo --serve` keeps it running, to try commands on.");
    }
    registry.stop().await;
    Ok(())
}

/// Starts the sample in a registry with the ACR dialect, and returns its administrator, with a made-up password.
async fn start_registry(sample: &Sample, clock: &Clock) -> io::Result<(EmbeddedRegistry, Admin)> {
    let password = Digest::of(format!("{}{}", Uuid::now_v7(), Uuid::now_v7()).as_bytes()).hex()[..20].to_owned();
    let admin = Admin { user: "sample".to_owned(), password };
    let options = AcrOptions { admin: Some(admin.clone()), ..AcrOptions::new(clock.clone()) };
    let options = Options { dialect: Dialect::acr(options), ..Options::default() };
    let registry = EmbeddedRegistry::start(options).await?;
    sample.fill(&registry);
    Ok((registry, admin))
}

async fn run_walkthrough(app: &App, folder: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<(), RunError> {
    let reports = folder.join("reports");
    let write = |name: &str, text: &str| {
        let path = reports.join(name);
        fs::write(&path, text).map_err(|error| {
            RunError::Output(Failure::new((), format!("cannot write {}", path.display())).caused_by(error))
        })?;
        Ok::<PathBuf, RunError>(path)
    };

    say("── plan: a dry run ──────────────────────────────────────────────");
    let planned = app.plan(None, &()).await?;
    let plan = &planned.document;
    narrate_plan(plan, say);
    let formats = [Format::Text, Format::Json, Format::Markdown, Format::Html, Format::Csv];
    for (format, extension) in formats.into_iter().zip(["txt", "json", "md", "html", "csv"]) {
        write(&format!("plan.{extension}"), &report::render(plan, format))?;
    }
    say(&format!("written as text, JSON, Markdown, HTML and CSV to {}", reports.display()));

    if let Some(removal) = plan.removals.iter().find(|removal| !removal.verify.is_empty()) {
        say(&format!("\n── check it yourself: the commands in the ticket for {} ──", removal.name()));
        for command in &removal.verify {
            say(&format!("  {command}"));
        }
    }

    if let Some(kept) = plan.kept.iter().find(|kept| is_claimed(&kept.reasons) && kept.verdict == "protected") {
        say(&format!("\n── explain {} ──", kept.name()));
        say(explain(app, &kept).await?.trim_end());
    }

    say("\n── apply: exactly that plan, or less ────────────────────────────");
    let sealed = report::render(plan, Format::Json);
    let approval = Approval { approved_by: Some("the demo".to_owned()), ..Approval::default() };
    let applied = app.apply(&sealed, &approval, &()).await?;
    let count = |label: &str| applied.applied.iter().filter(|one| one.outcome.label() == label).count();
    say(&format!("{} tags removed, {} skipped, {} failed", count("done"), count("skipped"), count("failed")));
    for one in applied.applied.iter().filter(|one| matches!(one.outcome, Outcome::Skipped(_))).take(1) {
        if let Outcome::Skipped(skip) = &one.outcome {
            say(&format!("  skipped, for one: {}:{}: {skip}", one.removal.repository, one.removal.tag));
        }
    }
    let again = app.plan(None, &()).await?;
    let left = again.document.removals.iter().filter(|removal| removal.enforce).count();
    say(&format!("planned again: {left} more would be removed"));

    say("\n── restore: every removal can be undone ─────────────────────────");
    if let Some(removed) = applied.applied.iter().find(|one| matches!(one.outcome, Outcome::Done(_))) {
        let removal = &removed.removal;
        let image = format!("{}/{}:{}", removal.registry, removal.repository, removal.tag);
        let restored = app.restore_image(&image).await?;
        for one in &restored.restored {
            say(&format!("{image} at {}: {}", one.intent.digest.short(), one.outcome.label()));
        }
        say(&format!("all of them would come back with: tagwarden restore --run {}", applied.run));
    }

    let later = app.plan((app.clock)().checked_add(DELETION_PREVIEW_DELAY).ok(), &()).await?;
    say("\n── in fifteen days: the second step ─────────────────────────────");
    say(
        "Removing tags frees no space. Policy candidate-builds deletes the images two weeks later, if nothing uses them:",
    );
    for words in later.document.deletions.sentences() {
        say(&format!("  {words}"));
    }
    Ok(())
}

/// Longer than the delay after which the sample's policy deletes manifests.
const DELETION_PREVIEW_DELAY: SignedDuration = SignedDuration::from_hours(15 * 24);

/// Explains why a tag is retained, rule by rule.
async fn explain(app: &App, kept: &KeptView) -> Result<String, RunError> {
    let named = app.find_tag_ref(&kept.name())?;
    let decision = app.decide_repository(&named.registry, &named.repository, None).await?;
    let (registry, repository, tag) = (&kept.registry, &kept.repository, &kept.tag);
    let weighed = app.rule_trace(&decision, &named);
    let found = weighed
        .and_then(|one| report::explanation_with_rules(&decision.document, registry, repository, tag, &one, None));
    Ok(found.unwrap_or_default())
}

/// Narrates the plan briefly; the reports contain all of it.
fn narrate_plan(plan: &PlanDocument, say: &(dyn Fn(&str) + Sync)) {
    let summary = &plan.summary;
    say(&format!(
        "{} tags: {} would be removed ({}{} reclaimable, {} shared with what stays), {} protected, {} retained, {} undecided, \
         {} out of scope",
        report::format_count(summary.tags),
        report::format_count(summary.expired),
        if summary.is_estimated() { "about " } else { "" },
        report::format_bytes(summary.reclaimable_bytes),
        report::format_bytes(summary.shared_bytes),
        report::format_count(summary.protected),
        report::format_count(summary.retained),
        report::format_count(summary.undecided),
        report::format_count(summary.out_of_scope)
    ));
    for policy in &plan.policies {
        say(&format!("  {:<24} {:<8} {} expired", policy.name, policy.mode, policy.expired));
    }
    say("would be removed, for example:");
    let mut repositories = Vec::new();
    for removal in plan.removals.iter() {
        if repositories.len() < EXAMPLE_COUNT && !repositories.contains(&removal.repository) {
            repositories.push(removal.repository.clone());
            say(&format!("  {}: {}", removal.name(), first_sentence(&removal.reasons)));
        }
    }
    say("would be kept, for example:");
    let mut kinds = Vec::new();
    for kept in plan.kept.iter() {
        let Some(reason) = kept.reasons.first() else { continue };
        if kinds.len() < 2 * EXAMPLE_COUNT && !kinds.contains(&reason.kind()) {
            kinds.push(reason.kind());
            say(&format!("  {}: {}", kept.name(), reason.sentence()));
        }
    }
    for drift in &plan.drift {
        say(&format!("drift: {}:{} is no longer what {} recorded", drift.repository, drift.tag, drift.holder));
    }
}

fn first_sentence(reasons: &[ReasonView]) -> String {
    reasons.first().map(ReasonView::sentence).unwrap_or_default()
}

fn is_claimed(reasons: &[ReasonView]) -> bool {
    reasons.iter().any(|reason| matches!(reason, ReasonView::Claimed { .. }))
}

/// Returns true if a folder has files that are not the demo's.
fn has_foreign_files(folder: &Path) -> io::Result<bool> {
    Ok(folder.exists() && !folder.join(MARKER_FILE).exists() && fs::read_dir(folder)?.next().is_some())
}

/// Creates the folder, or clears the state of an earlier demo in it: that belongs to another registry.
fn prepare_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("reports"))?;
    fs::write(folder.join(MARKER_FILE), "left by `tagwarden demo`, which may overwrite what is here\n")?;
    for name in ["tagwarden.db", "tagwarden.db-wal", "tagwarden.db-shm", "tagwarden.db.lock"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
