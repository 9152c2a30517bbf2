//! Random runs: what clients, administrators, stores and the network do, one step after the other.

use proptest::{collection::vec, prelude::*};

pub const CLIENTS: usize = 4;
pub const CHANNELS: [&str; 3] = ["a", "b", "u:ann"];
pub const USERS: [&str; 3] = ["ann", "ben", "reader"];

/// What a client claims to know when it subscribes.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    Nothing,
    Last,
    LastTime,
    /// A number that the channel has not reached.
    Ahead,
    /// The beginning of the last epoch that the client knows.
    Beginning,
    Bad,
}

#[derive(Clone, Copy, Debug)]
pub struct Publishing {
    pub channel: usize,
    pub key: Option<u8>,
    /// A new message under the key, not the one that was sent under it before.
    pub fresh: bool,
    pub store: bool,
    pub retain: bool,
    pub ack: bool,
}

#[derive(Clone, Debug)]
pub enum Op {
    Connect {
        client: usize,
        worker: usize,
        user: Option<usize>,
    },
    Auth {
        client: usize,
        token: usize,
        ack: bool,
    },
    AnswerAuth,
    Subscribe {
        client: usize,
        channels: Vec<(usize, Claim)>,
        ack: bool,
    },
    Unsubscribe {
        client: usize,
        channel: usize,
        ack: bool,
    },
    Publish {
        client: usize,
        publishes: Vec<Publishing>,
    },
    Break {
        client: usize,
        noticed: bool,
    },
    Restore {
        client: usize,
        worker: usize,
        user: Option<usize>,
        tell: bool,
    },
    Close {
        client: usize,
    },
    Fill {
        client: usize,
    },
    Drain {
        client: usize,
    },
    Rules {
        presence: bool,
        occupancy: bool,
        store: bool,
        retain: bool,
        anonymous: bool,
        user_channel: bool,
        a_closed: bool,
    },
    RemoveHub,
    Learn {
        worker: usize,
    },
    Pass {
        ms: u64,
    },
    SetBack,
    Store {
        ok: bool,
    },
    Arrive {
        link: usize,
        letters: usize,
    },
    Turn,
    Settle,
}

/// A run of up to `steps` steps.
pub fn script(steps: usize) -> impl Strategy<Value = Vec<Op>> {
    // Mostly everybody is there from the beginning, so that short scripts do something too.
    (prop::bool::weighted(0.9), vec(op(), 1..steps)).prop_map(|(crowded, ops)| match crowded {
        true => crowd().into_iter().chain(ops).collect(),
        false => ops,
    })
}

fn crowd() -> Vec<Op> {
    let user = |client| [None, Some(0), Some(0), Some(1)][client];
    let connects = (0..CLIENTS).map(|client| Op::Connect { client, worker: client % 2, user: user(client) });
    let channels = vec![(0, Claim::Nothing), (1, Claim::Nothing)];
    let subscribes = (0..CLIENTS).map(|client| Op::Subscribe { client, channels: channels.clone(), ack: true });
    connects.chain(subscribes).chain([Op::Settle]).collect()
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        5 => connect(),
        10 => subscribe(),
        5 => (client.clone(), channel(), any::<bool>())
            .prop_map(|(client, channel, ack)| Op::Unsubscribe { client, channel, ack }),
        30 => (client.clone(), vec(publishing(), 1..4)).prop_map(|(client, publishes)| Op::Publish { client, publishes }),
        2 => (client.clone(), 0..USERS.len() + 2, any::<bool>())
            .prop_map(|(client, token, ack)| Op::Auth { client, token, ack }),
        2 => Just(Op::AnswerAuth),
        8 => (client.clone(), any::<bool>()).prop_map(|(client, noticed)| Op::Break { client, noticed }),
        8 => (client.clone(), 0..2usize, user(), any::<bool>())
            .prop_map(|(client, worker, user, tell)| Op::Restore { client, worker, user, tell }),
        1 => client.clone().prop_map(|client| Op::Close { client }),
        3 => client.clone().prop_map(|client| Op::Fill { client }),
        3 => client.prop_map(|client| Op::Drain { client }),
        1 => prop_oneof![4 => rules(), 1 => Just(Op::RemoveHub)],
        2 => (0..2usize).prop_map(|worker| Op::Learn { worker }),
        8 => pass(),
        1 => Just(Op::SetBack),
        10 => prop::bool::weighted(0.7).prop_map(|ok| Op::Store { ok }),
        25 => (0..4usize, 1..5usize).prop_map(|(link, letters)| Op::Arrive { link, letters }),
        12 => Just(Op::Turn),
        6 => Just(Op::Settle),
    ]
}

fn connect() -> impl Strategy<Value = Op> {
    (0..CLIENTS, 0..2usize, user()).prop_map(|(client, worker, user)| Op::Connect { client, worker, user })
}

fn subscribe() -> impl Strategy<Value = Op> {
    let channels = vec((channel(), claim()), 1..3);
    (0..CLIENTS, channels, any::<bool>()).prop_map(|(client, channels, ack)| Op::Subscribe { client, channels, ack })
}

fn channel() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(2)]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        4 => Just(Claim::Nothing),
        4 => Just(Claim::Last),
        3 => Just(Claim::LastTime),
        1 => Just(Claim::Ahead),
        2 => Just(Claim::Beginning),
        1 => Just(Claim::Bad),
    ]
}

fn publishing() -> impl Strategy<Value = Publishing> {
    let key = prop_oneof![2 => Just(None), 1 => (0..2u8).prop_map(Some)];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.2), any::<bool>());
    (channel(), key, flags).prop_map(|(channel, key, (fresh, store, retain, ack))| Publishing {
        channel,
        key,
        fresh,
        store,
        retain,
        ack,
    })
}

fn rules() -> impl Strategy<Value = Op> {
    let often = || prop::bool::weighted(0.75);
    (often(), often(), often(), often(), often(), often(), prop::bool::weighted(0.25)).prop_map(
        |(presence, occupancy, store, retain, anonymous, user_channel, a_closed)| Op::Rules {
            presence,
            occupancy,
            store,
            retain,
            anonymous,
            user_channel,
            a_closed,
        },
    )
}

fn pass() -> impl Strategy<Value = Op> {
    let ms = prop_oneof![8 => 1..100u64, 6 => 100..1_000u64, 4 => 1_000..8_000u64, 1 => 20_000..150_000u64];
    ms.prop_map(|ms| Op::Pass { ms })
}

fn user() -> impl Strategy<Value = Option<usize>> {
    prop::option::of(0..USERS.len())
}
