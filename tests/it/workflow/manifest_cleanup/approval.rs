//! Deletions that somebody approved: exactly those, or less.

use tagwarden::report::RetainReasonView;

use super::*;

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";

impl WorkflowFixture {
    fn release(&self, name: &str, tag: &str) {
        let text = format!("{{\"image\": \"{}/shop/api:{tag}\"}}", self.registry.host());
        fs::write(self.path(&format!("releases/{name}.json")), text).unwrap();
    }

    /// In mode `approved`, with what was untagged nine days ago and a family among it.
    async fn to_approve() -> (Self, ManifestTree) {
        let walk = Self::azure(|options| options).await;
        walk.policies(THEN);
        let family = walk.family("candidate-0");
        fs::create_dir(walk.path("releases")).unwrap();
        walk.release("a", "release-1");
        walk.settings("enforce", "", RECORDS);
        walk.enforce().await;
        walk.settings("approved", "", RECORDS);
        walk.advance_clock(9 * 24);
        (walk, family)
    }

    async fn approved(&self, plan: &PlanDocument) -> StepResult {
        let came = self.apply_text(&report::render(plan, Format::Json)).await;
        self.audit(None).await;
        came
    }
}

fn outcome_of(walk_told: &[String], name: &str) -> String {
    let found = walk_told.iter().find(|one| one.split(' ').next() == Some(name));
    found.map_or("-", |one| one.split(' ').nth(1).unwrap()).to_owned()
}

#[tokio::test]
async fn an_approved_plan_deletes_what_it_lists_and_once() {
    let (walk, family) = WorkflowFixture::to_approve().await;
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 0, "deletions only");
    assert_eq!(plan.deletions.manifest_count(), 4 + 9);
    let came = walk.approved(&plan).await;
    let told = walk.deleted(&came, &family.names()).await;
    assert_eq!((came.code, told), (0, outcomes(Some(&family), &[])), "{}", came.text);
    let again = walk.approved(&plan).await;
    assert_eq!(again.code, 3, "{}", again.text);
    assert!(again.text.contains("was applied already"), "{}", again.text);
}

