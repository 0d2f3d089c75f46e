//! API servers that refuse, throttle, forget, are slow or go away. Part of an answer is never one.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tagwarden::domain::{Holder, Inventory, SourceState};
use tagwarden::sources::{
    Access, GatherContext, KubernetesSettings, SourceKind, SourceSettings, TextSettings, gather_about,
};

use super::{ask, now, recorded, shown, source};
use crate::support::encodings::as_windows_saves;
use crate::support::kubernetes::{ApiServer, ClusterState, Fault, fixture};

/// What becomes of the recorded cluster where that goes wrong: nothing lost, or a failure of that kind with these words.
async fn outcome(wrong: impl FnOnce(&mut ClusterState)) -> Result<(), (&'static str, String)> {
    let server = ApiServer::recorded().await;
    wrong(&mut server.world.lock().unwrap());
    let mut settings = server.settings("one");
    settings.timeout = Duration::from_secs(2);
    match ask(settings).await {
        Ok(answer) => {
            assert_eq!(shown(&answer.claims), recorded());
            Ok(())
        }
        Err(error) => Err((error.kind, error.chain())),
    }
}

fn status(code: u16, headers: &[(&'static str, &'static str)]) -> Fault {
    Fault::Status(code, headers.to_vec(), r#"{"kind":"Status","message":"etcd is unwell"}"#.into())
}

#[tokio::test]
async fn what_passes_is_waited_for_and_what_stays_fails_all_of_it() {
    type Wrong = Box<dyn FnOnce(&mut ClusterState)>;
    type Case = (&'static str, Wrong, Result<(), (&'static str, &'static str)>);
    let wrong = |path: &'static str, times: usize, fault: Fault| -> Wrong {
        Box::new(move |world| {
            world.most = Some(2);
            world.fault(path, times, fault);
        })
    };
    let gone = || Fault::Status(410, Vec::new(), fixture("error_410_expired_continue"));
    let cases: Vec<Case> = vec![
        ("throttled once", wrong("pods", 2, status(429, &[("retry-after", "0")])), Ok(())),
        ("throttled for an hour", wrong("pods", 1, status(429, &[("retry-after", "3600")])), Err(("throttled", "429"))),
        ("unwell twice", wrong("jobs", 2, status(500, &[])), Ok(())),
        ("unwell for good", wrong("jobs", 99, status(503, &[])), Err(("status", "etcd is unwell"))),
        ("cut twice", wrong("pods?", 2, Fault::Cut), Ok(())),
        (
            "cut for good on a later page",
            wrong("pods?limit=500&continue=4", 99, Fault::Cut),
            Err(("unreachable", "/pods")),
        ),
        ("slow once", wrong("replicasets", 1, Fault::Slow(Duration::from_secs(5))), Ok(())),
        (
            "slow for good",
            wrong("replicasets", 99, Fault::Slow(Duration::from_secs(5))),
            Err(("unreachable", "longer than 2s")),
        ),
        ("a list forgotten", wrong("pods?limit=500&continue=4", 1, gone()), Ok(())),
        ("a list forgotten again and again", wrong("continue=2", 99, gone()), Err(("expired", "410"))),
        (
            "a token that is none",
            wrong("continue=2", 1, Fault::Status(400, Vec::new(), fixture("error_400_bad_continue"))),
            Err(("status", "invalid continue token")),
        ),
        (
            "a page that is no list",
            wrong("pods", 2, Fault::Status(200, Vec::new(), r#"{"kind":"Pod","items":[]}"#.into())),
            Err(("malformed", "not a list")),
        ),
        (
            "a list without items",
            wrong("/daemonsets", 1, Fault::Status(200, Vec::new(), r#"{"kind":"DaemonSetList","items":[{}]}"#.into())),
            Err(("malformed", "metadata")),
        ),
        (
            "a login page",
            wrong("/daemonsets", 1, Fault::Status(200, Vec::new(), "<html>".into())),
            Err(("malformed", "/daemonsets")),
        ),
        (
            "a circle",
            wrong(
                "pods",
                99,
                Fault::Status(200, Vec::new(), r#"{"kind":"PodList","metadata":{"continue":"2"},"items":[]}"#.into()),
            ),
            Err(("malformed", "circle")),
        ),
        ("a redirect", wrong("pods", 1, status(302, &[("location", "http://127.0.0.1:1/")])), Err(("status", "302"))),
        (
            "gone in the middle",
            Box::new(|world| {
                world.most = Some(1);
                world.requests_left = Some(25);
            }),
            Err(("unreachable", "check that the API server")),
        ),
        ("gone before anything", Box::new(|world| world.requests_left = Some(0)), Err(("", ""))),
        (
            "a kind that is not there",
            Box::new(|world| world.remove_resource("apis/apps/v1", "replicasets")),
            Err(("status", "replicasets")),
        ),
    ];
    for (name, wrong, expected) in cases {
        match (outcome(wrong).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err((kind, message)), Err((expected, says))) => {
                assert!(expected.is_empty() || kind == expected, "{name}: {kind} {message}");
                assert!(message.contains(says), "{name}: {message}");
            }
            (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn every_missing_right_is_named_before_the_work() {
    let server = ApiServer::recorded().await;
    server.world.lock().unwrap().denied.extend(["replicasets".into(), "cronjobs".into()]);
    let error = ask(server.settings("")).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    for says in ["list replicasets.apps in all namespaces", "list cronjobs.batch", "deploy/kubernetes/rbac.yaml"] {
        assert!(error.chain().contains(says), "{error}");
    }
    assert_eq!(server.world.lock().unwrap().count("GET"), 0);

    let settings = KubernetesSettings { namespaces: vec!["routes".into(), "shop".into()], ..server.settings("") };
    server.world.lock().unwrap().denied = ["shop/pods".into()].into();
    let error = ask(settings).await.unwrap_err();
    assert!(error.chain().contains("list pods in namespace shop"), "{error}");

    // Where no review can be asked for, the list itself is refused.
    server.world.lock().unwrap().no_reviews = true;
    server.world.lock().unwrap().denied = ["replicasets".into()].into();
    let error = ask(server.settings("")).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    for says in ["replicasets.apps is forbidden", "cannot list", "rbac.yaml"] {
        assert!(error.chain().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_token_that_expires_is_read_again_once() {
    let server = ApiServer::recorded().await;
    let settings = server.settings("one");
    {
        let mut world = server.world.lock().unwrap();
        world.most = Some(1);
        world.token = Some("one".into());
        world.next_token = Some((20, "two".into(), Some(server.token_file())));
    }
    let answer = ask(settings.clone()).await.unwrap();
    assert_eq!(shown(&answer.claims), recorded());

    // Nobody writes the new one.
    std::fs::write(server.token_file(), "two").unwrap();
    server.world.lock().unwrap().next_token = Some((20, "three".into(), None));
    let before = server.world.lock().unwrap().asked.len();
    let error = ask(settings).await.unwrap_err();
    assert_eq!(error.kind, "denied");
    assert!(error.chain().contains("401") && error.chain().contains("renewed"), "{error}");
    let asked = server.world.lock().unwrap().asked.len() - before;
    assert!(asked < 40, "a refused token is not tried again and again: {asked}");
}

#[tokio::test]
async fn an_invalid_text_is_told_and_fails_nothing() {
    // The pod, its image, what is claimed for it, what is left open, and what is told.
    type Case = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, &'static str);
    let server = ApiServer::recorded().await;
    let pod = |name: &str, image: &str| json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let cases: [Case; 10] = [
        ("foreign", "ghcr.io/Owner/thing", None, None, "is not a valid image reference"),
        ("upper", "MyApp:latest", Some("myapp:latest"), None, "read as `myapp:latest`"),
        ("ours", "contoso.azurecr.io/Shop/api:V1", Some("~/shop/api:V1"), None, "read as `contoso"),
        ("tag", "contoso.azurecr.io/shop/api:.v1", None, Some("contoso.azurecr.io shop/api"), "every tag"),
        ("space", "shop api", None, None, "no registry can hold it"),
        ("nothing", "contoso.azurecr.io/", None, None, "no registry can hold it"),
        (
            "open",
            "contoso.azurecr.io/shop/api:${TAG}",
            None,
            Some("contoso.azurecr.io shop/api"),
            "filled in elsewhere",
        ),
        (
            "region",
            "contoso.eastus2.geo.azurecr.io/a:$(X)",
            None,
            Some("contoso.eastus2.geo.azurecr.io a"),
            "elsewhere",
        ),
        ("any", "${IMAGE}", None, None, "names no repository"),
        ("theirs", "ghcr.io/shop/api:${TAG}", None, None, "filled in elsewhere"),
    ];
    server.world.lock().unwrap().put(cases.iter().map(|(name, image, ..)| pod(name, image)).collect());
    server.world.lock().unwrap().put(vec![pod("empty", "")]);
    let answer = ask(server.settings("")).await.unwrap();
    let claimed = cases.iter().filter_map(|(name, _, claimed, ..)| Some(format!("Pod shop/{name} c {}", (*claimed)?)));
    let mut expected: Vec<String> = recorded().into_iter().chain(claimed).collect();
    expected.sort();
    assert_eq!(shown(&answer.claims), expected);
    let mut open: Vec<String> = answer
        .unresolved
        .iter()
        .map(|one| {
            let Holder::Workload { name, container, .. } = &*one.holder else { panic!("{one:?}") };
            let path: Vec<&str> = one.path.parts().collect();
            format!("{name} {container} {} {} {}", one.host.as_deref().unwrap_or("-"), path.join("*"), one.text)
        })
        .collect();
    open.sort();
    let mut expected: Vec<String> =
        cases.iter().filter_map(|(name, image, _, open, _)| Some(format!("{name} c {} {image}", (*open)?))).collect();
    expected.sort();
    assert_eq!(open, expected);
    for (name, image, .., told) in cases {
        let place = format!("Pod shop/{name}, c: `{image}`");
        let note = answer.notes.iter().find(|note| note.starts_with(&place));
        assert!(note.is_some_and(|note| note.contains(told)), "{place}: {:?}", answer.notes);
    }
    assert_eq!(answer.notes.len(), cases.len());
}

#[tokio::test]
async fn a_release_of_helm_that_cannot_be_read_fails_the_source() {
    for (release, says) in [
        ("!", "not valid base64"),
        ("IQ==", "not valid base64 inside"),
        ("SDRzSUFBQUFBQUFD", "gzip"),
        ("ZTMwPQ==", "missing field"),
    ] {
        let server = ApiServer::recorded().await;
        let secret = json!({
            "kind": "Secret", "type": "helm.sh/release.v1", "data": {"release": release},
            "metadata": {"namespace": "shop", "name": "sh.helm.release.v1.x.v1", "labels": {"owner": "helm"}},
        });
        server.world.lock().unwrap().put(vec![secret]);
        let error = ask(server.settings("")).await.unwrap_err();
        assert_eq!(error.kind, "malformed");
        assert!(error.chain().contains("shop/sh.helm.release.v1.x.v1") && error.chain().contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_old_cluster_has_its_cron_jobs_elsewhere() {
    let server = ApiServer::recorded().await;
    {
        let mut world = server.world.lock().unwrap();
        world.remove_resource("apis/batch/v1", "cronjobs");
        let mut list: serde_json::Value = serde_json::from_str(&fixture("cronjobs")).unwrap();
        let objects = list["items"].as_array_mut().unwrap().drain(..).collect();
        world.add("apis/batch/v1beta1", "cronjobs", "CronJob", objects);
    }
    assert_eq!(shown(&ask(server.settings("")).await.unwrap().claims), recorded());
}

/// A kubeconfig and a token that somebody saved with an editor, or by PowerShell's `>`.
#[tokio::test]
async fn a_kubeconfig_may_be_saved_as_windows_does() {
    let server = ApiServer::recorded().await;
    server.world.lock().unwrap().token = Some("one".into());
    let settings = server.settings("");
    let file = server.folder.path().join("saved");
    let access = || Access::Kubeconfig { files: vec![file.clone()], context: None };
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{ "name": "c", "cluster": { "server": server.url } }],
        "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "tokenFile": "saved-token" } }],
    });
    let text = text.to_string();
    for (config, token) in as_windows_saves(&text).into_iter().zip(as_windows_saves("one\r\n")) {
        std::fs::write(&file, config).unwrap();
        std::fs::write(server.folder.path().join("saved-token"), token).unwrap();
        let answered = ask(KubernetesSettings { access: access(), ..settings.clone() }).await.unwrap();
        assert_eq!(shown(&answered.claims), recorded());
    }
    let cut = [&b"\xff\xfe"[..], b"{\0}"].concat();
    let unmarked: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, words) in [(cut, "not valid UTF-16"), (unmarked, "UTF-16 without a byte order mark; save it as UTF-8")]
    {
        std::fs::write(&file, bytes).unwrap();
        let error = ask(KubernetesSettings { access: access(), ..settings.clone() }).await.unwrap_err();
        assert!(error.kind == "settings" && error.chain().contains(words), "{error}");
    }
}

#[tokio::test]
async fn who_cannot_sign_in_is_told_why() {
    let server = ApiServer::recorded().await;
    let settings = server.settings("");
    let missing = PathBuf::from("/nonexistent/kubeconfig");
    let Access::Kubeconfig { files, .. } = settings.access.clone() else { panic!() };
    let plugin = server.folder.path().join("plugin");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{ "name": "c", "cluster": { "server": server.url } }],
        "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": { "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "echo hunter2; exit 3"],
            "interactiveMode": "IfAvailable",
        } } }],
    });
    std::fs::write(&plugin, text.to_string()).unwrap();
    for (access, says) in [
        (Access::Kubeconfig { files: vec![missing], context: None }, "/nonexistent/kubeconfig"),
        (
            Access::Kubeconfig { files, context: Some("prd".into()) },
            "has no context `prd`, did you mean `prod`?; known: `prod`",
        ),
        (Access::Kubeconfig { files: vec![plugin], context: None }, "credential plugin failed (exit status: 3)"),
        (Access::ServiceAccount { server: None, folder: "/nonexistent".into() }, "does not run in a pod"),
        (
            Access::ServiceAccount { server: Some(server.url.clone()), folder: "/nonexistent".into() },
            "/nonexistent/token",
        ),
    ] {
        let error = ask(KubernetesSettings { access, ..settings.clone() }).await.unwrap_err();
        assert_eq!(error.kind, "settings", "{error}");
        assert!(error.chain().contains(says) && !error.chain().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_pod_signs_in_as_its_service_account_and_trusts_only_its_cluster() {
    let server = ApiServer::recorded().await;
    server.world.lock().unwrap().token = Some("one".into());
    let settings = KubernetesSettings { access: server.as_in_a_pod("one").await, ..server.settings("") };
    assert_eq!(shown(&ask(settings.clone()).await.unwrap().claims), recorded());

    let Access::ServiceAccount { folder, .. } = &settings.access else { panic!() };
    let other = crate::support::certificate::certified().authority;
    std::fs::write(folder.join("ca.crt"), other).unwrap();
    let error = ask(settings).await.unwrap_err();
    assert_eq!(error.kind, "unreachable");
    assert!(error.chain().contains("certificate"), "{error}");
}

/// What becomes of a cluster through all that every source goes through.
async fn gathered(server: &ApiServer, allow_empty: bool, deadline: Duration) -> SourceState {
    let settings = server.settings("");
    let of = SourceSettings {
        name: "aks".parse().unwrap(),
        kind: SourceKind::Kubernetes(Box::new(settings.clone())),
        registries: None,
        max_age: None,
        allow_empty,
        min_claims: None,
        deadline,
        texts: TextSettings::default(),
    };
    let hosts = vec![("contoso".parse().unwrap(), vec!["contoso.azurecr.io".to_owned()])];
    let inventory = Inventory::default();
    let known = GatherContext { hosts: &hosts, inventory: &inventory, untagged: &[] };
    let mut claims = gather_about(vec![(of, Box::new(source(settings)))], known, now(), now()).await;
    claims.sources.remove(0).state
}

#[tokio::test]
async fn an_empty_cluster_is_no_answer_and_a_slow_one_neither() {
    let server = ApiServer::start().await;
    let minute = Duration::from_mins(1);
    assert!(matches!(gathered(&server, false, minute).await, SourceState::Failed { kind: "empty", .. }));
    assert!(matches!(gathered(&server, true, minute).await, SourceState::Complete { .. }));
    let server = ApiServer::recorded().await;
    assert!(matches!(gathered(&server, false, minute).await, SourceState::Complete { .. }));
    server.world.lock().unwrap().fault("pods", 99, Fault::Slow(Duration::from_secs(9)));
    let short = Duration::from_millis(300);
    assert!(matches!(gathered(&server, false, short).await, SourceState::Failed { kind: "deadline", .. }));
}
