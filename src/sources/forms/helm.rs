//! Helm charts: their dependencies in registries, and the application version that applies for an empty tag.
//!
//! <https://helm.sh/docs/topics/charts/#the-chartyaml-file>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::document::Node;
use super::super::known_hosts::is_placeholder;
use super::{Facts, Place, VersionSpec, base, folder, list, resolve, scalar, without_scheme};

/// The charts of a source.
#[derive(Debug, Default)]
pub(super) struct Charts {
    /// The `appVersion` of the chart in each folder; empty if it has none or if it is a placeholder.
    app_versions: BTreeMap<String, BTreeSet<String>>,
    dependencies: Vec<Dependency>,
}

/// A dependency of a chart.
#[derive(Debug)]
struct Dependency {
    /// The folder of the other chart.
    folder: String,
    /// The key of its values there.
    key: String,
    /// Its own folder, if its address is local.
    local: Option<String>,
}

impl Charts {
    /// Parses a document that may be a chart, or the list of a chart's dependencies. Returns false if it is neither.
    pub(super) fn read(&mut self, name: &Arc<str>, node: &Node, facts: &mut Facts) -> bool {
        let here = folder(name);
        let mut is_chart = false;
        for dependency in list(node, "dependencies") {
            let (address, version) = (scalar(dependency, "repository"), scalar(dependency, "version"));
            let Some(chart) = scalar(dependency, "name").filter(|_| address.is_some() || version.is_some()) else {
                continue;
            };
            is_chart = true;
            let key = scalar(dependency, "alias").unwrap_or(chart).text.to_owned();
            let local = address.and_then(|address| address.text.strip_prefix("file://"));
            let local = local.map(|path| resolve(&here, path));
            self.dependencies.push(Dependency { folder: here.clone(), key, local });
            let Some((address, registry)) = address.and_then(|address| Some((address, registry(address.text)?))) else {
                continue;
            };
            let place = Place::new(name, version.unwrap_or(address).line);
            let wanted = VersionSpec::Any(version.map_or_else(String::new, |version| version.text.to_owned()));
            facts.add_use(place, format!("{registry}/{}", chart.text), wanted);
            facts.mark_resolved(Place::new(name, address.line), registry);
        }
        let named = matches!(base(name).to_ascii_lowercase().as_str(), "chart.yaml" | "chart.yml");
        let versioned = scalar(node, "apiVersion").is_some_and(|version| matches!(version.text, "v1" | "v2"));
        if named || versioned && scalar(node, "name").is_some() && scalar(node, "version").is_some() {
            is_chart = true;
            let versions = self.app_versions.entry(here).or_default();
            let version = scalar(node, "appVersion").filter(|version| !is_placeholder(version.text));
            versions.extend(version.map(|version| version.text.to_owned()));
        }
        is_chart
    }

    /// Returns the versions that apply for an empty tag under those keys of a values file: those of the chart in the
    /// same folder, or the nearest above it. Values under the name of a dependency belong to that chart.
    pub(super) fn app_versions(&self, file: &str, keys: &str) -> Vec<&str> {
        let values = folder(file);
        let mut above = std::iter::successors(Some(values.as_str()), |folder| {
            folder.rsplit_once('/').map(|(above, _)| above).or((!folder.is_empty()).then_some(""))
        });
        let Some((chart, own)) = above.find_map(|folder| self.app_versions.get_key_value(folder)) else {
            return Vec::new();
        };
        let first = keys.split('.').next().filter(|key| !key.is_empty());
        let Some(first) = first else { return own.iter().map(String::as_str).collect() };
        let inner = resolve(chart, &format!("charts/{first}"));
        let named = self.dependencies.iter().filter(|one| one.folder == *chart && one.key == first);
        let mut dependencies = named.peekable();
        if dependencies.peek().is_none() && !self.app_versions.contains_key(&inner) {
            return own.iter().map(String::as_str).collect();
        }
        let folders: BTreeSet<&str> =
            dependencies.filter_map(|one| one.local.as_deref()).chain([inner.as_str()]).collect();
        folders.into_iter().filter_map(|folder| self.app_versions.get(folder)).flatten().map(String::as_str).collect()
    }
}

/// Returns the registry in the address of a chart's repository; only OCI addresses have one.
fn registry(address: &str) -> Option<&str> {
    let filled_in = address.starts_with(['$', '{', '<']);
    (address.contains("://") || filled_in).then(|| without_scheme(address)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_in, claims_of};

    #[test]
    fn dependencies_in_registries_are_claimed() {
        let dependency = |rest: &str| format!("dependencies:\n- name: api\n  {}\n", rest.replace("; ", "\n  "));
        for (rest, expected) in [
            ("version: 1.2.3+build.5; repository: oci://contoso.azurecr.io/charts", "3 charts/api:1.2.3_build.5"),
            ("version: 1.2.3; repository: oci://contoso.azurecr.io/charts/; alias: back", "3 charts/api:1.2.3"),
            ("version: ^1; repository: oci://contoso.azurecr.io/charts", "3 charts/api in ^1"),
            ("repository: oci://contoso.azurecr.io/charts", "3 charts/api in *"),
            ("version: 1.2.3; repository: oci://ghcr.io/charts", ""),
            ("version: 1.2.3; repository: https://contoso.azurecr.io/helm/v1/repo", ""),
            ("version: 1.2.3; repository: \"@contoso\"", ""),
            ("version: 1.2.3; repository: file://../api", ""),
            ("version: 1.2.3; repository: \"oci://{{ registry }}/charts\"", "3 charts/api:1.2.3 (corrected)"),
            ("version: ^1; repository: \"oci://{{ registry }}/charts\"", "3 open */charts/api"),
        ] {
            assert_eq!(claims_in("Chart.yaml", &dependency(rest)), expected, "{rest}");
        }
    }

    #[test]
    fn the_range_and_the_locked_version_both_count() {
        let dependency = |version: &str| {
            format!("dependencies:\n- name: api\n  repository: oci://contoso.azurecr.io/charts\n  version: {version}\n")
        };
        let (chart, lock) = (dependency("~1.2"), dependency("1.2.7"));
        assert_eq!(
            claims_of(&[("Chart.yaml", chart.as_str()), ("Chart.lock", lock.as_str())]),
            ["Chart.lock:4 charts/api:1.2.7", "Chart.yaml:4 charts/api in ~1.2"]
        );
        assert_eq!(claims_of(&[("requirements.yaml", chart.as_str())]), ["requirements.yaml:4 charts/api in ~1.2"]);
    }
}
