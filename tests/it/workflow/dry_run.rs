//! Dry runs only read: every request of every walk that removes nothing, at every server, is on one list.

use http::Method;
use serde_json::json;
use tagwarden::demo::registry::AuthMode;

use super::*;
use crate::sources::azure::{Estate, SUBSCRIPTION, children, id, put, template};
use crate::support::acr::ADMIN;
use crate::support::azure::{CLIENT, SECRET, TENANT};
use crate::support::kubernetes::ApiServer;

const APPS: &str = "Microsoft.App/containerApps";
const JOBS: &str = "Microsoft.App/jobs";

/// The operations that a dry run may send: GET, HEAD, what signing in needs, and the question of Kubernetes for one's own
/// rights. Entra ID and Azure Resource Manager are imitated in `support::azure`, which refuses anything else.
fn only_reads(method: &str, path: &str) -> bool {
    match method {
        "GET" | "HEAD" => true,
        "POST" => ["/oauth2/token", "/oauth2/exchange", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"]
            .contains(&path),
        _ => false,
    }
}

/// A registry of Azure's as `main`, another one as `plain`, container apps, and a cluster.
struct DryRunFixture {
    walk: WorkflowFixture,
    plain: EmbeddedRegistry,
    estate: Estate,
    cluster: ApiServer,
}

impl DryRunFixture {
    async fn new() -> Self {
        let walk = WorkflowFixture::azure(|options| options).await;
        let lifetime = Duration::from_mins(5);
        let (user, password) = ("ci".to_owned(), ADMIN.1.to_owned());
        let auth = AuthMode::Bearer { user, password, lifetime, anonymous_pull: false };
        let plain = EmbeddedRegistry::start(Options { auth, ..Options::default() }).await.unwrap();
        let now = Arc::clone(&walk.now);
        plain.set_clock(Arc::new(move || *now.lock().unwrap()));
        for number in 1..=6 {
            let tag = format!("candidate-{number}");
            plain.put_image("shop/web", &tag, &image(&tag, 100 - number));
        }
        let azure = Estate::new().await;
        let running = template(&[&format!("api={}/shop/web:candidate-6", plain.host())], &[]);
        azure.change(|resources| {
            put(resources, APPS, "api", &running);
            children(resources, &id(APPS, "api"), "revisions", &[("api--1", running.clone())]);
            put(resources, JOBS, "nightly", &running);
            children(resources, &id(JOBS, "nightly"), "executions", &[]);
        });
        let cluster = ApiServer::start().await;
        cluster.settings("token-of-the-cluster");
        cluster.world.lock().unwrap().put(vec![json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "shop" },
            "spec": { "containers": [{ "name": "c", "image": format!("{}/shop/web:candidate-5", plain.host()) }] },
        })]);
        fs::write(walk.path("secret"), SECRET).unwrap();
        let world = Self { walk, plain, estate: azure, cluster };
        world.mode("dry-run");
        world
    }

    fn mode(&self, mode: &str) {
        let Self { plain, estate, cluster, .. } = self;
        let rest = format!(
            "[registries.plain]\nkind = \"distribution\"\nendpoint = \"{}\"\n\
             auth = {{ kind = \"basic\", username = \"ci\", password_file = \"password\" }}\n\
             [azure]\nauthority = \"{}\"\nresource_manager = \"{}\"\nca_file = \"{}\"\n\
             auth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\", secret_file = \"secret\" }}\n\
             [sources.apps]\nkind = \"container-apps\"\nsubscriptions = [\"{SUBSCRIPTION}\"]\n\
             [sources.aks]\nkind = \"kubernetes\"\nkubeconfig = \"{}\"\ncontext = \"prod\"\n",
            plain.url(),
            estate.entra.url,
            estate.manager.url,
            estate.entra.ca_file.display(),
            cluster.folder.path().join("kubeconfig").display(),
        );
        self.walk.settings(mode, "", &rest);
    }

    /// Method and path of each request that arrived, those with queries too.
    fn requests(&self) -> Vec<(String, String)> {
        let registries = self.walk.registry.requests().into_iter().chain(self.plain.requests());
        let of_registries = registries.map(|request| (request.method.to_string(), request.path));
        let world = self.cluster.world.lock().unwrap();
        let of_cluster = world.asked.iter().map(|asked| asked.split_once(' ').unwrap());
        of_registries.chain(of_cluster.map(|(method, path)| (method.to_owned(), path.to_owned()))).collect()
    }

    fn changes(&self) -> Vec<(String, String)> {
        let only = |(method, path): &(String, String)| only_reads(method, path.split('?').next().unwrap_or_default());
        self.requests().into_iter().filter(|request| !only(request)).collect()
    }
}

