//! Conversion of images in documents into claims.

use std::sync::Arc;

use super::super::image_syntax::{self, ParsedImage};
use super::super::known_hosts::{KnownHosts, is_placeholder};
use super::{FormEvidence, Place, TaglessRepository, VersionSpec};
use crate::domain::{
    Claim, Digest, Holder, ImageReference, Naming, PathPattern, RangeSelection, TagName, UnresolvedReference,
    VersionRange,
};

/// Creates claims on the images of known hosts, and ignores others.
pub(super) struct ClaimCollector<'h> {
    hosts: &'h KnownHosts,
    ranges: RangeSelection,
    evidence: FormEvidence,
}

impl<'h> ClaimCollector<'h> {
    pub(super) fn new(hosts: &'h KnownHosts, ranges: RangeSelection) -> Self {
        Self { hosts, ranges, evidence: FormEvidence::default() }
    }

    pub(super) fn finish(mut self) -> FormEvidence {
        self.evidence.claims.sort();
        self.evidence.claims.dedup();
        self.evidence.unresolved.sort();
        self.evidence.unresolved.dedup();
        self.evidence
    }

    /// Returns a repository of a known host.
    pub(super) fn repository(&self, text: &str) -> Option<ImageReference> {
        let reference = ImageReference::parse_verbatim(text).ok()?;
        let (host, path) = (reference.host.as_deref()?, reference.repository.as_ref()?);
        self.hosts.match_path(host, path.as_str()).then_some(reference)
    }

    /// Adds the claims on an image that a document uses.
    pub(super) fn add_use(&mut self, place: &Place, repository: &str, wanted: &VersionSpec, joined: bool) {
        if is_placeholder(repository) {
            return self.add_placeholder(place, repository, wanted);
        }
        let Some(image) = self.repository(repository) else { return };
        let naming = if joined { Naming::Joined } else { Naming::Written };
        match wanted {
            VersionSpec::Unspecified => self.add_unresolved_version(place, &image, repository.to_owned()),
            wanted if has_placeholder(wanted.text()) => {
                self.add_unresolved_version(place, &image, reference_text(repository, wanted));
            }
            VersionSpec::Any(text) => self.add_any(place, &image, text, naming),
            VersionSpec::Tag(text) => self.add_tag(place, &image, text, naming),
            VersionSpec::Digest(text) => match text.parse() {
                Ok(digest) => {
                    self.add_claim(place, ImageReference { tag: None, digest: Some(digest), ..image }, naming);
                }
                Err(_) => self.add_unresolved_version(place, &image, reference_text(repository, wanted)),
            },
            VersionSpec::Range { text, filtered } => match text.parse::<VersionRange>() {
                // The filter is not known here, so any version in the range may be selected.
                Ok(range) if *filtered => self.add_range(place, image, range, RangeSelection::All),
                Ok(range) => self.add_range(place, image, range, self.ranges),
                Err(_) => self.add_unresolved_version(place, &image, reference_text(repository, wanted)),
            },
        }
    }

    /// Parses a digest, a tag, a version or a range of versions.
    fn add_any(&mut self, place: &Place, image: &ImageReference, text: &str, naming: Naming) {
        if text.contains('@') || text.parse::<Digest>().is_ok() {
            return self.add_tag(place, image, text, naming);
        }
        let tag = tag_of(text);
        match (text.parse::<VersionRange>(), tag) {
            (Ok(range), Some(tag)) if range.is_exact() => self.add_tag_claim(place, image, tag, naming),
            (Ok(range), tag) => {
                // Tools look for a tag with that exact name first: `1.2` is both.
                if let Some(tag) = tag {
                    self.add_tag_claim(place, image, tag, Naming::Joined);
                }
                self.add_range(place, image.clone(), range, self.ranges);
            }
            (Err(_), Some(tag)) => self.add_tag_claim(place, image, tag, naming),
            (Err(_), None) => self.add_unresolved_version(place, image, format!("{image}:{text}")),
        }
    }

    /// Parses a tag, a digest, or both joined by `@`.
    fn add_tag(&mut self, place: &Place, image: &ImageReference, text: &str, naming: Naming) {
        let (tag, digest) = match text.split_once('@') {
            Some((tag, digest)) => (tag, digest.parse::<Digest>().ok()),
            None => match text.parse::<Digest>() {
                Ok(digest) => ("", Some(digest)),
                Err(_) => (text, None),
            },
        };
        let tag = tag_of(tag);
        if tag.is_none() && digest.is_none() {
            return self.add_unresolved_version(place, image, format!("{image}:{text}"));
        }
        self.add_claim(place, ImageReference { tag, digest, ..image.clone() }, naming);
    }

