//! What may be written, and what is said about everything else.

use std::{collections::BTreeSet, ffi::OsString};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::{
    Config, VARIABLES_OF_THE_TOOL, leaves::leaves, reading::Reading, reference, section::Kind, variables::variable,
    yaml,
};

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::from_sources("c.yaml", text, variables)
        .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn good(text: &str, variables: &[(&str, &str)]) -> Config {
    load(text, variables).unwrap_or_else(|problems| panic!("{text} {variables:?}: {problems:#?}"))
}

#[test]
fn what_is_not_named_keeps_its_default() {
    for text in ["", "# nothing\n", "---\n", "session:\n  # rateLimit: 7\n", "{}", "\u{feff}session: {}\n"] {
        assert_eq!(format!("{:?}", good(text, &[])), format!("{:?}", Config::default()), "{text:?}");
    }
    let config = good("session:\n  rateLimit: 7\nadmin: {listen: null}\ndata: /a b\n", &[]);
    assert_eq!((config.session.rate_limit, config.session.channels_max), (7, 1_000));
    assert_eq!((config.admin.listen, config.data.to_str()), (None, Some("/a b")));
}

#[test]
fn variables_go_before_the_file() {
    let file = "session: {rateLimit: 7, channelsMax: 8}\nadmin: {token: 0123456789abcdef}\n";
    let config = good(
        file,
        &[
            ("APPSOCKETS_SESSION__RATE_LIMIT", "50"),
            ("APPSOCKETS_CONNECTION__WS__PING_INTERVAL_MS", "1000"),
            ("APPSOCKETS_ADMIN__LISTEN", "null"),
            ("APPSOCKETS_ADMIN__TOKEN", "12345678901234567890"),
            ("APPSOCKETS_AUTH__ALLOWED_NETWORKS", "10.0.0.0/8, fd00::/8"),
            ("APPSOCKETS_PAGE", "true"),
            ("PATH", "/bin"),
            ("APPSOCKETS_SERVICE_HOST", "10.0.0.1"),
            ("APPSOCKETS_SERVICE_PORT_HTTPS", "443"),
            ("APPSOCKETS_PORT", "tcp://10.0.0.1:8080"),
            ("APPSOCKETS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ],
    );
    assert_eq!((config.session.rate_limit, config.session.channels_max), (50, 8));
    assert_eq!((config.connection.ws.ping_interval_ms, config.admin.listen, config.page), (1_000, None, true));
    assert_eq!(config.admin.token.first(), b"12345678901234567890");
    assert_eq!(config.auth.allowed_networks.len(), 2);
}

#[test]
fn nats_is_found_where_all_programs_look_for_it() {
    let url = |text: &str, variables: &[(&str, &str)]| good(text, variables).nats.url.first();
    let (file, theirs) = ("nats: {url: 'nats://file'}\n", ("NATS_URL", "nats://theirs"));
    assert_eq!(url("", &[theirs]), b"nats://theirs");
    assert_eq!(url(file, &[theirs]), b"nats://theirs");
    assert_eq!(url(file, &[("NATS_URL", "")]), b"nats://file");
    assert_eq!(url(file, &[theirs, ("APPSOCKETS_NATS__URL", "nats://ours")]), b"nats://ours");
    let problems = load("", &[("NATS_URL", "redis://ann:hush@a")]).unwrap_err();
    assert!(problems[0].starts_with("NATS_URL: Write nats://") && !problems[0].contains("hush"), "{problems:?}");
}

#[test]
fn subjects_that_can_not_be_asked_are_told() {
    let problems = |text: &str| load(text, &[]).unwrap_err().join("\n");
    assert!(problems("nats: {authSubjects: [a.b, 'a b']}").contains("nats.authSubjects: Write subjects"));
    for template in ["appsockets.auth.shop", "appsockets.auth.x{hub}", "appsockets.auth.*.{hub}"] {
        let text = format!("engine: {{dynamicHubAuthSubject: '{template}'}}");
        assert!(problems(&text).contains("engine.dynamicHubAuthSubject: Write a subject of at most"), "{text}");
    }
    let other = "engine: {dynamicHubAuthSubject: 'tenants.{hub}'}";
    assert!(problems(other).contains("Write a subject that `nats.authSubjects` has"), "{}", problems(other));
    good(&format!("{other}\nnats: {{authSubjects: [tenants.*]}}"), &[]);
    good("engine: {dynamicHubAuthSubject: 'appsockets.auth.{hub}'}", &[]);
}

#[test]
fn variables_of_the_tool_are_left_alone() {
    let document = include_str!("../../../docs/configuration.md");
    for name in VARIABLES_OF_THE_TOOL {
        let config = good("", &[(name, "not for a node")]);
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()), "{name}");
        assert!(leaves().iter().all(|leaf| variable(&leaf.path) != name), "{name} is a key's");
        assert!(document.contains(&format!("`{name}`")), "docs/configuration.md does not tell of {name}");
        let longer = format!("{name}S");
        assert!(load("", &[(&longer, "x")]).is_err(), "{longer}");
    }
}

