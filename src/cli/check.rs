//! `tagwarden check`: settings and policies, or policy files alone, without any network.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::{STANDARD, describe_input, environment, pretty_json, read_input_bytes, system_clock};
use super::findings::{
    FindingFormat, annotations_json, known, print_annotations, print_error, print_junit, relative, relative_path,
};
use super::output::{print, print_note, print_stderr};
use crate::config::{self, Settings};
use crate::domain::{Failure, chain};
use crate::policy::{self, Diagnostic, Lint, PolicyError, PolicySet, PolicyTests, Severity};
use crate::report::{self, Annotation, AnnotationLevel, sanitize};
use crate::state::StateLocation;
use crate::workflow::{
    self, EvidenceCheck, EvidenceProblem, EvidenceState, KindFinding, KindState, RunError, RunOutcome,
};

/// The schema of the JSON.
const SCHEMA: &str = "tagwarden.check/1";
/// The name of the test suite.
const SUITE: &str = "tagwarden check";

#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub(super) struct CheckArgs {
    /// Check only these policy files and tests of policies
    ///
    /// They are checked together, without settings unless `--config` names them; `-` is a policy file on standard input.
    /// For pre-commit and editors.
    #[arg(value_name = "FILE", conflicts_with_all = ["policies", "online"])]
    files: Vec<PathBuf>,
    /// Check only the policies and tests of this folder, in the same way
    #[arg(long, value_name = "DIR", conflicts_with = "online")]
    policies: Option<PathBuf>,
    /// Exit with 2 if there is a warning
    #[arg(long)]
    strict: bool,
    /// Also ask each registry what it is, and check its `kind`
    ///
    /// Sends GET requests without credentials. A wrong kind is an error that names the right one (exit code 2); a registry
    /// that does not answer is exit code 5.
    #[arg(long)]
    online: bool,
    /// Do not read secrets, for a machine that does not have them
    ///
    /// Names each file and variable that was not read. Everything else is checked; a plan or run finds out whether the
    /// secrets are right.
    #[arg(long)]
    skip_secrets: bool,
    /// Do not read release records and other evidence in local files
    #[arg(long)]
    skip_evidence: bool,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    format: FindingFormat,
}

/// The results of a check without errors in settings and policies.
#[derive(Default)]
struct Checked {
    /// The settings file, or the first of the files without one.
    main_file: PathBuf,
    /// All files that were checked.
    files: Vec<PathBuf>,
    /// The warnings about the settings.
    warnings: Vec<String>,
    lints: Vec<Lint>,
    /// The findings about evidence in local files.
    evidence: Vec<EvidenceCheck>,
    /// The findings about the kinds of registries; `None` if these were not asked.
    kinds: Option<Vec<KindFinding>>,
    /// The files and variables with secrets that were not read.
    unread_secrets: Vec<String>,
    /// The summary for the terminal.
    text: String,
}

/// Checks settings and policies, by themselves and against the last plan in the state.
pub(super) async fn check(config: Option<&Path>, args: &CheckArgs) -> Result<u8, RunError> {
    let checked = match &args.policies {
        Some(folder) => check_folder(config, args.skip_secrets, folder),
        None if !args.files.is_empty() => check_files(config, args.skip_secrets, &args.files),
        None => check_settings(config, args).await,
    };
    let checked = checked.inspect_err(|error| print_error(args.format, (SUITE, SCHEMA), error))?;
    if !args.format.is_log() {
        checked.report_words();
    }
    checked.print(args);
    Ok(checked.exit_code(args.strict))
}

async fn check_settings(config: Option<&Path>, args: &CheckArgs) -> Result<Checked, RunError> {
    let file = config::find(config)?;
    let ((settings, unread_secrets), policies) = if args.skip_secrets {
        workflow::load_without_secrets(&file, environment())?
    } else {
        let (settings, policies) = workflow::load(&file, environment())?;
        ((settings, Vec::new()), policies)
    };
    let mut lints = policy::lint(&policies, system_clock()());
    lints.extend(config::lint(&settings, &policies));
    lints.extend(policy::lint_unread_files(&settings.policies));
    // A state in a database takes a password.
    let has_state = !args.skip_secrets || matches!(settings.state, StateLocation::File(_));
    let recorded = if has_state { workflow::lint_with_last_plan(&settings, &policies).await } else { Ok(Vec::new()) };
    match recorded {
        Ok(recorded) => lints.extend(recorded),
        Err(error) => {
            print_stderr(&format!("warning: the policies are not held against the last plan: {}", chain(&error)));
        }
    }
    let kinds = if args.online { Some(workflow::check_kinds(&settings).await) } else { None };
    report_kinds(kinds.iter().flatten(), &settings);
    let evidence =
        if args.skip_evidence { Vec::new() } else { workflow::check_evidence_files(&settings, system_clock()()).await };
    let names = policies.files.iter().map(|(name, _)| {
        if settings.policies.is_dir() { settings.policies.join(name) } else { settings.policies.clone() }
    });
    Ok(Checked {
        files: std::iter::once(file.clone()).chain(names).collect(),
        text: settings_text(&file, &settings, &policies),
        main_file: file,
        warnings: settings.warnings,
        lints,
        evidence,
        kinds,
        unread_secrets,
    })
}

