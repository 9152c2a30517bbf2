//! Whether an auth provider makes sense.

use std::collections::BTreeMap;

use url::Url;

use super::Check;
use crate::settings::{
    resource::{AuthProviderSpec, HttpProviderSpec, JwtSpec, NatsProviderSpec},
    subject,
};

/// The fewest bytes of a shared secret: as many as the shortest hash that is made with it.
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest that one call to an auth provider may take, in milliseconds.
pub const PROVIDER_TIMEOUT_MS_MAX: u32 = 60_000;

const HEADERS_MAX: usize = 32;
/// Of any one text in a resource, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// What the connection itself decides; a tenant's value would break the request.
const RESERVED_HEADERS: [&str; 6] = ["connection", "content-length", "host", "te", "transfer-encoding", "upgrade"];
const SECRET_ALGORITHMS: [&str; 3] = ["HS256", "HS384", "HS512"];
const KEY_ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

impl Check {
    pub(super) fn auth(&mut self, spec: &AuthProviderSpec) {
        let AuthProviderSpec { http, nats, jwt } = spec;
        let sentence =
            "Give `http` or `nats`, `jwt`, or one of the two and `jwt`, so that there is a way to authenticate.";
        self.that(http.is_some() || nats.is_some() || jwt.is_some(), "spec", sentence);
        let sentence = "Give either `http` or `nats`: a hub has one provider.";
        self.that(http.is_none() || nats.is_none(), "spec", sentence);
        if let Some(http) = http {
            self.http(http);
        }
        if let Some(nats) = nats {
            self.nats(nats);
        }
        if let Some(jwt) = jwt {
            self.jwt(jwt);
        }
    }

