//! `[notify.NAME]`: what is read, and how each fault is told without showing a secret.

use std::fs;

use tagwarden::config::{self, Channel, Encryption, NotifyEvent, Template};
use tagwarden::domain::chain;
use tagwarden::policy::render;

use crate::documents::blocks;

const DOCUMENT: &str = include_str!("../../../docs/notifications.md");
const LEAST: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";
const HOOK: &str = "https://hooks.contoso.example/T0/hunter2";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let template = blocks(DOCUMENT, "text")[0].1;
    for (name, text) in [
        ("slack-webhook", "https://hooks.slack.example/services/T0/B0/hunter2\n"),
        ("teams-webhook", "https://flows.example/hunter2?sig=hunter2"),
        ("audit-webhook", "https://audit.example/hunter2\r\n"),
        ("audit-webhook-key", "hunter2\n"),
        ("smtp-password", "hunter2\n"),
        ("mail.txt", template),
        ("plain-webhook", "http://hooks.example/hunter2"),
        ("bad.txt", "first\n{titel} {"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn the_settings_in_the_document_are_read() {
    let folder = folder();
    let file = folder.path().join("tagwarden.toml");
    fs::write(&file, format!("{LEAST}{}", blocks(DOCUMENT, "toml")[0].1)).unwrap();
    let settings = config::load(&file, []).unwrap();
    let shown: Vec<(&str, &str, usize)> =
        settings.notify.iter().map(|one| (one.name.as_str(), one.channel.label(), one.events.len())).collect();
    assert_eq!(
        shown,
        [("audit", "webhook", 1), ("mail", "email", 5), ("on-call", "slack", 4), ("platform", "teams", 2)]
    );
    assert!(
        settings.notify[0].events.contains(&NotifyEvent::Always)
            && !settings.notify[1].events.contains(&NotifyEvent::Always)
    );
    let Channel::Email(email) = &settings.notify[1].channel else { panic!("{:?}", settings.notify[1]) };
    assert_eq!((email.port, email.encryption), (587, Encryption::StartTls));
    assert!(settings.notify[1].template.is_some());
    assert!(!format!("{settings:?}").contains("hunter2"));
    // Whom it tells decides nothing about tags.
    fs::write(&file, LEAST).unwrap();
    assert_eq!(config::load(&file, []).unwrap().revision, settings.revision);
}

#[test]
fn ports_follow_encryption_and_secrets_may_come_from_the_environment() {
    for (lines, port) in [
        ("server = \"mail.example\"\ntls = \"tls\"", 465),
        ("server = \"localhost\"\ntls = \"none\"", 25),
        ("server = \"127.0.0.1\"\ntls = \"none\"\nport = 2525", 2525),
    ] {
        let text =
            format!("{LEAST}[notify.ops]\nkind = \"email\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n{lines}\n");
        let settings = crate::config::load(&text, &[]);
        let Channel::Email(email) = &settings.notify[0].channel else { panic!("{settings:?}") };
        assert_eq!(email.port, port);
    }
    let text = format!("{LEAST}[notify.On-Call]\nkind = \"slack\"\n");
    let settings = crate::config::load(&text, &[("TAGWARDEN__NOTIFY__ON_CALL__URL", HOOK)]);
    assert_eq!(settings.notify[0].name, "On-Call");
}

#[test]
fn faults_are_told_and_never_show_a_secret() {
    let email = "kind = \"email\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";
    for (lines, told) in [
        ("url_file = \"slack-webhook\"", "without `kind`"),
        ("kind = \"slak\"\nurl_file = \"slack-webhook\"", "did you mean `slack`?"),
        ("kind = \"slack\"", "without `url_file`"),
        ("kind = \"slack\"\nurl_file = \"nowhere\"", "cannot be read"),
        ("kind = \"slack\"\nurl_file = \"plain-webhook\"", "must begin with `https://`"),
        ("kind = \"slack\"\nurl_file = \"smtp-password\"", "must begin with `https://`"),
        (&format!("kind = \"slack\"\n# [x]\n\nurl = \"{HOOK}\""), "`url` stands in the settings file"),
        (
            "kind = \"slack\"\nurl_file = \"slack-webhook\"\nsecret_file = \"audit-webhook-key\"",
            "only `kind = \"webhook\"`",
        ),
        ("kind = \"webhook\"\nurl_file = \"audit-webhook\"", "without `secret_file`"),
        (
            "kind = \"webhook\"\nurl_file = \"audit-webhook\"\nsecret = \"hunter2\"",
            "`secret` stands in the settings file",
        ),
        ("kind = \"slack\"\nurl_file = \"slack-webhook\"\non = [\"fail\", \"never\"]", "did you mean `failed`?"),
        ("kind = \"slack\"\nurl_file = \"slack-webhook\"\nrepeat_after = \"1M\"", "is in months"),
        (
            "kind = \"slack\"\nurl_file = \"slack-webhook\"\ntemplate = \"bad.txt\"",
            "bad.txt:2: unknown placeholder `titel`",
        ),
        (&format!("{email}server = \"mail.example\"\ntls = \"none\""), "unencrypted"),
        (&format!("{email}server = \"mail.example\"\nusername = \"x\""), "without `password_file`"),
        (&format!("{email}server = \"mail.example\"\nport = 0"), "from 1 to 65535"),
        (email, "without `server`"),
        (
            "kind = \"email\"\nserver = \"mail.example\"\nfrom = \"me\"\nto = [\"a b@c.example\"]",
            "`from` contains an invalid address",
        ),
    ] {
        let folder = folder();
        let file = folder.path().join("tagwarden.toml");
        fs::write(&file, format!("{LEAST}[notify.ops]\n{lines}\n")).unwrap();
        let error = config::load(&file, []).expect_err(lines);
        assert!(chain(&error).contains(told), "{lines}:\n{error}");
        for shown in [chain(&error), format!("{error:?}"), render(&error.diagnostics, false)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn templates_are_filled_and_braces_stay_braces() {
    let values = [("title", "T".to_owned()), ("run", "r1".to_owned())].into();
    for (text, filled) in [("{title}: { run }!", "T: r1!"), ("{{title}} {mode}|", "{title} |"), ("", ""), ("ä", "ä")]
    {
        assert_eq!(Template::parse(text).unwrap().fill(&values), filled);
    }
    for (text, line) in [("a\n{nothing}", 2), ("{title", 1), ("\n\n}", 3)] {
        assert_eq!(Template::parse(text).unwrap_err().0, line, "{text}");
    }
    // The list in the document is the list.
    for placeholder in Template::PLACEHOLDERS {
        assert!(DOCUMENT.contains(&format!("`{placeholder}`")), "{placeholder}");
    }
}
