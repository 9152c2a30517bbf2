//! Our own tokens and the tenant's, without a key set.

use appsockets_core::{
    code::ErrorCode,
    identity::{ChannelAuthorization, Identity, RpcAuthorization},
    session::request::Credentials,
    settings::{
        hub::Hub,
        resource::{AuthProviderSpec, HubSpec, JwtSpec},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, encode, get_current_timestamp as now_s, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{AuthConfig, AuthError, Authenticator, authenticator, code, config, hub, jwt_hub, keys, user};
use crate::auth::{key::Key, token::Shown};

const SECRET: &str = "the tenant's secret of more than 32 bytes";

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).expect("signed")
}

fn by_secret(claims: &Value) -> String {
    signed(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": now_s() + 600})
}

/// The claims with others in place of, or besides, some of them; `null` takes one away.
fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn secret_spec() -> JwtSpec {
    JwtSpec { secret: Some(SECRET.to_owned()), ..JwtSpec::default() }
}

fn pem_spec(pem: &str) -> JwtSpec {
    JwtSpec { public_key: Some(pem.to_owned()), ..JwtSpec::default() }
}

async fn shown_to(authenticator: &Authenticator, hub: &Hub, token: &str) -> Result<Identity, AuthError> {
    authenticator.authenticate(hub, "s", &Credentials::Token(token.into())).await
}

async fn shown(spec: JwtSpec, token: &str) -> Result<Identity, AuthError> {
    shown_to(&authenticator(config()), &jwt_hub(spec), token).await
}

fn ann() -> Identity {
    Identity {
        user_id: "ann".into(),
        extra: [("name".to_owned(), "Ann".to_owned())].into(),
        channels: vec![ChannelAuthorization { channel: "c:*".into(), publish: true, subscribe: false }],
        rpcs: vec![RpcAuthorization { method: "m#".into() }],
        expires_unix_ms: None,
    }
}

#[tokio::test]
async fn our_own_token_gives_the_identity_again() {
    let (ours, hub) = (authenticator(config()), hub(None));
    let now_ms = now_s() * 1_000;
    let token = ours.issue("shop", "s1", &ann(), now_ms + 999).expect("issued");
    let identity = shown_to(&ours, &hub, &token).await.expect("our own");
    assert_eq!(identity, Identity { expires_unix_ms: Some(now_ms + 900_000), ..ann() });

    let again = ours.issue("shop", "s1", &identity, now_ms + 600_000).expect("issued");
    let renewed = shown_to(&ours, &hub, &again).await.expect("our own");
    assert_eq!(renewed.expires_unix_ms, identity.expires_unix_ms, "a token does not prolong itself");
}

#[tokio::test]
async fn our_own_token_is_good_only_where_it_belongs() {
    let (ours, hub) = (authenticator(config()), hub(None));
    let token = ours.issue("shop", "s1", &ann(), now_s() * 1_000).expect("issued");
    let other_hub = Hub::with_spec("other", &HubSpec::default());
    assert_eq!(code(shown_to(&ours, &other_hub, &token).await), ErrorCode::TokenInvalid);
    let secret = b"the secret of quite another cluster".to_vec().into();
    let theirs = authenticator(AuthConfig { session_secret: secret, ..config() });
    assert_eq!(code(shown_to(&theirs, &hub, &token).await), ErrorCode::TokenInvalid);
    let old = ours.issue("shop", "s1", &ann(), 1_000).expect("issued");
    assert_eq!(code(shown_to(&ours, &hub, &old).await), ErrorCode::TokenExpired);
}

#[tokio::test]
async fn a_tenant_can_not_make_our_tokens() {
    let forged = by_secret(&claims_with(json!({"iss": "appsockets", "aud": "shop"})));
    assert_eq!(code(shown(secret_spec(), &forged).await), ErrorCode::TokenInvalid);
}

#[test]
fn a_token_of_too_many_rights_is_not_made() {
    let pattern = ChannelAuthorization { channel: "c".repeat(255).into(), publish: true, subscribe: true };
    let identity = Identity { channels: vec![pattern; 1_000], ..ann() };
    assert_eq!(code(authenticator(config()).issue("shop", "s1", &identity, 0)), ErrorCode::Internal);
}

#[tokio::test]
async fn every_kind_of_key_verifies() {
    let rsa = || EncodingKey::from_rsa_pem(keys::RSA_PRIVATE.as_bytes()).expect("a key");
    let p256 = EncodingKey::from_ec_pem(keys::P256_PRIVATE.as_bytes()).expect("a key");
    let p384 = EncodingKey::from_ec_pem(keys::P384_PRIVATE.as_bytes()).expect("a key");
    let ed25519 = EncodingKey::from_ed_pem(keys::ED25519_PRIVATE.as_bytes()).expect("a key");
    let secret = || EncodingKey::from_secret(SECRET.as_bytes());
    for (spec, algorithm, key) in [
        (secret_spec(), Algorithm::HS256, secret()),
        (secret_spec(), Algorithm::HS384, secret()),
        (secret_spec(), Algorithm::HS512, secret()),
        (pem_spec(keys::RSA_PUBLIC), Algorithm::RS256, rsa()),
        (pem_spec(keys::RSA_PUBLIC), Algorithm::RS512, rsa()),
        (pem_spec(keys::RSA_PUBLIC), Algorithm::PS256, rsa()),
        (pem_spec(keys::P256_PUBLIC), Algorithm::ES256, p256),
        (pem_spec(keys::P384_PUBLIC), Algorithm::ES384, p384),
        (pem_spec(keys::ED25519_PUBLIC), Algorithm::EdDSA, ed25519),
    ] {
        let identity = shown(spec, &signed(algorithm, &key, &claims())).await;
        assert_eq!(identity.as_ref().map(user), Ok("ann"), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let trimmed = keys::RSA_PUBLIC.trim();
    for pem in [keys::RSA_PUBLIC, trimmed] {
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            let token = signed(algorithm, &EncodingKey::from_secret(pem.as_bytes()), &claims());
            assert_eq!(code(shown(pem_spec(pem), &token).await), ErrorCode::TokenInvalid);
        }
    }
}

#[tokio::test]
async fn algorithms_that_are_not_allowed_are_refused() {
    let hs512 = signed(Algorithm::HS512, &EncodingKey::from_secret(SECRET.as_bytes()), &claims());
    let only = JwtSpec { algorithms: vec!["HS256".to_owned()], ..secret_spec() };
    assert_eq!(code(shown(only.clone(), &hs512).await), ErrorCode::TokenInvalid);
    assert!(shown(only, &by_secret(&claims())).await.is_ok());
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = part(&json!({"alg": alg, "typ": "JWT"}).to_string());
        for signature in ["", "e30", "AAAA"] {
            let token = format!("{header}.{}.{signature}", part(&claims().to_string()));
            assert_eq!(code(shown(secret_spec(), &token).await), ErrorCode::TokenInvalid);
        }
    }
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    let critical = encode(&header, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed");
    assert_eq!(code(shown(secret_spec(), &critical).await), ErrorCode::TokenInvalid);
}

#[tokio::test]
async fn the_claims_decide() {
    let spec = JwtSpec { issuer: Some("idp".to_owned()), audience: Some("us".to_owned()), ..secret_spec() };
    let outcome = async |changes: Value| {
        let mut claims = claims_with(json!({"iss": "idp", "aud": "us"}));
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        shown(spec.clone(), &by_secret(&claims)).await
    };
    for changes in [json!({}), json!({"aud": ["them", "us"]}), json!({"exp": now_s() - 5}), json!({"nbf": now_s() + 5})]
    {
        assert_eq!(outcome(changes.clone()).await.as_ref().map(user), Ok("ann"), "{changes}");
    }
    for changes in [
        json!({"aud": "them"}),
        json!({"aud": null}),
        json!({"aud": 1}),
        json!({"iss": "other"}),
        json!({"iss": null}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"exp": -1}),
        json!({"nbf": now_s() + 600}),
        json!({"nbf": "later"}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "u".repeat(256)}),
        json!({"channels": [{"channel": ""}]}),
        json!({"channels": "all"}),
        json!({"extra": {"k": 1}}),
    ] {
        assert_eq!(code(outcome(changes.clone()).await), ErrorCode::TokenInvalid, "{changes}");
    }
    assert_eq!(code(outcome(json!({"exp": now_s() - 600})).await), ErrorCode::TokenExpired);
}

