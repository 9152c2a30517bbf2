//! Channels that are left: the node must learn of it, and nothing of the old subscription is taken for the new one.

use std::collections::BTreeSet;

use appsockets_proto::client::{
    Error, EventType, SessionRestore, SessionRestored, SubscribeRequest, UnsubscribeRequest, UnsubscribeResponse,
};

use super::dialogue::Dialogue;
use crate::machine::{Break, Input};

fn refuse(dialogue: &mut Dialogue, request: &UnsubscribeRequest) {
    let req_id = Some(request.req_id);
    dialogue.hear(EventType::Error, &Error { code: 103, retry: true, req_id, ..Error::default() });
}

fn restored(names: &[&str]) -> SessionRestored {
    let subscribed_channels = names.iter().map(|&name| name.to_owned()).collect();
    SessionRestored { subscribed_channels, ..SessionRestored::default() }
}

/// The connection breaks, and another one asks for the session with these serials.
fn reconnect(dialogue: &mut Dialogue) -> Vec<(String, Option<String>)> {
    dialogue.input(Input::Broken(Break::Lost));
    dialogue.wait();
    dialogue.sent.clear();
    dialogue.connect();
    let [SessionRestore { channels, .. }] = &dialogue.take(EventType::SessionRestore)[..] else { panic!("no restore") };
    channels.iter().map(|info| (info.channel.clone(), info.channel_serial.clone())).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    pairs.iter().map(|&(name, serial)| (name.to_owned(), Some(serial.to_owned()))).collect()
}

#[test]
fn many_are_left_together_and_again_where_the_node_refuses() {
    let mut dialogue = Dialogue::connected();
    let names: BTreeSet<_> = (0..300).map(|id| format!("c{id}")).collect();
    (0..300).for_each(|id| dialogue.open(id, &format!("c{id}"), "e:1"));
    (0..300).for_each(|id| dialogue.input(Input::Leave { id }));
    let (mut left, mut requests) = (BTreeSet::new(), 0);
    while left.len() < names.len() {
        requests += 1;
        let request = dialogue.leaves();
        assert!(request.channels.len() <= 64);
        if requests % 2 == 0 {
            refuse(&mut dialogue, &request);
            // Nothing is sent before its time, whatever else happens.
            dialogue.input(Input::Heard);
            assert_eq!(dialogue.sent, []);
            assert!(dialogue.due_ms() >= dialogue.now_ms + 500);
            dialogue.wait();
        } else {
            left.extend(request.channels.clone());
            dialogue.left(request);
        }
    }
    assert_eq!(left, names);
    assert!(requests < 20, "{requests}");
    assert_eq!(dialogue.sent, []);
}

#[test]
fn each_refusal_in_a_row_is_waited_out_longer_up_to_the_longest_wait() {
    let mut dialogue = Dialogue::connected();
    dialogue.open(1, "news", "e:1");
    dialogue.input(Input::Leave { id: 1 });
    for wait_ms in [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000] {
        let request = dialogue.leaves();
        refuse(&mut dialogue, &request);
        assert_eq!(dialogue.due_ms(), dialogue.now_ms + wait_ms);
        dialogue.wait();
    }
    let request = dialogue.leaves();
    dialogue.left(request);
    dialogue.open(2, "news", "e:1");
    dialogue.input(Input::Leave { id: 2 });
    let request = dialogue.leaves();
    refuse(&mut dialogue, &request);
    assert_eq!(dialogue.due_ms(), dialogue.now_ms + 500);
}

#[test]
fn what_comes_of_an_earlier_subscription_opens_no_new_one() {
    let mut dialogue = Dialogue::connected();
    dialogue.open(1, "news", "e:5");
    dialogue.input(Input::Leave { id: 1 });
    dialogue.subscribe(2, "news", Some("e:10"));
    // Under way when the channel was left.
    dialogue.position("news", "e:100", Some(true));
    dialogue.message("news", "e:101");
    let ended = UnsubscribeResponse { unsubscribed_channels: vec!["news".into()], ..UnsubscribeResponse::default() };
    dialogue.hear(EventType::Unsubscribe, &ended);
    assert_eq!((dialogue.told(), dialogue.asked()), (vec![], vec![]));
    let request = dialogue.leaves();
    dialogue.left(request);
    assert_eq!(dialogue.asked(), owned(&[("news", "e:10")]));
    dialogue.position("news", "e:10", Some(true));
    dialogue.message("news", "e:11");
    assert_eq!(dialogue.told(), [(2, "e:10".into()), (2, "e:11".into())]);
}

#[test]
fn who_comes_back_while_a_leave_is_refused_waits_and_others_do_not() {
    let mut dialogue = Dialogue::connected();
    dialogue.open(1, "news", "e:5");
    dialogue.input(Input::Leave { id: 1 });
    let request = dialogue.leaves();
    refuse(&mut dialogue, &request);
    dialogue.subscribe(2, "news", None);
    dialogue.subscribe(3, "other", None);
    assert_eq!(dialogue.asked(), [("other".into(), None)]);
    // Whoever changes their mind meanwhile was never known to the node.
    dialogue.input(Input::Leave { id: 2 });
    dialogue.subscribe(4, "news", None);
    dialogue.wait();
    let request = dialogue.leaves();
    assert_eq!(request.channels, ["news"]);
    dialogue.left(request);
    assert_eq!(dialogue.asked(), [("news".into(), None)]);
    dialogue.position("news", "e:7", None);
    assert_eq!(dialogue.told(), [(4, "e:7".into())]);
}