/// Checks a folder of policies with their tests, if it has any.
fn check_folder(config: Option<&Path>, skip_secrets: bool, folder: &Path) -> Result<Checked, RunError> {
    let policies = policy::load(folder);
    let mut checked = check_policies((config, skip_secrets), policies, policy::load_any_policy_tests(folder))?;
    checked.lints.extend(policy::lint_unread_files(folder));
    Ok(checked)
}

/// Checks policy files and tests of policies by name.
fn check_files(config: Option<&Path>, skip_secrets: bool, files: &[PathBuf]) -> Result<Checked, RunError> {
    if let Some(settings) = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "toml")) {
        let message = format!("{} is not a policy file", settings.display());
        let help = format!("check settings with `tagwarden check --config {}`", settings.display());
        return Err(RunError::Usage(Failure::new((), message).with_help(help)));
    }
    let is_input = |file: &PathBuf| file == Path::new(STANDARD);
    let input = files.iter().find(|file| is_input(file));
    let input = input.map(|file| Ok::<_, RunError>((describe_input(file), read_input_bytes(file)?))).transpose()?;
    if let Some((name, bytes)) = &input
        && String::from_utf8_lossy(bytes).lines().any(|line| line.starts_with("tests:"))
    {
        let failure = Failure::new((), format!("{name} has tests of policies, and only policies are read from there"));
        return Err(RunError::Usage(failure.with_help("name the file, such as `tagwarden check shop.test.yaml`")));
    }
    let (tests, policies): (Vec<PathBuf>, Vec<PathBuf>) =
        files.iter().filter(|file| !is_input(file)).cloned().partition(|file| policy::is_policy_test_path(file));
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    for file in tests {
        match policy::load_policy_tests(&file) {
            Ok(found) => loaded.extend(found),
            Err(error) => problems.extend(error.diagnostics),
        }
    }
    let tests = if problems.is_empty() { Ok(loaded) } else { Err(PolicyError { diagnostics: problems }) };
    check_policies((config, skip_secrets), policy::load_files(&policies, input.into_iter().collect()), tests)
}

/// Checks policies and tests that were loaded; against the settings only if somebody named these.
fn check_policies(
    (config, skip_secrets): (Option<&Path>, bool),
    policies: Result<PolicySet, PolicyError>,
    tests: Result<Vec<PolicyTests>, PolicyError>,
) -> Result<Checked, RunError> {
    let (policies, tests) = match (policies, tests) {
        (Ok(policies), Ok(tests)) => (policies, tests),
        (policies, tests) => {
            let problems = [policies.err(), tests.err()].into_iter().flatten().flat_map(|error| error.diagnostics);
            return Err(RunError::Invalid(problems.collect()));
        }
    };
    let mut lints = policy::lint(&policies, system_clock()());
    let (mut warnings, mut unread_secrets) = (Vec::new(), Vec::new());
    if let Some(file) = config {
        let file = config::find(Some(file))?;
        let settings = if skip_secrets {
            let (settings, unread) = config::load_without_secrets(&file, environment())?;
            unread_secrets = unread;
            settings
        } else {
            config::load(&file, environment())?
        };
        let mismatches = config::cross_check(&settings, &policies);
        if !mismatches.is_empty() {
            return Err(RunError::Invalid(mismatches));
        }
        lints.extend(config::lint(&settings, &policies));
        warnings = settings.warnings;
    }
    let names = policies.places.values().map(|places| PathBuf::from(&places.name.file));
    let mut files: Vec<PathBuf> = names.chain(tests.iter().map(|tests| PathBuf::from(&tests.file))).collect();
    files.sort();
    files.dedup();
    let valid = if files.len() == 1 { "file is" } else { "files are" };
    let text = format!(
        "{} {valid} valid: {}, {}\n{}",
        files.len(),
        counted(policies.policies.len(), "policy", "policies"),
        counted(tests.iter().map(|file| file.tests.len()).sum(), "test", "tests"),
        policies_text(&policies),
    );
    let main_file = config.map(Path::to_owned).or_else(|| files.first().cloned()).unwrap_or_default();
    Ok(Checked { main_file, files, warnings, lints, unread_secrets, text, ..Checked::default() })
}

