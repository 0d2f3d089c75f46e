//! The Dockerfile: sound in itself, and with all that it needs in what is sent to the builder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCKERFILE: &str = include_str!("../../../Dockerfile");
const IGNORE: &str = include_str!("../../../.dockerignore");

/// The instructions, each in one line without comments.
fn instructions() -> Vec<String> {
    let lines: Vec<&str> = DOCKERFILE.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.lines().map(words).filter(|line| !line.is_empty()).collect()
}

/// Those of the image itself.
fn last_stage() -> Vec<String> {
    let all = instructions();
    let from = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    all[from..].to_vec()
}

fn argument<'a>(lines: &'a [String], instruction: &str) -> &'a str {
    let found: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' ')).collect();
    assert_eq!(found.len(), 1, "{instruction}: {found:?}");
    found[0]
}

/// The list of an instruction in exec form.
fn exec(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no exec form ({error}): {text}"))
}

#[test]
fn a_linter_finds_nothing() {
    let linter = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/python/bin/hadolint");
    let output = Command::new(linter).arg("-").stdin(fs::File::open("Dockerfile").unwrap()).output();
    let output =
        output.unwrap_or_else(|error| panic!("hadolint did not start ({error}): `tests/run` installs it; run it once"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Nothing but what was put there: no shell, nobody who is root, every command as a list.
#[test]
fn the_image_is_bare_and_nobody_is_root() {
    let stage = last_stage();
    assert_eq!(stage[0], "FROM scratch");
    assert!(!stage.iter().any(|line| line.starts_with("RUN ")), "{stage:?}");
    let (user, group) = argument(&stage, "USER").split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    let entry = exec(argument(&stage, "ENTRYPOINT"));
    let (_, check) = argument(&stage, "HEALTHCHECK").split_once(" CMD ").unwrap();
    let mut start = entry.clone();
    start.extend(exec(argument(&stage, "CMD")));
    assert_eq!(start, ["/usr/local/bin/tagwarden", "serve"]);
    assert!(tagwarden::cli::command().try_get_matches_from(&start).is_ok());
    let check = exec(check);
    assert!(tagwarden::cli::command().try_get_matches_from(&check).is_ok(), "{check:?}");
    assert_eq!(check[0], entry[0]);
}

/// The labels that registries and scanners show (OCI image specification, annotations).
#[test]
fn the_image_says_where_it_is_from() {
    let stage = last_stage();
    let default = |name: &str| {
        let found: Vec<&str> = stage.iter().filter_map(|line| line.strip_prefix("ARG ")?.strip_prefix(name)).collect();
        assert_eq!(found.len(), 1, "{name}: {stage:?}");
        found[0].trim_start_matches('=').to_owned()
    };
    let labels = argument(&stage, "LABEL");
    for (label, value) in [
        ("title", "Tagwarden"),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("version", "${VERSION}"),
        ("revision", "${REVISION}"),
        ("source", "${SOURCE}"),
    ] {
        let expected = format!("org.opencontainers.image.{label}=\"{value}\"");
        assert!(labels.contains(&expected), "{expected} is missing in {labels}");
    }
    // Also without arguments, an image names the right version.
    assert_eq!(
        [default("VERSION"), default("REVISION"), default("SOURCE")],
        [env!("CARGO_PKG_VERSION"), "unknown", "unknown"]
    );
}

/// Every stage that is copied from is there, and what is copied was made in it.
#[test]
fn what_is_copied_was_made() {
    let all = instructions();
    let stages: BTreeSet<&str> =
        all.iter().filter_map(|line| line.strip_prefix("FROM ")?.split_once(" AS ")).map(|(_, name)| name).collect();
    assert_eq!(stages, BTreeSet::from(["build"]));
    let made: String = all.iter().filter(|line| line.starts_with("RUN ")).map(String::as_str).collect();
    for copy in last_stage().iter().filter_map(|line| line.strip_prefix("COPY ")) {
        let (flags, paths): (Vec<&str>, Vec<&str>) = copy.split(' ').partition(|word| word.starts_with("--"));
        let stage = flags.iter().find_map(|flag| flag.strip_prefix("--from=")).unwrap();
        assert!(stages.contains(stage), "{copy}");
        assert!(made.contains(paths[0].trim_end_matches('/')), "nothing makes {}", paths[0]);
    }
    for path in [
        "/out/usr/local/bin/tagwarden",
        "/out/etc/ssl/certs/ca-certificates.crt",
        "/out/usr/share/zoneinfo",
        "/out/usr/share/doc/tagwarden/tagwarden.cdx.json",
    ] {
        assert!(made.contains(path), "{path}");
    }
    // Buildah and Podman do not give builds the right to it.
    assert!(!made.contains("chroot "), "{made}");
    let rust = DOCKERFILE.lines().find_map(|line| line.strip_prefix("ARG RUST=")).unwrap();
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(minor(rust) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{rust} is too old");
}

/// What the sources take in at build time is sent to the builder, and secrets or states that lie about are not.
#[test]
fn the_builder_gets_what_it_reads_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sent: BTreeSet<&str> = IGNORE.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(IGNORE.lines().any(|line| line == "*"));
    assert!(sent.iter().all(|name| root.join(name).exists()), "{sent:?}");
    let mut needed = BTreeSet::from(["Cargo.toml".to_owned(), "Cargo.lock".to_owned()]);
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                needed.extend(taken_in(root, &path));
            }
        }
    }
    assert!(needed.contains("templates") && needed.contains("migrations"), "{needed:?}");
    let missing: Vec<&String> = needed.iter().filter(|name| !sent.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not sent: {missing:?}");
    // Cargo wants to see every target of the manifest that has no path of its own.
    assert!(sent.contains("benches"));
}

/// The first folder below the root, or the file there, of everything that a source takes in.
fn taken_in(root: &Path, source: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(source).unwrap();
    // What only tests take in is not built.
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let quoted = |after: &str| after.split('"').nth(1).unwrap_or_default().to_owned();
    let beside = ["include_str!(", "include_bytes!("].into_iter().flat_map(|call| {
        text.split(call).skip(1).map(|after| source.with_file_name(quoted(after))).collect::<Vec<PathBuf>>()
    });
    let from_root = text.split("migrate!(").skip(1).map(|after| root.join(quoted(after).trim_start_matches("./")));
    let templates = text.split("template(path = ").skip(1).map(|after| root.join("templates").join(quoted(after)));
    let all: Vec<PathBuf> = beside.chain(from_root).chain(templates).collect();
    let top = |path: &PathBuf| {
        let path = path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let below = path.strip_prefix(root.canonicalize().unwrap()).unwrap().to_owned();
        below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
    };
    all.iter().map(top).collect()
}
