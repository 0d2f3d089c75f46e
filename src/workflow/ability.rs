//! Removal support of registries, determined without sending anything that could remove.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{App, RunError};
use crate::apply::{DeletionTask, RemovalTask};
use crate::domain::{
    AbilityOrigin, GapTarget, Inventory, Product, Registry, RegistryName, RemovalAbility, RemovalMethod,
    RemovalObstacle, RepositoryName, SkipReason, UntagEffect,
};
use crate::registry::providers::Distribution;
use crate::registry::{CanUntag, Capabilities, Provider, RegistryHead, RegistryReader, RegistrySettings, UntagSupport};
use crate::state::{DeletionResponse, Experience, StateError, UntagExperience};

/// The purpose of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    #[default]
    /// A report: missing rights are noted, because the reading identity may differ from the removing one.
    Report,
    /// Removals by this identity: missing rights refuse what needs them.
    Enforce,
}

/// Knowledge of removals in one registry, from the state and from the registry itself.
#[derive(Debug)]
struct AbilityEvidence {
    /// The experience with untags, as far as it still applies.
    untag_experience: Option<Experience>,
    /// The first destruction by a mark of an earlier version, which has only the registry's name.
    legacy_destruction: Option<Timestamp>,
    by_tag: Option<(DeletionResponse, Timestamp)>,
    by_digest: Option<(DeletionResponse, Timestamp)>,
    /// The capabilities reported by the registry's connection, including the product's.
    capabilities: Capabilities,
}

impl App {
    /// Determines whether removals are possible, only in these repositories, which have something to remove.
    pub(super) async fn determine_abilities(
        &self,
        heads: &mut [RegistryHead],
        touched: &BTreeMap<RegistryName, BTreeSet<RepositoryName>>,
        purpose: Purpose,
    ) -> Result<(), RunError> {
        for RegistryHead { registry, .. } in heads {
            let (Some(names), Some(reader)) = (touched.get(&registry.name), self.readers.get(&registry.name)) else {
                continue;
            };
            let repositories: Vec<RepositoryName> = names.iter().cloned().collect();
            self.determine_ability(registry, &**reader, &repositories).await?;
            if purpose == Purpose::Enforce {
                enforce_rights(registry, repositories.len());
            }
        }
        Ok(())
    }

    /// Fills in the ability, the product and the missing rights of one registry, and returns its capabilities.
    pub(super) async fn determine_ability(
        &self,
        found: &mut Registry,
        reader: &dyn RegistryReader,
        repositories: &[RepositoryName],
    ) -> Result<Capabilities, RunError> {
        let settings = reader.settings();
        let capabilities = reader.capabilities().await;
        let mut known = AbilityEvidence {
            untag_experience: None,
            legacy_destruction: None,
            by_tag: None,
            by_digest: None,
            capabilities,
        };
        if self.unless_lost(self.add_recorded_ability(&mut known, found)).await?.is_none() {
            found.gaps.push(self.lost_state_gap(GapTarget::Records));
        }
        (found.ability, found.ability_origin) = ability(settings, &known);
        found.product.clone_from(&known.capabilities.product);
        found.missing_rights = reader.missing_rights(repositories).await;
        Ok(known.capabilities)
    }

    /// Adds what the state knows of removals in a registry.
    async fn add_recorded_ability(&self, known: &mut AbilityEvidence, found: &Registry) -> Result<(), StateError> {
        let (store, endpoint, now) = (&self.store, &found.endpoint, self.now());
        known.untag_experience = store.untag_experience(endpoint).await?.filter(|known| known.is_valid_at(now));
        known.legacy_destruction = store.untag_destructive_since(&found.name).await?;
        known.by_tag = store.deletion_response(endpoint, RemovalMethod::Untag, now).await?;
        known.by_digest = store.deletion_response(endpoint, RemovalMethod::DeleteManifest, now).await?;
        Ok(())
    }
}

/// Turns missing rights into obstacles. If they are missing everywhere, the registry as a whole has the obstacle.
fn enforce_rights(found: &mut Registry, asked: usize) {
    let missing = std::mem::take(&mut found.missing_rights);
    let everywhere = missing.len() >= asked && !matches!(found.ability, RemovalAbility::Impossible(_));
    match missing.values().next().filter(|_| everywhere).cloned() {
        Some(first) => found.ability = RemovalAbility::Impossible(first),
        None => found.obstacles = missing,
    }
}

