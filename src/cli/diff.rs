//! `tagwarden diff`: the effect of an edit of policies, on the real inventory or on a recorded one.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::arguments::parse_time;
use super::context::{
    STANDARD, configured_policies_path, describe_input, open_app_to_look, pretty_json, read_input, run_until_stopped,
    system_clock,
};
use super::findings::{FindingFormat, print_annotations, print_error};
use super::output::{print, print_note, print_stderr};
use super::progress::TerminalProgress;
use crate::domain::{Failure, Policy};
use crate::policy::{self, PolicySet};
use crate::report::{self, DiffView, RevisionView};
use crate::sources;
use crate::workflow::{DecisionInput, RunError, RunOutcome};

/// The schema of the JSON.
const SCHEMA: &str = "tagwarden.diff/1";

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Compare with these policies: a file, a folder, a git revision, or `-`
    ///
    /// A revision such as `origin/main`, `HEAD~1` or `v1.2` means the new policies' path as of then; `REVISION:PATH` names
    /// another path. A file or folder of that name comes first. `-` reads one policy file from standard input.
    #[arg(long, value_name = "OLD_POLICIES")]
    against: PathBuf,
    /// Use these new policies [default: those of the settings]
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// Decide on a recorded inventory (offline); `-` is standard input
    ///
    /// `tagwarden inventory --out FILE.json` records one.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Decide as of this time, such as 2026-12-24 or +14d
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    format: DiffFormat,
    /// Exit with 1 if the policies decide differently
    ///
    /// If a tag newly expires, no longer expires, or would now be removed instead of reported.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// Text for the terminal
    Text,
    /// One JSON document, errors included
    Json,
    /// A comment on a pull request
    Markdown,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub Actions
    Github,
    /// A Code Quality report of GitLab
    Gitlab,
    /// Issues in the log of Azure Pipelines
    Azure,
}

impl DiffFormat {
    /// Returns the format of findings, by which errors are printed as well.
    fn findings(self) -> FindingFormat {
        match self {
            Self::Text | Self::Markdown => FindingFormat::Text,
            Self::Json => FindingFormat::Json,
            Self::Sarif => FindingFormat::Sarif,
            Self::Github => FindingFormat::Github,
            Self::Gitlab => FindingFormat::Gitlab,
            Self::Azure => FindingFormat::Azure,
        }
    }
}

/// Old policies, and the revision that they are from.
struct OldPolicies {
    policies: Vec<Policy>,
    revision: Option<RevisionView>,
}

/// Prints the effects of an edit of policies.
pub(super) async fn diff(config: Option<&Path>, args: &DiffArgs) -> Result<u8, RunError> {
    let format = args.format.findings();
    let (view, new) =
        compare(config, args).await.inspect_err(|error| print_error(format, ("tagwarden diff", SCHEMA), error))?;
    match (args.format, format.annotations()) {
        (DiffFormat::Markdown, _) => print(&report::diff_markdown(&view)),
        (DiffFormat::Json, _) => print(&pretty_json(&json!(view))),
        (_, Some(format)) => print_annotations(format, report::diff_annotations(&view, &new.places), "policies"),
        (_, None) => print(&report::diff_text(&view)),
    }
    Ok(report_exit_code(args, &view))
}

/// Decides by the old and by the new policies; returns the new ones as well.
async fn compare(config: Option<&Path>, args: &DiffArgs) -> Result<(DiffView, PolicySet), RunError> {
    let inputs = [Some(&args.against), args.policies.as_ref(), args.inventory.as_ref()];
    if inputs.into_iter().flatten().filter(|path| path.as_os_str() == STANDARD).count() > 1 {
        return Err(RunError::usage("only one of the inputs can be `-`, standard input".to_owned()));
    }
    let old = old_policies(config, args).await?;
    let (mut view, new) = if let Some(file) = &args.inventory {
        let path = new_policies_path(config, args)?;
        let facts = read_inventory_file(file)?;
        warn_if_old(file, &facts);
        let new = load_policies(&path)?;
        (facts.diff(old.policies, new.policies.clone(), args.at), new)
    } else {
        let new = args.policies.as_deref().map(load_policies).transpose()?;
        let app = open_app_to_look(config).await?;
        let bar = TerminalProgress::new(app.progress());
        let mut others = vec![&*old.policies];
        others.extend(new.as_ref().map(|new| &*new.policies));
        let facts = run_until_stopped(&app, app.read_decision_input(args.at, &others, &())).await;
        drop(bar);
        let new = new.unwrap_or_else(|| app.policies.clone());
        app.close().await;
        (facts?.diff(old.policies, new.policies.clone(), args.at), new)
    };
    view.against = old.revision;
    Ok((view, new))
}

