//! Helm values whose parts are in several files: a repository in one, its tag or its registry in another.
//!
//! Files of one folder count as layers of one chart's values, and so do the places where Argo CD lets one application
//! override them. Parts under the same keys belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::document::{Format, Node, Value, parse};
use super::super::known_hosts::is_placeholder;
use super::claim_collector::ClaimCollector;
use super::{OwnedScalar, Place, Scalar, VersionSpec, base, folder, text, without_scheme};

/// The mappings that concern images.
#[derive(Debug, Default)]
pub(super) struct Values {
    mappings: Vec<Mapping>,
}

/// Values that belong together.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) name: Arc<str>,
    /// Layers of one group are merged.
    pub(super) group: Arc<str>,
    /// True if nothing else parses its mappings as images, because they are in texts or parameters.
    pub(super) is_exclusive: bool,
}

#[derive(Debug)]
struct Mapping {
    layer: Layer,
    /// The keys that lead to it, joined by dots.
    keys: Box<str>,
    registry: Option<OwnedScalar>,
    repository: Option<OwnedScalar>,
    tag: Option<OwnedScalar>,
    digest: Option<OwnedScalar>,
}

/// A mapping with a repository, as far as other mappings explain it.
pub(super) struct ResolvedMapping<'v> {
    pub(super) keys: &'v str,
    /// True if other mappings state tags for it.
    pub(super) has_tags: bool,
}

impl Values {
    /// Parses a file of values.
    pub(super) fn read_file(&mut self, name: &Arc<str>, node: &Node) {
        let layer = Layer { name: Arc::clone(name), group: folder(name).into(), is_exclusive: false };
        self.visit(&layer, node, &mut Vec::new());
    }

    /// Parses values inside another document.
    pub(super) fn read_node(&mut self, layer: &Layer, node: &Node) {
        self.visit(layer, node, &mut Vec::new());
    }

    /// Parses values inside a text.
    pub(super) fn read_text(&mut self, layer: &Layer, text: Scalar<'_>) {
        for document in parse(text.text, Format::Yaml).unwrap_or_default() {
            let first = self.mappings.len();
            self.visit(layer, &document, &mut Vec::new());
            self.mappings[first..].iter_mut().for_each(|mapping| mapping.shift(text.line.saturating_sub(1)));
        }
    }

    /// Parses one value by the keys that lead to it, as in `--set image.tag=v1`.
    pub(super) fn set(&mut self, layer: &Layer, path: &str, value: Scalar<'_>) {
        let (keys, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut mapping = Mapping::new(layer, keys);
        mapping.add(key, value);
        if !mapping.is_empty() {
            self.mappings.push(mapping);
        }
    }

    fn visit<'n>(&mut self, layer: &Layer, node: &'n Node, keys: &mut Vec<&'n str>) {
        let Value::Map(entries) = &node.value else { return };
        let mut mapping: Option<Mapping> = None;
        for (_, key, value) in entries {
            if matches!(value.value, Value::Map(_)) {
                keys.push(key);
                self.visit(layer, value, keys);
                keys.pop();
            } else if is_part(key)
                && let Some(value) = text(value)
            {
                mapping.get_or_insert_with(|| Mapping::new(layer, &keys.join("."))).add(key, value);
            }
        }
        self.mappings.extend(mapping.filter(|mapping| !mapping.is_empty()));
    }

    /// Joins separate parts. Returns the mappings with repositories by file and line.
    pub(super) fn join(&self, collector: &mut ClaimCollector<'_>) -> BTreeMap<(&str, u32), ResolvedMapping<'_>> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Mapping>> = BTreeMap::new();
        let mut registries: BTreeMap<&str, Vec<&Mapping>> = BTreeMap::new();
        for mapping in &self.mappings {
            groups.entry((&*mapping.layer.group, &*mapping.keys)).or_default().push(mapping);
            if mapping.is_global() {
                registries.entry(&*mapping.layer.group).or_default().push(mapping);
            }
        }
        let mut explained = BTreeMap::new();
        for ((group, keys), mappings) in groups {
            let globals = registries.get(group).map(Vec::as_slice).unwrap_or_default();
            let layers = layers(&mappings);
            // Most versions of a file contain the same.
            let mut done: BTreeSet<(&str, String)> = BTreeSet::new();
            for mapping in &mappings {
                let Some(repository) = &mapping.repository else { continue };
                let own = stem(&mapping.layer.name);
                let layers = layers.iter().filter(|(of, _)| of.is_none_or(|of| of == own)).map(|(_, layer)| *layer);
                let layers: Vec<&Mapping> = layers.collect();
                let has_tags = !layers.is_empty();
                for (base, apart) in mapping.bases(repository, &mappings, globals, collector) {
                    if apart || mapping.layer.is_exclusive {
                        mapping.add_versions(&base, !mapping.layer.is_exclusive, collector);
                    }
                    if has_tags || mapping.layer.is_exclusive && mapping.has_version() {
                        collector.mark_resolved(&mapping.place(repository), &base);
                    }
                    if done.insert((own, base.clone())) {
                        for layer in &layers {
                            layer.add_versions(&base, true, collector);
                        }
                    }
                }
                explained.insert((&*mapping.layer.name, repository.line), ResolvedMapping { keys, has_tags });
            }
        }
        explained
    }
}