    fn http(&mut self, spec: &HttpProviderSpec) {
        let HttpProviderSpec { method, url, headers, timeout_ms } = spec;
        let is_method =
            |method: &String| (1..=16).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let sentence = "Write a method in capital letters, such as POST.";
        self.that(method.as_ref().is_none_or(is_method), "spec.http.method", sentence);
        self.url("spec.http.url", url);
        let is_reserved = |name: &str| RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name));
        self.headers("spec.http.headers", headers, is_reserved);
        self.timeout("spec.http.timeoutMs", *timeout_ms);
    }

    fn nats(&mut self, spec: &NatsProviderSpec) {
        let NatsProviderSpec { subject, headers, timeout_ms } = spec;
        let sentence = "Write a subject such as appsockets.auth.shop: at most 1000 letters, digits and signs of ASCII, \
                        without spaces, `*` and `>`, nothing empty between two `.`, and not with `$` or `_` first.";
        self.that(subject::is_subject(subject), "spec.nats.subject", sentence);
        let is_reserved = |name: &str| name.as_bytes().iter().take(5).map(u8::to_ascii_lowercase).eq(*b"nats-");
        self.headers("spec.nats.headers", headers, is_reserved);
        self.timeout("spec.nats.timeoutMs", *timeout_ms);
    }

    fn timeout(&mut self, field: &str, timeout_ms: Option<u32>) {
        let in_time = timeout_ms.is_none_or(|ms| (1..=PROVIDER_TIMEOUT_MS_MAX).contains(&ms));
        self.that(in_time, field, "Write 1 to 60000 milliseconds, or leave it out.");
    }

    fn headers(&mut self, field: &str, headers: &BTreeMap<String, String>, is_reserved: impl Fn(&str) -> bool) {
        self.that(headers.len() <= HEADERS_MAX, field, "List at most 32 headers.");
        for (name, value) in headers {
            self.header(&format!("{field}.{name}"), name, value, is_reserved(name));
        }
    }

    fn header(&mut self, field: &str, name: &str, value: &str, reserved: bool) {
        let is_name = !name.is_empty() && name.len() <= 256 && name.bytes().all(is_token_byte);
        self.that(is_name, field, "Write a header's name: letters, digits and `-`.");
        self.that(!reserved, field, "Leave this header out: the connection itself decides it.");
        let is_value = value.len() <= TEXT_BYTES_MAX && value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        self.that(is_value, field, "Write the value in one line of ASCII, at most 16384 bytes.");
    }

    fn url(&mut self, field: &str, text: &str) {
        let sentence = "Write an absolute address: https://host/path or http://host/path.";
        let Some(url) = Url::parse(text).ok().filter(|_| text.len() <= TEXT_BYTES_MAX) else {
            return self.that(false, field, sentence);
        };
        self.that(matches!(url.scheme(), "http" | "https") && url.has_host(), field, sentence);
        let bare = url.username().is_empty() && url.password().is_none();
        self.that(bare, field, "Leave the user and the password out of the address: give a header instead.");
        self.that(url.fragment().is_none(), field, "Leave out `#` and what follows: it is never sent.");
    }

    fn jwt(&mut self, spec: &JwtSpec) {
        let JwtSpec { secret, public_key, jwks_url, algorithms, issuer, audience, user_claim } = spec;
        let keys = [secret.is_some(), public_key.is_some(), jwks_url.is_some()];
        let sentence = "Give exactly one of `secret`, `publicKey` and `jwksUrl`.";
        self.that(keys.into_iter().filter(|given| *given).count() == 1, "spec.jwt", sentence);
        if let Some(secret) = secret {
            let fits = (SECRET_BYTES_MIN..=TEXT_BYTES_MAX).contains(&secret.len());
            self.that(fits, "spec.jwt.secret", "Write 32 to 16384 bytes, chosen at random.");
        }
        if let Some(key) = public_key {
            self.public_key(key);
        }
        if let Some(url) = jwks_url {
            self.url("spec.jwt.jwksUrl", url);
        }
        self.algorithms(algorithms, secret.is_some());
        for (field, text) in [("issuer", issuer), ("audience", audience), ("userClaim", user_claim)] {
            let given = text.as_ref().is_none_or(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()));
            self.that(given, &format!("spec.jwt.{field}"), "Write a text that is not empty, or leave it out.");
        }
    }

    fn public_key(&mut self, key: &str) {
        let field = "spec.jwt.publicKey";
        let is_pem = key.len() <= TEXT_BYTES_MAX && key.trim_start().starts_with("-----BEGIN ");
        self.that(is_pem, field, "Write the key in PEM, which begins with -----BEGIN PUBLIC KEY-----.");
        let private = key.contains("PRIVATE KEY-----");
        self.that(!private, field, "This is a private key: write the public one, and keep this one away from here.");
    }

    /// A token must never choose its kind of key: one made with the public key as a shared secret would be accepted.
    fn algorithms(&mut self, algorithms: &[String], secret: bool) {
        let (fitting, sentence): (&[&str], _) = if secret {
            (&SECRET_ALGORITHMS, "With `secret`, write HS256, HS384 or HS512.")
        } else {
            (&KEY_ALGORITHMS, "Write RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA.")
        };
        for (index, algorithm) in algorithms.iter().enumerate() {
            self.that(fitting.contains(&algorithm.as_str()), &format!("spec.jwt.algorithms[{index}]"), sentence);
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;

    fn auth(spec: &str) -> Vec<String> {
        refused(&format!(r#"{{"kind":"AuthProvider","hub":"demo","spec":{spec}}}"#))
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_auth_provider_over_http() {
        let http = |rest: &str| auth(&format!(r#"{{"http":{{"url":"https://a.example/auth"{rest}}}}}"#));
        assert!(http("").is_empty());
        assert!(
            http(r#","method":"PUT","headers":{"X-Api-Key":"a b","Authorization":"Bearer x"},"timeoutMs":60000"#)
                .is_empty()
        );
        for method in ["", "post", "PO ST"] {
            assert_eq!(http(&format!(r#","method":"{method}""#)), ["spec.http.method"]);
        }
        for ms in [0, 60_001] {
            assert_eq!(http(&format!(r#","timeoutMs":{ms}"#)), ["spec.http.timeoutMs"]);
        }
        for (name, value) in
            [("", "x"), ("a b", "x"), ("ä", "x"), ("Host", "x"), ("content-length", "1"), ("X", "a\\r\\nb"), ("X", "ä")]
        {
            let header = format!(r#","headers":{{"{name}":"{value}"}}"#);
            assert_eq!(http(&header), [format!("spec.http.headers.{name}")], "{header}");
        }
        let many: Vec<_> = (0..33).map(|n| format!(r#""X-{n}":"""#)).collect();
        assert_eq!(http(&format!(r#","headers":{{{}}}"#, many.join(","))), ["spec.http.headers"]);
    }

    #[test]
    fn an_auth_provider_over_nats() {
        let nats = |subject: &str, rest: &str| auth(&format!(r#"{{"nats":{{"subject":"{subject}"{rest}}}}}"#));
        let good = r#","headers":{"X-Api-Key":"a b","Host":"x"},"timeoutMs":60000"#;
        assert!(nats("appsockets.auth.shop", good).is_empty());
        for subject in ["", "a b", "a.*", "a.>", "a..b", ".a", "a.", "ä", "$SYS.REQ", "_INBOX.x", &"a".repeat(1001)] {
            assert_eq!(nats(subject, ""), ["spec.nats.subject"], "{subject}");
        }
        assert_eq!(nats("a", r#","timeoutMs":0"#), ["spec.nats.timeoutMs"]);
        for (name, value) in [("", "x"), ("a:b", "x"), ("nats-Msg-Id", "1"), ("X", "a\\r\\nb"), ("X", "ä")] {
            let header = format!(r#","headers":{{"{name}":"{value}"}}"#);
            assert_eq!(nats("a", &header), [format!("spec.nats.headers.{name}")], "{header}");
        }
        let many: Vec<_> = (0..33).map(|n| format!(r#""X-{n}":"""#)).collect();
        assert_eq!(nats("a", &format!(r#","headers":{{{}}}"#, many.join(","))), ["spec.nats.headers"]);
    }

    #[test]
    fn a_hub_has_one_provider() {
        let (http, nats) = (r#""http":{"url":"https://a.example"}"#, r#""nats":{"subject":"a"}"#);
        let jwt = format!(r#""jwt":{{"secret":"{SECRET}"}}"#);
        assert_eq!(auth(&format!("{{{http},{nats}}}")), ["spec"]);
        assert!(auth(&format!("{{{nats},{jwt}}}")).is_empty());
    }

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("https://a.example", true),
            ("http://127.0.0.1:8080/auth?x=1", true),
            ("", false),
            ("a.example/auth", false),
            ("/auth", false),
            ("ftp://a.example", false),
            ("file:///etc/passwd", false),
            ("https://", false),
            ("https://user:word@a.example", false),
            ("https://a.example/#x", false),
        ] {
            let found = auth(&format!(r#"{{"http":{{"url":"{url}"}}}}"#));
            assert_eq!(found.is_empty(), expected, "{url}");
            assert!(found.iter().all(|field| field == "spec.http.url"), "{url}");
        }
    }

    #[test]
    fn tokens_of_the_tenant() {
        let pem = "-----BEGIN PUBLIC KEY-----\\nx\\n-----END PUBLIC KEY-----";
        let jwt = |spec: &str| auth(&format!(r#"{{"jwt":{{{spec}}}}}"#));
        assert!(
            jwt(&format!(r#""secret":"{SECRET}","algorithms":["HS256"],"issuer":"me","userClaim":"uid""#)).is_empty()
        );
        assert!(jwt(&format!(r#""publicKey":"{pem}","algorithms":["RS256","EdDSA"]"#)).is_empty());
        assert!(jwt(r#""jwksUrl":"https://a.example/keys""#).is_empty());
        for (spec, field) in [
            (String::new(), "spec.jwt"),
            (format!(r#""secret":"{SECRET}","publicKey":"{pem}""#), "spec.jwt"),
            (r#""secret":"0123456789abcdef0123456789abcde""#.into(), "spec.jwt.secret"),
            (r#""publicKey":"MIIB""#.into(), "spec.jwt.publicKey"),
            (r#""publicKey":"-----BEGIN PRIVATE KEY-----""#.into(), "spec.jwt.publicKey"),
            (r#""jwksUrl":"ftp://a.example""#.into(), "spec.jwt.jwksUrl"),
            (format!(r#""secret":"{SECRET}","algorithms":["RS256"]"#), "spec.jwt.algorithms[0]"),
            (format!(r#""publicKey":"{pem}","algorithms":["RS256","HS256"]"#), "spec.jwt.algorithms[1]"),
            (r#""jwksUrl":"https://a.example","algorithms":["HS256"]"#.into(), "spec.jwt.algorithms[0]"),
            (r#""jwksUrl":"https://a.example","algorithms":["none"]"#.into(), "spec.jwt.algorithms[0]"),
            (r#""jwksUrl":"https://a.example","issuer":"""#.into(), "spec.jwt.issuer"),
            (r#""jwksUrl":"https://a.example","audience":"""#.into(), "spec.jwt.audience"),
            (r#""jwksUrl":"https://a.example","userClaim":"""#.into(), "spec.jwt.userClaim"),
        ] {
            assert_eq!(jwt(&spec), [field], "{spec}");
        }
    }

    #[test]
    fn a_provider_without_a_way_is_none() {
        assert_eq!(auth("{}"), ["spec"]);
    }
}
