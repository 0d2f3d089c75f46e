//! What a report says of Azure Container Registry.

use std::sync::Arc;

use std::fmt::Write as _;

use serde_json::json;
use tagwarden::domain::Inventory;
use tagwarden::engine::{evaluate, plan, reclaim};
use tagwarden::report::{self, Basis, Format, PlanDocument};

use crate::scenarios::shape::{Scenario, registry_info};

/// The plan of a registry with two listed images, one of which goes, after `change`.
fn decided(change: impl FnOnce(&mut Inventory)) -> PlanDocument {
    let scenario = r#"
        lesson: none
        policies: '- { name: old, select: { tags: ["old*"] }, keep: none, mode: enforce }'
        repositories:
          shop/api:
            tags: { old: a 90d, new: b 1d }
            manifests: { a: { listed: "44238000000" }, b: { listed: "7" } }
        expect: ""
    "#;
    let scenario: Scenario = serde_saphyr::from_str(scenario).unwrap();
    let mut stage = scenario.stage("azure");
    let registry = &mut stage.inventory.registries[0];
    (registry.kind, registry.endpoint) = ("acr", "https://contoso-e7d9c4bwa.azurecr.io".into());
    change(&mut stage.inventory);
    let verdicts = Arc::new(evaluate(&stage.rules, &stage.inventory, &stage.claims, stage.now));
    let decided = Arc::new(plan(&stage.rules, &stage.inventory, &verdicts, stage.now));
    let freed = Arc::new(reclaim(&stage.inventory, &stage.claims, &verdicts, &decided));
    report::document(&Basis {
        rules: &stage.rules,
        mode: "dry-run",
        settings: "sha256:0",
        inventory: &Arc::new(stage.inventory),
        claims: &stage.claims,
        verdicts: &verdicts,
        plan: &decided,
        reclaim: &freed,
        drift: &[],
        created_at: stage.now,
        evaluated_at: stage.now,
        hypothetical: false,
        valid_for: std::time::Duration::from_hours(24),
    })
}

fn retained(retention: &str) -> PlanDocument {
    decided(|inventory| inventory.registries[0].info = Some(registry_info(retention)))
}

/// What a reader sees, in every format.
fn everywhere(document: &PlanDocument) -> [(Format, String); 5] {
    Format::ALL.map(|format| (format, report::render(document, format)))
}

#[test]
fn sizes_that_count_shared_layers_more_than_once_say_so() {
    let document = retained("off");
    assert_eq!(document.summary.bytes, "estimated");
    for (format, shown) in everywhere(&document) {
        let words = match format {
            Format::Csv => ",44238000000,estimated,",
            Format::Json => "\"bytes\": \"estimated\"",
            _ => "About 41.2 GiB by the registry's own sizes, shared layers counted more than once",
        };
        let shown = shown.replace("&#39;", "'");
        assert!(shown.contains(words), "{}: {shown}", format.label());
    }
    let mut exact = document;
    exact.summary.bytes = "exact".into();
    exact.storage[0].bytes = "exact".into();
    assert!(everywhere(&exact).iter().all(|(_, shown)| !shown.to_lowercase().contains("about 41.2")));
}

#[test]
fn the_commands_for_a_reviewer_only_read() {
    let digest = decided(|_| ()).removals.get(0).unwrap().digest.clone();
    let by_host = decided(|_| ()).removals.get(0).unwrap().verify.clone();
    assert_eq!(
        by_host,
        [
            "az acr repository show --name contoso --image shop/api:old".to_owned(),
            format!("az acr manifest show-metadata --registry contoso --name shop/api@{digest}"),
        ]
    );
    for address in ["https://images.company.example:8443", "http://127.0.0.1:5000", "https://not-azurecr.io"] {
        let elsewhere = decided(|inventory| inventory.registries[0].endpoint = address.into());
        let verify = elsewhere.removals.get(0).unwrap().verify.clone();
        assert_eq!(verify, by_host, "as the settings call it: {address} is nobody's name");
    }
    let named = decided(|inventory| {
        let mut found = registry_info("off");
        found.resource = "it's mine".into();
        inventory.registries[0].info = Some(found);
    });
    let expected = "az acr repository show --name 'it'\\''s mine' --subscription 00000000-0000-0000-0000-000000000001 \
                    --image shop/api:old";
    assert_eq!(named.removals.get(0).unwrap().verify[0], expected);
    assert!(report::text(&named).contains(expected));
    assert!(report::markdown(&named).contains(expected), "{}", report::markdown(&named));
    let other = decided(|inventory| {
        inventory.registries[0].kind = "distribution";
        inventory.registries[0].endpoint = "http://127.0.0.1:5000".into();
    });
    assert_eq!(
        other.removals.get(0).unwrap().verify,
        ["skopeo inspect --raw docker://127.0.0.1:5000/shop/api:old | sha256sum".to_owned()]
    );
}

#[test]
fn until_when_an_untag_can_be_undone_is_told_where_it_is_known() {
    let mut told = String::new();
    for retention in ["off", "30", "3", "0", "unread"] {
        let document = retained(retention);
        let seconds = document.registries[0].undo_seconds;
        let text = report::text(&document);
        let line = text.lines().find(|line| line.contains("an untag there")).unwrap_or("nothing");
        writeln!(told, "{retention}: {seconds:?}, {}", line.trim()).unwrap();
    }
    let week = 7 * 86_400;
    let expected = format!(
        "off: Some({week}), an untag there can be undone for 7 days\n\
         30: Some({week}), an untag there can be undone for 7 days\n\
         3: Some(259200), an untag there can be undone for 3 days\n\
         0: Some(0), an untag there may be past undoing at once\n\
         unread: None, nothing\n"
    );
    assert_eq!(told, expected);
    let text = report::text(&decided(|_| ()));
    assert!(text.contains("was not asked: name its `subscription` and `resource_group`"), "{text}");
}

#[test]
fn refusals_say_what_to_do_and_the_document_has_the_facts() {
    let document = decided(|inventory| {
        let registry = &mut inventory.registries[0];
        registry.info = Some(registry_info("1"));
        registry.clock_ahead = Some(jiff::SignedDuration::from_secs(-301));
        let message = "grant delete on shop/api".to_owned();
        let denied = tagwarden::domain::RemovalObstacle::Denied { message };
        registry.obstacles.insert("shop/api".parse().unwrap(), denied);
    });
    let messages: Vec<&str> = document.refusals.iter().map(|refusal| &*refusal.message).collect();
    assert_eq!(
        messages,
        [
            "registry contoso: it deletes untagged manifests by itself after 1 day, and an untag is to be undoable for 7 \
             days; have it keep them longer, lower `undo_window`, or write `accept = [\"untagged-retention\"]` in the \
             registry's settings",
            "registry contoso: its clock is 5 minutes behind this machine's, so no tag's age can be trusted; correct \
             the one that is wrong, then plan again",
            "contoso/shop/api: grant delete on shop/api",
        ]
    );
    let registry = serde_json::to_value(&document.registries[0]).unwrap();
    assert_eq!(registry["clock_ahead_seconds"], -301);
    assert_eq!(registry["obstacles"], json!([{ "repository": "shop/api", "message": "grant delete on shop/api" }]));
    assert_eq!(registry["accepted"], json!([]));
    let info = &registry["info"];
    assert_eq!(info["untagged_retention"], json!({ "state": "on", "days": 1 }));
    assert_eq!(info["soft_delete"], json!({ "state": "off", "days": null }));
    assert_eq!(info["tier"], "premium");
}
