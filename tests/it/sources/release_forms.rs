//! Forms of Helm, Argo CD, Flux, Kustomize and others, from files to verdicts.

use tagwarden::domain::{RangeSelection, Verdict};
use tagwarden::sources::TextSettings;

use super::{folder, retained_tags, set};

/// The registry: all of it is old and selected. Nothing names the tags `gone`.
const REGISTRY: &str = r#"
lesson: one registry for all cases
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io] }
repositories:
  charts/api:
    tags: { "1.2.3_build.5": a 90d, "1.2.9": b 90d, "1.2.10-rc.1": c 90d, "1.3.0": d 90d, gone: e 90d }
  shop/api: { tags: { v1: f 90d, main: g 90d, "7": h 90d, latest: i 90d, gone: j 90d } }
  shop/web: { tags: { v1: k 90d, main: l 90d, gone: m 90d } }
expect: ""
"#;

/// The tags that stay because of these files, with their verdicts.
fn stays(files: &[(&str, &str)], ranges: RangeSelection) -> Vec<String> {
    let folder = folder(files);
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let texts = TextSettings { ranges, ..TextSettings::default() };
    let staying = retained_tags(set(folder.path(), &names), false, texts, REGISTRY);
    let staying = staying.unwrap_or_else(|message| panic!("{files:?}: {message}"));
    let line = |(repository, tag, verdict): (String, String, Verdict)| {
        let verdict = if verdict == Verdict::Protected { "" } else { verdict.label() };
        format!("{verdict} {repository}:{tag}").trim_start().to_owned()
    };
    let mut stays: Vec<String> = staying.into_iter().map(line).collect();
    stays.sort();
    stays
}

/// Files, and the tags that stay by them.
type Case<'c> = (Vec<(&'c str, String)>, Vec<&'c str>);

#[test]
fn what_a_form_names_stays() {
    let build = ["charts/api:1.2.3_build.5"];
    let of_range = ["charts/api:1.2.10-rc.1", "charts/api:1.2.9"];
    let flux = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: { name: api }\n";
    let repository = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: { name: shop }\nspec: { type: \
                      oci, url: \"oci://contoso.azurecr.io/charts\" }\n";
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: { name: api }\nspec: { chart: { spec: { \
                   chart: api, version: ~1.2, sourceRef: { kind: HelmRepository, name: shop } } } }\n";
    let images = "apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageRepository\nmetadata: { name: api }\nspec: { image: \
                  contoso.azurecr.io/charts/api }\n---\napiVersion: image.toolkit.fluxcd.io/v1\nkind: ImagePolicy\nmetadata: { \
                  name: api }\nspec: { imageRepositoryRef: { name: api }, policy: { semver: { range: 1.2.x } } }\n";
    let cases: Vec<Case<'_>> = vec![
        (
            vec![(
                "Chart.yaml",
                "dependencies: [{ name: api, version: 1.2.3+build.5, repository: \"oci://contoso.azurecr.io/charts\" }]\n"
                    .to_owned(),
            )],
            build.to_vec(),
        ),
        (
            vec![(
                "Chart.yaml",
                "dependencies: [{ name: api, version: ~1.2, repository: \"oci://contoso.azurecr.io/charts\" }]\n".to_owned(),
            )],
            of_range.to_vec(),
        ),
        (
            vec![(
                "app.yaml",
                "kind: Application\nspec:\n  source: { repoURL: contoso.azurecr.io/charts, chart: api, targetRevision: \
                 1.2.3+build.5 }\n"
                    .to_owned(),
            )],
            build.to_vec(),
        ),
        (
            vec![(
                "oci.yaml",
                format!("{flux}spec: {{ url: \"oci://contoso.azurecr.io/charts/api\", ref: {{ tag: 1.2.3_build.5 }} }}\n"),
            )],
            build.to_vec(),
        ),
        (
            vec![(
                "oci.yaml",
                format!("{flux}spec:\n  url: oci://contoso.azurecr.io/charts/api\n  ref:\n    semver: ~1.2\n"),
            )],
            of_range.to_vec(),
        ),
        (vec![("repository.yaml", repository.to_owned()), ("api/release.yaml", release.to_owned())], of_range.to_vec()),
        (vec![("images.yaml", images.to_owned())], of_range.to_vec()),
        (
            vec![
                ("api/Chart.yaml", "apiVersion: v2\nname: api\nversion: 0.1.0\nappVersion: v1\n".to_owned()),
                ("api/values.yaml", "image: { repository: contoso.azurecr.io/shop/api, tag: \"\" }\n".to_owned()),
            ],
            vec!["shop/api:v1"],
        ),
        // Words that say little by themselves are joined by their form.
        (
            vec![
                ("api/Chart.yaml", "apiVersion: v2\nname: api\nversion: 0.1.0\nappVersion: \"7\"\n".to_owned()),
                ("api/values.yaml", "image:\n  repository: contoso.azurecr.io/shop/api\n".to_owned()),
            ],
            vec!["shop/api:7"],
        ),
        (
            vec![
                ("api/values.yaml", "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: \"\"\n".to_owned()),
                ("api/values-prod.yaml", "image:\n  tag: main\n".to_owned()),
            ],
            vec!["shop/api:main"],
        ),
        (
            vec![
                (
                    "base/kustomization.yaml",
                    "images:\n- name: api\n  newName: contoso.azurecr.io/shop/api\n- name: web\n  newName: \
                     contoso.azurecr.io/shop/web\n"
                        .to_owned(),
                ),
                (
                    "prod/kustomization.yaml",
                    "resources: [../base]\nimages:\n- name: api\n  newTag: main\n- name: web\n  newTag: main\n".to_owned(),
                ),
            ],
            vec!["shop/api:main", "shop/web:main"],
        ),
        (
            vec![("compose.yaml", "services:\n  api:\n    image: contoso.azurecr.io/shop/api\n".to_owned())],
            vec!["shop/api:latest"],
        ),
        (
            vec![("Dockerfile", "FROM contoso.azurecr.io/shop/api AS build\nFROM build\n".to_owned())],
            vec!["shop/api:latest"],
        ),
    ];
    for (files, expected) in cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(stays(&files, RangeSelection::Highest), expected, "{files:?}");
    }
}

#[test]
fn what_a_form_leaves_open_is_undecided() {
    let all: Vec<String> = ["1.2.10-rc.1", "1.2.3_build.5", "1.2.9", "1.3.0", "gone"]
        .iter()
        .map(|tag| format!("undecided charts/api:{tag}"))
        .collect();
    let application = "kind: Application\nspec:\n  source:\n    repoURL: contoso.azurecr.io/charts\n    chart: api\n    \
                       targetRevision: \"${VERSION}\"\n";
    assert_eq!(stays(&[("app.yaml", application)], RangeSelection::Highest), all);
    let values = "image:\n  repository: contoso.azurecr.io/shop/web\n  tag: \"\"\n";
    let found = stays(&[("values.yaml", values)], RangeSelection::Highest);
    assert_eq!(found, ["undecided shop/web:gone", "undecided shop/web:main", "undecided shop/web:v1"]);
}

#[test]
fn all_versions_of_a_range_are_kept_where_that_is_asked_for() {
    let chart = "dependencies: [{ name: api, version: ~1.2, repository: \"oci://contoso.azurecr.io/charts\" }]\n";
    assert_eq!(
        stays(&[("Chart.yaml", chart)], RangeSelection::All),
        ["charts/api:1.2.10-rc.1", "charts/api:1.2.3_build.5", "charts/api:1.2.9"]
    );
}
