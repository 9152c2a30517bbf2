use hyper::Method;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::server::{PATIENCE, Server};

#[tokio::test]
async fn a_node_is_ready_until_it_drains() {
    let mut server = Server::start().await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(server.send(Method::GET, path, "", "").await.status, 200, "{path}");
    }
    // A client keeps the node from ending at once.
    let mut request = format!("ws://{}/hubs/filed/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "appsockets.v1.json".parse().unwrap());
    let _client = tokio_tungstenite::connect_async(request).await.unwrap();
    let open = async {
        while !server.get("/metrics").await.text.lines().any(|line| line == "appsockets_sessions 1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, open).await.expect("the session is counted");
    server.drain();
    let drained = async { while server.get("/readyz").await.status != 503 {} };
    tokio::time::timeout(PATIENCE, drained).await.expect("it is no longer ready");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_are_lines_that_prometheus_reads() {
    let server = Server::start().await;
    let metrics = server.get("/metrics").await;
    assert!(metrics.kind.starts_with("text/plain; version=0.0.4"));
    for line in metrics.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("appsockets_") && value.parse::<u64>().is_ok(), "{line}");
        let family = name.split('{').next().unwrap();
        assert!(metrics.text.contains(&format!("# TYPE {family} ")), "{line}");
    }
    assert!(metrics.text.contains("appsockets_publishes_accepted_total 0\n"));
}
