//! Evidence in local files, read offline: release records and texts with image references.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Settings;
use crate::domain::{Claim, Holder, RegistryName, SourceOutcome, SourceState, UnresolvedReference};
use crate::registry;
use crate::sources::{self, SourceKind, SourceSettings};

/// The finding about one source that reads local files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceCheck {
    /// The source's name in the settings.
    pub source: String,
    /// Its kind.
    pub kind: &'static str,
    /// The number of its claims, or `None` if it failed.
    pub claims: Option<u64>,
    /// Why it failed, or what its records leave open: one problem for each place.
    pub problems: Vec<EvidenceProblem>,
}

/// A problem of evidence in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceProblem {
    /// How much it matters for files that may be written elsewhere later.
    pub state: EvidenceState,
    /// The file with its line, 0 for the whole file; `None` if it concerns the source.
    pub place: Option<(PathBuf, usize)>,
    /// The problem.
    pub message: String,
}

/// The kinds of problems of evidence in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceState {
    /// A file cannot be read or understood.
    Invalid,
    /// The files are valid, and as they are the source would fail.
    Insufficient,
    /// A record is valid and leaves open which image it means, so that a repository stays undecided.
    Uncertain,
    /// A record is understood, and probably not written as it was meant.
    Remark,
    /// No file has such a name here: it may be written only where the daemon runs. Where a folder with nearly that name is
    /// there, the evidence counts as insufficient instead.
    Absent,
}

/// The label of sources of release records.
const RELEASE_RECORDS: &str = "release-records";

/// Reads the evidence of all sources with local files, without registries and without the state.
pub async fn check_evidence_files(settings: &Settings, now: Timestamp) -> Vec<EvidenceCheck> {
    let hosts: Vec<(RegistryName, Vec<String>)> =
        settings.registries.iter().map(|settings| (settings.name.clone(), registry::hosts(settings))).collect();
    let local = settings.sources.iter().filter(|source| files_of(source).is_some());
    let sources = local.map(|source| {
        let covered = |name: &RegistryName| source.registries.as_ref().is_none_or(|names| names.contains(name));
        let own: Vec<String> =
            hosts.iter().filter(|(name, _)| covered(name)).flat_map(|(_, hosts)| hosts.clone()).collect();
        (source.clone(), sources::source(source, &own))
    });
    let claims = sources::gather(sources.collect(), &hosts, now, now).await;
    let base = |outcome: &SourceOutcome| {
        let source = settings.sources.iter().find(|source| source.name == outcome.name);
        source.and_then(files_of).unwrap_or(Path::new(""))
    };
    let check = |outcome: &SourceOutcome| {
        let (claims, problems) = match &outcome.state {
            SourceState::Complete { claims, unresolved, notes, .. } => {
                let open = open_records(base(outcome), claims, unresolved, notes);
                (Some(claims.len() as u64), if outcome.kind == RELEASE_RECORDS { open } else { Vec::new() })
            }
            SourceState::Failed { kind, message } => (None, problems(base(outcome), kind, message)),
        };
        let problems = problems.into_iter().map(|problem| {
            let place = problem.place.or_else(|| glob_place(settings, outcome, &problem.message));
            EvidenceProblem { place, ..problem }
        });
        let problems = problems.collect();
        EvidenceCheck { source: outcome.name.to_string(), kind: outcome.kind, claims, problems }
    };
    claims.sources.iter().map(check).collect()
}

/// Returns the folder of a source's files, or `None` if it reads something else.
fn files_of(source: &SourceSettings) -> Option<&Path> {
    match &source.kind {
        SourceKind::ReleaseRecords(files) | SourceKind::ImageReferences(files) => Some(&files.base),
        _ => None,
    }
}

