//! What the definitions let through is what nodes take: whoever writes what they do not is told when it is applied, and
//! not by a status afterwards.

use std::{collections::HashMap, convert::Infallible};

use appsockets_core::settings::resource::Resource;
use kube::core::cel::{Validator, compile_schema};
use serde_json::{Value, json};

use super::{bounds, read, schemas};
use crate::{AuthProvider, ChannelRules, Hub, HubNamespace};

/// Objects that are right, each with a field of it and what is written there instead.
type Rows = Vec<(Value, &'static str, Vec<Value>)>;

#[test]
fn what_the_definitions_let_through_nodes_take() {
    let schemas = schemas();
    let compiled: HashMap<_, _> = schemas.iter().map(|(kind, schema)| (kind, compile_schema(schema))).collect();
    let validator = Validator::new();
    for (right, field, values) in [hubs(), channels(), over_http(), over_nats(), tokens()].concat() {
        let kind = right["kind"].as_str().unwrap().to_owned();
        let (mut taken, mut refused) = (0, 0);
        for value in values {
            let mut object = right.clone();
            *object.pointer_mut(field).unwrap_or_else(|| panic!("{right} has no {field}")) = value.clone();
            let fits = bounds(&schemas[&kind], &object).is_empty();
            if !fits || validator.validate_compiled(&compiled[&kind], &object, None).is_err() {
                refused += 1;
                continue;
            }
            taken += 1;
            for resource in resources(&object) {
                let problems = resource.problems();
                assert!(problems.is_empty(), "{field} = {value} is taken, and then of {resource:?}: {problems:?}");
            }
        }
        assert!(taken > 0 && refused > 0, "{field} of {right}: {taken} are taken and {refused} refused");
    }
}

/// What nodes are told, with Secrets that have all that can be asked of them.
fn resources(object: &Value) -> Vec<Resource> {
    let secret = |_: &_| Ok::<_, Infallible>("0123456789abcdef0123456789abcdef".to_owned());
    match object["kind"].as_str() {
        Some("Hub") => vec![read::<Hub>(object).resource()],
        Some("ChannelRules") => read::<ChannelRules>(object).resources("shop"),
        Some("Namespace") => vec![read::<HubNamespace>(object).resource("shop")],
        Some("AuthProvider") => {
            let Ok(resource) = read::<AuthProvider>(object).resource("shop", secret);
            vec![resource]
        }
        other => panic!("nodes know no kind {other:?}"),
    }
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "appsockets.io/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
}

fn each<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Vec<Value> {
    values.into_iter().map(Into::into).collect()
}

fn alone(values: impl IntoIterator<Item = Value>) -> Vec<Value> {
    values.into_iter().map(|value| json!([value])).collect()
}

/// Around what may be in a name, and how long it may be in bytes and in characters.
fn names() -> Vec<Value> {
    let plain = [
        "", "a", "A b", "läden", "a:b", ":", "a\nb", "\0", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}", "\u{a0}", "\u{202e}",
    ];
    let long = ["a", "ä", "\u{fffd}", "😀"]
        .into_iter()
        .flat_map(|letter| [63, 64, 85, 86, 127, 128, 253, 254, 255, 256].map(|letters| letter.repeat(letters)));
    each(plain.map(str::to_owned).into_iter().chain(long))
}

fn hubs() -> Rows {
    let hub = object(
        "Hub",
        json!({
            "clusterRef": {"name": "main"}, "hubName": "x", "defaultRulesRef": {"name": "r"}, "allowedOrigins": [],
            "limits": {"connections": 1, "messagesPerSecond": 1, "sessionMessagesPerSecond": 1, "channelsPerSession": 1},
        }),
    );
    let limits = each([i32::MIN, -1, 0, 1, i32::MAX]);
    let mut origins = alone(each(["*", "**", "null", ""]));
    origins.extend(alone(addresses(&["https://", "https://*.", "9p://", "capacitor://", "*://", "://", ""])));
    origins.extend([100, 101].map(|many| json!(vec!["*"; many])));
    vec![
        (hub.clone(), "/spec/hubName", names()),
        (hub.clone(), "/spec/defaultRulesRef/name", names()),
        (hub.clone(), "/spec/allowedOrigins", origins),
        (hub.clone(), "/spec/limits/connections", limits.clone()),
        (hub.clone(), "/spec/limits/messagesPerSecond", limits.clone()),
        (hub.clone(), "/spec/limits/sessionMessagesPerSecond", limits.clone()),
        (hub, "/spec/limits/channelsPerSession", limits),
    ]
}