impl Checked {
    /// Prints warnings and lints on stderr.
    fn report_words(&self) {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        let lints = self.lints.iter().map(|lint| format!("{}: {}", lint.severity.label(), chain(&lint.diagnostic)));
        let all = self.evidence.iter().flat_map(|one| one.problems.iter().map(move |problem| (&one.source, problem)));
        let evidence = all.map(|(source, problem)| {
            let place = problem.place.as_ref().map_or_else(String::new, |(file, line)| match line {
                0 => format!("{}: ", relative_path(file)),
                line => format!("{}:{line}: ", relative_path(file)),
            });
            // A file of evidence names itself.
            let is_unplaced = problem.place.as_ref().is_none_or(|(file, _)| *file == self.main_file);
            let named = if is_unplaced { format!("source `{source}`: ") } else { String::new() };
            format!("{}: {place}{named}{}", evidence_level(problem).label(), problem.message)
        });
        let texts: Vec<String> = warnings.chain(lints).chain(evidence).map(|text| sanitize(&text)).collect();
        if !texts.is_empty() {
            print_stderr(&texts.join("\n"));
        }
        for secret in &self.unread_secrets {
            print_note(&sanitize(&format!("not read (--skip-secrets): {secret}")));
        }
    }

    fn print(&self, args: &CheckArgs) {
        match (args.format, args.format.annotations()) {
            (FindingFormat::Json, _) => print(&pretty_json(&self.json())),
            (FindingFormat::Junit, _) => {
                let failing = if args.strict { AnnotationLevel::Warning } else { AnnotationLevel::Error };
                let files: Vec<String> = self.files.iter().map(|file| relative_path(file)).collect();
                print_junit(SUITE, &report::file_suites(SUITE, &files, &relative(self.annotations()), failing));
            }
            (_, Some(format)) => {
                print_annotations(format, self.annotations(), &self.main_file.display().to_string());
            }
            (_, None) => {
                print(&self.text);
                let valid = self.evidence.iter().filter_map(|source| Some((source, source.claims?)));
                let rows = valid.map(|(EvidenceCheck { source, kind, .. }, claims)| {
                    format!("  source {source} ({kind}): {} in local files\n", report::counted(claims, "claim"))
                });
                print(&rows.collect::<String>());
                let fitting = self.kinds.iter().flatten().filter(|one| one.state == KindState::Fits);
                let rows = fitting.map(|one| format!("  registry {}: {}\n", one.registry, sanitize(&one.message)));
                print(&rows.collect::<String>());
            }
        }
    }

    fn json(&self) -> Value {
        let lints: Vec<Value> = self.lints.iter().map(lint_json).collect();
        let evidence = annotations_json(&relative(self.evidence_annotations()));
        // The errors among the findings as well, so that a script has one place to look.
        let errors: Vec<Annotation> =
            self.annotations().into_iter().filter(|one| one.level == AnnotationLevel::Error).collect();
        let mut value = json!({
            "schema": SCHEMA,
            "errors": annotations_json(&relative(errors)),
            "warnings": self.warnings,
            "lints": lints,
            "evidence": evidence,
        });
        if !self.unread_secrets.is_empty() {
            value["unread_secrets"] = json!(self.unread_secrets);
        }
        if let Some(kinds) = &self.kinds {
            value["registries"] = kinds.iter().map(kind_json).collect();
        }
        value
    }

    /// Returns all findings, by place.
    fn annotations(&self) -> Vec<Annotation> {
        let file = self.main_file.display().to_string();
        let warnings = self.warnings.iter().map(|warning| {
            Annotation::new(AnnotationLevel::Warning, "settings-warning", warning.as_str()).at(file.as_str(), 0, 0)
        });
        let kinds = self.kinds.iter().flatten().filter_map(|one| {
            let (level, rule) = match one.state {
                KindState::Fits => return None,
                KindState::Weaker => (AnnotationLevel::Warning, "registry-kind"),
                KindState::Wrong => (AnnotationLevel::Error, "registry-kind"),
                KindState::Unreachable => (AnnotationLevel::Error, "registry-unreachable"),
            };
            let message = format!("registry `{}`: {}", one.registry, one.message);
            let help = one.kind.map(|kind| format!("write kind = \"{kind}\""));
            Some(Annotation { help, ..Annotation::new(level, rule, message).at(file.as_str(), 0, 0) })
        });
        let lints = self.lints.iter().map(Annotation::of_lint);
        warnings.chain(kinds).chain(lints).chain(self.evidence_annotations()).collect()
    }

