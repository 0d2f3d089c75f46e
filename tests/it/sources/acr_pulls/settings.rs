//! What the settings say of a source of pulls.

use std::time::Duration;

use tagwarden::sources::SourceKind;

use crate::config::{load, revision};

const ALL: &str = r#"
[registries.contoso]
kind = "acr"
endpoint = "https://contoso.azurecr.io"
auth = { kind = "managed-identity" }
[registries.other]
kind = "distribution"
endpoint = "https://registry.example"
[azure]
auth = { kind = "managed-identity" }
[sources.pulls]
kind = "acr-pulls"
workspace = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-logs/providers/Microsoft.OperationalInsights/workspaces/logs"
within = "30d"
logging_since = "2026-01-31"
ignore_identities = ["b", "a", "b"]
"#;

#[test]
fn it_protects_the_registries_of_azure() {
    let settings = load(ALL, &[]);
    let [pulls] = settings.sources.as_slice() else { panic!("{settings:?}") };
    assert_eq!(pulls.registries.as_deref(), Some(&["contoso".parse().unwrap()][..]), "and no others");
    assert!(!pulls.kind.is_live() && !pulls.kind.reads_texts());
    let SourceKind::AcrPulls(kind) = &pulls.kind else { panic!("{pulls:?}") };
    assert_eq!(kind.within, Duration::from_hours(30 * 24));
    assert_eq!(kind.logging_since.unwrap().to_string(), "2026-02-01T00:00:00Z", "the end of that day");
    assert_eq!(kind.ignored_identities, ["a", "b"]);
    assert_eq!((kind.registries.len(), kind.registries[0].host.as_str()), (1, "contoso.azurecr.io"));
    assert_eq!(
        kind.workspace.to_string(),
        "workspace logs (resource group rg-logs, subscription 33333333-3333-3333-3333-333333333333)"
    );
}

#[test]
fn what_it_reads_decides() {
    let all = revision(ALL);
    for (from, to, decides) in [
        ("rg-logs", "rg-others", true),
        ("rg-logs", "RG-logs", false),
        ("\"30d\"", "\"31d\"", true),
        ("\"30d\"", "\"720h\"", false),
        ("2026-01-31", "2026-02-28", true),
        ("[\"b\", \"a\", \"b\"]", "[\"a\", \"b\"]", false),
        ("[\"b\", \"a\", \"b\"]", "[\"a\"]", true),
        ("[azure]", "[azure]\nlog_analytics = \"https://logs.example\"", true),
    ] {
        let changed = ALL.replacen(from, to, 1);
        assert_ne!(changed, ALL, "{from}");
        assert_eq!(revision(&changed) != all, decides, "{from} -> {to}");
    }
}
