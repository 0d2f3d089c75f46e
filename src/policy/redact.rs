//! Redaction of diagnostics: no secret of a file is shown, not even under an unknown key.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Keys of the settings whose values may be shown. Values under all others are masked: one of them may be a misspelt
/// `password`.
const VISIBLE_KEYS: [&str; 89] = [
    "accept",
    "aliases",
    "allow_empty",
    "allow_http",
    "allow_unmatched",
    "authority",
    "branches",
    "bytes",
    "ca_file",
    "can_untag",
    "client_id",
    "cloud",
    "commits",
    "concurrency",
    "configmaps",
    "context",
    "cron",
    "days",
    "deadline",
    "delete",
    "endpoint",
    "exclude",
    "folder",
    "format",
    "freeze",
    "from",
    "group",
    "helm",
    "hours",
    "ignore_identities",
    "interval",
    "jitter",
    "keep",
    "kind",
    "kinds",
    "kubeconfig",
    "leave",
    "listen",
    "log_analytics",
    "logging_since",
    "max_age",
    "mentions",
    "metrics",
    "min_claims",
    "missed",
    "mode",
    "name",
    "namespaces",
    "on",
    "optional",
    "path",
    "paths",
    "percent",
    "placeholder",
    "plan_ttl",
    "plans",
    "policies",
    "port",
    "ranges",
    "read",
    "reason",
    "registries",
    "removal",
    "repeat_after",
    "repositories",
    "require_signature",
    "resource_group",
    "resource_groups",
    "resource_manager",
    "server",
    "signers",
    "since",
    "socket",
    "state",
    "subscription",
    "subscriptions",
    "tags",
    "tenant_id",
    "timeout",
    "timezone",
    "tls",
    "to",
    "token_hosts",
    "traces",
    "undo_window",
    "unresolved",
    "untag",
    "within",
    "workspace",
];

/// A key and the sign after it: `=` anywhere, `:` at the start of a line, for TOML written as if it were YAML.
static KEY_VALUE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?m)([\w.\-]+|"[^"\n]*"|'[^'\n]*')[ \t]*=[ \t]*|^[ \t#-]*([\w.\-]+):(?:[ \t]+|$)"#));

/// A line that begins with a word and has neither sign: the rest of it could be anything.
static WORD_LINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^[ \t]*[A-Za-z_][\w.-]*[ \t]+([^=:\n]+)$"));

/// A value after a key that sounds like a secret, unless the key only names a file.
static SECRET_KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?im)\b[\w.-]*(?:pass|pasw|pwd|secret|token|credential|api[_-]?key|authorization|bearer|webhook|cookie)[\w.-]*["']?\s*[=:][ \t]*("""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[^,}\n#]*[^,}\s#])"#,
    )
});

/// Patterns of secrets in any place.
static SECRET_PATTERNS: LazyLock<[Regex; 6]> = LazyLock::new(|| {
    [
        // User and password in a URL.
        pattern(r#"://([^/@\s"']+)@"#),
        // Webhook addresses, and signed URLs.
        pattern(
            r#"(?i)(?:hooks\.slack\.com|webhook\.office\.com|discord(?:app)?\.com/api/webhooks|logic\.azure\.com)(/[^\s"'`]*)"#,
        ),
        pattern(r#"(?i)[?&](?:sig|signature|token|key|code|secret|x-amz-signature|x-amz-security-token)=([^&\s"'`]+)"#),
        // As in headers.
        pattern(r"(?i)\b(?:bearer|basic)[ \t]+([\w.~+/-]*[0-9][\w.~+/-]*=*)"),
        // By the prefixes of their issuers; JSON web tokens among them.
        pattern(
            r"\b((?:gh[opsur]_|github_pat_|glpat-|gldt-|xox[abeprs]-|AKIA|ASIA|dckr_[po]at_|npm_|hvs\.|sk-|eyJ)[\w.~+/-]{8,}=*)",
        ),
        pattern(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)(?:-----END|\z)"),
    ]
});

/// User and password before a host, without a scheme; a tag before a digest looks alike.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| pattern(r#"([^\s"'`@/:=(,]*:[^\s"'`@]+)@"#));

/// Long words; those that mix small letters, capitals and digits are keys of some kind.
static LONG_TOKEN: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+]{20,}=*"));

/// Public keys of SSH and their fingerprints, which messages show: they name the signer.
static PUBLIC_KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"SHA256:[A-Za-z0-9+/]{43}\b|\b(?:ssh-[a-z0-9]+|ecdsa-sha2-[a-z0-9]+)[ \t]+AAAA[A-Za-z0-9+/]+=*")
});

/// The number of changes between digits and letters in a key, but not in a name.
const MIN_ALTERNATIONS: usize = 3;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants that compile")
}

