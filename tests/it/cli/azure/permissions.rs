//! What the identity may not do is known before anything is planned for removal, and told with the role that would.

use super::*;

const READING: [Permission; 3] = [Permission::MetadataRead, Permission::Pull, Permission::Catalog];
const CLEANING: [Permission; 4] = [Permission::MetadataRead, Permission::Pull, Permission::Delete, Permission::Push];
const CLI: &str = "auth = { kind = \"azure-cli\" }";

async fn as_az(options: AcrOptions, lines: &str) -> Azure {
    let mut azure = Azure::with(options, lines).await;
    az_that_says(&mut azure.desk, "token-of-az");
    azure
}

#[tokio::test]
async fn without_the_right_to_delete_a_plan_notes_the_role_and_a_run_is_refused() {
    let azure = as_az(options().identity(cleaner(READING)), CLI).await;
    let words = ["c-1", "may not `delete`", "AcrDelete", "missing rights: application cleaner"];
    for file in ["plan.txt", "plan.md", "plan.html"] {
        azure.run(&format!("plan --out {file}")).await.exits(0);
        let report = azure.desk.read(file);
        for words in words {
            // Markdown quotes with backslashes, HTML with entities.
            let word = words.split('`').next().unwrap();
            assert!(report.contains(word), "{words} is missing in {file}:\n{report}");
        }
    }
    let plan = azure.run("plan --format json --out plan.json").await.exits(0).json();
    assert_eq!((&plan["refusals"], &plan["registries"][0]["notes"][0]["kind"]), (&json!([]), &json!("missing-rights")));
    let registries = azure.run("registries --format json").await.exits(0).json()["registries"].clone();
    assert_eq!(registries[0]["rights"]["state"], "missing", "{registries}");
    azure.run("registries probe contoso").await.exits(3);
    let reads = |request: &tagwarden::demo::registry::ServedRequest| {
        let token = ["/oauth2/token", "/oauth2/exchange"].contains(&request.path.as_str());
        [Method::GET, Method::HEAD].contains(&request.method) || request.method == Method::POST && token
    };
    assert!(azure.registry.requests().iter().all(reads), "{:?}", azure.registry.requests());
    azure.registry.clear_requests();
    // Approved for whoever has the rights; this identity has not.
    let done = azure.run("apply plan.json").await.exits(3);
    assert!(done.out.contains("AcrDelete"), "{}", done.out);
    azure.settings("enforce", CLI, "");
    azure.run("plan").await.exits(0);
    let done = azure.run("run").await.exits(3);
    assert!(done.out.contains("NOTHING CAN BE REMOVED: application cleaner"), "{}", done.out);
    assert_eq!((azure.deletions(), azure.registry.tags("shop/api").len()), (0, 5));
}

#[tokio::test]
async fn where_roles_are_by_repository_the_others_go_on() {
    let identity = cleaner([]).in_repository("shop/api", CLEANING).in_repository("shop/web", READING);
    let azure = as_az(AcrOptions { abac: true, ..options().identity(identity) }, CLI).await;
    for number in 1..=5 {
        azure.push("shop/web", &format!("c-{number}"), 100 - number);
    }
    let plan = azure.run("plan --format json").await.exits(0).json();
    assert_eq!((plan["removals"].as_array().unwrap().len(), &plan["refusals"]), (6, &json!([])));
    let notes = plan["registries"][0]["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((&notes[0]["kind"], &notes[0]["repository"]), (&json!("missing-rights"), &json!("shop/web")));
    let message = notes[0]["message"].as_str().unwrap();
    assert!(message.contains("Container Registry Repository Contributor"), "{message}");

    azure.settings("enforce", CLI, "");
    azure.run("run").await.exits(3);
    assert_eq!(tags(&azure.registry, "shop/api"), ["c-4", "c-5"]);
    assert_eq!(azure.registry.tags("shop/web").len(), 5);
}

#[tokio::test]
async fn without_the_role_that_lists_the_catalogue_repositories_are_named_or_nothing_is_known() {
    let identity = Identity { lists_catalog: false, ..cleaner([]).in_repository("shop/api", CLEANING) };
    let azure = as_az(AcrOptions { abac: true, ..options().identity(identity) }, CLI).await;
    let done = azure.run("plan").await.exits(5);
    for words in ["Container Registry Repository Catalog Lister", "`repositories`"] {
        assert!(done.out.contains(words), "{words} is missing in:\n{}", done.out);
    }
    azure.settings("approved", &format!("{CLI}\nrepositories = [\"shop/api\"]"), "");
    azure.walk().await;
}

#[tokio::test]
async fn roles_by_repository_may_begin_between_two_runs_and_in_the_middle_of_one() {
    let identity = cleaner(Permission::ALL).in_repository("shop/api", CLEANING);
    let mut azure = as_az(options().identity(identity), CLI).await;
    for number in 6..=40 {
        azure.push("shop/api", &format!("c-{number}"), 200 - number);
    }
    azure.run("plan --out plan.json").await.exits(0);
    azure.slow_down();
    let running = azure.running("apply plan.json --format json", 4).await;
    azure.registry.set_abac(true);
    let done = ended(running).await.exits(0);
    assert_eq!(azure.registry.tags("shop/api").len(), 2, "{}", done.out);
    azure.push("shop/api", "c-0", 300);
    azure.run("plan --out plan.json").await.exits(0);
    azure.registry.set_abac(false);
    azure.run("apply plan.json").await.exits(0);
    assert_eq!(azure.registry.tags("shop/api").len(), 2);
}

#[tokio::test]
async fn tokens_end_in_the_middle_and_a_run_may_last_longer_than_they_do() {
    // Both kinds end within the run; then all that were given before end at once, as after four hours.
    let short = AcrOptions {
        access_lifetime: SignedDuration::from_secs(1),
        refresh_lifetime: SignedDuration::from_secs(2),
        ..options()
    };
    for (options, pass) in [(short, None), (options(), Some(SignedDuration::from_hours(4)))] {
        let mut azure = as_az(options.identity(cleaner(Permission::ALL)), CLI).await;
        for number in 6..=62 {
            azure.push("shop/api", &format!("c-{number}"), 200 - number);
        }
        azure.run("plan --out plan.json").await.exits(0);
        azure.slow_down();
        let running = azure.running("apply plan.json", 5).await;
        if let Some(time) = pass {
            azure.registry.advance_time(time);
        }
        let done = ended(running).await.exits(0);
        assert_eq!(azure.registry.tags("shop/api").len(), 2, "{}", done.out);
    }
}
