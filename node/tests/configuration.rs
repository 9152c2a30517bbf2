//! What the program says of its configuration.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appsockets-node");

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(PROGRAM).args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// Exit code, standard output, standard error.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_good_file_is_ok() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "session: {rateLimit: 7}\n");
    let checked = run(&["config", "check", "--config", &path], &[("APPSOCKETS_SESSION__RATE_LIMIT", "50")]);
    assert_eq!(said(checked), (Some(0), format!("{path}: ok\n"), String::new()));
    assert_eq!(said(run(&["config", "check"], &[])), (Some(0), "the environment: ok\n".into(), String::new()));
}

#[test]
fn mistakes_are_told_and_keep_a_node_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "page: true\nsession:\n  rateLimitt: 7\n");
    let expected = format!(
        "Error: the configuration is not valid\n\
         {path}:3:3: session.rateLimitt: There is no such key: did you mean `rateLimit`?\n\
         APPSOCKETS_PAG: There is no such variable: did you mean `APPSOCKETS_PAGE`?\n"
    );
    for arguments in [&["config", "check", "--config", &path][..], &["--config", &path]] {
        let refused = run(arguments, &[("APPSOCKETS_PAG", "1"), ("RUST_BACKTRACE", "1")]);
        assert_eq!(said(refused), (Some(1), String::new(), expected.clone()), "{arguments:?}");
    }
}

#[test]
fn certificates_are_looked_at_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "admin: {tls: {certificate: /not/there, key: /neither}}\n");
    let expected = "Error: admin.tls: /not/there can't be read: No such file or directory (os error 2)\n";
    let refused = run(&["config", "check", "--config", &path], &[]);
    assert_eq!(said(refused), (Some(1), String::new(), expected.into()));
}

#[test]
fn the_reference_is_printed() {
    let (code, table, _) = said(run(&["config", "reference"], &[]));
    assert_eq!(code, Some(0));
    assert!(table.contains("\n| `session.rateLimit` | a whole number from 1 to 4294967295 | `100` | "), "{table}");
}

/// A running node. Killed when dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_node_obeys_variables_and_serves_metrics_without_administration() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.envs([
        ("APPSOCKETS_LISTEN", "127.0.0.1:0"),
        ("APPSOCKETS_WORKERS", "1"),
        ("APPSOCKETS_PAGE", "true"),
        ("APPSOCKETS_ADMIN__LISTEN", "null"),
        ("APPSOCKETS_METRICS__LISTEN", "127.0.0.1:0"),
    ]);
    command.env("APPSOCKETS_DATA", folder.path().join("data")).env("APPSOCKETS_DEBUG__LEVEL", "info");
    let mut node = Node(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut logged = BufReader::new(node.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let metrics = logged.find_map(|line| line.split_once("metrics.listen: http://").map(|(_, rest)| rest.to_owned()));
    let told = BufReader::new(node.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = told.strip_prefix("listening on http://").unwrap();
    assert!(get(address, "/").starts_with("HTTP/1.1 200 "), "the page");
    assert!(get(&metrics.unwrap(), "/healthz").ends_with("ok\n"));
    assert!(!folder.path().join("data/admin.token").exists());
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
