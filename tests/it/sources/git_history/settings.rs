//! What the settings say of a history.

use tagwarden::sources::{MentionEffect, SourceKind};

use super::hours;
use crate::config::{load, revision};

const ALL: &str = r#"
[registries.contoso]
kind = "distribution"
endpoint = "https://contoso.example"
[sources.deployments]
kind = "git-history"
path = "deployments"
paths = ["deploy/**/*.yaml", "apps/*"]
branches = ["main", "release/*"]
tags = ["v*"]
commits = 50
since = "30d"
mentions = "report"
"#;

#[test]
fn settings_are_read_and_decide() {
    let settings = load(ALL, &[]);
    let [deployments] = settings.sources.as_slice() else { panic!("{settings:?}") };
    let SourceKind::GitHistory(history) = &deployments.kind else { panic!("{deployments:?}") };
    assert!(history.path.is_absolute() && history.path.ends_with("deployments"), "{history:?}");
    assert_eq!((history.commits, history.since), (Some(50), Some(hours(24 * 30))));
    assert_eq!((history.paths.len(), history.branches.len(), history.tags.len()), (2, 2, 1));
    assert_eq!(deployments.texts.mentions, MentionEffect::Report);
    assert!(deployments.kind.reads_texts() && !deployments.kind.is_live());
    let (head, _) = ALL.split_once("paths").unwrap();
    let settings = load(&head.replace("path =", "commits = 1\npath ="), &[]);
    let SourceKind::GitHistory(least) = &settings.sources[0].kind else { panic!("{settings:?}") };
    assert_eq!((least.paths.len(), least.branches.len(), least.tags.len(), least.since), (0, 0, 0, None));
}

#[test]
fn what_is_read_decides_what_a_plan_is_worth() {
    // The folder stands in the revision, and each test has its own.
    let absolute = ALL.replace("\"deployments\"", "\"/srv/deployments\"");
    let all = revision(&absolute);
    for (from, to, decides) in [
        ("/srv/deployments", "/srv/others", true),
        ("\"apps/*\"", "\"apps/**\"", true),
        ("\"release/*\"", "\"release/1.*\"", true),
        ("[\"v*\"]", "[\"v1*\"]", true),
        ("commits = 50", "commits = 51", true),
        ("\"30d\"", "\"31d\"", true),
        ("\"30d\"", "\"720h\"", false),
        ("[\"main\", \"release/*\"]", "[\"release/*\", \"main\"]", false),
        ("commits = 50", "commits = 50\ndeadline = \"5m\"", false),
    ] {
        let changed = absolute.replacen(from, to, 1);
        assert_ne!(changed, absolute, "{from}");
        assert_eq!(revision(&changed) != all, decides, "{from} -> {to}");
    }
}
