//! Argo CD: charts and OCI artifacts that applications deploy, and the images that they override.
//!
//! <https://argo-cd.readthedocs.io/en/stable/user-guide/oci/>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::document::{Node, Value};
use super::kustomize::Kustomize;
use super::values::{Layer, Values};
use super::{Facts, ImageUse, Place, Scalar, VersionSpec, list, scalar, text, value_at, without_scheme};

/// Parses Argo CD documents.
pub(super) struct Reader<'f> {
    pub(super) name: &'f Arc<str>,
    pub(super) facts: &'f mut Facts,
    pub(super) values: &'f mut Values,
    pub(super) kustomize: &'f mut Kustomize,
}

/// The values of one element of an `ApplicationSet`'s generators.
type Element = BTreeMap<String, BTreeSet<String>>;

/// Most elements of generators that are expanded; larger combinations stay unresolved.
const MOST_ELEMENTS: usize = 10_000;

/// Most texts that one template expands to, if elements are combined.
const MOST_TEXTS: usize = 256;

impl Reader<'_> {
    /// Parses an Application or an `ApplicationSet`.
    pub(super) fn read(&mut self, node: &Node) {
        let template = value_at(node, &["spec", "template", "spec"]);
        let Some(spec) = template.or_else(|| node.get("spec")) else { return };
        let mut elements = Vec::new();
        if let Some(generators) = value_at(node, &["spec", "generators"]).filter(|_| template.is_some()) {
            collect_elements(generators, &mut elements);
        }
        let sources: Vec<&Node> = spec.get("source").into_iter().chain(list(spec, "sources")).collect();
        for (number, source) in sources.iter().enumerate() {
            self.source(source, &elements);
            self.overrides(source, number);
        }
        self.status(node, &sources);
    }

    fn source(&mut self, source: &Node, elements: &[Element]) {
        let Some(address) = scalar(source, "repoURL") else { return };
        let (chart, revision) = (scalar(source, "chart"), scalar(source, "targetRevision"));
        let place = Place::new(self.name, revision.unwrap_or(address).line);
        let written = [Some(address), chart, revision].map(|part| part.map(|part| part.text.to_owned()));
        for ([address, chart, revision], joined) in expand_parts(written, elements) {
            let Some((repository, wanted)) = artifact(address.as_deref(), chart.as_deref(), revision) else { continue };
            self.facts.uses.push(ImageUse { place: place.clone(), repository, version: wanted, joined });
        }
        let settled = without_scheme(address.text).unwrap_or_default();
        self.facts.mark_resolved(Place::new(self.name, address.line), settled);
    }

    /// Adds the values and images with which an application overrides its source's own.
    fn overrides(&mut self, source: &Node, number: usize) {
        if let Some(images) = value_at(source, &["kustomize", "images"]).map(|images| &images.value) {
            let path = scalar(source, "path").map_or("", |path| path.text);
            if let Value::List(images) = images {
                self.kustomize.argo_cd(self.name, path, images);
            }
        }
        let Some(helm) = source.get("helm") else { return };
        let group = format!("{}:{}:{number}", self.name, source.line).into();
        let layer = Layer { name: Arc::clone(self.name), group, is_exclusive: true };
        if let Some(values) = scalar(helm, "values") {
            self.values.read_text(&layer, values);
        }
        if let Some(values) = helm.get("valuesObject") {
            self.values.read_node(&Layer { is_exclusive: false, ..layer.clone() }, values);
        }
        for parameter in list(helm, "parameters") {
            if let (Some(path), Some(value)) = (scalar(parameter, "name"), scalar(parameter, "value")) {
                self.values.set(&layer, path.text, value);
            }
        }
    }

    /// Adds the resolved revisions of the sources: the current ones, and those of earlier deployments that a rollback
    /// would restore.
    fn status(&mut self, node: &Node, sources: &[&Node]) {
        let Some(status) = node.get("status") else { return };
        let sync = status.get("sync");
        let last = value_at(status, &["operationState", "syncResult"]);
        for deployed in sync.into_iter().chain(last).chain(list(status, "history")) {
            let own: Vec<&Node> = deployed.get("source").into_iter().chain(list(deployed, "sources")).collect();
            let of = if own.is_empty() { sources } else { own.as_slice() };
            let revisions = deployed.get("revision").into_iter().chain(list(deployed, "revisions")).filter_map(text);
            // A single revision without a list belongs to the only source.
            let revisions: Vec<Scalar<'_>> = revisions.collect();
            let listed = revisions.len().saturating_sub(of.len());
            for (source, revision) in of.iter().zip(&revisions[listed..]) {
                let part = |key| scalar(source, key).map(|part| part.text);
                let found = artifact(part("repoURL"), part("chart"), Some(revision.text.to_owned()));
                if let Some((repository, wanted)) = found {
                    self.facts.add_use(Place::new(self.name, revision.line), repository, wanted);
                }
            }
        }
    }
}

