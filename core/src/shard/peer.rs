//! What the shards of two nodes say to each other.
//!
//! Messages of one link arrive in order, and without a hole as long as the link lives. Two nodes are in *session* while a
//! link lives and both have the same view; each message belongs to one session, and one that arrives in another view is
//! dropped. When the next session begins, each side learns what of its own was dropped, and says anew what still matters of
//! that; where they can't tell, it says everything. So nothing here is repeated by a timer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::view::NodeId;
use crate::{
    channel::ChannelKey,
    code::ErrorCode,
    message::Message,
    serial::{Epoch, Serial},
    session::{event::Member, record::Record, request::Recover},
    shard::{
        delivery::Delivery,
        keys::KeyEntry,
        presence::MemberChanges,
        request::{Notice, Publish, Start},
        state::State,
    },
};

/// One message of a node's shard to those of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// The view of the session.
    pub view: u64,
    /// Whether that is a side view.
    pub side: bool,
    pub body: Body,
}

/// To the shard that has the channel there, or without a channel to all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Channel { key: ChannelKey, say: Say },
    All { from: Part, say: SayAll },
}

/// A shard among those of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub index: u64,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Say {
    Owner(ToOwner),
    Relay(ToRelay),
    Copy(ToCopy),
    Confirm(Confirm),
    Move(Move),
}

/// From a node that hears a channel, to the channel's owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToOwner {
    /// Everything that the node has of the channel: replaces what the owner knew of it.
    Listen {
        /// What its subscribers have; none before the first one is answered.
        position: Option<Serial>,
        /// The changes of presence that its subscribers have heard, as in [`State::presence_version`].
        presence: u64,
        subscribers: u64,
        members: Vec<(Member, u32)>,
        /// Not 0: another owner has told where the subscribers stand since this one did, if it ever did. It rises each time.
        astray: u64,
        /// The node was told that the channel is not certain: it is to hear when it is, even if nothing is new.
        uncertain: bool,
    },
    Publish {
        /// Rises with each publish of the node.
        counter: u64,
        /// The publish before it that was unanswered when this one was first sent; 0 if none was.
        after: u64,
        /// All before this are answered.
        oldest: u64,
        /// Where it was first sent, if it was sent before.
        repeated_since: Option<SentIn>,
        what: Submission,
    },
    Subscribe {
        number: u64,
        recover: Option<Recover>,
        /// Who begins to be present; none in a repeat, where `Listen` has told it.
        enters: Option<(Member, u32)>,
        subscribers: u64,
    },
    Enter {
        member: Member,
        attachment: u32,
    },
    Leave {
        session_id: Arc<str>,
        attachment: u32,
        /// It goes on at another node.
        moved: bool,
        subscribers: u64,
    },
    ReadPresence {
        number: u64,
    },
    /// Everything up to here has arrived.
    Seen(Serial),
}

/// The view in which something was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentIn {
    pub view: u64,
    /// Whether that is a side view.
    pub side: bool,
}

/// What an owner numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Submission {
    Message(Box<Publish>),
    Session(SessionOp),
}

/// What becomes of the session that is kept at a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SessionOp {
    Keep(Option<Arc<Record>>),
    Take,
}

/// From a channel's owner to a node that hears it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToRelay {
    Resume(Box<Resume>),
    Deliver(Arc<Delivery>),
    Notice {
        notice: Notice,
        presence: u64,
    },
    Published {
        counter: u64,
        outcome: Result<Serial, ErrorCode>,
    },
    Subscribed {
        number: u64,
        outcome: Result<Box<Start>, ErrorCode>,
        presence: u64,
    },
    Presence {
        number: u64,
        outcome: Result<Arc<[Member]>, ErrorCode>,
    },
    /// What a `Take` has taken; the outcome follows.
    Taken {
        counter: u64,
        record: Arc<Record>,
    },
    /// The session that the node has there goes on elsewhere.
    LetGo,
    /// Does the node still have the session that is kept there?
    Confirm,
    /// The channel's state is not certain yet: what was asked waits, or was refused.
    Uncertain,
    /// More was asked than could wait: say everything anew.
    Again,
}

