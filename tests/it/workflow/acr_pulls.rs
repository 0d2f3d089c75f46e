//! What was pulled of an Azure registry, and what an enforcing run then leaves alone.

use super::*;
use crate::sources::acr_pulls::{event, put_workspace, workspace_id};
use crate::support::azure::{CLIENT, Entra, ResourceManager, SECRET, TENANT};
use crate::support::log_analytics::{Event, LogAnalytics};

/// A registry, and a workspace that has its log.
struct PulledFixture {
    walk: WorkflowFixture,
    entra: Entra,
    manager: ResourceManager,
    logs: LogAnalytics,
}

impl PulledFixture {
    async fn new() -> Self {
        let walk = WorkflowFixture::azure(|options| options).await;
        let entra = Entra::start().await;
        let manager = ResourceManager::start(&entra).await;
        put_workspace(&mut manager.resources.lock().unwrap(), "contoso");
        let logs = LogAnalytics::start(&entra, noon()).await;
        fs::write(walk.path("secret"), SECRET).unwrap();
        let sources = format!(
            "[azure]\nauthority = \"{}\"\nresource_manager = \"{}\"\nlog_analytics = \"{}\"\nca_file = \"{}\"\n\
             auth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\", secret_file = \"secret\" }}\n\
             [sources.pulls]\nkind = \"acr-pulls\"\nworkspace = \"{}\"\nwithin = \"30d\"\nignore_identities = [\"scanner\"]\n",
            entra.url,
            manager.url,
            logs.url,
            entra.ca_file.display(),
            workspace_id(),
        );
        walk.settings("enforce", "", &sources);
        let fixture = Self { walk, entra, manager, logs };
        fixture.log(60 * 24, "Push", "shop/api:release-1", "ci");
        fixture
    }

    fn log(&self, hours: i64, operation: &str, image: &str, by: &str) {
        let mut event: Event = event("contoso", hours, operation, image, (by, "containerd/2.1"), noon());
        event.columns.insert("LoginServer", self.walk.registry.host().to_string());
        self.logs.log.lock().unwrap().events.push(event);
    }
}

#[tokio::test]
async fn what_was_pulled_stays() {
    let world = PulledFixture::new().await;
    world.log(48, "Pull", "shop/api:candidate-1", "kubelet");
    let digest = world.walk.digest("shop/api", "candidate-2");
    world.log(24 * 29, "Pull", &format!("shop/api@{digest}"), "kubelet");
    world.log(1, "Pull", "shop/api:candidate-3", "scanner");
    world.log(24 * 40, "Pull", "shop/api:candidate-4", "kubelet");
    let plan = world.walk.plan().await;
    let json: serde_json::Value = serde_json::from_str(&report::render(&plan, Format::Json)).unwrap();
    let kept = |tag: &str| json["kept"].as_array().unwrap().iter().find(|kept| kept["tag"] == tag).unwrap().clone();
    let holder = &kept("candidate-1")["reasons"][0]["holder"];
    assert_eq!(
        *holder,
        serde_json::json!({ "type": "pull", "at": "2026-11-18T12:00:00Z", "identity": "kubelet", "client": "containerd/2.1" })
    );
    let text = report::render(&plan, Format::Text);
    assert!(text.contains("pull by kubelet"), "{text}");
    let came = world.walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["-", "-", "done", "done"]), "{}", came.text);
    assert!(world.entra.request_count() > 0);
}

#[tokio::test]
async fn a_workspace_that_cannot_tell_keeps_everything() {
    type Row = (fn(&PulledFixture), &'static str);
    let rows: [Row; 3] = [
        (|world| world.manager.resources.lock().unwrap().lists.clear(), "is not there"),
        (|world| world.logs.log.lock().unwrap().is_readable = false, "`Log Analytics Reader`"),
        (|world| world.logs.log.lock().unwrap().events.pop().map_or((), drop), "no claim at all"),
    ];
    for (happens, words) in rows {
        let world = PulledFixture::new().await;
        world.log(48, "Pull", "shop/api:candidate-6", "kubelet");
        happens(&world);
        let came = world.walk.run().await;
        assert_eq!((came.code, came.labels()), (5, vec!["-"; 4]), "{words}: {}", came.text);
        let failed = format!("{:?}", came.result.unwrap().document.sources);
        assert!(failed.contains(words), "{words} is not in: {failed}");
    }
}
