//! The description is true: what it names is there, what is there it names, and its examples are taken.

use appsockets_node::admin::{OPENAPI, paths};
use hyper::Method;
use serde_json::{Map, Value};

use super::server::Server;

fn described() -> Map<String, Value> {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    document["paths"].as_object().unwrap().clone()
}

fn filled(path: &str) -> String {
    path.replace("{hub}", "shop").replace("{name}", "open")
}

#[test]
fn it_names_every_path_and_no_other() {
    let (mut served, described) = (paths(), described());
    served.sort_unstable();
    let mut named: Vec<_> = described.keys().map(String::as_str).collect();
    named.sort_unstable();
    assert_eq!(served, named);
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let references: Vec<_> = OPENAPI.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!references.is_empty());
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn it_names_every_method_and_no_other() {
    let server = Server::start().await;
    for (path, operations) in described() {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
            let named = operations.get(method.as_str().to_lowercase()).is_some();
            let answer = server.send(method.clone(), &filled(&path), &server.token, "").await;
            assert_eq!(answer.status != 405, named, "{method} {path}: {}", answer.text);
            assert!(named || answer.text.contains("method_not_allowed"), "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn its_examples_are_taken() {
    let server = Server::start().await;
    // A hub comes before what belongs to it, as its path is a beginning of theirs.
    let mut taken = 0;
    for (path, operations) in described() {
        for method in [Method::PUT, Method::POST] {
            let body = &operations[method.as_str().to_lowercase()]["requestBody"];
            if let Some(example) = body.pointer("/content/application~1json/example") {
                let answer = server.send(method.clone(), &filled(&path), &server.token, &example.to_string()).await;
                assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
                taken += 1;
            }
        }
    }
    assert_eq!(taken, 7);
}