/// What happens between approval and apply, the exit code, and what came of candidate-2 and of the family's index.
#[tokio::test]
async fn what_changed_since_the_approval_is_left_out() {
    type Row = (&'static str, fn(&WorkflowFixture, &ManifestTree), &'static str, &'static str);
    let rows: Vec<Row> = vec![
        (
            "tagged",
            |walk, _| {
                let digest = image("candidate-2", 98).digest;
                walk.registry.content(|content| assert!(content.move_tag(REPOSITORY, "wanted", &digest)));
            },
            "kept",
            "done",
        ),
        ("claimed by a tag that it had", |walk, _| walk.release("b", "candidate-2"), "kept", "done"),
        (
            "the SBOM is claimed",
            |walk, family| {
                let text = format!("{{\"image\": \"{}/shop/api@{}\"}}", walk.registry.host(), family.sbom.digest);
                fs::write(walk.path("releases/b.json"), text).unwrap();
            },
            "done",
            "kept",
        ),
        (
            "another signature",
            |walk, family| {
                let another = image::artifact("x", ("sig", Blob::layer("x", 10)), Some(&family.index), &[]);
                walk.registry.content(|content| content.put_image(REPOSITORY, None, &another));
            },
            "done",
            "kept",
        ),
        (
            "another index lists one of its images",
            |walk, family| {
                let another = image::index(image::Format::Oci, &[family.index.children[0].clone(), image("x", 1)]);
                walk.registry.content(|content| put_index(content, &another));
            },
            "done",
            "done",
        ),
    ];
    for (what, change, candidate, index) in rows {
        let (walk, family) = WorkflowFixture::to_approve().await;
        let plan = walk.plan().await;
        change(&walk, &family);
        walk.snapshot_new_tags();
        let came = walk.approved(&plan).await;
        let told = walk.deleted(&came, &family.names()).await;
        assert_eq!(came.code, 0, "{what}: {}", came.text);
        let found = (outcome_of(&told, "candidate-2"), outcome_of(&told, "index"));
        assert_eq!(found, (candidate.to_owned(), index.to_owned()), "{what}: {told:?}");
        let there = walk.manifests();
        assert_eq!(there.contains(&image("candidate-2", 98).digest), candidate == "kept", "{what}");
        if what.starts_with("another index") {
            assert!(there.contains(&family.index.children[0].digest), "{what}");
        }
    }
}

#[tokio::test]
async fn what_was_restored_since_the_approval_stays() {
    let (walk, family) = WorkflowFixture::to_approve().await;
    let plan = walk.plan().await;
    let app = walk.open().await.unwrap();
    for tag in ["candidate-0", "candidate-2"] {
        app.restore_image(&format!("main/shop/api:{tag}")).await.unwrap();
    }
    app.close().await;
    let came = walk.approved(&plan).await;
    let told = walk.deleted(&came, &family.names()).await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert_eq!((&*outcome_of(&told, "candidate-2"), &*outcome_of(&told, "index")), ("kept", "kept"), "{told:?}");
    assert!(family.names().iter().all(|(_, digest)| walk.manifests().contains(digest)));
    assert_eq!(walk.remaining_tags(), ["candidate-2"]);
}

#[tokio::test]
async fn a_plan_that_does_not_hold_any_more_deletes_nothing() {
    type Row = (&'static str, fn(&WorkflowFixture), &'static str);
    let rows: Vec<Row> = vec![
        ("the policy waits longer", |walk| walk.policies(&THEN.replace("after 8d", "after 9d")), "has changed since"),
        (
            "the policy does not delete any more",
            |walk| walk.policies(&THEN.replace("    then: { delete_manifest: after 8d }\n", "")),
            "has changed since",
        ),
        ("expired", |walk| walk.advance_clock(25), "expired"),
        ("dry-run", |walk| walk.settings("dry-run", "", RECORDS), "dry-run"),
    ];
    for (what, change, words) in rows {
        let (walk, _) = WorkflowFixture::to_approve().await;
        let plan = walk.plan().await;
        let before = walk.manifests();
        change(&walk);
        let came = walk.approved(&plan).await;
        assert_eq!((came.code, walk.manifests()), (3, before), "{what}: {}", came.text);
        assert!(came.text.contains(words), "{what}: {}", came.text);
    }
}

/// Whoever can write files and compute a hash can make a plan say anything.
#[tokio::test]
async fn a_forged_plan_deletes_no_more_than_follows() {
    let (walk, family) = WorkflowFixture::to_approve().await;
    let release = walk.digest(REPOSITORY, "release-1");
    let plan = walk.plan().await;
    let edited = report::render(&plan, Format::Json)
        .replace(&walk.digest(REPOSITORY, "candidate-2").to_string(), &release.to_string());
    let came = walk.apply_text(&edited).await;
    assert_eq!(came.code, 3, "{}", came.text);

    let mut forged = plan.clone();
    forged.deletions.eligible[0].digest = release.to_string();
    forged.deletions.eligible.iter_mut().for_each(|one| one.retain_reasons = Vec::<RetainReasonView>::new());
    report::assign_plan_id(&mut forged);
    let came = walk.approved(&forged).await;
    assert_eq!(came.code, 0, "{}", came.text);
    let told = walk.deleted(&came, &family.names()).await;
    assert_eq!(outcome_of(&told, "release-1"), "kept", "{told:?}");
    assert!(walk.manifests().contains(&release));

    // A limit holds for a plan whose refusals are gone, too.
    let (walk, _) = WorkflowFixture::to_approve().await;
    let path = walk.path("tagwarden.toml");
    let text = fs::read_to_string(&path).unwrap().replace("percent = 100", "percent = 100\ndelete = 3");
    fs::write(&path, text).unwrap();
    let before = walk.manifests();
    let mut plan = walk.try_plan().await.unwrap().document;
    assert_eq!((plan.deletions.refusals.len(), plan.deletions.manifest_count()), (1, 13));
    let came = walk.approved(&plan).await;
    assert_eq!(walk.manifests(), before, "{}", came.text);
    plan.deletions.refusals.clear();
    plan.refusals.clear();
    plan.deletions.eligible.iter_mut().for_each(|one| one.refused = None);
    report::assign_plan_id(&mut plan);
    let came = walk.approved(&plan).await;
    assert_eq!(walk.manifests(), before, "{}", came.text);
}
