//! What the documents tell people to copy works as it stands.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use tagwarden::config::Settings;
use tagwarden::sources::SourceKind;
use tagwarden::{config, policy, registry, sources};

const README: &str = include_str!("../../README.md");
const ACR: &str = include_str!("../../docs/acr.md");
const ARTIFACT_REGISTRY: &str = include_str!("../../docs/artifact-registry.md");
const ARTIFACTORY: &str = include_str!("../../docs/artifactory.md");
const DOCKER_HUB: &str = include_str!("../../docs/docker-hub.md");
const ECR: &str = include_str!("../../docs/ecr.md");
const GHCR: &str = include_str!("../../docs/ghcr.md");
const GITLAB: &str = include_str!("../../docs/gitlab.md");
const HARBOR: &str = include_str!("../../docs/harbor.md");
const NEXUS: &str = include_str!("../../docs/nexus.md");
const QUAY: &str = include_str!("../../docs/quay.md");
const ZOT: &str = include_str!("../../docs/zot.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const REGISTRIES: &str = include_str!("../../docs/registries.md");
const ACR_PULLS: &str = include_str!("../../docs/acr-pulls.md");
const AZURE_WORKLOADS: &str = include_str!("../../docs/azure-workloads.md");
const ADDRESSES: &str = include_str!("../../docs/addresses-and-hosts.md");
const KUBERNETES: &str = include_str!("../../docs/kubernetes.md");
const EVIDENCE: &str = include_str!("../../docs/evidence.md");

/// The code blocks of a document, by the file that the text before them names in backticks first.
pub(crate) fn blocks<'a>(document: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    for (at, _) in document.match_indices(&fence) {
        let text = &document[at + fence.len()..];
        let text = &text[..text.find("```").expect("a block that ends")];
        let before = document[..at].trim_end().rsplit("\n\n").next().unwrap_or_default();
        found.push((before.split('`').nth(1).unwrap_or_default(), text));
    }
    found
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// What all sources of the settings claim.
async fn claimed(settings: &Settings) -> Vec<String> {
    let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
    let hosts = registry::hosts(&settings.registries[0]);
    let mut claimed = Vec::new();
    let files = |kind: &SourceKind| !matches!(kind, SourceKind::Kubernetes(_) | SourceKind::GitHistory(_));
    for source in settings.sources.iter().filter(|source| files(&source.kind)) {
        let answer = sources::source(source, &hosts).query(now).await.unwrap();
        claimed.extend(answer.claims.iter().map(|claim| claim.image.to_string()));
    }
    claimed
}

#[tokio::test]
async fn the_first_plan_of_the_readme_can_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    let files = [blocks(README, "toml"), blocks(README, "yaml"), blocks(README, "json")].concat();
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["tagwarden.toml", "policies/candidates.yaml", "releases/shop.json"]);
    write(folder.path(), &files);

    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let policies = policy::load(&settings.policies).unwrap();
    assert_eq!(policies.policies.len(), 1);
    assert!(config::cross_check(&settings, &policies).is_empty());
    let explained = README.lines().find_map(|line| line.trim().strip_prefix("tagwarden explain ")).unwrap();
    assert_eq!(claimed(&settings).await, [explained]);
}

#[tokio::test]
async fn the_evidence_in_the_documents_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let registry = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://registry.contoso.example\"\n";
    let sources: String = blocks(EVIDENCE, "toml").into_iter().map(|(_, text)| text).collect();
    let files = [
        ("tagwarden.toml", &*format!("{registry}{sources}")),
        ("releases/2026/export.json", blocks(EVIDENCE, "json")[0].1),
        ("deploy/web/values.yaml", blocks(EVIDENCE, "yaml")[0].1),
        ("inventory/running.txt", "registry.contoso.example/shop/api:v7\n"),
        ("charts/api/Chart.yaml", "apiVersion: v2\nname: api\nversion: 1.0.0\n"),
    ];
    write(folder.path(), &files);

    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let seen = claimed(&settings).await;
    let digest = "sha256:13e367d31ae85359f42d637adf6da428f76d75dc9afeb3c21faea0d976f5c651";
    for image in [
        "api:v7",
        "web:v1.2.0",
        &format!("web@{digest}"),
        "api:release-2026.45",
        &format!("api:release-2026.46@{digest}"),
    ] {
        assert!(seen.contains(&format!("registry.contoso.example/shop/{image}")), "{image} is not in {seen:?}");
    }
}

