//! The page of an image: its past decisions, holds with their ends, and what was done to it.

use jiff::ToSpan as _;
use tagwarden::domain::{Action, Digest, Hold, Intent, Outcome, RemovalMethod, SkipReason};
use tagwarden::state::{RunContext, RunKind};
use tagwarden::workflow::{RecordLimits, tag_record};

use super::fixture::{WebFixture, hold, new_run, noon, plan, record, run_id};
use crate::support::lease::lease;

const PAGE: &str = "/images/contoso/shop/part-000:candidate-000003";

/// A site with two plans that expire the tag, of which the first removed it, and a hold that somebody ended.
async fn site() -> WebFixture {
    let site = WebFixture::new().await;
    let store = &site.context.store;
    record(store, 1, plan(10), noon() - 48.hours()).await;
    record(store, 2, plan(10), noon() - 24.hours()).await;
    let hold = ended_hold();
    store.hold(&hold).await.unwrap();
    let ended =
        store.end_holds(&hold.endpoint, &hold.repository, &hold.tag, "bob@there", noon() - 6.hours()).await.unwrap();
    assert_eq!(ended, 1);
    site
}

fn ended_hold() -> Hold {
    Hold {
        repository: "shop/part-000".parse().unwrap(),
        tag: "candidate-000003".parse().unwrap(),
        since: noon() - 12.hours(),
        ..hold("load test of the <b>checkout</b>")
    }
}

#[tokio::test]
async fn an_image_shows_its_decisions_and_the_holds_that_ended() {
    let site = site().await;
    let page = site.get(PAGE).await.body;
    // The latest first.
    let places = [
        "hold: <span class=\"mark dim\">ended</span>",
        "by:</span> bob@there<",
        "held:</span> by ada@here since 2026-11-23 00:00 UTC: load test of the &#60;b&#62;checkout",
        "hold: <span class=\"mark dim\">until 2026-11-24 12:00 UTC</span>",
        "by:</span> ada@here<",
        "because:</span> load test of the",
        "decided: <span class=\"mark expired\">expired</span> (enforced)",
        "by run:</span> 01930000-0000-7000-8000-000000000002<",
        "untag: <span class=\"mark good\">done</span>",
        "run:</span> 01930000-0000-7000-8000-000000000001 (run) by alice@build-7<",
        "decided: <span class=\"mark expired\">expired</span> (enforced)",
        "by run:</span> 01930000-0000-7000-8000-000000000001<",
        "policy:</span> candidate-builds<",
        "because:</span> policy candidate-builds keeps none<",
        "Decisions are those of 2 complete plans since 2026-11-21 12:00 UTC: ",
    ];
    let mut rest = &*page;
    for words in places {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words:?} in its place in:\n{page}")).1;
    }
    assert!(!page.contains("id=\"holds\""), "no hold is in force: {page}");

    let kept = site.get("/images/contoso/shop/part-000:release-000001").await.body;
    let decided = "decided: <span class=\"mark protected\">protected</span></td>";
    assert!(kept.contains(decided) && !kept.contains("hold:"), "{kept}");
    assert!(kept.contains("<ul class=\"reasons\"><li>"), "{kept}");
}

#[tokio::test]
async fn a_long_history_is_cut_with_its_count_and_the_command_for_all_of_it() {
    let site = site().await;
    let store = &site.context.store;
    let lease = lease(store).await;
    for number in 0..120 {
        let intent = Intent {
            action: Action::Remove(RemovalMethod::Untag),
            registry: "contoso".parse().unwrap(),
            repository: "shop/part-000".parse().unwrap(),
            tag: "candidate-000003".parse().unwrap(),
            digest: Digest::of(b"x"),
            media_type: "application/json".into(),
            policy: Some("candidate-builds".into()),
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        let skipped = Outcome::Skipped(SkipReason::Kept("used".into()));
        let at = noon() - 3.hours() + number.seconds();
        store.record_not_attempted(&lease, run_id(2), &intent, &skipped, at).await.unwrap();
    }
    let page = site.get(PAGE).await.body;
    assert_eq!(page.matches("<td class=\"event\">").count(), 100, "{page}");
    // Two decisions, the beginning and the end of a hold, 122 entries of two runs and the skips.
    let rest = "26 earlier: <code>tagwarden explain contoso/shop/part-000:candidate-000003 --history</code>";
    assert!(page.contains(rest), "{page}");

    let (registry, repository, tag) =
        ("contoso".parse().unwrap(), "shop/part-000".parse().unwrap(), "candidate-000003".parse().unwrap());
    let read = async |limits| tag_record(store, (&registry, &repository, &tag), noon(), limits).await.unwrap();
    let all = read(RecordLimits { plans: 2, entries: 122 }).await;
    let plans = &all.view.plans;
    assert_eq!((plans.searched, plans.partial, all.omitted_entries, all.view.decisions.len()), (2, false, 0, 2));
    let cut = read(RecordLimits { plans: 1, entries: 100 }).await;
    let plans = &cut.view.plans;
    assert_eq!((plans.searched, plans.partial, cut.omitted_entries), (1, true, 22));
    assert_eq!((plans.since, cut.view.decisions[0].plans), (Some(noon() - 24.hours()), 1));
    assert!(plans.describe().contains("earlier plans were not searched"), "{}", plans.describe());
}

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
