//! What is larger than the node accepts is not sent, and never makes the client connect again.

use std::collections::BTreeSet;

use appsockets_proto::client::{AuthRequest, EventType, HistoryRequest, SubscribeRequest, UnsubscribeRequest};
use bytes::Bytes;

use super::dialogue::Dialogue;
use crate::{
    event::{End, Ended, Error, Event},
    machine::Input,
    options::{Credentials, Options},
};

fn options() -> Options {
    Options::new("ws://127.0.0.1:1", "shop")
}

fn payload(bytes: usize) -> Credentials {
    Credentials::Payload(Bytes::from(vec![0; bytes]))
}

#[test]
fn requests_that_are_too_large_are_answered_and_not_sent() {
    let mut dialogue = Dialogue::connected();
    let request = HistoryRequest { channel: "x".repeat(70_000), ..HistoryRequest::default() };
    dialogue.input(Input::History { token: 1, request });
    dialogue.input(Input::Authenticate { token: 2, credentials: payload(70_000) });
    assert_eq!(dialogue.answers, [(1, Err(Error::TooLarge)), (2, Err(Error::TooLarge))]);
    assert_eq!(dialogue.sent, []);
    // The largest that the node takes is sent: an Auth and its envelope have 12 bytes more than the payload here.
    dialogue.input(Input::Authenticate { token: 3, credentials: payload(64 * 1024 - 11) });
    dialogue.input(Input::Authenticate { token: 4, credentials: payload(64 * 1024 - 12) });
    assert_eq!(dialogue.answers[2..], [(3, Err(Error::TooLarge))]);
    assert_eq!(dialogue.take::<AuthRequest>(EventType::Auth).len(), 1);
}

#[test]
fn credentials_that_are_too_large_end_the_client() {
    let mut options = options();
    options.credentials = Some(payload(70_000));
    let mut dialogue = Dialogue::new(&options, 64 * 1024);
    dialogue.connect();
    assert_eq!(dialogue.sent, []);
    let Some(End::Credentials(failure)) = dialogue.end else { panic!("{:?}", dialogue.end) };
    assert_eq!((failure.code, failure.retry), (102, false));
}

#[test]
fn many_long_names_are_asked_for_and_left_in_messages_that_the_node_takes() {
    let mut dialogue = Dialogue::new(&options(), 1_000);
    let names: BTreeSet<_> = (0..20).map(|number| format!("{number:0>255}")).collect();
    for (id, name) in (0..).zip(&names) {
        dialogue.subscribe(id, name, Some("epoch:1"));
    }
    dialogue.subscribe(100, &"x".repeat(2_000), None);
    dialogue.connect();
    // Every message is held to the bound by the dialogue.
    let requests = dialogue.take::<SubscribeRequest>(EventType::Subscribe);
    assert!(requests.len() < names.len(), "{}", requests.len());
    let asked: BTreeSet<_> =
        requests.into_iter().flat_map(|request| request.channels).map(|info| info.channel).collect();
    assert_eq!(asked, names);
    let Some((100, Event::Ended(Ended::Refused(failure)))) = dialogue.events.pop() else { panic!("not refused") };
    assert_eq!((failure.code, failure.retry), (102, false));
    (0..20).for_each(|id| dialogue.input(Input::Leave { id }));
    let mut left = BTreeSet::new();
    while let Some(request) = dialogue.take::<UnsubscribeRequest>(EventType::Unsubscribe).pop() {
        left.extend(request.channels.clone());
        dialogue.left(request);
    }
    assert_eq!(left, names);
}
