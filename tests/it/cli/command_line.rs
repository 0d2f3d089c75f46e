//! The command line itself: mistakes and what is said of them, help, completions, manual pages, colors, and the flags that
//! all commands share.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tagwarden::demo::registry::{EmbeddedRegistry, Options};
use tokio::io::AsyncWriteExt as _;

use super::{CliFixture, fill, names, record, settings, tags};

const POLICY: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    \
                      keep: [{ newest: 1 }]\n    mode: enforce\n";

/// A registry with two repositories of three candidates each, of which two are removed.
async fn shop(policies: &str) -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 3);
    fill(&registry, "shop/web", "candidate", 3);
    let mut desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", policies),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-3", registry.host()))),
    ]);
    desk.set("TAGWARDEN__MODE", "enforce");
    desk.set("TAGWARDEN__LIMITS__PERCENT", "100");
    (registry, desk)
}

#[tokio::test]
async fn mistakes_are_named_in_the_first_line() {
    let (_registry, desk) = shop(POLICY).await;
    let text = desk.read("tagwarden.toml")
        + "[notify.ops]\nkind = \"webhook\"\nurl_file = \"url.txt\"\nsecret_file = \"secret.txt\"\non = [\"removed\"]\n";
    desk.write("url.txt", "http://127.0.0.1:9/");
    desk.write("secret.txt", "hunter2hunter2hunter2hunter2hunter2");
    desk.write("tagwarden.toml", &text);
    desk.write("broken.json", "{");
    desk.write("other.json", "{\"schema\": \"x/1\"}");
    desk.write("newer.json", "{\"schema\": \"tagwarden.plan/9\"}");
    desk.write("plan.md", "# Plan\n");
    desk.write("plan.json", "{}");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("command_faults.txt").lines().filter(|line| !line.starts_with('#')) {
        let [arguments, code, expected] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let done = desk.run(arguments).await;
        let first = done.err.lines().find(|line| !line.starts_with("warning: ")).unwrap_or_default();
        if done.code.to_string() != code || !first.starts_with(expected.trim_end()) {
            wrong.push(format!("{arguments} | {} | {first}", done.code));
        }
        count += 1;
    }
    assert!(count >= 50, "{count}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// All commands, with those below them.
fn all_commands(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let name = format!("{name} {}", one.get_name());
        found.push((name.clone(), one.clone()));
        all_commands(one, &name, found);
    }
}

#[test]
fn help_is_short_and_has_examples_that_parse() {
    let mut root = tagwarden::cli::command();
    root.build();
    let mut commands = Vec::new();
    all_commands(&root, "tagwarden", &mut commands);
    let mut problems = Vec::new();
    for (name, command) in &commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let flags = command.get_arguments().filter(|one| one.get_id() != "help" && one.get_id() != "version");
        let helps = flags.map(|one| one.get_help().map(ToString::to_string).unwrap_or_default());
        for text in std::iter::once(about).chain(helps) {
            let capital = text.chars().next().is_some_and(char::is_uppercase);
            if text.is_empty() || text.len() >= 70 + "[default: ./tagwarden.toml, then ]".len() || !capital {
                problems.push(format!("{name}: {text:?}"));
            }
        }
        if name.matches(' ').count() > 1 {
            continue;
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = after.lines().map(str::trim).filter(|line| line.starts_with("tagwarden ")).collect();
        if examples.is_empty() || !after.contains("Exit codes: ") {
            problems.push(format!("{name}: no example, or no exit codes"));
        }
        for line in examples {
            let line = line.split("  ").next().unwrap_or_default();
            if let Err(error) = tagwarden::cli::command().try_get_matches_from(line.split_whitespace()) {
                problems.push(format!("{line}: {error}"));
            }
        }
    }
    assert!(commands.len() > 30, "{}", commands.len());
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    let desk = CliFixture::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = desk.run(&format!("completions {shell}")).await.exits(0).out;
        for word in ["explain", "unhold", "completions", "--repository", "--color"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    // Words of closed sets are proposed, and no files where a name is meant.
    let script = desk.run("completions bash").await.exits(0).out;
    let case = |option: &str| {
        let start = script.find(&format!("                {option})\n")).unwrap();
        script[start..].lines().nth(1).unwrap().to_owned()
    };
    assert!(case("--accept").contains("percent-limit"), "{}", case("--accept"));
    assert!(case("--kind").contains("harbor") || case("--kind").contains("plan"), "{}", case("--kind"));
    assert!(!case("--policy").contains("compgen -f"), "{}", case("--policy"));
    assert!(case("--out").contains("compgen -f"), "{}", case("--out"));
    let page = desk.run("man").await.exits(0).out;
    assert!(page.contains(".TH TAGWARDEN 1") && page.contains("explain"), "{page}");
    let page = desk.run("man runs show").await.exits(0).out;
    assert!(page.contains(".TH TAGWARDEN-RUNS-SHOW 1"), "{page}");
    desk.run("man --out pages").await.exits(0);
    let mut root = tagwarden::cli::command();
    root.build();
    let mut commands = Vec::new();
    all_commands(&root, "tagwarden", &mut commands);
    assert_eq!(fs::read_dir(desk.path("pages")).unwrap().count(), commands.len() + 1);
    for (name, _) in commands {
        assert!(desk.path(&format!("pages/{}.1", name.replace(' ', "-"))).exists(), "{name}");
    }
}

#[tokio::test]
async fn the_reference_has_every_command_and_option() {
    let page = CliFixture::new().run("man --markdown").await.exits(0).out;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(page == written, "write the output of `tagwarden man --markdown` to docs/commands.md");
    let mut root = tagwarden::cli::command();
    root.build();
    let mut commands = Vec::new();
    all_commands(&root, "tagwarden", &mut commands);
    for (name, command) in commands.iter().filter(|(_, command)| !command.is_hide_set()) {
        let start = page.find(&format!("# `{name}`\n")).unwrap_or_else(|| panic!("{name}"));
        let part = &page[start..];
        let part = &part[..part[1..].find("\n#").map_or(part.len(), |end| end + 1)];
        for option in command.get_arguments().filter(|one| !one.is_global_set() && !one.is_hide_set()) {
            if let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) {
                assert!(part.contains(&format!("--{long}")), "{name} --{long}");
            }
        }
    }
}

#[tokio::test]
async fn colors_are_used_where_they_are_wanted() {
    let (_registry, mut desk) = shop(POLICY).await;
    desk.set("TAGWARDEN__LIMITS__PERCENT", "10");
    let is_colored = |text: &str| text.contains('\u{1b}');
    assert!(!is_colored(&desk.run("plan").await.exits(3).out), "no terminal");
    let colored = desk.run("plan --color always").await.exits(3).out;
    assert!(colored.contains("\u{1b}[31mREFUSED"), "{colored}");
    assert!(!is_colored(&desk.run("plan --color=always --format json").await.exits(3).out));
    assert!(!is_colored(&desk.run("plan --color always --format csv").await.exits(3).out));
    assert!(is_colored(&desk.run("plan --help --color always").await.exits(0).out));
    desk.set("CLICOLOR_FORCE", "1");
    assert!(is_colored(&desk.run("plan").await.exits(3).out));
    assert!(!is_colored(&desk.run("plan --color never").await.exits(3).out));
    desk.set("NO_COLOR", "1");
    assert!(!is_colored(&desk.run("plan").await.exits(3).out));
    assert!(is_colored(&desk.run("plan --color always").await.exits(3).out));
}

#[tokio::test]
async fn the_settings_file_can_be_named_by_the_environment() {
    let mut desk = CliFixture::with(&[
        ("here.toml", "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:9\"\n"),
        ("policies/all.yaml", POLICY),
    ]);
    desk.run("check").await.exits(2);
    desk.set("TAGWARDEN_CONFIG", "here.toml");
    assert!(desk.run("check").await.exits(0).out.starts_with("here.toml is valid"));
    // The flag comes first.
    desk.run("check --config missing.toml").await.exits(2);
    desk.set("TAGWARDEN_CONFIG", "");
    desk.run("check").await.exits(2);
}

#[tokio::test]
async fn quiet_says_results_and_errors_only_and_verbose_says_more() {
    let (_registry, desk) = shop(POLICY).await;
    let normal = desk.run("plan --out plan.md").await.exits(0);
    assert!(normal.err.contains("wrote plan.md"), "{}", normal.err);
    let quiet = desk.run("-q plan --out plan.md").await.exits(0);
    assert_eq!(quiet.err, "");
    assert!(!quiet.out.is_empty());
    let verbose = desk.run("plan -v").await.exits(0);
    assert!(verbose.err.len() > normal.err.len(), "{}", verbose.err);
}

#[tokio::test]
async fn files_may_be_standard_input_and_output() {
    let (registry, desk) = shop(POLICY).await;
    let feed = async |words: &str, text: &str| {
        let mut child = desk.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let inventory = desk.run("inventory --out -").await.exits(0).out;
    let (code, out) = feed("diff --against policies --inventory - --exit-code", &inventory).await;
    assert_eq!(code, 0, "{out}");
    let (code, out) = feed("diff --against - --exit-code", &POLICY.replace("newest: 1", "newest: 3")).await;
    assert_eq!(code, 1, "{out}");
    let plan = desk.run("plan --format json").await.exits(0).out;
    let (code, out) = feed("apply -", &plan).await;
    assert_eq!(code, 0, "{out}");
    assert_eq!(tags(&registry, "shop/api"), ["candidate-3"]);
}

#[tokio::test]
async fn times_may_be_relative() {
    let (_registry, desk) = shop(&POLICY.replace("newest: 1", "within: 30000d")).await;
    assert_eq!(names(&desk.run("plan --format json").await.exits(0).json(), "removals"), [""; 0]);
    let later = desk.run("plan --format json --at +29990d").await.json();
    assert_eq!(later["hypothetical"], true);
    assert_eq!(names(&later, "removals").len(), 5);
    desk.run("plan --at -1h").await.exits(0);
    let held = desk.run("hold contoso/shop/api:candidate-1 --until +3d --reason x --format json").await.exits(0).json();
    assert_eq!(held["reason"], "x");
}

const TWO_POLICIES: &str = "policies:\n  - name: api\n    select: { repositories: [shop/api], tags: [\"candidate-*\"] }\n    \
                            keep: [{ newest: 1 }]\n    mode: enforce\n  - name: web\n    select: { repositories: \
                            [shop/web], tags: [\"candidate-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";

#[tokio::test]
async fn a_narrowed_plan_shows_and_applies_a_part() {
    let (registry, desk) = shop(TWO_POLICIES).await;
    let whole = desk.run("plan --format json").await.exits(0).json();
    assert!(whole.get("narrowed").is_none());
    assert_eq!(names(&whole, "removals").len(), 4);
    let narrowed = desk.run("plan --format json --repository **/api").await.exits(0).json();
    assert_eq!(names(&narrowed, "removals"), ["shop/api:candidate-1", "shop/api:candidate-2"]);
    assert_eq!(names(&narrowed, "kept"), ["shop/api:candidate-3 protected"]);
    assert_eq!(narrowed["summary"]["tags"], 3);
    assert_eq!(narrowed["narrowed"], serde_json::json!({ "repositories": ["**/api"] }));
    assert_eq!(names(&desk.run("plan --format json --repository !shop/api").await.exits(0).json(), "kept").len(), 1);
    let text = desk.run("plan --repository shop/api").await.exits(0).out;
    assert!(text.contains("NARROWED to repositories shop/api"), "{text}");

    // The last whole plan is still the one that things are compared with.
    desk.run("explain contoso/shop/web:candidate-1 --run last").await.exits(2);

    desk.write("narrowed.json", &narrowed.to_string());
    desk.run("apply narrowed.json").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-3"]);
    assert_eq!(tags(&registry, "shop/web").len(), 3);
    // An edited one is not applied.
    let mut edited = narrowed.clone();
    edited.as_object_mut().unwrap().remove("narrowed");
    desk.write("edited.json", &edited.to_string());
    desk.run("apply edited.json").await.exits(3);

    let none = desk.run("plan --repository shop/apu").await.exits(2);
    assert!(none.err.contains("did you mean `shop/api`?"), "{}", none.err);
    desk.run("run --dry-run --policy web").await.exits(0);
    assert_eq!(tags(&registry, "shop/web").len(), 3);
    desk.run("run --policy api").await.exits(0);
    assert_eq!(tags(&registry, "shop/web").len(), 3);
    desk.run("run --policy web").await.exits(0);
    assert_eq!(tags(&registry, "shop/web"), ["candidate-3"]);
}

#[tokio::test]
async fn a_narrowed_plan_is_held_to_the_limits_of_the_whole() {
    let (registry, mut desk) = shop(TWO_POLICIES).await;
    desk.set("TAGWARDEN__LIMITS__UNTAG", "3");
    desk.run("plan").await.exits(3);
    for narrowing in ["--policy api", "--repository shop/api", "--registry contoso --repository shop/web"] {
        let plan = desk.run(&format!("plan --format json {narrowing}")).await.exits(3).json();
        assert_eq!(plan["refusals"][0]["kind"], "untag-limit", "{narrowing}");
        desk.run(&format!("run {narrowing}")).await.exits(3);
    }
    assert_eq!((tags(&registry, "shop/api").len(), tags(&registry, "shop/web").len()), (3, 3));
    // A limit that only the other repository exceeds does not hold this one back.
    desk.set("TAGWARDEN__LIMITS__UNTAG", "1000");
    desk.set("TAGWARDEN__LIMITS__LEAVE", "2");
    registry.put_image("shop/web", "release", &super::image("release", "2024-02-01"));
    desk.run("plan").await.exits(3);
    desk.run("plan --repository shop/web").await.exits(0);
    desk.run("plan --repository shop/api").await.exits(3);
}

/// A tag that two policies let go belongs to a plan only if both are asked for.
#[tokio::test]
async fn what_another_policy_lets_go_too_is_only_reported() {
    let both = POLICY.to_owned()
        + "  - name: others\n    select: { repositories: [shop/web] }\n    keep: none\n    mode: enforce\n";
    let (registry, desk) = shop(&both).await;
    let enforced = |plan: &serde_json::Value| {
        let removals = plan["removals"].as_array().unwrap();
        removals.iter().filter(|one| one["enforce"] == true).map(|one| one["repository"].clone()).collect::<Vec<_>>()
    };
    let plan = desk.run("plan --format json --policy candidates").await.json();
    assert_eq!(enforced(&plan), ["shop/api", "shop/api"]);
    desk.run("run --policy candidates").await;
    assert_eq!((tags(&registry, "shop/api").len(), tags(&registry, "shop/web").len()), (1, 3));
    let plan = desk.run("plan --format json --policy candidates --policy others").await.json();
    assert_eq!(enforced(&plan).len(), 2);
}

/// A limit is accepted for one plan, under its id, up to what the plan shows; the audit record has it.
#[tokio::test]
async fn a_limit_is_accepted_for_one_plan() {
    let (registry, mut desk) = shop(TWO_POLICIES).await;
    desk.set("TAGWARDEN__LIMITS__PERCENT", "50");
    desk.set("TAGWARDEN__LIMITS__UNTAG", "3");
    let refused = desk.run("plan --format json").await.exits(3).json();
    let messages: Vec<&str> =
        refused["refusals"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(
        messages,
        [
            "this run: 4 removals; limit is 3 (`limits.untag` in tagwarden.toml); raise it to 4, or accept it for one plan \
             with `tagwarden plan --accept untag-limit@run --reason TEXT`",
            "contoso/shop/api: 2 of 3 tags would be removed; limit is 50% (`limits.percent` in tagwarden.toml); keep 1 \
             more, raise it to 67, or accept it for one plan with `tagwarden plan --accept percent-limit@contoso/shop/api \
             --reason TEXT`",
            "contoso/shop/web: 2 of 3 tags would be removed; limit is 50% (`limits.percent` in tagwarden.toml); keep 1 \
             more, raise it to 67, or accept it for one plan with `tagwarden plan --accept percent-limit@contoso/shop/web \
             --reason TEXT`",
        ]
    );
    // One of three is not enough, and says nothing of the others.
    let some = desk.run("plan --format json --accept untag-limit --reason first").await.exits(3).json();
    assert_eq!(some["accepted"].as_array().unwrap().len(), 1);
    assert_eq!(some["refusals"].as_array().unwrap().len(), 2);

    let words = "plan --format json --accept untag-limit@run --accept percent-limit@contoso/shop/api --reason CHG-1";
    let plan = desk.run(words).await.exits(3).json();
    assert_ne!(plan["id"], refused["id"]);
    assert_eq!(plan["accepted"][1]["extent"], serde_json::json!({ "found": 2, "tags": 3 }));
    assert_eq!(plan["accepted"][1]["reason"], "CHG-1");
    let text = desk.run(&words.replace("json", "text")).await.exits(3).out;
    let all = "`tagwarden plan --accept percent-limit@contoso/shop/api --accept percent-limit@contoso/shop/web --accept \
               untag-limit@run --reason TEXT --out plan.json`";
    assert!(unwrapped(&text).contains(all), "{text}");
    assert!(text.contains("ACCEPTED for this plan only") && text.contains(": CHG-1\n"), "{text}");
    desk.write("plan.json", &plan.to_string());
    let done = desk.run("apply plan.json").await.exits(0);
    assert!(done.out.contains("2 removed, 2 refused, 0 skipped, 0 failed"), "{}", done.out);
    assert_eq!((tags(&registry, "shop/api").len(), tags(&registry, "shop/web").len()), (1, 3));
    let shown = desk.run("runs show last").await.exits(0).out;
    assert!(shown.contains("accepted contoso/shop/api: 2 of 3 tags would be removed"), "{shown}");

    // An acceptance that somebody adds to a plan makes it another plan.
    let mut edited = desk.run("plan --format json --accept untag-limit --reason x").await.exits(3).json();
    edited["accepted"] = plan["accepted"].clone();
    desk.write("edited.json", &edited.to_string());
    desk.run("apply edited.json").await.exits(3);
    // A run accepts nothing, and counts alike.
    let done = desk.run("run").await.exits(3);
    assert!(done.err.contains("0 removed, 2 refused, 0 skipped, 0 failed"), "{}", done.err);
    assert_eq!(tags(&registry, "shop/web").len(), 3);
}

/// A scope without a refusal is an error, because it would accept nothing.
#[tokio::test]
async fn a_scope_without_a_refusal_is_an_error() {
    let (_registry, mut desk) = shop(TWO_POLICIES).await;
    desk.set("TAGWARDEN__LIMITS__PERCENT", "50");
    let wrong = desk.run("plan -q --accept percent-limit@contoso/shop/apii --reason x --out plan.json").await.exits(2);
    let meant = "--accept percent-limit@contoso/shop/apii: the plan has no such refusal, did you mean \
                 `percent-limit@contoso/shop/api`?";
    assert!(unwrapped(&wrong.err).contains(meant), "{}", wrong.err);
    assert!(wrong.out.is_empty() && !desk.folder.path().join("plan.json").exists(), "{}", wrong.out);
    // Where there is one registry, its name may be left out.
    let plan = desk.run("plan --format json --accept percent-limit@shop/api --reason x").await.exits(3).json();
    assert_eq!(plan["accepted"][0]["repository"], "shop/api");
    let wrong = desk.run("plan --accept untag-limit@run --reason x").await.exits(2).err;
    assert!(unwrapped(&wrong).contains("its refusals: `percent-limit@contoso/shop/api`"), "{wrong}");
    // Each glob has to match.
    let wrong = desk.run("plan --repository shop/api --repository nope/**").await.exits(2).err;
    assert!(wrong.contains("nope/**") && !wrong.contains("unknown repository `shop/api"), "{wrong}");
}

/// What is worse by now than what the plan showed was never accepted.
#[tokio::test]
async fn no_more_is_accepted_than_the_plan_shows() {
    let (registry, desk) = shop(TWO_POLICIES).await;
    let mut desk = desk;
    desk.set("TAGWARDEN__LIMITS__PERCENT", "30");
    registry.put_image("shop/web", "release", &super::image("release", "2024-02-01"));
    let plan = desk.run("plan --format json --accept percent-limit --reason x").await.exits(0).json();
    desk.write("plan.json", &plan.to_string());
    // Now two of three tags would be removed, not two of four.
    assert!(registry.delete_tag("shop/web", "release"));
    let done = desk.run("apply plan.json").await;
    assert_eq!((tags(&registry, "shop/api").len(), tags(&registry, "shop/web").len()), (1, 3), "{done:?}");
    assert!(done.out.contains("2 of 3 tags would be removed"), "{}", done.out);
}

/// A rule that protects nothing is accepted by its own kind, and only where it was.
#[tokio::test]
async fn a_rule_that_protects_nothing_is_accepted() {
    let policies = POLICY.to_owned() + "  - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n";
    let (registry, desk) = shop(&policies).await;
    let refused = desk.run("plan --format json").await.exits(3).json();
    assert_eq!(refused["refusals"][0]["kind"], "protects-nothing");
    desk.run("plan --accept percent-limit --reason x").await.exits(3);
    let plan = desk.run("plan --format json --accept protects-nothing --reason none-yet").await.exits(0).json();
    desk.write("plan.json", &plan.to_string());
    desk.run("apply plan.json").await.exits(0);
    assert_eq!((tags(&registry, "shop/api").len(), tags(&registry, "shop/web").len()), (1, 1));
}

#[tokio::test]
async fn a_hold_on_a_removed_tag_says_how_to_get_it_back() {
    let (registry, desk) = shop(POLICY).await;
    desk.run("run").await.exits(0);
    assert_eq!(tags(&registry, "shop/api"), ["candidate-3"]);
    for image in ["contoso/shop/api:candidate-1", "contoso/shop/api:candidate-2", "contoso/shop/web:candidate-1"] {
        let error = desk.run(&format!("hold {image} --reason x")).await.exits(2).err;
        assert!(error.starts_with(&format!("error: {image}: no such tag in the registry, so nothing would be held")));
        let help = format!(" UTC; `tagwarden restore {image}` puts it back and holds it\n");
        assert!(error.contains("help: Tagwarden removed it 20") && error.ends_with(&help), "{error}");
    }
    desk.run("restore contoso/shop/api:candidate-1").await.exits(0);
    desk.run("hold contoso/shop/api:candidate-1 --reason x").await.exits(0);
    let error = desk.run("hold contoso/shop/api:candidate-7 --reason x").await.exits(2).err;
    let meant = "help: did you mean `contoso/shop/api:candidate-1`? check the name; `--anyway` holds the tag";
    assert!(error.contains(meant), "{error}");

    assert!(desk.run("holds --all").await.exits(0).out.ends_with("\nno holds have ended\n"));
    desk.run("unhold contoso/shop/api:candidate-1").await.exits(0);
    let all = desk.run("holds --all --format json").await.exits(0).json();
    assert_eq!((all["holds"].as_array().unwrap().len(), all["ended"].as_array().unwrap().len()), (0, 2), "{all:#}");
    let reasons: Vec<&str> =
        all["ended"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert!(reasons.contains(&"x") && all["ended"][0]["ended_by"].as_str().unwrap().starts_with("anna@"), "{all:#}");
    let text = desk.run("holds --all").await.exits(0).out;
    assert!(text.starts_with("no holds\n\n") && text.contains("ENDED BY") && text.contains("candidate-1"), "{text}");
    assert!(desk.run("holds --format json").await.exits(0).json()["ended"].is_null());
}

/// A text without its line breaks.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
