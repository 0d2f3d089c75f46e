//! Flux: artifacts and charts that a cluster pulls, and tags that its image automation selects.
//!
//! <https://fluxcd.io/flux/components/source/ocirepositories/>, <https://fluxcd.io/flux/components/helm/helmreleases/>,
//! <https://fluxcd.io/flux/components/image/imagepolicies/>.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::document::Node;
use super::{Facts, ImageUse, OwnedScalar, Place, Scalar, VersionSpec, list, scalar, text, value_at, without_scheme};

/// The objects of a source that refer to each other.
#[derive(Debug, Default)]
pub(super) struct Flux {
    /// Repositories of charts, and their addresses.
    helm_repositories: Vec<(ObjectKey, String)>,
    /// OCI repositories, which releases may refer to, and their addresses.
    oci_repositories: Vec<(ObjectKey, String)>,
    charts: Vec<Chart>,
    /// Releases of OCI repositories: the versions that their status reports.
    released: Vec<(ObjectKey, Arc<str>, Vec<OwnedScalar>)>,
    image_repositories: Vec<(ObjectKey, Place, String)>,
    image_policies: Vec<ImagePolicy>,
}

/// The name of an object, and its namespace if one is written: tools often add it later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ObjectKey {
    namespace: Option<String>,
    name: String,
}

/// A chart of a repository with its own object.
#[derive(Debug)]
struct Chart {
    repository: ObjectKey,
    place: Place,
    name: String,
    version: String,
    /// The versions that the object's status reports.
    released: Vec<OwnedScalar>,
}

/// A rule that selects tags.
#[derive(Debug)]
struct ImagePolicy {
    repository: ObjectKey,
    range: Option<(OwnedScalar, bool)>,
    file: Arc<str>,
    /// True if the status reports the selected tag.
    picked: bool,
}

impl Flux {
    /// Parses an object of Flux.
    pub(super) fn read(&mut self, name: &Arc<str>, kind: &str, node: &Node, facts: &mut Facts) {
        let Some(spec) = node.get("spec") else { return };
        // In a template the name may be a placeholder; then nothing refers to the object.
        let own = node.get("metadata").and_then(|metadata| ObjectKey::of(metadata, None)).unwrap_or_default();
        match kind {
            "HelmRepository" => {
                if let Some(url) = scalar(spec, "url").filter(|url| url.text.contains("://")) {
                    let registry = without_scheme(url.text).unwrap_or_default();
                    facts.mark_resolved(Place::new(name, url.line), registry);
                    self.helm_repositories.push((own, registry.to_owned()));
                }
            }
            "OCIRepository" => self.read_oci_repository(name, own, node, spec, facts),
            "HelmRelease" => {
                if let Some(chart) = value_at(spec, &["chart", "spec"]) {
                    self.read_chart(name, &own, chart, released(node));
                }
                let reference = spec.get("chartRef").filter(|one| kind_is(one, "OCIRepository"));
                if let Some(of) = reference.and_then(|one| ObjectKey::of(one, own.namespace.as_deref())) {
                    self.released.push((of, Arc::clone(name), released(node)));
                }
            }
            "HelmChart" => self.read_chart(name, &own, spec, released(node)),
            "ImageRepository" => {
                if let Some(image) = scalar(spec, "image") {
                    self.image_repositories.push((own, Place::new(name, image.line), image.text.to_owned()));
                }
            }
            "ImagePolicy" => self.image_policies.extend(ImagePolicy::read(name, &own, node, spec)),
            _ => {}
        }
    }

