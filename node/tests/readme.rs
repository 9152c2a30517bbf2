//! What README.md says one can type works, and is answered as it says.
//!
//! Each `curl` runs in a shell, the lines of JSON go over a WebSocket, and the answer that is shown is compared.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use appsockets_node::{config::Config, node::Node};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, WebSocket, stream::MaybeTlsStream};

const README: &str = include_str!("../../README.md");
const HUBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/hubs.yaml");

/// What the README calls the node's address.
const ADDRESS: &str = "127.0.0.1:8080";

/// For anything that a node that works does in a moment.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn what_it_says_works() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { data: data.path().into(), listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let node = runtime.block_on(Node::start(config, Some(HUBS.into()))).unwrap();
    let readme = README.replace(ADDRESS, &node.address().to_string());
    runtime.spawn(node.serve(std::future::pending()));

    let mut reader = Reader::default();
    for (language, text) in blocks(&readme) {
        reader.follow(language, text);
    }
    let Reader { stream, answers, typed, compared, .. } = reader;
    // A README that says it in other words must not pass because nothing of it was understood.
    assert_eq!((answers, typed, compared), (2, 3, 1), "curl commands, lines over WebSocket, answers shown");
    let stream = stream.expect("a curl that listens");
    stream.wait_for(r#""text":"hello""#);
    stream.wait_for(r#""payload":{"from": "here"}"#);
}

/// The blocks of code with their languages.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

/// Somebody who does what the README says.
#[derive(Default)]
struct Reader {
    /// What listens in the second terminal.
    stream: Option<Stream>,
    answer: Value,
    socket: Option<WebSocket<MaybeTlsStream<TcpStream>>>,
    answers: usize,
    typed: usize,
    compared: usize,
}

impl Reader {
    fn follow(&mut self, language: &str, text: &str) {
        match (language, text) {
            // These build and test, which is what is going on.
            ("sh", text) if text.starts_with("cargo ") => {}
            ("sh", text) if text.starts_with("curl -N ") => {
                let stream = self.stream.insert(Stream::start(text));
                stream.wait_for(r#""event":"Position""#);
            }
            ("sh", text) if text.starts_with("curl ") => {
                self.answer = run(text);
                self.answers += 1;
            }
            ("sh", text) if text.starts_with("websockets ") => {
                self.socket = Some(connect(text.trim_start_matches("websockets ").trim()));
            }
            ("json", text) if text.starts_with(r#"{"event""#) => {
                let socket = self.socket.as_mut().expect("a WebSocket to type into");
                text.lines().for_each(|line| ask(socket, line));
                self.typed += text.lines().count();
            }
            ("json", text) => {
                assert_eq!(shape(serde_json::from_str(text).unwrap()), shape(self.answer.take()), "{text}");
                self.compared += 1;
            }
            _ => panic!("nobody knows how to try this {language}: {text}"),
        }
    }
}

/// A command that goes on to print lines, ended with its owner.
struct Stream {
    child: Child,
    lines: Receiver<String>,
}

impl Stream {
    fn start(command: &str) -> Stream {
        let mut child = shell(command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Stream { child, lines }
    }

    /// Passes over lines until one holds this.
    fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return,
                Ok(_) => {}
                Err(error) => panic!("is curl there? It printed no line with {part}: {error}"),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shell becomes the command, so that ending the one ends the other.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]);
    shell
}

/// The JSON that a command prints, which must not tell of an error.
fn run(command: &str) -> Value {
    let output = shell(command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["published"][0]["success"] == true || !answer["messages"][0].is_null(), "{command}: {answer}");
    answer
}

fn connect(url: &str) -> WebSocket<MaybeTlsStream<TcpStream>> {
    let (socket, _) = tungstenite::connect(url).unwrap();
    let MaybeTlsStream::Plain(stream) = socket.get_ref() else { panic!("{url} is not plain") };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends a line, and waits for the answer to it, which must not tell of an error.
fn ask(socket: &mut WebSocket<MaybeTlsStream<TcpStream>>, line: &str) {
    let asked = req_id(&serde_json::from_str(line).unwrap()).expect("a request id");
    socket.send(line.into()).unwrap();
    loop {
        let text = socket.read().unwrap().into_text().unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        if req_id(&message) == Some(asked) {
            assert!(!text.contains(r#""error":"#) && message["event"] != "Error", "{line}: {text}");
            return;
        }
    }
}

/// Wherever in the message it is.
fn req_id(message: &Value) -> Option<i64> {
    match message {
        Value::Object(fields) => {
            fields.get("reqID").and_then(Value::as_i64).or_else(|| fields.values().find_map(req_id))
        }
        Value::Array(items) => items.iter().find_map(req_id),
        _ => None,
    }
}

/// The same without the part of serials that is another one for each node.
fn shape(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => fields.values_mut().for_each(|value| *value = shape(value.take())),
        Value::Array(items) => items.iter_mut().for_each(|value| *value = shape(value.take())),
        Value::String(text) => {
            if let Some((_, sequence)) = text.split_once(':') {
                *text = format!("epoch:{sequence}");
            }
        }
        _ => {}
    }
    answer
}
