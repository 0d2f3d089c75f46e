//! Signatures are over the exact bytes of the file, by somebody on the list, and the audit says whose they are.

use tagwarden::report::{self, Format};

use super::*;
use crate::workflow::EXPIRED_TAGS;

#[tokio::test]
async fn a_plan_is_applied_only_as_somebody_on_the_list_signed_it() {
    for (what, seed, namespace, edit, code, phrase) in [
        ("as it should be", 1, "tagwarden", "", 0, ""),
        ("somebody else", 2, "tagwarden", "", 3, "which is of nobody in the settings"),
        ("for something else", 1, "git", "", 3, "made for `git`"),
        ("a line more", 1, "tagwarden", "\n", 3, "is not of this file as it is"),
    ] {
        let walk = WorkflowFixture::new().await;
        walk.settings("approved", "", &approvals("require_signature = true"));
        let plan = report::render(&walk.plan().await, Format::Json);
        let signature = Some(sign(&key(seed), namespace, &plan));
        let came = walk.apply_as(&(plan + edit), &Approval { signature, ..Approval::default() }).await;
        assert_eq!(came.code, code, "{what}: {}", came.text);
        assert!(came.text.contains(phrase), "{what}: {}", came.text);
        let (left, by) = if code == 0 { (0, Some("Ada".to_owned())) } else { (4, None) };
        assert_eq!((walk.remaining_tags().len(), walk.approved_by().await.0), (left, by), "{what}");
    }
}

#[tokio::test]
async fn where_a_signature_is_demanded_none_is_not_enough() {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", &approvals("require_signature = true"));
    let plan = report::render(&walk.plan().await, Format::Json);
    let said = Approval { approved_by: Some("Ada".into()), ..Approval::default() };
    let came = walk.apply_as(&plan, &said).await;
    assert_eq!((came.code, walk.remaining_tags()), (3, EXPIRED_TAGS.to_vec()), "{}", came.text);
    assert!(came.text.contains("demand a signature") && came.text.contains("Ada"), "{}", came.text);
}

/// What was said at the command line stays in the record, and the signature says who really did.
#[tokio::test]
async fn the_signature_counts_more_than_what_was_said() {
    let walk = WorkflowFixture::new().await;
    walk.settings("approved", "", &approvals(""));
    let plan = report::render(&walk.plan().await, Format::Json);
    let signature = Some(sign(&key(1), "tagwarden", &plan));
    let approval =
        Approval { approved_by: Some("Bob".into()), ticket: Some("CHG-7".into()), override_reason: None, signature };
    let came = walk.apply_as(&plan, &approval).await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert_eq!(walk.approved_by().await, (Some("Bob (signed by Ada)".into()), Some("CHG-7".into())));
    assert_eq!(walk.approval_in_reports().await, "Bob (signed by Ada) (signature verified)");
}

/// A name is not a signature, whatever it says.
#[tokio::test]
async fn reports_tell_a_verified_signature_from_a_stated_name() {
    for (signed, stated, expected) in [
        (true, None, "Ada (signature verified)"),
        (true, Some("Ada"), "Ada (signature verified)"),
        (false, Some("Ada"), "Ada (as stated; no signature)"),
        (false, Some("Bob (signed by Ada)"), "Bob (signed by Ada) (as stated; no signature)"),
    ] {
        let walk = WorkflowFixture::new().await;
        walk.settings("approved", "", &approvals(""));
        let plan = report::render(&walk.plan().await, Format::Json);
        let signature = signed.then(|| sign(&key(1), "tagwarden", &plan));
        let approval = Approval { approved_by: stated.map(str::to_owned), signature, ..Approval::default() };
        assert_eq!(walk.apply_as(&plan, &approval).await.code, 0);
        assert_eq!(walk.approval_in_reports().await, expected);
    }
}

/// Who may sign is no part of what a plan rests on.
#[tokio::test]
async fn a_plan_outlives_a_new_signer() {
    let walk = WorkflowFixture::new().await;
    let plan = report::render(&walk.plan().await, Format::Json);
    walk.settings("approved", "", &approvals("require_signature = true"));
    let signature = Some(sign(&key(1), "tagwarden", &plan));
    let came = walk.apply_as(&plan, &Approval { signature, ..Approval::default() }).await;
    assert_eq!(came.code, 0, "{}", came.text);
}