/// Returns true if something approved was skipped because the identity may not do it.
pub(super) fn any_skipped_for_rights(
    inventory: &Inventory,
    skipped: &[(RemovalTask, SkipReason)],
    not_deleted: &[(DeletionTask, SkipReason)],
) -> bool {
    let lacks = |registry: &RegistryName, repository: &RepositoryName| {
        let found = inventory.registry(registry.as_str());
        found.is_some_and(|found| {
            let whole = matches!(&found.ability, RemovalAbility::Impossible(why) if is_missing_right(why));
            whole || found.obstacles.get(repository).is_some_and(is_missing_right)
        })
    };
    let refused = |skip: &SkipReason| matches!(skip, SkipReason::Refused(_));
    skipped.iter().any(|(task, skip)| refused(skip) && lacks(&task.removal.registry, &task.removal.repository))
        || not_deleted
            .iter()
            .any(|(task, skip)| refused(skip) && lacks(&task.deletion.registry, &task.deletion.repository))
}

fn is_missing_right(why: &RemovalObstacle) -> bool {
    matches!(why, RemovalObstacle::Denied { .. } | RemovalObstacle::CheckFailed { .. })
}

/// Decides whether a registry can remove tags in the way that its settings choose.
///
/// A product that is only read comes before everything. A recorded destruction comes before the settings: otherwise
/// `can_untag = "yes"` would lose an image in each run. Then follow the settings, the experience with untags, what the registry reports about itself, and its last answer to
/// a deletion by tag, which does not cover the manifest behind it.
fn ability(settings: &RegistrySettings, known: &AbilityEvidence) -> (RemovalAbility, AbilityOrigin) {
    let impossible = RemovalAbility::Impossible;
    if let Some(reason) = settings.provider.read_only_reason() {
        return (impossible(RemovalObstacle::Kind { message: reason.to_owned() }), AbilityOrigin::Kind);
    }
    let refuses_all = matches!(known.by_digest, Some((DeletionResponse::Unsupported, _)));
    if settings.removal == RemovalMethod::DeleteManifest {
        return match known.by_digest {
            Some((DeletionResponse::Unsupported, at)) => {
                (impossible(RemovalObstacle::DeletesDisabled), AbilityOrigin::Response(at))
            }
            Some((DeletionResponse::Accepted, at)) => (RemovalAbility::Able, AbilityOrigin::Response(at)),
            None => (RemovalAbility::Unknown, AbilityOrigin::Unknown),
        };
    }
    let destroyed = known.untag_experience.filter(|known| known.effect == UntagExperience::ManifestDestroyed);
    if let Some(since) = destroyed.map(|known| known.since).or(known.legacy_destruction) {
        return (impossible(RemovalObstacle::DestroysManifest { since }), AbilityOrigin::Removals(since));
    }
    match settings.can_untag {
        CanUntag::Yes => return (RemovalAbility::Able, AbilityOrigin::Settings),
        CanUntag::No => return (impossible(RemovalObstacle::Setting), AbilityOrigin::Settings),
        CanUntag::Unknown => {}
    }
    match known.untag_experience {
        Some(Experience { effect: UntagExperience::ManifestSurvives, last_at, .. }) => {
            return (RemovalAbility::Able, AbilityOrigin::Removals(last_at));
        }
        Some(Experience { effect: UntagExperience::Unsupported, last_at, .. }) => {
            let obstacle = if refuses_all { RemovalObstacle::DeletesDisabled } else { RemovalObstacle::NoUntag };
            return (impossible(obstacle), AbilityOrigin::Response(last_at));
        }
        _ => {}
    }
    // The kind decides alone if it can; the product only if the kind leaves it open.
    let by_kind = settings.provider.capabilities().untag != UntagSupport::Unknown;
    let origin = if by_kind { AbilityOrigin::Kind } else { AbilityOrigin::Product };
    match known.capabilities.untag {
        UntagSupport::Native | UntagSupport::NativeButLast => return (RemovalAbility::Able, origin),
        untag @ (UntagSupport::DeletesLast | UntagSupport::Unsupported) => {
            return (impossible(obstacle_of(settings, known.capabilities.product.clone(), untag)), origin);
        }
        UntagSupport::Unknown => {}
    }
    match known.by_tag {
        Some((DeletionResponse::Accepted, at)) => (RemovalAbility::Able, AbilityOrigin::Response(at)),
        _ => (RemovalAbility::Unknown, AbilityOrigin::Unknown),
    }
}

