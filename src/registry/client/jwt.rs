//! The claims of JSON Web Tokens. Only their issuer can check the signature, so a claim is believed only where that makes
//! Tagwarden ask for less, or keep more.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// Returns the claims of a token, a JSON object, or `None` if it is opaque or cannot be read.
pub(in crate::registry) fn claims(token: &str) -> Option<Value> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut parts = token.trim().split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims: Value = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
    claims.is_object().then_some(claims)
}

/// Returns the seconds between a token's issue and its end, or `None` if it is opaque or does not say.
pub(in crate::registry) fn lifetime(token: &str) -> Option<u64> {
    let claims = claims(token)?;
    let (issued, end) = (claims["iat"].as_i64()?, claims["exp"].as_i64()?);
    u64::try_from(end.checked_sub(issued)?).ok().filter(|seconds| *seconds > 0)
}
