//! From images that documents use to claims.

use std::sync::Arc;

use super::super::invalid::{self, Read};
use super::super::reference_scan::{KnownHosts, is_placeholder};
use super::{FormFindings, OpenRepository, Place, Wanted};
use crate::domain::{
    Claim, Digest, Holder, ImageReference, Naming, PathPattern, Ranges, TagName, UnresolvedReference, VersionRange,
};

/// Makes claims of the images of known hosts, and leaves the others out.
pub(super) struct Collector<'h> {
    hosts: &'h KnownHosts,
    ranges: Ranges,
    findings: FormFindings,
}

impl<'h> Collector<'h> {
    pub(super) fn new(hosts: &'h KnownHosts, ranges: Ranges) -> Self {
        Self { hosts, ranges, findings: FormFindings::default() }
    }

    pub(super) fn finish(mut self) -> FormFindings {
        self.findings.claims.sort();
        self.findings.claims.dedup();
        self.findings.unresolved.sort();
        self.findings.unresolved.dedup();
        self.findings
    }

    /// A repository of a known host.
    pub(super) fn repository(&self, text: &str) -> Option<ImageReference> {
        let reference = ImageReference::as_written(text).ok()?;
        let (host, path) = (reference.host.as_deref()?, reference.repository.as_ref()?);
        self.hosts.name(host, path.as_str()).then_some(reference)
    }

    /// Adds the claims on an image that a document uses.
    pub(super) fn uses(&mut self, place: &Place, repository: &str, wanted: &Wanted, joined: bool) {
        if is_placeholder(repository) {
            return self.placeholder(place, repository, wanted);
        }
        let Some(image) = self.repository(repository) else { return };
        let naming = if joined { Naming::Joined } else { Naming::Written };
        match wanted {
            Wanted::Open => self.open(place, &image, repository.to_owned()),
            wanted if is_open(wanted.text()) => self.open(place, &image, shown(repository, wanted)),
            Wanted::Any(text) => self.any(place, &image, text, naming),
            Wanted::Tag(text) => self.tag(place, &image, text, naming),
            Wanted::Digest(text) => match text.parse() {
                Ok(digest) => self.claim(place, ImageReference { tag: None, digest: Some(digest), ..image }, naming),
                Err(_) => self.open(place, &image, shown(repository, wanted)),
            },
            Wanted::Range { text, filtered } => match text.parse::<VersionRange>() {
                // The filter is not known here, so that any version in the range may be the one.
                Ok(range) if *filtered => self.range(place, image, range, Ranges::All),
                Ok(range) => self.range(place, image, range, self.ranges),
                Err(_) => self.open(place, &image, shown(repository, wanted)),
            },
        }
    }

    /// Reads what may be a digest, a tag, a version or a range of versions.
    fn any(&mut self, place: &Place, image: &ImageReference, text: &str, naming: Naming) {
        if text.contains('@') || text.parse::<Digest>().is_ok() {
            return self.tag(place, image, text, naming);
        }
        let tag = tag_of(text);
        match (text.parse::<VersionRange>(), tag) {
            (Ok(range), Some(tag)) if range.is_exact() => self.claim_tag(place, image, tag, naming),
            (Ok(range), tag) => {
                // Tools look for a tag of that very name first: `1.2` is both.
                if let Some(tag) = tag {
                    self.claim_tag(place, image, tag, Naming::Joined);
                }
                self.range(place, image.clone(), range, self.ranges);
            }
            (Err(_), Some(tag)) => self.claim_tag(place, image, tag, naming),
            (Err(_), None) => self.open(place, image, format!("{image}:{text}")),
        }
    }

    /// Reads a tag, a digest, or both joined by `@`.
    fn tag(&mut self, place: &Place, image: &ImageReference, text: &str, naming: Naming) {
        let (tag, digest) = match text.split_once('@') {
            Some((tag, digest)) => (tag, digest.parse::<Digest>().ok()),
            None => match text.parse::<Digest>() {
                Ok(digest) => ("", Some(digest)),
                Err(_) => (text, None),
            },
        };
        let tag = tag_of(tag);
        if tag.is_none() && digest.is_none() {
            return self.open(place, image, format!("{image}:{text}"));
        }
        self.claim(place, ImageReference { tag, digest, ..image.clone() }, naming);
    }

