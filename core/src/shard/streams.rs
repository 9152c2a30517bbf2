//! What this shard and those of other nodes say to each other, counted across sessions, so that a session can go on where the
//! last one ended.
//!
//! Of what a shard says, the other takes all up to some place, and nothing after it before their next session. When that
//! begins, each tells how far it came ([`Opening`]). What lies beyond, and what could not be said meanwhile, is lost; the
//! sender knows which channels it was about, and sees to these alone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

use foldhash::fast::FixedState;

use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    shard::{
        peer::{Body, Heard, Opening, Part, PeerMessage, Say, SayAll},
        request::Effect,
    },
};

/// Messages said last to another node that are remembered, and to one of its shards at least. A session that lost more of
/// them begins anew.
const LOG_MAX: usize = 8_192;
const LOG_LEAST: usize = 256;

/// Channels of which something is to be said when the next session goes on. With more of them it begins anew.
const UNSAID_MAX: usize = 100_000;

/// As which part of a channel something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Relay,
    Owner,
    OwnerToCopy,
    Copy,
}

/// Voices of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voices(u8);

/// How a session goes on with a shard of another node.
#[derive(Debug, PartialEq, Eq)]
pub enum Meeting {
    /// Nothing has ever been said to it of any channel, but what moves one.
    First,
    /// Nothing of what was said before counts.
    Anew,
    /// All of it does, but for this.
    GoesOn(Vec<(ChannelKey, Voices)>),
}

/// All nodes that this shard was ever in session with and that may come back.
#[derive(Debug, Default)]
pub struct Streams(BTreeMap<NodeId, Stream>);

#[derive(Debug)]
struct Stream {
    /// A link lives, and both nodes have the same view.
    on: bool,
    /// By the other node's shard.
    pairs: Vec<Pair>,
}

/// This shard and one of the other node.
#[derive(Default)]
struct Pair {
    /// Messages that were ever said to it.
    said: u64,
    /// The last of them, those without a lasting meaning left out, each with its place.
    log: VecDeque<(u64, ChannelKey, Voice)>,
    /// All from here on is in the log.
    known_from: u64,
    /// What could not be said since the last session.
    unsaid: HashMap<ChannelKey, Voices, FixedState>,
    /// With what the session has begun; none while there is none.
    opening: Option<Opening>,
    /// It has begun the session too.
    met: bool,
    /// So it has in some session.
    ever_met: bool,
    /// The last session in which both are known to have met, and the last in which this one has; with their views.
    heard: Vec<(Heard, u64)>,
}

impl Voices {
    pub fn has(self, voice: Voice) -> bool {
        self.0 & 1 << voice as u8 != 0
    }

    pub fn without(self, voice: Voice) -> Voices {
        Voices(self.0 & !(1 << voice as u8))
    }

    fn add(&mut self, voice: Voice) {
        self.0 |= 1 << voice as u8;
    }
}

impl Voice {
    /// What moves a channel is asked for anew in each session.
    fn of(say: &Say) -> Option<Voice> {
        match say {
            Say::Owner(_) => Some(Voice::Relay),
            Say::Relay(_) => Some(Voice::Owner),
            Say::Copy(_) => Some(Voice::OwnerToCopy),
            Say::Confirm(_) => Some(Voice::Copy),
            Say::Move(_) => None,
        }
    }
}

impl Streams {
    /// A session begins with a node that has so many shards. What was said to this node before the view `since` no longer
    /// stands. Returns what is to be said first.
    pub fn begin(&mut self, peer: NodeId, shards: u64, since: u64) -> SayAll {
        let stream = self.0.entry(peer).or_insert_with(|| Stream { on: false, pairs: Vec::new() });
        stream.on = true;
        stream.pairs.resize_with(shards.clamp(1, u64::from(u16::MAX)) as usize, Pair::default);
        SayAll::Begin { with: stream.pairs.iter_mut().map(|pair| pair.begin(since)).collect() }
    }