#[tokio::test]
async fn claims_become_the_identity() {
    let exp = now_s() + 600;
    let token = by_secret(&json!({
        "email": "ann@shop.example", "exp": exp, "aud": "anyone",
        "channels": [{"channel": "c:*", "publish": true}], "rpcs": [{"method": "m#"}], "extra": {"name": "Ann"},
    }));
    let spec = JwtSpec { user_claim: Some("email".to_owned()), ..secret_spec() };
    let identity = shown(spec, &token).await.expect("accepted");
    let expires_unix_ms = Some((exp + 30) * 1_000);
    assert_eq!(identity, Identity { user_id: "ann@shop.example".into(), expires_unix_ms, ..ann() });
}

#[tokio::test]
async fn a_hub_without_tokens_of_its_own_takes_only_ours() {
    let token = by_secret(&claims());
    let ours = authenticator(config());
    for hub in [hub(None), hub(Some(AuthProviderSpec::default()))] {
        assert_eq!(code(shown_to(&ours, &hub, &token).await), ErrorCode::AuthNotConfigured);
        assert_eq!(code(shown_to(&ours, &hub, "no token").await), ErrorCode::TokenInvalid);
    }
}

#[test]
fn keys_that_can_not_work_are_told() {
    let authenticator = authenticator(config());
    let check = |jwt: JwtSpec| authenticator.check(&AuthProviderSpec { jwt: Some(jwt), ..AuthProviderSpec::default() });
    let only = |spec: JwtSpec, name: &str| JwtSpec { algorithms: vec![name.to_owned()], ..spec };
    assert_eq!(check(only(pem_spec(keys::RSA_PUBLIC), "RS256")), Ok(()));
    let deep = URL_SAFE_NO_PAD.encode([0x30, 0x80].repeat(700));
    let deep = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", deep.replace('_', "/"));
    for spec in [
        JwtSpec::default(),
        JwtSpec { public_key: Some(keys::P256_PUBLIC.to_owned()), ..secret_spec() },
        JwtSpec { secret: Some("short".to_owned()), ..JwtSpec::default() },
        JwtSpec { jwks_url: Some("ftp://keys.example/".to_owned()), ..JwtSpec::default() },
        only(secret_spec(), "RS256"),
        only(secret_spec(), "none"),
        only(pem_spec(keys::RSA_PUBLIC), "HS256"),
        only(pem_spec(keys::P256_PUBLIC), "ES384"),
        pem_spec(keys::RSA_PRIVATE),
        pem_spec(keys::WEAK_PUBLIC),
        pem_spec(&deep),
        pem_spec("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"),
        pem_spec(""),
    ] {
        assert!(check(spec.clone()).is_err_and(|error| error.starts_with("jwt: ")), "{spec:?}");
    }
}

