//! What happens between the decision and the deletion.

use http::Method;
use tagwarden::domain::SkipReason;
use tagwarden::workflow::{PolicyFilter, RestoreSelection, RunOptions};

use super::*;

/// In the paths of all requests by which a repository is read. Its attributes come first.
const READS: &str = "/acr/v1/shop/api";

type Change = Box<dyn Fn(&mut Content) + Send + Sync>;

fn undeletable() -> Attributes {
    Attributes { delete: false, ..Attributes::default() }
}

fn sbom_of(image: &Image) -> Image {
    image::artifact("another sbom", ("sbom.json", Blob::layer("another", 10)), Some(image), &[])
}

/// An image, by all that a list tells, that refers to another one by its bytes.
fn image_with_subject(subject: &Digest, name: &str) -> Image {
    let mut variant = image(name, 3);
    let mut manifest: serde_json::Value = serde_json::from_slice(&variant.bytes).unwrap();
    manifest["subject"] =
        serde_json::json!({ "mediaType": variant.media_type, "digest": subject.to_string(), "size": 7 });
    variant.bytes = axum::body::Bytes::from(manifest.to_string());
    variant.digest = Digest::of(&variant.bytes);
    variant
}

impl WorkflowFixture {
    /// One run, where others removed tags that no journal accounts for.
    async fn enforce_unaudited(&self) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        StepResult::from_result(ended)
    }

    /// How many requests with that in their path a decision makes.
    async fn asked_by_a_plan(&self, path: &str) -> usize {
        self.registry.clear_requests();
        self.plan().await;
        self.registry.requests().iter().filter(|request| request.path.contains(path)).count()
    }
}

/// What happens to candidate-2 right before it is looked at.
#[tokio::test]
async fn what_happens_meanwhile_keeps_it() {
    let digest = || image("candidate-2", 98).digest;
    let rows: Vec<(&str, &str, Change, &str)> = vec![
        (
            "tagged",
            "_manifests/",
            Box::new(move |content| assert!(content.move_tag(REPOSITORY, "wanted", &digest()))),
            "kept",
        ),
        (
            "locked",
            "_manifests/",
            Box::new(move |content| {
                *content.attributes_mut(REPOSITORY, Target::Manifest(&digest())).unwrap() = undeletable();
            }),
            "locked",
        ),
        (
            "referred to",
            "referrers/",
            Box::new(|content| content.put_image(REPOSITORY, None, &sbom_of(&image("candidate-2", 98)))),
            "kept",
        ),
        (
            "pushed again",
            "_manifests/",
            Box::new(|content| content.put_image(REPOSITORY, None, &image("candidate-2", 98))),
            "kept",
        ),
        (
            "gone",
            "_manifests/",
            Box::new(move |content| assert!(content.delete_manifest(REPOSITORY, &digest()))),
            "missing",
        ),
    ];
    for (what, path, meanwhile, label) in rows {
        let walk = WorkflowFixture::untagged().await;
        let fault = FaultKind::before_request(meanwhile);
        walk.registry.inject(Fault::on(&format!("{path}{}", digest()), fault).times(1));
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((came.code, deleted), (0, outcomes(None, &[("candidate-2", label)])), "{what}: {}", came.text);
    }
}

/// What happens between the decision and the second look at the whole repository.
#[tokio::test]
async fn what_is_new_at_the_second_look_keeps_it() {
    let rows: Vec<(&str, Change, &str)> = vec![
        (
            "an index lists it",
            Box::new(|content| {
                let index = image::index(image::Format::Oci, &[image("candidate-2", 98), image("other", 3)]);
                put_index(content, &index);
            }),
            "kept",
        ),
        (
            "it was signed by a tag",
            Box::new(|content| {
                let digest = image("candidate-2", 98).digest;
                let cosign = image::signature(&digest, "contoso/shop/api");
                content.put_image(REPOSITORY, Some(&companion_tag(&digest, ".sig")), &cosign);
            }),
            "kept",
        ),
        (
            "it was tagged",
            Box::new(|content| {
                assert!(content.move_tag(REPOSITORY, "wanted", &image("candidate-2", 98).digest));
            }),
            "kept",
        ),
        (
            "it was pushed again",
            Box::new(|content| content.put_image(REPOSITORY, None, &image("candidate-2", 98))),
            "kept",
        ),
    ];
    for (what, change, label) in rows {
        let walk = WorkflowFixture::untagged().await;
        let asked = walk.asked_by_a_plan(READS).await;
        walk.advance_clock(1);
        let fault = FaultKind::before_request(change);
        walk.registry.inject(Fault::on(READS, fault).after(asked).times(1));
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((came.code, deleted), (0, outcomes(None, &[("candidate-2", label)])), "{what}: {}", came.text);
    }
    let walk = WorkflowFixture::untagged().await;
    let asked = walk.asked_by_a_plan(READS).await;
    let lock = FaultKind::before_request(|content| {
        *content.attributes_mut(REPOSITORY, Target::Repository).unwrap() = undeletable();
    });
    walk.registry.inject(Fault::on(READS, lock).after(asked).times(1));
    let before = walk.manifests();
    walk.enforce().await;
    assert_eq!(walk.manifests(), before, "nothing is deleted from a repository that is locked");
}

