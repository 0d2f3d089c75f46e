//! Plans in a folder are applied once, each with its signature where one is demanded.

use std::fs;

use tagwarden::domain::chain;
use tagwarden::report::{self, Format};

use super::*;
use crate::workflow::EXPIRED_TAGS;

impl WorkflowFixture {
    /// What applying the folder comes to: each file tried with its exit code and words.
    async fn apply_folder(&self) -> Vec<(String, u8, String)> {
        let app = self.open().await.unwrap();
        let came = app.apply_folder(&()).await.unwrap();
        app.close().await;
        let one = |(file, ended): (std::path::PathBuf, _)| {
            let came = StepResult::from_result(ended);
            (file.file_name().unwrap().to_string_lossy().into_owned(), came.code, came.text)
        };
        came.into_iter().map(one).collect()
    }

    fn approve(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("approved")).unwrap();
        fs::write(self.path(&format!("approved/{name}")), text).unwrap();
    }

    async fn runs(&self) -> usize {
        let app = self.open().await.unwrap();
        let runs = app.store.runs(1_000).await.unwrap().len();
        app.close().await;
        runs
    }
}

#[tokio::test]
async fn a_plan_in_the_folder_is_applied_once() {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", "[approvals]\nfolder = \"approved\"");
    let plan = report::render(&walk.plan().await, Format::Json);
    walk.approve("CHG0012345.json", &plan);
    walk.approve("notes.txt", "not a plan");
    let came = walk.apply_folder().await;
    assert_eq!(came.len(), 1);
    assert_eq!((&*came[0].0, came[0].1), ("CHG0012345.json", 0), "{}", came[0].2);
    assert!(walk.remaining_tags().is_empty());
    assert_eq!(walk.approved_by().await, (None, Some("CHG0012345".into())));
    let runs = walk.runs().await;
    // Under another name it is the same plan.
    walk.approve("again.json", &plan);
    assert!(walk.apply_folder().await.is_empty());
    let app = walk.open().await.unwrap();
    let found = app.approved_plans().await.unwrap();
    app.close().await;
    let [copy] = &*found.notes else { panic!("{found:?}") };
    assert!(copy.contains("again.json is not applied again") && copy.contains("ticket CHG0012345"), "{copy}");
    assert!(found.attention.is_empty() && found.pending.is_empty(), "{found:?}");
    walk.audit(None).await;
    assert_eq!(walk.runs().await, runs);
}

#[tokio::test]
async fn what_is_refused_is_told_once_and_tried_again_when_the_reason_changes() {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", &approvals("folder = \"approved\"\nrequire_signature = true"));
    let plan = report::render(&walk.plan().await, Format::Json);
    walk.approve("a.json", &plan);
    walk.approve("b.json", "{\"schema\": \"tagwarden.plan/1\"");
    let came = walk.apply_folder().await;
    assert_eq!(came.iter().map(|(name, code, _)| (&**name, *code)).collect::<Vec<_>>(), [("a.json", 3), ("b.json", 3)]);
    assert!(came[0].2.contains("a.json: the settings demand a signature"), "{came:?}");
    assert!(came[1].2.contains("b.json: the plan is not JSON"), "{came:?}");
    assert_eq!((walk.apply_folder().await.len(), walk.remaining_tags()), (0, EXPIRED_TAGS.to_vec()));

    walk.approve("a.json.sig", &sign(&key(2), "tagwarden", &plan));
    let came = walk.apply_folder().await;
    assert!(came.len() == 1 && came[0].2.contains("nobody in the settings"), "{came:?}");

    walk.approve("a.json.sig", &sign(&key(1), "tagwarden", &plan));
    let came = walk.apply_folder().await;
    assert_eq!((came.len(), came[0].1), (1, 0), "{came:?}");
    assert!(walk.remaining_tags().is_empty());
    assert_eq!(walk.approved_by().await.0, Some("Ada".into()));
}

#[tokio::test]
async fn without_a_folder_nothing_is_applied_and_a_missing_one_is_told() {
    let walk = WorkflowFixture::new().await;
    assert!(walk.apply_folder().await.is_empty());
    walk.settings("approved", "", "[approvals]\nfolder = \"approved\"");
    let app = walk.open().await.unwrap();
    let error = app.apply_folder(&()).await.unwrap_err();
    app.close().await;
    assert!(chain(&error).contains("approved, cannot be read"), "{error}");
}
