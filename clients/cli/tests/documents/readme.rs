//! What README.md says one can type works, and is answered as it says.
//!
//! Each command runs in a shell, the lines of JSON go over a WebSocket, and the answer that is shown is compared.

use serde_json::Value;

use super::{
    blocks,
    conversation::Socket,
    like::{assert_like, example},
    node::Running,
    shell::{Stream, printed, shell},
};

/// What the README calls the node's address.
const ADDRESS: &str = "127.0.0.1:8080";

/// How the README starts the tool, which is built already.
const TOOL: &str = "cargo run -q -p appsockets-cli -- ";

#[test]
fn what_it_says_works() {
    let node = Running::of(blocks::root().join("node/demo/hubs.yaml"));
    let mut reader = Reader { address: node.address.to_string(), ..Reader::default() };
    for blocks::Block { language, text } in blocks::of("README.md") {
        reader.follow(&language, &text.replace(ADDRESS, &node.address.to_string()));
    }
    let Reader { streams, answers, typed, compared, .. } = reader;
    // A README that says it in other words must not pass because nothing of it was understood.
    assert_eq!((answers, typed, compared), (3, 3, 1), "commands, lines over WebSocket, answers shown");
    assert_eq!(streams.len(), 2, "a curl that listens, and the tool");
    streams[0].wait_for(r#""text":"hello""#);
    streams[0].wait_for(r#""payload":{"from": "here"}"#);
    streams[1].wait_for("greeting  hello again");
}

/// Somebody who does what the README says.
#[derive(Default)]
struct Reader {
    address: String,
    /// What listens in other terminals.
    streams: Vec<Stream>,
    answer: Value,
    socket: Option<Socket>,
    answers: usize,
    typed: usize,
    compared: usize,
}

impl Reader {
    fn follow(&mut self, language: &str, text: &str) {
        match (language, text) {
            ("sh", text) if text.starts_with("curl -N ") => self.listen(text, r#""event":"Position""#),
            ("sh", text) if text.starts_with("curl ") => {
                self.answer = serde_json::from_str(&printed(&mut shell(text))).unwrap();
                let answer = &self.answer;
                assert!(answer["published"][0]["success"] == true || !answer["messages"][0].is_null(), "{answer}");
                self.answers += 1;
            }
            ("sh", text) if text.starts_with(TOOL) => self.use_tool(text.trim_start_matches(TOOL)),
            ("sh", text) if text.starts_with("websockets ") => {
                self.socket = Some(Socket::connect(text.trim_start_matches("websockets ").trim(), None));
            }
            ("json", text) if text.starts_with(r#"{"event""#) => {
                let socket = self.socket.as_mut().expect("a WebSocket to type into");
                text.lines().for_each(|line| ask(socket, line));
                self.typed += text.lines().count();
            }
            ("json", text) => {
                assert_like(&example(text), &self.answer.take());
                self.compared += 1;
            }
            _ => panic!("nobody knows how to try this {language}: {text}"),
        }
    }

    fn use_tool(&mut self, arguments: &str) {
        let url = ("APPSOCKETS_URL", format!("ws://{}", self.address));
        let command = format!("appsockets {arguments}");
        if arguments.starts_with("sub ") {
            self.streams.push(Stream::start(&command, &[url]));
            self.streams[self.streams.len() - 1].wait_for("# begins after ");
        } else {
            let serial = printed(shell(&command).env(url.0, url.1));
            assert!(serial.contains(':'), "{serial}");
            self.answers += 1;
        }
    }

    fn listen(&mut self, command: &str, until: &str) {
        let stream = Stream::start(command, &[]);
        stream.wait_for(until);
        self.streams.push(stream);
    }
}

/// Sends a line, and waits for the answer to it, which must not tell of an error.
fn ask(socket: &mut Socket, line: &str) {
    let asked = req_id(&serde_json::from_str(line).unwrap()).expect("a request id");
    socket.send(line);
    let answer = socket.next_that(|message| req_id(message) == Some(asked));
    assert!(!answer.to_string().contains(r#""error":"#) && answer["event"] != "Error", "{line}: {answer}");
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
