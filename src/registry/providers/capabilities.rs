//! The capabilities of a registry's API, each known to be there, known to be missing, or not known.

use crate::domain::{Product, UntagEffect};
use crate::registry::{CanUntag, RegistrySettings};

/// The capabilities of a registry's API, independent of the permissions of an identity.
///
/// A [`Provider`](super::Provider) gives those of its kind. A connection refines them by the settings, by its answers
/// so far and by the product that the registry turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Lists manifests that have no tag. Only then can it be known that no index holds one.
    pub lists_untagged: Support,
    /// Lists the tags that name a manifest.
    pub tags_of_manifest: Support,
    /// Has the time at which a tag was pushed.
    pub push_times: Support,
    /// Has the time at which an image was last pulled. Unknown where the registry can be told not to record pulls, and does
    /// not say so: then a person has to state it.
    pub pull_times: Support,
    /// Has locks of tags and manifests.
    pub locks: Support,
    /// The place of the list of what refers to a manifest.
    pub referrers: ReferrersSupport,
    /// Deletes what refers to a manifest along with it.
    pub cascades_referrers: Support,
    /// Removes a tag only if it still names a given digest.
    pub digest_in_removal: Support,
    /// Shows the rights of an identity without a removal.
    pub rights: Support,
    /// Answers from replicas, which may lag behind.
    pub replicas: Support,
    /// The effect of the removal of a tag.
    pub untag: UntagSupport,
    /// The largest number of tags in one removal request.
    pub batch: usize,
    /// The product, where the registry shows it and its kind in the settings leaves it open.
    pub product: Option<Product>,
}

impl Capabilities {
    /// Nothing known but single removals.
    pub const UNKNOWN: Self = Self {
        lists_untagged: Support::Unknown,
        tags_of_manifest: Support::Unknown,
        push_times: Support::Unknown,
        pull_times: Support::Unknown,
        locks: Support::Unknown,
        referrers: ReferrersSupport::Unknown,
        cascades_referrers: Support::Unknown,
        digest_in_removal: Support::Unknown,
        rights: Support::Unknown,
        replicas: Support::Unknown,
        untag: UntagSupport::Unknown,
        batch: 1,
        product: None,
    };

    /// Refines them by the settings: `can_untag` stands above what is known of the kind.
    #[must_use]
    pub fn with_settings(self, settings: &RegistrySettings) -> Self {
        let untag = match settings.can_untag {
            CanUntag::Yes if self.untag == UntagSupport::NativeButLast => UntagSupport::NativeButLast,
            CanUntag::Yes => UntagSupport::Native,
            CanUntag::No if self.untag == UntagSupport::DeletesLast => UntagSupport::DeletesLast,
            CanUntag::No => UntagSupport::Unsupported,
            CanUntag::Unknown => self.untag,
        };
        Self { untag, ..self }
    }

    /// Refines them by the product that the registry turned out to be, where they are still unknown.
    #[must_use]
    pub fn with_product(self, product: Option<Product>) -> Self {
        let untag = match (self.untag, product.as_ref().map(|product| product.untag)) {
            (UntagSupport::Unknown, Some(UntagEffect::LeavesManifest)) => UntagSupport::Native,
            (UntagSupport::Unknown, Some(UntagEffect::DeletesManifest)) => UntagSupport::DeletesLast,
            (UntagSupport::Unknown, Some(UntagEffect::Unsupported)) => UntagSupport::Unsupported,
            (known, _) => known,
        };
        Self { untag, product, ..self }
    }
}

/// An answer to whether an API can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// That depends on the registry behind the API.
    Unknown,
}

impl Support {
    /// Returns true only if it is known that the API can do it.
    #[must_use]
    pub fn is_certain(self) -> bool {
        self == Self::Yes
    }

    /// The label used in reports: `yes`, `no`, `not-known`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "not-known",
        }
    }
}

/// The effect of the removal of a tag by a product's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntagSupport {
    /// The tag alone is removed.
    Native,
    /// The tag alone is removed, unless it is the last one of its manifest, which stays for that.
    NativeButLast,
    /// The removal of a manifest's last tag deletes the manifest.
    DeletesLast,
    /// The API has no removal of a tag alone.
    Unsupported,
    /// That depends on the registry behind the API.
    Unknown,
}

