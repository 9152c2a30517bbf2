//! One connected client, whatever carries it.

pub mod event;
pub mod request;
