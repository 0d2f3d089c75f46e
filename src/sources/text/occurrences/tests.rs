//! References in texts, and their meanings.

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn hosts() -> KnownHosts {
    KnownHosts::new(&["contoso.azurecr.io", "harbor.example/proxy"].map(String::from))
}

fn seen(text: &str) -> Vec<String> {
    let seen = scan(text, &hosts()).into_iter().map(|one| {
        let cut = if one.ending == Ending::Complete { String::new() } else { format!(" {:?}", one.ending) };
        format!("{:?} {}{cut}", one.origin, one.text)
    });
    seen.collect()
}

#[test]
fn references_are_seen_with_their_placeholders() {
    let cases: &[(&str, &[&str])] = &[
        ("run contoso.azurecr.io/shop/api:v1, then", &["Host contoso.azurecr.io/shop/api:v1"]),
        (
            "contoso.azurecr.io/a:v1/x contoso.azurecr.io/b+c",
            &["Host contoso.azurecr.io/a:v1", "Host contoso.azurecr.io/b"],
        ),
        ("contoso.azurecr.io/api:1.2.3+build.5", &["Host contoso.azurecr.io/api:1.2.3+build.5"]),
        ("\"contoso.azurecr.io/api:${TAG:-v1}-x\"", &["Host contoso.azurecr.io/api:${TAG:-v1}-x"]),
        (
            "contoso.azurecr.io/{{ .Values.name }}:{{ .Values.tag }}.",
            &["Host contoso.azurecr.io/{{ .Values.name }}:{{ .Values.tag }}."],
        ),
        (
            "contoso.azurecr.io/api:<tag> contoso.azurecr.io/api</td>",
            &["Host contoso.azurecr.io/api:<tag>", "Host contoso.azurecr.io/api"],
        ),
        ("contoso.azurecr.io/api:v1…", &["Host contoso.azurecr.io/api:v1 Ellipsis"]),
        ("contoso.azurecr.io/api:v1...", &["Host contoso.azurecr.io/api:v1... Ellipsis"]),
        (
            "contoso.azurecr.io/api:* **contoso.azurecr.io/b:v1**",
            &["Host contoso.azurecr.io/api: Pattern", "Host contoso.azurecr.io/b:v1"],
        ),
        ("contoso.azurecr.io/api:[0-9]", &["Host contoso.azurecr.io/api: Pattern"]),
        ("contoso.azurecr.io", &[]),
        // A placeholder for the host, or a part of it.
        ("image: ${REGISTRY}/shop/api:v1", &["Placeholder ${REGISTRY}/shop/api:v1"]),
        ("$(name).azurecr.io/shop/api:$(tag)", &["Placeholder $(name).azurecr.io/shop/api:$(tag)"]),
        ("contoso${ENV}.azurecr.io/shop/api", &["Placeholder contoso${ENV}.azurecr.io/shop/api"]),
        ("${HOST}:5000/shop/api:v1", &["Placeholder ${HOST}:5000/shop/api:v1"]),
        ("oci://${REGISTRY}/charts/api", &["Placeholder ${REGISTRY}/charts/api"]),
        ("docker run -e X=$REGISTRY/api:v1", &["Placeholder $REGISTRY/api:v1"]),
        ("https://${HOST}/api/v1 /home/$USER/api:v1 a/${X}/b:v1", &[]),
        ("-v ${PWD}/data:/data -v $PWD/Data:x", &[]),
        // A placeholder for host and path.
        ("docker push $IMAGE:$TAG and $IMAGE", &["Base $IMAGE:$TAG", "Lone $IMAGE"]),
        (
            "${IMAGE:-contoso.azurecr.io/a:v1}",
            &["Lone ${IMAGE:-contoso.azurecr.io/a:v1}", "Host contoso.azurecr.io/a:v1"],
        ),
        ("contoso.azurecr.io/a:$TAG ${X}/b:v1", &["Host contoso.azurecr.io/a:$TAG", "Placeholder ${X}/b:v1"]),
    ];
    for (text, expected) in cases {
        assert_eq!(seen(text), *expected, "{text}");
    }
}

fn shown(text: &str, cut: Ending, behind: &str) -> String {
    let Meaning { images, open_part: left, corrected, note } = meaning(&text.replace('#', D), cut, behind);
    let mut shown: Vec<String> = images.iter().map(|image| image.to_string().replace(D, "#")).collect();
    match left {
        OpenPart::None => {}
        OpenPart::Untagged(image) => shown.push(format!("untagged {image}")),
        OpenPart::Unresolved(host, path, words) => {
            let path: Vec<&str> = path.parts().collect();
            let words = if words.is_empty() { String::new() } else { format!(" or {}", words.join(" or ")) };
            shown.push(format!("open {}/{}{words}", host.unwrap_or_default(), path.join("*")));
        }
    }
    shown.extend(corrected.then(|| "corrected".to_owned()));
    if shown.is_empty() {
        shown.extend(note.map(|_| "note".to_owned()));
    }
    shown.join(", ").replace("contoso.azurecr.io/", "~/")
}

