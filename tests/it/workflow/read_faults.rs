//! Registries that fail while they are read.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

const ALL: [&str; 4] = ["done"; 4];
const NONE: [&str; 4] = ["-"; 4];

/// A fault while an enforcing run reads, the exit code, what came of each of [`GOING`], and a phrase of the report.
type Row = (&'static str, Fault, u8, [&'static str; 4], &'static str);

fn rows(walk: &WorkflowFixture) -> Vec<Row> {
    let of = |tag: &str| format!("manifests/{}", walk.digest("shop/api", tag));
    let lost = |status| FaultKind::Status { status, headers: Vec::new(), body: "<html>lost</html>".into() };
    vec![
        ("catalogue 500", Fault::on("_catalog", FaultKind::status(500)), 5, NONE, "500"),
        ("catalogue 401", Fault::on("_catalog", FaultKind::status(401)), 5, NONE, "401"),
        ("catalogue page", Fault::on("_catalog", FaultKind::HtmlPage), 5, NONE, "web page"),
        ("catalogue cut", Fault::on("_catalog", FaultKind::CutBody), 5, NONE, "cut in the answer"),
        ("tag list 500 once", Fault::on("tags/list", FaultKind::status(500)).times(1), 0, ALL, ""),
        ("tag list 500", Fault::on("tags/list", FaultKind::status(500)), 5, NONE, "500"),
        ("tag list 401", Fault::on("tags/list", FaultKind::status(401)), 5, NONE, "401"),
        ("tag list 403", Fault::on("tags/list", FaultKind::status(403)), 5, NONE, "403"),
        ("tag list cut once", Fault::on("tags/list", FaultKind::CutBody).times(1), 0, ALL, ""),
        ("tag list cut", Fault::on("tags/list", FaultKind::CutBody), 5, NONE, "cut in the answer"),
        ("tag list truncated", Fault::on("tags/list", FaultKind::TruncatedJson), 5, NONE, "cannot be understood"),
        ("tag list no JSON", Fault::on("tags/list", FaultKind::InvalidJson), 5, NONE, "cannot be understood"),
        ("tag list page", Fault::on("tags/list", FaultKind::HtmlPage), 5, NONE, "web page"),
        ("tag list in a circle", Fault::on("tags/list", FaultKind::LinkLoop), 5, NONE, "tags"),
        (
            "tag list elsewhere",
            Fault::on("tags/list", FaultKind::ForeignLink("http://127.0.0.1:9/v2/".into())),
            5,
            NONE,
            "has no query",
        ),
        (
            "throttled without a time",
            Fault::on("tags/list", FaultKind::TooManyRequests { retry_after: None }).times(3),
            0,
            ALL,
            "",
        ),
        (
            "throttled for a second",
            Fault::on("tags/list", FaultKind::TooManyRequests { retry_after: Some(1) }).times(1),
            0,
            ALL,
            "",
        ),
        (
            "throttled for an hour",
            Fault::on("tags/list", FaultKind::TooManyRequests { retry_after: Some(3600) }),
            5,
            NONE,
            "429",
        ),
        ("tag 500 once", Fault::on("manifests/candidate-1", FaultKind::status(500)).times(1), 0, ALL, ""),
        ("tag 500", Fault::on("manifests/candidate-1", FaultKind::status(500)), 5, NONE, "500"),
        ("tag hangs up", Fault::on("manifests/candidate-1", FaultKind::HangUp { handled: false }), 5, NONE, ""),
        ("tag 401", Fault::on("manifests/candidate-1", FaultKind::status(401)), 5, NONE, "401"),
        ("tag 404 of a proxy", Fault::on("manifests/candidate-1", lost(404)), 5, NONE, "404"),
        ("manifest 500", Fault::on(&of("candidate-1"), FaultKind::status(500)), 5, NONE, "500"),
        ("manifest altered", Fault::on(&of("candidate-1"), FaultKind::WrongDigest), 5, NONE, "are not sha256:"),
        ("manifest truncated", Fault::on(&of("candidate-1"), FaultKind::TruncatedJson), 5, NONE, "are not sha256:"),
        ("manifest page", Fault::on(&of("candidate-1"), FaultKind::HtmlPage), 5, NONE, "are not sha256:"),
        // The registry says that it has no such manifest: only that tag is in doubt, and running again would not help.
        ("manifest 404", Fault::on(&of("candidate-1"), FaultKind::status(404)), 0, ["-", "done", "done", "done"], ""),
    ]
}

