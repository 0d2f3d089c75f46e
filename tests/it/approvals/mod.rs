//! Plans that somebody approved: once, by whom, and no more than that.

mod folder;
mod replay;
mod settings;
mod signature;

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use tagwarden::report::{self, Format};
use tagwarden::workflow::{Approval, run_views};

use crate::workflow::{StepResult, WorkflowFixture};

/// A key that is the same in every test.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// What `ssh-keygen -Y sign -n NAMESPACE` writes.
pub(crate) fn sign(key: &PrivateKey, namespace: &str, plan: &str) -> String {
    let signature = key.sign(namespace, HashAlg::Sha512, plan.as_bytes()).unwrap();
    signature.to_pem(LineEnding::LF).unwrap()
}

/// `[approvals]` with Ada, whose key is of seed 1.
pub(crate) fn approvals(more: &str) -> String {
    let ada = key(1).public_key().to_openssh().unwrap();
    format!("[approvals]\nsigners = [{{ name = \"Ada\", ssh = \"{ada}\" }}]\n{more}\n")
}

impl WorkflowFixture {
    /// Applies a plan as somebody approved it.
    pub(crate) async fn apply_as(&self, plan: &str, approval: &Approval) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.apply(plan, approval, &()).await;
        app.close().await;
        StepResult::from_result(ended)
    }

    /// The approver of the last run, as all reports have it.
    pub(crate) async fn approval_in_reports(&self) -> String {
        let app = self.open().await.unwrap();
        let (view, plan) = app.run_report("last").await.unwrap();
        let listed = run_views(&app.store, &app.store.runs(1).await.unwrap()).await.unwrap();
        app.close().await;
        let words = view.describe_approval().unwrap();
        assert_eq!(listed[0].describe_approval().as_ref(), Some(&words));
        for format in [Format::Text, Format::Markdown, Format::Html] {
            let mut out = Vec::new();
            report::write_run(&view, plan.as_ref(), format, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap().replace("\\(", "(").replace("\\)", ")");
            assert!(text.contains(&words), "{words} is missing in:\n{text}");
        }
        words
    }

    /// Who approved the last run, and its ticket.
    pub(crate) async fn approved_by(&self) -> (Option<String>, Option<String>) {
        let app = self.open().await.unwrap();
        let record = app.store.runs(1).await.unwrap().remove(0);
        app.close().await;
        (record.run.approved_by, record.run.ticket)
    }
}