/// Returns the obstacle of a product. The settings that help with a product of any kind may not be those of its own
/// kind, which names its own.
fn obstacle_of(settings: &RegistrySettings, product: Option<Product>, untag: UntagSupport) -> RemovalObstacle {
    match product {
        Some(product) if settings.provider.name() == Distribution.name() => RemovalObstacle::Product(product),
        Some(Product { name, version, consequence, .. }) => {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            RemovalObstacle::Kind { message: format!("{name}{version}: {consequence}") }
        }
        None => RemovalObstacle::Product(product_of(settings.provider, untag)),
    }
}

/// Returns a product, identified by the settings, whose API cannot remove a tag and leave its manifest.
fn product_of(provider: &dyn Provider, untag: UntagSupport) -> Product {
    let (untag, consequence) = match untag {
        UntagSupport::DeletesLast => {
            (UntagEffect::DeletesManifest, "removing the last tag of an image deletes the image there")
        }
        UntagSupport::Native | UntagSupport::NativeButLast | UntagSupport::Unsupported | UntagSupport::Unknown => {
            (UntagEffect::Unsupported, "its API cannot remove a tag and leave the manifest")
        }
    };
    Product { name: provider.name(), version: None, recognized_by: "its `kind` in the settings", untag, consequence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::providers::{Acr, Artifactory, Ghcr};

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + day * 86_400).unwrap()
    }

    fn settings(provider: &'static dyn Provider, removal: RemovalMethod, can_untag: CanUntag) -> RegistrySettings {
        let endpoint = "https://registry.example".parse().unwrap();
        RegistrySettings {
            removal,
            can_untag,
            ..RegistrySettings::with_defaults("contoso".parse().unwrap(), provider, endpoint)
        }
    }

    fn product(untag: UntagEffect) -> Product {
        Product { name: "Example", version: None, recognized_by: "its header", untag, consequence: "it does so" }
    }

    /// Evidence with an empty state and that product.
    fn of_product(product: Option<Product>) -> AbilityEvidence {
        AbilityEvidence {
            untag_experience: None,
            legacy_destruction: None,
            by_tag: None,
            by_digest: None,
            capabilities: Capabilities::UNKNOWN.with_product(product),
        }
    }

    fn nothing() -> AbilityEvidence {
        of_product(None)
    }

    fn untags(what: UntagExperience) -> AbilityEvidence {
        let untag_experience = Some(Experience { effect: what, since: day(1), last_at: day(2) });
        AbilityEvidence { untag_experience, ..nothing() }
    }

    /// The capabilities as the connection reports them: those of the kind and the settings, then those of the product.
    fn ability_of(settings: &RegistrySettings, mut known: AbilityEvidence) -> (RemovalAbility, AbilityOrigin) {
        let kind = settings.provider.capabilities().with_settings(settings);
        known.capabilities = kind.with_product(known.capabilities.product);
        ability(settings, &known)
    }

    #[test]
    fn a_kind_says_itself_what_it_has_instead() {
        let found = Product { version: Some("2.1.1".into()), ..product(UntagEffect::DeletesManifest) };
        for (provider, product, words) in [
            (&Ghcr as &'static dyn Provider, Some(found), "Example 2.1.1: it does so"),
            (&Artifactory as &'static dyn Provider, None, "Tagwarden only reads Artifactory so far"),
        ] {
            let (ability, _) =
                ability_of(&settings(provider, RemovalMethod::Untag, CanUntag::Unknown), of_product(product));
            let RemovalAbility::Impossible(RemovalObstacle::Kind { message }) = ability else { panic!("{ability:?}") };
            assert!(message.starts_with(words), "{message}");
        }
    }

    #[test]
    fn what_is_known_best_counts() {
        use RemovalObstacle::{DeletesDisabled, DestroysManifest, NoUntag, Setting};
        use UntagExperience::{ManifestDestroyed, ManifestSurvives, Unsupported};
        let by = |provider: &'static dyn Provider, can_untag| settings(provider, RemovalMethod::Untag, can_untag);
        let plain = by(&Distribution, CanUntag::Unknown);
        let yes = by(&Distribution, CanUntag::Yes);
        let no = by(&Distribution, CanUntag::No);
        let acr = by(&Acr, CanUntag::Unknown);
        let able = |from| (RemovalAbility::Able, from);
        let cannot = |why, from| (RemovalAbility::Impossible(why), from);
        let of_product = |untag| of_product(Some(product(untag)));
        let accepted = Some((DeletionResponse::Accepted, day(3)));
        let refused = Some((DeletionResponse::Unsupported, day(3)));
        let destroys = cannot(DestroysManifest { since: day(1) }, AbilityOrigin::Removals(day(1)));
        for (which, settings, known, expected) in [
            ("nothing", &plain, nothing(), (RemovalAbility::Unknown, AbilityOrigin::Unknown)),
            ("yes", &yes, nothing(), able(AbilityOrigin::Settings)),
            ("no", &no, untags(ManifestSurvives), cannot(Setting, AbilityOrigin::Settings)),
            ("yes, and it refused", &yes, untags(Unsupported), able(AbilityOrigin::Settings)),
            ("yes, and it destroyed", &yes, untags(ManifestDestroyed), destroys.clone()),
            (
                "marked by name",
                &yes,
                AbilityEvidence { legacy_destruction: Some(day(1)), ..nothing() },
                destroys.clone(),
            ),
            ("destroyed", &acr, untags(ManifestDestroyed), destroys),
            ("survives", &plain, untags(ManifestSurvives), able(AbilityOrigin::Removals(day(2)))),
            (
                "survives, whatever the product",
                &plain,
                AbilityEvidence {
                    untag_experience: untags(ManifestSurvives).untag_experience,
                    ..of_product(UntagEffect::DeletesManifest)
                },
                able(AbilityOrigin::Removals(day(2))),
            ),
            ("refused", &plain, untags(Unsupported), cannot(NoUntag, AbilityOrigin::Response(day(2)))),
            (
                "refuses all",
                &plain,
                AbilityEvidence { by_digest: refused, ..untags(Unsupported) },
                cannot(DeletesDisabled, AbilityOrigin::Response(day(2))),
            ),
            ("Azure's", &acr, nothing(), able(AbilityOrigin::Kind)),
            ("leaves", &plain, of_product(UntagEffect::LeavesManifest), able(AbilityOrigin::Product)),
            (
                "accepts, and its product deletes",
                &plain,
                AbilityEvidence { by_tag: accepted, ..of_product(UntagEffect::DeletesManifest) },
                cannot(RemovalObstacle::Product(product(UntagEffect::DeletesManifest)), AbilityOrigin::Product),
            ),
            (
                "some product",
                &plain,
                of_product(UntagEffect::Unknown),
                (RemovalAbility::Unknown, AbilityOrigin::Unknown),
            ),
            (
                "accepts",
                &plain,
                AbilityEvidence { by_tag: accepted, ..nothing() },
                able(AbilityOrigin::Response(day(3))),
            ),
        ] {
            assert_eq!(ability_of(settings, known), expected, "{which}");
        }
        let by_manifest = settings(&Distribution, RemovalMethod::DeleteManifest, CanUntag::No);
        for (by_digest, expected) in [
            (None, (RemovalAbility::Unknown, AbilityOrigin::Unknown)),
            (accepted, able(AbilityOrigin::Response(day(3)))),
            (refused, cannot(DeletesDisabled, AbilityOrigin::Response(day(3)))),
        ] {
            let known = AbilityEvidence { by_digest, ..untags(ManifestDestroyed) };
            assert_eq!(ability_of(&by_manifest, known), expected);
        }
    }

    #[test]
    fn an_api_without_untag_is_a_product_that_cannot() {
        for (support, effect) in [
            (UntagSupport::DeletesLast, UntagEffect::DeletesManifest),
            (UntagSupport::Unsupported, UntagEffect::Unsupported),
        ] {
            let product = product_of(&Distribution, support);
            assert_eq!((product.name, product.untag), ("distribution", effect));
        }
    }

    #[test]
    fn missing_rights_refuse_only_what_needs_them() {
        let denied = |name: &str| RemovalObstacle::Denied { message: format!("may not in {name}") };
        let missing = |names: &[&str]| -> BTreeMap<RepositoryName, RemovalObstacle> {
            names.iter().map(|name| (name.parse().unwrap(), denied(name))).collect()
        };
        for (names, asked, whole, apart) in
            [(&["a", "b"][..], 2, Some("a"), &[][..]), (&["b"], 2, None, &["b"]), (&[], 2, None, &[])]
        {
            let mut registry = Registry::empty("contoso".parse().unwrap(), "acr");
            registry.ability = RemovalAbility::Able;
            registry.missing_rights = missing(names);
            enforce_rights(&mut registry, asked);
            let expected = whole.map_or(RemovalAbility::Able, |name| RemovalAbility::Impossible(denied(name)));
            assert_eq!((registry.ability, registry.obstacles), (expected, missing(apart)), "{names:?}");
            assert!(registry.missing_rights.is_empty());
        }
    }
}
