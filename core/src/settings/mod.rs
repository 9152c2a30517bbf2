//! What tenants and administrators set: resources, the snapshot of all of them, and its compiled form.

pub mod compile;
pub mod entry;
pub mod hub;
pub mod object;
pub mod origin;
pub mod problem;
pub mod push;
pub mod resource;
pub mod snapshot;
pub mod subject;
pub mod validate;

#[cfg(test)]
mod tests;