/// A long deletion looks at the whole again: an index that is pushed tells nothing to the images that it lists.
#[tokio::test]
async fn an_index_pushed_during_a_long_deletion_keeps_what_it_lists() {
    let walk = WorkflowFixture::untagged().await;
    let mut order: Vec<(Digest, &str)> = EXPIRED_TAGS.iter().map(|tag| (walk.digest(REPOSITORY, tag), *tag)).collect();
    order.sort();
    let (first, (last, name)) = (order[0].0.clone(), order[3].clone());
    let now = Arc::clone(&walk.now);
    let number: i64 = name.trim_start_matches("candidate-").parse().unwrap();
    let push = FaultKind::before_request(move |content| {
        let listed = image(name, 100 - number);
        assert_eq!(listed.digest, last);
        put_index(content, &image::index(image::Format::Oci, &[listed]));
        *now.lock().unwrap() += SignedDuration::from_mins(2);
    });
    walk.registry.inject(Fault::on(&format!("manifests/{first}"), push).method(Method::DELETE).times(1));
    let came = walk.enforce().await;
    let deleted = walk.deleted(&came, &[]).await;
    assert_eq!((came.code, deleted), (0, outcomes(None, &[(name, "kept")])), "{}", came.text);
}

/// What happens, at which request, how, and what comes of whom then.
type Row = (&'static str, fn(&ManifestTree) -> String, fn(&ManifestTree) -> Change, Vec<(&'static str, &'static str)>);

/// What happens to a family right before it is looked at. The registry deletes what refers to a manifest with it, so
/// whatever keeps a referrer keeps what it refers to.
#[tokio::test]
async fn what_keeps_one_of_a_family_keeps_what_it_hangs_on() {
    let kept: Vec<(&str, &str)> =
        ["index", "cosign", "sbom", "sbom-sig", "amd64", "arm64", "attest-amd64", "attest-arm64"]
            .iter()
            .chain(&["child-sig"])
            .map(|name| (*name, "kept"))
            .collect();
    let but = |name: &'static str, label: &'static str| {
        let mut others = kept.clone();
        others.iter_mut().filter(|(other, _)| *other == name).for_each(|other| other.1 = label);
        others
    };
    let of_index: fn(&ManifestTree) -> String = |family| format!("referrers/{}", family.index.digest);
    let rows: Vec<Row> = vec![
        (
            "the SBOM gets a tag",
            of_index,
            |family| {
                let digest = family.sbom.digest.clone();
                Box::new(move |content| assert!(content.move_tag(REPOSITORY, "sbom-2", &digest)))
            },
            kept.clone(),
        ),
        (
            "the SBOM's signature gets a tag",
            of_index,
            |family| {
                let digest = family.signature.digest.clone();
                Box::new(move |content| assert!(content.move_tag(REPOSITORY, "sig-2", &digest)))
            },
            kept.clone(),
        ),
        (
            "the SBOM is locked",
            of_index,
            |family| {
                let digest = family.sbom.digest.clone();
                Box::new(move |content| {
                    *content.attributes_mut(REPOSITORY, Target::Manifest(&digest)).unwrap() = undeletable();
                })
            },
            but("index", "locked"),
        ),
        (
            "the SBOM is signed once more",
            of_index,
            |family| {
                let another = sbom_of(&family.sbom);
                Box::new(move |content| content.put_image(REPOSITORY, None, &another))
            },
            kept.clone(),
        ),
        (
            "an image in it gets a tag",
            |family| format!("_manifests/{}", family.index.children[1].digest),
            |family| {
                let digest = family.index.children[1].digest.clone();
                Box::new(move |content| assert!(content.move_tag(REPOSITORY, "arm-only", &digest)))
            },
            vec![("arm64", "kept")],
        ),
        (
            "an image in it is locked",
            |family| format!("_manifests/{}", family.index.children[1].digest),
            |family| {
                let digest = family.index.children[1].digest.clone();
                Box::new(move |content| {
                    *content.attributes_mut(REPOSITORY, Target::Manifest(&digest)).unwrap() = undeletable();
                })
            },
            vec![("arm64", "locked")],
        ),
        (
            "an image in it is signed once more",
            |family| format!("referrers/{}", family.index.children[0].digest),
            |family| {
                let another = sbom_of(&family.index.children[0]);
                Box::new(move |content| content.put_image(REPOSITORY, None, &another))
            },
            vec![("amd64", "kept"), ("child-sig", "kept")],
        ),
    ];
    for (what, path, change, others) in rows {
        let (walk, family) = WorkflowFixture::with_family().await;
        let fault = FaultKind::before_request(change(&family));
        walk.registry.inject(Fault::on(&path(&family), fault).times(1));
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &family.names()).await;
        assert_eq!((came.code, deleted), (0, outcomes(Some(&family), &others)), "{what}: {}", came.text);
        // The run that kept it has not made it forgotten, nor free.
        walk.enforce().await;
    }
}