    fn claim_tag(&mut self, place: &Place, image: &ImageReference, tag: TagName, naming: Naming) {
        self.claim(place, ImageReference { tag: Some(tag), digest: None, ..image.clone() }, naming);
    }

    fn range(&mut self, place: &Place, image: ImageReference, range: VersionRange, ranges: Ranges) {
        let image = ImageReference { tag: None, digest: None, ..image };
        self.claim(place, image, Naming::Range(Arc::new(range), ranges));
    }

    fn claim(&mut self, place: &Place, image: ImageReference, naming: Naming) {
        self.findings.claims.push(Claim { image, holder: holder(&place.name, place.line), naming });
    }

    fn open(&mut self, place: &Place, image: &ImageReference, text: String) {
        if let Some(path) = &image.repository {
            let pattern = PathPattern::of(&[path.as_str()]);
            self.unresolved(place, text, image.host.clone(), pattern);
        }
    }

    fn unresolved(&mut self, place: &Place, text: String, host: Option<String>, path: PathPattern) {
        let beside: Arc<[Box<str>]> = Arc::new([]);
        let (text, holder) = (text.into(), holder(&place.name, place.line));
        self.findings.unresolved.push(UnresolvedReference { text, host, path, beside, holder });
    }

    /// Reads a repository that is filled in elsewhere.
    fn placeholder(&mut self, place: &Place, repository: &str, wanted: &Wanted) {
        let text = shown(repository, wanted);
        match invalid::read(&text) {
            Read::Unresolved(host, path, _) => {
                let example: Vec<&str> = path.parts().collect();
                if host.as_deref().is_none_or(|host| self.hosts.name(host, &example.join("x"))) {
                    self.unresolved(place, text, host, path);
                }
            }
            Read::Corrected(image, _) => self.claim(place, image, Naming::Corrected),
            Read::Image(_) | Read::Invalid(_) => {}
        }
    }

    /// Notes that an occurrence of a repository is explained by other fields.
    pub(super) fn settle(&mut self, place: &Place, repository: &str) {
        if let Some(path) = self.repository(repository).and_then(|image| image.repository) {
            self.findings.settled.0.insert((place.name.as_ref().to_owned(), place.line, path.as_str().to_owned()));
        }
    }

    /// Adds the claims on the versions of a chart, which stand for an empty tag. Some charts put a `v` before them.
    pub(super) fn app_versions(&mut self, open: &OpenRepository, versions: &[&str]) {
        let Ok(path) = open.path.parse() else { return };
        let image = ImageReference { host: open.host.clone(), repository: Some(path), tag: None, digest: None };
        let place = Place { name: open.name.as_str().into(), line: open.line };
        for version in versions {
            let other = version.strip_prefix('v').map_or_else(|| format!("v{version}"), str::to_owned);
            for tag in [tag_of(version), tag_of(&other)].into_iter().flatten() {
                self.claim_tag(&place, &image, tag, Naming::Joined);
            }
        }
    }

    /// Leaves a repository open of which no form says the tag.
    pub(super) fn leave_open(&mut self, open: &OpenRepository) {
        let place = Place { name: open.name.as_str().into(), line: open.line };
        self.unresolved(&place, open.text.clone(), open.host.clone(), PathPattern::of(&[&open.path]));
    }
}

impl Wanted {
    fn text(&self) -> &str {
        match self {
            Self::Any(text) | Self::Tag(text) | Self::Digest(text) | Self::Range { text, .. } => text,
            Self::Open => "",
        }
    }
}

fn shown(repository: &str, wanted: &Wanted) -> String {
    match wanted {
        Wanted::Open => repository.to_owned(),
        Wanted::Digest(text) => format!("{repository}@{text}"),
        wanted => format!("{repository}:{}", wanted.text()),
    }
}

/// Returns true for a text that is filled in elsewhere. `<2` is a range, not a placeholder.
fn is_open(text: &str) -> bool {
    is_placeholder(text) && text.parse::<VersionRange>().is_err()
}

/// A version as a tag: Helm writes `_` for `+`, which no tag can contain.
fn tag_of(version: &str) -> Option<TagName> {
    version.replace('+', "_").parse().ok()
}

fn holder(name: &str, line: u32) -> Arc<Holder> {
    Arc::new(Holder::File { path: name.to_owned(), line })
}
