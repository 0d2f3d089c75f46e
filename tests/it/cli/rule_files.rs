//! Settings and policies that somebody writes while a command reads by them.

use std::fs;

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, fill, tags};

const POLICIES: &str = "policies:
  - name: candidates
    select: { tags: [\"candidate-*\"] }
    keep: [{ newest: 3 }]
    mode: enforce
";

#[tokio::test]
async fn nothing_is_removed_by_files_that_changed_since_they_were_loaded() {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 5);
    let settings = format!(
        "mode = \"enforce\"\n[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{}\"\n",
        registry.url()
    );
    let half = &POLICIES[..POLICIES.len() / 2];
    let (kept, commented) = (POLICIES.replace("newest: 3", "newest: 5"), format!("{settings}# limits to come\n"));
    let another = POLICIES.replace("candidates", "others").replace("candidate-*", "other-*");
    // The last row removes.
    let rows = [
        ("policies/all.yaml", half, 3),
        ("policies/all.yaml", kept.as_str(), 3),
        ("policies/more.yaml", another.as_str(), 3),
        ("tagwarden.toml", commented.as_str(), 3),
        ("policies/all.yaml", POLICIES, 0),
    ];
    for command in ["run", "apply plan.json"] {
        fill(&registry, "shop/api", "candidate", 5);
        for (file, text, code) in rows {
            let desk = CliFixture::with(&[("tagwarden.toml", &settings), ("policies/all.yaml", POLICIES)]);
            desk.run("plan --out plan.json").await.exits(0);
            let (path, text) = (desk.path(file), text.to_owned());
            let write = FaultKind::before_request(move |_| fs::write(&path, &text).unwrap());
            registry.inject(Fault::on("tags/list", write).times(1));
            let done = desk.run(command).await.exits(code);
            let refused = format!("{file} has changed since this run loaded it; nothing was removed");
            assert_eq!(done.err.contains(&refused), code == 3, "{command} {file}: {}", done.err);
            let left = if code == 3 { 5 } else { 3 };
            assert_eq!(tags(&registry, "shop/api").len(), left, "{command} {file}: {}", done.err);
        }
    }
}