fn channels() -> Rows {
    let reference = json!({"name": "shop"});
    let rules = object("ChannelRules", json!({"hubRef": reference, "channels": [], "redundancy": 1}));
    let namespace = object("Namespace", json!({"hubRef": reference, "rulesRef": {"name": "r"}, "name": "x"}));
    vec![
        (rules.clone(), "/spec/channels", alone(names())),
        (rules, "/spec/redundancy", each([-1, 0, 3, 4, 255, 256, i32::MAX])),
        (namespace.clone(), "/spec/name", names()),
        (namespace, "/spec/rulesRef/name", names()),
    ]
}

/// Everything that can be wrong with an address, behind each of some beginnings.
fn addresses(beginnings: &[&str]) -> Vec<Value> {
    let hosts = "a.example localhost a_b -a- a.ns.svc.cluster.local. a..b .a a. . A.Example 2auth a.2x a.0b a.0x a.0x1F \
        a.00x 0x1f a.1 a.08 1 1.2.3 1.2.3.4 1.2.3.4. 1.2.3.4.5 256.1.1.1 1.2.3.256 01.2.3.4 08.1.1.1 [::1] [::] [fe80::1] \
        [::1.2.3.4] [::ffff:1.2.3.4] [1.2.3.4] [1:2:3:4:5:6:7:8] [1:2:3:4:5:6:7:8:9] [1::2::3] [12345::] [:] [] \
        [::1 ::1 [zz] [::1%eth0] xn--bcher-kva.example läden.example \u{ff41} a%2eb a%00b a<b a|b a^b * a*b shop.* user@a \
        user:pw@a :@a @a";
    let hosts: Vec<_> = hosts.split(' ').chain(["", " ", "a b"]).collect();
    let ends = [
        "", "/", "/x?y[]=1", "?y", "#z", "/#", "?y#z", "/a@b", "\\x", ":", ":0", ":1", ":80/x", ":080", ":+80",
        ":65535", ":65536", ":70000", ":99999", ":100000", ":x", "\n",
    ];
    // Each host with each beginning, and each end with the first host of each sort.
    let bare = beginnings.iter().flat_map(|beginning| hosts.iter().map(move |host| format!("{beginning}{host}")));
    let ended = ["a.example", "1.2.3.4", "[::1]"].into_iter().flat_map(|host| ends.map(|end| format!("{host}{end}")));
    each(bare.chain(ended.map(|rest| format!("{}{rest}", beginnings[0]))))
}

fn over_http() -> Rows {
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    let http = object(
        "AuthProvider",
        json!({
            "hubRef": {"name": "shop"},
            "http": {"method": "POST", "url": "https://a.example", "headers": [header("x", "y")], "timeoutMs": 1},
        }),
    );
    let methods = each(["", "GET", "POST", "PUT", "PATCH", "DELETE", "post", "PO ST"]);
    let reserved = ["connection", "Content-Length", "HOST", "te", "Transfer-Encoding", "upgrade"];
    let others = ["", "a", "a b", "a:b", "ä", "!#$%&*+.^_|~-9Az", "(", "\n", "Hosts"];
    let mut headers: Vec<_> = reserved.iter().chain(&others).map(|name| json!([header(name, "v")])).collect();
    headers.extend(["", " a~", "\t", "a\nb", "a\r", "\0", "\u{7f}", "ä"].map(|value| json!([header("a", value)])));
    headers.extend([4000, 4001].map(|many| json!([header("a", &"v".repeat(many))])));
    headers.extend([32, 33].map(|many| json!((0..many).map(|n| header(&format!("x-{n}"), "")).collect::<Vec<_>>())));
    headers.push(json!([header("X-Key", "a"), header("x-key", "b")]));
    headers.push(json!([{"name": "a", "secretKeyRef": {"name": "s", "key": "k"}}]));
    let mut urls =
        addresses(&["https://", "http://", "HTTPS://", "https:/", "https:", "ftp://", "://", "", " https://"]);
    urls.extend([1991, 1992].map(|many| json!(format!("https://{}", "a".repeat(many)))));
    vec![
        (http.clone(), "/spec/http/method", methods),
        (http.clone(), "/spec/http/url", urls),
        (http.clone(), "/spec/http/headers", headers),
        (http, "/spec/http/timeoutMs", each([i32::MIN, -1, 0, 1, 60_000, 60_001, 600_000, i32::MAX])),
    ]
}

