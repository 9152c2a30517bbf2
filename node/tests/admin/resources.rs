use hyper::Method;
use serde_json::json;

use super::server::Server;

const OPEN: &str = r#"{"defaultPublic": true, "allowAnonymous": true}"#;

#[tokio::test]
async fn only_who_shows_the_token_is_let_in() {
    let server = Server::start().await;
    for token in ["", "x", &server.token[1..], &format!("{}x", server.token)] {
        server.send(Method::GET, "/v1/hubs", token, "").await.is_refusal(401, "unauthorized");
        server.send(Method::PUT, "/v1/hubs/shop", token, OPEN).await.is_refusal(401, "unauthorized");
    }
    server.get("/v1/hubs/shop").await.is_refusal(404, "hub_not_found");
}

#[tokio::test]
async fn a_resource_is_written_shown_and_removed() {
    let server = Server::start().await;
    server.put("/v1/hubs/shop", OPEN).await.is_done();
    server.put("/v1/hubs/shop/channel-rules/open", r#"{"presence": true}"#).await.is_done();
    // A name with what a path must encode.
    server.put("/v1/hubs/shop/channels/a%2Fb%20%C3%BC", r#"{"rules": "open"}"#).await.is_done();
    let shown = server.get("/v1/hubs/shop/channels/a%2Fb%20%C3%BC").await;
    let expected =
        json!({"kind": "Channel", "hub": "shop", "name": "a/b ü", "spec": {"rules": "open"}, "source": "api"});
    assert_eq!(shown.body, expected);
    let list = server.get("/v1/hubs/shop/channels").await;
    assert_eq!(list.body, json!({"items": [expected], "next": null}));
    assert_eq!(server.delete("/v1/hubs/shop/channels/a%2Fb%20%C3%BC").await.status, 204);
    server.get("/v1/hubs/shop/channels/a%2Fb%20%C3%BC").await.is_refusal(404, "not_found");
    assert_eq!(server.delete("/v1/hubs/shop").await.status, 204);
    server.get("/v1/hubs/shop/channel-rules/open").await.is_refusal(404, "hub_not_found");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.put(&format!("/v1/hubs/{name}"), "{}").await.is_done();
    }
    let names = |body: &serde_json::Value| {
        let items = body["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = server.get("/v1/hubs?limit=3").await.body;
    assert_eq!((names(&first), &first["next"]), (vec!["a".into(), "b".into(), "c".into()], &json!("c")));
    let rest = server.get("/v1/hubs?limit=3&after=c").await.body;
    assert_eq!((names(&rest), &rest["next"]), (vec!["filed".into()], &json!(null)));
    for limit in ["0", "1001", "x", "-1"] {
        server.get(&format!("/v1/hubs?limit={limit}")).await.is_refusal(400, "bad_message");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_resource_is_told() {
    let server = Server::start().await;
    let wrong = server.put("/v1/hubs/shop", r#"{"allowAnonymus": true}"#).await;
    wrong.is_refusal(400, "resource_invalid");
    assert!(wrong.body["detail"].as_str().unwrap().contains("allowAnonymus"));
    for spec in ["[true]", r#"{"limits": [1]}"#, "{} {}", ""] {
        server.put("/v1/hubs/shop", spec).await.is_refusal(400, "resource_invalid");
    }
    server.put("/v1/hubs/shop", OPEN).await.is_done();
    let wrong =
        server.put("/v1/hubs/shop/auth-provider", r#"{"http": {"url": "no"}, "jwt": {"secret": "short"}}"#).await;
    wrong.is_refusal(400, "resource_invalid");
    let detail = wrong.body["detail"].as_str().unwrap();
    assert!(detail.contains("spec.http.url") && detail.contains("spec.jwt.secret"), "{detail}");
    server.put("/v1/hubs/none/namespaces/n", r#"{"rules": "open"}"#).await.is_refusal(404, "hub_not_found");
    server.put("/v1/hubs/filed", OPEN).await.is_refusal(409, "managed_elsewhere");
    server.delete("/v1/hubs/filed").await.is_refusal(409, "managed_elsewhere");
    server.put("/v1/hubs/shop", " ".repeat((1 << 20) + 1)).await.is_refusal(413, "message_too_large");
}

#[tokio::test]
async fn secrets_are_never_given_back() {
    const KEY: &str = "a secret of at least thirty-two bytes";
    let server = Server::start().await;
    server.put("/v1/hubs/shop", OPEN).await.is_done();
    let path = "/v1/hubs/shop/auth-provider";
    let spec =
        json!({"http": {"url": "https://a.example/", "headers": {"authorization": "hush"}}, "jwt": {"secret": KEY}});
    let written = server.put(path, spec).await;
    let shown = server.get(path).await;
    for answer in [&written, &shown] {
        answer.is_done();
        assert!(!answer.text.contains("hush") && !answer.text.contains(KEY), "{}", answer.text);
        assert_eq!(answer.body["spec"]["jwt"]["secret"], "(secret)");
        assert_eq!(answer.body["spec"]["http"]["headers"]["authorization"], "(secret)");
    }
    let listed = server.get("/v1/auth-providers").await;
    assert_eq!(listed.body, json!({"items": [shown.body], "next": null}));
    // What was read can be written again, but a header goes to no other address than the one that it was given for.
    let mut spec = shown.body["spec"].clone();
    server.put(path, &spec).await.is_done();
    spec["http"]["url"] = json!("https://b.example/");
    let moved = server.put(path, &spec).await;
    moved.is_refusal(400, "resource_invalid");
    assert!(moved.body["detail"].as_str().unwrap().contains("spec.http.headers.authorization"));
}

#[tokio::test]
async fn headers_over_nats_stay_with_their_subject() {
    let server = Server::start().await;
    server.put("/v1/hubs/shop", OPEN).await.is_done();
    let path = "/v1/hubs/shop/auth-provider";
    let written = server.put(path, json!({"nats": {"subject": "auth.shop", "headers": {"x-key": "hush"}}})).await;
    written.is_done();
    assert!(!written.text.contains("hush"), "{}", written.text);
    let mut spec = written.body["spec"].clone();
    assert_eq!(spec["nats"]["headers"]["x-key"], "(secret)");
    server.put(path, &spec).await.is_done();
    spec["nats"]["subject"] = json!("auth.other");
    let moved = server.put(path, &spec).await;
    moved.is_refusal(400, "resource_invalid");
    assert!(moved.body["detail"].as_str().unwrap().contains("spec.nats.headers.x-key"));
    let both = json!({"nats": {"subject": "auth.shop"}, "http": {"url": "https://a.example/"}});
    server.put(path, both).await.is_refusal(400, "resource_invalid");
}