    pub fn end(&mut self, peer: NodeId) {
        if let Some(stream) = self.0.get_mut(&peer) {
            stream.end();
        }
    }

    pub fn end_all(&mut self) {
        self.0.values_mut().for_each(Stream::end);
    }

    /// Nothing more will be heard of the node.
    pub fn forget(&mut self, peer: NodeId) {
        self.0.remove(&peer);
    }

    /// Whether a session has begun here.
    pub fn is_on(&self, peer: NodeId) -> bool {
        self.0.get(&peer).is_some_and(|stream| stream.on)
    }

    pub fn on(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().filter(|(_, stream)| stream.on).map(|(peer, _)| *peer)
    }

    /// Whether the shard that has the channel there has begun the session as well.
    pub fn reaches(&self, peer: NodeId, key: &ChannelKey) -> bool {
        self.0.get(&peer).is_some_and(|stream| stream.on && stream.pairs[stream.index(key)].met)
    }

    pub fn all_met(&self, peer: NodeId) -> bool {
        self.0.get(&peer).is_some_and(|stream| stream.on && stream.pairs.iter().all(|pair| pair.met))
    }

    /// Says something of a channel, or notes that it was not said.
    pub fn say(&mut self, view: u64, to: NodeId, key: &ChannelKey, say: Say, effects: &mut Vec<Effect>) {
        let Some(stream) = self.0.get_mut(&to) else { return };
        let (on, index) = (stream.on, stream.index(key));
        let log_max = LOG_LEAST.max(LOG_MAX / stream.pairs.len());
        let pair = &mut stream.pairs[index];
        match Voice::of(&say) {
            Some(voice) if !pair.met => return pair.note(key, voice),
            Some(voice) => pair.log(key, voice, log_max),
            None if !on => return,
            None => pair.said += 1,
        }
        let message = PeerMessage { view, side: false, body: Body::Channel { key: key.clone(), say } };
        effects.push(Effect::Send { to, message });
    }

    /// To all shards of the node.
    pub fn say_all(&mut self, view: u64, to: NodeId, from: Part, say: SayAll, effects: &mut Vec<Effect>) {
        let Some(stream) = self.0.get_mut(&to).filter(|stream| stream.on) else { return };
        stream.pairs.iter_mut().for_each(|pair| pair.said += 1);
        effects.push(Effect::Send { to, message: PeerMessage { view, side: false, body: Body::All { from, say } } });
    }

    /// Something is to be said when the next session goes on. A node that never was in session is told everything.
    pub fn note(&mut self, to: NodeId, key: &ChannelKey, voice: Voice) {
        if let Some(stream) = self.0.get_mut(&to) {
            let index = stream.index(key);
            stream.pairs[index].note(key, voice);
        }
    }

    /// What the node has said of the channel no longer stands: its next session with the shard that has it begins anew.
    pub fn begin_anew(&mut self, node: NodeId, key: &ChannelKey) {
        if let Some(stream) = self.0.get_mut(&node) {
            let index = stream.index(key);
            stream.pairs[index].heard.clear();
        }
    }

    /// Counts a message of that shard about the channel, or one to all of this node. False if it comes before the shard has
    /// begun the session: it was said in the last one.
    pub fn takes(&mut self, from: NodeId, key: Option<&ChannelKey>, part: Option<Part>) -> bool {
        let Some(stream) = self.0.get_mut(&from).filter(|stream| stream.on) else { return false };
        let index = part.map(|part| part.index as usize).or(key.map(|key| stream.index(key)));
        let Some(pair) = index.and_then(|index| stream.pairs.get_mut(index)).filter(|pair| pair.met) else {
            return false;
        };
        if let Some((heard, _)) = pair.heard.last_mut() {
            heard.upto += 1;
        }
        true
    }

    /// A shard of another node has begun the session, too. None if it has done so before, or is none of them.
    pub fn meet(&mut self, from: NodeId, part: Part, theirs: &Opening, view: u64) -> Option<Meeting> {
        let stream = self.0.get_mut(&from).filter(|stream| stream.on)?;
        stream.pairs.get_mut(part.index as usize)?.meet(theirs, view)
    }
}