#[test]
fn a_reference_means_images_or_leaves_something_open() {
    for (text, expected) in [
        ("contoso.azurecr.io/shop/api:v1", "~/shop/api:v1"),
        ("contoso.azurecr.io/shop/api:v1.", "~/shop/api:v1., ~/shop/api:v1"),
        ("contoso.azurecr.io/shop/api@#", "~/shop/api@#"),
        ("contoso.azurecr.io/shop/api:v1@#", "~/shop/api:v1@#"),
        ("contoso.azurecr.io/shop/api:1.2.3+build.5", "~/shop/api:1.2.3_build.5"),
        ("contoso.azurecr.io/api:v1:canary", "~/api:v1"),
        ("oci://contoso.azurecr.io/charts/api:1.2.3", "~/charts/api:1.2.3"),
        ("https://contoso.azurecr.io/api:v1", "~/api:v1"),
        ("harbor.example/proxy/shop/api:v1", "harbor.example/proxy/shop/api:v1"),
        ("contoso.azurecr.io/shop/api", "untagged ~/shop/api"),
        ("contoso.azurecr.io/shop/api/", "untagged ~/shop/api"),
        ("contoso.azurecr.io/shop/api.", "untagged ~/shop/api"),
        ("contoso.azurecr.io/shop/api:", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@sha256", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@sha256:", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@sha256:E3B0C44298FC", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@sha256:e3b0", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:v1@sha256", "~/shop/api:v1, open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:v1@sha256:12", "~/shop/api:v1, open ~/shop/api"),
        ("contoso.azurecr.io/shop/api@v1", "~/shop/api:v1, open ~/shop/api or v1"),
        ("contoso.azurecr.io/shop/api:.v1", "open ~/shop/api"),
        // A placeholder word to be replaced, unless it is a tag.
        ("contoso.azurecr.io/shop/api:IMAGE_TAG", "~/shop/api:IMAGE_TAG, open ~/shop/api or IMAGE_TAG"),
        ("contoso.azurecr.io/shop/api:__tag__", "~/shop/api:__tag__, ~/shop/api:__tag, open ~/shop/api or __tag__"),
        ("contoso.azurecr.io/shop/api:vX.Y.Z", "~/shop/api:vX.Y.Z, open ~/shop/api or vX.Y.Z"),
        ("contoso.azurecr.io/shop/api:V1", "~/shop/api:V1"),
        // Repositories that no registry can have.
        ("contoso.azurecr.io/Shop/API:v1", "~/shop/api:v1, corrected"),
        ("contoso.azurecr.io/Shop/API", "untagged ~/shop/api, corrected"),
        ("contoso.azurecr.io/shop//api:v1", "note"),
        ("contoso.azurecr.io/-shop:v1", "note"),
        ("contoso.azurecr.io/", ""),
        ("contoso.azurecr.io/.", ""),
        // Addresses of the registry's API.
        ("https://contoso.azurecr.io/v2/shop/api/manifests/v1", "~/shop/api:v1"),
        ("contoso.azurecr.io/v2/shop/api/manifests/#", "~/shop/api@#"),
        ("contoso.azurecr.io/v2/shop/api/tags/list", "note"),
        ("contoso.azurecr.io/v2/_catalog", "note"),
        ("contoso.azurecr.io/acr/v1/shop/api/_tags", "note"),
        ("contoso.azurecr.io/v2/api:v1", "~/v2/api:v1"),
    ] {
        assert_eq!(shown(text, Ending::Complete, ""), expected, "{text}");
    }
    for (text, cut, behind, expected) in [
        ("contoso.azurecr.io/shop/api:", Ending::Complete, " it runs", "untagged ~/shop/api"),
        ("contoso.azurecr.io/shop/api:", Ending::Complete, "\"", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:", Ending::Complete, "  ", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:v1", Ending::Ellipsis, "…", "~/shop/api:v1, open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:", Ending::Ellipsis, "…", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/ap", Ending::Ellipsis, "…", "open ~/shop/ap*"),
        ("contoso.azurecr.io/shop/...", Ending::Ellipsis, "", "open ~/shop/*"),
        ("contoso.azurecr.io/...", Ending::Ellipsis, "", ""),
        ("contoso.azurecr.io/shop/", Ending::Pattern, "*", "note"),
        ("contoso.azurecr.io/shop/api:", Ending::Pattern, "*", "open ~/shop/api"),
        ("contoso.azurecr.io/shop/api:v1", Ending::Pattern, "*", "~/shop/api:v1, open ~/shop/api"),
    ] {
        assert_eq!(shown(text, cut, behind), expected, "{text}{behind}");
    }
}
