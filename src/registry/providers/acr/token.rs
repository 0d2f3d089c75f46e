//! What the tokens of a container registry say of themselves: JSON Web Tokens, whose signature only the registry can check.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::registry::client::jwt;

/// What a token says of itself. It is believed only where that makes us ask for less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TokenClaims {
    /// When it ends, in seconds since 1970 by the registry's clock.
    expires_at: Option<i64>,
    /// When it says that it was issued.
    issued_at: Option<i64>,
    /// What it is good for; nothing where it does not say.
    pub(super) access: Option<Vec<AccessEntry>>,
    /// Whether the registry gives permissions by repository (ABAC), by which it does not honour wildcards. `acr-cli`
    /// knows it by the same claim.
    pub(super) uses_repository_permissions: bool,
    /// The id of the application.
    pub(super) application: Option<String>,
    /// The name of the user.
    pub(super) user: Option<String>,
    /// The id of the tenant.
    pub(super) tenant: Option<String>,
}

/// Something that a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccessEntry {
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Tokens say that they were issued a quarter of an hour before they were.
const BACKDATED_SECONDS: i64 = 15 * 60;

impl TokenClaims {
    /// The claims of a token; nothing where it is none that can be read.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let claims = jwt::claims(token)?;
        let text = |keys: &[&str]| keys.iter().find_map(|key| claims[*key].as_str()).map(str::to_owned);
        Some(Self {
            expires_at: seconds(&claims["exp"]),
            issued_at: seconds(&claims["iat"]),
            access: claims
                .get("access")
                .map(|access| access.as_array().into_iter().flatten().map(AccessEntry::parse).collect()),
            uses_repository_permissions: claims.get("aad_identity").is_some_and(|identity| !identity.is_null()),
            application: text(&["appid", "azp"]),
            user: text(&["upn", "unique_name", "preferred_username"]),
            tenant: text(&["tid", "tenant"]),
        })
    }

    /// How long it is good for, counted from an answer with that `Date`: our own clock has no say in it. An answer
    /// without one leaves what the token says of its own beginning.
    pub(super) fn lifetime(&self, date: Option<Timestamp>) -> Option<Duration> {
        let from = match (date, self.issued_at) {
            (Some(date), _) => date.as_second(),
            (None, issued) => issued?.saturating_add(BACKDATED_SECONDS),
        };
        Some(Duration::from_secs(u64::try_from(self.expires_at?.saturating_sub(from)).unwrap_or(0)))
    }

    /// Those of the actions that it is not good for. A token that does not say is taken to be good for all of them.
    pub(super) fn missing_actions(&self, kind: &str, name: &str, actions: &[&'static str]) -> Vec<&'static str> {
        let Some(access) = &self.access else { return Vec::new() };
        let of_it: Vec<&AccessEntry> =
            access.iter().filter(|access| access.kind == kind && (access.name == name || access.name == "*")).collect();
        let given =
            |action: &&str| of_it.iter().any(|access| access.actions.iter().any(|it| it == action || it == "*"));
        actions.iter().copied().filter(|action| !given(action)).collect()
    }

    /// All that it is good for there, in words.
    pub(super) fn describe_actions(&self, kind: &str, name: &str) -> String {
        let access = self.access.iter().flatten();
        let of_it = access.filter(|access| access.kind == kind && (access.name == name || access.name == "*"));
        let mut actions: Vec<String> =
            of_it.flat_map(|access| &access.actions).map(|action| format!("`{action}`")).collect();
        actions.sort();
        actions.dedup();
        if actions.is_empty() { "nothing".to_owned() } else { actions.join(", ") }
    }
}

impl AccessEntry {
    /// Some versions of the service write `Type`, others `type`.
    fn parse(value: &Value) -> Self {
        let field = |name: &str| {
            let mut fields = value.as_object().into_iter().flatten();
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let text = |name| field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let actions = field("actions").and_then(Value::as_array).into_iter().flatten();
        Self {
            kind: text("type"),
            name: text("name"),
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

fn seconds(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and fractions of a second do not matter")]
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn what_a_token_is_good_for_is_read_in_every_spelling() {
        for claims in [
            json!({"access": [{"Type": "repository", "Name": "shop/api", "Actions": ["pull", "delete"]}]}),
            json!({"access": [{"type": "repository", "name": "shop/api", "actions": ["pull", "delete"]}]}),
            json!({"access": [{"type": "repository", "name": "*", "actions": ["delete"]},
                              {"type": "repository", "name": "shop/api", "actions": ["pull"]}]}),
        ] {
            let claims = TokenClaims::parse(&token(&claims)).unwrap();
            assert_eq!(claims.missing_actions("repository", "shop/api", &["pull", "push", "delete"]), ["push"]);
            assert_eq!(claims.describe_actions("repository", "shop/api"), "`delete`, `pull`");
            assert_eq!(claims.missing_actions("registry", "catalog", &["*"]), ["*"]);
        }
        let all =
            TokenClaims::parse(&token(&json!({"access": [{"type": "repository", "name": "*", "actions": ["*"]}]})))
                .unwrap();
        assert!(all.missing_actions("repository", "x", &["pull", "delete"]).is_empty());
        for nothing in [json!({"access": null}), json!({"access": []}), json!({"access": [{}, 7, "x"]})] {
            let claims = TokenClaims::parse(&token(&nothing)).unwrap();
            assert_eq!(claims.missing_actions("repository", "x", &["pull"]), ["pull"], "{nothing}");
            assert_eq!(claims.describe_actions("repository", "x"), "nothing");
        }
        assert!(
            TokenClaims::parse(&token(&json!({}))).unwrap().missing_actions("repository", "x", &["pull"]).is_empty(),
            "unsaid"
        );
    }

    #[test]
    fn a_life_is_counted_by_the_registrys_clock() {
        let date: Option<Timestamp> = "2030-01-01T00:00:00Z".parse().ok();
        let at = date.unwrap().as_second();
        let life = |claims: Value, date| {
            TokenClaims::parse(&token(&claims)).unwrap().lifetime(date).map(|life| life.as_secs())
        };
        assert_eq!(life(json!({"exp": at + 3600, "iat": at - 900}), date), Some(3600));
        assert_eq!(life(json!({"exp": at + 3600, "iat": at - 900}), None), Some(3600), "back-dated");
        assert_eq!(life(json!({"exp": at - 5}), date), Some(0));
        assert_eq!(life(json!({"exp": at + 60}), None), None);
        assert_eq!(life(json!({}), date), None);
        assert_eq!(life(json!({"exp": i64::MAX, "iat": i64::MIN}), date).map(|life| life > 3600), Some(true));
    }

    #[test]
    fn what_is_no_token_says_nothing() {
        for text in ["", "opaque", "a.b", "a.b.c", "a.b.c.d", "e30.W10.x", "e30.bm8.x"] {
            assert_eq!(TokenClaims::parse(text), None, "{text}");
        }
        let padded = "e30.eyJhcHBpZCI6ImEifQ==.x";
        assert_eq!(TokenClaims::parse(padded).unwrap().application.as_deref(), Some("a"));
    }
}
