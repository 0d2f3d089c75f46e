//! Kustomize: images that a base renames and to which an overlay gives a tag, and charts that it inflates.
//!
//! <https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/images/>. Argo CD and Flux have images in the
//! same form, which they apply to the folder that they deploy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::document::Node;
use super::super::known_hosts::is_placeholder;
use super::{Facts, ImageUse, OwnedScalar, Place, Scalar, VersionSpec, folder, list, resolve, scalar, without_scheme};
use crate::domain::ImageReference;

/// The kustomizations of a source, and the images of the objects that they modify.
#[derive(Debug, Default)]
pub(super) struct Kustomize {
    /// The paths that the kustomization in each folder reads; a file counts as its folder.
    bases: BTreeMap<String, BTreeSet<String>>,
    entries: Vec<Entry>,
    images: Vec<Image>,
}

/// The folders that an entry modifies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EntryScope {
    /// A folder and everything that its kustomization reads.
    Folder(String),
    /// Any folder whose path ends with this, and everything that its kustomization reads.
    Path(String),
}

/// A change of images.
#[derive(Debug)]
struct Entry {
    file: Arc<str>,
    scope: EntryScope,
    name: Box<str>,
    new_name: Option<OwnedScalar>,
    new_tag: Option<OwnedScalar>,
    digest: Option<OwnedScalar>,
}

