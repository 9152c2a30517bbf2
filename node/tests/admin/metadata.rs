use hyper::Method;
use serde_json::json;

use super::server::Server;

const PATH: &str = "/v1/hubs/filed/channels/a%2Fb%20%C3%BC/metadata";

#[tokio::test]
async fn metadata_is_kept_as_it_was_written_until_it_is_removed() {
    let server = Server::start().await;
    server.get(PATH).await.is_refusal(404, "not_found");
    server.delete(PATH).await.is_refusal(404, "not_found");
    // The hub is the file's, which refuses other changes. What is written keeps its digits and its spaces.
    let value = "{ \"price\": 1.50, \"id\": 123456789012345678901 }";
    let written = server.put(PATH, format!("\n{value}\n")).await;
    written.is_done();
    assert!(written.text.contains(value), "{}", written.text);
    assert_eq!((&written.body["hub"], &written.body["channel"]), (&json!("filed"), &json!("a/b ü")));
    assert!(written.body["writtenMs"].as_i64().is_some_and(|ms| ms > 0));
    assert_eq!(server.get(PATH).await.text, written.text);
    assert_eq!(server.put(PATH, value).await.text, written.text, "the same again is no other write");
    // Neither the channel's settings nor another channel have to do with it.
    server.get("/v1/hubs/filed/channels/a%2Fb%20%C3%BC").await.is_refusal(404, "not_found");
    server.get("/v1/hubs/filed/channels/a/metadata").await.is_refusal(404, "not_found");
    let changed = server.put(PATH, "{}").await;
    assert_eq!(changed.body["value"], json!({}));
    assert!(changed.body["writtenMs"].as_i64() > written.body["writtenMs"].as_i64());
    assert_eq!(server.delete(PATH).await.status, 204);
    server.get(PATH).await.is_refusal(404, "not_found");
}

#[tokio::test]
async fn what_can_not_be_metadata_is_refused() {
    let server = Server::start().await;
    for value in ["", "[1]", "null", "{} {}", "{\"a\": }"] {
        let refused = server.put(PATH, value).await;
        refused.is_refusal(400, "resource_invalid");
        assert!(refused.body["detail"].as_str().unwrap().contains("JSON object"), "{}", refused.text);
    }
    let of_length = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    server.put(PATH, of_length(16_384)).await.is_done();
    server.put(PATH, of_length(16_385)).await.is_refusal(413, "message_too_large");
    server.put(PATH, of_length(2 << 20)).await.is_refusal(413, "message_too_large");
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let refused = async |path: &str| server.send(method.clone(), path, &server.token, "{}").await;
        refused("/v1/hubs/none/channels/a/metadata").await.is_refusal(404, "hub_not_found");
        refused("/v1/hubs/filed/channels/%00/metadata").await.is_refusal(400, "bad_channel");
        refused("/v1/hubs/filed/channels/doc:a/metadata").await.is_refusal(400, "unsupported");
        server.send(method.clone(), PATH, "no token", "{}").await.is_refusal(401, "unauthorized");
    }
}

#[tokio::test]
async fn it_goes_with_the_hub() {
    let server = Server::start().await;
    let path = "/v1/hubs/shop/channels/a/metadata";
    server.put("/v1/hubs/shop", "{}").await.is_done();
    server.put(path, "{}").await.is_done();
    server.delete("/v1/hubs/shop").await.is_done();
    server.get(path).await.is_refusal(404, "hub_not_found");
    server.put("/v1/hubs/shop", "{}").await.is_done();
    server.get(path).await.is_refusal(404, "not_found");
}
