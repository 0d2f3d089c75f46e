//! Loading of all policies in a file or a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::compile::{LocatedPolicy, Origin};
use super::diagnostic::{Diagnostic, Problems};
use crate::domain::{Cause, Digest, Failure, Policy, PolicyName, RegistryName, RuleKey, decode_text};

/// All policies, with their files.
#[derive(Debug, Clone)]
pub struct PolicySet {
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// Each file, relative to the policies folder, with the hash of its content (`sha256:…`), by name.
    pub files: Vec<(String, String)>,
    /// The text of each file, by the hash of its content.
    pub texts: BTreeMap<String, String>,
    /// Each registry that a policy names, with its place.
    pub registries: Vec<(RegistryName, Diagnostic)>,
    /// The git commit of their folder, if it is a checkout. Later edits change the revision only.
    pub commit: Option<String>,
    /// The latest time at which one of the files was modified.
    pub modified: Option<Timestamp>,
    /// The places of each policy, for lints.
    pub places: BTreeMap<PolicyName, PolicyPlaces>,
}

/// The places of a policy and its rules; the messages are empty.
#[derive(Debug, Clone)]
pub struct PolicyPlaces {
    /// Its name.
    pub name: Diagnostic,
    /// Each of its keep rules, in order.
    pub rules: Vec<Diagnostic>,
    /// Each of its names, globs and patterns, by key and text.
    pub rule_texts: BTreeMap<(RuleKey, String), Diagnostic>,
    /// Its `then`, if it has one.
    pub then: Option<Diagnostic>,
    /// What it says of manifests without a tag, if it speaks of these.
    pub untagged: Option<Diagnostic>,
}

impl PolicySet {
    /// Returns the hash over all files with their names, `sha256:…`.
    #[must_use]
    pub fn revision(&self) -> String {
        let lines: Vec<String> = self.files.iter().map(|(name, revision)| format!("{revision} {name}")).collect();
        Digest::of(lines.join("\n").as_bytes()).to_string()
    }
}

