//! Removal support of a registry in words: its state, the origin of that knowledge, and missing rights.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RegistryView;
use super::humanize::{describe_obstacle, format_count};
use crate::domain::{AbilityOrigin, Product, Registry, RemovalAbility, RemovalMethod, RemovalObstacle};
use crate::registry::{Support, provider};

/// Removal support of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbilityView {
    /// `able`, `not-known` or `impossible`.
    pub state: String,
    /// The origin of that knowledge: `settings`, `removals`, `response`, `product`, `kind` or `unknown`.
    #[serde(alias = "known_from")]
    pub ability_origin: String,
    /// The time of that removal or answer; `None` for other origins.
    pub known_since: Option<Timestamp>,
    /// The recognized product.
    pub product: Option<ProductView>,
    /// The same in words, with what can be done.
    pub message: String,
}

/// A recognized registry product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its name, such as `Harbor`.
    pub name: String,
    /// Its version, if reported.
    pub version: Option<String>,
    /// The sign that it was recognised by.
    pub recognised_by: String,
    /// The consequence for removals.
    pub consequence: String,
}

/// A note that blocks no plan, and that a person should read before a run enforces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryNoteView {
    /// `missing-rights`.
    pub kind: String,
    /// The repository concerned; `None` for the registry as a whole.
    pub repository: Option<String>,
    /// The missing right, and the remedy.
    pub message: String,
}

impl From<&Product> for ProductView {
    fn from(product: &Product) -> Self {
        Self {
            name: product.name.to_owned(),
            version: product.version.as_deref().map(str::to_owned),
            recognised_by: product.recognized_by.to_owned(),
            consequence: product.consequence.to_owned(),
        }
    }
}

/// Returns the view of a registry's ability; `None` if it was not checked.
#[must_use]
pub fn ability(registry: &Registry) -> Option<AbilityView> {
    let state = match registry.ability {
        RemovalAbility::NotChecked => return None,
        RemovalAbility::Able => "able",
        RemovalAbility::Unknown => "not-known",
        RemovalAbility::Impossible(_) => "impossible",
    };
    Some(AbilityView {
        state: state.to_owned(),
        ability_origin: registry.ability_origin.label().to_owned(),
        known_since: registry.ability_origin.at(),
        product: registry.product.as_ref().map(ProductView::from),
        message: message(registry),
    })
}

/// Returns the notes to read before a run enforces.
#[must_use]
pub fn missing_rights(registry: &Registry) -> Vec<RegistryNoteView> {
    let missing = registry.missing_rights.iter().map(|(repository, why)| RegistryNoteView {
        kind: "missing-rights".to_owned(),
        repository: Some(repository.to_string()),
        message: describe_obstacle(why),
    });
    missing.collect()
}

fn message(registry: &Registry) -> String {
    let by_manifest = registry.removal == RemovalMethod::DeleteManifest;
    // Where rights are shown, a probe only looks at these.
    let shows_rights = provider(registry.kind).is_some_and(|kind| kind.capabilities().rights == Support::Yes);
    let ask = if shows_rights {
        String::new()
    } else {
        format!(", or ask now with `tagwarden registries probe {}`", registry.name)
    };
    match (&registry.ability, registry.ability_origin) {
        (RemovalAbility::Impossible(why), from) => cannot(why, from),
        (RemovalAbility::Unknown | RemovalAbility::NotChecked, _) if by_manifest => format!(
            "not known whether this registry deletes manifests: that will be known at the first enforcing run{ask}"
        ),
        (RemovalAbility::Unknown | RemovalAbility::NotChecked, _) => format!(
            "not known whether this registry can delete a tag and leave its manifest: that will be known at the first \
             enforcing run, which begins with a single tag{ask}"
        ),
        (RemovalAbility::Able, AbilityOrigin::Response(at)) if by_manifest => {
            format!("this registry deletes manifests, by its answer of {}", format_day(at))
        }
        (RemovalAbility::Able, AbilityOrigin::Response(at)) => format!(
            "this registry deletes by tag, by its answer of {}; whether the manifest stays will be known at the first \
             enforcing run, which begins with a single tag",
            format_day(at)
        ),
        (RemovalAbility::Able, AbilityOrigin::Removals(at)) => {
            format!(
                "this registry deletes a tag and leaves its manifest, as the removals until {} showed",
                format_day(at)
            )
        }
        (RemovalAbility::Able, AbilityOrigin::Settings) => {
            "this registry deletes a tag and leaves its manifest, by the word of the settings (`can_untag`)".to_owned()
        }
        (RemovalAbility::Able, AbilityOrigin::Product | AbilityOrigin::Kind | AbilityOrigin::Unknown) => {
            "this registry deletes a tag and leaves its manifest".to_owned()
        }
    }
}

fn cannot(why: &RemovalObstacle, from: AbilityOrigin) -> String {
    match (why, from) {
        (RemovalObstacle::NoUntag | RemovalObstacle::DeletesDisabled, AbilityOrigin::Response(at)) => {
            format!("{} (its answer of {}, believed for a week)", describe_obstacle(why), format_day(at))
        }
        _ => describe_obstacle(why),
    }
}

fn format_day(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d %H:%M UTC")
}

/// Most missing rights in a text; the JSON has all of them.
const MOST_NOTES: usize = 5;