#[test]
fn other_spellings_mean_the_same() {
    let config = good(
        "hub: {closeTimeout: 1}\nengine: {maxLiveHistorySize: 2}\n\
         auth: {session: {secret: 0123456789abcdef0123456789abcdef}, admin: {secret: 0123456789abcdef}}\n",
        &[("APPSOCKETS_CONNECTION__WS__PONG_INTERVAL", "3")],
    );
    assert_eq!((config.hub.close_timeout_ms, config.channel.max_live_history_size), (1, 2));
    assert_eq!((config.connection.ws.pong_interval_ms, config.auth.session_secret.first().len()), (3, 32));
    assert_eq!(config.admin.token.first(), b"0123456789abcdef");
}

#[test]
fn secrets_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let shown = path.display();
    for (content, expected) in [
        ("0123456789abcdef", "0123456789abcdef"),
        ("0123456789abcdef\n", "0123456789abcdef"),
        ("0123456789abcdef\r\n", "0123456789abcdef"),
        (" 0123456789abcdef\n\n", " 0123456789abcdef"),
        ("0123456789abcdef\nanother of 16 bytes\n", "0123456789abcdef"),
    ] {
        std::fs::write(&path, content).unwrap();
        let config = good(&format!("admin: {{tokenFile: '{shown}'}}"), &[]);
        assert_eq!(config.admin.token.first(), expected.as_bytes());
        let config =
            good("admin: {token: 0000000000000000}", &[("APPSOCKETS_ADMIN__TOKEN_FILE", path.to_str().unwrap())]);
        assert_eq!(config.admin.token.first(), expected.as_bytes());
    }
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\nshort\n").unwrap();
    let refused = load(&format!("auth:\n  session:\n    secretFile: {shown}\n"), &[]).unwrap_err();
    let expected = format!(
        "c.yaml:3:5: auth.session.secretFile: Write a text of 32 bytes or more into \
            the file {shown}."
    );
    assert_eq!(refused, [expected]);
    // What a variable sets is not looked for elsewhere.
    let config = good("admin: {tokenFile: /not/there}", &[("APPSOCKETS_ADMIN__TOKEN", "0123456789abcdef")]);
    assert_eq!(config.admin.token.first(), b"0123456789abcdef");
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, expected) in [
        // Keys.
        (
            "session:\n  rateLimitt: 7",
            "c.yaml:2:3: session.rateLimitt: There is no such key: did you mean `rateLimit`?",
        ),
        ("session: {ratelimit: 7}", "c.yaml:1:11: session.ratelimit: There is no such key: did you mean `rateLimit`?"),
        ("sesion: {rateLimit: 7}", "c.yaml:1:1: sesion: There is no such key: did you mean `session`?"),
        ("rateLimit: 7", "c.yaml:1:1: rateLimit: There is no such key: did you mean `session.rateLimit`?"),
        ("hub: {rateLimit: 7}", "c.yaml:1:7: hub.rateLimit: There is no such key: did you mean `session.rateLimit`?"),
        (
            "connection:\n  ws:\n    pingIntervall: 1",
            "c.yaml:3:5: connection.ws.pingIntervall: There is no such key: did you mean `pingInterval`?",
        ),
        ("tls: {ca: x}", "c.yaml:1:7: tls.ca: There is no such key; here may stand `certificate`, `key`."),
        (
            "redis: {address: localhost}",
            "c.yaml:1:1: redis: There is no such key; here may stand `listen`, `data`, `workers`, `page`, `tls`, \
            `engine`, `hub`, `session`, `channel`, `connection`, `storage`, `auth`, `nats`, `admin`, `metrics`, \
            `debug`, `cluster`, `discovery`, `operator`.",
        ),
        (
            "storage: {postgres: x}",
            "c.yaml:1:11: storage.postgres: There is no such key; here may stand `messageRetentionDays`.",
        ),
        ("? [a]\n: 1", "c.yaml:1:3: Write the name of a key here."),
        (
            "page: true\npage: true",
            "c.yaml:2:1: page: This is set already, at c.yaml:1:1: page: leave one of them out.",
        ),
        (
            "hub: {closeTimeout: 1, closeTimeoutMs: 1}",
            "c.yaml:1:24: hub.closeTimeoutMs: This is set already, at c.yaml:1:7: hub.closeTimeout: \
            leave one of them out.",
        ),
        (
            "admin:\n  token: 0123456789abcdef\n  tokenFile: x",
            "c.yaml:3:3: admin.tokenFile: This is set already, at c.yaml:2:3: admin.token: \
            leave one of them out.",
        ),
        // Types.
        ("session: 7", "c.yaml:1:10: session: Write keys such as `rateLimit` here, not `7`."),
        ("[1]", "c.yaml:1:1: Write keys such as `listen` here, not a list."),
        ("just words", "c.yaml:1:1: Write keys such as `listen` here, not `just words`."),
        (
            "session:\n  rateLimit: many",
            "c.yaml:2:14: session.rateLimit: Write a whole number from 1 to 4294967295, not `many`.",
        ),
        (
            "session:\n  rateLimit: '7'",
            "c.yaml:2:14: session.rateLimit: Write a whole number from 1 to 4294967295, not `\"7\"`.",
        ),
        (
            "session: {rateLimit: }",
            "c.yaml:1:20: session.rateLimit: Write a whole number from 1 to 4294967295, not nothing.",
        ),
        ("page: yes", "c.yaml:1:7: page: Write true or false, not `yes`."),
        ("page: [true]", "c.yaml:1:7: page: Write true or false, not a list."),
        ("listen: localhost:80", "c.yaml:1:9: listen: Write an address such as 127.0.0.1:8080, not `localhost:80`."),
        ("listen: null", "c.yaml:1:9: listen: Write an address such as 127.0.0.1:8080, not nothing."),
        (
            "admin: {listen: 80}",
            "c.yaml:1:17: admin.listen: Write an address such as 127.0.0.1:8080, or null, not `80`.",
        ),
        ("data: {a: 1}", "c.yaml:1:7: data: Write a path, not keys below it."),
        ("data: ''", "c.yaml:1:7: data: Write a path, not `\"\"`."),
        (
            "auth:\n  allowedNetworks:\n    - 10.0.0.0/8\n    - 10.0.0.0/33",
            "c.yaml:4:7: auth.allowedNetworks: Write a list of networks such as [10.0.0.0/8], \
            not `10.0.0.0/33`.",
        ),
        (
            "auth: {allowedNetworks: 10.0.0.0/8}",
            "c.yaml:1:25: auth.allowedNetworks: Write a list of networks such as [10.0.0.0/8], \
            not `10.0.0.0/8`.",
        ),
        // Values.
        ("workers: 65536", "c.yaml:1:10: workers: Write a whole number from 0 to 65535, not `65536`."),
        ("workers: -1", "c.yaml:1:10: workers: Write a whole number from 0 to 65535, not `-1`."),
        ("connection: {max: 0}", "c.yaml:1:19: connection.max: Write a whole number, 1 or more, not `0`."),
        (
            "connection: {ws: {pingIntervalMs: 18446744073709551615}}",
            "c.yaml:1:35: connection.ws.pingIntervalMs: Write a whole number from 1 to 4000000000000, \
            not `18446744073709551615`.",
        ),
        ("auth: {attempts: 6}", "c.yaml:1:18: auth.attempts: Write a whole number from 1 to 5, not `6`."),
        (
            "cluster:\n  listen: 127.0.0.1:7946\n  membership: {secretKey: 0123456789abcdef}",
            "cluster.rpc.secretKey: Write a text of at least 16 bytes, the same on all nodes: `cluster.listen` is set.",
        ),
        (
            "channel: {historyPageSize: 1001}",
            "c.yaml:1:28: channel.historyPageSize: Write a whole number from 1 to 1000, not `1001`.",
        ),
        (
            "debug: {level: loud=very}",
            "c.yaml:1:9: debug.level: Write `error`, `warn`, `info`, `debug` or `trace`, each alone or after a part and \
            `=`, with commas between them.",
        ),
        ("auth: {issuer: ''}", "c.yaml:1:8: auth.issuer: Write a text that is not empty."),
        (
            "auth: {jwksMaxAgeMs: 3600001}",
            "c.yaml:1:8: auth.jwksMaxAgeMs: `jwksStaleMaxMs` must not be less than `jwksMaxAgeMs`.",
        ),
        ("tls: {key: k.pem}", "c.yaml:1:7: tls.key: Set `tls.certificate` as well."),
        ("admin: {tls: {certificate: c.pem}}", "c.yaml:1:15: admin.tls.certificate: Set `admin.tls.key` as well."),
        (
            "engine: {dynamicHub: {limits: {connections: 0}}}",
            "c.yaml:1:32: engine.dynamicHub.limits.connections: Write 1 or more, or leave \
            it out for the node's own default.",
        ),
        (
            "engine:\n  dynamicHub:\n    allowedOrigins: ['*', 'https://a/']",
            "c.yaml:3:5: engine.dynamicHub.allowedOrigins: Leave out the `/` at the end.",
        ),
        // Secrets, which are not shown.
        ("admin: {token: hush}", "c.yaml:1:16: admin.token: Write a text of 16 bytes or more."),
        ("admin: {token: [hush]}", "c.yaml:1:16: admin.token: Write a text of 16 bytes or more."),
        ("cluster: {rpc: hush}", "c.yaml:1:16: cluster.rpc: Write keys such as `secretKey` here, not a value."),
        ("auth: {session: hush}", "c.yaml:1:17: auth.session: Write keys such as `secret` here, not a value."),
        ("auth: {sessionSecret: hush}", "c.yaml:1:23: auth.sessionSecret: Write a text of 32 bytes or more."),
        (
            "admin:\n  tokenFile: /not/there",
            "c.yaml:2:3: admin.tokenFile: The file /not/there can't be read: No such file \
            or directory (os error 2).",
        ),
        // Documents.
        ("page: true\n---\npage: true", "c.yaml:2:1: Leave this out: a second document begins here."),
        ("page: &a true\nworkers: *a", "c.yaml:2:10: Write it out: `*` is not followed here."),
        ("session: {rateLimit: 7", "c.yaml:1:10: This is not YAML: unclosed bracket '{'."),
    ] {
        assert_eq!(load(text, &[]).expect_err(text), [expected], "{text}");
    }
}