impl UntagSupport {
    /// The label used in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::NativeButLast => "native-but-last",
            Self::DeletesLast => "deletes-last",
            Self::Unsupported => "unsupported",
            Self::Unknown => "not-known",
        }
    }
}

/// The place of the list of what refers to a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrersSupport {
    /// The referrers API of the OCI distribution specification 1.1.
    Api,
    /// Fallback tags, which clients keep: the registry has no such API.
    FallbackTag,
    /// Nothing refers to a manifest there.
    None,
    /// That depends on the registry behind the API.
    Unknown,
}

impl ReferrersSupport {
    /// The label used in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::FallbackTag => "fallback-tag",
            Self::None => "none",
            Self::Unknown => "not-known",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::providers::{Acr, Distribution, Provider};

    #[test]
    fn each_kind_has_its_capabilities() {
        let row = |provider: &dyn Provider| {
            let Capabilities {
                lists_untagged,
                tags_of_manifest,
                push_times,
                pull_times,
                locks,
                referrers,
                cascades_referrers,
                digest_in_removal,
                rights,
                replicas,
                untag,
                batch,
                product,
            } = provider.capabilities();
            assert_eq!(product, None, "a kind is asked of nobody");
            let supported = [
                lists_untagged,
                tags_of_manifest,
                push_times,
                pull_times,
                locks,
                cascades_referrers,
                digest_in_removal,
                rights,
                replicas,
            ];
            (supported.map(Support::label), referrers.label(), untag.label(), batch)
        };
        let (yes, no, unknown) = ("yes", "no", "not-known");
        assert_eq!(row(&Acr), ([yes, yes, yes, no, yes, yes, no, yes, yes], "api", "native", 1));
        let expected = ([no, no, no, no, no, unknown, no, no, unknown], "not-known", "not-known", 1);
        assert_eq!(row(&Distribution), expected);
    }

    #[test]
    fn settings_and_products_refine_the_effect_of_an_untag() {
        use UntagSupport::{DeletesLast, Native, NativeButLast, Unknown, Unsupported};
        let product = |untag| {
            let (name, recognized_by, consequence) = ("Example", "its header", "it does so");
            Some(Product { name, version: None, recognized_by, untag, consequence })
        };
        let endpoint: url::Url = "https://registry.example".parse().unwrap();
        for (kind, can_untag, product, expected) in [
            (Unknown, CanUntag::Unknown, None, Unknown),
            (Unknown, CanUntag::Unknown, product(UntagEffect::Unknown), Unknown),
            (Unknown, CanUntag::Unknown, product(UntagEffect::LeavesManifest), Native),
            (Unknown, CanUntag::Unknown, product(UntagEffect::DeletesManifest), DeletesLast),
            (Unknown, CanUntag::Unknown, product(UntagEffect::Unsupported), Unsupported),
            (Unknown, CanUntag::Yes, product(UntagEffect::Unsupported), Native),
            (Unknown, CanUntag::No, product(UntagEffect::LeavesManifest), Unsupported),
            (DeletesLast, CanUntag::No, None, DeletesLast),
            (Native, CanUntag::Unknown, product(UntagEffect::DeletesManifest), Native),
            (NativeButLast, CanUntag::Yes, None, NativeButLast),
            (NativeButLast, CanUntag::No, None, Unsupported),
            (NativeButLast, CanUntag::Unknown, product(UntagEffect::DeletesManifest), NativeButLast),
        ] {
            let name = "main".parse().unwrap();
            let settings = RegistrySettings {
                can_untag,
                ..RegistrySettings::with_defaults(name, &Distribution, endpoint.clone())
            };
            let kind_alone = Capabilities { untag: kind, ..Capabilities::UNKNOWN };
            let found = kind_alone.with_settings(&settings).with_product(product.clone());
            assert_eq!((found.untag, &found.product), (expected, &product), "{kind:?}, {can_untag:?}");
        }
    }
}