/// Returns the repository in a registry that a source names, and its version; `None` for Git and for charts at web
/// addresses.
fn artifact(address: Option<&str>, chart: Option<&str>, revision: Option<String>) -> Option<(String, VersionSpec)> {
    let address = address?;
    let registry = without_scheme(address)?;
    match chart {
        Some(chart) => Some((format!("{registry}/{chart}"), VersionSpec::Any(revision.unwrap_or_default()))),
        // Without a scheme it is Git.
        None if address.contains("://") => {
            Some((registry.to_owned(), revision.map_or(VersionSpec::Unspecified, VersionSpec::Any)))
        }
        None => None,
    }
}

/// Collects the elements of generators: each map in a list of them, and the parameters of a generator.
fn collect_elements(node: &Node, elements: &mut Vec<Element>) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| collect_elements(node, elements)),
        Value::Map(entries) => {
            for (_, key, value) in entries {
                match &value.value {
                    Value::List(maps) if key == "elements" => {
                        for map in maps.iter().take(MOST_ELEMENTS.saturating_sub(elements.len())) {
                            let mut element = Element::new();
                            collect_values(map, &mut element);
                            elements.push(element);
                        }
                    }
                    Value::Map(_) if key == "values" => {
                        let mut element = Element::new();
                        collect_values(value, &mut element);
                        elements.push(element);
                    }
                    _ => collect_elements(value, elements),
                }
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}

/// Collects the texts in a map, by the last of the keys that lead to them.
fn collect_values(node: &Node, element: &mut Element) {
    let Value::Map(entries) = &node.value else { return };
    for (_, key, value) in entries {
        if let Some(text) = text(value) {
            element.entry(key.clone()).or_default().insert(text.text.to_owned());
        }
        collect_values(value, element);
    }
}

/// Address, chart and revision.
type Parts = [Option<String>; 3];

/// Returns the parts of a source with placeholders replaced by the values of elements, and true if values of several
/// elements are combined. Placeholders without a value are unchanged.
fn expand_parts(written: Parts, elements: &[Element]) -> Vec<(Parts, bool)> {
    let is_open = |parts: &Parts| parts.iter().flatten().any(|part| part.contains("{{"));
    if !is_open(&written) || elements.is_empty() {
        return vec![(written, false)];
    }
    let by_element = elements.iter().flat_map(|element| fill(&written, element));
    let mut found: Vec<(Parts, bool)> =
        by_element.filter(|parts| !is_open(parts)).map(|parts| (parts, false)).collect();
    if found.is_empty() {
        // A matrix combines elements of several lists.
        let mut all = Element::new();
        for (key, values) in elements.iter().flatten() {
            all.entry(key.clone()).or_default().extend(values.iter().cloned());
        }
        found = fill(&written, &all).into_iter().map(|parts| (parts, true)).collect();
    }
    found
}

/// Returns every way in which the values of an element fill the parts.
fn fill(written: &Parts, element: &Element) -> Vec<Parts> {
    let mut found = vec![written.clone()];
    // Each round fills in one placeholder.
    loop {
        let open = found.iter().enumerate().find_map(|(at, parts)| {
            let mut texts = parts.iter().flatten();
            texts
                .find_map(|text| element_key(text, element))
                .map(|(placeholder, key)| (at, placeholder.to_owned(), key))
        });
        let Some((at, placeholder, key)) = open else { return found };
        let parts = found.swap_remove(at);
        for value in element.get(key).into_iter().flatten() {
            let filled = parts.clone().map(|part| part.map(|part| part.replace(&placeholder, value)));
            found.push(filled);
        }
        if found.len() > MOST_TEXTS {
            return vec![written.clone()];
        }
    }
}

/// Returns the first placeholder of a text that an element fills, and the key of its value.
fn element_key<'e, 't>(text: &'t str, element: &'e Element) -> Option<(&'t str, &'e String)> {
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let length = rest[start..].find("}}")? + 2;
        let placeholder = &rest[start..start + length];
        let path = placeholder.trim_matches(['{', '}', ' ', '-']);
        let last = path.rsplit('.').next().unwrap_or(path);
        // A value that contains the placeholder itself would be expanded forever.
        if let Some((key, values)) = element.get_key_value(last)
            && !values.iter().any(|value| value.contains("{{"))
        {
            return Some((placeholder, key));
        }
        rest = &rest[start + length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_in, claims_of};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn application(source: &str) -> String {
        let source = source.replace("; ", "\n    ").replace('#', DIGEST);
        format!("apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source:\n    {source}\n")
    }

    #[test]
    fn charts_and_artifacts_are_claimed() {
        for (source, expected) in [
            (
                "repoURL: contoso.azurecr.io/charts; chart: api; targetRevision: 1.2.3+build.5",
                "7 charts/api:1.2.3_build.5",
            ),
            ("repoURL: oci://contoso.azurecr.io/charts; chart: api; targetRevision: 1.2.3", "7 charts/api:1.2.3"),
            ("repoURL: contoso.azurecr.io/charts; chart: api; targetRevision: ~1.2", "7 charts/api in ~1.2"),
            ("repoURL: contoso.azurecr.io/charts; chart: api", "5 charts/api in *"),
            (
                "repoURL: oci://contoso.azurecr.io/shop/config; targetRevision: v1; path: .",
                "6 shop/config in v1\n6 shop/config:v1 (joined)",
            ),
            (
                "repoURL: oci://contoso.azurecr.io/shop/config; targetRevision: 1.x",
                "6 shop/config in 1.x\n6 shop/config:1.x (joined)",
            ),
            ("repoURL: oci://contoso.azurecr.io/shop/config; targetRevision: #", "6 shop/config@#"),
            ("repoURL: oci://contoso.azurecr.io/shop/config; path: .", "5 open shop/config"),
            ("repoURL: contoso.azurecr.io/charts; chart: api; targetRevision: \"{{version}}\"", "7 open charts/api"),
            ("repoURL: contoso.azurecr.io/charts; chart: \"{{chart}}\"; targetRevision: 1.0.0", "7 open charts/*"),
            ("repoURL: https://charts.example; chart: api; targetRevision: 1.2.3", ""),
            ("repoURL: https://github.com/contoso/shop; path: deploy; targetRevision: v1", ""),
            ("repoURL: git@github.com:contoso/shop; path: deploy; targetRevision: v1", ""),
        ] {
            assert_eq!(claims_in("app.yaml", &application(source)), expected.replace('#', DIGEST), "{source}");
        }
    }

    #[test]
    fn sources_and_revisions_of_the_status_are_claimed() {
        let text = "kind: Application\nspec:\n  sources:\n  - repoURL: contoso.azurecr.io/charts\n    chart: api\n    \
                    targetRevision: 1.x\n  - repoURL: https://github.com/contoso/shop\n    targetRevision: main\nstatus:\n  \
                    sync: { revisions: [\n    1.4.2,\n    abc ] }\n  history:\n  - revisions: [\n      1.4.1, abc ]\n    \
                    sources:\n    - { repoURL: contoso.azurecr.io/charts, chart: api }\n    - { repoURL: \
                    https://github.com/contoso/shop }\n";
        assert_eq!(
            claims_in("app.yaml", text),
            "11 charts/api:1.4.2\n15 charts/api:1.4.1\n6 charts/api in 1.x\n6 charts/api:1.x (joined)"
        );
    }

    #[test]
    fn elements_of_generators_fill_templates() {
        let set = |generators: &str, source: &str| {
            format!(
                "kind: ApplicationSet\nspec:\n  generators:\n{generators}  template:\n    spec:\n      source: {{ {source} }}\n"
            )
        };
        let list = "  - list:\n      elements:\n      - { chart: api, version: 1.0.0 }\n      - { chart: web, version: 2.0.0 }\n";
        let matrix = "  - matrix:\n      generators:\n      - list: { elements: [{ chart: api }, { chart: web }] }\n      \
                      - list: { elements: [{ version: 1.0.0 }] }\n";
        let git = "  - git: { repoURL: \"https://github.com/contoso/shop\", files: [{ path: \"**/config.json\" }] }\n";
        let source = "repoURL: contoso.azurecr.io/charts, chart: \"{{chart}}\", targetRevision: \"{{ .version }}\"";
        for (generators, line, expected) in [
            (list, 10, "charts/api:1.0.0 charts/web:2.0.0"),
            (matrix, 10, "charts/api:1.0.0 (joined) charts/web:1.0.0 (joined)"),
            (git, 7, "open charts/*"),
        ] {
            let found = claims_in("set.yaml", &set(generators, source));
            let line = format!("{line} ");
            let found: Vec<&str> = found.split('\n').map(|one| one.strip_prefix(&line).unwrap_or(one)).collect();
            assert_eq!(found.join(" "), expected, "{generators}");
        }
    }

    #[test]
    fn values_and_images_of_an_application_are_joined() {
        let helm = |rest: &str| application(&format!("repoURL: https://github.com/contoso/shop; helm:;   {rest}"));
        let text = helm("values: |;     image:;       repository: contoso.azurecr.io/shop/api;       tag: v1");
        assert_eq!(claims_in("app.yaml", &text), "10 shop/api:v1");
        let text = helm(
            "parameters:;   - { name: image.repository, value: contoso.azurecr.io/shop/api };   \
             - { name: image.tag, value: v2 }",
        );
        assert_eq!(claims_in("app.yaml", &text), "9 shop/api:v2 (joined)");
        let app = application(
            "repoURL: https://github.com/contoso/shop; path: overlays/prod; kustomize:;   images: [api:v3]",
        );
        let base = "images: [{ name: api, newName: contoso.azurecr.io/shop/api }]\n";
        let overlay = "resources: [../../base]\n";
        assert_eq!(
            claims_of(&[
                ("app.yaml", app.as_str()),
                ("base/kustomization.yaml", base),
                ("overlays/prod/kustomization.yaml", overlay)
            ]),
            ["app.yaml:8 shop/api:v3 (joined)"]
        );
    }
}