#[test]
fn mistakes_in_variables_are_named() {
    for (name, value, expected) in [
        ("SESION__RATE_LIMIT", "7", "There is no such variable: did you mean `APPSOCKETS_SESSION__RATE_LIMIT`?"),
        ("SESSION_RATE_LIMIT", "7", "There is no such variable: did you mean `APPSOCKETS_SESSION__RATE_LIMIT`?"),
        ("REDIS__ADDRESS", "7", "There is no such variable: `appsockets-node config reference` lists all keys."),
        ("LISTEN_PORT", "7", "There is no such variable: `appsockets-node config reference` lists all keys."),
        ("SESSION", "7", "There is no such variable: `appsockets-node config reference` lists all keys."),
        ("SESSION__RATE_LIMIT", "many", "Write a whole number from 1 to 4294967295, not `many`."),
        ("LISTEN", "", "Write an address such as 127.0.0.1:8080, not ``."),
        (
            "AUTH__ALLOWED_NETWORKS",
            "10.0.0.0/8,x",
            "Write a list of networks such as [10.0.0.0/8], not `10.0.0.0/8,x`.",
        ),
        ("ADMIN__TOKEN", "hush", "Write a text of 16 bytes or more."),
        ("TLS__KEY", "k.pem", "Set `tls.certificate` as well."),
        (
            "ADMIN__TOKEN_FILE",
            "/not/there",
            "The file /not/there can't be read: No such file or directory (os error 2).",
        ),
    ] {
        let name = format!("APPSOCKETS_{name}");
        assert_eq!(load("", &[(&name, value)]).expect_err(&name), [format!("{name}: {expected}")]);
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = load("page: 1\nhub: {x: 1}\nauth: {attempts: 0}\n", &[("APPSOCKETS_PAGE", "1"), ("APPSOCKETS_X", "1")]);
    assert_eq!(found.unwrap_err().len(), 5);
}

/// The paths of all values in it.
fn paths(value: &Json, path: &str) -> BTreeSet<String> {
    match value.as_object() {
        Some(fields) => fields.iter().flat_map(|(name, value)| paths(value, &format!("{path}.{name}"))).collect(),
        None => BTreeSet::from([path.trim_start_matches('.').to_owned()]),
    }
}

#[test]
fn every_key_is_described_with_its_true_default() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let described: BTreeSet<_> = leaves().into_iter().map(|leaf| leaf.sets).collect();
    assert_eq!(paths(&defaults, ""), described);
    let reference = reference();
    for leaf in leaves() {
        assert!(!leaf.meaning.is_empty() && !leaf.meaning.contains('|'), "{}", leaf.path);
        let row = format!("| `{}` | ", leaf.path);
        let row = reference.lines().find(|line| line.starts_with(&row)).expect(&leaf.path);
        let default = row.split(" | ").nth(2).unwrap().trim().trim_matches('`');
        if leaf.path != leaf.sets {
            assert_eq!(default, "");
            continue;
        }
        // The default that is told, written into a file, is the default that is in force.
        let text = leaf.path.split('.').rev().fold(default.to_owned(), |value, name| format!("{{{name}: {value}}}"));
        assert_eq!(format!("{:?}", good(&text, &[])), format!("{:?}", Config::default()), "{text}");
    }
}