#[tokio::test]
async fn a_dry_run_sends_only_what_reads_and_asks_for_no_more_than_that() {
    let world = DryRunFixture::new().await;
    let (main, plain) = ("main".parse().unwrap(), "plain".parse().unwrap());
    for mode in ["dry-run", "approved", "enforce"] {
        world.mode(mode);
        let app = world.walk.open().await.unwrap();
        let planned = app.plan(None, &()).await.unwrap();
        assert_eq!((planned.document.removals.len(), planned.outcome.exit_code()), (8, 0), "{mode}");
        app.plan(Some(noon() + 240.hours()), &()).await.unwrap();
        app.decide_repository(&main, &"shop/api".parse().unwrap(), None).await.unwrap();
        app.decide_repository(&plain, &"shop/web".parse().unwrap(), None).await.unwrap();
        // `diff` and `inventory` are made of the same facts.
        app.read_decision_input(None, &[], &()).await.unwrap();
        app.decide_sources(&()).await.unwrap();
        assert_eq!(app.registry_states().await.unwrap().len(), 2);
        if mode != "enforce" {
            assert_eq!(app.run(&()).await.unwrap().outcome.exit_code(), 0);
        }
        app.close().await;
        let states: Vec<_> = planned.document.registries.iter().filter_map(|found| found.ability.as_ref()).collect();
        let states: Vec<_> = states.iter().map(|ability| (&*ability.state, &*ability.ability_origin)).collect();
        assert_eq!(states, [("able", "kind"), ("not-known", "unknown")], "{mode}");
    }
    let changes = world.changes();
    assert!(changes.is_empty(), "{changes:?}");
    let requests = world.requests();
    let asked = |text: &str| requests.iter().any(|(_, path)| path.contains(text));
    assert!(asked("selfsubjectaccessreviews") && asked("/acr/v1/") && asked("/v2/shop/web/"), "all were asked");
    assert!(world.estate.entra.request_count() > 0 && !world.estate.manager.requests().is_empty(), "Azure was asked");
    let scopes: Vec<String> =
        world.plain.requests().into_iter().map(|request| request.path).filter(|path| path.contains("scope=")).collect();
    assert!(
        !scopes.is_empty() && scopes.iter().all(|scope| !scope.contains("delete") && !scope.contains("push")),
        "{scopes:?}"
    );

    // What was asked for on purpose is seen, so nothing else was overlooked.
    let app = world.walk.open().await.unwrap();
    let probe = app.probe("plain", None).await.unwrap();
    app.close().await;
    assert_eq!((&*probe.view.result, probe.outcome.exit_code()), ("accepted", 0));
    let changes = world.changes();
    assert!(changes.len() == 1 && changes[0].1.starts_with("/v2/shop/web/manifests/tagwarden-probe-"), "{changes:?}");
    let planned = world.walk.try_plan().await.unwrap();
    let ability = planned.document.registries.iter().find(|found| found.name == "plain").unwrap().ability.clone();
    let ability = ability.unwrap();
    assert_eq!((&*ability.state, &*ability.ability_origin, planned.outcome.exit_code()), ("able", "response", 0));
    assert!(ability.message.contains("whether the manifest stays will be known at the first enforcing run"));
}

/// A registry that refuses everything but reading, such as behind a proxy for read-only users.
#[tokio::test]
async fn read_only_credentials_are_enough_to_plan() {
    let denied = vec![tagwarden::demo::registry::Action::Delete, tagwarden::demo::registry::Action::Push];
    let basic = AuthMode::Basic { user: "ci".into(), password: "secret".into() };
    let walk = WorkflowFixture::with(Options { auth: basic, denied, ..Options::default() }, "").await;
    fs::write(walk.path("password"), "secret").unwrap();
    let signed = "auth = { kind = \"basic\", username = \"ci\", password_file = \"password\" }";
    for mode in ["dry-run", "enforce"] {
        walk.settings(mode, signed, "");
        let planned = walk.try_plan().await.unwrap();
        assert_eq!((planned.outcome.exit_code(), planned.document.removals.len()), (0, 4), "{mode}");
        assert!(planned.document.refusals.is_empty());
    }
    assert!(walk.registry.requests().iter().all(|request| [Method::GET, Method::HEAD].contains(&request.method)));
    let app = walk.open().await.unwrap();
    let probe = app.probe("main", None).await.unwrap();
    app.close().await;
    assert_eq!((&*probe.view.result, probe.outcome.exit_code()), ("denied", 3));
    assert_eq!(walk.try_plan().await.unwrap().outcome.exit_code(), 0, "who is asked may have other rights tomorrow");
}
