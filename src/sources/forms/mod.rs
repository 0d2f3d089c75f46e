//! Forms of tools that state images in several fields or files together: Helm, Argo CD, Flux, Kustomize, compose files,
//! Dockerfiles.
//!
//! Each form is parsed as a document of its kind wherever it comes from, into small facts. Facts from different
//! documents of a source are joined at the end.

mod argo_cd;
mod claim_collector;
mod compose;
mod containers;
mod dockerfile;
mod flux;
mod helm;
mod kustomize;
mod values;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::claim_collector::ClaimCollector;
use super::document::{Node, Value};
use super::file_version::file_of;
use super::known_hosts::{KnownHosts, is_placeholder};
use crate::domain::{Claim, ImageReference, RangeSelection, UnresolvedReference};

/// The facts in the documents of one source.
#[derive(Debug, Default)]
pub(super) struct Forms {
    facts: Facts,
    charts: helm::Charts,
    values: values::Values,
    kustomize: kustomize::Kustomize,
    flux: flux::Flux,
}

/// A repository in a mapping without a tag, such as Helm's `repository:` beside an empty `tag:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaglessRepository {
    /// The file or address.
    pub(super) name: String,
    /// The line of the repository, from 1.
    pub(super) line: u32,
    /// The host; `None` if the text names none.
    pub(super) host: Option<String>,
    /// The repository's path.
    pub(super) path: String,
    /// The text as it was found, for people.
    pub(super) text: String,
}

/// All evidence in the forms of a source.
#[derive(Debug, Default)]
pub(super) struct FormEvidence {
    pub(super) claims: Vec<Claim>,
    pub(super) resolved: ResolvedOccurrences,
    /// References whose tag no form of the source states.
    pub(super) unresolved: Vec<UnresolvedReference>,
    /// Each with its place.
    pub(super) notes: Vec<String>,
}

/// Occurrences of repositories whose tag a form states. By themselves they neither stay unresolved nor claim anything:
/// the form's own claims and unresolved references replace them.
#[derive(Debug, Default)]
pub(super) struct ResolvedOccurrences(BTreeSet<(String, u32, String)>);

impl ResolvedOccurrences {
    /// Returns true for an occurrence of `path` in that file and line.
    pub(super) fn covers(&self, name: &str, line: u32, path: &str) -> bool {
        self.0.contains(&(name.to_owned(), line, path.to_owned()))
    }
}

/// A place in a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    name: Arc<str>,
    line: u32,
}

/// A text in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scalar<'n> {
    text: &'n str,
    line: u32,
}

/// An owned text with its line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct OwnedScalar {
    text: Box<str>,
    line: u32,
}

/// An image that a document uses.
#[derive(Debug)]
struct ImageUse {
    place: Place,
    /// Host and path, without a scheme.
    repository: String,
    version: VersionSpec,
    /// True if separate parts were joined: see [`crate::domain::Naming::Joined`].
    joined: bool,
}

/// The version of an image that a document requests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum VersionSpec {
    /// A version, a range of versions, a tag or a digest, depending on the text.
    Any(String),
    /// A tag, perhaps followed by a digest.
    Tag(String),
    Digest(String),
    /// A range of versions; if filtered, only of the tags that another field admits.
    Range {
        text: String,
        filtered: bool,
    },
    /// Required, but missing.
    Unspecified,
}

/// Facts that are independent of other documents.
#[derive(Debug, Default)]
struct Facts {
    uses: Vec<ImageUse>,
    /// Occurrences of repositories, host and path.
    resolved: Vec<(Place, String)>,
}

impl Facts {
    fn add_use(&mut self, place: Place, repository: impl Into<String>, wanted: VersionSpec) {
        self.uses.push(ImageUse { place, repository: repository.into(), version: wanted, joined: false });
    }

    fn mark_resolved(&mut self, place: Place, repository: impl Into<String>) {
        self.resolved.push((place, repository.into()));
    }

    /// Adds an image in a field that a runtime resolves: without a tag it means `latest`, and is not unresolved.
    fn add_runtime_use(&mut self, name: &Arc<str>, image: Scalar<'_>) {
        if is_placeholder(image.text) {
            return;
        }
        let Ok(reference) = ImageReference::parse_verbatim(image.text) else { return };
        if reference.tag.is_none() && reference.digest.is_none() {
            let repository = reference.to_string();
            self.add_use(Place::new(name, image.line), repository.clone(), VersionSpec::Tag("latest".to_owned()));
            self.mark_resolved(Place::new(name, image.line), repository);
        }
    }
}

impl Forms {
    /// Parses the documents of one text. `name` is the file or address as people know it.
    pub(super) fn read(&mut self, name: &str, documents: &[Node], text: &str) {
        let name: Arc<str> = name.into();
        if dockerfile::is_dockerfile(base(&name)) {
            dockerfile::read(&name, text, &mut self.facts);
            return;
        }
        for document in documents {
            self.read_document(&name, document);
        }
    }

