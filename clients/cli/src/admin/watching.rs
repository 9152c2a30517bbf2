//! `ready` and `metrics`, which take no token.

use hyper::Method;
use serde_json::{Value, json};

use super::call::Node;
use crate::{fault::Fault, output::Output};

pub async fn ready(node: &Node, output: &Output) -> Result<(), Fault> {
    let answer = node.send(Method::GET, "/readyz", Vec::new()).await?;
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    if !answer.status.is_success() {
        return Err(Fault::refused(format!("not ready: {text}")));
    }
    output.line(|| text, || json!({"ready": true}))
}

pub async fn metrics(node: &Node, output: &Output) -> Result<(), Fault> {
    let answer = node.send(Method::GET, "/metrics", Vec::new()).await?;
    if !answer.status.is_success() {
        return Err(Fault::refused(format!("the server answered {}", answer.status)));
    }
    let text = String::from_utf8_lossy(&answer.body);
    for line in text.lines() {
        match line.rsplit_once(' ') {
            Some((sample, value)) if !line.starts_with('#') => {
                let value: Value = value.parse().unwrap_or_default();
                output.line(|| line.to_owned(), || json!({"sample": sample, "value": value}))?;
            }
            _ => output.note(|| line.to_owned())?,
        }
    }
    Ok(())
}
