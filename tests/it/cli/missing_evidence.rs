//! Data and words, closed pipes, and the exit codes of what is missing.

use std::process::Stdio;

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, fill, names, record, settings, tags};

const POLICIES: &str =
    "policies:\n  - name: old\n    select: { tags: [\"c-*\"] }\n    keep: [{ newest: 2 }]\n    mode: enforce\n";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 4);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:c-4", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    (registry, desk)
}

#[tokio::test]
async fn a_source_that_fails_keeps_everything_and_exits_with_five() {
    let (registry, desk) = shop().await;
    let sound = desk.read("releases/api.json");
    for (broken, why) in [
        ("[]", "no claim"),
        ("[{\"image\": \"x\", \"status\": \"gone\"}]", "gone"),
        ("[{\"image\":", "api.json"),
        ("[{\"image\": \"other.example/shop/api:c-4\"}]", "other.example"),
    ] {
        desk.write("releases/api.json", broken);
        let done = desk.run("run --format json").await.exits(5);
        let plan = done.json();
        assert!(names(&plan, "removals").is_empty(), "{broken}");
        assert_eq!(plan["summary"]["undecided"], 2, "{broken}");
        assert_eq!(plan["sources"][0]["state"], "failed", "{broken}");
        assert!(done.out.contains(why), "{why:?} is not told:\n{:#}", plan["sources"]);
        assert!(done.err.contains("evidence is missing"), "{}", done.err);
        let done = desk.run("explain contoso/shop/api:c-1").await.exits(5);
        assert!(done.out.contains("something needed to be sure is missing"), "{}", done.out);
        assert!(done.err.contains("source releases failed: ") && done.err.contains(why), "{}", done.err);
    }
    std::fs::remove_file(desk.path("releases/api.json")).unwrap();
    desk.run("run").await.exits(5);
    assert_eq!(tags(&registry, "shop/api").len(), 4);
    desk.write("releases/api.json", &sound);
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["c-3", "c-4"]);
}

#[tokio::test]
async fn a_source_that_fails_between_plan_and_apply_keeps_everything() {
    let (registry, desk) = shop().await;
    desk.run("plan --out plan.json").await.exits(0);
    desk.write("releases/api.json", "[]");
    let done = desk.run("apply plan.json").await.exits(5);
    assert!(done.out.contains("0 removed, 2 skipped, 0 failed"), "{}", done.out);
    assert_eq!(tags(&registry, "shop/api").len(), 4);
}

#[tokio::test]
async fn of_several_exit_codes_the_gravest_is_given() {
    let (registry, desk) = shop().await;
    fill(&registry, "shop/web", "c", 4);
    registry.inject(Fault::on(
        "/shop/web/tags/list",
        FaultKind::Status { status: 403, headers: vec![], body: String::new() },
    ));
    let plan = desk.run("run --format json").await.exits(5).json();
    assert_eq!(names(&plan, "removals"), ["shop/api:c-1", "shop/api:c-2"], "the other repository is read whole");
    desk.run("restore contoso/shop/api:c-1").await.exits(0);

    desk.write("policies/all.yaml", &POLICIES.replace("newest: 2", "newest: 1"));
    desk.write("tagwarden.toml", &format!("{}\n[limits]\nuntag = 0\n", settings(&registry.url())));
    desk.run("plan").await.exits(3);
    desk.write("policies/all.yaml", &POLICIES.replace("newest", "newst"));
    desk.run("plan").await.exits(2);
}

#[tokio::test]
async fn data_is_on_stdout_and_words_are_on_stderr() {
    let (_registry, mut desk) = shop().await;
    desk.set("TAGWARDEN_LOG", "debug");
    let outs = "--out a.json --out b.md --out c.html --out d.csv --out e.txt";
    let done = desk.run(&format!("plan --format json {outs}")).await.exits(0);
    assert_eq!(done.json()["schema"], "tagwarden.plan/1");
    assert!(done.err.contains("DEBUG"), "{}", done.err);
    for (name, format) in
        [("a.json", "json"), ("b.md", "markdown"), ("c.html", "html"), ("d.csv", "csv"), ("e.txt", "text")]
    {
        assert!(done.err.contains(&format!("wrote {name}")), "{}", done.err);
        let written = desk.read(name);
        assert!(written.contains("shop/api") && written.ends_with('\n'), "{name} is whole:\n{written}");
        let printed = desk.run(&format!("plan --format {format}")).await.exits(0).out;
        // The beginning, because the first line of a text may go on with the time.
        assert_eq!(printed.get(..12), written.get(..12), "{name}");
    }
    assert_eq!(desk.json("a.json"), done.json());
    let hidden = super::files(desk.folder.path())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tagwarden-")));
    assert_eq!(hidden.count(), 0, "no temporary file is left");

    let done = desk.run("plan --out missing/folder/plan.json").await.exits(2);
    assert!(done.err.contains("missing/folder/plan.json"), "{}", done.err);
    let json = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    assert!(json.as_array().unwrap().len() > 5);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let (registry, desk) = shop().await;
    fill(&registry, "shop/web", "c", 28);
    for words in ["plan --format json", "plan --format html", "runs", "schema", "check", "explain contoso/shop/api:c-1"]
    {
        let mut child = desk.command(words).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = if words.starts_with("plan") { Some(3) } else { Some(0) };
        assert_eq!(output.status.code(), expected, "{words}: {said}");
        assert!(!said.contains("cannot write to standard output") && !said.contains("panicked"), "{words}: {said}");
    }
}

#[tokio::test]
async fn a_source_that_suddenly_says_much_less_is_doubted_until_a_person_accepts_it() {
    let (registry, desk) = shop().await;
    let host = registry.host().to_owned();
    let records = |tags: &[u8]| {
        let records: Vec<String> =
            tags.iter().map(|tag| format!("{{\"image\": \"{host}/shop/api:c-{tag}\"}}")).collect();
        desk.write("releases/api.json", &format!("[{}]", records.join(", ")));
    };
    desk.run("sources accept nobody").await.exits(2);
    records(&[1, 2, 3, 4]);
    desk.run("plan").await.exits(0);
    let listed = desk.run("sources --format json").await.exits(0).json()["sources"].clone();
    assert_eq!((&listed[0]["claims"], &listed[0]["protects"]), (&4.into(), &4.into()), "{listed:#}");
    desk.run("sources accept releases").await.exits(2);

    records(&[2]);
    for command in ["run", "plan", "sources"] {
        let done = desk.run(command).await.exits(5);
        assert!(done.out.contains("it makes 1 claim, after 4 on"), "{}", done.out);
        assert!(done.out.contains("`tagwarden sources accept releases`"), "{}", done.out);
    }
    assert_eq!(tags(&registry, "shop/api").len(), 4, "nothing goes while it is doubted");
    records(&[2, 3]);
    desk.run("plan").await.exits(0);
    records(&[]);
    desk.run("plan").await.exits(5);
    desk.run("sources accept releases").await.exits(2);

    records(&[1, 2, 3, 4]);
    desk.run("plan").await.exits(0);
    records(&[2]);
    desk.run("plan").await.exits(5);
    let done = desk.run("sources accept releases").await.exits(0);
    assert_eq!(done.out, "source releases is believed again, with 1 claim\n");
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["c-2", "c-3", "c-4"]);
}
