//! The audit record for somebody who may read the state and nothing else: lists of runs and holds, without secrets.

use tagwarden::demo::registry::{AuthMode, EmbeddedRegistry, Options};

use super::{CliFixture, fill, record, settings};

const POLICIES: &str = "policies:
  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: [{ newest: 2 }], mode: enforce }
";

/// A registry with a password, which the file `secret` holds.
async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let auth = AuthMode::Basic { user: "ci".into(), password: "hunter2".into() };
    let registry = EmbeddedRegistry::start(Options { auth, ..Options::default() }).await.unwrap();
    fill(&registry, "shop/api", "candidate", 5);
    let login = "\nauth = { kind = \"basic\", username = \"ci\", password_file = \"secret.txt\" }\n\n";
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url()).replace("\n\n", login)),
        ("secret.txt", "hunter2"),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-5", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "approved");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

/// Two plans, an application without an approver, one with, and a restore.
async fn with_runs() -> (EmbeddedRegistry, CliFixture) {
    let (registry, desk) = shop().await;
    desk.run("plan --out one.json").await.exits(0);
    desk.run("apply one.json").await.exits(0);
    desk.run("restore contoso/shop/api:candidate-3 --no-hold").await.exits(0);
    desk.run("plan --out two.json").await.exits(0);
    desk.run("apply two.json --approved-by Grace").await.exits(0);
    (registry, desk)
}

#[tokio::test]
async fn a_list_of_runs_is_narrowed_and_says_how_many_are_left_out() {
    let (_registry, desk) = with_runs().await;
    let count = |text: &str| text.lines().filter(|line| line.contains("anna@")).count();
    for (words, rows, said) in [
        ("runs", 5, ""),
        ("runs --limit 2", 2, "and 3 runs before them: `--limit 5` lists all"),
        ("runs --limit 4", 4, "and 1 run before them: `--limit 5` lists all"),
        ("runs --kind apply", 2, "Grace"),
        ("runs --kind apply --limit 1", 1, "and 1 run before them: `--limit 2` lists all"),
        ("runs --kind plan --kind restore", 3, ""),
        ("runs --since 1h", 5, ""),
        ("runs --until 1h", 0, "no runs"),
        ("runs --since 2020-01-01 --until 2020-02-01", 0, "no runs"),
    ] {
        let done = desk.run(words).await.exits(0);
        assert_eq!(count(&done.out), rows, "{words}:\n{}", done.out);
        assert!(done.out.contains(said), "{words}: {said:?} is not in\n{}", done.out);
        assert_eq!(done.out.contains("before them"), said.contains("before them"), "{words}:\n{}", done.out);
    }
    // Without approvals the column would be empty.
    assert!(!desk.run("runs --kind plan").await.exits(0).out.contains("APPROVED BY"));
    let csv = desk.run("runs --format csv --kind apply").await.exits(0).out;
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("run,command,mode,started_at,ended_at,by,approved_by,ticket,outcome,"), "{csv}");
    assert!(rows.len() == 3 && rows[1].contains(",Grace,") && rows[2].contains(",apply,approved,"), "{csv}");
    let history = desk.run("explain --history contoso/shop/api:candidate-3").await.exits(0).out;
    for words in
        ["approved: nobody is on record", "approved: Grace (as stated", "undoes:   policy candidates does not keep it"]
    {
        assert!(history.contains(words), "{words:?} is not in\n{history}");
    }
}

/// A restore that names no removal is refused; `last` is the last run that fits the command.
#[tokio::test]
async fn a_run_or_image_without_a_removal_is_refused() {
    let (_registry, desk) = with_runs().await;
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    let plan = runs.as_array().unwrap().iter().find(|run| run["kind"] == "plan").unwrap()["id"].as_str().unwrap();
    for (words, said) in [
        (
            "restore contoso/shop/api".to_owned(),
            "`contoso/shop/api` names no tag; name one, such as contoso/shop/api:latest",
        ),
        ("restore --dry-run contoso/shop/api".to_owned(), "`--repository contoso/shop/api` means all"),
        (format!("restore --run {plan}"), "(plan) removed nothing; `tagwarden runs` shows what each run removed"),
        (format!("restore --run {plan} --dry-run"), "`--run last` means the last one that did"),
    ] {
        let done = desk.run(&words).await.exits(2);
        assert!(done.err.contains(said), "{words}: {}", done.err);
    }
    desk.run("restore --run last --no-hold").await.exits(0);
    let told = desk.run("explain --run last contoso/shop/api:candidate-3").await.exits(0).out;
    assert!(told.contains("(apply) decided on"), "{told}");
}