/// Returns the mappings with tags and no repository, each with the name of the file that it overrides, without
/// extension. Of files with a common prefix, such as `api.yaml` and `api-prod.yaml`, only these belong together.
fn layers<'m>(mappings: &[&'m Mapping]) -> Vec<(Option<&'m str>, &'m Mapping)> {
    let with_repository = mappings.iter().filter(|mapping| mapping.repository.is_some());
    let bases: BTreeSet<&str> = with_repository.map(|mapping| stem(&mapping.layer.name)).collect();
    let layers = mappings.iter().copied().filter(|mapping| mapping.repository.is_none() && mapping.has_version());
    let closest = |mapping: &'m Mapping| {
        let name = stem(&mapping.layer.name);
        let base = bases.iter().copied().filter(|base| name.starts_with(base)).max_by_key(|base| base.len());
        (base, mapping)
    };
    layers.map(closest).collect()
}

impl Mapping {
    fn new(layer: &Layer, keys: &str) -> Self {
        let (layer, keys) = (layer.clone(), keys.into());
        Self { layer, keys, registry: None, repository: None, tag: None, digest: None }
    }

    fn add(&mut self, key: &str, value: Scalar<'_>) {
        if is_placeholder(value.text) {
            return;
        }
        let slot = match key {
            "registry" | "imageRegistry" => &mut self.registry,
            "repository" | "repo" | "imageRepository" | "imageName" | "image" => &mut self.repository,
            "name" if value.text.contains('/') => &mut self.repository,
            "tag" | "imageTag" => &mut self.tag,
            "digest" | "imageDigest" | "sha" => &mut self.digest,
            _ => return,
        };
        slot.get_or_insert_with(|| value.to_owned_scalar());
    }

    fn is_empty(&self) -> bool {
        [&self.registry, &self.repository, &self.tag, &self.digest].into_iter().all(Option::is_none)
    }

    /// Returns true for Helm's `global.imageRegistry`.
    fn is_global(&self) -> bool {
        self.registry.is_some() && (&*self.keys == "global" || self.keys.ends_with(".global"))
    }

    /// Moves it down by that many lines.
    fn shift(&mut self, lines: u32) {
        for part in [&mut self.registry, &mut self.repository, &mut self.tag, &mut self.digest].into_iter().flatten() {
            part.line += lines;
        }
    }

    fn place(&self, part: &OwnedScalar) -> Place {
        Place { name: Arc::clone(&self.layer.name), line: part.line }
    }

