//! Evidence files that are being written, and files that are not text.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tagwarden::sources::{ImageReferences, ReleaseRecords, Source, SourceError, SourceEvidence, TextSettings};

use super::{folder, query, set};

fn references(base: &Path, globs: &[&str]) -> ImageReferences {
    ImageReferences::new(set(base, globs), vec!["contoso.azurecr.io".to_owned()], TextSettings::default())
}

fn images(answer: &SourceEvidence) -> Vec<String> {
    answer.claims.iter().map(|claim| claim.image.to_string()).collect()
}

/// The time at which the file was written: it is young then.
fn written(path: &Path) -> Timestamp {
    fs::metadata(path).unwrap().modified().unwrap().try_into().unwrap()
}

/// Half a second after the first reading somebody does `change`.
async fn ask_while(source: &dyn Source, now: Timestamp, change: impl FnOnce()) -> Result<SourceEvidence, SourceError> {
    let changed = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        change();
    };
    tokio::join!(source.query(now), changed).0
}

#[tokio::test(start_paused = true)]
async fn a_young_file_is_looked_at_once_more_and_an_old_one_is_not() {
    let folder = folder(&[("a.txt", "contoso.azurecr.io/shop/api:v1\n")]);
    let source = references(folder.path(), &["*.txt"]);
    let begun = tokio::time::Instant::now();
    let now = written(&folder.path().join("a.txt"));
    assert_eq!(images(&source.query(now).await.unwrap()), ["contoso.azurecr.io/shop/api:v1"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let begun = tokio::time::Instant::now();
    let later = now + Duration::from_secs(3);
    assert_eq!(images(&source.query(later).await.unwrap()), ["contoso.azurecr.io/shop/api:v1"]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// The name of a change, and the change itself.
type Change<'a> = (&'a str, &'a dyn Fn(&Path));

/// Valid as it stood, and only half of what was meant: the rest is appended, the file replaced, a second one written.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_half_written_file_is_not_missed() {
    let append = |path: &Path, text: &str| {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let both = ["contoso.azurecr.io/shop/api:v1", "contoso.azurecr.io/shop/api:v2"];
    let changes: [Change<'_>; 3] = [
        ("appended", &|base| append(&base.join("a.yaml"), "b: contoso.azurecr.io/shop/api:v2\n")),
        ("replaced", &|base| {
            let whole = "a: contoso.azurecr.io/shop/api:v1\nb: contoso.azurecr.io/shop/api:v2\n";
            fs::write(base.join("new"), whole).unwrap();
            fs::rename(base.join("new"), base.join("a.yaml")).unwrap();
        }),
        ("another file", &|base| fs::write(base.join("b.yaml"), "b: contoso.azurecr.io/shop/api:v2\n").unwrap()),
    ];
    for (what, change) in changes {
        let folder = folder(&[("a.yaml", "a: contoso.azurecr.io/shop/api:v1\n")]);
        let source = references(folder.path(), &["*.yaml"]);
        let now = written(&folder.path().join("a.yaml"));
        let answer = ask_while(&source, now, || change(folder.path())).await.unwrap();
        assert_eq!(images(&answer), both, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_do_not_read_yet_are_read_when_they_are_whole() {
    let folder = folder(&[("r.json", "[{\"image\": \"contoso.azurecr.io/shop/api:v1\"}")]);
    let path = folder.path().join("r.json");
    let source = ReleaseRecords::new(set(folder.path(), &["r.json"]));
    let whole = || fs::write(&path, "[{\"image\": \"contoso.azurecr.io/shop/api:v1\"}]").unwrap();
    let answer = ask_while(&source, written(&path), whole).await.unwrap();
    assert_eq!(images(&answer), ["contoso.azurecr.io/shop/api:v1"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_comes_to_rest_fails_the_source() {
    let folder = folder(&[("log.txt", "contoso.azurecr.io/shop/api:v1\n")]);
    let path = folder.path().join("log.txt");
    let source = references(folder.path(), &["log.txt"]);
    let begun = written(&path);
    let writing = async {
        for half_seconds in 1_u64.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"line\n").unwrap();
            // The time of the test, not that of the machine.
            file.set_modified((begun + Duration::from_millis(500 * half_seconds)).into()).unwrap();
        }
    };
    let error = tokio::select! {
        answer = source.query(begun) => answer.unwrap_err(),
        () = writing => unreachable!(),
    };
    assert_eq!(error.kind, "changing");
    assert!(error.chain().starts_with("log.txt keeps changing"), "{error}");
}

#[test]
fn what_is_not_text_fails_the_source_and_utf16_is_read() {
    let utf16: Vec<u8> =
        "\u{feff}contoso.azurecr.io/shop/api:v1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let folder = folder(&[("x.txt", "")]);
    let path = folder.path().join("x.txt");
    fs::write(&path, utf16).unwrap();
    let source = references(folder.path(), &["x.txt"]);
    assert_eq!(images(&query(&source).unwrap()), ["contoso.azurecr.io/shop/api:v1"]);
    for (bytes, words) in [(&b"\x1f\x8b\x08\0\0\0"[..], "gzip"), (b"c\0o\0n\0", "NUL"), (b"PK\x03\x04..", "ZIP")] {
        fs::write(&path, bytes).unwrap();
        let error = query(&source).unwrap_err();
        assert!(error.chain().starts_with("x.txt: ") && error.chain().contains(words), "{error}");
        let records = ReleaseRecords::new(set(folder.path(), &["x.json"]));
        fs::write(folder.path().join("x.json"), bytes).unwrap();
        let error = query(&records).unwrap_err();
        assert!(error.chain().starts_with("x.json: ") && error.chain().contains(words), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_file_of_evidence() {
    let folder = folder(&[("y.txt", "contoso.azurecr.io/shop/api:v1")]);
    let pipe = folder.path().join("x.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = query(&references(folder.path(), &["x.txt"])).unwrap_err();
    assert!(error.chain().contains("x.txt is not a regular file"), "{error}");
    assert_eq!(images(&query(&references(folder.path(), &["*.txt"])).unwrap()), ["contoso.azurecr.io/shop/api:v1"]);
}