/// An image in an object.
#[derive(Debug)]
struct Image {
    folder: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Kustomize {
    /// Parses a kustomization.
    pub(super) fn read_file(&mut self, name: &Arc<str>, node: &Node, facts: &mut Facts) {
        let here = folder(name);
        let read = ["resources", "bases", "components"].into_iter().flat_map(|key| list(node, key));
        let read = read.filter_map(super::text).map(|path| {
            let path = resolve(&here, path.text);
            if is_file(&path) { folder(&path) } else { path }
        });
        self.bases.entry(here.clone()).or_default().extend(read);
        self.add_entries(name, &EntryScope::Folder(here), list(node, "images"));
        for one in list(node, "helmCharts") {
            chart(name, one, facts);
        }
    }

    /// Parses a Kustomization of Flux.
    pub(super) fn flux(&mut self, name: &Arc<str>, node: &Node) {
        let Some(spec) = node.get("spec") else { return };
        let path = scalar(spec, "path").map_or_else(String::new, |path| resolve("", path.text));
        self.add_entries(name, &EntryScope::Path(path), list(spec, "images"));
    }

    /// Parses the images of an Argo CD application: `[NAME=]IMAGE`.
    pub(super) fn argo_cd(&mut self, file: &Arc<str>, path: &str, images: &[Node]) {
        for one in images.iter().filter_map(super::text) {
            let (name, image) = one.text.split_once('=').map_or((None, one.text), |(name, image)| (Some(name), image));
            // A star stands for the unchanged name.
            let starred = image.strip_prefix('*').map(|rest| format!("{}{rest}", name.unwrap_or("*")));
            let Some(image) = Image::read("", starred.as_deref().unwrap_or(image)) else { continue };
            let kept = |text: String| OwnedScalar { text: text.into(), line: one.line };
            let renamed = name.is_some_and(|name| name != image.repository);
            self.entries.push(Entry {
                file: Arc::clone(file),
                scope: EntryScope::Path(resolve("", path)),
                name: name.unwrap_or(&image.repository).into(),
                new_name: renamed.then(|| kept(image.repository.clone())),
                new_tag: image.tag.map(kept),
                digest: image.digest.map(kept),
            });
        }
    }

    fn add_entries(&mut self, file: &Arc<str>, reach: &EntryScope, images: &[Node]) {
        for image in images {
            let Some(name) = scalar(image, "name") else { continue };
            let part = |key| scalar(image, key).filter(|part| !is_placeholder(part.text)).map(Scalar::to_owned_scalar);
            self.entries.push(Entry {
                file: Arc::clone(file),
                scope: reach.clone(),
                name: name.text.into(),
                new_name: part("newName"),
                new_tag: part("newTag"),
                digest: part("digest"),
            });
        }
    }

    /// Parses the image of a container.
    pub(super) fn add_image(&mut self, name: &Arc<str>, image: Scalar<'_>) {
        self.images.extend(Image::read(name, image.text));
    }

    /// Adds the images that changes in several places make together.
    pub(super) fn join(&self, facts: &mut Facts) {
        let mut closures: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for entry in &self.entries {
            if let EntryScope::Folder(folder) = &entry.scope {
                closures.entry(folder).or_insert_with(|| self.closure([folder.as_str()]));
            }
        }
        let mut by_name: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        self.entries.iter().for_each(|entry| by_name.entry(&entry.name).or_default().push(entry));
        for entry in &self.entries {
            let others = by_name.get(&*entry.name).map(Vec::as_slice).unwrap_or_default();
            match &entry.new_name {
                None if entry.has_version() => self.versioned(entry, others, &closures, facts),
                Some(new_name) if !entry.has_version() => self.renamed(entry, new_name, others, &closures, facts),
                _ => {}
            }
        }
    }

    /// Applies an entry that sets the tag of an image that others rename.
    fn versioned(
        &self,
        entry: &Entry,
        others: &[&Entry],
        closures: &BTreeMap<&str, BTreeSet<&str>>,
        facts: &mut Facts,
    ) {
        let below = self.images_below(entry, closures);
        let renames = others.iter().copied().filter(|other| other.new_name.is_some());
        let near: Vec<&Entry> = renames.clone().filter(|other| other.is_in(&below)).collect();
        // If no folder leads there, any may.
        let renames: Vec<&Entry> = if near.is_empty() { renames.collect() } else { near };
        // Most versions of a file contain the same.
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for other in renames {
            let Some(new_name) = &other.new_name else { continue };
            if done.insert(&new_name.text) {
                entry.versions().for_each(|(line, wanted)| facts.uses.push(entry.joined(line, new_name, wanted)));
            }
            facts.mark_resolved(Place::new(&other.file, new_name.line), &*new_name.text);
        }
    }

    /// Applies an entry that renames an image whose tag others set.
    fn renamed(
        &self,
        entry: &Entry,
        new_name: &OwnedScalar,
        others: &[&Entry],
        closures: &BTreeMap<&str, BTreeSet<&str>>,
        facts: &mut Facts,
    ) {
        let below = self.images_below(entry, closures);
        let versions = others.iter().filter(|other| other.has_version() && other.is_in(&below));
        let mut wanted: Vec<VersionSpec> =
            versions.flat_map(|other| other.versions()).map(|(_, wanted)| wanted).collect();
        let images = self.images.iter().filter(|image| *image.repository == *entry.name);
        let near: Vec<&Image> = images.clone().filter(|image| below.contains(image.folder.as_str())).collect();
        let images: Vec<&Image> = if near.is_empty() { images.collect() } else { near };
        // An overlay elsewhere may replace `latest`.
        if !wanted.is_empty() || images.iter().any(|image| image.tag.is_some() || image.digest.is_some()) {
            facts.mark_resolved(Place::new(&entry.file, new_name.line), &*new_name.text);
        }
        wanted.extend(images.into_iter().map(Image::version));
        facts.uses.extend(wanted.into_iter().map(|wanted| entry.joined(new_name.line, new_name, wanted)));
    }

    /// Returns the folders that an entry modifies.
    fn images_below<'k>(&'k self, entry: &'k Entry, closures: &BTreeMap<&str, BTreeSet<&'k str>>) -> BTreeSet<&'k str> {
        match &entry.scope {
            EntryScope::Folder(folder) => closures.get(folder.as_str()).cloned().unwrap_or_default(),
            EntryScope::Path(path) => {
                let is_end = |folder: &&str| {
                    let before = folder.strip_suffix(path.as_str());
                    !path.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
                };
                let all =
                    self.bases.keys().map(String::as_str).chain(self.images.iter().map(|one| one.folder.as_str()));
                self.closure(all.filter(is_end))
            }
        }
    }

    /// Returns folders and everything that their kustomizations read.
    fn closure<'k>(&'k self, from: impl IntoIterator<Item = &'k str>) -> BTreeSet<&'k str> {
        let mut open: Vec<&str> = from.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(self.bases.get(next).into_iter().flatten().map(String::as_str));
            }
        }
        found
    }
}

impl Entry {
    fn has_version(&self) -> bool {
        self.new_tag.is_some() || self.digest.is_some()
    }

    fn versions(&self) -> impl Iterator<Item = (u32, VersionSpec)> {
        let tag = self.new_tag.as_ref().map(|tag| (tag.line, VersionSpec::Tag(tag.text.to_string())));
        let digest = self.digest.as_ref().map(|digest| (digest.line, VersionSpec::Digest(digest.text.to_string())));
        tag.into_iter().chain(digest)
    }

    fn is_in(&self, folders: &BTreeSet<&str>) -> bool {
        matches!(&self.scope, EntryScope::Folder(folder) if folders.contains(folder.as_str()))
    }

    fn joined(&self, line: u32, repository: &OwnedScalar, wanted: VersionSpec) -> ImageUse {
        let repository = without_scheme(&repository.text).unwrap_or_default().to_owned();
        ImageUse { place: Place::new(&self.file, line), repository, version: wanted, joined: true }
    }
}

