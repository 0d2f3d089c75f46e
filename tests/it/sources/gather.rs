//! What becomes of sources that fail, or answer with too little.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{Timestamp, ToSpan as _};
use tagwarden::domain::{Claim, Holder, Inventory, RegistryName, SourceState};
use tagwarden::sources::{
    GatherContext, Source, SourceError, SourceEvidence, SourceKind, SourceSettings, TextSettings, gather_about, source,
};

use super::{D, folder, now, set};

/// A source that does as it is told.
struct Scripted(Script);

enum Script {
    Says(&'static [&'static str], Option<Timestamp>),
    Fails,
    Panics,
    Hangs,
}

#[async_trait]
impl Source for Scripted {
    async fn query(&self, _now: Timestamp) -> Result<SourceEvidence, SourceError> {
        match &self.0 {
            Script::Says(images, as_of) => {
                let holder = std::sync::Arc::new(Holder::File { path: "x".into(), line: 1 });
                let claim = |image: &&str| Claim::new(image.parse().unwrap(), holder.clone());
                Ok(SourceEvidence {
                    claims: images.iter().map(claim).collect(),
                    as_of: *as_of,
                    ..SourceEvidence::default()
                })
            }
            Script::Fails => Err(SourceError::new("unreadable", "no such thing")),
            Script::Panics => panic!("a bug"),
            Script::Hangs => std::future::pending().await,
        }
    }
}

fn settings(name: &str) -> SourceSettings {
    SourceSettings {
        name: name.parse().unwrap(),
        kind: SourceKind::ReleaseRecords(set(Path::new("/"), &[])),
        registries: None,
        max_age: None,
        allow_empty: false,
        min_claims: None,
        deadline: Duration::from_secs(5),
        texts: TextSettings::default(),
    }
}

fn hosts() -> Vec<(RegistryName, Vec<String>)> {
    vec![
        ("contoso".parse().unwrap(), vec!["contoso.azurecr.io".into()]),
        ("fabrikam".parse().unwrap(), vec!["fabrikam.azurecr.io".into()]),
    ]
}

static NOTHING: Inventory = Inventory { registries: Vec::new() };

fn known(hosts: &[(RegistryName, Vec<String>)]) -> GatherContext<'_> {
    GatherContext { hosts, inventory: &NOTHING, untagged: &[] }
}

/// What becomes of an answer: its claims, or the kind of failure, and all that is said about it.
async fn judged(settings: SourceSettings, script: Script) -> (Result<usize, &'static str>, String) {
    let claims = gather_about(vec![(settings, Box::new(Scripted(script)))], known(&hosts()), now(), now()).await;
    match &claims.sources[0].state {
        SourceState::Complete { claims, notes, .. } => (Ok(claims.len()), notes.join("\n")),
        SourceState::Failed { kind, message } => (Err(*kind), message.to_string()),
    }
}