/// The list of manifests does not say that an image refers to anything; the question right before the deletion does.
#[tokio::test]
async fn an_image_that_refers_to_it_keeps_it() {
    for tag in [Some("variant"), None] {
        let walk = WorkflowFixture::untagged().await;
        let variant = image_with_subject(&walk.digest(REPOSITORY, "candidate-2"), "variant");
        walk.registry.content(|content| content.put_image(REPOSITORY, tag, &variant));
        walk.snapshot_new_tags();
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((came.code, deleted), (0, outcomes(None, &[("candidate-2", "kept")])), "{}", came.text);
    }
}

/// The other way round: an image in an index is, by its bytes, a signature or the like of an image that stays.
#[tokio::test]
async fn an_image_of_an_index_that_refers_to_what_stays_stays() {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(THEN);
    let release = walk.digest(REPOSITORY, "release-1");
    let (plain, variant) = (image("plain", 3), image_with_subject(&release, "variant"));
    let index = image::index(image::Format::Oci, &[plain.clone(), variant.clone()]);
    walk.registry.content(|content| {
        content.put_image(REPOSITORY, Some("candidate-0"), &index);
        let then = content.now() - SignedDuration::from_hours(24 * 200);
        assert!(content.date_tag(REPOSITORY, "candidate-0", then, then));
    });
    walk.snapshot_tags();
    walk.settings("enforce", "", "");
    walk.enforce().await;
    walk.advance_clock(9 * 24);
    let came = walk.enforce().await;
    let deleted = walk.deleted(&came, &[("plain", &plain.digest), ("variant", &variant.digest)]).await;
    assert!(deleted.contains(&"plain done".to_owned()) && deleted.contains(&"variant kept".to_owned()), "{deleted:?}");
}

/// Told to stop, it finishes what it is at and leaves the rest for the next run, at once.
#[tokio::test]
async fn told_to_stop_it_leaves_the_rest_for_the_next_run() {
    let (walk, family) = WorkflowFixture::with_family().await;
    let before = walk.manifests().len();
    let stop = Arc::clone(&walk.stop);
    let fault = FaultKind::before_request(move |_| _ = stop.send_replace(true));
    walk.registry.inject(Fault::on("/manifests/", fault).method(Method::DELETE).after(2).times(1));
    let came = walk.enforce().await;
    let deleted = walk.deleted(&came, &family.names()).await;
    let count = |label: &str| deleted.iter().filter(|one| one.ends_with(label)).count();
    let gone = before - walk.manifests().len();
    assert_eq!(
        (came.code, count(" done"), deleted.len()),
        (1, gone, outcomes(Some(&family), &[]).len()),
        "{deleted:?}"
    );
    assert!(gone >= 3 && count(" interrupted") > 0, "{deleted:?}");
    walk.stop.send_replace(false);
    walk.enforce().await;
    walk.advance_clock(9 * 24);
    walk.enforce().await;
    let left: BTreeSet<Digest> = walk.tags().into_values().collect();
    assert_eq!(walk.manifests(), left, "nothing is left over");
}