/// Why policies cannot be loaded: every problem of every file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The problems, by file and place; never empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl PolicyError {
    /// Returns the label used in metrics and the audit record.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        "policy"
    }
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            f.write_str(separator)?;
            // Passes on `{:#}`, which shows causes.
            std::fmt::Display::fmt(diagnostic, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Larger than any policy file, and small enough to read a wrong file by mistake.
pub(super) const MAX_FILE_SIZE: u64 = 1024 * 1024;
/// Deeper than any folder of policies, and a limit for folders that link to themselves.
const MAX_FOLDER_DEPTH: usize = 16;

/// Loads a policy file, or all `*.yaml` and `*.yml` files of a folder and its subfolders.
///
/// Hidden files (`.` first) and fixtures (`*.test.yaml`) are skipped.
///
/// # Errors
/// Returns every problem of every file. A folder without any policy is a problem, too.
pub fn load(path: &Path) -> Result<PolicySet, PolicyError> {
    let mut unread = Vec::new();
    let mut modified = None;
    let mut texts = Vec::new();
    for file in find_policy_files(path, &mut unread) {
        let name = file.strip_prefix(path).ok().filter(|rest| !rest.as_os_str().is_empty());
        let name = name.map_or_else(|| file_name(&file), |rest| rest.display().to_string());
        modified = modified.max(modified_at(&file));
        texts.push(PolicyText { shown: file.display().to_string(), name, bytes: read_file(&file) });
    }
    let set = compile_texts(texts, unread)?;
    Ok(PolicySet { commit: super::git_commit::find_commit(path), modified, ..set })
}

/// Loads policy files and folders by name, all of them together, with contents that are in no file.
///
/// # Errors
/// Returns every problem of every file.
pub fn load_files(paths: &[PathBuf], contents: Vec<(String, Vec<u8>)>) -> Result<PolicySet, PolicyError> {
    let mut unread = Vec::new();
    let mut found: Vec<PathBuf> = paths.iter().flat_map(|path| find_policy_files(path, &mut unread)).collect();
    found.sort();
    found.dedup();
    let text = |file: PathBuf| {
        let shown = file.display().to_string();
        PolicyText { name: shown.clone(), shown, bytes: read_file(&file) }
    };
    compile_texts(found.into_iter().map(text).chain(contents.into_iter().map(content)).collect(), unread)
}

/// Loads the contents of policy files, each with its name in messages.
///
/// # Errors
/// Returns every problem of every file.
pub fn load_contents(files: Vec<(String, Vec<u8>)>) -> Result<PolicySet, PolicyError> {
    compile_texts(files.into_iter().map(content).collect(), Vec::new())
}

fn content((shown, bytes): (String, Vec<u8>)) -> PolicyText {
    PolicyText { name: shown.clone(), shown, bytes: Ok(bytes) }
}

/// Returns true for the path of a policy file in a folder of policies: hidden files and fixtures do not count.
#[must_use]
pub fn is_policy_path(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.clone().all(|part| !part.starts_with('.')) && parts.next_back().is_some_and(is_policy_file)
}

/// Returns true for the path of a fixture.
#[must_use]
pub fn is_policy_test_path(path: &Path) -> bool {
    is_test_file(&file_name(path))
}

/// A policy file with its content.
struct PolicyText {
    /// Its name in messages.
    shown: String,
    /// Its name in reports.
    name: String,
    bytes: Result<Vec<u8>, Failure<()>>,
}

fn compile_texts(texts: Vec<PolicyText>, mut unread: Vec<Diagnostic>) -> Result<PolicySet, PolicyError> {
    let mut read: Vec<(Problems, Vec<LocatedPolicy>)> = Vec::new();
    let (mut files, mut contents) = (Vec::new(), BTreeMap::new());
    for PolicyText { shown, name, bytes } in texts {
        // Of the file as it is, so that `sha256sum` finds the same.
        let digested = bytes.map(|bytes| (Digest::of(&bytes).to_string(), bytes));
        match digested.and_then(|(revision, bytes)| Ok((revision, decode(bytes)?))) {
            Ok((revision, text)) => {
                let revision: Arc<str> = revision.into();
                let mut problems = Problems::of_yaml(&shown, &text);
                let origin = Origin { file: name.as_str().into(), revision: Arc::clone(&revision) };
                let policies = super::read(&text, &origin, &mut problems);
                files.push((name, revision.to_string()));
                contents.insert(revision.to_string(), text);
                read.push((problems, policies));
            }
            Err(failure) => unread.push(Diagnostic::of_failure(shown, failure)),
        }
    }
    report_duplicate_names(&mut read);
    let (mut diagnostics, mut policies, mut registries) = (unread, Vec::new(), Vec::new());
    let mut places = BTreeMap::new();
    for (problems, placed) in read {
        for LocatedPolicy { policy, registries: named, name, rules, rule_texts: written, then, untagged } in placed {
            let rules = rules.iter().map(|at| problems.diagnostic(at, "")).collect();
            let then = then.map(|at| problems.diagnostic(&at, ""));
            let untagged = untagged.map(|at| problems.diagnostic(&at, ""));
            let written = written.into_iter().map(|one| ((one.key, one.written), problems.diagnostic(&one.at, "")));
            let places_of_it = PolicyPlaces {
                name: problems.diagnostic(&name, ""),
                rules,
                rule_texts: written.collect(),
                then,
                untagged,
            };
            places.insert(policy.name.clone(), places_of_it);
            let message = format!("named by policy `{}`", policy.name);
            registries.extend(named.into_iter().map(|(name, at)| (name, problems.diagnostic(&at, message.as_str()))));
            policies.push(policy);
        }
        diagnostics.extend(problems.into_diagnostics());
    }
    if !diagnostics.is_empty() {
        diagnostics.sort_by(|a, b| a.file.cmp(&b.file));
        return Err(PolicyError { diagnostics });
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    files.sort();
    Ok(PolicySet { policies, files, texts: contents, registries, commit: None, modified: None, places })
}

/// Reports policies of one name in different files; duplicates inside a file are reported when it is read.
fn report_duplicate_names(read: &mut [(Problems, Vec<LocatedPolicy>)]) {
    let mut first: BTreeMap<PolicyName, (usize, Diagnostic)> = BTreeMap::new();
    for (index, (problems, policies)) in read.iter_mut().enumerate() {
        for LocatedPolicy { policy, name: at, .. } in policies.iter() {
            match first.get(&policy.name) {
                Some((file, _)) if *file == index => {}
                Some((_, other)) => {
                    let message = format!("two policies are named `{}`", policy.name);
                    let other = other.clone();
                    problems.add(at, message).help("give each its own name").add_secondary(other);
                }
                None => {
                    let here = problems.diagnostic(at, format!("`{}` is first used here", policy.name));
                    first.insert(policy.name.clone(), (index, here));
                }
            }
        }
    }
}

/// Returns the policy files of a path, sorted.
fn find_policy_files(path: &Path, problems: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            collect(path, 0, is_policy_file, &mut found, problems);
            if found.is_empty() && problems.is_empty() {
                let mut problem = Diagnostic::new(path.display().to_string(), "no policies in this folder");
                problem.help("put `*.yaml` files there, or set `policies` to another file or folder");
                problems.push(problem);
            }
        }
        Ok(_) => found.push(path.to_owned()),
        Err(error) => {
            let near = beside(path).map(|near| format!("`{near}` is there; ")).unwrap_or_default();
            let file = path.display().to_string();
            let problem = if path.is_symlink() {
                Diagnostic::of_failure(file, unreadable_link())
            } else {
                let mut problem = Diagnostic::new(file, "policies cannot be read");
                let help =
                    format!("{near}name a file or a folder; `policies` in the settings is relative to the settings");
                problem.caused_by(error).help(help);
                problem
            };
            problems.push(problem);
        }
    }
    found.sort();
    found
}

