//! Clients that others wrote, against the built node: Python's `websockets`, Node's `ws`, and a browser. Whatever they
//! and we read differently in the standards shows here. `cargo xtask test` installs them.

use std::process::Command;

use clients::{browser::Browser, page_host::PageHost, run_script, served_node::ServedNode};
use serde_json::json;

mod clients;

#[test]
fn websockets_of_python() {
    let node = ServedNode::start(&clients::hubs(&[]));
    run_script(Command::new(clients::python()).arg(clients::folder().join("websockets_client.py")).arg(node.address()));
}

#[test]
fn http_of_python() {
    let node = ServedNode::start(&clients::hubs(&[]));
    run_script(Command::new(clients::python()).arg(clients::folder().join("http_client.py")).arg(node.address()));
}

#[test]
fn ws_of_node() {
    let node = ServedNode::start(&clients::hubs(&[]));
    run_script(Command::new("node").arg(clients::folder().join("ws_client.mjs")).arg(node.address()));
}

/// The same page twice, from an origin that the hub allows and from one that it does not: only the name of the host
/// differs, so that nothing but the origin can make the difference.
#[test]
fn pages_in_a_browser() {
    let mut host = PageHost::start();
    let allowed = format!("http://127.0.0.1:{}", host.port());
    let refused = format!("http://localhost:{}", host.port());
    let node = ServedNode::start(&clients::hubs(&[&allowed]));

    let browser = Browser::open(&host.page(&allowed, node.address()));
    let works = json!({"webSocket": "works", "eventSource": "works", "resumes": true, "publish": "works"});
    assert_eq!(host.report(), works);
    drop(browser);

    let _browser = Browser::open(&host.page(&refused, node.address()));
    let is_refused = json!({"webSocket": "refused", "eventSource": "refused", "resumes": false, "publish": "refused"});
    assert_eq!(host.report(), is_refused);
}