#[tokio::test]
async fn only_a_full_and_sensible_answer_counts() {
    type Adjust = fn(&mut SourceSettings);
    const OURS: &[&str] = &["contoso.azurecr.io/a:1", "contoso.azurecr.io/a:1", "contoso.azurecr.io/b:1"];
    const OTHERS: &[&str] = &["ghcr.io/a:1", "ghcr.io/b:1", "quay.io/a:1"];
    const MIXED: &[&str] = &["contoso.azurecr.io/a:1", "ghcr.io/a:1"];
    let week: Adjust = |settings| settings.max_age = Some(Duration::from_hours(7 * 24));
    let only_fabrikam: Adjust = |settings| settings.registries = Some(vec!["fabrikam".parse().unwrap()]);
    let allow_empty: Adjust = |settings| settings.allow_empty = true;
    let short: Adjust = |settings| settings.deadline = Duration::from_millis(20);
    let three: Adjust = |settings| settings.min_claims = Some(3);
    let two: Adjust = |settings| settings.min_claims = Some(2);
    let as_is: Adjust = |_| {};
    let old = Some(now() - 169.hours());
    let fresh = Some(now() - 167.hours());
    let cases: Vec<(Adjust, Script, Result<usize, &str>, &str)> = vec![
        (as_is, Script::Says(OURS, None), Ok(2), ""),
        (as_is, Script::Says(&["a:1"], None), Ok(1), ""),
        (as_is, Script::Says(&[D], None), Ok(1), ""),
        (as_is, Script::Says(MIXED, None), Ok(2), "ghcr.io (1)"),
        (as_is, Script::Says(OTHERS, None), Err("empty"), "ghcr.io (2), quay.io (1)"),
        (as_is, Script::Says(OTHERS, None), Err("empty"), "`aliases`"),
        (as_is, Script::Says(&[], None), Err("empty"), "allow_empty = true"),
        (allow_empty, Script::Says(&[], None), Ok(0), ""),
        (allow_empty, Script::Says(OTHERS, None), Ok(3), "`aliases`"),
        (only_fabrikam, Script::Says(OURS, None), Err("empty"), "`registries`"),
        (only_fabrikam, Script::Says(&["fabrikam.azurecr.io/a:1", "contoso.azurecr.io/a:1"], None), Ok(2), ""),
        (two, Script::Says(OURS, None), Ok(2), ""),
        (three, Script::Says(OURS, None), Err("too-few"), "`min_claims` asks for 3"),
        (two, Script::Says(MIXED, None), Err("too-few"), "it makes 1 claims"),
        (week, Script::Says(OURS, fresh), Ok(2), ""),
        (week, Script::Says(OURS, old), Err("too-old"), "`max_age` is 7days"),
        (as_is, Script::Says(OURS, old), Ok(2), ""),
        (week, Script::Says(OURS, None), Err("too-old"), "no time"),
        (week, Script::Says(OURS, Some(now() + 4.minutes())), Ok(2), ""),
        (week, Script::Says(OURS, Some(now() + 6.minutes())), Err("in-the-future"), "check the clocks"),
        (as_is, Script::Fails, Err("unreadable"), "no such thing"),
        (as_is, Script::Panics, Err("panicked"), "bug"),
        (short, Script::Hangs, Err("deadline"), "20ms"),
    ];
    for (number, (adjust, script, expected, says)) in cases.into_iter().enumerate() {
        let mut settings = settings("releases");
        adjust(&mut settings);
        let (found, said) = judged(settings, script).await;
        assert_eq!(found, expected, "case {number}: {said}");
        assert!(said.contains(says), "case {number}: {said}");
    }
}

#[tokio::test]
async fn one_failing_source_leaves_the_answers_of_the_others() {
    let scripts = [("c", Script::Panics), ("a", Script::Hangs), ("b", Script::Says(&["a:1"], None))];
    let sources = scripts.into_iter().map(|(name, script)| {
        let settings = SourceSettings { deadline: Duration::from_millis(50), ..settings(name) };
        (settings, Box::new(Scripted(script)) as Box<dyn Source>)
    });
    let claims = gather_about(sources.collect(), known(&hosts()), now(), now()).await;
    let found: Vec<_> = claims.sources.iter().map(|answer| (answer.name.as_str(), answer.has_failed())).collect();
    assert_eq!(found, [("a", true), ("b", false), ("c", true)]);
    assert_eq!(claims.sources[0].kind, "release-records");
}

#[tokio::test]
async fn settings_make_their_source() {
    let folder = folder(&[("r.yaml", "image: contoso.azurecr.io/api:v1\n")]);
    let files = set(folder.path(), &["r.yaml"]);
    for kind in [SourceKind::ReleaseRecords(files.clone()), SourceKind::ImageReferences(files)] {
        let settings = SourceSettings { kind, ..settings("x") };
        let source = source(&settings, &["contoso.azurecr.io".into()]);
        assert_eq!(source.query(now()).await.unwrap().claims.len(), 1);
    }
}
