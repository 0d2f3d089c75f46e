//! The pages: whole, self-contained, and with everything from outside as text.

use jiff::ToSpan as _;
use tagwarden::state::{RunEnd, RunKind};
use tagwarden::web::{Activity, PolicyProblem};

use super::fixture::{HOSTILE, WebFixture, hold, new_run, noon, plan, record, run_id, run_result, summary_of};

async fn world() -> WebFixture {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    for number in 1..=4 {
        record(store, number, plan(150), noon() - (96 - i64::try_from(number).unwrap() * 24).hours()).await;
    }
    let failed = new_run(5, RunKind::Apply, noon());
    store.begin_run(&failed).await.unwrap();
    let error = Some(HOSTILE.to_owned());
    let end = RunEnd { ended_at: noon(), outcome: "error".into(), exit_code: 1, summary: "{}".into(), error };
    store.finish_run(failed.id, &end).await.unwrap();
    store.hold(&hold(HOSTILE)).await.unwrap();
    world.context.status.update(|status| {
        status.blocked_by = Some(HOSTILE.into());
        status.next[0].blocked_by = Some(HOSTILE.into());
        status.activity = Activity::Run { kind: RunKind::Run, since: noon(), description: HOSTILE.into() };
        status.policies.problem = Some(PolicyProblem { since: noon(), text: format!("policies/a.yaml:3: {HOSTILE}") });
    });
    world
}

fn addresses() -> Vec<String> {
    let run = run_id(4);
    [
        "/".to_owned(),
        "/runs".to_owned(),
        format!("/runs/{run}"),
        format!("/runs/{}", run_id(5)),
        format!("/runs/{run}?verdict=protected&search=api&page=1"),
        format!("/runs/{run}?search=%3C%2Ftd%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27"),
        "/registries/contoso".to_owned(),
        "/registries/contoso?search=%22%3E%3Cscript%3E&page=7".to_owned(),
        "/registries/contoso/shop/part-000".to_owned(),
        "/images/contoso/shop/part-000:candidate-000003".to_owned(),
        "/images/contoso/shop/part-000:release-000001".to_owned(),
        "/images/contoso/shop/api:candidate-41".to_owned(),
        "/images/contoso/%3Cscript%3E:%22".to_owned(),
        "/%22%3E%3Cscript%3Ealert(1)".to_owned(),
        "/runs/%3Cscript%3E".to_owned(),
        "/registries/%3Cscript%3E/%3Cscript%3E".to_owned(),
    ]
    .into()
}

/// Elements that have no end tag.
const VOID: [&str; 6] = ["meta", "link", "img", "br", "input", "!doctype"];

/// Every tag of a page closes what was opened, every attribute is quoted, and only the known elements are there.
fn well_formed(page: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        if rest[..start].contains('>') {
            return Err(format!("a stray `>` in {}", &rest[..start]));
        }
        rest = &rest[start + 1..];
        let (mut quoted, mut end) = (false, None);
        for (at, byte) in rest.bytes().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'>' if !quoted => {
                    end = Some(at);
                    break;
                }
                b'<' => return Err(format!("a `<` within a tag: {}", &rest[..at.min(80)])),
                _ => {}
            }
        }
        let tag = &rest[..end.ok_or("a tag without an end")?];
        rest = &rest[tag.len() + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("</{name}> closes {last:?}"));
            }
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        let outside = || tag.split('"').step_by(2);
        if outside().any(|part| part.trim_end_matches('=').contains('=')) || tag.ends_with('=') {
            return Err(format!("an attribute without quotes: {tag}"));
        }
        if tag
            .split('"')
            .step_by(2)
            .any(|outside| outside.split(' ').any(|word| word.starts_with("on") || word == "style="))
        {
            return Err(format!("script or style within: {tag}"));
        }
        if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

#[test]
fn what_is_not_well_formed_is_seen() {
    for bad in ["<p>", "<p></b></p>", "<p onload=\"x\"></p>", "<p a=b></p>", "<p><b></p></b>", "<p style=\"x\"></p>"] {
        assert!(well_formed(bad).is_err(), "{bad}");
    }
    well_formed("<!doctype html><p a=\"b\">x<br></p>").unwrap();
}

