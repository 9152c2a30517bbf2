//! The AppSockets protocols: the messages generated from the `.proto` files beside this crate.

/// What clients and nodes say to each other.
pub mod client {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/appsockets.client.v1.rs"));
}

/// What the nodes of one cluster say to each other.
#[cfg(feature = "cluster")]
pub mod cluster {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/appsockets.cluster.v1.rs"));
}

/// How the operator tells a node what custom resources say.
#[cfg(feature = "configuration")]
pub mod configuration {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/appsockets.configuration.v1.rs"));
}