impl Image {
    /// Parses an image in a file; `None` if it is a placeholder.
    fn read(file: &str, text: &str) -> Option<Self> {
        let ImageReference { host, repository, tag, digest } = ImageReference::parse_verbatim(text).ok()?;
        let repository = ImageReference { host, repository: Some(repository?), tag: None, digest: None }.to_string();
        let (tag, digest) = (tag.map(|tag| tag.to_string()), digest.map(|digest| digest.to_string()));
        Some(Self { folder: folder(file), repository, tag, digest })
    }

    fn version(&self) -> VersionSpec {
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => VersionSpec::Digest(digest.clone()),
            (tag, None) => VersionSpec::Tag(tag.clone().unwrap_or_else(|| "latest".to_owned())),
        }
    }
}

/// Parses a chart that is inflated.
pub(super) fn chart(name: &Arc<str>, node: &Node, facts: &mut Facts) {
    let first = |keys: [&str; 2]| keys.into_iter().find_map(|key| scalar(node, key));
    let (Some(repository), Some(chart)) = (first(["repo", "chartRepo"]), first(["chartName", "name"])) else { return };
    let Some(registry) = without_scheme(repository.text).filter(|_| repository.text.contains("://")) else { return };
    let version = first(["version", "chartVersion"]);
    let wanted = VersionSpec::Any(version.map_or_else(String::new, |version| version.text.to_owned()));
    let line = version.unwrap_or(repository).line;
    facts.add_use(Place::new(name, line), format!("{registry}/{}", chart.text), wanted);
    facts.mark_resolved(Place::new(name, repository.line), registry);
}

fn is_file(path: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_in, claims_of};

    const BASE: &str = "resources: [deployment.yaml]\nimages:\n- name: api\n  newName: contoso.azurecr.io/shop/api\n";

    #[test]
    fn an_overlay_says_the_tag_of_what_its_base_renames() {
        let overlay = "resources: [../../base]\nimages:\n- name: api\n  newTag: v2\n";
        let web = BASE.replace("shop/api", "shop/web");
        for (files, expected) in [
            (
                vec![("base/kustomization.yaml", BASE), ("env/prod/kustomization.yaml", overlay)],
                "env/prod/kustomization.yaml:4 shop/api:v2",
            ),
            // Another service uses the same name in its own base.
            (
                vec![
                    ("base/kustomization.yaml", BASE),
                    ("env/prod/kustomization.yaml", overlay),
                    ("web/base/kustomization.yaml", web.as_str()),
                ],
                "env/prod/kustomization.yaml:4 shop/api:v2",
            ),
            // The location of the base is unknown: any folder of that name may be it.
            (
                vec![("elsewhere/kustomization.yaml", BASE), ("env/prod/kustomization.yaml", overlay)],
                "env/prod/kustomization.yaml:4 shop/api:v2",
            ),
            (vec![("base/kustomization.yaml", BASE)], ""),
        ] {
            let found = claims_of(&files);
            assert_eq!(found.join("\n").replace(" (joined)", ""), expected, "{files:?}");
        }
    }

    #[test]
    fn a_renamed_image_keeps_the_tag_that_it_had() {
        let deployment = |image: &str| {
            format!(
                "kind: Deployment\nspec: {{ template: {{ spec: {{ containers: [{{ image: \"{image}\" }}] }} }} }}\n"
            )
        };
        for (image, expected) in [
            ("api:v1", "base/kustomization.yaml:4 shop/api:v1 (joined)"),
            ("api", "base/kustomization.yaml:4 shop/api:latest (joined)"),
            ("other:v1", ""),
            ("contoso.azurecr.io/shop/web", "base/deployment.yaml:2 shop/web:latest"),
        ] {
            let deployment = deployment(image);
            let found = claims_of(&[("base/kustomization.yaml", BASE), ("base/deployment.yaml", deployment.as_str())]);
            assert_eq!(found.join("\n"), expected, "{image}");
        }
    }

    #[test]
    fn flux_lays_images_over_the_path_that_it_deploys() {
        let flux = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec:\n  path: ./base\n  images:\n  \
                    - { name: api, newTag: v3 }\n";
        assert_eq!(
            claims_of(&[("deploy/base/kustomization.yaml", BASE), ("flux.yaml", flux)]),
            ["flux.yaml:6 shop/api:v3 (joined)"]
        );
    }

    #[test]
    fn inflated_charts_are_claimed() {
        let file = "kind: Kustomization\nhelmCharts:\n- name: api\n  repo: oci://contoso.azurecr.io/charts\n  version: 1.2.3\n\
                    - { name: web, repo: https://charts.example, version: 1.0.0 }\n";
        assert_eq!(claims_in("kustomization.yaml", file), "5 charts/api:1.2.3");
        let generator = "kind: HelmChartInflationGenerator\nmetadata: { name: x }\nname: api\n\
                         repo: oci://contoso.azurecr.io/charts\nversion: ~1.2\n";
        assert_eq!(claims_in("generator.yaml", generator), "5 charts/api in ~1.2");
    }
}