#[test]
fn a_session_that_is_restored_leaves_what_was_left_meanwhile() {
    // Left while there is no connection, or while the session is being restored.
    for early in [true, false] {
        let mut dialogue = Dialogue::connected();
        dialogue.open(1, "news", "e:100");
        dialogue.open(2, "other", "e:3");
        let come_back = |dialogue: &mut Dialogue| {
            dialogue.input(Input::Leave { id: 1 });
            dialogue.subscribe(3, "news", Some("e:10"));
        };
        if early {
            dialogue.input(Input::Broken(Break::Lost));
            come_back(&mut dialogue);
            assert_eq!(reconnect(&mut dialogue), owned(&[("other", "e:3")]));
        } else {
            assert_eq!(reconnect(&mut dialogue), owned(&[("news", "e:100"), ("other", "e:3")]));
            come_back(&mut dialogue);
        }
        dialogue.hear(EventType::SessionRestored, &restored(&["news", "other"]));
        dialogue.position("news", "e:100", Some(true));
        dialogue.position("other", "e:3", Some(true));
        dialogue.message("news", "e:101");
        assert_eq!((dialogue.told(), dialogue.asked()), (vec![(2, "e:3".into())], vec![]), "{early}");
        let request = dialogue.leaves();
        assert_eq!(request.channels, ["news"]);
        dialogue.left(request);
        assert_eq!(dialogue.asked(), owned(&[("news", "e:10")]), "{early}");
        dialogue.position("news", "e:10", Some(true));
        dialogue.message("news", "e:11");
        assert_eq!(dialogue.told(), [(3, "e:10".into()), (3, "e:11".into())], "{early}");
    }
}

#[test]
fn a_new_session_has_nothing_to_leave() {
    let mut dialogue = Dialogue::connected();
    dialogue.open(1, "news", "e:100");
    assert_eq!(reconnect(&mut dialogue), owned(&[("news", "e:100")]));
    dialogue.input(Input::Leave { id: 1 });
    dialogue.subscribe(2, "news", Some("e:10"));
    dialogue.hear(EventType::Error, &Error { code: 143, ..Error::default() });
    assert_eq!(dialogue.asked(), owned(&[("news", "e:10")]));
    assert_eq!(dialogue.sent, []);
}

#[test]
fn a_leave_whose_answer_was_lost_is_repeated_if_the_session_still_has_the_channel() {
    for still in [true, false] {
        let mut dialogue = Dialogue::connected();
        dialogue.open(1, "news", "e:1");
        dialogue.input(Input::Leave { id: 1 });
        dialogue.subscribe(2, "news", None);
        assert_eq!(reconnect(&mut dialogue), []);
        let names: &[&str] = if still { &["news"] } else { &[] };
        dialogue.hear(EventType::SessionRestored, &restored(names));
        if still {
            assert_eq!(dialogue.asked(), []);
            let request = dialogue.leaves();
            dialogue.left(request);
        }
        assert_eq!(dialogue.asked(), [("news".into(), None)]);
        assert_eq!(dialogue.sent, []);
    }
}

#[test]
fn a_fresh_position_is_no_answer_to_who_asks_for_what_was_missed() {
    let mut dialogue = Dialogue::connected();
    dialogue.subscribe(1, "u:anna", Some("e:10"));
    // Of the subscription that the node has made by itself.
    dialogue.position("u:anna", "e:100", None);
    dialogue.message("u:anna", "e:101");
    assert_eq!(dialogue.told(), []);
    dialogue.position("u:anna", "e:10", Some(true));
    dialogue.message("u:anna", "e:11");
    assert_eq!(dialogue.told(), [(1, "e:10".into()), (1, "e:11".into())]);
}

#[test]
fn a_hole_is_filled_by_leaving_and_asking_anew() {
    let mut dialogue = Dialogue::connected();
    dialogue.open(1, "news", "e:5");
    dialogue.message("news", "e:8");
    // Of the subscription with the hole.
    dialogue.position("news", "e:20", Some(true));
    assert_eq!(dialogue.told(), []);
    let request = dialogue.leaves();
    dialogue.left(request);
    assert_eq!(dialogue.asked(), owned(&[("news", "e:5")]));
}

#[test]
fn while_a_thousand_wait_to_be_left_no_further_channel_is_asked_for() {
    let mut dialogue = Dialogue::connected();
    (0..1_001).for_each(|id| dialogue.open(id, &format!("c{id}"), "e:1"));
    (0..1_001).for_each(|id| dialogue.input(Input::Leave { id }));
    dialogue.subscribe(2_000, "news", None);
    let mut request = dialogue.leaves();
    refuse(&mut dialogue, &request);
    dialogue.wait();
    assert_eq!(dialogue.take::<SubscribeRequest>(EventType::Subscribe), []);
    while dialogue.sent.iter().all(|envelope| envelope.event() != EventType::Subscribe) {
        request = dialogue.leaves();
        dialogue.left(request);
    }
    assert_eq!(dialogue.asked(), [("news".into(), None)]);
}
