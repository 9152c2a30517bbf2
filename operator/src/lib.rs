//! The AppSockets operator's decisions. They are made from all resources at once, without a call to anybody: what is
//! watched goes in, what nodes ought to serve and what each resource is told comes out.

pub mod resolve;
pub mod verdict;
pub mod world;
