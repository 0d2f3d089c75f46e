//! Release evidence from files, and what becomes of sources that fail.

pub(crate) mod acr_pulls;
pub(crate) mod azure;
pub(crate) mod docker;
mod evidence_forms;
mod file_changes;
mod fuzz_seeds;
mod gather;
mod git_history;
mod glob_files;
mod image_references;
mod kubernetes;
mod references_http;
mod release_forms;
mod release_records;
mod settings;
mod slips;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tagwarden::domain::{Claim, Holder, RegistryName, SourceState, Verdict};
use tagwarden::engine::evaluate;
use tagwarden::sources::{
    self, FileSet, GatherContext, ImageReferences, ReleaseRecords, Source, SourceError, SourceEvidence, SourceKind,
    SourceSettings, TextSettings, source,
};

use crate::scenarios::shape::Scenario;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const E: &str = "sha256:aaaac44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn set(base: &Path, globs: &[&str]) -> FileSet {
    FileSet { base: base.into(), globs: globs.iter().map(|&glob| glob.into()).collect() }
}

fn query(source: &dyn Source) -> Result<SourceEvidence, SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(source.query(now()))
}

/// The tags of a scenario's registry that stay by the evidence in files, as repository, tag and verdict.
///
/// # Errors
/// With its message, where the source fails.
fn retained_tags(
    files: FileSet,
    allow_empty: bool,
    texts: TextSettings,
    registry: &str,
) -> Result<Vec<(String, String, Verdict)>, String> {
    let settings = SourceSettings {
        name: "evidence".parse().unwrap(),
        kind: SourceKind::ImageReferences(files),
        registries: None,
        max_age: None,
        allow_empty,
        min_claims: None,
        deadline: Duration::from_mins(1),
        texts,
    };
    let scenario: Scenario = serde_saphyr::from_str(registry).unwrap();
    let stage = scenario.stage("evidence");
    let hosts: Vec<(RegistryName, Vec<String>)> =
        vec![("contoso".parse().unwrap(), vec!["contoso.azurecr.io".to_owned()])];
    let asked = source(&settings, &hosts[0].1);
    let known = GatherContext { hosts: &hosts, inventory: &stage.inventory, untagged: &[] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let claims = runtime.block_on(sources::gather_about(vec![(settings, asked)], known, now(), now()));
    if let SourceState::Failed { message, .. } = &claims.sources[0].state {
        return Err(message.to_string());
    }
    let verdicts = evaluate(&stage.rules, &stage.inventory, &claims, stage.now);
    let stays = verdicts.tags.iter().filter(|found| found.verdict != Verdict::Expired).map(|found| {
        let registry = &stage.inventory.registries[found.position.registry as usize];
        let repository = &registry.repositories[found.position.repository as usize];
        let tag = &repository.tags[found.position.tag as usize].name;
        (repository.name.to_string(), tag.to_string(), found.verdict)
    });
    Ok(stays.collect())
}

/// What the records of one file claim.
fn records(name: &str, text: &str) -> Result<SourceEvidence, SourceError> {
    let folder = folder(&[(name, text)]);
    query(&ReleaseRecords::new(set(folder.path(), &[name])))
}

/// What one file says of images of `contoso.azurecr.io` and its alias `images.contoso.example`.
fn references(name: &str, text: &str) -> Result<SourceEvidence, SourceError> {
    let folder = folder(&[(name, text)]);
    let hosts = ["contoso.azurecr.io", "images.contoso.example", "localhost:5000"].map(String::from).to_vec();
    query(&ImageReferences::new(set(folder.path(), &[name]), hosts, TextSettings::default()))
}

/// Line and image of each claim.
fn describe_claims(claims: &[Claim]) -> Vec<String> {
    let mut shown: Vec<String> = claims
        .iter()
        .map(|claim| match &*claim.holder {
            Holder::Release(release) => format!("{} {}", release.line, claim.image),
            Holder::File { line, .. } => format!("{line} {}", claim.image),
            Holder::Workload { .. } | Holder::Pull { .. } | Holder::Hold { .. } => {
                panic!("only records and files here")
            }
        })
        .map(|text| text.replace(D, "D").replace(E, "E").replace("contoso.azurecr.io/", "~/"))
        .collect();
    shown.sort();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|\n|[-{}\\[\\]:,\"'&*#| ]|image|status: |releases|contoso\\.azurecr\\.io/){0,60}") {
        for name in ["r.json", "r.yaml", "r.jsonl", "r.txt"] {
            let _ = records(name, &text);
            let _ = references(name, &text);
        }
    }
}
