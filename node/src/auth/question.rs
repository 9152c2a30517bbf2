//! What a provider is asked and what it answers, in JSON.

use std::collections::BTreeMap;

use appsockets_core::{
    code::ErrorCode,
    identity::{ChannelAuthorization, Identity, RpcAuthorization},
    message::{Form, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AuthError, grant::Grant};

#[derive(Serialize)]
struct Question<'a> {
    #[serde(rename = "hubID")]
    hub: &'a str,
    #[serde(rename = "sessionID")]
    session: &'a str,
    #[serde(flatten)]
    shown: Shown<'a>,
}

/// What the client showed, in the form that its bytes have.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Shown<'a> {
    Payload(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

/// Fields that are not known are skipped, so that a provider may say more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    success: bool,
    #[serde(default, rename = "userID")]
    user_id: Option<String>,
    #[serde(default)]
    channel_authorizations: Option<Vec<ChannelAuthorization>>,
    #[serde(default)]
    rpc_authorizations: Option<Vec<RpcAuthorization>>,
    #[serde(default)]
    extra: Option<BTreeMap<String, String>>,
    /// Unix milliseconds.
    #[serde(default)]
    expires_at: Option<u64>,
}

pub fn question(hub: &str, session: &str, payload: &Payload) -> Result<Bytes, AuthError> {
    let question = Question { hub, session, shown: shown(payload) };
    let json = serde_json::to_vec(&question);
    json.map(Bytes::from).map_err(|error| AuthError::new(ErrorCode::Internal, format!("no question: {error}")))
}

/// The identity that a provider's answer gives. An answer that breaks the agreement is the provider's failure, not the
/// client's.
pub fn identity(body: &[u8], now_unix_ms: u64) -> Result<Identity, AuthError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        // The error's own text may quote the answer.
        broken(format!("it can't be read at line {} column {}", error.line(), error.column()))
    })?;
    if !answer.success {
        return Err(refused());
    }
    if answer.expires_at.is_some_and(|expires| expires <= now_unix_ms) {
        return Err(broken("expiresAt has passed"));
    }
    let grant = Grant { channels: answer.channel_authorizations, rpcs: answer.rpc_authorizations, extra: answer.extra };
    grant.identity(&answer.user_id.unwrap_or_default(), answer.expires_at).map_err(broken)
}

pub fn refused() -> AuthError {
    AuthError::new(ErrorCode::AuthFailed, "the provider did not accept the credentials")
}

fn broken(detail: impl std::fmt::Display) -> AuthError {
    AuthError::new(ErrorCode::AuthUnavailable, format!("the provider's answer is wrong: {detail}"))
}

fn shown(payload: &Payload) -> Shown<'_> {
    let bytes = &payload.bytes;
    let json = || serde_json::from_slice::<&RawValue>(bytes).ok().map(Shown::Payload);
    let text = || std::str::from_utf8(bytes).ok().map(Shown::Text);
    let base64 = || Shown::Base64(STANDARD.encode(bytes));
    match payload.form {
        Form::Json | Form::Detect => json().or_else(text).unwrap_or_else(base64),
        Form::Text => text().unwrap_or_else(base64),
        Form::Binary => base64(),
    }
}

#[cfg(test)]
mod tests {
    use super::{identity, question};
    use appsockets_core::{
        code::ErrorCode,
        message::{Form, Payload},
    };
    use bytes::Bytes;
    use proptest::prelude::*;

    fn asked(bytes: &[u8], form: Form) -> String {
        let payload = Payload { bytes: Bytes::copy_from_slice(bytes), form };
        let json = question("h", "s", &payload).expect("serializable");
        String::from_utf8(json.to_vec()).expect("JSON")
    }

    #[test]
    fn a_payload_keeps_its_form() {
        for (bytes, form, expected) in [
            (&b"{\"a\": 1}"[..], Form::Json, r#""payload":{"a": 1}"#),
            (b"{\"a\": 1}", Form::Text, r#""text":"{\"a\": 1}""#),
            (b"abc", Form::Binary, r#""base64":"YWJj""#),
            (b"1.50", Form::Detect, r#""payload":1.50"#),
            (b"abc", Form::Detect, r#""text":"abc""#),
            (b"\xff", Form::Detect, r#""base64":"/w==""#),
            (b"\"\xff\"", Form::Json, r#""base64":"Iv8i""#),
            (b"1} , {", Form::Json, r#""text":"1} , {""#),
            (b"", Form::Detect, r#""text":"""#),
        ] {
            assert_eq!(asked(bytes, form), format!(r#"{{"hubID":"h","sessionID":"s",{expected}}}"#));
        }
    }

    #[test]
    fn an_answer_is_read_as_agreed() {
        let code = |body: &str| identity(body.as_bytes(), 1_000).map_err(|error| error.code);
        let good = code(
            r#"{"success": true, "userID": "u", "channelAuthorizations": [{"channel": "c:*", "publish": true}],
                "rpcAuthorizations": null, "extra": {"k": "v"}, "expiresAt": 1001, "later": []}"#,
        );
        let good = good.expect("valid");
        assert_eq!((&*good.user_id, good.expires_unix_ms), ("u", Some(1_001)));
        assert!(good.channels.len() == 1 && good.channels[0].publish && !good.channels[0].subscribe);
        assert_eq!(code(r#"{"success": false, "userID": "u"}"#), Err(ErrorCode::AuthFailed));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"success": true}"#,
            r#"{"success": true, "userID": ""}"#,
            r#"{"success": "true", "userID": "u"}"#,
            r#"{"success": true, "userID": "u", "extra": {"k": 1}}"#,
            r#"{"success": true, "userID": "u", "expiresAt": 1000}"#,
            r#"{"success": true, "userID": "u", "channelAuthorizations": [{"channel": "c", "admin": true}]}"#,
        ] {
            assert_eq!(code(body), Err(ErrorCode::AuthUnavailable), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_makes_one_json_object(bytes: Vec<u8>, form in 0..4usize) {
            let form = [Form::Json, Form::Text, Form::Binary, Form::Detect][form];
            let json: serde_json::Value = serde_json::from_str(&asked(&bytes, form)).expect("JSON");
            prop_assert_eq!(json.as_object().map(serde_json::Map::len), Some(3));
        }

        #[test]
        fn no_answer_makes_it_panic(body: Vec<u8>) {
            let _ = identity(&body, 0);
        }
    }
}
