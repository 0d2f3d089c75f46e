//! Which files a glob finds.

use std::path::Path;

use tagwarden::domain::Holder;
use tagwarden::sources::{ImageReferences, ReleaseRecords, SourceError, TextSettings};

use super::{folder, query, set};

#[test]
fn globs_find_files_and_missing_evidence_is_an_error() {
    let folder = folder(&[
        ("a.json", ""),
        ("releases/1.json", ""),
        ("releases/2024/2.json", ""),
        ("releases/2024/deep/3.json", ""),
        ("releases/note.txt", ""),
        ("releases/.git/x.json", ""),
        ("odd/[x].json", ""),
    ]);
    let base = folder.path();
    let found = |globs: &[&str]| -> Result<Vec<String>, SourceError> {
        let hosts = vec!["contoso.azurecr.io".to_owned()];
        for name in walk(base) {
            std::fs::write(base.join(&name), "\"contoso.azurecr.io/api:v1\"").unwrap();
        }
        let answer = query(&ImageReferences::new(set(base, globs), hosts, TextSettings::default()))?;
        let mut paths: Vec<String> = answer
            .claims
            .iter()
            .map(|claim| match &*claim.holder {
                Holder::File { path, .. } => path.clone(),
                _ => unreachable!(),
            })
            .collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    };
    let absolute = format!("{}/rel*/*.txt", base.display());
    let absolute_file = format!("{}/releases/note.txt", base.display());
    let cases: &[(&[&str], &[&str])] = &[
        (&["a.json"], &["a.json"]),
        (&["./releases/*.json"], &["./releases/1.json"]),
        (&["releases/*.json"], &["releases/1.json"]),
        (&["releases/**/*.json"], &["releases/1.json", "releases/2024/2.json", "releases/2024/deep/3.json"]),
        (&["releases/*/*.json"], &["releases/2024/2.json"]),
        (&["releases/{1,2024/2}.json"], &["releases/1.json", "releases/2024/2.json"]),
        (
            &["releases/**"],
            &["releases/1.json", "releases/2024/2.json", "releases/2024/deep/3.json", "releases/note.txt"],
        ),
        (&["*.json", "a.json", "?.json"], &["a.json"]),
        (&["odd/[[]x].json"], &["odd/[x].json"]),
        (&[&absolute], &[&absolute_file]),
        (&[&absolute_file], &[&absolute_file]),
    ];
    for (globs, expected) in cases {
        assert_eq!(found(globs).unwrap(), *expected, "{globs:?}");
    }
    let errors = [
        (&["b.json"][..], "missing", "no file matches `b.json`"),
        (&["a.json", "releases/*.yaml"][..], "missing", "no file matches `releases/*.yaml`"),
        (&["nowhere/**/*.json"][..], "missing", "no file matches"),
        (&["releases"][..], "unreadable", "is a folder"),
        (&["a.json/*.json"][..], "unreadable", "a.json"),
        (&["releases/[.json"][..], "settings", "is not a valid glob"),
    ];
    for (globs, kind, says) in errors {
        let error = found(globs).unwrap_err();
        assert_eq!(error.kind, kind, "{globs:?}: {error}");
        assert!(error.chain().contains(says), "{globs:?}: {error}");
    }
}

fn walk(base: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![base.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_never_in_circles() {
    use std::os::unix::fs::symlink;
    let text = "image: contoso.azurecr.io/api:v1";
    let folder = folder(&[("v1/r.yaml", text), ("v1/sub/s.yaml", text)]);
    let link = |to: &str, at: &str| symlink(to, folder.path().join(at)).unwrap();
    link("v1", "current");
    link("../..", "v1/sub/up");
    link("loop", "loop");
    link("nowhere", "v1/dangling.txt");
    let claimed = |glob: &str| {
        let source = ReleaseRecords::new(set(folder.path(), &[glob]));
        query(&source).map(|answer| answer.claims.len())
    };
    assert_eq!(claimed("current/*.yaml").unwrap(), 1);
    assert_eq!(claimed("*/r.yaml").unwrap(), 2);
    assert_eq!(claimed("**/*.yaml").unwrap(), 4);
    let error = claimed("**/dangling.*").unwrap_err();
    assert_eq!(error.kind, "unreadable", "evidence that was meant: {error}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = folder(&[("big.yaml", "")]);
    let file = std::fs::File::options().write(true).open(folder.path().join("big.yaml")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let error = query(&ReleaseRecords::new(set(folder.path(), &["*.yaml"]))).unwrap_err();
    assert_eq!(error.kind, "too-large");
    assert!(error.chain().contains("big.yaml is larger than 64 MiB"), "{error}");
}