    fn read_document(&mut self, name: &Arc<str>, node: &Node) {
        match &node.value {
            Value::List(nodes) => nodes.iter().for_each(|node| self.read_document(name, node)),
            Value::Map(_) => {
                let items = list(node, "items");
                if items.iter().any(|item| scalar(item, "kind").is_some()) {
                    for item in items {
                        self.read_document(name, item);
                    }
                } else if let Some(kind) = scalar(node, "kind") {
                    self.read_object(name, kind.text, node);
                } else {
                    self.read_file(name, node);
                }
            }
            Value::Null | Value::Literal(_) | Value::Text(_) => {}
        }
    }

    /// Parses an object with a kind.
    fn read_object(&mut self, name: &Arc<str>, kind: &str, node: &Node) {
        let of_flux = scalar(node, "apiVersion").is_some_and(|version| version.text.contains(".fluxcd.io/"));
        match kind {
            "Application" | "ApplicationSet" => {
                let Self { facts, values, kustomize, .. } = self;
                argo_cd::Reader { name, facts, values, kustomize }.read(node);
            }
            "Kustomization" if of_flux => self.kustomize.flux(name, node),
            "Kustomization" | "Component" => self.kustomize.read_file(name, node, &mut self.facts),
            "HelmChartInflationGenerator" => kustomize::chart(name, node, &mut self.facts),
            _ if of_flux => self.flux.read(name, kind, node, &mut self.facts),
            _ => {}
        }
        containers::read(name, node, &mut self.facts, &mut self.kustomize);
    }

    /// Parses a document without a kind, which is recognized by its name or its content.
    fn read_file(&mut self, name: &Arc<str>, node: &Node) {
        let base = base(name).to_ascii_lowercase();
        if matches!(base.as_str(), "kustomization.yaml" | "kustomization.yml" | "kustomization") {
            self.kustomize.read_file(name, node, &mut self.facts);
        } else if !compose::read(name, node, &mut self.facts) && !self.charts.read(name, node, &mut self.facts) {
            self.values.read_file(name, node);
        }
    }

    /// Joins the facts. `open` are the repositories without a tag in mappings of the source.
    pub(super) fn finish(
        self,
        open: Vec<TaglessRepository>,
        hosts: &KnownHosts,
        ranges: RangeSelection,
    ) -> FormEvidence {
        let Self { mut facts, charts, values, kustomize, flux } = self;
        kustomize.join(&mut facts);
        flux.join(&mut facts);
        let mut collector = ClaimCollector::new(hosts, ranges);
        let mappings = values.join(&mut collector);
        for ImageUse { place, repository, version: wanted, joined } in &facts.uses {
            collector.add_use(place, repository, wanted, *joined);
        }
        for (place, repository) in &facts.resolved {
            collector.mark_resolved(place, repository);
        }
        for one in open {
            let mapping = mappings.get(&(one.name.as_str(), one.line));
            let versions = charts.app_versions(&one.name, mapping.map_or("", |mapping| mapping.keys));
            if versions.is_empty() && !mapping.is_some_and(|mapping| mapping.has_tags) {
                collector.add_tagless(&one);
            }
            collector.add_app_versions(&one, &versions);
        }
        collector.finish()
    }
}

impl Place {
    fn new(name: &Arc<str>, line: u32) -> Self {
        Self { name: Arc::clone(name), line }
    }
}

impl Scalar<'_> {
    fn to_owned_scalar(self) -> OwnedScalar {
        OwnedScalar { text: self.text.into(), line: self.line }
    }
}

/// Returns the text of a scalar, without the white space around it; `None` if it is empty.
fn text(node: &Node) -> Option<Scalar<'_>> {
    let text = match &node.value {
        Value::Text(text) | Value::Literal(text) => text.trim(),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    };
    (!text.is_empty()).then_some(Scalar { text, line: node.line })
}

/// Returns the text under a key.
fn scalar<'n>(node: &'n Node, key: &str) -> Option<Scalar<'n>> {
    node.get(key).and_then(text)
}

/// Returns the value at a path of keys.
fn value_at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

/// Returns the list under a key; empty if there is none.
fn list<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    match node.get(key).map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    }
}

/// Returns the part of an OCI address after its scheme; `None` for another scheme.
fn without_scheme(address: &str) -> Option<&str> {
    let rest = match address.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("oci") => rest,
        Some(_) => return None,
        None => address,
    };
    Some(rest.trim_end_matches('/'))
}

/// Returns the last segment of a name.
fn base(name: &str) -> &str {
    let name = file_of(name);
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Returns the folder of a file, in the form of [`resolve`].
fn folder(name: &str) -> String {
    resolve("", name.rsplit_once('/').map_or("", |(folder, _)| folder))
}

/// Resolves a path relative to a folder, without `.` and, as far as possible, `..`.
fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
