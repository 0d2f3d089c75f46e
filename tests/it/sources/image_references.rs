//! References in files of any kind.

use proptest::prelude::*;
use tagwarden::domain::Holder;
use tagwarden::sources::SourceEvidence;

use super::{D, describe_claims, references};

#[test]
fn image_references_are_found_however_they_are_written() {
    let cases: &[(&str, &str, &[&str])] = &[
        // Running text.
        ("log.txt", "pushed contoso.azurecr.io/shop/api:v1.\n", &["1 ~/shop/api:v1", "1 ~/shop/api:v1."]),
        ("log.txt", "a\nb contoso.azurecr.io/shop/api:v1@#: done", &["2 ~/shop/api:v1@D"]),
        ("log.txt", "docker://contoso.azurecr.io/api@#,\"Contoso.AzureCR.io/b:X\"", &["1 ~/api@D", "1 ~/b:X"]),
        (
            "log.txt",
            "contoso.azurecr.io:443/api:v1 (images.contoso.example/api:v2)",
            &["1 images.contoso.example/api:v2", "1 ~/api:v1"],
        ),
        ("log.txt", "my-contoso.azurecr.io/api:v1 xcontoso.azurecr.io/api:v1 contoso.azurecr.io.evil/api:v1", &[]),
        (
            "log.txt",
            "contoso.EastUS2.geo.azurecr.io/api:v1 contoso-dwgxg4c0.azurecr.io/api:v2 contosodev.azurecr.io/api:v3",
            &["1 contoso-dwgxg4c0.azurecr.io/api:v2", "1 contoso.eastus2.geo.azurecr.io/api:v1"],
        ),
        ("log.txt", "localhost:5000/api:v1 localhost:50001/api:v1 localhost/api:v1", &["1 localhost:5000/api:v1"]),
        ("log.txt", "contoso.azurecr.io contoso.azurecr.io/ contoso.azurecr.io/.", &[]),
        ("log.txt", "[contoso.azurecr.io/shop/api]", &["1 ~/shop/api:latest"]),
        ("log.txt", r#"{"msg":"x\ncontoso.azurecr.io/api:v1\n"} trailing"#, &["1 ~/api:v1"]),
        ("log.txt", "<code>contoso.azurecr.io/api:v1</code>", &["1 ~/api:v1"]),
        ("log.txt", "deploy contoso.azurecr.io/api:v1:canary", &["1 ~/api:v1"]),
        // Escapes and folds that hide a reference from the raw text.
        ("a.json", r#"{"image": "contoso.azurecr.io\/shop\/api:v1"}"#, &["1 ~/shop/api:v1"]),
        ("a.json", "{\n\"image\": \"\\u0063ontoso.azurecr.io/shop/api:v1\"}", &["2 ~/shop/api:v1"]),
        // Compose and Kubernetes.
        ("compose.yaml", "services:\n  api:\n    image: contoso.azurecr.io/shop/api\n", &["3 ~/shop/api:latest"]),
        ("pod.yaml", "spec:\n  containers:\n  - name: api\n    image: contoso.azurecr.io/api:v1\n", &["4 ~/api:v1"]),
        // Helm values.
        ("values.yaml", "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: v1\n", &["2 ~/shop/api:v1"]),
        (
            "values.yaml",
            "image:\n  registry: contoso.azurecr.io\n  repository: shop/api\n  tag: v1\n",
            &["3 ~/shop/api:v1"],
        ),
        (
            "values.yaml",
            "registry: contoso.azurecr.io/shop\nrepository: api\ndigest: '#'\n",
            &["1 ~/shop:latest", "2 ~/shop/api@D"],
        ),
        ("values.yaml", "registry: contoso.azurecr.io\nrepository: shop/api\n", &["2 ~/shop/api:latest"]),
        (
            "values.yaml",
            "registry: https://contoso.azurecr.io/\nimage: shop/api\ntag: v1\ndigest: '#'\n",
            &["2 ~/shop/api:v1@D"],
        ),
        ("values.yaml", "registry: docker.io\nrepository: shop/api\ntag: v1\n", &[]),
        (
            "values.yaml",
            "global:\n  imageRegistry: contoso.azurecr.io\napi:\n  image:\n    repository: shop/api\n    tag: v1\n",
            &["5 ~/shop/api:v1"],
        ),
        (
            "values.yaml",
            "registry: contoso.azurecr.io\nrepository: shop/api\ntag: 1.10\n",
            &["2 ~/shop/api:1.1", "2 ~/shop/api:1.10"],
        ),
        (
            "values.yaml",
            "registry: contoso.azurecr.io\nrepository: shop/api\ntag: 0042\n",
            &["2 ~/shop/api:0042", "2 ~/shop/api:42"],
        ),
        ("values.yaml", "registry: contoso.azurecr.io\nrepository: api\ntag: 'v1@#'\n", &["2 ~/api:v1@D"]),
        ("values.yaml", "registry: contoso.azurecr.io\nrepository: api\ntag: '@#'\n", &["2 ~/api@D"]),
        (
            "values.yaml",
            "repository: contoso.azurecr.io/api@sha256\ntag: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
            &["1 ~/api@D"],
        ),
        ("values.yaml", "image: contoso.azurecr.io/api:v1\nimageTag: v2\n", &["1 ~/api:v1", "1 ~/api:v2"]),
        ("values.yaml", "image: contoso.azurecr.io/api:v1\ntag: some/git/ref\n", &["1 ~/api:v1"]),
        ("values.yaml", "registry: contoso.azurecr.io\nimage: api:v1\ntag: v2\n", &["2 ~/api:v1", "2 ~/api:v2"]),
        ("values.yaml", "baseImage: contoso.azurecr.io/prom\nversion: v2.5\n", &["1 ~/prom:latest", "1 ~/prom:v2.5"]),
        ("values.yaml", "image: contoso.azurecr.io/prom\nversion: ^1 || ^2\n", &["1 ~/prom:latest"]),
        ("values.yaml", "images:\n  contoso.azurecr.io/shop/api: v3\n", &["2 ~/shop/api:v3"]),
        ("values.json", "{\"image\": {\"repository\": \"contoso.azurecr.io/api\",\n\"tag\": \"v1\"}}", &["1 ~/api:v1"]),
        ("values.yaml", "a: 1\n---\nregistry: contoso.azurecr.io\nrepository: api\ntag: v1\n", &["4 ~/api:v1"]),
        // Kustomize.
        (
            "kustomization.yaml",
            "images:\n- name: contoso.azurecr.io/shop/api\n  newTag: v2\n- name: web\n  newName: contoso.azurecr.io/shop/web\n  digest: '#'\n",
            &["2 ~/shop/api:v2", "5 ~/shop/web@D"],
        ),
        // Templates.
        (
            "deployment.yaml",
            "{{- if .Values.on }}\nimage: contoso.azurecr.io/api:v1\n{{- end }}\nname: {{ .Release.Name }}\n",
            &["2 ~/api:v1"],
        ),
        (
            "values.gotmpl",
            "image:\n{{- if eq .Environment.Name \"x\"\n}}\n  registry: contoso.azurecr.io\n{{ end }}\n  repository: api\n  tag: v1\nname: {{ x }}\n",
            &["6 ~/api:v1"],
        ),
    ];
    for (name, text, expected) in cases {
        let text = text.replace('#', D);
        let answer = references(name, &text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(describe_claims(&answer.claims), *expected, "{text}");
        assert_eq!(answer.notes, Vec::<String>::new(), "{text}");
    }
}

/// Line, host and path of each reference that leaves its tag open, `*` for what of the path is open.
fn open(answer: &SourceEvidence) -> Vec<String> {
    let mut open: Vec<String> = answer
        .unresolved
        .iter()
        // Their ends are the subject of other tests.
        .filter(|one| !one.text.contains("the text ends here"))
        .map(|one| {
            let Holder::File { line, .. } = &*one.holder else { panic!("{one:?}") };
            let host = one.host.as_ref().map_or(String::new(), |host| format!("{host}/"));
            let path: Vec<&str> = one.path.parts().collect();
            format!("{line} {host}{}", path.join("*")).replace("contoso.azurecr.io/", "~/")
        })
        .collect();
    open.sort();
    open
}

#[test]
fn what_is_filled_in_elsewhere_is_left_open() {
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("a.txt", "\nimage contoso.azurecr.io/api:${TAG}", &[], &["2 ~/api"]),
        ("a.txt", "contoso.azurecr.io/api:$(tag)", &[], &["1 ~/api"]),
        ("a.txt", "contoso.azurecr.io/{{ .Values.image }}:v1", &[], &["1 ~/*"]),
        ("a.txt", "contoso.azurecr.io/api:#{Build}#", &[], &["1 ~/api"]),
        ("a.txt", "contoso.azurecr.io/api:<tag>", &[], &["1 ~/api"]),
        ("a.yaml", "repository: contoso.azurecr.io/api\ntag: \"{{ .Chart.AppVersion }}\"\n", &[], &["1 ~/api"]),
        ("a.yaml", "registry: \"{{ .Values.registry }}\"\nrepository: api\ntag: v1\n", &["2 api:v1"], &[]),
        // What begins like a reference and does not read.
        ("a.txt", "contoso.azurecr.io/api:v1@sha256:12", &["1 ~/api:v1"], &["1 ~/api"]),
        ("a.yaml", "registry: contoso.azurecr.io\nrepository: api\ntag: a/b\n", &[], &["2 ~/api"]),
        ("a.yaml", "registry: contoso.azurecr.io\nrepository: api\ndigest: abc\n", &[], &["2 ~/api"]),
    ];
    for (name, text, claimed, expected) in cases {
        let answer = references(name, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(describe_claims(&answer.claims), *claimed, "{text}");
        assert_eq!(open(&answer), *expected, "{text}");
        assert_eq!(answer.notes, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_means_no_image_is_noted() {
    let cases: &[(&str, &str, &str)] = &[
        ("a.txt", "see https://contoso.azurecr.io/v2/_catalog", "a.txt:1: taken for a web address"),
        ("a.txt", "curl contoso.azurecr.io/v2/_catalog", "a.txt:1: taken for a web address"),
        ("a.txt", "x\ncontoso.azurecr.io/shop//api:v1", "a.txt:2: `contoso.azurecr.io/shop//api:v1`"),
        (
            "a.txt",
            "docker push contoso.azurecr.io/api:$TAG",
            "a.txt:1: `contoso.azurecr.io/api:$TAG` is filled in elsewhere",
        ),
        (
            "a.yaml",
            "{{ if }}\na: [\nimage: contoso.azurecr.io/api:v1\n",
            "a.yaml:2: templates keep it from being read as YAML",
        ),
    ];
    for (name, text, expected) in cases {
        let answer = references(name, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(answer.notes.iter().any(|note| note.contains(expected)), "{text}: {:?}", answer.notes);
        assert_eq!(open(&answer), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn an_upper_case_repository_is_read_in_lower_case_and_noted() {
    for (name, text, image, note) in [
        (
            "a.txt",
            "x\ncontoso.azurecr.io/Shop/API:v1",
            "2 ~/shop/api:v1",
            "a.txt:2: `contoso.azurecr.io/Shop/API:v1` is invalid as a reference; read as `contoso.azurecr.io/shop/api:v1`",
        ),
        (
            "a.yaml",
            "registry: contoso.azurecr.io\nrepository: Shop\ntag: v1\n",
            "2 ~/shop:v1",
            "a.yaml:2: `contoso.azurecr.io/Shop`",
        ),
    ] {
        let answer = references(name, text).unwrap();
        assert_eq!(describe_claims(&answer.claims), [image], "{text}");
        assert!(answer.notes.iter().any(|found| found.starts_with(note)), "{text}: {:?}", answer.notes);
    }
}

#[test]
fn what_is_meant_to_be_a_document_and_is_none_fails_the_source() {
    for (name, text, expected) in
        [("a.yaml", "a: [\n", "a.yaml:1: unclosed bracket"), ("a.json", "{'a': 1}", "a.json:1: key must be a string")]
    {
        let error = references(name, text).expect_err(text);
        assert!(error.chain().contains(expected), "{text:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_image_of_a_values_file_is_claimed(
        images in proptest::collection::vec(("[a-z]{1,6}(/[a-z]{1,6})?", "[a-z][a-z0-9.-]{0,8}[a-z]", any::<bool>(), 0..5u8), 1..8)
    ) {
        let mut text = String::new();
        for (number, (repository, tag, with_digest, style)) in images.iter().enumerate() {
            let at = if *with_digest { format!("@{D}") } else { String::new() };
            let digest = if *with_digest { format!("    digest: {D}\n") } else { String::new() };
            let image = match style {
                0 => format!("s{number}:\n  image: contoso.azurecr.io/{repository}:{tag}{at}\n"),
                1 => format!("s{number}:\n  image:\n    repository: contoso.azurecr.io/{repository}\n    tag: \"{tag}\"\n{digest}"),
                2 => format!("s{number}:\n  image:\n    registry: contoso.azurecr.io\n    tag: \"{tag}\"\n    repository: {repository}\n{digest}"),
                3 => format!("s{number}:\n  images:\n  - name: x\n    newName: contoso.azurecr.io/{repository}\n    newTag: \"{tag}\"\n{digest}"),
                _ => format!("s{number}:\n  args: [\"--image=contoso.azurecr.io/{repository}:{tag}{at}\"]\n"),
            };
            text.push_str(&image);
        }
        let answer = references("values.yaml", &text).unwrap();
        let claimed: Vec<String> = answer.claims.iter().map(|claim| claim.image.to_string()).collect();
        for (repository, tag, with_digest, _) in images {
            let at = if with_digest { format!("@{D}") } else { String::new() };
            let expected = format!("contoso.azurecr.io/{repository}:{tag}{at}");
            prop_assert!(claimed.contains(&expected), "{} is missing from {:?} of\n{}", expected, claimed, text);
        }
    }
}
