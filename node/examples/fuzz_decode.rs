//! Feeds mutated messages of clients to the codec, in both formats, until the time is up.
//!
//! What is read successfully is written again as what other clients would get, and read back. A panic or a broken
//! promise ends the process with the seed and the input; the same seed brings the same inputs again.

use std::{
    process,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use appsockets_core::{
    message::Message,
    serial::{Epoch, Serial},
    session::{
        event::{Event, Position},
        request::{PublishInfo, Request, SubscribeInfo},
    },
};
use appsockets_node::codec::{DecodeError, Format, decode, encode, encode_message};
use appsockets_proto::client::{ChannelPublish, Envelope};
use clap::Parser;
use prost::Message as _;
use serde::de::IgnoredAny;

/// Mutates messages of clients and feeds them to the codec.
#[derive(Parser)]
struct Args {
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Replays the run that printed it.
    #[arg(long)]
    seed: Option<u64>,
}

/// The examples of the tests: a line for each message and format.
const EXAMPLES: &str = include_str!("../src/codec/tests/golden.txt");

/// What a mutation may put into a message: what the formats treat in a special way.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-",
    b"1e999",
    b"0.5",
    b"9007199254740992",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"\"payload\":",
    b"\"text\":\"\",",
    b"\"base64\":\"AA==\",",
    b"\"reqID\":1,",
    b"\r\n",
    b"\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x0a",
    b"\x0b",
    b"\x12",
    b"\x1a\x00",
    b"\xf0\x9f\x98\x80",
    b"\xc3",
    b"\xef\xbb\xbf",
];

/// Larger ones would only make the run slower.
const INPUT_BYTES_MAX: usize = 4096;

/// The input under test, for whoever has to report a panic.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64()?,
    };
    println!("seed {seed}");
    report_panics(seed);
    let counts = run(Chance(seed), Duration::from_secs(args.seconds));
    let Counts { inputs, read, refused } = counts;
    println!("{inputs} inputs in both formats: {read} read, {refused} refused, none failed");
    Ok(())
}

#[derive(Default)]
struct Counts {
    inputs: u64,
    read: u64,
    refused: u64,
}

fn report_panics(seed: u64) {
    std::panic::set_hook(Box::new(move |panic| {
        let input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("{panic}\nseed {seed}\ninput b\"{}\"", input.escape_ascii());
        process::abort();
    }));
}

fn run(mut chance: Chance, time: Duration) -> Counts {
    let examples = examples();
    let end = Instant::now() + time;
    let mut counts = Counts::default();
    // The clock is asked now and then only: that takes as long as reading a message.
    while !counts.inputs.is_multiple_of(256) || Instant::now() < end {
        let input = mutated(&examples, &mut chance);
        INPUT.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&input);
        counts.inputs += 1;
        for format in [Format::Json, Format::Protobuf] {
            match decode(format, &input) {
                Ok(request) => counts.read += check_request(request),
                Err(error) => counts.refused += check_refusal(&error),
            }
        }
    }
    counts
}

fn examples() -> Vec<Vec<u8>> {
    let example = |line: &str| match line.split_once(' ') {
        Some(("json", text)) => Some(text.as_bytes().to_vec()),
        Some(("protobuf", hex)) => Some(bytes(hex)),
        _ => None,
    };
    // The events that follow are nothing that a client sends.
    EXAMPLES.split("\nevent ").take(1).flat_map(str::lines).filter_map(example).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    hex.as_bytes().chunks(2).filter_map(digits).collect()
}

/// One of the examples, changed in up to eight places.
fn mutated(examples: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.pick(examples).clone();
    for _ in 0..chance.below(9) {
        mutate(&mut input, examples, chance);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn mutate(input: &mut Vec<u8>, examples: &[Vec<u8>], chance: &mut Chance) {
    let from = chance.below(input.len() + 1);
    let to = (from + chance.below(16)).min(input.len());
    match chance.below(7) {
        0 => input.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= 1 << chance.below(8)),
        1 => input.iter_mut().skip(from).take(1).for_each(|byte| *byte = chance.next() as u8),
        2 => drop(input.splice(from..to, chance.pick(TOKENS).iter().copied())),
        3 => drop(input.drain(from..to)),
        4 => {
            let repeated = input[from..to].repeat(1 + chance.below(32));
            input.splice(from..from, repeated);
        }
        5 => {
            let other = chance.pick(examples);
            let start = chance.below(other.len() + 1);
            input.splice(from..to, other[start..].iter().copied());
        }
        _ => input.truncate(from),
    }
}

fn check_refusal(error: &DecodeError) -> u64 {
    assert!(error.detail.len() <= 200, "a detail of {} bytes", error.detail.len());
    1
}

fn check_request(request: Request) -> u64 {
    match request {
        Request::Publish(publishes) => publishes.into_iter().for_each(check_publish),
        Request::Subscribe { channels, .. } | Request::Restore { positions: channels, .. } => {
            channels.into_iter().for_each(check_position);
        }
        Request::Unsubscribe { req_id, channels } => {
            check_event(&Event::Unsubscribed { req_id, channels, error: None });
        }
        Request::Pong | Request::Close | Request::Auth { .. } | Request::History(_) => {}
    }
    1
}

/// What was published reaches others as it is, in both formats.
fn check_publish(info: PublishInfo) {
    let message = Message { serial: serial(), ts_ms: 1, event: info.event, payload: info.payload };
    let mut out = Vec::new();
    encode_message(Format::Protobuf, &info.channel, &message, false, &mut out);
    let envelope = Envelope::decode(&out[..]).expect("an envelope");
    let publish = ChannelPublish::decode(envelope.payload).expect("a message");
    assert_eq!((&*publish.channel, &*publish.event), (&*info.channel, &*message.event));
    assert_eq!(publish.payload, message.payload.bytes);

    out.clear();
    encode_message(Format::Json, &info.channel, &message, false, &mut out);
    // Not read as a value: a payload may be nested more deeply, or hold greater numbers, than that takes.
    let _: IgnoredAny = serde_json::from_slice(&out).expect("JSON");
}

fn check_position(info: SubscribeInfo) {
    let position = Position { channel: info.channel, serial: serial(), recovered: Some(false), known: None };
    check_event(&Event::Position(position));
}

fn check_event(event: &Event) {
    let mut out = Vec::new();
    encode(Format::Json, event, &mut out);
    let _: IgnoredAny = serde_json::from_slice(&out).expect("JSON");
    out.clear();
    encode(Format::Protobuf, event, &mut out);
    Envelope::decode(&out[..]).expect("an envelope");
}

fn serial() -> Serial {
    Serial { epoch: Epoch { view: 1, node: 2, generation: 3, counter: 4 }, sequence: 5 }
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
