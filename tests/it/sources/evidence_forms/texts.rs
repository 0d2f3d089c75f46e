//! Running text: logs, notes, tables, addresses, code.

use super::check;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_are_read_as_programs_write_them() {
    check(&[
        (
            "a chart's version",
            &[("a.txt", "now live: oci://contoso.azurecr.io/charts/api:1.2.3+build.5")],
            "charts/api:1.2.3_build.5",
        ),
        ("a colour", &[("job.log", "\u{1b}[32mcontoso.azurecr.io/shop/api:v1\u{1b}[0m\n")], "shop/api:v1"),
        ("a colour inside", &[("job.log", "pull contoso.azurecr.io/shop/api:\u{1b}[1mv1\u{1b}[0m!\n")], "shop/api:v1"),
        ("a colour whose escape was dropped", &[("job.log", "[32mcontoso.azurecr.io/shop/api:v1[0m\n")], "shop/api:v1"),
        ("escapes of JSON", &[("a.log", r#"I {"image":"contoso.azurecr.io\/shop\/api:v1"} x"#)], "shop/api:v1"),
        ("JSON in JSON", &[("a.log", r#"{"m":"{\"i\":\"contoso.azurecr.io\\/shop\\/api:v1\\n\"}"} x"#)], "shop/api:v1"),
        ("an address", &[("a.log", "GET /x?image=contoso.azurecr.io%2Fshop%2Fapi%3Av1&y")], "shop/api:v1"),
        ("HTML", &[("a.html", "<p>contoso.azurecr.io&#x2F;shop/api&#58;v1</p>")], "shop/api:v1"),
        ("a properties file", &[("a.properties", r"image=contoso.azurecr.io/shop/api\:v1")], "shop/api:v1"),
        (
            "ends of lines",
            &[("a.txt", "contoso.azurecr.io/shop/api:v1\r\ncontoso.azurecr.io/shop/web:v1\r")],
            "shop/api:v1 shop/web:v1",
        ),
        (
            "Markdown",
            &[("a.md", "**contoso.azurecr.io/shop/api:v1** and _contoso.azurecr.io/shop/web:v1_")],
            "shop/api:v1 shop/web:v1",
        ),
        (
            "an arrow",
            &[("a.txt", "x->contoso.azurecr.io/shop/api:v1|contoso.azurecr.io/shop/web:v1")],
            "shop/api:v1 shop/web:v1",
        ),
        ("a default", &[("a.sh", "run ${IMAGE-contoso.azurecr.io/shop/api:v1}")], "shop/api:v1"),
        ("another scheme", &[("a.txt", "docker-pullable://contoso.azurecr.io/shop/api:v1")], "shop/api:v1"),
        ("another's cache", &[("a.txt", "cache.example/contoso.azurecr.io/shop/api:v1")], "shop/api:v1"),
        ("upper case", &[("a.txt", "contoso.azurecr.io/Shop/API:v1")], "shop/api:v1"),
        ("a tag behind @", &[("a.txt", "contoso.azurecr.io/shop/api@v1")], "shop/api:v1"),
        (
            "an address of the registry",
            &[("a.txt", "curl https://contoso.azurecr.io/v2/shop/api/manifests/v1")],
            "shop/api:v1",
        ),
        ("a list of tags", &[("a.txt", "curl https://contoso.azurecr.io/v2/shop/api/tags/list")], ""),
        ("a host alone", &[("a.txt", "az acr login -n contoso.azurecr.io; ACR=contoso.azurecr.io/")], ""),
        (
            "a pattern of repositories",
            &[("a.yaml", "allow: [\"contoso.azurecr.io/*\", \"contoso.azurecr.io/shop/*\"]")],
            "",
        ),
    ]);
}

#[test]
fn a_repository_without_a_tag_is_settled_by_what_stands_beside_it() {
    check(&[
        (
            "docker images",
            &[("a.txt", "contoso.azurecr.io/shop/api    v1    0123456789ab   2 weeks ago   120MB")],
            "shop/api:v1",
        ),
        (
            "crictl images",
            &[("a.txt", "IMAGE  TAG  IMAGE ID  SIZE\ncontoso.azurecr.io/shop/api   v1   0123456789abc   120MB\n")],
            "shop/api:v1",
        ),
        (
            "an image without a tag",
            &[("a.txt", "contoso.azurecr.io/shop/api   <none>   0123456789ab   2 weeks ago   120MB")],
            "?shop/api",
        ),
        ("a table in Markdown", &[("a.md", "| contoso.azurecr.io/shop/api | v1 |")], "shop/api:latest shop/api:v1"),
        (
            "a row in HTML",
            &[("a.html", "<tr>\n<td>contoso.azurecr.io/shop/api</td>\n<td>v1</td>\n</tr>")],
            "shop/api:latest shop/api:v1",
        ),
        ("CSV", &[("a.csv", "image,tag\ncontoso.azurecr.io/shop/api,v1\n")], "shop/api:latest shop/api:v1"),
        ("CSV by host", &[("a.csv", "contoso.azurecr.io,shop/api,v1\n")], "shop/api:v1"),
        ("a sentence", &[("a.txt", "We run contoso.azurecr.io/shop/api there.")], "?shop/api shop/api:latest"),
        (
            "a version in a sentence",
            &[("a.txt", "contoso.azurecr.io/shop/api is at v1.")],
            "shop/api:latest shop/api:v1",
        ),
        ("an everyday word", &[("a.txt", "contoso.azurecr.io/shop/api is at main")], "shop/api:latest shop/api:main"),
        ("a digest", &[("a.txt", &format!("contoso.azurecr.io/shop/api at {DIGEST}"))], ""),
        (
            "a tag in the next line",
            &[("a.txt", "contoso.azurecr.io/shop/api\nv1\n")],
            "?shop/api shop/api:latest shop/api:v1",
        ),
        (
            "a tag of another",
            &[("a.txt", "contoso.azurecr.io/shop/api contoso.azurecr.io/shop/web:v1")],
            "?shop/api shop/api:latest shop/api:v1 shop/web:v1",
        ),
        ("settings", &[("a.ini", "[api]\nimage=contoso.azurecr.io/shop/api\ntag=v1\n")], "shop/api:latest shop/api:v1"),
        (
            "a block",
            &[("a.tf", "image = {\n  repository = \"contoso.azurecr.io/shop/api\"\n  tag = \"main\"\n}\n")],
            "shop/api:latest shop/api:main",
        ),
        (
            "Terraform's helm_release",
            &[(
                "a.tf",
                "set {\n  name  = \"image.repository\"\n  value = \"contoso.azurecr.io/shop/api\"\n}\nset {\n  name  = \"image.tag\"\n  value = \"v1\"\n}\n",
            )],
            "shop/api:latest shop/api:v1",
        ),
        (
            "a command over several lines",
            &[(
                "a.sh",
                "helm upgrade api . \\\n  --set image.repository=contoso.azurecr.io/shop/api \\\n  --set image.tag=main\n",
            )],
            "shop/api:latest shop/api:main",
        ),
    ]);
}

#[test]
fn what_is_cut_off_or_filled_in_elsewhere_keeps_its_repository() {
    check(&[
        ("a colon", &[("a.txt", "contoso.azurecr.io/shop/api:\n")], "?shop/api"),
        ("code", &[("a.py", "image = \"contoso.azurecr.io/shop/api:\" + tag\n")], "?shop/api"),
        ("a format", &[("a.py", "\"contoso.azurecr.io/shop/api:%s\" % tag\n")], "?shop/api"),
        ("an ellipsis", &[("a.txt", "contoso.azurecr.io/shop/web:rel…")], "?shop/web"),
        ("an ellipsis in the path", &[("a.txt", "contoso.azurecr.io/shop/w...")], "?shop/web ?shop/worker"),
        ("a digest", &[("a.txt", "contoso.azurecr.io/shop/web@sha256:0123")], "?shop/web"),
        ("an algorithm", &[("a.txt", "contoso.azurecr.io/shop/web@sha256 x")], "?shop/web"),
        ("an invalid tag", &[("a.txt", "contoso.azurecr.io/shop/web:.x")], "?shop/web"),
        ("a word to replace", &[("a.yaml", "image: contoso.azurecr.io/shop/web:IMAGE_TAG\n")], "?shop/web"),
        ("a token to replace", &[("a.yaml", "image: contoso.azurecr.io/shop/web:__tag__\n")], "?shop/web"),
        ("any tag", &[("a.yaml", "image: contoso.azurecr.io/shop/web:*\n")], "?shop/web"),
        ("a shell's", &[("a.sh", "kubectl set image deploy/web web=contoso.azurecr.io/shop/web:$SHA\n")], "?shop/web"),
        ("a pipeline's", &[("a.txt", "deploy contoso.azurecr.io/shop/web:$(Build.BuildId)")], "?shop/web"),
        ("a template's", &[("a.txt", "contoso.azurecr.io/shop/web:{{ .Version }}")], "?shop/web"),
        ("a manual's", &[("a.md", "docker run contoso.azurecr.io/shop/web:<version>")], "?shop/web"),
        ("cmd's", &[("a.cmd", "docker run contoso.azurecr.io/shop/web:%TAG%")], "?shop/web"),
        ("Octopus'", &[("a.txt", "contoso.azurecr.io/shop/web:#{Tag}")], "?shop/web"),
        ("a path's", &[("a.sh", "docker run contoso.azurecr.io/shop/w${REST}:v2")], "?shop/web ?shop/worker"),
        ("a manual's repository", &[("a.md", "docker run contoso.azurecr.io/<repository>:<tag>")], ""),
        // A tag that stands elsewhere is no answer.
        ("a tag elsewhere", &[("a.txt", "contoso.azurecr.io/shop/web:$TAG\nversion v1\n")], "?shop/web shop/web:v1"),
    ]);
}

#[test]
fn a_runtime_takes_latest() {
    check(&[
        ("a Dockerfile", &[("Dockerfile", "FROM contoso.azurecr.io/shop/api AS base\n")], "shop/api:latest"),
        ("docker run", &[("a.sh", "docker run --rm contoso.azurecr.io/shop/api\n")], "shop/api:latest"),
        ("docker pull", &[("a.sh", "docker pull contoso.azurecr.io/shop/api\n")], "shop/api:latest"),
        ("Bicep", &[("a.bicep", "      image: 'contoso.azurecr.io/shop/api'\n")], "shop/api:latest"),
    ]);
}