#[tokio::test]
async fn pages_are_whole_and_take_nothing_as_markup() {
    let world = world().await;
    for address in addresses() {
        let answer = world.get(&address).await;
        let page = &answer.body;
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{address}");
        well_formed(page).unwrap_or_else(|error| panic!("{address}: {error}\n{page}"));
        assert_eq!(page.matches("<script").count(), 1, "{address}: only its own\n{page}");
        assert!(!page.contains("alert(1)</script>") && !page.contains("<style"), "{address}");
        assert!(!page.contains("://") || no_links_elsewhere(page), "{address}");
        assert!(page.contains("<title>") && page.contains("lang=\"en\"") && page.contains("id=\"main\""), "{address}");
        assert!(
            page.contains("role=\"alert\"") && page.contains("policies/a.yaml:3"),
            "{address}: it is loud everywhere"
        );
    }
}

/// Whether nothing that a browser follows leads to another host.
fn no_links_elsewhere(page: &str) -> bool {
    ["href=\"", "src=\"", "action=\"", "url("].iter().all(|start| {
        page.match_indices(start).all(|(at, _)| {
            let target = page[at + start.len()..].split(['"', ')']).next().unwrap();
            (target.starts_with('/') && !target.starts_with("//")) || target.starts_with(['#', '?'])
        })
    })
}

#[tokio::test]
async fn links_lead_somewhere() {
    let world = world().await;
    let mut seen = std::collections::BTreeSet::new();
    let mut left = vec!["/".to_owned()];
    while let Some(address) = left.pop() {
        let bare = address.split('#').next().unwrap().to_owned();
        if !seen.insert(bare.clone()) {
            continue;
        }
        let answer = world.get(&bare).await;
        assert_eq!(answer.status, 200, "{bare}");
        if !answer.header("content-type").starts_with("text/html") {
            continue;
        }
        for start in ["href=\"", "src=\""] {
            for (at, _) in answer.body.match_indices(start) {
                let target = answer.body[at + start.len()..].split('"').next().unwrap().replace("&#38;", "&");
                let path = bare.split('?').next().unwrap();
                left.push(if target.starts_with('/') { target } else { format!("{path}{target}") });
            }
        }
    }
    assert!(seen.len() > 12, "{seen:?}");
    assert!(seen.iter().any(|address| address.ends_with("site.css")), "{seen:?}");
}

#[tokio::test]
async fn the_first_page_says_how_things_stand() {
    let world = world().await;
    let page = world.get("/").await.body;
    for words in [
        "run over",
        "2026-11-24 03:00 UTC",
        "in 15 hours",
        "aks-prod",
        "13.0 MiB",
        "<svg",
        ">apply 01930000-0000-7000-8000-000000000005 failed: ",
        ">source releases failed: ",
        ">registry contoso could be read only in part: shop/torn: ",
        ">refused: contoso/shop/part-000: 60 of 100 tags would be removed",
        ">source aks-prod keeps 3 tags of 1 repository undecided: aks-prod: shop/WorkflowTemplate/deploy: ",
    ] {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
    let empty = WebFixture::new().await.get("/").await.body;
    well_formed(&empty).unwrap();
    assert!(empty.contains("No run has read everything yet"), "{empty}");
}

/// Problems come before normal states, and commands in messages are shown as code.
#[tokio::test]
async fn the_first_page_begins_with_the_headline() {
    let world = world().await;
    world.context.status.update(|status| {
        status.blocked_by = Some("mode `dry-run` of the settings: & <more>".into());
    });
    let why = "<p class=\"loud\" role=\"status\"><b>Runs remove nothing right now:</b> mode <code>dry-run</code> of the \
               settings: &#38; &#60;more&#62;";
    let page = world.get("/").await.body;
    let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("no {words} in\n{page}"));
    assert!(place("id=\"health\"") < place("failed: ") && place("failed: ") < place(why), "{page}");
    assert_eq!(page.matches("Runs remove nothing right now").count(), 1, "{page}");
    assert!(page.contains("<code>tagwarden sources</code> asks"), "{page}");
    let other = world.get("/runs").await.body;
    assert!(other.contains(why), "{other}");
    let page = world.get(&format!("/runs/{}", run_id(4))).await.body;
    assert!(page.contains("<code>") && page.matches("<li>").count() > 3, "{page}");
}

/// An unread registry would be drawn as zero bytes, which looks like success.
#[tokio::test]
async fn the_trend_leaves_out_what_was_not_read() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    record(store, 1, plan(150), noon() - 72.hours()).await;
    let mut unread = plan(150);
    let kind = tagwarden::report::AttentionKind::RegistryUnread;
    let item =
        tagwarden::report::AttentionView::new(kind, "contoso", "registry contoso could not be read: refused", None);
    unread.attention.insert(0, item);
    unread.summary.reclaimable_bytes = 0;
    record(store, 2, unread, noon() - 48.hours()).await;
    record(store, 3, plan(150), noon() - 24.hours()).await;
    let page = world.get("/").await.body;
    assert!(page.contains("1 run that could not read a registry left out."), "{page}");
    assert!(!page.contains("<td class=\"n\">0 B</td><td class=\"n\">"), "{page}");
}