#[test]
fn every_key_is_read_from_both_sources() {
    let leaves = leaves();
    for leaf in &leaves {
        let value = match &leaf.value.kind {
            Kind::Bool => "true".to_owned(),
            Kind::Whole(range) => range.end().to_string(),
            Kind::Address => "127.0.0.1:1".to_owned(),
            Kind::Path | Kind::Text => "a".to_owned(),
            Kind::Secret(bytes_min) => "s".repeat(*bytes_min as usize),
            Kind::Networks | Kind::Texts => "[10.0.0.0/8]".to_owned(),
        };
        let text = leaf.path.split('.').rev().fold(value.clone(), |value, name| format!("{{{name}: {value}}}"));
        let mut reading = Reading::new(&leaves);
        reading.section("", &yaml::parse("c.yaml", &text).unwrap().unwrap());
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        assert!(reading.given.contains_key(&leaf.sets), "{text}");

        let name = variable(&leaf.path);
        let value = value.trim_matches(['[', ']']);
        let reading = super::variables::read(&leaves, [(OsString::from(&name), OsString::from(value))]);
        assert!(reading.problems.is_empty() && reading.given.contains_key(&leaf.sets), "{name}");
    }
    let names: BTreeSet<_> = leaves.iter().map(|leaf| variable(&leaf.path)).collect();
    assert_eq!(names.len(), leaves.len(), "each key has a variable of its own");
}

#[test]
fn the_document_shows_the_reference() {
    let document = include_str!("../../../docs/configuration.md");
    assert!(document.contains(reference().trim()), "docs/configuration.md is stale: run cargo xtask generate");
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in "(\\PC|\n|  |---|session:|token: |rateLimit|[\\[{&*|>\t,:]){0,40}") {
        let _ = load(&text, &[]);
    }
}
