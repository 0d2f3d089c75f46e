//! Documents in, claims out: helpers shared by the tests of all forms, and tests of joining.

use std::path::Path;

use super::super::document::{Format, parse};
use super::super::known_hosts::KnownHosts;
use super::*;
use crate::domain::{Holder, Naming};

/// The forms of the registry `contoso.azurecr.io` that these files have.
pub(super) fn read(files: &[(&str, &str)]) -> Forms {
    let mut forms = Forms::default();
    for (name, text) in files {
        let format = Format::of(Path::new(name)).unwrap_or(Format::Yaml);
        let documents = parse(text, format).unwrap_or_default();
        forms.read(name, &documents, text);
    }
    forms
}

pub(super) fn finish(forms: Forms, open: Vec<TaglessRepository>) -> FormEvidence {
    forms.finish(open, &KnownHosts::new(&["contoso.azurecr.io".to_owned()]), RangeSelection::Highest)
}

/// Each claim and each open reference with its place, one a line, without the host.
pub(super) fn shown(findings: &FormEvidence) -> Vec<String> {
    let place = |holder: &Holder| match holder {
        Holder::File { path, line } => format!("{path}:{line}"),
        other => format!("{other:?}"),
    };
    let bare = |text: &str| text.replace("contoso.azurecr.io/", "");
    let claims = findings.claims.iter().map(|claim| {
        let how = match &claim.naming {
            Naming::Joined => " (joined)",
            Naming::Corrected => " (corrected)",
            Naming::Range(_, RangeSelection::All) => " (all)",
            _ => "",
        };
        format!("{} {}{how}", place(&claim.holder), bare(&claim.text()))
    });
    let open = findings.unresolved.iter().map(|one| {
        let host = one.host.as_deref().unwrap_or("*");
        let path = one.path.parts().collect::<Vec<_>>().join("*");
        format!("{} open {}", place(&one.holder), bare(&format!("{host}/{path}")))
    });
    let mut shown: Vec<String> = claims.chain(open).collect();
    shown.sort();
    shown
}

/// The findings about the registry in these files.
pub(super) fn claims_of(files: &[(&str, &str)]) -> Vec<String> {
    shown(&finish(read(files), Vec::new()))
}

/// The findings in one file, one a line, without its name.
pub(super) fn claims_in(name: &str, text: &str) -> String {
    claims_of(&[(name, text)]).join("\n").replace(&format!("{name}:"), "")
}

fn open(name: &str, line: u32, path: &str) -> TaglessRepository {
    let host = Some("contoso.azurecr.io".to_owned());
    TaglessRepository { name: name.to_owned(), line, host, path: path.to_owned(), text: path.to_owned() }
}

#[test]
fn a_text_that_says_a_version_is_read_as_a_tool_would() {
    for (version, expected) in [
        ("1.2.3", "3 charts/api:1.2.3"),
        ("v1.2.3", "3 charts/api:v1.2.3"),
        ("1.2.3+build.5", "3 charts/api:1.2.3_build.5"),
        ("\"~1.2\"", "3 charts/api in ~1.2"),
        ("\">=1.2.0 <2\"", "3 charts/api in >=1.2.0 <2"),
        ("1.x", "3 charts/api in 1.x\n3 charts/api:1.x (joined)"),
        ("\"*\"", "3 charts/api in *"),
        ("\"\"", "2 charts/api in *"),
        ("stable", "3 charts/api:stable"),
        ("\"${VERSION}\"", "3 open charts/api"),
        ("not a version", "3 open charts/api"),
    ] {
        let text = format!(
            "dependencies:\n- {{ name: api, repository: oci://contoso.azurecr.io/charts,\n  version: {version} }}\n"
        );
        assert_eq!(claims_in("Chart.yaml", &text), expected, "{version}");
    }
}

#[test]
fn lists_of_objects_hold_objects() {
    let object = "kind: OCIRepository\n  apiVersion: source.toolkit.fluxcd.io/v1\n  metadata: { name: api }\n  \
                  spec: { url: oci://contoso.azurecr.io/charts/api, ref: { tag: v1 } }\n";
    for (name, text) in
        [("list.yaml", format!("kind: List\nitems:\n- {object}")), ("array.yaml", format!("- {object}"))]
    {
        assert_eq!(claims_of(&[(name, text.as_str())]).len(), 1, "{name}");
    }
}

#[test]
fn an_empty_tag_means_the_version_of_the_chart() {
    let chart = "apiVersion: v2\nname: api\nversion: 0.1.0\nappVersion: v1\n";
    let umbrella = "apiVersion: v2\nname: shop\nversion: 0.1.0\nappVersion: \"7\"\ndependencies:\n\
                    - { name: api, version: 0.1.0, repository: \"file://../api\" }\n\
                    - { name: web, version: 0.1.0, repository: \"https://charts.example\" }\n";
    let values = "image:\n  repository: contoso.azurecr.io/shop/api\n  tag: \"\"\n";
    let under = |key: &str| format!("{key}:\n  {}", values.replace('\n', "\n  "));
    let (api, web) = (under("api"), under("web"));
    for (files, at, expected) in [
        (vec![("api/Chart.yaml", chart), ("api/values.yaml", values)], ("api/values.yaml", 2), "1 v1"),
        (vec![("Chart.yaml", chart), ("values.yaml", values)], ("values.yaml", 2), "1 v1"),
        // The chart in the nearest folder above.
        (vec![("api/Chart.yaml", chart), ("api/env/prod.yaml", values)], ("api/env/prod.yaml", 2), "1 v1"),
        (vec![("api/Chart.yaml", chart), ("web/values.yaml", values)], ("web/values.yaml", 2), "open"),
        (vec![("api/values.yaml", values)], ("api/values.yaml", 2), "open"),
        (vec![("a/Chart.yaml", "name: a\nversion: 1.0.0\n"), ("a/values.yaml", values)], ("a/values.yaml", 2), "open"),
        // Values of a dependency use its own version.
        (
            vec![("shop/Chart.yaml", umbrella), ("api/Chart.yaml", chart), ("shop/values.yaml", api.as_str())],
            ("shop/values.yaml", 3),
            "1 v1",
        ),
        (vec![("shop/Chart.yaml", umbrella), ("shop/values.yaml", web.as_str())], ("shop/values.yaml", 3), "open"),
        (vec![("shop/Chart.yaml", umbrella), ("shop/values.yaml", values)], ("shop/values.yaml", 2), "7 v7"),
    ] {
        let findings = finish(read(&files), vec![open(at.0, at.1, "shop/api")]);
        let tags = findings.claims.iter().filter_map(|claim| claim.image.tag.as_ref().map(ToString::to_string));
        let mut found: Vec<String> = tags.collect();
        found.extend(findings.unresolved.iter().map(|_| "open".to_owned()));
        assert_eq!(found.join(" "), expected, "{files:?}");
    }
}

#[test]
fn paths_are_seen_from_folders() {
    for (folder, path, expected) in [
        ("a/b", "../c", "a/c"),
        ("a/b", "./c/", "a/b/c"),
        ("a", "../../c", "../c"),
        ("", "./overlays/prod", "overlays/prod"),
        ("../x", "../../y", "../../y"),
        ("/a", "b", "a/b"),
    ] {
        assert_eq!(resolve(folder, path), expected, "{folder} {path}");
    }
    assert_eq!(super::folder("./a/b/values.yaml"), "a/b");
}
