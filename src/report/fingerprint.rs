//! The effects of a plan as one hash: two plans with the same fingerprint have the same effects.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use super::plan_id::{HashWriter, hex};
use super::{PlanDocument, RemovalView};
use crate::domain::Digest;
use crate::state::MAX_CHUNK_TAGS;

/// Returns the hash over the sorted removals and deletions (endpoint, repository, tag, digest, method, enforced or not,
/// policies), the kinds and scopes of refusals, and the revisions of settings and policies: `sha256:…`.
///
/// Reasons, holders, times and retained tags are not in it, so a plan made an hour later with the same effects has the
/// same fingerprint.
#[must_use]
pub fn fingerprint(document: &PlanDocument) -> String {
    let mut parts = Vec::new();
    let mut here: Vec<RemovalView> = Vec::new();
    let mut end = |here: &mut Vec<RemovalView>| {
        if let Some(first) = here.first() {
            parts.push((first.registry.clone(), first.repository.clone(), hash_removals(here)));
            here.clear();
        }
    };
    for removal in document.removals.iter() {
        let begins =
            |first: &RemovalView| (&first.registry, &first.repository) != (&removal.registry, &removal.repository);
        if here.len() == MAX_CHUNK_TAGS || here.first().is_some_and(begins) {
            end(&mut here);
        }
        here.push(removal.into_owned());
    }
    end(&mut here);
    fingerprint_of(document, parts)
}

/// Returns the hash over the removals of one repository, or of a part of it as large as a chunk of the plan.
pub(super) fn hash_removals(removals: &[RemovalView]) -> Digest {
    let mut lines = Vec::new();
    for removal in removals {
        let mut policies: Vec<&str> = removal.policies().collect();
        policies.sort_unstable();
        policies.dedup();
        let enforce = if removal.enforce { "true" } else { "false" };
        let line = [&*removal.tag, &*removal.digest, &*removal.method, enforce, &*policies.join(" ")];
        // JSON keeps the boundaries between the texts of a list.
        let written = serde_json::to_writer(&mut lines, &line).is_ok();
        debug_assert!(written, "memory takes everything");
        lines.push(b'\n');
    }
    Digest::of(&lines)
}

/// Returns the fingerprint of a plan from the hashes of its removals: registry, repository and hash of each part, in
/// order.
pub(super) fn fingerprint_of(document: &PlanDocument, parts: Vec<(String, String, Digest)>) -> String {
    let endpoint = |name: &str| {
        let found = document.registries.iter().find(|registry| registry.name == name);
        found.map_or_else(|| name.to_owned(), |registry| registry.endpoint.clone())
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    for (registry, repository, hash) in parts {
        lines.push(vec!["remove".to_owned(), endpoint(&registry), repository, hash.to_string()]);
    }
    for deletion in document.deletions.deletable() {
        let mut policies = deletion.policies.clone();
        policies.sort_unstable();
        let dependents: Vec<&str> = deletion.dependents.iter().map(|one| one.digest.as_str()).collect();
        lines.push(vec![
            "delete".to_owned(),
            endpoint(&deletion.registry),
            deletion.repository.clone(),
            deletion.tag.clone(),
            deletion.digest.clone(),
            dependents.join(" "),
            deletion.enforce.to_string(),
            policies.join(" "),
        ]);
    }
    for refusal in document.refusals.iter().chain(&document.deletions.refusals) {
        let scope = [&refusal.policy, &refusal.registry, &refusal.repository];
        let scope = scope.map(|part| part.clone().unwrap_or_default());
        lines.push(
            [vec!["refuse".to_owned(), refusal.kind.clone(), refusal.binding.to_string()], scope.into()].concat(),
        );
    }
    for accepted in &document.accepted {
        let scope = [&accepted.policy, &accepted.registry, &accepted.repository];
        let scope = scope.map(|part| part.clone().unwrap_or_default());
        lines.push([vec!["accept".to_owned(), accepted.kind.clone()], scope.into()].concat());
    }
    let revisions =
        document.policies.iter().map(|policy| vec!["policy".to_owned(), policy.name.clone(), policy.revision.clone()]);
    lines.extend(revisions);
    lines.push(vec!["settings".to_owned(), document.settings.clone()]);
    lines.sort_unstable();
    let mut hash = HashWriter(Sha256::new());
    for line in lines {
        // JSON keeps the boundaries between the texts of a list.
        let written = serde_json::to_writer(&mut hash, &line).is_ok() && hash.write_all(b"\n").is_ok();
        debug_assert!(written, "a hash takes everything");
    }
    format!("sha256:{}", hex(&hash.0.finalize()))
}