/// Returns settings with only the values of known keys left, with all positions unchanged.
pub(super) fn redact_settings(text: &str) -> String {
    let mut shown = text.to_owned();
    let mut at = 0;
    while let Some(found) = KEY_VALUE.captures_at(text, at) {
        let (Some(whole), Some(key)) = (found.get(0), found.get(1).or_else(|| found.get(2))) else { break };
        at = whole.end();
        let value = at..value_end(text, at);
        let key = key.as_str().trim_matches(['"', '\'']);
        let key = key.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let is_path = key.ends_with("_file") && text[value.clone()].contains(['/', '.']);
        let is_sign = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        // A kind that looks like none may be a secret in the wrong place.
        let is_odd_kind = key == "kind" && text[value.clone()].bytes().any(is_sign);
        let is_visible = VISIBLE_KEYS.contains(&&*key) && !is_odd_kind;
        let is_public = PUBLIC_KEY.find(&text[value.clone()]).is_some_and(|found| found.start() <= 1);
        // Each key of an inline table is checked by itself.
        if is_path || is_visible || is_public || text[value.clone()].starts_with('{') {
            continue;
        }
        mask(&mut shown, value.clone());
        at = value.end.max(at);
    }
    let words: Vec<Range<usize>> =
        WORD_LINE.captures_iter(&shown).filter_map(|found| Some(found.get(1)?.range())).collect();
    for span in words {
        mask(&mut shown, span);
    }
    mask_secrets(&mut shown);
    shown
}

/// Masks everything that sounds or looks like a secret in any other file, with all positions unchanged.
pub(super) fn redact_file(text: &str) -> String {
    let mut shown = text.to_owned();
    mask_secrets(&mut shown);
    shown
}

/// Returns a message without anything that looks like a secret.
pub(crate) fn redact_message(text: &str) -> String {
    let mut shown = text.to_owned();
    mask_secret_patterns(&mut shown);
    shown
}

/// Returns the end of the value that begins there: at its closing quote or bracket, else at the end of the line.
fn value_end(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    let line = start + rest.find('\n').unwrap_or(rest.len());
    for quote in ["\"\"\"", "'''"] {
        if let Some(inner) = rest.strip_prefix(quote) {
            return inner.find(quote).map_or(text.len(), |end| start + 2 * quote.len() + end);
        }
    }
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let mut escaped = false;
            let end = text[start + 1..line].find(|letter| {
                let ends = letter == quote && !escaped;
                escaped = letter == '\\' && quote == '"' && !escaped;
                ends
            });
            end.map_or(line, |end| start + 1 + end + 1)
        }
        Some('[') => {
            let mut depth = 0_usize;
            let end = rest.find(|letter| {
                match letter {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            end.map_or(line, |end| start + end + 1)
        }
        Some('{') => (start + 1).min(line),
        _ => line,
    }
}

fn mask_secrets(shown: &mut String) {
    let spans: Vec<Range<usize>> = SECRET_KEY
        .captures_iter(shown)
        .filter_map(|found| Some((found.get(0)?, found.get(1)?)))
        .filter(|(whole, value)| {
            let key = shown[whole.start()..value.start()].trim_end_matches(['=', ':', ' ', '\t', '"', '\'']);
            let hosts = key.ends_with("token_hosts") || key.ends_with("token_host");
            !hosts && !key.ends_with("_file")
        })
        .map(|(_, value)| value.range())
        .collect();
    for span in spans {
        mask(shown, span);
    }
    mask_secret_patterns(shown);
}

fn mask_secret_patterns(shown: &mut String) {
    for pattern in SECRET_PATTERNS.iter() {
        let spans: Vec<Range<usize>> =
            pattern.captures_iter(shown).filter_map(|found| Some(found.get(1)?.range())).collect();
        for span in spans {
            mask(shown, span);
        }
    }
    let spans: Vec<Range<usize>> = USER_INFO
        .captures_iter(shown)
        .filter_map(|found| Some(found.get(1)?.range()))
        .filter(|span| is_user_info(&shown[span.clone()], &shown[span.end + 1..]))
        .collect();
    for span in spans {
        mask(shown, span);
    }
    let mixed = |word: &str| {
        let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
        let turns = word.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit());
        has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && turns.count() >= MIN_ALTERNATIONS
    };
    let public: Vec<Range<usize>> = PUBLIC_KEY.find_iter(shown).map(|found| found.range()).collect();
    let is_public = |word: &Range<usize>| public.iter().any(|key| key.start <= word.start && word.end <= key.end);
    let spans: Vec<Range<usize>> = LONG_TOKEN
        .find_iter(shown)
        .filter(|found| mixed(found.as_str()) && !is_public(&found.range()))
        .map(|found| found.range())
        .collect();
    for span in spans {
        mask(shown, span);
    }
}

/// Returns false for the tag of a reference with a digest, the port of an address, the rest of a URL, and names of
/// identities that registries write so.
fn is_user_info(text: &str, after: &str) -> bool {
    if ["arn:", "mailto:", "serviceAccount:"].iter().any(|prefix| text.starts_with(prefix)) {
        return false;
    }
    let secret = text.split_once(':').map_or("", |(_, secret)| secret);
    let port = secret.split('/').next().unwrap_or_default();
    let has_port = port.len() < secret.len() && port.bytes().all(|byte| byte.is_ascii_digit());
    !["sha256:", "sha512:"].iter().any(|algorithm| after.starts_with(algorithm)) && !has_port
}

