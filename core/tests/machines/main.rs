//! The state machines of the core, wired as a node wires them, against what a client may rely on.
//!
//! [`world`] carries out the effects of sessions and of one shard, with every message between them held in a queue that
//! the test empties at will. [`client`] and [`ledger`] judge: what one client sees, and what the owner says of its
//! messages. [`script`] makes random runs, and [`properties`] plays them. [`nodes`] has the shards of a few nodes instead,
//! for what these say to each other. The other files are plain examples.

mod anew;
mod auth;
mod broken;
mod client;
mod copying;
mod fanout;
mod heartbeat;
mod hubs;
mod keys;
mod ledger;
mod limits;
mod lost;
mod nodes;
mod openings;
mod owner;
mod play;
mod presence;
mod properties;
mod recovery;
mod requests;
mod restore;
mod resuming;
mod retained;
mod revocation;
mod script;
mod sessions;
mod sides;
mod store;
mod verdict;
mod world;
