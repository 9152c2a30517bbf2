//! The commands of clients/cli/README.md.

use super::{
    blocks,
    node::Running,
    shell::{Stream, printed, shell},
};

/// What the README has where the reader has something of their own.
const SERIAL: &str = "1-0-mi8p5kz3-0:41";

#[test]
fn its_commands_work() {
    let node = Running::with(include_str!("../../../../node/demo/hubs.yaml"));
    let (mut streams, mut commands) = (Vec::new(), 0);
    let token = std::fs::read_to_string(node.folder().join("data/admin.token")).unwrap();
    let variables = [
        ("APPSOCKETS_URL", format!("ws://{}", node.address)),
        ("APPSOCKETS_HUB", "demo".to_owned()),
        ("APPSOCKETS_ADMIN_URL", format!("http://{}", node.admin)),
        ("APPSOCKETS_ADMIN_TOKEN", token),
    ];
    let envs = || variables.iter().map(|(name, value)| (name, value));
    let serial = printed(shell("appsockets pub news first --store").envs(envs()));
    for blocks::Block { language, text } in blocks::of("clients/cli/README.md") {
        assert_eq!(language, "sh", "{text}");
        let text = text.replace(SERIAL, serial.trim());
        if text.starts_with("appsockets sub ") && !text.contains("--count") {
            let stream = Stream::start(&text, &variables);
            stream.wait_for("# ");
            streams.push(stream);
        } else {
            printed(shell(&text).current_dir(node.folder()).envs(envs()));
        }
        commands += text.lines().filter(|line| line.contains("appsockets ")).count();
    }
    assert!(commands >= 10, "{commands}");
    streams[0].wait_for("greeting  hello");
}