/// Such a record has the refusals and the number of gaps, and no list of what needs attention.
#[tokio::test]
async fn the_first_page_knows_records_of_an_older_version() {
    let world = WebFixture::new().await;
    let store = &world.context.store;
    let run = new_run(1, RunKind::Run, noon());
    store.begin_run(&run).await.unwrap();
    let mut summary: serde_json::Value = serde_json::from_str(&summary_of(&run_result(1, plan(10)))).unwrap();
    assert!(summary.as_object_mut().unwrap().remove("attention").is_some());
    let end =
        RunEnd { ended_at: noon(), outcome: "done".into(), exit_code: 0, summary: summary.to_string(), error: None };
    store.finish_run(run.id, &end).await.unwrap();
    let page = world.get("/").await.body;
    for words in [">registries could be read only in part: 1 gap<", ">refused: contoso/shop/part-000: 60 of 100"] {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
}

#[tokio::test]
async fn a_run_and_a_repository_tell_why_of_each_tag() {
    let world = world().await;
    let run = run_id(4);
    let page = world.get(&format!("/runs/{run}?verdict=protected&search=api-1")).await.body;
    assert!(page.contains("release-000001") && page.contains("Deployment") && !page.contains("mark expired"), "{page}");
    assert!(page.contains("value=\"api-1\"") && page.contains("value=\"protected\" selected"), "{page}");
    let page = world.get(&format!("/runs/{run}?page=2")).await.body;
    assert!(
        page.contains("101 to 150 of 150") && page.contains("rel=\"prev\"") && !page.contains("rel=\"next\""),
        "{page}"
    );
    let page = world.get(&format!("/runs/{run}?limit=20&verdict=retained&page=2")).await.body;
    for link in ["?verdict=retained&#38;limit=20&#38;page=1#tags", "?verdict=retained&#38;limit=20&#38;page=3#tags"] {
        assert!(page.contains(link), "no {link} in\n{page}");
    }
    let page = world.get("/registries/contoso/shop/part-000").await.body;
    for words in ["candidate-000003", "refused", "Removals and restores", "the tag is gone already"] {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
    let bytes = ["13.0 MiB and 2 of unknown size", "13.0 KiB"];
    for words in bytes.into_iter().chain(["unknown</td>", "1.0 KiB shared"]) {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
    let page = world.get("/registries/contoso").await.body;
    for words in bytes {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
    let page = world.get("/").await.body;
    for words in bytes.into_iter().chain(["reclaimable, without 2 removals of unknown size"]) {
        assert!(page.contains(words), "no {words} in\n{page}");
    }
}

#[tokio::test]
async fn style_and_script_are_kept_by_their_content() {
    let world = world().await;
    let page = world.get("/").await.body;
    let (start, end) = (page.find("/assets/").unwrap(), page.find("/site.css").unwrap());
    let folder = &page[start..end];
    for (name, kind) in [("site.css", "text/css"), ("site.js", "text/javascript"), ("icon.svg", "image/svg+xml")] {
        let answer = world.get(&format!("{folder}/{name}")).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("content-type").starts_with(kind) && answer.header("cache-control").contains("immutable")
        );
        assert!(!answer.body.contains("url(") && !answer.body.contains("@import"), "{name}");
        assert_eq!(world.get(&format!("/assets/0000/{name}")).await.status, 404);
    }
}

#[tokio::test]
async fn holds_are_shown_until_they_are_over() {
    let world = WebFixture::new().await;
    world.context.store.hold(&hold("incident 42")).await.unwrap();
    let home = world.get("/").await.body;
    assert!(home.contains("candidate-41") && home.contains("incident 42") && home.contains("ada@here"), "{home}");
    assert!(!home.contains("/registries/contoso/shop/api"), "no run has made that page: {home}");
    let json = world.get("/api/v1/holds").await.json();
    assert_eq!((json["holds"][0]["tag"].as_str(), json["holds"][0]["digest"].is_null()), (Some("candidate-41"), true));
    let over = tagwarden::domain::Hold { until: noon(), ..hold("over") };
    let ended = world.context.store.end_holds(&over.endpoint, &over.repository, &over.tag, "bob@here", noon()).await;
    assert_eq!(ended.unwrap(), 1);
    world.context.store.hold(&over).await.unwrap();
    assert!(!world.get("/").await.body.contains("candidate-41"));
}