    fn read_oci_repository(&mut self, name: &Arc<str>, own: ObjectKey, node: &Node, spec: &Node, facts: &mut Facts) {
        let Some(url) = scalar(spec, "url") else { return };
        let Some(repository) = without_scheme(url.text).filter(|_| url.text.contains("://")) else { return };
        facts.mark_resolved(Place::new(name, url.line), repository);
        let reference = |key| value_at(spec, &["ref", key]).and_then(text);
        let mut wanted: Vec<(u32, VersionSpec)> = Vec::new();
        if let Some(tag) = reference("tag") {
            wanted.push((tag.line, VersionSpec::Tag(tag.text.to_owned())));
        }
        if let Some(range) = reference("semver") {
            let filtered = reference("semverFilter").is_some();
            wanted.push((range.line, VersionSpec::Range { text: range.text.to_owned(), filtered }));
        }
        if let Some(digest) = reference("digest") {
            wanted.push((digest.line, VersionSpec::Digest(digest.text.to_owned())));
        }
        if wanted.is_empty() {
            wanted.push((url.line, VersionSpec::Tag("latest".to_owned())));
        }
        for (line, wanted) in wanted {
            facts.add_use(Place::new(name, line), repository, wanted);
        }
        add_released(name, repository, &released(node), facts);
        self.oci_repositories.push((own, repository.to_owned()));
    }

    /// Parses a reference to a chart of a repository.
    fn read_chart(&mut self, name: &Arc<str>, own: &ObjectKey, spec: &Node, released: Vec<OwnedScalar>) {
        let Some(reference) = spec.get("sourceRef").filter(|one| kind_is(one, "HelmRepository")) else { return };
        let (Some(chart), Some(repository)) =
            (scalar(spec, "chart"), ObjectKey::of(reference, own.namespace.as_deref()))
        else {
            return;
        };
        let version = scalar(spec, "version");
        self.charts.push(Chart {
            repository,
            place: Place::new(name, version.unwrap_or(chart).line),
            name: chart.text.to_owned(),
            version: version.map_or_else(String::new, |version| version.text.to_owned()),
            released,
        });
    }

    /// Adds the facts that need several objects.
    pub(super) fn join(&self, facts: &mut Facts) {
        for Chart { repository, place, name, version, released } in &self.charts {
            let of = self.helm_repositories.iter().filter(|(key, _)| key.matches(repository));
            // Many versions of the same file have the same address.
            let registries: BTreeSet<&String> = of.map(|(_, registry)| registry).collect();
            for registry in registries {
                let repository = format!("{registry}/{name}");
                facts.add_use(place.clone(), repository.clone(), VersionSpec::Any(version.clone()));
                add_released(&place.name, &repository, released, facts);
            }
        }
        for (of, file, released) in &self.released {
            let known = self.oci_repositories.iter().filter(|(key, _)| key.matches(of));
            let repositories: BTreeSet<&String> = known.map(|(_, repository)| repository).collect();
            for repository in repositories {
                add_released(file, repository, released, facts);
            }
        }
        for policy in &self.image_policies {
            for (_, place, image) in self.image_repositories.iter().filter(|(key, ..)| key.matches(&policy.repository))
            {
                if let Some((range, filtered)) = &policy.range {
                    let wanted = VersionSpec::Range { text: range.text.to_string(), filtered: *filtered };
                    facts.add_use(Place::new(&policy.file, range.line), image.clone(), wanted);
                }
                // Without a range, only the status shows which tag is selected.
                if policy.range.is_some() || policy.picked {
                    facts.mark_resolved(place.clone(), image.clone());
                }
            }
        }
    }
}

impl ObjectKey {
    /// Returns the object that a reference or the metadata of an object names.
    fn of(node: &Node, namespace: Option<&str>) -> Option<Self> {
        let written = scalar(node, "namespace").map(|namespace| namespace.text);
        let name = scalar(node, "name")?.text.to_owned();
        Some(Self { namespace: written.or(namespace).map(str::to_owned), name })
    }

    fn matches(&self, other: &Self) -> bool {
        let anywhere = self.namespace.is_none() || other.namespace.is_none();
        self.name == other.name && (anywhere || self.namespace == other.namespace)
    }
}

impl ImagePolicy {
    fn read(name: &Arc<str>, own: &ObjectKey, node: &Node, spec: &Node) -> Option<Self> {
        let repository = ObjectKey::of(spec.get("imageRepositoryRef")?, own.namespace.as_deref())?;
        let range = value_at(spec, &["policy", "semver", "range"]).and_then(text).map(Scalar::to_owned_scalar);
        // The version extracted from a tag differs from the tag.
        let extracts = value_at(spec, &["filterTags", "extract"]).and_then(text).is_some();
        let filtered = value_at(spec, &["filterTags", "pattern"]).and_then(text).is_some();
        let range = range.filter(|_| !extracts).map(|range| (range, filtered));
        let picked = ["latestImage", "latestRef"].into_iter().any(|key| value_at(node, &["status", key]).is_some());
        Some(Self { repository, range, file: Arc::clone(name), picked })
    }
}

