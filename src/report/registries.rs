//! The registries of the settings, with their capabilities and rights, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::ability::{AbilityView, RegistryNoteView, describe_product};
use super::humanize::{format_count, sanitize};
use crate::registry::{Capabilities, Support};

/// The current state of one registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryStateView {
    /// Its name in the settings.
    pub name: String,
    /// Its kind in the settings.
    pub kind: String,
    /// Its address.
    pub endpoint: String,
    /// The identity that reads it.
    pub identity: String,
    /// The removal method: `untag` or `manifest`.
    pub removal: String,
    /// The setting `can_untag`: `yes`, `no` or `unknown`.
    pub can_untag: String,
    /// The ability to remove in that way, and the origin of that knowledge.
    pub ability: Option<AbilityView>,
    /// `true` if it reports push times; otherwise age depends on the image and on the first sight of a tag.
    pub push_times: bool,
    /// `true` if it lists manifests that have no tag.
    pub lists_untagged: bool,
    /// `true` if its locks are read.
    pub locks: bool,
    /// The capabilities of its API, as its connection reports them.
    pub capabilities: CapabilitiesView,
    /// The rights of the identity to remove.
    pub rights: RightsView,
    /// The number of repositories that it lists; `None` if it lists none or could not be read.
    pub repositories: Option<u64>,
    /// Why it could not be read.
    pub error: Option<String>,
}

/// The capabilities of a registry's API; each is `yes`, `no` or `not-known` unless documented otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapabilitiesView {
    /// The effect of the removal of a tag: `native`, `native-but-last`, `deletes-last`, `unsupported` or `not-known`.
    pub untag: String,
    /// The largest number of tags in one removal request.
    pub batch: u64,
    /// Removes a tag only if it still names a given digest.
    pub digest_in_removal: String,
    /// Lists manifests that have no tag.
    pub lists_untagged: String,
    /// Lists the tags that name a manifest.
    pub tags_of_manifest: String,
    /// Has the time at which a tag was pushed.
    pub push_times: String,
    /// Has the time at which an image was last pulled.
    pub pull_times: String,
    /// Has locks of tags and manifests.
    pub locks: String,
    /// The place of the list of a manifest's referrers: `api`, `fallback-tag`, `none` or `not-known`.
    pub referrers: String,
    /// Deletes the referrers of a manifest along with it.
    pub cascades_referrers: String,
    /// Answers from replicas, which may lag behind.
    pub replicas: String,
}

/// Returns the view of a registry's capabilities.
#[must_use]
pub fn capabilities(found: &Capabilities) -> CapabilitiesView {
    let label = |support: Support| support.label().to_owned();
    CapabilitiesView {
        untag: found.untag.label().to_owned(),
        batch: found.batch as u64,
        digest_in_removal: label(found.digest_in_removal),
        lists_untagged: label(found.lists_untagged),
        tags_of_manifest: label(found.tags_of_manifest),
        push_times: label(found.push_times),
        pull_times: label(found.pull_times),
        locks: label(found.locks),
        referrers: found.referrers.label().to_owned(),
        cascades_referrers: label(found.cascades_referrers),
        replicas: label(found.replicas),
    }
}

/// The rights of an identity in a registry, as far as the registry reports them without a removal request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RightsView {
    /// `allowed`, `missing` (in some repository) or `not-known`.
    pub state: String,
    /// The number of repositories that were checked.
    pub checked: u64,
    /// The missing rights, by repository.
    pub missing: Vec<RegistryNoteView>,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeView {
    /// The registry's name in the settings.
    pub registry: String,
    /// Its address, under which the answer is stored.
    pub endpoint: String,
    /// The repository that was probed; `None` if none could be found.
    pub repository: Option<String>,
    /// The removal method: `untag` or `manifest`.
    pub removal: String,
    /// `accepted`, `unsupported`, `denied` or `not-known`.
    pub result: String,
    /// The answer, if it was neither accepted nor unsupported.
    pub message: Option<String>,
    /// The removal support that is known now.
    pub ability: Option<AbilityView>,
}

/// Most rights that a text lists as missing.
const MAX_MISSING_RIGHTS: usize = 5;

/// Renders the registries, a few lines each.
#[must_use]
pub fn registries_text(registries: &[RegistryStateView]) -> String {
    let mut out = String::new();
    for registry in registries {
        let RegistryStateView { name, kind, endpoint, identity, .. } = registry;
        let held = match registry.repositories {
            Some(1) => ", 1 repository".to_owned(),
            Some(number) => format!(", {} repositories", format_count(number)),
            None => String::new(),
        };
        line(&mut out, 0, &format!("{name} ({kind}, {endpoint}), read as {identity}{held}"));
        if let Some(failure) = &registry.error {
            line(&mut out, 1, &format!("UNREAD: {failure}"));
        }
        if let Some(ability) = &registry.ability {
            if let Some(found) = &ability.product {
                line(&mut out, 1, &describe_product(found));
            }
            let verdict = if ability.state == "impossible" { "IMPOSSIBLE: " } else { "" };
            line(&mut out, 1, &format!("removal = \"{}\": {verdict}{}", registry.removal, ability.message));
        }
        let yes = |yes: bool, word: &'static str, no: &'static str| if yes { word } else { no };
        line(
            &mut out,
            1,
            &format!(
                "push times: {}; manifests without a tag: {}; locks: {}",
                yes(registry.push_times, "given", "not given"),
                yes(registry.lists_untagged, "listed", "not listed"),
                yes(registry.locks, "read", "not read")
            ),
        );
        line(&mut out, 1, &describe_capabilities(&registry.capabilities));
        line(&mut out, 1, &describe_rights(&registry.rights));
        for note in registry.rights.missing.iter().take(MAX_MISSING_RIGHTS) {
            line(&mut out, 2, &note.message);
        }
    }
    out
}