#[tokio::test]
async fn what_cannot_be_read_is_not_removed() {
    let count = rows(&WorkflowFixture::new().await).len();
    for number in 0..count {
        let walk = WorkflowFixture::new().await;
        walk.settings("enforce", "", "");
        let (name, fault, code, labels, phrase) = rows(&walk).remove(number);
        walk.registry.inject(fault);
        let came = walk.run().await;
        assert_eq!((came.code, came.labels()), (code, labels.to_vec()), "{name}: {}", came.text);
        assert!(came.text.contains(phrase), "{name}: {}", came.text);
    }
}

/// A tag that cannot be read might be an index, and what it contains is not free to go by its own tags.
#[tokio::test]
async fn an_index_hidden_by_a_proxy_still_holds_its_images() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    let child = image("candidate-1", 99);
    let index = tagwarden::demo::image::index(tagwarden::demo::image::Format::Oci, &[child]);
    walk.put("shop/api", "release-2", &index);
    let page = FaultKind::Status { status: 404, headers: Vec::new(), body: "<html>no such host</html>".into() };
    walk.registry.inject(Fault::on("manifests/release-2", page));
    let came = walk.run().await;
    assert_eq!(came.code, 5, "{}", came.text);
    assert!(walk.remaining_tags().contains(&"candidate-1"), "{}", came.text);
}

/// The token ends before the last look at a tag, before its deletion, or before both, tag after tag.
#[tokio::test]
async fn tokens_that_end_in_the_middle_are_renewed() {
    for (look, deletion) in [(false, false), (true, false), (false, true), (true, true)] {
        let auth = tagwarden::demo::registry::AuthMode::Bearer {
            user: "ci".into(),
            password: "secret".into(),
            lifetime: Duration::from_mins(1),
            anonymous_pull: false,
        };
        let walk = WorkflowFixture::with(Options { auth, ..Options::default() }, "").await;
        fs::write(walk.path("password"), "secret").unwrap();
        walk.settings(
            "approved",
            "concurrency = 1\nauth = { kind = \"basic\", username = \"ci\", password_file = \"password\" }",
            "",
        );
        let plan = walk.plan().await;
        assert_eq!(plan.removals.len(), 4, "{:?}", plan.registries);
        walk.registry.expire_tokens();
        let host = walk.registry.host();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"{host}\",error=\"invalid_token\"");
        let headers = vec![("www-authenticate".to_owned(), challenge)];
        let ended = FaultKind::Status { status: 401, headers, body: String::new() };
        for tag in EXPIRED_TAGS {
            let fault = Fault::on(&format!("manifests/{tag}"), ended.clone()).times(1);
            if look {
                walk.registry.inject(fault.clone().method(Method::HEAD).after(1));
            }
            if deletion {
                walk.registry.inject(fault.method(Method::DELETE));
            }
        }
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (0, ALL.to_vec()), "{}", came.text);
        let sent = if deletion { 8 } else { 4 };
        assert_eq!(walk.deletions_sent().len(), sent, "{:?}", walk.deletions_sent());
    }
}

#[tokio::test]
async fn a_tag_that_vanishes_while_reading_is_gone_not_lost() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let vanish = FaultKind::before_request(|content| {
        content.delete_tag("shop/api", "candidate-2");
    });
    walk.registry.inject(Fault::on("manifests/candidate-2", vanish).method(Method::HEAD).times(1));
    let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
    assert_eq!(came.labels(), ["done", "missing", "done", "done"], "{}", came.text);
}