/// Describes the removal support that a plan's reader needs, one sentence each. The expected case is left out, and so
/// are obstacles, which are shown elsewhere.
pub(super) fn describe_ability(registry: &RegistryView) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(ability) = registry.ability.as_ref().filter(|ability| ability.state != "impossible") {
        facts.extend(ability.product.as_ref().map(describe_product));
        if ability.ability_origin != AbilityOrigin::Kind.label()
            && ability.ability_origin != AbilityOrigin::Product.label()
        {
            facts.push(ability.message.clone());
        }
    }
    let missing = registry.notes.iter().map(|note| {
        format!(
            "missing rights: {}; this identity can plan, and a run of it that enforces would be refused",
            note.message
        )
    });
    facts.extend(missing.take(MOST_NOTES));
    if let Some(more) = registry.notes.len().checked_sub(MOST_NOTES).filter(|more| *more > 0) {
        facts.push(format!("missing rights in {} more", format_count(more as u64)));
    }
    facts
}

/// Describes a product.
pub(super) fn describe_product(found: &ProductView) -> String {
    let version = found.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("recognised as {}{version} by {}: {}", found.name, found.recognised_by, found.consequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UntagEffect;

    fn at() -> Timestamp {
        "2026-11-23T03:00:00Z".parse().unwrap()
    }

    fn registry(ability: RemovalAbility, ability_origin: AbilityOrigin, removal: RemovalMethod) -> Registry {
        Registry { removal, ability, ability_origin, ..Registry::empty("contoso".parse().unwrap(), "distribution") }
    }

    #[test]
    fn a_probe_is_not_advised_where_it_only_looks_at_rights() {
        for (kind, advised) in [("distribution", true), ("docker-hub", false)] {
            let unknown = registry(RemovalAbility::Unknown, AbilityOrigin::Unknown, RemovalMethod::Untag);
            let told = ability(&Registry { kind, ..unknown }).unwrap().message;
            assert_eq!(told.contains("`tagwarden registries probe contoso`"), advised, "{told}");
        }
    }

    #[test]
    fn what_is_known_says_where_from_and_what_to_do() {
        use RemovalMethod::{DeleteManifest, Untag};
        for (known, state, words) in [
            (
                registry(RemovalAbility::Unknown, AbilityOrigin::Unknown, Untag),
                "not-known",
                &["will be known at the first enforcing run", "a single tag", "`tagwarden registries probe contoso`"][..],
            ),
            (
                registry(RemovalAbility::Unknown, AbilityOrigin::Unknown, DeleteManifest),
                "not-known",
                &["deletes manifests", "will be known at the first enforcing run"][..],
            ),
            (registry(RemovalAbility::Able, AbilityOrigin::Settings, Untag), "able", &["`can_untag`"][..]),
            (
                registry(RemovalAbility::Able, AbilityOrigin::Removals(at()), Untag),
                "able",
                &["2026-11-23 03:00 UTC"][..],
            ),
            (
                registry(RemovalAbility::Able, AbilityOrigin::Response(at()), Untag),
                "able",
                &["2026-11-23 03:00 UTC", "whether the manifest stays will be known at the first enforcing run"][..],
            ),
            (
                registry(RemovalAbility::Impossible(RemovalObstacle::NoUntag), AbilityOrigin::Response(at()), Untag),
                "impossible",
                &["upgrade it", "removal = \"manifest\"", "2026-11-23 03:00 UTC, believed for a week"][..],
            ),
            (
                registry(RemovalAbility::Impossible(RemovalObstacle::Setting), AbilityOrigin::Settings, Untag),
                "impossible",
                &["can_untag = \"no\"", "removal = \"manifest\""][..],
            ),
        ] {
            let view = ability(&known).unwrap();
            assert_eq!((view.state.as_str(), view.ability_origin.as_str()), (state, known.ability_origin.label()));
            assert_eq!(view.known_since, known.ability_origin.at());
            for word in words {
                assert!(view.message.contains(word), "{word} in {}", view.message);
            }
        }
        assert_eq!(ability(&registry(RemovalAbility::NotChecked, AbilityOrigin::Unknown, Untag)), None);
    }

    #[test]
    fn the_key_of_the_version_before_is_read() {
        let old = r#"{"state":"able","known_from":"kind","known_since":null,"product":null,"message":"m"}"#;
        assert_eq!(serde_json::from_str::<AbilityView>(old).unwrap().ability_origin, "kind");
    }

    #[test]
    fn a_product_that_cannot_untag_is_named_with_its_remedy() {
        let harbor = Product {
            name: "Harbor",
            version: Some("2.12".into()),
            recognized_by: "its challenge",
            untag: UntagEffect::Unsupported,
            consequence: "it refuses a deletion by tag",
        };
        let impossible = RemovalAbility::Impossible(RemovalObstacle::Product(harbor.clone()));
        let found =
            Registry { product: Some(harbor), ..registry(impossible, AbilityOrigin::Product, RemovalMethod::Untag) };
        let view = ability(&found).unwrap();
        for word in
            ["Harbor 2.12", "its challenge", "it refuses a deletion by tag", "removal = \"manifest\"", "can_untag"]
        {
            assert!(view.message.contains(word), "{word} in {}", view.message);
        }
    }
}