fn describe_capabilities(found: &CapabilitiesView) -> String {
    let untag = match found.untag.as_str() {
        "native" => "leaves its manifest",
        "native-but-last" => "removes it alone, except the last tag of a manifest",
        "deletes-last" => "deletes a manifest with its last tag",
        "unsupported" => "not possible alone",
        _ => "not known",
    };
    let referrers = match found.referrers.as_str() {
        "api" => "by its API",
        "fallback-tag" => "by fallback tags",
        "none" => "none",
        _ => "not known",
    };
    let words = |label: &str| label.replace('-', " ");
    format!(
        "known of this kind: removal of a tag: {untag}; tags in one removal: {}; digest in a removal: {}; tags of a manifest: {}; pull \
         times: {}; referrers: {referrers}, deleted with their subject: {}; replicas: {}",
        format_count(found.batch),
        words(&found.digest_in_removal),
        words(&found.tags_of_manifest),
        words(&found.pull_times),
        words(&found.cascades_referrers),
        words(&found.replicas),
    )
}

fn describe_rights(rights: &RightsView) -> String {
    let (checked, missing) = (format_count(rights.checked), format_count(rights.missing.len() as u64));
    match rights.state.as_str() {
        "allowed" => format!("rights: may remove in all of {checked} repositories that were checked"),
        "missing" => format!("rights: MISSING in {missing} of {checked} repositories that were checked"),
        _ => "rights: the registry does not say whether this identity may remove".to_owned(),
    }
}

/// Renders a probe.
#[must_use]
pub fn probe_text(probe: &ProbeView) -> String {
    let what = if probe.removal == "untag" { "a tag" } else { "a manifest" };
    let answered = match (probe.result.as_str(), &probe.message) {
        ("accepted", _) => format!("it would delete {what}"),
        ("unsupported", _) => format!("it refuses to delete {what}"),
        ("denied", Some(message)) => format!("this identity may not delete there: {message}"),
        (_, message) => format!("not known: {}", message.as_deref().unwrap_or("its answer proves nothing")),
    };
    let mut out = String::new();
    let ProbeView { registry, endpoint, repository, .. } = probe;
    let place = repository.as_ref().map(|repository| format!(", asked in {repository}")).unwrap_or_default();
    line(&mut out, 0, &format!("{registry} ({endpoint}){place}: {answered}"));
    if let Some(ability) = &probe.ability {
        line(&mut out, 1, &ability.message);
    }
    out
}

fn line(out: &mut String, indent: usize, words: &str) {
    let _ = writeln!(out, "{:width$}{}", "", sanitize(words), width = indent * 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ability(state: &str) -> AbilityView {
        AbilityView {
            state: state.into(),
            ability_origin: "unknown".into(),
            known_since: None,
            product: None,
            message: "as it is".into(),
        }
    }

    #[test]
    fn a_registry_says_what_it_is_can_do_and_allows() {
        let mut registry = RegistryStateView {
            name: "contoso".into(),
            kind: "distribution".into(),
            endpoint: "https://r.example".into(),
            identity: "anonymous".into(),
            removal: "untag".into(),
            can_untag: "unknown".into(),
            ability: Some(ability("not-known")),
            push_times: false,
            lists_untagged: false,
            locks: false,
            capabilities: capabilities(&Capabilities::UNKNOWN),
            rights: RightsView { state: "not-known".into(), checked: 0, missing: Vec::new() },
            repositories: Some(1),
            error: None,
        };
        let text = registries_text(std::slice::from_ref(&registry));
        assert_eq!(
            text,
            "contoso (distribution, https://r.example), read as anonymous, 1 repository\n  removal = \"untag\": as it is\n  \
             push times: not given; manifests without a tag: not listed; locks: not read\n  \
             known of this kind: removal of a tag: not known; tags in one removal: 1; digest in a removal: not known; \
             tags of a manifest: not known; pull times: not known; referrers: not known, deleted with their subject: \
             not known; replicas: not known\n  \
             rights: the registry does not say whether this identity may remove\n"
        );
        registry.ability = Some(ability("impossible"));
        registry.error = Some("GET https://r.example/v2/_catalog answered 503".into());
        registry.repositories = None;
        let note = RegistryNoteView { kind: "missing-rights".into(), repository: None, message: "grant it".into() };
        registry.rights = RightsView { state: "missing".into(), checked: 12, missing: vec![note] };
        let text = registries_text(&[registry]);
        for words in ["UNREAD: GET", "IMPOSSIBLE: as it is", "MISSING in 1 of 12", "\n    grant it"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn a_probe_says_what_was_answered_and_what_is_known_now() {
        for (answer, message, words) in [
            ("accepted", None, "it would delete a tag"),
            ("unsupported", None, "it refuses to delete a tag"),
            ("denied", Some("DELETE … answered 403"), "may not delete there: DELETE … answered 403"),
            ("not-known", Some("DELETE … answered 404"), "not known: DELETE … answered 404"),
        ] {
            let text = probe_text(&ProbeView {
                registry: "contoso".into(),
                endpoint: "https://r.example".into(),
                repository: Some("app".into()),
                removal: "untag".into(),
                result: answer.into(),
                message: message.map(str::to_owned),
                ability: Some(ability("not-known")),
            });
            assert!(text.contains(words) && text.ends_with("\n  as it is\n"), "{text}");
        }
    }
}
