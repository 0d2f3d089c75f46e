//! Where output cannot be written, and what of others stands in it.

use std::fs::OpenOptions;
use std::process::{Output, Stdio};
use std::time::Duration;

use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, record, settings, tags};

const POLICIES: &str = "policies:
  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: [{ newest: 2 }], mode: enforce }
";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 5);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-5", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

/// A disk without room.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// How a command ends whose standard output is full. `Command::output` of tokio would put a pipe in its place.
async fn into_full(desk: &CliFixture, words: &str) -> Output {
    desk.command(words).stdout(full()).spawn().unwrap().wait_with_output().await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_cannot_be_printed_is_a_failure() {
    let (_registry, desk) = shop().await;
    for words in [
        "plan",
        "plan --format json",
        "check",
        "runs",
        "runs --format json",
        "explain contoso/shop/api",
        "sources",
        "schema",
        "--help",
        "--version",
    ] {
        let output = into_full(&desk, words).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains("cannot write to standard output"), "{words}: {said}");
    }
    // What is wrong with the arguments comes before.
    let output = into_full(&desk, "plan --nonsense").await;
    assert_eq!(output.status.code(), Some(2));
}

/// Neither a full disk nor a reader that went away ends a run between two removals.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_run_goes_on_where_nobody_hears_it() {
    for (log, format) in [("info", "text"), ("debug", "json")] {
        for (out_is_full, err_is_full) in [(false, true), (false, false), (true, true)] {
            let (registry, mut desk) = shop().await;
            desk.set("TAGWARDEN_LOG", log);
            desk.set("TAGWARDEN_LOG_FORMAT", format);
            let mut command = desk.command("run");
            if out_is_full {
                command.stdout(full());
            }
            if err_is_full {
                command.stderr(full());
            }
            let mut child = command.spawn().unwrap();
            // The ends that would be read are gone from the start.
            drop((child.stdout.take(), child.stderr.take()));
            let code = child.wait().await.unwrap().code();
            assert_eq!(code, Some(i32::from(out_is_full)), "{log} {format} {out_is_full} {err_is_full}");
            assert_eq!(tags(&registry, "shop/api"), ["candidate-4", "candidate-5"]);
            let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
            assert_eq!(runs[0]["outcome"], "done", "{runs:#}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_daemon_lives_on_where_nobody_hears_it() {
    let (_registry, mut desk) = shop().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.set("TAGWARDEN__LISTEN", &format!("127.0.0.1:{port}"));
    let mut daemon = desk.command("serve").stderr(full()).spawn().unwrap();
    for _ in 0..600 {
        if desk.run("health --ready").await.code == 0 {
            assert!(daemon.try_wait().unwrap().is_none());
            return;
        }
        assert!(daemon.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never was ready");
}

/// Texts of files can speak neither to a terminal nor to the system that runs a build.
#[tokio::test]
async fn texts_of_files_steer_nothing() {
    let (registry, desk) = shop().await;
    let hostile =
        r"::set-output name=a::b\n::error::c\r##vso[task.setvariable variable=d]e\e[2J\x9b31m \u202e ##[command]f";
    let policies = format!(
        "policies:\n  - name: candidates\n    description: \"{hostile}\"\n    owner: \"{hostile}\"\n    \
         select: {{ tags: [\"candidate-*\"] }}\n    keep: [{{ newest: 2 }}, {{ newest: 1 }}]\n"
    );
    desk.write("policies/all.yaml", &policies);
    let service = serde_json::to_string(
        "::warning::g\n::set-output name=h::i\u{1b}]0;title\u{7}##vso[task.complete]\u{9b}m ##teamcity[x]",
    );
    let image = format!("{}/shop/api:candidate-5", registry.host());
    desk.write("releases/api.json", &format!("[{{\"image\": \"{image}\", \"service\": {}}}]", service.unwrap()));
    let mut outputs = Vec::new();
    for words in [
        "check",
        "plan",
        "plan --format markdown",
        "plan --format csv",
        "plan --format json",
        "plan --format html",
        "explain contoso/shop/api:candidate-5",
        "explain contoso/shop/api:candidate-5 --format json",
        "runs show last",
        "runs show last --format markdown",
    ] {
        let done = desk.run(words).await.exits(0);
        outputs.extend([(words, done.out), (words, done.err)]);
    }
    desk.write("policies/all.yaml", &policies.replace("newest: 1", "::error::x\\e[2J"));
    outputs.push(("broken", desk.run("check").await.exits(2).err));
    for (words, output) in outputs {
        for line in output.lines() {
            assert!(!line.trim_start().starts_with("::"), "{words}: {line:?}");
            let commands = ["##vso[", "##[", "##teamcity["];
            assert!(!commands.iter().any(|command| line.contains(command)), "{words}: {line:?}");
            let steers = |c: char| c.is_control() && c != '\t' || c == '\u{202e}';
            assert!(words.contains("html") || !line.contains(steers), "{words}: {line:?}");
        }
    }
}

/// In a folder of many policies only those are compared that may select the same tags.
#[tokio::test]
async fn many_policies_are_checked_soon() {
    let (_registry, desk) = shop().await;
    let mut policies = String::from("policies:\n");
    for number in 0..800 {
        let select = format!("{{ repositories: [\"team-{number}/**\"], tags: [\"build-*\", \"!*-keep\"] }}");
        let keep = format!("[{{ newest: {} }}]", number + 1);
        policies.push_str(&["  - name: team-", &number.to_string(), "\n    select: ", &select].concat());
        policies.push_str(&["\n    keep: ", &*keep, "\n"].concat());
    }
    policies += "  - { name: last, select: { repositories: [\"team-7/api\"], tags: [\"build-1*\"] }, keep: [{ within: 3d }] }\n";
    desk.write("policies/all.yaml", &policies);
    let done = desk.run("check --format json").await.exits(0).json();
    let lints = done["lints"].as_array().unwrap();
    let found =
        |kind: &str, policy: &str| lints.iter().filter(|one| one["kind"] == kind && one["policy"] == policy).count();
    assert_eq!(found("overlap", "last") + found("overlap", "team-7"), 1, "{lints:#?}");
}