fn kind_is(reference: &Node, kind: &str) -> bool {
    scalar(reference, "kind").is_none_or(|written| written.text == kind)
}

/// Returns the versions that the status of an object reports: those in use, and those that a rollback would restore.
fn released(node: &Node) -> Vec<OwnedScalar> {
    let Some(status) = node.get("status") else { return Vec::new() };
    let revision = value_at(status, &["artifact", "revision"]).and_then(text);
    let applied = ["lastAppliedRevision", "lastAttemptedRevision"].into_iter().filter_map(|key| scalar(status, key));
    let history = list(status, "history").iter();
    let history = history.flat_map(|one| [scalar(one, "chartVersion"), scalar(one, "ociDigest")]).flatten();
    revision.into_iter().chain(applied).chain(history).map(Scalar::to_owned_scalar).collect()
}

/// Adds the versions that a status reports.
fn add_released(file: &Arc<str>, repository: &str, released: &[OwnedScalar], facts: &mut Facts) {
    for part in released {
        parse_revision(&part.text, |wanted, joined| {
            let (place, repository) = (Place::new(file, part.line), repository.to_owned());
            facts.uses.push(ImageUse { place, repository, version: wanted, joined });
        });
    }
}

/// Calls `add` for each image that a revision may mean: `v1@sha256:…`, in old versions of Flux `v1/…`, or the version
/// of a chart, to which Flux adds the beginning of a digest after `+`.
fn parse_revision(revision: &str, mut add: impl FnMut(VersionSpec, bool)) {
    if let Some((tag, hex)) = revision.rsplit_once('/') {
        add(VersionSpec::Tag(tag.to_owned()), false);
        add(VersionSpec::Digest(format!("sha256:{hex}")), false);
    } else if let Some((tag, digest)) = revision.split_once('@') {
        // Separately, so that a tag that moved since is not reported as drift.
        if !tag.is_empty() {
            add(VersionSpec::Tag(tag.to_owned()), false);
        }
        add(VersionSpec::Digest(digest.to_owned()), false);
    } else {
        let shortened = revision.split_once('+').filter(|(_, digest)| digest.len() == 12);
        add(VersionSpec::Any(revision.to_owned()), shortened.is_some());
        if let Some((version, _)) = shortened {
            add(VersionSpec::Tag(version.to_owned()), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims_in, claims_of};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn object(kind: &str, name: &str, rest: &str) -> String {
        let rest = rest.replace("; ", "\n  ").replace('#', DIGEST);
        let group = if kind.starts_with("Image") { "image" } else { "source" };
        format!(
            "---\napiVersion: {group}.toolkit.fluxcd.io/v1\nkind: {kind}\nmetadata: {{ name: {name}, namespace: flux }}\n{rest}\n"
        )
    }

    #[test]
    fn what_an_oci_repository_pulls_is_claimed() {
        let url = "spec:; url: oci://contoso.azurecr.io/charts/api";
        for (rest, expected) in [
            ("; ref: { tag: 1.2.3_build.5 }", "7 charts/api:1.2.3_build.5"),
            ("; ref: { tag: 1.2.3+build.5 }", "7 charts/api:1.2.3_build.5"),
            ("; ref: { semver: ~1.2 }", "7 charts/api in ~1.2"),
            ("; ref: { semver: 1.x }", "7 charts/api in 1.x"),
            ("; ref: { semver: 1.x, semverFilter: \".*-alpine\" }", "7 charts/api in 1.x (all)"),
            ("; ref: { semver: newest }", "7 open charts/api"),
            ("; ref: { digest: \"#\" }", "7 charts/api@#"),
            ("; ref: { tag: v1, digest: \"#\" }", "7 charts/api:v1\n7 charts/api@#"),
            ("; ref: { tag: \"${TAG}\" }", "7 open charts/api"),
            ("", "6 charts/api:latest"),
            (
                "; ref: { semver: 1.x }\nstatus:; artifact: { revision: \"1.4.2@#\" }",
                "7 charts/api in 1.x\n9 charts/api:1.4.2\n9 charts/api@#",
            ),
        ] {
            let found = claims_in("oci.yaml", &object("OCIRepository", "api", &format!("{url}{rest}")));
            let mut expected: Vec<String> = expected.split('\n').map(|line| line.replace('#', DIGEST)).collect();
            expected.sort();
            let mut found: Vec<&str> = found.split('\n').collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{rest}");
        }
    }

    #[test]
    fn releases_are_joined_with_their_repositories() {
        let repository = object("HelmRepository", "shop", "spec: { type: oci, url: oci://contoso.azurecr.io/charts }");
        let other = object("HelmRepository", "other", "spec: { url: https://charts.example }");
        let release = |name: &str, namespace: &str, version: &str| {
            object(
                "HelmRelease",
                "api",
                &format!(
                    "spec: {{ chart: {{ spec: {{ chart: api, sourceRef: {{ kind: HelmRepository, name: {name}{namespace} }},; \
                     {version} }} }} }}"
                ),
            )
        };
        for (name, namespace, version, expected) in [
            ("shop", "", "version: 1.2.3", "charts/api:1.2.3"),
            ("shop", ", namespace: flux", "version: ^1", "charts/api in ^1"),
            ("shop", "", "interval: 1m", "charts/api in *"),
            ("shop", ", namespace: elsewhere", "version: 1.2.3", ""),
            ("other", "", "version: 1.2.3", ""),
        ] {
            let release = release(name, namespace, version);
            let repositories = format!("{repository}{other}");
            let found = claims_of(&[("repositories.yaml", repositories.as_str()), ("release.yaml", release.as_str())]);
            let found: Vec<&str> = found.iter().filter_map(|line| line.split_once(' ')).map(|(_, what)| what).collect();
            assert_eq!(found.join(" "), expected, "{name}{namespace} {version}");
        }
    }

    #[test]
    fn a_status_tells_what_a_rollback_goes_back_to() {
        let oci =
            object("OCIRepository", "api", "spec: { url: oci://contoso.azurecr.io/charts/api, ref: { tag: 2.0.0 } }");
        let release = object(
            "HelmRelease",
            "api",
            "spec: { chartRef: { kind: OCIRepository, name: api } }\nstatus:; history:; - { chartVersion: \
             1.9.0+8d3a9b1d3c1b }; - { chartVersion: 1.8.0, ociDigest: \"#\" }",
        );
        let text = format!("{oci}{release}");
        let found = claims_of(&[("flux.yaml", text.as_str())]);
        let mut found: Vec<&str> = found.iter().filter_map(|line| line.split_once(' ')).map(|(_, what)| what).collect();
        let digest = format!("charts/api@{DIGEST}");
        let mut expected = [
            "charts/api:1.9.0",
            "charts/api:1.9.0_8d3a9b1d3c1b (joined)",
            "charts/api:1.8.0",
            "charts/api:2.0.0",
            digest.as_str(),
        ];
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_policy_claims_what_it_would_pick() {
        let repository = object("ImageRepository", "api", "spec: { image: contoso.azurecr.io/shop/api }");
        for (rest, expected) in [
            ("policy: { semver: { range: 1.x } }", "shop/api in 1.x"),
            ("policy: { semver: { range: 1.x } },; filterTags: { pattern: \"^[0-9.]+$\" }", "shop/api in 1.x (all)"),
            ("policy: { semver: { range: 1.x } },; filterTags: { pattern: \"^v(?P<v>.*)-x$\", extract: \"$v\" }", ""),
            ("policy: { alphabetical: { order: asc } }", ""),
        ] {
            let policy =
                object("ImagePolicy", "api", &format!("spec: {{ imageRepositoryRef: {{ name: api }},; {rest} }}"));
            let found = claims_of(&[("policy.yaml", policy.as_str()), ("repository.yaml", repository.as_str())]);
            let found: Vec<&str> = found.iter().filter_map(|line| line.split_once(' ')).map(|(_, what)| what).collect();
            assert_eq!(found.join(" "), expected, "{rest}");
        }
    }
}
