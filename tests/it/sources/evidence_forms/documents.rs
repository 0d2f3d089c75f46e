//! Documents in YAML and JSON: charts, values, objects, compose files.

use super::check;

#[test]
fn documents_of_the_common_tools() {
    let flux = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nspec:\n  url: oci://contoso.azurecr.io/charts/api\n  ref: { tag: 1.2.3_build.5 }\n";
    check(&[
        (
            "a chart's dependency",
            &[(
                "Chart.yaml",
                "dependencies: [{ name: api, version: 1.2.3+build.5, repository: \"oci://contoso.azurecr.io/charts\" }]\n",
            )],
            "charts/api:1.2.3_build.5",
        ),
        (
            "Argo CD",
            &[(
                "app.yaml",
                "kind: Application\nspec:\n  source: { repoURL: contoso.azurecr.io/charts, chart: api, targetRevision: 1.2.3+build.5 }\n",
            )],
            "charts/api:1.2.3_build.5",
        ),
        ("Flux", &[("oci.yaml", flux)], "charts/api:1.2.3_build.5"),
        ("values", &[("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: v1\n")], "shop/api:v1"),
        (
            "values in parts",
            &[("values.yaml", "image:\n  registry: contoso.azurecr.io\n  repository: shop/api\n  tag: main\n")],
            "shop/api:main",
        ),
        (
            "values and the version of the app",
            &[
                ("Chart.yaml", "name: api\nversion: 0.1.0\nappVersion: v1\n"),
                ("values.yaml", "image: { repository: contoso.azurecr.io/shop/api, tag: \"\" }\n"),
            ],
            "shop/api:v1",
        ),
        (
            "values without a tag",
            &[("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/web\n  tag: \"\"\n")],
            "?shop/web",
        ),
        (
            "values with an open tag",
            &[("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/web\n  tag: ${TAG}\n")],
            "?shop/web",
        ),
        (
            "values with an invalid tag",
            &[("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/web\n  tag: a/b\n")],
            "?shop/web",
        ),
        (
            "Kustomize",
            &[("kustomization.yaml", "images:\n- name: contoso.azurecr.io/shop/api\n  newTag: \"42\"\n")],
            "shop/api:42",
        ),
        (
            "parameters",
            &[(
                "app.yaml",
                "helm:\n  parameters:\n  - name: image.repository\n    value: contoso.azurecr.io/shop/api\n  - name: image.tag\n    value: main\n",
            )],
            "shop/api:main",
        ),
        (
            "keys with dots",
            &[("a.json", "{\"image.repository\": \"contoso.azurecr.io/shop/api\", \"image.tag\": \"main\"}")],
            "shop/api:main",
        ),
        (
            "a key for a repository",
            &[("a.yaml", "images:\n  contoso.azurecr.io/shop/api: [v1, v3]\n")],
            "shop/api:v1 shop/api:v3",
        ),
        (
            "lines of JSON",
            &[(
                "a.ndjson",
                "{\"image\": \"contoso.azurecr.io/shop/api\", \"tag\": \"main\"}\n{\"image\": \"contoso.azurecr.io/shop/web:v1\"}\n",
            )],
            "shop/api:main shop/api:v1 shop/web:v1",
        ),
    ]);
}

#[test]
fn a_tag_completes_its_own_mapping_alone() {
    let line = r#"{"a":{"repository":"contoso.azurecr.io/shop/web","tag":"v1"},"b":{"repository":"contoso.azurecr.io/shop/web"}}"#;
    check(&[("one line of JSON", &[("a.json", line)], "?shop/web shop/web:v1")]);
}

#[test]
fn objects_of_a_cluster() {
    let pod = |rest: &str| {
        format!(
            "apiVersion: apps/v2\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: x\n{rest}"
        )
    };
    check(&[
        ("an image", &[("a.yaml", &pod("        image: contoso.azurecr.io/shop/api:v3\n"))], "shop/api:v3"),
        (
            "an image without a tag",
            &[("a.yaml", &pod("        image: contoso.azurecr.io/shop/api\n"))],
            "shop/api:latest",
        ),
        (
            "the environment",
            &[(
                "a.yaml",
                &pod(
                    "        env:\n        - name: RELATED_IMAGE_WORKER\n          value: contoso.azurecr.io/shop/worker:v7\n",
                ),
            )],
            "shop/worker:v7",
        ),
        (
            "the environment in parts",
            &[(
                "a.yaml",
                &pod(
                    "        env:\n        - { name: REPOSITORY, value: contoso.azurecr.io/shop/worker }\n        - { name: WORKER_TAG, value: v7 }\n",
                ),
            )],
            "shop/worker:v7",
        ),
        (
            "arguments",
            &[("a.yaml", &pod("        args: [\"--image\", \"contoso.azurecr.io/shop/worker\", \"--tag\", \"v7\"]\n"))],
            "shop/worker:v7",
        ),
        (
            "a script",
            &[(
                "a.yaml",
                &pod(
                    "        command:\n        - sh\n        - -c\n        - |\n          docker run contoso.azurecr.io/shop/worker:v7\n",
                ),
            )],
            "shop/worker:v7",
        ),
        ("a secret for pulling", &[("a.yaml", &pod("        imagePullSecrets: [{ name: contoso.azurecr.io }]\n"))], ""),
        (
            "a resource of Azure",
            &[(
                "a.json",
                "{\"$schema\": \"https://x/deploymentTemplate.json#\", \"resources\": [{\"image\": \"contoso.azurecr.io/shop/api\"}]}",
            )],
            "shop/api:latest",
        ),
        (
            "a job of GitLab",
            &[(".gitlab-ci.yml", "test:\n  image: contoso.azurecr.io/shop/api\n  script: [make]\n")],
            "shop/api:latest",
        ),
    ]);
}

#[test]
fn mappings_and_comments() {
    check(&[
        (
            "a word beside it",
            &[("a.yaml", "service: { image: contoso.azurecr.io/shop/web, label: v1 }\n")],
            "shop/web:v1",
        ),
        (
            "a version of an API is no word",
            &[("a.yaml", "apiVersion: v1\nwhat: contoso.azurecr.io/shop/web\n")],
            "?shop/web",
        ),
        ("everyday words in one mapping", &[("a.yaml", "- name: api\n  tag: main\n- name: web\n")], "shop/api:main"),
        ("everyday words apart", &[("a.yaml", "- name: api\n- tag: main\n")], ""),
        ("a comment", &[("a.yaml", "# contoso.azurecr.io/shop/api:v1\na: b\n")], "shop/api:v1"),
        (
            "an open comment",
            &[("a.yaml", "# contoso.azurecr.io/shop/web:${TAG}, contoso.azurecr.io/shop/web\na: b\n")],
            "",
        ),
        ("escapes in JSON", &[("a.json", r#"{"image": "contoso.azurecr.io\/shop\/api:v1"}"#)], "shop/api:v1"),
        (
            "a template",
            &[("a.yaml", "{{- if .x }}\nimage: contoso.azurecr.io/shop/web:{{ .tag }}\n{{- end }}\n")],
            "?shop/web",
        ),
        (
            "a template's value",
            &[("a.yaml", "repository: contoso.azurecr.io/shop/web\ntag: {{ .tag }}\n")],
            "?shop/web",
        ),
        (
            "a template that does not read",
            &[("a.yaml", "{{ if }}\na: [\nimage: contoso.azurecr.io/shop/web:{{ .tag }}\n")],
            "?shop/web",
        ),
    ]);
}
