//! The first five minutes, as the README tells them, typed as they stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tagwarden::demo::registry::{AuthMode, EmbeddedRegistry, Options};

use super::{Desk, fill, tags};
use crate::documents::blocks;

const README: &str = include_str!("../../../README.md");
const HOST: &str = "registry.contoso.example";

/// The commands of the block that has this one in it, without their comments.
fn commands(of: &str) -> Vec<String> {
    let at = README.find(of).unwrap_or_else(|| panic!("the README tells nobody to type {of:?}"));
    let start = README[..at].rfind("\n\n").unwrap();
    let block = README[start..].trim_start_matches('\n').split("\n\n").next().unwrap();
    let lines = block.lines().map(|line| line.split('#').next().unwrap().trim());
    lines.map(|line| line.strip_prefix("tagwarden ").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_first_five_minutes_go_as_told() {
    let auth = AuthMode::Basic { user: "anna".into(), password: "open:sesame".into() };
    let registry = EmbeddedRegistry::start(Options { auth, ..Options::default() }).await.unwrap();
    fill(&registry, "shop/web", "candidate", 10);
    for number in 1..=10 {
        let tag = format!("candidate-{}", 40 + number);
        registry.put_image("shop/api", &tag, &super::image(&tag, &format!("2024-02-{number:02}")));
    }
    registry.put_image("shop/api", "prod", &super::image("prod", "2024-01-01"));
    let desk = Desk::new();
    let login = format!(
        "{{\"auths\": {{\"{}\": {{\"auth\": \"{}\"}}}}}}",
        registry.host(),
        STANDARD.encode("anna:open:sesame")
    );
    desk.write(".docker/config.json", &login);
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
        let run = desk.run("runs --format json").await.exits(0).json();
        let applied = run.as_array().unwrap().iter().find(|run| run["command"] == "apply");
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