/// Returns the line of the settings file that has the glob without a file; `None` if it is not written there as it is, or the
/// message is about something else.
fn glob_place(settings: &Settings, outcome: &SourceOutcome, message: &str) -> Option<(PathBuf, usize)> {
    let glob = message.strip_prefix("no file matches `")?.split('`').next()?;
    let text = std::fs::read_to_string(&settings.file).ok()?;
    let lines = || text.lines().enumerate();
    let heading = format!("[sources.{}]", outcome.name);
    let (start, _) = lines().find(|(_, line)| line.trim_start().starts_with(&heading))?;
    let written = [format!("\"{glob}\""), format!("'{glob}'")];
    let mut below = lines().skip(start + 1).take_while(|(_, line)| !line.starts_with('['));
    let (at, _) = below.find(|(_, line)| written.iter().any(|written| line.contains(written)))?;
    Some((settings.file.clone(), at + 1))
}

/// Returns a problem for each record that names no tag or no host, and for each remark of the source.
fn open_records(
    base: &Path,
    claims: &[Claim],
    unresolved: &[UnresolvedReference],
    notes: &[String],
) -> Vec<EvidenceProblem> {
    let place = |holder: &Holder| match holder {
        Holder::Release(release) => Some((base.join(&release.path), usize::try_from(release.line).unwrap_or_default())),
        _ => None,
    };
    let tagless = unresolved.iter().map(|reference| {
        let message = format!(
            "`{}` names neither a tag nor a digest, so that every tag of the repository is kept as undecided; add one",
            reference.text
        );
        EvidenceProblem { state: EvidenceState::Uncertain, place: place(&reference.holder), message }
    });
    let hostless = claims.iter().filter(|claim| claim.image.host.is_none() && claim.image.repository.is_some());
    let hostless = hostless.map(|claim| {
        let message = format!("`{}` names no registry, and counts in each of them; write its host", claim.image);
        EvidenceProblem { state: EvidenceState::Remark, place: place(&claim.holder), message }
    });
    let remarks = notes.iter().map(|note| {
        let (place, message) = split_place(base, note);
        EvidenceProblem { state: EvidenceState::Remark, place, message: message.to_owned() }
    });
    let mut found: Vec<EvidenceProblem> = tagless.chain(hostless).chain(remarks).collect();
    found.sort_by(|a, b| a.place.cmp(&b.place));
    found
}

/// Divides a failure into its problems: a line for each, most of them with a place.
fn problems(base: &Path, kind: &str, message: &str) -> Vec<EvidenceProblem> {
    let state = match kind {
        // With a folder of nearly that name, a typing error is likely.
        "missing" if !message.contains("` is there") => EvidenceState::Absent,
        "missing" | "empty" | "too-few" | "too-old" | "in-the-future" => EvidenceState::Insufficient,
        _ => EvidenceState::Invalid,
    };
    let problem = |line: &str| {
        let (place, message) = split_place(base, line);
        EvidenceProblem { state, place, message: message.to_owned() }
    };
    message.lines().map(problem).collect()
}

/// Divides `file:line: message`, if there is such a file.
fn split_place<'l>(base: &Path, line: &'l str) -> (Option<(PathBuf, usize)>, &'l str) {
    for (at, _) in line.match_indices(':') {
        let file = base.join(&line[..at]);
        if !file.is_file() {
            continue;
        }
        let rest = &line[at + 1..];
        let numbered = rest.split_once(':').and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        let (number, rest) = numbered.unwrap_or((0, rest));
        return (Some((file, number)), rest.trim_start());
    }
    (None, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_divided_by_their_places() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", "b:1.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        for (line, place, message) in [
            ("a.json:7: unknown status `x`; expected: y", Some(("a.json", 7)), "unknown status `x`; expected: y"),
            ("a.json: is empty", Some(("a.json", 0)), "is empty"),
            ("b:1.json:2: is not UTF-8 text", Some(("b:1.json", 2)), "is not UTF-8 text"),
            ("and 3 more", None, "and 3 more"),
            ("c.json:1: gone", None, "c.json:1: gone"),
        ] {
            let expected = place.map(|(file, line)| (folder.path().join(file), line));
            assert_eq!(split_place(folder.path(), line), (expected, message));
        }
    }
}