/// Returns the path of the new policies: the given one, else that of the settings.
fn new_policies_path(config: Option<&Path>, args: &DiffArgs) -> Result<PathBuf, RunError> {
    args.policies.clone().map_or_else(|| configured_policies_path(config), Ok)
}

/// Loads the old policies from standard input, a file, a folder or a revision.
async fn old_policies(config: Option<&Path>, args: &DiffArgs) -> Result<OldPolicies, RunError> {
    if args.against.as_os_str() == STANDARD || args.against.exists() {
        return Ok(OldPolicies { policies: load_policies(&args.against)?.policies, revision: None });
    }
    let shown = args.against.display().to_string();
    let path = match &args.policies {
        Some(path) if path.as_os_str() != STANDARD => path.clone(),
        _ => configured_policies_path(config)?,
    };
    if !path.exists() {
        let message = format!("the new policies, {}, do not exist", path.display());
        let help =
            "name them with `--policies PATH`, or settings with `--config FILE`: a revision is read at their path";
        return Err(RunError::Usage(Failure::new((), message).with_help(help)));
    }
    let found = sources::read_revision(&path, &shown, policy::is_policy_path).await.map_err(|error| {
        let message = format!("`{shown}` is neither a file nor a folder, and cannot be read as a git revision");
        RunError::Usage(Failure::new((), message).caused_by(error))
    })?;
    if found.files.is_empty() {
        let message = format!("no policies in {}", found.name_of(&found.path));
        return Err(RunError::Usage(Failure::new((), message).with_help("name another revision or path")));
    }
    let contents = found.files.iter().map(|(file, bytes)| (found.name_of(file), bytes.clone())).collect();
    let set = policy::load_contents(contents).map_err(|error| RunError::Invalid(error.diagnostics))?;
    let revision = RevisionView { revision: found.revision, commit: found.commit, path: found.path };
    Ok(OldPolicies { policies: set.policies, revision: Some(revision) })
}

fn report_exit_code(args: &DiffArgs, view: &DiffView) -> u8 {
    if args.exit_code && view.has_changes() {
        return 1;
    }
    if view.evidence_missing {
        print_stderr("evidence is missing: a source or a registry could not be read, so some tags are undecided");
        return RunOutcome::EvidenceMissing.exit_code();
    }
    0
}

fn load_policies(path: &Path) -> Result<PolicySet, RunError> {
    let loaded = if path.as_os_str() == STANDARD {
        policy::load_contents(vec![("standard input".to_owned(), read_input(path)?.into_bytes())])
    } else {
        policy::load(path)
    };
    loaded.map_err(|error| RunError::Invalid(error.diagnostics))
}

/// The age from which a recorded inventory may no longer show what an edit does.
const OLD_INVENTORY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Warns of an inventory that is not recorded any more: each edit would look harmless by it.
fn warn_if_old(file: &Path, facts: &DecisionInput) {
    let age = system_clock()().duration_since(facts.read_at);
    if age >= OLD_INVENTORY {
        print_note(&format!(
            "warning: {} was recorded {} days ago, on {}; what expires by now may differ: record it again",
            describe_input(file),
            age.as_hours() / 24,
            facts.read_at.strftime("%Y-%m-%d")
        ));
    }
}

fn read_inventory_file(file: &Path) -> Result<DecisionInput, RunError> {
    let failure = |what: &str| Failure::new((), format!("{}: {what}", describe_input(file)));
    let text = read_input(file)?;
    DecisionInput::from_json(&text).map_err(|error| {
        let failure = failure("not a recorded inventory").caused_by(error);
        RunError::Usage(failure.with_help("record one with `tagwarden inventory --out FILE`"))
    })
}