#[tokio::test]
async fn holds_are_listed_by_origin_and_start_and_for_a_spreadsheet() {
    let (_registry, desk) = shop().await;
    desk.run("plan --out plan.json").await.exits(0);
    desk.run("apply plan.json").await.exits(0);
    desk.run("restore contoso/shop/api:candidate-1").await.exits(0);
    desk.run("hold contoso/shop/api:candidate-5 --reason =audit").await.exits(0);
    for (words, rows) in [
        ("holds", 2),
        ("holds --origin person", 1),
        ("holds --origin restore", 1),
        ("holds --since 1h", 2),
        ("holds --since +1h", 0),
    ] {
        let done = desk.run(words).await.exits(0);
        assert_eq!(done.out.matches("contoso/shop/api:").count(), rows, "{words}:\n{}", done.out);
    }
    desk.run("unhold contoso/shop/api:candidate-1").await.exits(0);
    let csv = desk.run("holds --all --format csv").await.exits(0).out;
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 3, "{csv}");
    // A spreadsheet must not take the reason for a formula.
    assert!(rows[1].contains(",candidate-5,") && rows[1].contains(",person,'=audit,,,true"), "{csv}");
    assert!(rows[2].contains(",candidate-1,") && rows[2].contains(",restore,") && rows[2].ends_with(",false"), "{csv}");
}

#[tokio::test]
async fn who_reads_the_state_needs_no_secret_of_a_registry() {
    let (_registry, desk) = with_runs().await;
    let known = desk.run("explain --history contoso/shop/api:candidate-5").await.exits(0);
    assert!(known.out.contains("Now: in the registry"), "{}", known.out);
    std::fs::remove_file(desk.path("secret.txt")).unwrap();
    for words in [
        "runs",
        "runs show last",
        "runs show last --policies",
        "holds --all",
        "schedule",
        "explain --run last contoso/shop/api:candidate-3",
        "explain --history contoso/shop/api:candidate-3",
    ] {
        desk.run(words).await.exits(0);
    }
    // No request is sent with a password that was not read.
    let unknown = desk.run("explain --history contoso/shop/api:candidate-5").await.exits(0);
    assert!(unknown.out.contains("Now: not known whether it is in the registry now"), "{}", unknown.out);
    assert!(unknown.err.contains("its secrets cannot be read here"), "{}", unknown.err);
    // What asks the registry says which secret is missing, and what works without it.
    for words in ["plan", "hold contoso/shop/api:candidate-5 --reason x", "explain contoso/shop/api:candidate-5"] {
        let done = desk.run(words).await.exits(2);
        assert!(
            done.err.contains("`secret.txt` cannot be read") && done.err.contains("--skip-secrets"),
            "{}",
            done.err
        );
    }
}

