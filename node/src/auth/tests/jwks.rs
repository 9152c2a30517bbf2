//! Tenants' tokens whose keys come from a key set.

use std::sync::Arc;

use appsockets_core::{
    code::ErrorCode,
    identity::Identity,
    session::request::Credentials,
    settings::{hub::Hub, resource::JwtSpec},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp as now_s, jwk::Jwk};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    AuthConfig, AuthError, Authenticator, Reply, Server, authenticator, code, config, jwt_hub, keys, until, user,
};

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(keys::RSA_PRIVATE.as_bytes()).expect("a key")
}

fn p256() -> EncodingKey {
    EncodingKey::from_ec_pem(keys::P256_PRIVATE.as_bytes()).expect("a key")
}

fn jwk(id: &str, algorithm: Algorithm, key: &EncodingKey) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).expect("a key");
    jwk.common.key_id = Some(id.to_owned());
    serde_json::to_value(jwk).expect("JSON")
}

fn set(keys: &[Value]) -> Reply {
    Reply::Answer(200, json!({"keys": keys}).to_string())
}

fn token(id: Option<&str>, algorithm: Algorithm, key: &EncodingKey) -> Credentials {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    let claims = json!({"sub": "ann", "exp": now_s() + 600});
    Credentials::Token(encode(&header, &claims, key).expect("signed").into())
}

fn set_hub(url: String) -> Hub {
    jwt_hub(JwtSpec { jwks_url: Some(url), ..JwtSpec::default() })
}

async fn shown(authenticator: &Authenticator, hub: &Hub, token: &Credentials) -> Result<Identity, AuthError> {
    authenticator.authenticate(hub, "s", token).await
}