/// Without what was said: it is long, and what is shown of a shard is to be read.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { said, known_from, unsaid, met, heard, .. } = self;
        write!(f, "{said} said after {known_from}, {} unsaid, met: {met}, {heard:?}", unsaid.len())
    }
}

impl Stream {
    fn index(&self, key: &ChannelKey) -> usize {
        (key.point() % self.pairs.len() as u64) as usize
    }

    fn end(&mut self) {
        self.on = false;
        self.pairs.iter_mut().for_each(|pair| (pair.opening, pair.met) = (None, false));
    }
}

impl Pair {
    fn begin(&mut self, since: u64) -> Opening {
        let heard = self.heard.iter().filter(|(_, view)| *view >= since).map(|(heard, _)| *heard).collect();
        let opening = Opening { number: self.said + 1, known_from: self.known_from, heard };
        self.met = false;
        self.opening.insert(opening).clone()
    }

    fn log(&mut self, key: &ChannelKey, voice: Voice, most: usize) {
        self.said += 1;
        self.log.push_back((self.said, key.clone(), voice));
        if self.log.len() > most
            && let Some((place, ..)) = self.log.pop_front()
        {
            self.known_from = place;
        }
    }

    fn note(&mut self, key: &ChannelKey, voice: Voice) {
        if self.heard.is_empty() {
            // The next session begins anew.
            return;
        }
        let under_way = self.opening.is_some() && !self.met;
        if self.unsaid.len() >= UNSAID_MAX && !under_way {
            self.heard.clear();
            self.unsaid = HashMap::default();
            return;
        }
        match self.unsaid.get_mut(key) {
            Some(voices) => voices.add(voice),
            None => self.unsaid.entry(key.clone()).or_default().add(voice),
        }
    }

    /// Both sides know the two openings, and come to the same.
    fn meet(&mut self, theirs: &Opening, view: u64) -> Option<Meeting> {
        let ours = self.opening.as_ref().filter(|_| !self.met)?;
        let pairs = ours.heard.iter().rev().flat_map(|ours| theirs.heard.iter().map(move |theirs| (ours, theirs)));
        let last = pairs.into_iter().find(|(ours, theirs)| (ours.ours, ours.theirs) == (theirs.theirs, theirs.ours));
        let whole =
            last.filter(|(of_theirs, of_ours)| of_ours.upto >= ours.known_from && of_theirs.upto >= theirs.known_from);
        let new = (Heard { ours: ours.number, theirs: theirs.number, upto: theirs.number }, view);
        let meeting = match whole.map(|(of_theirs, of_ours)| (of_theirs.ours, of_ours.upto)) {
            Some((last, upto)) => {
                self.heard.retain(|(heard, _)| heard.ours == last);
                let mut lost = std::mem::take(&mut self.unsaid);
                for (_, key, voice) in self.log.iter().filter(|(place, ..)| *place > upto) {
                    lost.entry(key.clone()).or_default().add(*voice);
                }
                Meeting::GoesOn(lost.into_iter().collect())
            }
            None => {
                self.heard.clear();
                self.log.clear();
                self.unsaid = HashMap::default();
                self.known_from = ours.number;
                if self.ever_met { Meeting::Anew } else { Meeting::First }
            }
        };
        self.heard.push(new);
        (self.met, self.ever_met) = (true, true);
        Some(meeting)
    }
}

#[cfg(test)]
mod tests {
    use super::{Meeting, Opening, Pair, UNSAID_MAX, Voice};
    use crate::channel::ChannelKey;

    const MOST: usize = 4;

    fn key(name: &str) -> ChannelKey {
        ChannelKey::new("shop", name)
    }

    fn begin(pair: &mut Pair) -> Opening {
        let opening = pair.begin(1);
        pair.said += 1;
        opening
    }

