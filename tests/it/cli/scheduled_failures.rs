//! A night that fails says why: in the log, in the report, in the record, in the same words.

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, CliOutput, fill, record, settings, tags};

const POLICIES: &str = "policies:
  - { name: old, select: { tags: [\"c-*\"] }, keep: [{ newest: 2 }], mode: enforce }
";

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 4);
    fill(&registry, "shop/web", "c", 4);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", POLICIES),
        ("releases/api.json", &record(&format!("{}/shop/api:c-4", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    (registry, desk)
}

/// The line of the log with these words, without what stands before them.
fn warned<'a>(done: &'a CliOutput, words: &str) -> &'a str {
    let mut lines = done.err.lines().filter(|line| line.contains("WARN") && line.contains(words));
    let line = lines.next().unwrap_or_else(|| panic!("{words:?} is not in the log:\n{}", done.err));
    assert_eq!(lines.next(), None, "it is told once");
    &line[line.find(words).unwrap()..]
}

/// That report, record and page of a run say what its log says, before everything else.
async fn told_everywhere(desk: &CliFixture, done: &CliOutput, words: &str, kind: &str) {
    // Fields of the event follow the sentence.
    let sentence = warned(done, words).split(" kind=").next().unwrap();
    let before = done.out.split("\nRegistries\n").next().unwrap();
    // A report has a section of refusals, which comes before what needs attention.
    let (heading, entry) = match sentence.strip_prefix("refused: ") {
        Some(refusal) => ("REFUSED", refusal),
        None => ("Needs attention", sentence),
    };
    assert!(before.contains(heading) && before.contains(entry), "{sentence}\n{}", done.out);
    let shown = desk.run("runs show last").await.exits(0);
    assert!(shown.out.starts_with("Needs attention\n") && shown.out.contains(sentence), "{sentence}\n{}", shown.out);
    let json = desk.run("runs show last --format json").await.exits(0).json();
    assert_eq!(json["attention"][0]["kind"], kind, "{json:#}");
    let html = desk.run("runs show last --format html").await.exits(0);
    let markdown = desk.run("runs show last --format markdown").await.exits(0);
    for page in [html, markdown] {
        assert_eq!(page.out.matches("Needs attention").count(), 1, "{}", page.out);
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_the_headline() {
    let (_registry, desk) = shop().await;
    desk.write("tagwarden.toml", &settings("http://127.0.0.1:9"));
    let done = desk.run("run").await.exits(5);
    told_everywhere(&desk, &done, "registry contoso could not be read: ", "registry-unread").await;
    assert!(warned(&done, "registry contoso could").contains("check that http://127.0.0.1:9"), "{}", done.err);
    let second = done.out.lines().nth(1).unwrap();
    assert!(second.starts_with("NOTHING WAS READ: registry contoso could not be read: "), "{second}");
    assert!(done.err.contains("nothing was read: registry contoso"), "{}", done.err);
    assert!(!done.out.contains("0 tags:") && !done.err.contains("0 tags,"), "{}\n{}", done.out, done.err);
}

#[tokio::test]
async fn one_of_two_registries_that_cannot_be_reached_is_named_beside_the_numbers() {
    let (registry, desk) = shop().await;
    let other = "\n[registries.other]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:9\"\n";
    desk.write("tagwarden.toml", &(settings(&registry.url()) + other));
    let done = desk.run("run").await.exits(5);
    told_everywhere(&desk, &done, "registry other could not be read: ", "registry-unread").await;
    let second = done.out.lines().nth(1).unwrap();
    assert!(second.starts_with("8 tags: ") && second.contains("NOT READ: registry other"), "{second}");
}

#[tokio::test]
async fn what_could_not_be_read_of_a_registry_is_told_with_its_cause() {
    let (registry, desk) = shop().await;
    registry.inject(Fault::on("shop/web/tags/list", FaultKind::status(403)));
    let done = desk.run("run").await.exits(5);
    let words = "registry contoso could be read only in part: shop/web: the list of tags: ";
    told_everywhere(&desk, &done, words, "registry-partly-unread").await;
    assert_eq!(tags(&registry, "shop/web").len(), 4);
}

#[tokio::test]
async fn a_source_that_fails_is_told_with_its_cause() {
    let (registry, desk) = shop().await;
    desk.write("releases/api.json", "[{\"image\":");
    let done = desk.run("run").await.exits(5);
    told_everywhere(&desk, &done, "source releases failed: ", "source-failed").await;
    assert!(warned(&done, "source releases failed: ").contains("; `tagwarden sources` asks releases again"));
    assert_eq!(tags(&registry, "shop/api").len(), 4);
}

#[tokio::test]
async fn a_refusal_is_told_with_what_to_do() {
    let (registry, mut desk) = shop().await;
    desk.set("TAGWARDEN__LIMITS__UNTAG", "1");
    let done = desk.run("run").await.exits(3);
    told_everywhere(&desk, &done, "refused: this run: ", "refused").await;
    let (first, effect) = ("refused: this run: ", "; this run skipped the refused removals (see REFUSED)");
    let last = done.err.lines().last().unwrap();
    assert!(last.starts_with(first) && last.ends_with(effect), "{}", done.err);
    let planned = desk.run("plan").await.exits(3).err;
    let last = planned.lines().last().unwrap();
    assert!(
        last.starts_with(first) && last.contains("; an enforcing run would skip the refused removals"),
        "{planned}"
    );
    let second = done.out.lines().nth(1).unwrap();
    assert!(second.contains("; REFUSED: this run: "), "{second}");
    assert_eq!(tags(&registry, "shop/api").len(), 4);
}

#[tokio::test]
async fn a_run_that_ends_with_an_error_says_so_first() {
    let (_registry, desk) = shop().await;
    desk.run("plan --out plan.json").await.exits(0);
    let plan = desk.read("plan.json");
    desk.write("policies/all.yaml", &POLICIES.replace("newest: 2", "newest: 1"));
    desk.write("plan.json", &plan);
    desk.run("apply plan.json").await.exits(3);
    let shown = desk.run("runs show last").await.exits(0);
    assert!(shown.out.starts_with("Needs attention\n  !! apply 0"), "{}", shown.out);
    let json = desk.run("runs show last --format json").await.exits(0).json();
    assert_eq!(json["attention"][0]["kind"], "run-failed", "{json:#}");
}

/// Two plans that would do the same have the same fingerprint; any difference in what they would do gives another.
#[tokio::test]
async fn a_fingerprint_says_whether_something_has_changed() {
    let (registry, mut desk) = shop().await;
    let plan = async |desk: &CliFixture| {
        let json = desk.run("plan --format json").await.json();
        (json["fingerprint"].as_str().unwrap().to_owned(), json["id"].as_str().unwrap().to_owned())
    };
    let (first, id) = plan(&desk).await;
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    let (second, other) = plan(&desk).await;
    assert_eq!(first, second);
    assert_ne!(id, other);
    // What is kept, and by whom, is not in it.
    desk.write("releases/api.json", &record(&format!("{}/shop/api:c-3", registry.host())));
    assert_eq!(plan(&desk).await.0, first);
    for format in ["text", "markdown", "html"] {
        let report = desk.run(&format!("plan --format {format}")).await.exits(0).out;
        assert!(report.contains(&first), "{format}: {report}");
    }
    let shown = desk.run("runs show last").await.exits(0).out;
    assert!(shown.contains(&format!("plans with fingerprint {first}")), "{shown}");

    desk.write("releases/api.json", &record(&format!("{}/shop/api:c-1", registry.host())));
    let protected = plan(&desk).await.0;
    desk.write("policies/all.yaml", &format!("{POLICIES}# a comment\n"));
    let edited = plan(&desk).await.0;
    desk.set("TAGWARDEN__LIMITS__UNTAG", "1");
    let refused = plan(&desk).await.0;
    let mut all = vec![first, protected, edited, refused];
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

/// The last line on stderr is all that a script's log may have.
#[tokio::test]
async fn the_last_line_names_place_and_cause() {
    let (registry, desk) = shop().await;
    desk.write("releases/api.json", "[{\"image\":");
    let last = |done: CliOutput| done.err.lines().last().unwrap_or_default().to_owned();
    let effect = "; 4 tags are undecided and stay";
    for words in ["run", "plan -q"] {
        let line = last(desk.run(words).await.exits(5));
        let begins = line.starts_with("evidence is missing: source releases failed: ") && line.contains("api.json:1");
        assert!(begins && line.ends_with(effect), "{words}: {line}");
    }
    let line = last(desk.run("explain contoso/shop/api:c-1").await.exits(5));
    assert!(line.starts_with("evidence is missing: source releases failed: "), "{line}");
    registry.inject(Fault::on("shop/web/tags/list", FaultKind::status(403)));
    let line = last(desk.run("run").await.exits(5));
    assert!(line.contains("; and 1 more; 2 tags are undecided and stay"), "{line}");
}