    fn evidence_annotations(&self) -> Vec<Annotation> {
        let mut found = Vec::new();
        for EvidenceCheck { source, problems, .. } in &self.evidence {
            found.extend(problems.iter().map(|problem| {
                let rule = match problem.state {
                    EvidenceState::Invalid => "invalid-evidence",
                    EvidenceState::Uncertain | EvidenceState::Remark => "uncertain-evidence",
                    EvidenceState::Insufficient | EvidenceState::Absent => "evidence-missing",
                };
                let message = format!("source `{source}`: {}", problem.message);
                let annotation = Annotation::new(evidence_level(problem), rule, message);
                match &problem.place {
                    Some((file, line)) => annotation.at(file.display().to_string(), *line, 0),
                    None => annotation.at(self.main_file.display().to_string(), 0, 0),
                }
            }));
        }
        found
    }

    /// Returns true if evidence has a problem of that level.
    fn has_evidence(&self, level: AnnotationLevel) -> bool {
        self.evidence.iter().flat_map(|source| &source.problems).any(|problem| evidence_level(problem) == level)
    }

    fn exit_code(&self, is_strict: bool) -> u8 {
        let has = |state| self.kinds.iter().flatten().any(|one| one.state == state);
        let warned = self.lints.iter().any(|lint| lint.severity == Severity::Warning)
            || !self.warnings.is_empty()
            || self.has_evidence(AnnotationLevel::Warning)
            || has(KindState::Weaker);
        if has(KindState::Wrong) || is_strict && warned {
            return 2;
        }
        let is_missing = has(KindState::Unreachable) || self.has_evidence(AnnotationLevel::Error);
        if is_missing { RunOutcome::EvidenceMissing.exit_code() } else { 0 }
    }
}

/// Returns the level of a problem of evidence. Files that are absent here may be written where the daemon runs.
fn evidence_level(problem: &EvidenceProblem) -> AnnotationLevel {
    match problem.state {
        EvidenceState::Invalid => AnnotationLevel::Error,
        EvidenceState::Insufficient | EvidenceState::Uncertain => AnnotationLevel::Warning,
        EvidenceState::Absent | EvidenceState::Remark => AnnotationLevel::Note,
    }
}

/// Says on stderr which kinds do not fit, and which one to write.
fn report_kinds<'k>(kinds: impl Iterator<Item = &'k KindFinding>, settings: &Settings) {
    for one in kinds {
        let configured = settings.registries.iter().find(|known| known.name.as_str() == one.registry);
        let configured = configured.map_or("", |known| known.provider.name());
        let message = sanitize(&one.message);
        let words = match (one.state, one.kind) {
            (KindState::Wrong, Some(kind)) => format!(
                "error: registry `{}`: kind = \"{configured}\" is wrong: {message}\n  help: write kind = \"{kind}\"",
                one.registry
            ),
            (KindState::Weaker, Some(kind)) => format!(
                "warning: registry `{}`: kind = \"{configured}\" reads it by the OCI API alone: {message}\n  help: write \
                 kind = \"{kind}\"",
                one.registry
            ),
            (KindState::Unreachable, _) => format!(
                "error: registry `{}`: {message}\n  help: correct `endpoint` in {}, or look whether it can be reached from here",
                one.registry,
                settings.file.display()
            ),
            _ => continue,
        };
        print_stderr(&words);
    }
}

fn kind_json(found: &KindFinding) -> Value {
    let KindFinding { registry, state, message, kind } = found;
    json!({ "registry": registry, "state": state.label(), "message": message, "kind": kind })
}

fn lint_json(lint: &Lint) -> Value {
    let Diagnostic { file, line, column, message, help, .. } = &lint.diagnostic;
    json!({
        "severity": lint.severity.label(),
        "kind": lint.kind,
        "policy": lint.policy,
        "file": file,
        "line": known(*line),
        "column": known(*column),
        "message": message,
        "help": help,
    })
}

/// Returns a summary of valid settings and policies.
fn settings_text(file: &Path, settings: &Settings, policies: &PolicySet) -> String {
    format!(
        "{} is valid: mode {}, {}, {}, {}\n{}",
        file.display(),
        settings.mode.label(),
        counted(settings.registries.len(), "registry", "registries"),
        counted(settings.sources.len(), "source", "sources"),
        counted(policies.policies.len(), "policy", "policies"),
        policies_text(policies),
    )
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns a line for each policy.
fn policies_text(policies: &PolicySet) -> String {
    let mut out = String::new();
    for policy in &policies.policies {
        let description = policy.description.as_deref().unwrap_or("no description");
        let words = format!("{} ({}, {}): {description}", policy.name, policy.mode.label(), policy.file);
        let _ = writeln!(out, "  {}", sanitize(&words));
    }
    out
}
