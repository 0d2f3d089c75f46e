//! JSON Web Tokens: three parts, signed with a secret key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The key that signs tokens.
#[derive(Debug)]
pub(super) struct Key([u8; BLOCK]);

/// The block that HMAC pads a key to for SHA-256.
const BLOCK: usize = 64;

impl Key {
    /// Creates a new random key.
    pub(super) fn random() -> Self {
        let mut key = [0; BLOCK];
        for part in key.chunks_mut(16) {
            part.copy_from_slice(Uuid::now_v7().as_bytes());
        }
        Self(key)
    }

    /// Returns the HMAC with SHA-256, as in RFC 2104.
    fn sign(&self, text: &str) -> [u8; 32] {
        let padded = |byte: u8| self.0.map(|own| own ^ byte);
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
        Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
    }

    /// Creates a token with those claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(&signed)))
    }

    /// Returns the claims of a token, if it was signed with this key.
    pub(super) fn claims(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        if URL_SAFE_NO_PAD.decode(signature).ok()? != self.sign(signed) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_here_is_read() {
        let (ours, theirs) = (Key::random(), Key::random());
        let claims = json!({ "exp": 1 });
        assert_eq!(ours.claims(&ours.token(&claims)), Some(claims.clone()));
        assert_eq!(ours.claims(&theirs.token(&claims)), None);
        let token = ours.token(&claims);
        let (head, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(json!({ "exp": 9 }).to_string());
        assert_eq!(ours.claims(&format!("{head}.{forged}.{signature}")), None);
        assert_eq!(ours.claims("no token"), None);
    }

    #[test]
    fn it_signs_as_the_rfc_says() {
        // RFC 4231, test case 2: the key "Jefe".
        let mut key = [0; BLOCK];
        key[..4].copy_from_slice(b"Jefe");
        let signed = Key(key).sign("what do ya want for nothing?");
        assert_eq!(signed[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
