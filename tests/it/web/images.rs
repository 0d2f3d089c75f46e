//! What the pages of runs say of approvers.

use tagwarden::state::{RunContext, RunKind};

use super::fixture::{WebFixture, new_run, noon, run_id};

/// The same mark in lists as on the page of the run.
#[tokio::test]
async fn lists_of_runs_tell_verified_approvers_from_stated_ones() {
    let site = WebFixture::new().await;
    let store = &site.context.store;
    for (number, signed_by) in [(1, None), (2, Some("Anna <Ops>".to_owned()))] {
        let run = tagwarden::state::NewRun {
            approved_by: Some("Anna <Ops>".into()),
            ..new_run(number, RunKind::Apply, noon())
        };
        store.begin_run_with_context(&run, &RunContext { signed_by, ..RunContext::default() }).await.unwrap();
        let list = site.get("/runs").await.body;
        let mark = ["Anna &#60;Ops&#62; (as stated; no signature)", "Anna &#60;Ops&#62; (signature verified)"];
        let mark = mark[usize::from(number == 2)];
        for address in ["/", "/runs", &format!("/runs/{}", run_id(number))] {
            let page = site.get(address).await.body;
            assert!(page.contains(mark), "{mark} is missing on {address}:\n{page}");
        }
        assert_eq!(list.matches("approved by").count(), usize::try_from(number).unwrap(), "{list}");
        let json = site.get("/api/v1/runs").await.json();
        let signer = if number == 2 { "Anna <Ops>".into() } else { serde_json::Value::Null };
        assert_eq!((&json["runs"][0]["approved_by"], &json["runs"][0]["signed_by"]), (&"Anna <Ops>".into(), &signer));
    }
}