#[tokio::test]
async fn a_name_that_is_not_known_is_compared_with_those_of_the_last_plan() {
    let (_registry, desk) = with_runs().await;
    for (words, code, said) in [
        ("explain contso/shop/api:candidate-5", 2, "did you mean `contoso/shop/api:candidate-5`?"),
        ("explain contoso/shop/ap:candidate-5", 2, "did you mean `contoso/shop/api:candidate-5`?"),
        ("explain contoso/shop/ap", 2, "did you mean `contoso/shop/api`?"),
        ("explain --history contoso/shop/ap:candidate-5", 2, "did you mean `contoso/shop/api:candidate-5`?"),
        ("explain --history contoso/other/thing:v1", 2, "the last plan has no such repository\n"),
        ("hold contoso/shop/api:candidat-5 --reason x", 2, "did you mean `contoso/shop/api:candidate-5`?"),
        ("explain --history contoso/shop/api:candidat-5", 2, "did you mean `contoso/shop/api:candidate-5`?"),
        // A tag alone, and one of a repository that is not there.
        ("explain candidate-5", 2, "registry and repository; did you mean `contoso/shop/api:candidate-5`?"),
        ("explain --history candidate-3", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("restore candidate-3", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("hold candidate-3 --reason x", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("restore nope/shop/api:candidate-3", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("restore contoso/shop/api:candidate-33", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("explain nope/shop/api:candidate-3", 2, "did you mean `contoso/shop/api:candidate-3`?"),
        ("explain contoso", 2, "`contoso` names a registry"),
        // What was removed has a history, and so has what never was.
        ("explain --history contoso/shop/api:candidate-1", 0, ""),
        ("explain --history contoso/shop/api:nothing", 0, ""),
        // With one registry, its name may be left out.
        ("restore --repository shop/api --dry-run", 0, ""),
    ] {
        let done = desk.run(words).await.exits(code);
        assert!(done.err.contains(said), "{words}: {said:?} is not in\n{}", done.err);
        assert!(!done.err.contains("?;") && done.err.matches("not in the registry").count() < 2, "{}", done.err);
    }
}

#[tokio::test]
async fn all_that_happened_in_a_period_is_listed_with_who_did_it() {
    let (_registry, desk) = with_runs().await;
    std::fs::remove_file(desk.path("secret.txt")).unwrap();
    let csv = desk.run("runs journal --since 1h --format csv").await.exits(0).out;
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("time,run,command,mode,by,approved_by,signed_by,ticket,action,registry,"), "{csv}");
    let count = |words: &str| rows.iter().filter(|row| row.contains(words)).count();
    assert_eq!((rows.len(), count(",apply,approved,anna@"), count(",restore,approved,anna@")), (6, 4, 1), "{csv}");
    assert_eq!(count(",Grace,"), 1, "{csv}");
    assert!(rows[5].contains(",candidate-3,sha256:") && rows[5].contains(",candidates,done,"), "{csv}");
    assert!(rows[5].contains("policy candidates does not keep it: "), "{csv}");
    let json = desk.run("runs journal --format json").await.exits(0).json();
    assert_eq!((&json["schema"], &json["entries"][4]["approved_by"]), (&"tagwarden.journal/1".into(), &"Grace".into()));
    for (words, said) in [
        ("runs journal --kind restore", "1 entry of 1 run, 1 done"),
        ("runs journal", "5 entries of 3 runs, 5 done"),
        ("runs journal --until 1h", "nothing was removed or restored then"),
    ] {
        let done = desk.run(words).await.exits(0);
        assert!(done.out.contains(said), "{words}: {}", done.out);
    }
}

#[tokio::test]
async fn each_json_document_says_its_schema() {
    let (_registry, desk) = with_runs().await;
    for (words, schema) in [
        ("runs", "runs"),
        ("runs journal", "journal"),
        ("runs show last", "run"),
        ("runs show last --policies", "run-policies"),
        ("holds", "holds"),
        ("schedule", "schedule"),
        ("state check", "state-check"),
        ("sources", "sources"),
        ("registries", "registries"),
        ("check", "check"),
        ("restore --run last --dry-run", "restore-preview"),
        ("restore --run last", "restore"),
        ("explain contoso/shop/api:candidate-5", "explanation"),
    ] {
        let json = desk.run(&format!("{words} --format json")).await.exits(0).json();
        assert_eq!(json["schema"], format!("tagwarden.{schema}/1"), "{words}");
    }
    desk.run("plan --out plan.json").await.exits(0);
    let json = desk.run("apply plan.json --format json").await.exits(0).json();
    assert_eq!(json["schema"], "tagwarden.apply/1");
}

/// The file of the plan is known where the same command writes it.
#[tokio::test]
async fn what_is_next_names_the_file_of_the_plan() {
    let (_registry, desk) = shop().await;
    let done = desk.run("plan --out plan2.json --out plan2.md").await.exits(0);
    for report in [done.out, desk.read("plan2.md")] {
        assert!(report.contains("run `tagwarden apply plan2.json`."), "{report}");
    }
    let file = desk.path("an'other.json");
    let done = desk.run(&format!("plan --out {}", file.display())).await.exits(0);
    let word = format!("'{}'", file.display().to_string().replace('\'', r"'\''"));
    assert!(done.out.contains(&format!("run `tagwarden apply {word}`.")), "{}", done.out);
    let done = desk.run("plan").await.exits(0);
    assert!(
        done.out.contains("run `tagwarden apply plan.json` on the file that `--out plan.json` wrote."),
        "{}",
        done.out
    );
}

#[tokio::test]
async fn tags_of_a_run_are_in_natural_order_and_equal_words_stand_once() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 14);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-14", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    desk.run("run").await.exits(0);
    let natural: Vec<String> = (1..=12).map(|number| format!("candidate-{number}")).collect();
    let names = |text: &str| -> Vec<String> {
        let words = text.split(|found: char| !found.is_ascii_alphanumeric() && found != '-');
        let mut names: Vec<String> = Vec::new();
        for word in words.filter(|word| word.starts_with("candidate-")) {
            if !names.iter().any(|name| name == word) {
                names.push(word.to_owned());
            }
        }
        names
    };
    let text = desk.run("runs show last --out run.md --out run.csv --out run.jira").await.exits(0).out;
    for report in [&text, &desk.read("run.md"), &desk.read("run.csv"), &desk.read("run.jira")] {
        let found: Vec<String> = names(report).into_iter().filter(|name| *name != "candidate-builds").collect();
        assert_eq!(found, natural, "{report}");
    }
    assert_eq!(text.matches("[policy candidates, all.yaml at sha256:").count(), 1, "{text}");
    assert!(text.lines().filter(|line| line.contains(":candidate-")).all(|line| line.len() < 80), "{text}");
    for words in ["restore --run last --dry-run", "restore --run last --no-hold"] {
        let done = desk.run(words).await.exits(0).out;
        assert_eq!(names(&done), natural, "{done}");
        assert!(done.lines().all(|line| line == line.trim_end()), "{done:?}");
        assert_eq!(done.matches("would come back\n").count(), usize::from(words.contains("dry")), "{done}");
    }
}

#[tokio::test]
async fn the_beginning_of_an_id_may_be_shared_with_runs_that_removed_nothing() {
    let (_registry, desk) = shop().await;
    desk.run("plan --out plan.json").await.exits(0);
    desk.run("apply plan.json").await.exits(0);
    desk.run("plan").await.exits(0);
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    let ids: Vec<String> = runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    // All of them began within a minute.
    let shared = &ids[1][..4];
    assert!(ids.iter().all(|id| id.starts_with(shared)), "{ids:?}");
    let done = desk.run(&format!("restore --run {shared} --dry-run")).await.exits(0);
    assert!(done.out.contains("3 would come back"), "{}", done.out);
    let done = desk.run(&format!("runs show {shared}")).await.exits(2);
    let words = format!("error: more than one run begins with `{shared}`: {} (plan), {} (apply)", ids[0], ids[1]);
    assert!(done.err.starts_with(&words) && !done.err.contains("tagwarden.db"), "{}", done.err);
}

#[tokio::test]
async fn each_request_is_logged_where_that_is_asked_for() {
    let (registry, desk) = shop().await;
    let requests = |text: &str| text.lines().filter(|line| line.contains("DEBUG request")).count();
    let steps = desk.run("plan -v").await.exits(0).err;
    assert_eq!(requests(&steps), 0, "{steps}");
    let all = desk.run("plan -vv").await.exits(0).err;
    assert!(requests(&all) > 3 && all.contains("status=200") && all.contains("millis="), "{all}");
    assert!(all.contains(&format!("GET {}/v2/", registry.url())), "{all}");
    assert!(!all.contains("SELECT ") && !all.contains("hunter2"), "{all}");
    let mut desk = desk;
    desk.set("TAGWARDEN_LOG", "debug");
    let all = desk.run("plan").await.exits(0).err;
    assert!(requests(&all) > 3 && !all.contains("SELECT "), "{all}");
    desk.set("TAGWARDEN_LOG", "warn,sqlx=debug");
    assert!(desk.run("plan").await.exits(0).err.contains("SELECT "));
}

#[tokio::test]
async fn a_run_says_each_removal_once_and_does_not_propose_to_apply_what_is_gone() {
    let (_registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__MODE", "enforce");
    let planned = desk.run("plan").await.exits(0);
    assert!(planned.out.contains("To remove them by approval instead"), "{}", planned.out);
    let done = desk.run("run").await.exits(0);
    assert!(!done.out.contains("by approval"), "{}", done.out);
    assert_eq!(done.err.matches("candidate-1").count(), 1, "{}", done.err);
    assert!(done.err.contains("3 removed, 0 skipped, 0 failed (run "), "{}", done.err);
    // Without the log, the list of the end is the only one.
    desk.run("restore --run last --no-hold").await.exits(0);
    let done = desk.run("run -q").await.exits(0);
    assert!(done.err.matches("candidate-1").count() <= 1, "{}", done.err);
}