/// Returns the name beside a missing path that is probably meant.
fn beside(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).filter(|entry| {
        let path = entry.path();
        path.is_dir() || is_policy_file(&file_name(&path))
    });
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    super::fields::nearest(&file_name(path), &known).map(str::to_owned)
}

/// Returns the fixtures of a path, sorted: the file itself, the one beside a policy file, or all of a folder.
pub(super) fn find_test_files(path: &Path, problems: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let name = file_name(path);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => collect(path, 0, is_test_file, &mut found, problems),
        Ok(_) if is_test_file(&name) => found.push(path.to_owned()),
        Ok(meta) if !meta.is_file() => {
            let mut problem = Diagnostic::new(path.display().to_string(), "is not a regular file");
            problem.help("write the tests into a file, such as `shop.test.yaml`: they name their policies by path");
            problems.push(problem);
        }
        Ok(_) => {
            let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
            let beside = ["yaml", "yml"].map(|ending| path.with_file_name(format!("{stem}.test.{ending}")));
            found.extend(beside.into_iter().filter(|path| path.exists()));
        }
        Err(error) => problems.push(Diagnostic::of_failure(path.display().to_string(), unreadable(error))),
    }
    if found.is_empty() && problems.is_empty() {
        let mut problem = Diagnostic::new(path.display().to_string(), "no tests of policies here");
        problem.help("put them beside the policies: those of `shop.yaml` into `shop.test.yaml`");
        problems.push(problem);
    }
    found.sort();
    found
}

/// Collects the files of a folder and its sub-folders with a wanted name. Hidden ones are left out.
pub(super) fn collect(
    folder: &Path,
    depth: usize,
    wanted: fn(&str) -> bool,
    found: &mut Vec<PathBuf>,
    problems: &mut Vec<Diagnostic>,
) {
    let mut fail = |failure| problems.push(Diagnostic::of_failure(folder.display().to_string(), failure));
    if depth > MAX_FOLDER_DEPTH {
        return fail(Failure::new((), format!("more than {MAX_FOLDER_DEPTH} folders deep, or a link to itself")));
    }
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => {
            let help = read_help(&error);
            return fail(Failure::new((), "this folder cannot be read").caused_by(error).with_help(help));
        }
    };
    for entry in entries {
        let path = entry.path();
        let name = file_name(&path);
        if name.starts_with('.') {
            continue;
        }
        // Follows links: a mounted ConfigMap consists of links.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => collect(&path, depth + 1, wanted, found, problems),
            Ok(_) | Err(_) if wanted(&name) => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
}

fn modified_at(file: &Path) -> Option<Timestamp> {
    fs::metadata(file).and_then(|data| data.modified()).ok()?.try_into().ok()
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

pub(super) fn is_policy_file(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().rsplit_once('.'), Some((_, "yaml" | "yml"))) && !is_test_file(name)
}

pub(super) fn is_test_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".test.yaml", ".test.yml"].iter().any(|ending| name.ends_with(ending))
}

fn unreadable(error: std::io::Error) -> Failure<()> {
    let help = read_help(&error);
    Failure::new((), "cannot be read").caused_by(error).with_help(help)
}

/// Returns the remedy for a file or folder that cannot be read; empty if it is not known.
pub(crate) fn read_help(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "let the user that runs Tagwarden read it, and enter its folder",
        std::io::ErrorKind::NotFound => "correct the path",
        _ => "",
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, Failure<()>> {
    read_file(path).and_then(decode)
}

fn unreadable_link() -> Failure<()> {
    Failure::new((), "is a link to a file that does not exist").with_help("correct the link, or remove it")
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure<()>> {
    let metadata = fs::metadata(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound && path.is_symlink() {
            return unreadable_link();
        }
        unreadable(error)
    })?;
    if !metadata.is_file() {
        let help = "write it into a file; `tagwarden check -` reads policies from standard input";
        return Err(Failure::new((), "is not a regular file").with_help(help));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        let message = format!("is larger than {} KiB, which no policy file is", MAX_FILE_SIZE / 1024);
        return Err(Failure::new((), message));
    }
    Ok(bytes)
}

fn decode(bytes: Vec<u8>) -> Result<String, Failure<()>> {
    decode_text(bytes).map_err(|invalid| Failure::new((), "is not readable text").caused_by(Cause::foreign(invalid)))
}
