//! The subscribers of one worker against a plain map of who stands where.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    fanout::{Fanout, Outcome, Subscriber},
    message::{Form, Message, Payload},
    serial::{Epoch, Serial},
    shard::delivery::Delivery,
};
use proptest::{collection::vec, prelude::*};

/// More than are kept without an index.
const SUBSCRIBERS: u32 = 80;
const EPOCH: Epoch = Epoch { view: 1, node: 1, generation: 1, counter: 1 };

#[derive(Clone, Debug)]
enum Op {
    Attach(u32),
    Detach(u32),
    /// Some messages at once; those whose number is divisible take none.
    Deliver {
        messages: u64,
        refusing: u32,
    },
    /// Something did not arrive.
    Jump(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let subscriber = 0..SUBSCRIBERS;
    prop_oneof![
        20 => subscriber.clone().prop_map(Op::Attach),
        12 => subscriber.prop_map(Op::Detach),
        4 => (1..4u64, 2..20u32).prop_map(|(messages, refusing)| Op::Deliver { messages, refusing }),
        2 => (1..4u64).prop_map(Op::Jump),
    ]
}

fn subscriber(slot: u32) -> Subscriber {
    Subscriber { slot, generation: 1 }
}

fn serial(sequence: u64) -> Serial {
    Serial { epoch: EPOCH, sequence }
}

fn delivery(first: u64, count: u64) -> Delivery {
    let message = |sequence| Message {
        serial: serial(sequence),
        ts_ms: 0,
        event: "e".into(),
        payload: Payload { bytes: "m".into(), form: Form::Text },
    };
    let messages = (first..first + count).map(|sequence| Arc::new(message(sequence))).collect();
    Delivery { key: key(), epoch: EPOCH, first, messages }
}

fn key() -> ChannelKey {
    ChannelKey::new("shop", "a")
}

proptest! {
    #[test]
    fn everybody_stands_where_a_plain_map_says(ops in vec(op(), 1..300)) {
        let (mut fanout, mut model, mut current) = (Fanout::new(1), BTreeMap::new(), 0);
        for op in ops {
            match op {
                Op::Attach(slot) => {
                    fanout.attach(&key(), subscriber(slot), serial(current));
                    model.insert(slot, current);
                }
                Op::Detach(slot) => {
                    prop_assert_eq!(fanout.detach(&key(), subscriber(slot)), model.remove(&slot).map(serial));
                }
                Op::Deliver { messages, refusing } => {
                    let mut asked = BTreeSet::new();
                    let outcome = fanout.deliver(&delivery(current + 1, messages), |subscriber| {
                        assert!(asked.insert(subscriber.slot), "asked twice");
                        subscriber.slot % refusing != 0
                    });
                    let level: BTreeSet<_> = model.iter().filter(|(_, at)| **at == current).map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(outcome, if model.is_empty() { Outcome::Nobody } else { Outcome::Delivered });
                    prop_assert_eq!(&asked, &level);
                    current += messages;
                    level.iter().filter(|slot| **slot % refusing != 0).for_each(|slot| {
                        model.insert(*slot, current);
                    });
                }
                Op::Jump(messages) => {
                    let level: BTreeSet<_> = model.iter().filter(|(_, at)| **at == current).map(|(slot, _)| *slot).collect();
                    current += messages;
                    let aside: BTreeSet<_> =
                        fanout.jump(&key(), serial(current)).iter().map(|subscriber| subscriber.slot).collect();
                    prop_assert_eq!(aside, level);
                }
            }
            for slot in 0..SUBSCRIBERS {
                prop_assert_eq!(fanout.position(&key(), subscriber(slot)), model.get(&slot).copied().map(serial));
            }
            let heard: Vec<_> = fanout.subscribers(&key()).map(|subscriber| subscriber.slot).collect();
            prop_assert_eq!(heard.len(), model.len());
            prop_assert!(heard.iter().all(|slot| model.contains_key(slot)));
            prop_assert_eq!(fanout.len(), usize::from(!model.is_empty()));
        }
    }
}

#[test]
fn what_does_not_follow_is_not_delivered() {
    let mut fanout = Fanout::new(1);
    fanout.attach(&key(), subscriber(1), serial(5));
    let other = Delivery { epoch: Epoch { counter: 2, ..EPOCH }, ..delivery(6, 1) };
    for delivery in [delivery(5, 1), delivery(7, 1), other] {
        let outcome = fanout.deliver(&delivery, |_| panic!("nobody is to be asked"));
        assert_eq!(outcome, Outcome::OutOfOrder(serial(5)));
    }
    assert_eq!(fanout.deliver(&delivery(6, 2), |_| true), Outcome::Delivered);
    assert_eq!(fanout.position(&key(), subscriber(1)), Some(serial(7)));
}