fn over_nats() -> Rows {
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    let spec = json!({"subject": "a", "headers": [header("x", "y")], "timeoutMs": 1});
    let nats = object("AuthProvider", json!({"hubRef": {"name": "shop"}, "nats": spec}));
    // Each character alone, within a part, and first in a further one.
    let signs = (0..=0x100).filter_map(char::from_u32);
    let each_sign = signs.flat_map(|sign| [format!("{sign}"), format!("a{sign}b"), format!("a.{sign}")]);
    let others = ["", "a..b", ".a", "a.", "a.b.c", "_INBOX.a", "$SYS.a", "a.>", "a.*", "a\n", "{hub}.a"];
    let long = [1000, 1001].map(|many| "a".repeat(many));
    let subjects = each(each_sign.chain(others.map(str::to_owned)).chain(long));
    let names = ["Nats-Msg-Id", "nats-", "NATS-X", "natsx", "Host", "Accept", "", "a b", "ä"];
    let mut headers: Vec<_> = names.iter().map(|name| json!([header(name, "v")])).collect();
    headers.extend(["", "a\nb", "ä"].map(|value| json!([header("a", value)])));
    headers.extend([32, 33].map(|many| json!((0..many).map(|n| header(&format!("x-{n}"), "")).collect::<Vec<_>>())));
    vec![
        (nats.clone(), "/spec/nats/subject", subjects),
        (nats.clone(), "/spec/nats/headers", headers),
        (nats, "/spec/nats/timeoutMs", each([i32::MIN, -1, 0, 1, 60_000, 60_001, i32::MAX])),
    ]
}

fn tokens() -> Rows {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n";
    let keys = [
        ("secretKeyRef", json!({"name": "s", "key": "k"})),
        ("publicKey", json!(pem)),
        ("jwksUrl", json!("https://a.example/keys")),
    ];
    let algorithms = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
        "EdDSA", "none", "HS257", "hs256", "",
    ];
    let mut rows = Rows::new();
    for (key, value) in keys {
        let mut jwt = json!({"algorithms": [], "issuer": "a", "audience": "a", "userClaim": "a"});
        jwt[key] = value;
        let jwt = object("AuthProvider", json!({"hubRef": {"name": "shop"}, "jwt": jwt}));
        let pairs = algorithms.iter().flat_map(|one| algorithms.map(|other| json!([one, other])));
        rows.push((jwt.clone(), "/spec/jwt/algorithms", alone(each(algorithms)).into_iter().chain(pairs).collect()));
        for field in ["/spec/jwt/issuer", "/spec/jwt/audience", "/spec/jwt/userClaim"] {
            let long = "ä".repeat(1001);
            rows.push((jwt.clone(), field, each(["", "a", " ", "\n", &long])));
        }
        match key {
            "publicKey" => {
                let private = format!("{pem}-----BEGIN PRIVATE KEY-----");
                let behind = format!("key: {pem}");
                let after = format!(" \r\n\t{pem}");
                let keys = each([pem, &after, &behind, &private, "", "MCow", "-----BEGIN RSA PRIVATE KEY-----"]);
                rows.push((jwt, "/spec/jwt/publicKey", keys));
            }
            "jwksUrl" => rows.push((jwt, "/spec/jwt/jwksUrl", addresses(&["https://", "http://", "ftp://", ""]))),
            _ => {}
        }
    }
    rows
}
