//! The web server that a page comes from, and that it reports to.

use std::net::TcpListener;

use axum::{
    Json, Router,
    response::Html,
    routing::{get, post},
};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};

use super::DEADLINE;

/// Serves the page at every name that leads to 127.0.0.1.
pub struct PageHost {
    runtime: Runtime,
    port: u16,
    reports: mpsc::Receiver<Value>,
}

impl PageHost {
    pub fn start() -> PageHost {
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, reports) = mpsc::channel(16);
        let report = move |Json(report): Json<Value>| async move {
            let _ = told.send(report).await;
        };
        let page = || async { Html(include_str!("browser.html")) };
        let router = Router::new().route("/page", get(page)).route("/report", post(report));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        PageHost { runtime, port, reports }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The page's address as a page of this origin, which is to talk to this node.
    pub fn page(&self, origin: &str, node: &str) -> String {
        format!("{origin}/page?node={node}")
    }

    /// What the page has found out.
    pub fn report(&mut self) -> Value {
        let report = self.runtime.block_on(async { timeout(DEADLINE, self.reports.recv()).await });
        report.expect("the page reported nothing").unwrap()
    }
}
