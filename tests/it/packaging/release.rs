//! The release script, with stand-ins for the compiler and for what writes the bill of materials: what it does around them
//! gives the same bytes wherever it runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::deb::{ROOT, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

const RUSTC: &str = r#"#!/bin/sh
case "$1" in
-vV) printf 'commit-hash: 0123abcd\nhost: x86_64-unknown-linux-gnu\n' ;;
--print) echo "$SYSROOT" ;;
esac
"#;

/// Writes a program that contains what a compiled one would: the paths of its sources, as the flags map them.
const CARGO: &str = r##"#!/bin/bash
set -eu
mapped() {
    local path=$1 flag pair
    while IFS= read -r -d $'\x1f' flag; do
        pair=${flag#--remap-path-prefix=}
        if [[ $1 == "${pair%%=*}"/* ]]; then path=${pair#*=}${1#"${pair%%=*}"}; fi
    done < <(printf '%s\x1f' "$CARGO_ENCODED_RUSTFLAGS")
    echo "# $path"
}
case "$1" in
build)
    out="$CARGO_TARGET_DIR/${*: -1}/release"
    mkdir -p "$out"
    {
        echo '#!/bin/sh'
        mapped "$(pwd -P)/src/main.rs"
        mapped "$CARGO_HOME/registry/src/serde/lib.rs"
        mapped "$CARGO_TARGET_DIR/release/build/out/generated.rs"
        mapped "$SYSROOT/lib/rustlib/src/rust/library/core/src/lib.rs"
        echo "# incremental: $CARGO_INCREMENTAL"
        echo 'case "$1" in'
        echo '--version) echo "tagwarden 1.2.3" ;;'
        echo 'man) printf ".TH tagwarden 1\n.SH NAME\ntagwarden \\- retention\n" >"$3/tagwarden.1" ;;'
        echo 'completions) echo "# $2" ;;'
        echo 'esac'
    } >"$out/tagwarden"
    chmod 755 "$out/tagwarden"
    ;;
cyclonedx)
    if [[ $2 == --version ]]; then echo "cargo-cyclonedx-cyclonedx $CYCLONEDX"; exit; fi
    echo "{\"bom-ref\":\"path+file://$PWD#1.2.3\",\"timestamp\":$SOURCE_DATE_EPOCH}" >"${*: -1}.json"
    ;;
esac
"##;

/// The version of cargo-cyclonedx that builds the image.
fn cyclonedx() -> String {
    let dockerfile = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).unwrap();
    dockerfile.lines().find_map(|line| line.strip_prefix("ARG CYCLONEDX=")).unwrap().to_owned()
}

/// A repository of its own with the files of this one, so that changes here do not disturb.
fn repository(folder: &Path) -> PathBuf {
    let copy = folder.join("sources");
    let script = r#"
        mkdir "$0"
        git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$0"
        cd "$0"
        git init -q && git add .
        git -c user.name=A -c user.email=a@contoso.example commit -q --message all --date 2026-01-02T03:04:05Z
    "#;
    run(Command::new("bash").args(["-euc", script]).arg(&copy).current_dir(ROOT));
    copy
}

fn clone(from: &Path, to: &Path, umask: &str) {
    let script = r#"umask "$2" && git clone -q "$0" "$1""#;
    run(Command::new("bash").args(["-euc", script]).args([from, to]).arg(umask));
}

/// Starts the script of a checkout, with the stand-ins in a folder of their own and a cargo home beside the checkout.
fn release(checkout: &Path) -> Command {
    let parent = checkout.parent().unwrap();
    let tools = parent.join("tools");
    fs::create_dir_all(&tools).unwrap();
    for (name, text) in [("cargo", CARGO), ("rustc", RUSTC)] {
        fs::write(tools.join(name), text).unwrap();
        fs::set_permissions(tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("bash");
    command.args(["-euc", r#"PATH="$0:$PATH" exec "$@""#]).arg(tools).arg(checkout.join("packaging/release"));
    command.env("CARGO_HOME", parent.join("cargo")).env("SYSROOT", parent.join("toolchain"));
    command.env("CYCLONEDX", cyclonedx()).env("COMPRESSION", "none");
    for name in ["CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "SOURCE_DATE_EPOCH"] {
        command.env_remove(name);
    }
    command
}

/// The files of a folder with their contents, in the order of their names.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Another folder behind a symbolic link, another umask, time zone and target folder, incremental builds, and files that git
/// ignores: nothing of it is in what is released.
#[test]
fn two_releases_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let sources = repository(folder.path());
    let (plain, other) = (folder.path().join("plain/checkout"), folder.path().join("real/a-much-longer-name"));
    clone(&sources, &plain, "022");
    clone(&sources, &other, "077");
    run(&mut release(&plain));

    let link = folder.path().join("link");
    symlink(folder.path().join("real"), &link).unwrap();
    fs::write(other.join(".git/info/exclude"), "*~\n").unwrap();
    for name in ["docs/acr.md~", "policies/nightly.yaml~", "deploy/grafana/tagwarden.json~"] {
        fs::write(other.join(name), "the backup of an editor").unwrap();
    }
    let out = folder.path().join("out");
    let mut command = release(&link.join("a-much-longer-name"));
    command.args([TARGET.as_ref(), out.as_os_str()]).current_dir("/");
    command.env("CARGO_TARGET_DIR", folder.path().join("target")).env("CARGO_INCREMENTAL", "1");
    command.envs([("TZ", "Pacific/Auckland"), ("LC_ALL", "C"), ("RUSTFLAGS", "-C target-cpu=native")]);
    run(command.envs([("DEB_BUILD_OPTIONS", "nodoc"), ("TAR_OPTIONS", "--exclude=*.md")]));

    let (one, two) = (files(&plain.join("dist")), files(&out));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "SHA256SUMS",
        "tagwarden-1.2.3-x86_64-unknown-linux-gnu.cdx.json",
        "tagwarden-1.2.3-x86_64-unknown-linux-gnu.tar.gz",
        "tagwarden_1.2.3_amd64.deb",
    ];
    assert_eq!(names, expected);
    let differing: Vec<&str> = one.iter().filter(|file| !two.contains(file)).map(|(name, _)| name.as_str()).collect();
    assert!(differing.is_empty() && one.len() == two.len(), "{differing:?}");
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&out));
    let (bill, archive) = (out.join(expected[1]), out.join(expected[2]));
    let bill = fs::read_to_string(bill).unwrap();
    assert!(bill.contains("path+file:///tagwarden#1.2.3"), "{bill}");
    let binary = format!("tagwarden-1.2.3-{TARGET}/tagwarden");
    let binary = run(Command::new("tar").args(["--extract", "--to-stdout", "--file"]).arg(archive).arg(binary));
    let paths: Vec<&str> = binary.lines().skip(1).take(5).collect();
    assert_eq!(
        paths,
        [
            "# /tagwarden/src/main.rs",
            "# /cargo/registry/src/serde/lib.rs",
            "# /target/release/build/out/generated.rs",
            "# /rustc/0123abcd/library/core/src/lib.rs",
            "# incremental: 0"
        ]
    );
}

/// What a run leaves behind does not stop the next one, and the checksums are of all that is in the folder, so that targets
/// can be built one after the other.
#[test]
fn a_second_target_joins_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let sources = repository(folder.path());
    for target in [TARGET, "x86_64-unknown-linux-musl"] {
        run(release(&sources).arg(target));
    }
    let sums = fs::read_to_string(sources.join("dist/SHA256SUMS")).unwrap();
    let names: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let expected = [
        "tagwarden-1.2.3-x86_64-unknown-linux-gnu.cdx.json",
        "tagwarden-1.2.3-x86_64-unknown-linux-gnu.tar.gz",
        "tagwarden-1.2.3-x86_64-unknown-linux-musl.cdx.json",
        "tagwarden-1.2.3-x86_64-unknown-linux-musl.tar.gz",
        "tagwarden_1.2.3_amd64.deb",
    ];
    assert_eq!(names, expected);
}

/// The image gets the labels of its commit, in whatever folder it is built.
#[test]
fn images_of_a_commit_get_the_same_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let sources = repository(folder.path());
    let other = folder.path().join("my work/checkout");
    clone(&sources, &other, "077");
    let builder = folder.path().join("buildah");
    fs::write(&builder, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&builder, fs::Permissions::from_mode(0o755)).unwrap();
    let image = |checkout: &Path, words: &[&str]| {
        let mut command = Command::new(checkout.join("packaging/image"));
        command.args(words).current_dir("/").env_remove("SOURCE_DATE_EPOCH");
        command.env("BUILDER", &builder).env("SOURCE", "https://git.contoso.example/tagwarden");
        command
    };
    let words = ["contoso.example/tagwarden:1", "--no-cache"];
    let built = run(&mut image(&sources, &words));
    assert_eq!(built, run(&mut image(&other, &words)));
    let git = |words: &[&str]| run(Command::new("git").args(words).current_dir(&sources)).trim().to_owned();
    let epoch = git(&["log", "-1", "--format=%ct"]);
    let expected = format!(
        "build\n--format\ndocker\n--timestamp\n{epoch}\n--tag\ncontoso.example/tagwarden:1\n--build-arg\nVERSION={}\n--build-arg\nREVISION={}\n\
         --build-arg\nSOURCE=https://git.contoso.example/tagwarden\n--build-arg\nSOURCE_DATE_EPOCH={epoch}\n--no-cache\n.\n",
        env!("CARGO_PKG_VERSION"),
        git(&["rev-parse", "HEAD"]),
    );
    assert_eq!(built, expected);

    let refused = |command: &mut Command, words: &str| {
        let Output { status, stderr, .. } = command.output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert!(status.code() == Some(1) && said.contains(words) && said.contains("; help: "), "{words}: {said}");
    };
    refused(&mut image(&sources, &[]), "the image has no name");
    refused(image(&sources, &words).env_remove("SOURCE"), "the address of the sources is missing");
    refused(image(&sources, &words).env("SOURCE", "https://ada:sesame@git.contoso.example/x"), "has a user in it");
    refused(image(&sources, &words).env("BUILDER", "kaniko"), "`kaniko` is not a known builder");
    fs::write(sources.join("docs/new.md"), "not committed").unwrap();
    refused(&mut image(&sources, &words), "the checkout has uncommitted changes");
}

/// Another version writes another bill of materials, and those before 0.5.9 a new random number each time.
#[test]
fn what_would_not_be_the_same_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sources = repository(folder.path());
    let refused = |command: &mut Command| {
        let Output { status, stderr, .. } = command.output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    };
    let wanted = cyclonedx();
    assert_eq!(
        refused(release(&sources).env("CYCLONEDX", "0.5.8")),
        format!(
            "packaging/release: `cargo cyclonedx` {wanted} is missing; help: cargo install --locked --version {wanted} \
             cargo-cyclonedx\n"
        )
    );
    assert_eq!(
        refused(release(&sources).arg("aarch64-unknown-linux-gnu")),
        "packaging/release: a binary for aarch64-unknown-linux-gnu does not run on x86_64-unknown-linux-gnu; help: build on \
         a machine of the target's architecture\n"
    );
    let spaced = folder.path().join("my work/checkout");
    clone(&sources, &spaced, "022");
    assert_eq!(
        refused(&mut release(&spaced)),
        format!(
            "packaging/release: the path `{}` has a space, which flags of the C compiler cannot have; help: use a folder \
             without spaces\n",
            spaced.display()
        )
    );
    let target = folder.path().join("my target");
    assert!(refused(release(&sources).env("CARGO_TARGET_DIR", target)).contains("my target` has a space"));
    fs::write(sources.join("docs/new.md"), "not committed").unwrap();
    assert_eq!(
        refused(&mut release(&sources)),
        "packaging/release: the checkout has uncommitted changes; help: commit or stash them\n"
    );
    assert!(!sources.join("dist").exists());
}
