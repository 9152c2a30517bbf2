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
    use sha2::{Digest, Sha256};

    include!(concat!(env!("OUT_DIR"), "/appsockets.configuration.v1.rs"));

    /// Says which keys a node uses, without saying them: SHA-256 of the keys of each secret that nodes share, and of the
    /// certificates by which it talks to operators, its own and those that it trusts, in hexadecimal.
    pub fn keys_fingerprint(shared: [std::sync::Arc<[Vec<u8>]>; 4], certificates: &[Vec<u8>]) -> String {
        let mut hash = Sha256::new();
        for keys in shared.iter().map(|keys| &**keys).chain([certificates]) {
            hash.update((keys.len() as u64).to_le_bytes());
            for key in keys {
                hash.update((key.len() as u64).to_le_bytes());
                hash.update(key);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