/// DER of as many nested sequences as a PEM may hold, each with its true length.
#[test]
fn a_deeply_nested_key_does_not_exhaust_the_stack() {
    let mut der = vec![0x05, 0x00];
    while der.len() < 1_400 {
        let length = der.len();
        let mut outer = match length {
            0..=127 => vec![0x30, length as u8],
            _ => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
        };
        outer.append(&mut der);
        der = outer;
    }
    let text = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
    assert!(pem.len() <= 2_048 && Key::from_pem(&pem).is_err());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Bytes of the lengths that keys have, and of others.
fn coordinate() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![0, 1, 31, 32, 33, 47, 48, 64])
        .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
}

proptest! {
    #[test]
    fn no_token_makes_it_panic(token in "\\PC{0,60}|[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        let outcome = block_on(shown(secret_spec(), &token));
        prop_assert_eq!(code(outcome), ErrorCode::TokenInvalid);
    }

    #[test]
    fn no_header_or_claims_make_it_panic(header in "\\PC{0,60}", claims: Vec<u8>) {
        let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        prop_assert!(Shown::new(&token).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(at in 0..1_000usize, to in "[A-Za-z0-9_.-]") {
        let token = by_secret(&claims());
        let at = at % token.len();
        prop_assume!(token[at..=at] != *to);
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assert_eq!(code(block_on(shown(secret_spec(), &changed))), ErrorCode::TokenInvalid);
    }

    #[test]
    fn no_key_of_a_set_makes_it_panic(x in coordinate(), y in coordinate(), kind in 0..5usize) {
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let key = match kind {
            0 => json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            1 => json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
            2 => json!({"kty": "EC", "crv": "P-384", "x": x, "y": y}),
            3 => json!({"kty": "RSA", "n": x, "e": y}),
            _ => json!({"kty": "oct", "k": x}),
        };
        let jwk: Jwk = serde_json::from_value(key).expect("a key");
        let Some(key) = Key::from_jwk(&jwk) else { return Ok(()) };
        for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::RS256] {
            let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(json!({"alg": algorithm}).to_string()));
            let shown = Shown::new(&token).expect("a token");
            let verified = shown.verify(&key.decoding, &Validation::new(algorithm));
            prop_assert!(verified.is_none_or(|claims| claims.is_err()));
        }
    }
}

/// RSA keys are numbers, so almost any bytes are one: they must be no worse than useless.
#[tokio::test]
async fn strange_numbers_verify_nothing() {
    let token =
        signed(Algorithm::RS256, &EncodingKey::from_rsa_pem(keys::RSA_PRIVATE.as_bytes()).expect("a key"), &claims());
    let shown = Shown::new(&token).expect("a token");
    let validation = Validation::new(Algorithm::RS256);
    for (n, e) in [
        ([0; 256], vec![]),
        ([0; 256], vec![3]),
        ([255; 256], vec![0]),
        ([255; 256], vec![255; 8]),
        ([2; 256], vec![1]),
    ] {
        let jwk = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e)});
        let key = Key::from_jwk(&serde_json::from_value(jwk).expect("a key")).expect("of a good size");
        assert!(shown.verify(&key.decoding, &validation).is_none());
    }
}