/// How a listening node goes on: the answer to [`ToOwner::Listen`], if anything is new to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// What the node said it has.
    pub from: Serial,
    /// Whether every copy has the state. If not, nothing is missing, and nobody is to rely on the epoch yet.
    pub copied: bool,
    /// As it said with that.
    pub astray: u64,
    /// What it lacks, if nothing is missing.
    pub missed: Option<Vec<Arc<Message>>>,
    /// Where the channel stands.
    pub current: Serial,
    /// How many epochs later that is.
    pub forks: u8,
    /// If something is missing: up to where the line of the epochs is shared.
    pub known: Option<Serial>,
    /// Who is present, if the node's subscribers may not know.
    pub members: Option<Arc<[Member]>>,
    pub presence: u64,
    pub occupancy: Option<u64>,
}

/// From a channel's owner to those that keep copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToCopy {
    State(Box<State>),
    /// Numbered messages that follow each other; or none, to ask whether the copy is still one in this view.
    Entries {
        epoch: Epoch,
        entries: Vec<Entry>,
        seen: u64,
        mark: u64,
    },
    /// Who is attached, or no longer.
    Members {
        epoch: Epoch,
        version: u64,
        /// Nobody else is.
        whole: bool,
        changes: MemberChanges,
    },
    /// The channel is closed.
    Drop {
        epoch: Epoch,
    },
}

/// One numbered publish, with everything that follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub message: Arc<Message>,
    pub retain: bool,
    pub key: Option<KeyEntry>,
    /// For what is no message and goes to nobody.
    pub session: Option<SessionOp>,
    pub sender: NodeId,
    pub counter: u64,
}

/// What a copy answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Confirm {
    /// Everything up to this number is kept, and nothing will be confirmed under a lower view.
    Copied { serial: Serial, mark: u64 },
    /// What came does not follow what is kept here.
    Lacks,
    /// The copy has not heard of the channel for long. Is it still open?
    Idle(Epoch),
    /// What it has confirmed was lost: ask anew.
    Again,
}

/// What moves a channel from owner to owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Move {
    /// From the one that owned the channel in the view before and was certain of it.
    Seal(Box<State>),
    /// What a node keeps of the channel, and whether it was sealed.
    Have {
        serial: Serial,
        sealed: bool,
    },
    Fetch,
    Fetched {
        state: Box<State>,
        sealed_for: Option<NodeId>,
    },
}

/// What concerns all channels that were somebody's in the view before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SayAll {
    /// The first message of a session: where it goes on. By the receiver's shard.
    Begin { with: Vec<Opening> },
    /// All seals for the receiver are sent. With a number: what was not sealed does not exist, and since that view every
    /// publish to these channels is known. Without: the sender was not certain itself.
    End { known_since: Option<u64> },
    /// What is known of the channels that this node owned in the view before, and the asker owns now?
    Ask { before: NodeId },
    /// Everything that the node hears was said, in this session or in those that it goes on from.
    Listened,
    /// All of that was answered.
    Resumed,
    /// All of that was said to the shard that asked.
    Answered { before: NodeId, asker: u64 },
}

/// Where the sender's shard stands with one of the receiver as their session begins. Both know both openings, so they come
/// to the same: whether the session goes on from one before it, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The place of this message among all that the sender has ever said to that shard. It names the session.
    pub number: u64,
    /// The sender knows what all that it said after this place was about.
    pub known_from: u64,
    /// The sessions that the sender can go on from: at most two, the newest last.
    pub heard: Vec<Heard>,
}

/// A session in which the sender has heard the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Its number at the sender, and at the receiver.
    pub ours: u64,
    pub theirs: u64,
    /// The place of the last message of the receiver that the sender has taken in it.
    pub upto: u64,
}
