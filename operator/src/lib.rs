//! The AppSockets operator: from custom resources to what nodes serve.
//!
//! What is watched is decided upon as a whole and without a call to anybody ([`resolve`]); what clusters are made of
//! ([`children`]) and what resources are told ([`status`]) follows in the same way. The other parts carry that out.

pub mod apply;
pub mod children;
pub mod cluster_status;
pub mod decide;
pub mod events;
pub mod keys;
pub mod lease;
pub mod leaving;
pub mod link;
pub mod metrics;
pub mod plugin;
pub mod pods;
pub mod resolve;
pub mod rolling;
pub mod rollout;
pub mod rotation;
pub mod serve;
pub mod status;
pub mod statuses;
pub mod told;
pub mod verdict;
pub mod watching;
pub mod world;
