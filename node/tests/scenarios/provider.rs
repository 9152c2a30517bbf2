//! A tenant's own service that says who its clients are.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

/// It takes the client's payload `{"user": …}` for true, and answers as the payload wishes.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    /// What it was asked, with the key that came in a header.
    pub asked: Arc<Mutex<Vec<(Value, String)>>>,
    /// One is taken for each answer.
    pub answers: Arc<Semaphore>,
}

impl Provider {
    pub async fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            answers: Arc::new(Semaphore::new(1_000)),
        };
        let router = Router::new().route("/who", post(answer)).with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// The resource that makes a hub ask it.
    pub fn resource(&self, hub: &str) -> String {
        let address = self.address;
        format!(
            "---\n{{kind: AuthProvider, hub: {hub}, spec: {{http: {{url: 'http://{address}/who', headers: {{x-key: hush}}}}}}}}\n"
        )
    }
}

async fn answer(
    State(provider): State<Provider>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let key = headers.get("x-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
    provider.asked.lock().unwrap().push((question.clone(), key));
    provider.answers.acquire().await.unwrap().forget();
    let payload = &question["payload"];
    match (payload["user"].as_str(), payload["status"].as_u64()) {
        (_, Some(status)) => (StatusCode::from_u16(status as u16).unwrap(), Json(json!({}))),
        (None, None) => (StatusCode::OK, Json(json!({"success": false}))),
        (Some(user), None) => {
            let answer = json!({
                "success": true,
                "userID": user,
                "extra": {"name": user.to_uppercase()},
                "channelAuthorizations": payload["channels"],
                "rpcAuthorizations": [{"method": "cart:*"}],
                "expiresAt": payload["expiresAt"],
            });
            (StatusCode::OK, Json(answer))
        }
    }
}
