//! What the settings say of sources that ask somebody.

use std::path::Path;

use secrecy::ExposeSecret as _;
use tagwarden::azure::Identity;
use tagwarden::sources::{DocumentFormat, SourceKind};

use crate::config::{load, revision};

const ALL: &str = r#"
[registries.contoso]
kind = "distribution"
endpoint = "https://contoso.example"
[azure]
auth = { kind = "managed-identity" }
[sources.apps]
kind = "container-apps"
subscriptions = ["00000000-0000-0000-0000-00000000000B", "00000000-0000-0000-0000-00000000000a"]
resource_groups = ["rg-b", "rg-a", "RG-B"]
[sources.cmdb]
kind = "references-http"
url = "https://cmdb.example/all?x=1"
format = "yaml"
paths = ["items[].image"]
header = { name = "X-Key", value_file = "secret" }
timeout = "5s"
[sources.host]
kind = "docker"
"#;

#[test]
fn they_are_read() {
    let settings = load(ALL, &[]);
    assert!(!format!("{settings:?}").contains("hunter2"));
    let [apps, cmdb, host] = settings.sources.as_slice() else { panic!("{settings:?}") };
    let SourceKind::Azure(service, scope) = &apps.kind else { panic!("{apps:?}") };
    assert_eq!((service.label(), apps.kind.label(), apps.kind.is_live()), ("container-apps", "container-apps", true));
    let ids = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"];
    assert_eq!((scope.subscriptions.as_slice(), scope.resource_groups.len()), (&ids.map(String::from)[..], 2));
    assert!(matches!(scope.credential.identity, Identity::Managed { client_id: None }));
    let SourceKind::HttpReferences(document) = &cmdb.kind else { panic!("{cmdb:?}") };
    assert_eq!((document.format, document.paths.len(), document.timeout.as_secs()), (Some(DocumentFormat::Yaml), 1, 5));
    let header = document.header.as_ref().unwrap();
    assert_eq!((header.name.as_str(), header.value.expose_secret()), ("x-key", "hunter2"));
    let SourceKind::Docker(socket) = &host.kind else { panic!("{host:?}") };
    assert_eq!(socket.path, Path::new("/var/run/docker.sock"));

    let variable = [("TAGWARDEN__SOURCES__CMDB__HEADER__VALUE", "hunter2")];
    let settings = load(&ALL.replace(", value_file = \"secret\"", ""), &variable);
    let SourceKind::HttpReferences(document) = &settings.sources[1].kind else { panic!("{settings:?}") };
    assert_eq!(document.header.as_ref().unwrap().value.expose_secret(), "hunter2");
}

#[test]
fn what_they_read_decides() {
    let all = revision(ALL);
    for (from, to, decides) in [
        ("00000000000a", "00000000000c", true),
        ("\"rg-a\", ", "", true),
        ("\"container-apps\"", "\"container-instances\"", true),
        ("managed-identity", "azure-cli", true),
        ("[azure]", "[azure]\nresource_manager = \"https://management.example\"", true),
        ("x=1", "x=2", true),
        ("\"yaml\"", "\"json\"", true),
        ("items[]", "others[]", true),
        ("X-Key", "Y-Key", true),
        ("timeout = \"5s\"", "timeout = \"5s\"\nranges = \"all\"", true),
        ("timeout = \"5s\"", "timeout = \"5s\"\nranges = \"highest\"", false),
        ("timeout = \"5s\"", "timeout = \"5s\"\nmentions = \"off\"", true),
        ("timeout = \"5s\"", "timeout = \"5s\"\nmentions = \"protect\"", false),
        ("timeout = \"5s\"", "timeout = \"5s\"\nunresolved = \"note\"", true),
        ("timeout = \"5s\"", "timeout = \"5s\"\nunresolved = \"keep\"", false),
        ("timeout = \"5s\"", "timeout = \"5s\"\nexceptions = [{ paths = [\"docs/**\"], mentions = \"off\" }]", true),
        ("kind = \"docker\"", "kind = \"docker\"\nsocket = \"/run/podman/podman.sock\"", true),
        ("\"5s\"", "\"6s\"", false),
        ("\"RG-B\"", "\"rg-a\"", false),
        ("kind = \"docker\"", "kind = \"docker\"\nsocket = \"unix:///var/run/docker.sock\"", false),
    ] {
        let changed = ALL.replacen(from, to, 1);
        assert_ne!(changed, ALL, "{from}");
        assert_eq!(revision(&changed) != all, decides, "{from} -> {to}");
    }
}
