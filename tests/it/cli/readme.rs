//! The first five minutes, as the README tells them, typed as they stand.

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::registry::{AcrOptions, EmbeddedRegistry};

use super::azure::az_that_says;
use super::{CliFixture, image, tags};
use crate::documents::blocks;
use crate::support::acr::{ENTRA_TOKEN, clock, everything_allowed, start};

const README: &str = include_str!("../../../README.md");
const HOST: &str = "contoso.azurecr.io";

/// The commands of the block that has this one in it, without their comments.
fn commands(of: &str) -> Vec<String> {
    let at = README.find(of).unwrap_or_else(|| panic!("the README tells nobody to type {of:?}"));
    let start = README[..at].rfind("\n\n").unwrap();
    let block = README[start..].trim_start_matches('\n').split("\n\n").next().unwrap();
    let lines = block.lines().map(|line| line.split('#').next().unwrap().trim());
    lines.map(|line| line.strip_prefix("tagwarden ").unwrap().to_owned()).collect()
}

/// Pushes an image of its own so many days ago.
fn push(registry: &EmbeddedRegistry, repository: &str, tag: &str, days: i64) {
    let then: Timestamp = clock()() - SignedDuration::from_hours(24 * days);
    registry.content(|content| {
        content.put_image(repository, Some(tag), &image(&format!("{repository}-{tag}"), "2024-01-01"));
        assert!(content.date_tag(repository, tag, then, then));
    });
}

#[tokio::test]
async fn the_first_five_minutes_go_as_told() {
    let registry = start(AcrOptions { admin: None, ..everything_allowed() }).await;
    for number in 1..=10 {
        push(&registry, "shop/web", &format!("candidate-{number}"), 100 - number);
        push(&registry, "shop/api", &format!("candidate-{}", 40 + number), 100 - number);
    }
    push(&registry, "shop/api", "prod", 200);
    let mut desk = CliFixture::new();
    az_that_says(&mut desk, ENTRA_TOKEN);
    let here = |text: &str| text.replace(&format!("https://{HOST}"), &registry.url()).replace(HOST, registry.host());
    for language in ["toml", "yaml", "json"] {
        for (name, text) in blocks(README, language) {
            desk.write(name, &here(text));
        }
    }
    let before = (registry.tags("shop/api"), registry.tags("shop/web"));

    for words in commands("tagwarden check ") {
        desk.run(&here(&words)).await.exits(0);
    }
    assert!(desk.read("plan.md").contains("candidate-42"), "{}", desk.read("plan.md"));
    assert_eq!((registry.tags("shop/api"), registry.tags("shop/web")), before, "nothing is changed");

    desk.write("tagwarden.toml", &format!("mode = \"approved\"\n{}", desk.read("tagwarden.toml")));
    let policy = desk.read("policies/candidates.yaml").replace("    select:\n", "    mode: enforce\n    select:\n");
    desk.write("policies/candidates.yaml", &policy);
    for words in commands("tagwarden apply ") {
        let run = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
        let applied = run.as_array().unwrap().iter().find(|run| run["kind"] == "apply");
        let id = applied.and_then(|run| run["id"].as_str()).unwrap_or("ID");
        if words.starts_with("restore") {
            let kept = [
                "candidate-41",
                "candidate-46",
                "candidate-47",
                "candidate-48",
                "candidate-49",
                "candidate-50",
                "prod",
            ];
            assert_eq!(tags(&registry, "shop/api"), kept);
        }
        desk.run(&words.replace("ID", id)).await.exits(0);
    }
    assert_eq!((registry.tags("shop/api"), registry.tags("shop/web")), before, "and the way back");
}
