//! A JSON Web Token as somebody showed it: a look at what it says of itself, and its verification.

use appsockets_core::code::ErrorCode;
use jsonwebtoken::{DecodingKey, Header, Validation, dangerous, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::AuthError;

/// The longest token that is read or made, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The claims of a token whose signature was verified.
pub type Claims = serde_json::Map<String, Value>;

/// Nothing in it is verified: good only to choose who verifies it.
#[derive(Debug)]
pub struct Shown<'a> {
    text: &'a str,
    pub header: Header,
    pub issuer: Option<String>,
}

#[derive(Deserialize)]
struct Peek {
    iss: Option<Value>,
}

impl<'a> Shown<'a> {
    pub fn new(text: &'a str) -> Result<Self, AuthError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is too long"));
        }
        // An algorithm that the library does not know, `none` among them, can't be read.
        let header = decode_header(text).map_err(|_| invalid("the token's header can't be read"))?;
        if header.crit.is_some() {
            return Err(invalid("the token needs an extension that is not known"));
        }
        let peek: Peek =
            dangerous::insecure_decode_claims(text).map_err(|_| invalid("the token's claims can't be read"))?;
        let issuer = peek.iss.and_then(|issuer| issuer.as_str().map(str::to_owned));
        Ok(Shown { text, header, issuer })
    }

    /// None: this key did not sign the token.
    pub fn verify(&self, key: &DecodingKey, validation: &Validation) -> Option<Result<Claims, AuthError>> {
        match decode(self.text, key, validation) {
            Ok(verified) => Some(Ok(verified.claims)),
            Err(error) => match error.kind() {
                ErrorKind::InvalidSignature => None,
                ErrorKind::ExpiredSignature => {
                    Some(Err(AuthError::new(ErrorCode::TokenExpired, "the token has expired")))
                }
                // Its texts name claims and formats, never values.
                ErrorKind::MissingRequiredClaim(_)
                | ErrorKind::InvalidClaimFormat(_)
                | ErrorKind::InvalidIssuer
                | ErrorKind::InvalidAudience
                | ErrorKind::ImmatureSignature => Some(Err(invalid(error.to_string()))),
                _ => Some(Err(invalid("the token can't be read"))),
            },
        }
    }
}

/// The time in `exp`, in seconds of Unix time; the verification has made sure of it.
pub fn expiry_s(claims: &Claims) -> Result<u64, AuthError> {
    let exp = claims.get("exp").and_then(|exp| exp.as_u64().or_else(|| exp.as_f64().map(|exp| exp as u64)));
    exp.ok_or_else(|| invalid("the claim exp can't be read"))
}

pub fn invalid(detail: impl Into<String>) -> AuthError {
    AuthError::new(ErrorCode::TokenInvalid, detail)
}