    /// Both begin a session, and both hear so.
    fn meet(a: &mut Pair, b: &mut Pair, view: u64) -> [Option<Meeting>; 2] {
        let (of_a, of_b) = (begin(a), begin(b));
        [a.meet(&of_b, view), b.meet(&of_a, view)]
    }

    /// Says so much, of which so much is taken.
    fn say(a: &mut Pair, b: &mut Pair, names: &[&str], taken: u64) {
        names.iter().for_each(|name| a.log(&key(name), Voice::Relay, MOST));
        b.heard.last_mut().expect("a session").0.upto += taken;
    }

    fn lost(meeting: &Option<Meeting>) -> Vec<ChannelKey> {
        let Some(Meeting::GoesOn(lost)) = meeting else { panic!("{meeting:?}") };
        let mut keys: Vec<_> = lost.iter().map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn what_was_not_taken_or_not_said_is_lost() {
        let (mut a, mut b) = (Pair::default(), Pair::default());
        assert_eq!(meet(&mut a, &mut b, 1), [Some(Meeting::First), Some(Meeting::First)]);
        say(&mut a, &mut b, &["one", "two", "three"], 2);
        a.note(&key("four"), Voice::Copy);
        let meetings = meet(&mut a, &mut b, 2);
        assert_eq!(lost(&meetings[0]), [key("four"), key("three")]);
        assert_eq!(lost(&meetings[1]), []);
        let meetings = meet(&mut a, &mut b, 3);
        assert_eq!((lost(&meetings[0]), lost(&meetings[1])), (vec![], vec![]));
    }

    #[test]
    fn a_session_that_one_side_did_not_meet_in_is_passed_over() {
        let (mut a, mut b) = (Pair::default(), Pair::default());
        meet(&mut a, &mut b, 1);
        say(&mut a, &mut b, &["one", "two"], 1);
        let (_, of_b) = (begin(&mut a), begin(&mut b));
        assert_eq!(lost(&a.meet(&of_b, 2)), [key("two")]);
        a.log(&key("three"), Voice::Relay, MOST);
        let meetings = meet(&mut a, &mut b, 3);
        assert_eq!(lost(&meetings[0]), [key("three"), key("two")]);
        assert_eq!(lost(&meetings[1]), []);
    }

    #[test]
    fn both_begin_anew_where_more_is_lost_than_is_known_or_a_side_has_forgotten() {
        let (mut a, mut b) = (Pair::default(), Pair::default());
        meet(&mut a, &mut b, 1);
        say(&mut a, &mut b, &["one", "two", "three", "four", "five"], 0);
        assert_eq!(meet(&mut a, &mut b, 2), [Some(Meeting::Anew), Some(Meeting::Anew)]);
        b.heard.clear();
        assert_eq!(meet(&mut a, &mut b, 3), [Some(Meeting::Anew), Some(Meeting::Anew)]);
        let (of_a, of_b) = (a.begin(4), b.begin(3));
        a.said += 1;
        b.said += 1;
        assert_eq!([a.meet(&of_b, 4), b.meet(&of_a, 4)], [Some(Meeting::Anew), Some(Meeting::Anew)]);
    }

    #[test]
    fn both_begin_anew_where_more_could_not_be_said_than_is_remembered() {
        let (mut a, mut b) = (Pair::default(), Pair::default());
        meet(&mut a, &mut b, 1);
        (a.opening, a.met) = (None, false);
        for number in 0..UNSAID_MAX {
            a.note(&key(&number.to_string()), Voice::Relay);
        }
        assert_eq!(lost(&meet(&mut a, &mut b, 2)[0]).len(), UNSAID_MAX);
        (a.opening, a.met) = (None, false);
        for number in 0..=UNSAID_MAX {
            a.note(&key(&number.to_string()), Voice::Relay);
        }
        assert!(a.unsaid.is_empty());
        assert_eq!(meet(&mut a, &mut b, 3), [Some(Meeting::Anew), Some(Meeting::Anew)]);
    }
}