    fn has_version(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    /// Returns the repositories in registries that its own may be, each with true if only several files together state
    /// it.
    fn bases(
        &self,
        repository: &OwnedScalar,
        others: &[&Self],
        globals: &[&Self],
        collector: &ClaimCollector<'_>,
    ) -> BTreeMap<String, bool> {
        let path = without_scheme(&repository.text).unwrap_or_default().trim_start_matches('/');
        if collector.repository(path).is_some() {
            return BTreeMap::from([(path.to_owned(), false)]);
        }
        let mut bases = BTreeMap::new();
        let same_keys = others.iter().filter(|other| other.repository.is_none() || std::ptr::eq(**other, self));
        for other in same_keys.chain(globals) {
            if let Some(registry) = other.registry.as_ref().and_then(|registry| without_scheme(&registry.text)) {
                let apart = other.layer.name != self.layer.name;
                bases.entry(format!("{registry}/{path}")).and_modify(|all| *all &= apart).or_insert(apart);
            }
        }
        bases
    }

    /// Adds the images that its tag and its digest make of a repository.
    fn add_versions(&self, base: &str, joined: bool, collector: &mut ClaimCollector<'_>) {
        for (part, wanted) in self.versions() {
            collector.add_use(&self.place(part), base, &wanted, joined);
        }
    }

    /// Returns its tag and its digest.
    fn versions(&self) -> impl Iterator<Item = (&OwnedScalar, VersionSpec)> {
        let tag = self.tag.as_ref().map(|tag| (tag, VersionSpec::Tag(tag.text.to_string())));
        let digest = self.digest.as_ref().map(|digest| {
            let text = digest.text.trim_start_matches('@');
            let known = text.contains(':');
            (digest, VersionSpec::Digest(if known { text.to_owned() } else { format!("sha256:{text}") }))
        });
        tag.into_iter().chain(digest)
    }
}

fn is_part(key: &str) -> bool {
    matches!(
        key,
        "registry"
            | "imageRegistry"
            | "repository"
            | "repo"
            | "imageRepository"
            | "imageName"
            | "image"
            | "name"
            | "tag"
            | "imageTag"
            | "digest"
            | "imageDigest"
            | "sha"
    )
}

/// Returns a file's name without its extension.
fn stem(name: &str) -> &str {
    let base = base(name);
    base.split_once('.').map_or(base, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_of, finish, read};

    const VALUES: &str = "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: \"\"\n";

    #[test]
    fn parts_in_files_of_one_folder_are_joined() {
        let tag = "image:\n  tag: v2\n";
        let web = VALUES.replace("shop/api", "shop/web");
        for (files, expected) in [
            (vec![("api/values.yaml", VALUES), ("api/values-prod.yaml", tag)], "api/values-prod.yaml:2 shop/api:v2"),
            (vec![("api/values.yaml", VALUES), ("api/prod.yaml", tag)], "api/prod.yaml:2 shop/api:v2"),
            (vec![("api/values.yaml", VALUES), ("web/values-prod.yaml", tag)], ""),
            (vec![("api/values.yaml", VALUES), ("api/values-prod.yaml", "worker:\n  image: { tag: v2 }\n")], ""),
            (vec![("api/values.yaml", VALUES), ("api/values-prod.yaml", "image: { tag: \"${TAG}\" }\n")], ""),
            // The names of the files show which belong together.
            (
                vec![("api.yaml", VALUES), ("web.yaml", web.as_str()), ("api-prod.yaml", tag)],
                "api-prod.yaml:2 shop/api:v2",
            ),
            (
                vec![
                    ("values.yaml", "global:\n  imageRegistry: contoso.azurecr.io\n"),
                    ("values-prod.yaml", "image:\n  repository: shop/api\n  tag: v3\n"),
                ],
                "values-prod.yaml:3 shop/api:v3",
            ),
            (
                vec![
                    ("values.yaml", "image:\n  registry: docker.io\n  repository: shop/api\n  tag: v4\n"),
                    ("values-prod.yaml", "image:\n  registry: contoso.azurecr.io\n"),
                ],
                "values.yaml:4 shop/api:v4",
            ),
            (
                vec![("values.yaml", VALUES), ("values-prod.yaml", "image:\n  digest: sha256:DIGEST\n")],
                "values-prod.yaml:2 shop/api@sha256:DIGEST",
            ),
            // A single file is parsed as it is.
            (vec![("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: v1\n")], ""),
        ] {
            let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
            let texts: Vec<(&str, String)> =
                files.iter().map(|(name, text)| (*name, text.replace("DIGEST", digest))).collect();
            let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let found = claims_of(&files).join("\n").replace(" (joined)", "");
            assert_eq!(found, expected.replace("DIGEST", digest), "{files:?}");
        }
    }

    #[test]
    fn a_tag_in_another_file_settles_the_repository() {
        let files = [("api/values.yaml", VALUES), ("api/values-prod.yaml", "image: { tag: v2 }\n")];
        let findings = finish(read(&files), Vec::new());
        assert!(findings.resolved.covers("api/values.yaml", 2, "shop/api"));
        let alone = finish(read(&files[..1]), Vec::new());
        assert!(!alone.resolved.covers("api/values.yaml", 2, "shop/api"));
    }
}