#[tokio::test]
async fn a_set_is_fetched_once_for_many_tokens() {
    let (server, url) =
        Server::start([set(&[jwk("r", Algorithm::RS256, &rsa()), jwk("e", Algorithm::ES256, &p256())])]).await;
    let (authenticator, hub) = (Arc::new(authenticator(config())), Arc::new(set_hub(url)));
    let mut calls = JoinSet::new();
    for index in 0..20 {
        let (authenticator, hub) = (authenticator.clone(), hub.clone());
        let token = match index % 4 {
            0 => token(Some("r"), Algorithm::RS256, &rsa()),
            1 => token(Some("e"), Algorithm::ES256, &p256()),
            _ => token(None, Algorithm::ES256, &p256()),
        };
        calls.spawn(async move { shown(&authenticator, &hub, &token).await });
    }
    assert!(calls.join_all().await.iter().all(|outcome| outcome.as_ref().map(user) == Ok("ann")));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_rotation_is_noticed_by_the_new_key() {
    let (server, url) = Server::start([set(&[jwk("old", Algorithm::RS256, &rsa())])]).await;
    let (authenticator, hub) = (authenticator(AuthConfig { jwks_refresh_min_ms: 0, ..config() }), set_hub(url));
    let (old, new) = (token(Some("old"), Algorithm::RS256, &rsa()), token(Some("new"), Algorithm::ES256, &p256()));
    assert!(shown(&authenticator, &hub, &old).await.is_ok());
    server.now_replies(set(&[jwk("new", Algorithm::ES256, &p256())]));
    assert!(shown(&authenticator, &hub, &old).await.is_ok(), "still kept");
    assert_eq!(server.asked(), 1);
    assert!(shown(&authenticator, &hub, &new).await.is_ok());
    assert_eq!(server.asked(), 2);
    assert_eq!(code(shown(&authenticator, &hub, &old).await), ErrorCode::TokenInvalid, "no longer in the set");
}

#[tokio::test]
async fn unknown_keys_do_not_make_a_storm() {
    let (server, url) = Server::start([set(&[jwk("r", Algorithm::RS256, &rsa())])]).await;
    let (authenticator, hub) = (authenticator(AuthConfig { jwks_refresh_min_ms: 3_600_000, ..config() }), set_hub(url));
    for index in 0..10 {
        let unknown = token(Some(&format!("unknown {index}")), Algorithm::RS256, &rsa());
        assert_eq!(code(shown(&authenticator, &hub, &unknown).await), ErrorCode::TokenInvalid);
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn old_keys_serve_while_no_new_ones_can_be_had() {
    let (server, url) = Server::start([set(&[jwk("r", Algorithm::RS256, &rsa())])]).await;
    let config = AuthConfig { jwks_refresh_min_ms: 0, jwks_max_age_ms: 0, ..config() };
    let (authenticator, hub) = (authenticator(config), set_hub(url));
    let known = token(Some("r"), Algorithm::RS256, &rsa());
    assert!(shown(&authenticator, &hub, &known).await.is_ok());
    server.now_replies(Reply::Answer(500, String::new()));
    until(|| shown(&authenticator, &hub, &known), |outcome| outcome.is_ok() && server.asked() > 2).await;
    let unknown = token(Some("x"), Algorithm::RS256, &rsa());
    assert_eq!(code(shown(&authenticator, &hub, &unknown).await), ErrorCode::AuthUnavailable);
}

#[tokio::test]
async fn old_keys_do_not_serve_for_ever() {
    let (server, url) = Server::start([set(&[jwk("r", Algorithm::RS256, &rsa())])]).await;
    let config = AuthConfig { jwks_refresh_min_ms: 0, jwks_max_age_ms: 20, jwks_stale_max_ms: 20, ..config() };
    let (authenticator, hub) = (authenticator(config), set_hub(url));
    let known = token(Some("r"), Algorithm::RS256, &rsa());
    until(|| shown(&authenticator, &hub, &known), Result::is_ok).await;
    server.now_replies(Reply::Answer(200, "no set".to_owned()));
    let gone = |outcome: &Result<Identity, AuthError>| {
        outcome.as_ref().is_err_and(|error| error.code == ErrorCode::AuthUnavailable)
    };
    until(|| shown(&authenticator, &hub, &known), gone).await;
}

#[tokio::test]
async fn a_set_that_can_not_be_had_is_no_verdict() {
    let (_, url) = Server::start([Reply::Answer(404, String::new())]).await;
    let known = token(Some("r"), Algorithm::RS256, &rsa());
    assert_eq!(code(shown(&authenticator(config()), &set_hub(url), &known).await), ErrorCode::AuthUnavailable);
    let strict = authenticator(AuthConfig { allow_private_addresses: false, ..config() });
    let private = set_hub("http://127.0.0.1:1/".to_owned());
    assert_eq!(code(shown(&strict, &private, &known).await), ErrorCode::AuthNotConfigured);
}

#[tokio::test]
async fn only_keys_for_signatures_count() {
    let secret = "a shared secret that everyone can read";
    let (mut sealing, mut narrow) = (jwk("s", Algorithm::RS256, &rsa()), jwk("n", Algorithm::RS256, &rsa()));
    sealing["use"] = json!("enc");
    narrow["alg"] = json!("RS512");
    let shared = json!({"kty": "oct", "kid": "o", "k": "YSBzaGFyZWQgc2VjcmV0IHRoYXQgZXZlcnlvbmUgY2FuIHJlYWQ"});
    let strange = [json!(1), json!({"kty": "new"}), json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "x"})];
    let good = jwk("r", Algorithm::RS256, &rsa());
    let keys = [&strange[..], &[sealing, narrow, shared, good]].concat();
    let (_, url) = Server::start([set(&keys)]).await;
    let (authenticator, hub) = (authenticator(config()), set_hub(url));
    for refused in [
        token(Some("s"), Algorithm::RS256, &rsa()),
        token(Some("n"), Algorithm::RS256, &rsa()),
        token(Some("o"), Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes())),
        token(None, Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes())),
        token(Some("x"), Algorithm::EdDSA, &EncodingKey::from_ed_pem(keys::ED25519_PRIVATE.as_bytes()).expect("a key")),
        token(Some("r"), Algorithm::ES256, &p256()),
    ] {
        assert_eq!(code(shown(&authenticator, &hub, &refused).await), ErrorCode::TokenInvalid);
    }
    assert!(shown(&authenticator, &hub, &token(Some("r"), Algorithm::RS256, &rsa())).await.is_ok());
}