    fn add_tag_claim(&mut self, place: &Place, image: &ImageReference, tag: TagName, naming: Naming) {
        self.add_claim(place, ImageReference { tag: Some(tag), digest: None, ..image.clone() }, naming);
    }

    fn add_range(&mut self, place: &Place, image: ImageReference, range: VersionRange, ranges: RangeSelection) {
        let image = ImageReference { tag: None, digest: None, ..image };
        self.add_claim(place, image, Naming::Range(Arc::new(range), ranges));
    }

    fn add_claim(&mut self, place: &Place, image: ImageReference, naming: Naming) {
        self.evidence.claims.push(Claim { image, holder: holder(&place.name, place.line), naming });
    }

    fn add_unresolved_version(&mut self, place: &Place, image: &ImageReference, text: String) {
        if let Some(path) = &image.repository {
            let pattern = PathPattern::of(&[path.as_str()]);
            self.add_unresolved(place, text, image.host.clone(), pattern);
        }
    }

    fn add_unresolved(&mut self, place: &Place, text: String, host: Option<String>, path: PathPattern) {
        let beside: Arc<[Box<str>]> = Arc::new([]);
        let (text, holder) = (text.into(), holder(&place.name, place.line));
        self.evidence.unresolved.push(UnresolvedReference { text, host, path, adjacent_words: beside, holder });
    }

    /// Parses a repository with a placeholder.
    fn add_placeholder(&mut self, place: &Place, repository: &str, wanted: &VersionSpec) {
        let text = reference_text(repository, wanted);
        match image_syntax::parse_image(&text) {
            ParsedImage::Unresolved(host, path, _) => {
                let example: Vec<&str> = path.parts().collect();
                if host.as_deref().is_none_or(|host| self.hosts.match_path(host, &example.join("x"))) {
                    self.add_unresolved(place, text, host, path);
                }
            }
            ParsedImage::Corrected(image, _) => self.add_claim(place, image, Naming::Corrected),
            ParsedImage::Image(_) | ParsedImage::Invalid(_) => {}
        }
    }

    /// Records that other fields explain an occurrence of a repository.
    pub(super) fn mark_resolved(&mut self, place: &Place, repository: &str) {
        if let Some(path) = self.repository(repository).and_then(|image| image.repository) {
            self.evidence.resolved.0.insert((place.name.as_ref().to_owned(), place.line, path.as_str().to_owned()));
        }
    }

    /// Adds the claims on the `appVersion` of a chart, which applies for an empty tag. Some charts put a `v` before it.
    pub(super) fn add_app_versions(&mut self, open: &TaglessRepository, versions: &[&str]) {
        let Ok(path) = open.path.parse() else { return };
        let image = ImageReference { host: open.host.clone(), repository: Some(path), tag: None, digest: None };
        let place = Place { name: open.name.as_str().into(), line: open.line };
        for version in versions {
            let other = version.strip_prefix('v').map_or_else(|| format!("v{version}"), str::to_owned);
            for tag in [tag_of(version), tag_of(&other)].into_iter().flatten() {
                self.add_tag_claim(&place, &image, tag, Naming::Joined);
            }
        }
    }

    /// Leaves a repository unresolved if no form states its tag.
    pub(super) fn add_tagless(&mut self, open: &TaglessRepository) {
        let place = Place { name: open.name.as_str().into(), line: open.line };
        self.add_unresolved(&place, open.text.clone(), open.host.clone(), PathPattern::of(&[&open.path]));
    }
}

impl VersionSpec {
    fn text(&self) -> &str {
        match self {
            Self::Any(text) | Self::Tag(text) | Self::Digest(text) | Self::Range { text, .. } => text,
            Self::Unspecified => "",
        }
    }
}

fn reference_text(repository: &str, wanted: &VersionSpec) -> String {
    match wanted {
        VersionSpec::Unspecified => repository.to_owned(),
        VersionSpec::Digest(text) => format!("{repository}@{text}"),
        wanted => format!("{repository}:{}", wanted.text()),
    }
}

/// Returns true for a text with a placeholder. `<2` is a range, not a placeholder.
fn has_placeholder(text: &str) -> bool {
    is_placeholder(text) && text.parse::<VersionRange>().is_err()
}

/// Returns a version as a tag: Helm writes `_` for `+`, which no tag can contain.
fn tag_of(version: &str) -> Option<TagName> {
    version.replace('+', "_").parse().ok()
}

fn holder(name: &str, line: u32) -> Arc<Holder> {
    Arc::new(Holder::File { path: name.to_owned(), line })
}