/// The environment of a pod with a federated service account, in a home with a login.
fn environment(folder: &Path) -> Vec<(String, String)> {
    let home = folder.to_str().unwrap();
    let set = [
        ("HOME", home),
        ("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222"),
        ("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111"),
        ("AZURE_FEDERATED_TOKEN_FILE", &format!("{home}/token")),
    ];
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// A line of settings that is commented out, as if it was not.
fn uncommented(line: &str) -> &str {
    let bare = line.strip_prefix("# ").unwrap_or(line);
    if bare.split(' ').next().is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
        bare
    } else {
        line
    }
}

#[test]
fn settings_in_the_documents_load_and_what_is_commented_out_in_them_too() {
    let files = [
        (".docker/config.json", "{}"),
        ("token", "t"),
        ("github-token", "t"),
        ("registry-password", "p"),
        ("secret", "s"),
        ("company-ca.pem", "-----BEGIN CERTIFICATE-----"),
    ];
    let mut seen = 0;
    for document in [
        ACR,
        ARTIFACT_REGISTRY,
        ARTIFACTORY,
        DOCKER_HUB,
        ECR,
        GHCR,
        GITLAB,
        HARBOR,
        NEXUS,
        QUAY,
        ZOT,
        SETTINGS,
        REGISTRIES,
    ] {
        for (_, text) in blocks(document, "toml") {
            let whole: String = text.lines().flat_map(|line| [uncommented(line), "\n"]).collect();
            for text in [text, &whole] {
                let folder = tempfile::tempdir().unwrap();
                write(folder.path(), &files);
                write(folder.path(), &[("tagwarden.toml", text)]);
                let loaded = config::load(&folder.path().join("tagwarden.toml"), environment(folder.path()));
                assert!(loaded.is_ok(), "{:?}\n{text}", loaded.err().map(|error| error.diagnostics));
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn every_way_to_sign_in_of_the_documents_loads() {
    let inline = |text: &str| text.starts_with("{ kind = ") && text.ends_with('}');
    let ways: Vec<String> = ACR
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|text| inline(text))
        .map(|text| {
            text.replace("_file = \"…\"", "_file = \"secret\"").replace('…', "33333333-3333-3333-3333-333333333333")
        })
        .collect();
    assert_eq!(ways.len(), 6, "{ways:?}");
    for way in ways {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("secret", "s"), (".docker/config.json", "{}"), ("token", "t")]);
        let text =
            format!("[registries.contoso]\nkind = \"acr\"\nendpoint = \"https://contoso.azurecr.io\"\nauth = {way}\n");
        write(folder.path(), &[("tagwarden.toml", &text)]);
        let loaded = config::load(&folder.path().join("tagwarden.toml"), environment(folder.path()));
        assert!(loaded.is_ok(), "{way}: {:?}", loaded.err().map(|error| error.diagnostics));
    }
}

#[test]
fn the_sources_in_the_documents_can_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let registry = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://registry.contoso.example\"\n";
    let written: String =
        [AZURE_WORKLOADS, ADDRESSES].iter().flat_map(|page| blocks(page, "toml")).map(|(_, text)| text).collect();
    let files = [("tagwarden.toml", &*format!("{registry}{written}")), ("cmdb-authorization", "Bearer x\n")];
    write(folder.path(), &files);
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let mut kinds: Vec<&str> = settings.sources.iter().map(|source| source.kind.label()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["app-service", "container-apps", "container-instances", "docker", "references-http"]);

    let registry = "[registries.contoso]\nkind = \"acr\"\nendpoint = \"https://contoso.azurecr.io\"\n";
    let pulls: String = blocks(ACR_PULLS, "toml").into_iter().map(|(_, text)| text).collect();
    write(folder.path(), &[("tagwarden.toml", &*format!("{registry}{pulls}"))]);
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    assert_eq!(settings.sources[0].kind.label(), "acr-pulls");
}