#[tokio::test]
async fn the_end_of_a_window_holds_the_rest_back() {
    // The window ends during the second deletion. After an hour its token is over, too: then it is not sent again.
    for (minutes, done) in [(45, 2), (60, 1)] {
        let walk = WorkflowFixture::untagged().await;
        // Now it is noon of a Sunday.
        walk.settings("enforce", "", "[schedule]\nwindow = { hours = \"11:00-12:30\" }");
        let now = Arc::clone(&walk.now);
        let late = FaultKind::before_request(move |_| *now.lock().unwrap() += SignedDuration::from_mins(minutes));
        walk.registry.inject(Fault::on("/manifests/", late).method(Method::DELETE).after(1).times(1));
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        let count = |deleted: &[String], label: &str| deleted.iter().filter(|one| one.ends_with(label)).count();
        assert_eq!((count(&deleted, " done"), count(&deleted, " blocked")), (done, 4 - done), "{deleted:?}");
        walk.advance_clock(23);
        let came = walk.enforce().await;
        let deleted = walk.deleted(&came, &[]).await;
        assert_eq!((deleted.len(), count(&deleted, " done")), (4 - done, 4 - done), "{deleted:?}");
    }
}

/// Nothing is deleted outside a window, in a freeze, in another mode, or before the turn of its policy.
#[tokio::test]
async fn nothing_is_deleted_before_its_turn() {
    let walk = WorkflowFixture::untagged().await;
    let before = walk.manifests();
    for (mode, rest) in [
        ("dry-run", ""),
        ("approved", ""),
        ("enforce", "[schedule]\nwindow = { hours = \"01:00-02:00\" }"),
        ("enforce", "[schedule]\nfreeze = [{ from = 2026-11-25, to = 2026-12-05, reason = \"move\" }]"),
    ] {
        walk.settings(mode, "", rest);
        let came = walk.enforce().await;
        assert_eq!((came.code, walk.deleted(&came, &[]).await.len()), (0, 0), "{mode} {rest}: {}", came.text);
        assert_eq!(
            (WorkflowFixture::manifest_cleanup(&came).manifest_count(), walk.manifests()),
            (4, before.clone()),
            "{mode} {rest}"
        );
    }
    walk.settings("enforce", "", "");
    let app = walk.open().await.unwrap();
    let due = PolicyFilter::Only(BTreeSet::from(["releases".parse().unwrap()]));
    let ended = app.run_with(RunOptions { policies: due, ..RunOptions::default() }, &()).await.unwrap();
    app.close().await;
    assert!(ended.deleted.is_empty() && walk.manifests() == before, "{:?}", ended.deleted);
    let despite = RunOptions { override_reason: Some("asked".into()), ..RunOptions::default() };
    walk.settings("enforce", "", "[schedule]\nwindow = { hours = \"01:00-02:00\" }");
    let app = walk.open().await.unwrap();
    let ended = app.run_with(despite, &()).await.unwrap();
    app.close().await;
    assert_eq!(ended.deleted.len(), 4);
    assert!(ended.deleted.iter().all(|one| !matches!(one.outcome, Outcome::Skipped(SkipReason::Blocked(_)))));
}