/// Appends a star for each byte that does not end a line.
fn mask(shown: &mut String, span: Range<usize>) {
    let struck: String = shown[span.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
    shown.replace_range(span, &struck);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_under_unknown_keys_are_struck_out() {
        for (line, shown) in [
            ("mode = \"dry-run\"", "mode = \"dry-run\""),
            ("pasword = \"hunter2\"", "pasword = *********"),
            ("auth = { kind = \"basic\", pasword = \"hunter2\" }", "auth = { kind = \"basic\", pasword = ********* }"),
            ("headers = { Authorization = \"Bearer x\" }", "headers = { Authorization = ********** }"),
            ("headers = [[\"Authorization\",\n \"x\"]]\nmode = 1", "headers = ******************\n******\nmode = 1"),
            ("webhook_url = 'https://x/y'", "webhook_url = *************"),
            ("registries.a.auth.key = 12345", "registries.a.auth.key = *****"),
            ("\"pass word\" = 'x' # why", "\"pass word\" = *** # why"),
            ("x = \"\"\"\nhunter2\n\"\"\"\nmode = 1", "x = ***\n*******\n***\nmode = 1"),
            ("x = \"a\\\"hunter2\"", "x = ************"),
            ("x = \"hunter2", "x = ********"),
            ("x = hunter2, kind = 1", "x = *****************"),
            ("password: hunter2", "password: *******"),
            ("password hunter2", "password *******"),
            ("# key = hunter2", "# key = *******"),
            ("auth = { kind = \"Geheim123\" }", "auth = { kind = *********** }"),
            ("auth = { kind = \"azure-cli\" }", "auth = { kind = \"azure-cli\" }"),
            ("token_file = \"secrets/token\"", "token_file = \"secrets/token\""),
            ("token_file = \"hunter2\"", "token_file = *********"),
            ("token_hosts = [\"a.example\"]", "token_hosts = [\"a.example\"]"),
            ("endpoint = \"https://u:p@r.example\"", "endpoint = \"https://***@r.example\""),
            ("endpoint = \"u:Geheim123@127.0.0.1:15556\"", "endpoint = \"***********@127.0.0.1:15556\""),
            ("aliases = [\"u:p@r.example/x\"]", "aliases = [\"***@r.example/x\"]"),
            ("endpoint = \":Geheim123@r.example\"", "endpoint = \"**********@r.example\""),
            ("[registries.contoso]", "[registries.contoso]"),
            (
                "ssh = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9 a\"",
                "ssh = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9 a\"",
            ),
            ("ssh = \"Geheim123\"", "ssh = ***********"),
        ] {
            let found = redact_settings(line);
            assert_eq!(found, shown);
            assert_eq!(found.len(), line.len());
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_struck_out_anywhere() {
        for (text, secret) in [
            ("kind `ghp_0123456789abcdefABCDEF`", "0123456789"),
            ("unknown word `eyJhbGciOi.eyJzdWIiOi.c2ln`", "eyJzdWIiOi"),
            ("https://hooks.slack.com/services/T0/B0/abc", "T0/B0"),
            ("https://x.example/a?sv=1&sig=abc%3D", "abc%3D"),
            ("Authorization: Bearer abcdefgh1234", "abcdefgh1234"),
            ("the text `Zm9vYmFyOmJhejpxdXV4MTIzNDU2`", "Zm9v"),
            ("dsn u:Geheim123@db refused", "Geheim123"),
            ("no address `u:Geheim/123@127.0.0.1:15556`", "Geheim"),
            ("user=u:Geheim123@[::1]:5000", "Geheim123"),
        ] {
            assert!(!redact_message(text).contains(secret), "{}", redact_message(text));
        }
        for harmless in [
            "unknown key `endpont` in a registry, did you mean `endpoint`?",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "00000000-0000-0000-0000-000000000000",
            "/srv/tagwarden/policies/production.yaml:3:7",
            "policy `ContosoProductionRegistry2-Candidate-Builds-2026`",
            "kind `basic` needs a `username`",
            "shop/api:v1@sha256:0123 and 127.0.0.1:5000/shop/api:v1@sha256:0123",
            "User: arn:aws:sts::123456789012:assumed-role/Admin/ada@contoso.example is not authorized",
            "http://127.0.0.1:5000/users/@me and ada@contoso.example",
            "write endpoint = \"https://NAME.azurecr.io\"",
            "by the key SHA256:Im1BvZ9Xf2IS30w0E6abcdefGHIJ0123456789abcdE, which is of nobody",
            "the signer ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9a8b7C6d5E4f3 ada@contoso.example",
        ] {
            assert_eq!(redact_message(harmless), harmless);
        }
        assert_eq!(
            redact_file("password: hunter2\nselect: { tags: [\"v*\"] }"),
            "password: *******\nselect: { tags: [\"v*\"] }"
        );
    }

    proptest::proptest! {
        #[test]
        fn every_byte_keeps_its_place(text in "[a-z\"'\\[\\]{}=:,.#\\\\ \n\u{e9}]{0,60}") {
            for shown in [redact_settings(&text), redact_file(&text), redact_message(&text)] {
                proptest::prop_assert_eq!(shown.len(), text.len());
                proptest::prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
