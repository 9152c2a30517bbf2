//! The deciding of views by whole clusters in one thread: whatever breaks, no two views share a number, and when
//! nothing breaks any more all nodes come to the same one.
//!
//! [`world`] drives the machines, [`wires`] carries their messages, [`chaos`] makes trouble from a seed, [`judge`] sees
//! everything and checks what must always hold, [`fault`] breaks a rule on purpose. [`runs`] plays the seeds; the other
//! files are plain examples.

mod chance;
mod chaos;
mod examples;
mod fault;
mod judge;
mod planned;
mod runs;
mod wires;
mod world;
