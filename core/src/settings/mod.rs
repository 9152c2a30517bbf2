//! What tenants and administrators set: resources, the snapshot of all of them, and its compiled form.

pub mod hub;
pub mod resource;
pub mod snapshot;