/// A tag that Tagwarden put back and somebody else removed: it is not ours to delete. One that somebody pushed again
/// has its time anew.
#[tokio::test]
async fn what_others_touched_is_theirs_or_waits_anew() {
    let walk = WorkflowFixture::untagged().await;
    let (put_back, pushed) = (walk.digest(REPOSITORY, "candidate-2"), walk.digest(REPOSITORY, "candidate-3"));
    let app = walk.open().await.unwrap();
    // A hold would keep it anyway.
    app.restore_with_hold(&RestoreSelection::Image("main/shop/api:candidate-2".into()), None).await.unwrap();
    app.close().await;
    walk.registry.content(|content| {
        assert!(content.delete_tag(REPOSITORY, "candidate-2"));
        content.put_image(REPOSITORY, Some("mine"), &image("candidate-3", 97));
        assert!(content.delete_tag(REPOSITORY, "mine"));
    });
    let came = walk.enforce_unaudited().await;
    let waiting = WorkflowFixture::manifest_cleanup(&came).pending;
    assert_eq!(
        (waiting, walk.deleted(&came, &[]).await),
        (1, vec!["candidate-1 done".to_owned(), "candidate-4 done".to_owned()])
    );
    walk.advance_clock(7 * 24);
    let early = walk.enforce_unaudited().await;
    walk.advance_clock(25);
    let late = walk.enforce_unaudited().await;
    assert!(walk.deleted(&early, &[]).await.is_empty());
    assert_eq!(walk.deleted(&late, &[]).await, ["candidate-3 done"]);
    assert!(walk.manifests().contains(&put_back) && !walk.manifests().contains(&pushed));
}

/// What somebody else collected is noted once, and not looked for again.
#[tokio::test]
async fn what_somebody_else_deleted_is_noted_once() {
    let by_digest = |walk: &WorkflowFixture| {
        for digest in EXPIRED_TAGS.map(|tag| walk.digest(REPOSITORY, tag)) {
            walk.registry.content(|content| assert!(content.delete_manifest(REPOSITORY, &digest)));
        }
    };
    let with_the_repository = |walk: &WorkflowFixture| {
        walk.registry.content(|content| content.delete_repository(REPOSITORY));
        walk.snapshot_tags();
    };
    for (what, deleted) in [("one by one", &by_digest as &dyn Fn(&WorkflowFixture)), ("all", &with_the_repository)] {
        let walk = WorkflowFixture::untagged().await;
        // With one of three repositories gone the list is believed.
        for repository in ["shop/jobs", "shop/web"] {
            let release = image(repository, 50);
            walk.registry.content(|content| content.put_image(repository, Some("release-1"), &release));
        }
        walk.plan().await;
        deleted(&walk);
        noted_once(&walk, what).await;
    }
}

/// A list of repositories that is not believed calls nothing gone until a person says that it is right.
#[tokio::test]
async fn what_a_doubted_list_leaves_out_is_not_noted_as_gone() {
    let walk = WorkflowFixture::untagged().await;
    walk.registry.content(|content| content.delete_repository(REPOSITORY));
    let came = walk.enforce_unaudited().await;
    assert_eq!((came.code, noted(&walk, &came).await), (5, 0), "{}", came.text);
    let app = walk.open().await.unwrap();
    app.accept_catalogue("main").await.unwrap();
    app.close().await;
    noted_once(&walk, "accepted").await;
}

async fn noted_once(walk: &WorkflowFixture, what: &str) {
    for notes in [4, 0] {
        let came = walk.enforce_unaudited().await;
        assert_eq!(
            (came.code, WorkflowFixture::manifest_cleanup(&came)),
            (0, DeletionsView::default()),
            "{what}: {}",
            came.text
        );
        assert_eq!(noted(walk, &came).await, notes, "{what}");
    }
}

/// How many manifests a run journaled as gone, or deleted.
async fn noted(walk: &WorkflowFixture, came: &StepResult) -> usize {
    let run = came.result.as_ref().unwrap().run;
    let journal = walk.journal().await;
    let here = journal.iter().filter(|entry| entry.run == run);
    here.filter(|entry| entry.intent.action == Action::DeleteUntagged).count()
}

/// What was untagged at another address under the same name was another registry's.
#[tokio::test]
async fn what_was_untagged_elsewhere_is_not_ours() {
    let walk = WorkflowFixture::untagged().await;
    let before = walk.manifests();
    let settings = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    let other = settings.replace("127.0.0.1", "localhost");
    assert_ne!(settings, other);
    // There (it wants no credentials of ours) and back: what is untagged from then on is not what was before.
    for (settings, code) in [(&other, 5), (&settings, 0)] {
        fs::write(walk.path("tagwarden.toml"), settings).unwrap();
        let came = walk.enforce().await;
        assert_eq!((came.code, WorkflowFixture::manifest_cleanup(&came).manifest_count()), (code, 0), "{}", came.text);
    }
    assert_eq!(walk.manifests(), before);
}
