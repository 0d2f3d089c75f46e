//! What Azure Resource Manager says of the registry decides, and is told.

use super::*;

const GROUP: &str = "rg-registries";

/// The registry as a resource: tier and policies.
pub(super) struct RegistryResource {
    pub(super) azure: Azure,
    manager: ResourceManager,
    lines: String,
    rest: String,
}

fn path() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerRegistry/registries")
}

impl RegistryResource {
    pub(super) async fn new(sku: &str, policies: Value, retention_days: Option<u16>) -> Self {
        let entra = Entra::start().await;
        let manager = ResourceManager::start(&entra).await;
        let options = AcrOptions { retention_days, ..options().identity(cleaner(Permission::ALL)) };
        let lines = format!(
            "auth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\", secret_file = \
             \"secret/client\" }}\nsubscription = \"{SUBSCRIPTION}\"\nresource_group = \"{GROUP}\""
        );
        let rest = format!(
            "[azure]\nauthority = \"{}\"\nca_file = \"ca.pem\"\nresource_manager = \"{}\"\n",
            entra.url, manager.url
        );
        let azure = Azure::with(options, &lines).await;
        azure.desk.write("secret/client", SECRET);
        azure.desk.write("ca.pem", &std::fs::read_to_string(&entra.ca_file).unwrap());
        azure.settings("enforce", &lines, &rest);
        let resource = json!({
            "name": "contoso", "location": "westeurope", "sku": { "name": sku },
            "properties": {
                "loginServer": azure.registry.host(), "policies": policies,
                "roleAssignmentMode": "LegacyRegistryPermissions",
            },
        });
        {
            let mut resources = manager.resources.lock().unwrap();
            resources.lists.insert(path(), vec![resource.clone()]);
            resources.single.insert(format!("{}/contoso", path()), resource);
            resources.lists.insert(format!("{}/contoso/replications", path()), Vec::new());
        }
        let around = Self { azure, manager, lines, rest };
        around.stores(10_000_000);
        around
    }

    fn stores(&self, bytes: u64) {
        let usage = json!({ "value": [{ "name": "Size", "currentValue": bytes, "unit": "Bytes" }] });
        self.manager.resources.lock().unwrap().single.insert(format!("{}/contoso/listUsages", path()), usage);
    }

    fn accept(&self) {
        let lines = format!("{}\naccept = [\"untagged-retention\"]", self.lines);
        self.azure.settings("enforce", &lines, &self.rest);
    }
}

pub(super) fn retention(days: u32) -> Value {
    json!({ "retentionPolicy": { "days": days, "status": "enabled" }, "softDeletePolicy": { "status": "disabled" } })
}

#[tokio::test]
async fn a_retention_policy_that_would_cut_the_undo_short_is_a_refusal_unless_accepted_by_name() {
    for (days, code, left) in [(0, 3, 5), (3, 3, 5), (7, 0, 2), (30, 0, 2)] {
        let around = RegistryResource::new("Premium", retention(days), Some(u16::try_from(days).unwrap())).await;
        let done = around.azure.run("run").await.exits(code);
        assert_eq!(around.azure.registry.tags("shop/api").len(), left, "{days} days: {}", done.out);
        assert_eq!(done.out.contains("This run has removed what it could"), code == 0, "{}", done.out);
        assert_eq!(done.out.contains("accept = [\"untagged-retention\"]"), code == 3, "{days} days: {}", done.out);
    }
}

#[tokio::test]
async fn what_is_accepted_is_removed_whole_even_where_the_registry_deletes_at_once() {
    for days in [0, 3] {
        let around = RegistryResource::new("Premium", retention(days), Some(u16::try_from(days).unwrap())).await;
        around.accept();
        for round in 0..2 {
            let done = around.azure.run("run").await.exits(0);
            assert_eq!(tags(&around.azure.registry, "shop/api"), ["c-4", "c-5"], "{days} days: {}", done.out);
            assert!(done.out.contains("which the settings accept"), "{}", done.out);
            if round == 0 {
                let (entries, _) = journal(&around.azure).await;
                let resolved: Timestamp = entries[0]["resolved_at"].as_str().unwrap().parse().unwrap();
                let until: Timestamp = entries[0]["undo_until"].as_str().unwrap().parse().unwrap();
                assert_eq!(until.duration_since(resolved).as_hours(), i64::from(24 * days));
            }
            for number in 1..=3 {
                around.azure.push("shop/api", &format!("c-{number}"), 100 - number);
            }
        }
    }
}

#[tokio::test]
async fn the_report_names_who_asked_and_where_and_the_record_what_was_reclaimed() {
    let around = RegistryResource::new("Basic", json!({}), None).await;
    let done = around.azure.run("plan --out plan.json").await.exits(0);
    let words = [SUBSCRIPTION, GROUP, CLIENT, ", basic, ", "az acr repository show --name contoso --subscription"];
    for words in words {
        assert!(done.out.contains(words), "{words} is missing in:\n{}", done.out);
    }
    let plan = around.azure.desk.json("plan.json");
    assert_eq!(plan["registries"][0]["info"]["resource_group"], GROUP);
    let running = around.azure.running("run", 1).await;
    around.stores(9_000_000);
    ended(running).await.exits(0);
    let (entries, shown) = journal(&around.azure).await;
    assert_eq!(shown["summary"]["storage"]["contoso"]["reclaimed_bytes"], 1_000_000, "{shown}");
    let id = shown["id"].as_str().unwrap();
    let text = around.azure.run(&format!("runs show {id}")).await.exits(0).out;
    assert!(text.contains("can be undone until") && text.contains("x-ms-correlation-request-id: "), "{text}");
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry["correlation_id"].is_string()), "{entries:?}");
}

#[tokio::test]
async fn what_could_not_be_asked_is_a_refusal_that_says_what_to_do() {
    type Change = fn(&mut crate::support::azure::Resources);
    let changes: [(&str, Change, &str); 3] = [
        (
            "no role",
            |resources| {
                resources.denied.insert(path());
                resources.denied.insert(format!("{}/contoso", path()));
            },
            "`Reader`",
        ),
        (
            "another resource group",
            |resources| {
                resources.lists.clear();
                resources.single.clear();
            },
            "resource group",
        ),
        (
            "a link to elsewhere",
            |resources| {
                let page = json!({ "value": [], "nextLink": "https://evil.example/next" }).to_string();
                for _ in 0..4 {
                    resources.instead.push_back((200, Vec::new(), page.clone()));
                }
            },
            "leads to another server, evil.example",
        ),
    ];
    for (what, change, words) in changes {
        let around = RegistryResource::new("Premium", retention(30), None).await;
        change(&mut around.manager.resources.lock().unwrap());
        let done = around.azure.run("run").await;
        assert_eq!(around.azure.registry.tags("shop/api").len(), 5, "{what}: {}", done.out);
        assert!([3, 5].contains(&done.code), "{what}: {} {}", done.code, done.out);
        let told = format!("{}{}", done.out, done.err);
        assert!(told.contains(words), "{what}: {told}");
    }
}
