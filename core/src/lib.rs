//! What an AppSockets node decides, and nothing of how it is carried out.
//!
//! Four kinds of state machine live here: [`session::Session`] (one per connection), [`shard::Shard`] (one per slice of
//! this node's channels), [`fanout::Fanout`] (one per worker: who hears which channel) and [`cluster::views::Views`] (one
//! per node: who owns what in the cluster). They take an input together with the time and push effects; the answer to an
//! effect comes as the next input.
//!
//! This crate knows no socket, clock, chance, database or async runtime. Time comes in as [`time::Now`], random bytes
//! as arguments. That is what lets a whole cluster run in one thread from one seed.

pub mod access;
pub mod bucket;
pub mod channel;
pub mod cluster;
pub mod code;
pub mod fanout;
pub mod identity;
pub mod message;
pub mod pattern;
pub mod serial;
pub mod session;
pub mod settings;
pub mod shard;
pub mod time;
