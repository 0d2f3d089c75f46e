//! What webhooks, Slack and Teams receive, against what they document.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tagwarden::config::NotifyEvent;
use tagwarden::notify::{RunEvent, signature};
use wiremock::{Request, ResponseTemplate};

use super::{hook, json as body, noon, notify_run, received, receiver_settings, run_with_occasions};
use crate::documents::blocks;

const DOCUMENT: &str = include_str!("../../../docs/notifications.md");

/// News with words that mean something to those who format texts.
fn sharp() -> RunEvent {
    let mut news = run_with_occasions(&[(NotifyEvent::Failed, "x"), (NotifyEvent::Removed, "")]);
    news.counts.as_mut().unwrap().failed = 2;
    news.problems = vec!["contoso/shop/api:v1: <!channel> & [a](https://x.example) *b*".to_owned()];
    news
}

async fn sent(kind: &str, lines: &str, news: RunEvent) -> Request {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let folder = tempfile::tempdir().unwrap();
    notify_run(&[receiver_settings(kind, &url, lines)], folder.path(), noon(), news).await;
    received(&server).await.remove(0)
}

/// `printf '1795403045.{}' | openssl dgst -sha256 -hmac key`
#[test]
fn the_signature_is_what_others_compute() {
    let known = "db48011a80137cccb79d2acc3f44e8d272b966a8838d14f823cec4ea3372848f";
    assert_eq!(signature(b"key", 1_795_403_045, b"{}"), known);
}

/// The recipe of the document, run as it stands, takes what is sent and nothing else.
#[tokio::test]
async fn a_webhook_is_signed_as_the_document_says() {
    let request = sent("webhook", "", sharp()).await;
    let header = request.headers["tagwarden-signature"].to_str().unwrap().to_owned();
    assert!(header.starts_with(&format!("t={},v1=", noon().as_second())), "{header}");
    assert_eq!(request.headers["content-type"], "application/json");
    let recipe = blocks(DOCUMENT, "python")[0].1;
    let genuine = |secret: &str, header: &str, body: &[u8], seconds_later: i64| {
        let program = format!(
            "{recipe}\nimport sys\nprint(is_genuine({secret:?}.encode(), {header:?}, sys.stdin.buffer.read(), lambda: {}))",
            noon().as_second() + seconds_later
        );
        let mut python = Command::new("python3");
        python.args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().expect("`tests/run` installs python3; run it once");
        python.stdin.take().unwrap().write_all(body).unwrap();
        let output = python.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let changed = String::from_utf8(request.body.clone()).unwrap().replace("617", "618");
    assert_eq!(genuine("hunter2", &header, &request.body, 10), "True");
    assert_eq!(genuine("hunter3", &header, &request.body, 10), "False");
    assert_eq!(genuine("hunter2", &header, &request.body, 301), "False");
    assert_eq!(genuine("hunter2", &header, changed.as_bytes(), 10), "False");
}

/// Every key of the document's example is sent, and nothing else.
#[tokio::test]
async fn a_webhook_receives_what_the_document_shows() {
    fn keys(value: &Value, at: &str, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            found.push(format!("{at}.{key}"));
            keys(value, &format!("{at}.{key}"), found);
        }
        found.sort();
    }
    let shown: Value = serde_json::from_str(blocks(DOCUMENT, "json")[0].1).unwrap();
    let request = sent("webhook", "", sharp()).await;
    let sent = body(&request);
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    keys(&shown, "", &mut expected);
    keys(&sent, "", &mut found);
    assert_eq!(found, expected);
    assert_eq!(sent["title"], "Tagwarden: 2 removals failed");
    assert_eq!(sent["occasions"], json!(["removed", "failed"]));
    assert_eq!(sent["counts"]["removed"], 617);
    assert_eq!(sent["run"]["outcome"], "done");
}

/// <https://docs.slack.dev/reference/block-kit/blocks>: a header is plain text of at most 150 characters, a section at
/// most 3000; `&`, `<` and `>` are escaped.
#[tokio::test]
async fn slack_gets_blocks_without_markup_of_others() {
    let mut news = sharp();
    news.problems.extend((0..9).map(|number| format!("{number}{}", "<".repeat(290))));
    let request = sent("slack", "", news).await;
    assert!(!request.headers.contains_key("tagwarden-signature"));
    let sent = body(&request);
    let keys: Vec<&String> = sent.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["blocks", "text"]);
    let blocks = sent["blocks"].as_array().unwrap();
    let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["header", "section", "context"]);
    assert_eq!(blocks[0]["text"], json!({ "type": "plain_text", "text": "Tagwarden: 2 removals failed" }));
    let text = blocks[1]["text"]["text"].as_str().unwrap();
    assert_eq!(blocks[1]["text"]["type"], "mrkdwn");
    assert!(text.contains("&lt;!channel&gt; &amp;") && !text.contains('<'), "{text}");
    assert_eq!(text.chars().count(), 3000);
}

/// A workflow's webhook wants a message with one adaptive card, and refuses more than 28 KB.
#[tokio::test]
async fn teams_gets_one_adaptive_card() {
    let mut news = sharp();
    news.problems.extend((0..9).map(|number| format!("{number}{}", "_".repeat(290))));
    let request = sent("teams", "", news).await;
    assert!(request.body.len() < 28 * 1024);
    let sent = body(&request);
    assert_eq!(sent["type"], "message");
    let attachments = sent["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1);
    assert_eq!(attachments[0]["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachments[0]["content"];
    assert_eq!((card["type"].as_str(), card["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
    let elements = card["body"].as_array().unwrap();
    let kinds: Vec<&str> = elements.iter().map(|element| element["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["TextBlock", "TextBlock", "FactSet"]);
    assert_eq!(elements[0]["color"], "Attention");
    let text = elements[1]["text"].as_str().unwrap();
    assert!(text.contains("\\[a\\](https://x.example) \\*b\\*"), "{text}");
    let facts = elements[2]["facts"].as_array().unwrap();
    assert!(facts.iter().all(|fact| fact["title"].is_string() && fact["value"].is_string()), "{facts:?}");
}

#[tokio::test]
async fn a_template_makes_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("t.txt");
    std::fs::write(&template, "{mode}: {removed} of {expired}, {reclaimable}\n{problems}\n").unwrap();
    let lines = format!("template = \"{}\"", template.display());
    let sent = body(&sent("webhook", &lines, sharp()).await);
    let text = "enforce: 617 of 620, 1.0 GiB\n- contoso/shop/api:v1: <!channel> & [a](https://x.example) *b*";
    assert_eq!(sent["text"], text);
}