#[test]
fn the_role_for_workloads_reads_and_nothing_else() {
    let (_, role) = blocks(AZURE_WORKLOADS, "json")[0];
    let role: serde_json::Value = serde_json::from_str(role).unwrap();
    let actions = role["Actions"].as_array().unwrap();
    assert!(actions.len() > 10 && actions.iter().all(|action| action.as_str().unwrap().ends_with("/read")), "{role}");
    let (_, role) = blocks(ACR_PULLS, "json")[0];
    let role: serde_json::Value = serde_json::from_str(role).unwrap();
    let actions = role["Actions"].as_array().unwrap();
    assert!(actions.len() == 5 && actions.iter().all(|action| action.as_str().unwrap().ends_with("/read")), "{role}");
}

#[test]
fn the_clusters_in_the_documents_are_understood() {
    let registry = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://registry.contoso.example\"\n";
    let sources: String = blocks(KUBERNETES, "toml").into_iter().map(|(_, text)| text).collect();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("tagwarden.toml", &*format!("{registry}{sources}"))]);
    let settings = config::load(&folder.path().join("tagwarden.toml"), []).unwrap();
    let clusters = settings.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::Kubernetes(cluster) => Some((cluster.cluster.as_str(), cluster.custom.len())),
        _ => None,
    });
    assert_eq!(
        clusters.collect::<Vec<_>>(),
        [("aks-build", 0), ("aks-platform", 0), ("aks-prod", 0), ("aks-shop", 4), ("cluster", 0)]
    );
}

#[test]
fn what_was_said_to_another_purge_can_be_said_here() {
    let policies = blocks(ACR, "yaml");
    assert_eq!(policies.len(), 3);
    for (named, text) in policies {
        let read = policy::parse(named, text);
        assert!(read.is_ok(), "{named}: {read:?}\n{text}");
    }
    // What is written inside the table's cells stands for itself as well.
    for inline in [
        r#"select: { repositories: ["shop/api"], pattern: 'dev-.*' }"#,
        r#"select: { tags: ["*"] }"#,
        "keep: [{ within: 7d }]",
        "keep: [{ newest: 3 }, { within: 7d }]",
        "keep: [{ newest: 10 }]",
    ] {
        assert!(ACR.contains(&format!("`{inline}`")), "{inline} is not in the page");
        let rest = if inline.starts_with("select") { "keep: none" } else { r#"select: { tags: ["*"] }"# };
        let policy = format!("policies:\n  - name: inline\n    {inline}\n    {rest}\n");
        assert!(policy::parse("inline.yaml", &policy).is_ok(), "{policy}");
    }
}

/// The flags of `acr purge` as of its latest source; each has a row.
#[test]
fn no_flag_of_another_purge_is_passed_over() {
    let table: Vec<&str> = ACR.lines().filter(|line| line.starts_with("| ")).collect();
    for flag in [
        "ago",
        "concurrency",
        "config",
        "dry-run",
        "filter",
        "filter-timeout-seconds",
        "include-locked",
        "keep",
        "max-tags",
        "max-untagged-manifests",
        "min-tags",
        "min-untagged-manifests",
        "password",
        "registry",
        "repository-page-size",
        "untagged",
        "untagged-only",
        "username",
        "verbose",
    ] {
        let ends = [format!("`--{flag}`"), format!("`--{flag} ")];
        let first = |row: &&&str| row.split(" | ").next().is_some_and(|cell| ends.iter().any(|end| cell.contains(end)));
        assert!(table.iter().any(|row| first(&row)), "--{flag} has no row");
    }
}

#[test]
fn a_role_in_the_documents_may_read_and_delete_and_nothing_else() {
    let (_, role) = blocks(ACR, "json")[0];
    let role: serde_json::Value = serde_json::from_str(role).unwrap();
    let actions: Vec<&str> =
        role["DataActions"].as_array().unwrap().iter().filter_map(|action| action.as_str()).collect();
    assert_eq!(actions.len(), 4);
    for action in actions {
        assert!(action.ends_with("/read") || action.ends_with("/delete"), "{action}");
        let condition = format!("!(ActionMatches{{'{action}'}})");
        assert!(ACR.contains(&condition), "the condition does not narrow {action}");
    }
}
