//! Encryption under keys that follow from those of a secret: XChaCha20-Poly1305, HKDF-SHA256.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::secret::{Keys, Secret};

const NONCE_BYTES: usize = 24;

/// For one purpose. What is sealed follows the secret's first key, and what any of them has sealed can be opened.
pub struct Ciphers {
    secret: Secret,
    purpose: &'static str,
    made: ArcSwap<(Keys, Vec<XChaCha20Poly1305>)>,
}

impl fmt::Debug for Ciphers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ciphers").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Ciphers {
    pub fn new(secret: Secret, purpose: &'static str) -> Ciphers {
        let made = ArcSwap::from_pointee(make(secret.keys(), purpose));
        Ciphers { secret, purpose, made }
    }

    /// A nonce, and what it was sealed with. `bound` has to be shown again to open it.
    ///
    /// # Errors
    /// There are no random bytes, no keys, or too many bytes.
    pub fn seal(&self, plain: &[u8], bound: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let made = self.current();
        let cipher = made.1.first();
        let payload = Payload { msg: plain, aad: bound };
        let sealed = cipher.and_then(|cipher| cipher.encrypt(&XNonce::from(nonce), payload).ok());
        let sealed = sealed.ok_or_else(|| anyhow::anyhow!("it is too large, or there is no key"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// What was sealed; None: with none of the keys, or it was changed.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = || Payload { msg: sealed, aad: bound };
        self.current().1.iter().find_map(|cipher| cipher.decrypt(&XNonce::from(*nonce), payload()).ok())
    }

    fn current(&self) -> Arc<(Keys, Vec<XChaCha20Poly1305>)> {
        let made = self.made.load_full();
        let keys = self.secret.keys();
        if Arc::ptr_eq(&made.0, &keys) {
            return made;
        }
        let made = Arc::new(make(keys, self.purpose));
        self.made.store(made.clone());
        made
    }
}

fn make(keys: Keys, purpose: &str) -> (Keys, Vec<XChaCha20Poly1305>) {
    let cipher = |secret: &Vec<u8>| {
        let mut key = [0; 32];
        let made = Hkdf::<Sha256>::new(None, secret).expand(purpose.as_bytes(), &mut key);
        debug_assert!(made.is_ok(), "HKDF refuses only lengths that no key has");
        XChaCha20Poly1305::new(&key.into())
    };
    let ciphers = keys.iter().map(cipher).collect();
    (keys, ciphers)
}

#[cfg(test)]
mod tests {
    use super::Ciphers;
    use crate::secret::Secret;

    #[test]
    fn a_secret_is_exchanged_while_others_have_the_former_one() {
        let keys = |text: &str| Secret::from(text.to_owned()).keys();
        let (mine, theirs) = (Secret::from("old".to_owned()), Secret::from("old".to_owned()));
        let (me, them) = (Ciphers::new(mine.clone(), "purpose"), Ciphers::new(theirs.clone(), "purpose"));
        let reach = |from: &Ciphers, to: &Ciphers| to.open(&from.seal(b"hello", b"shop").unwrap(), b"shop").is_some();
        for (now, other) in
            [("old\nnew", "old"), ("old\nnew", "old\nnew"), ("new\nold", "old\nnew"), ("new\nold", "new")]
        {
            mine.replace(keys(now));
            theirs.replace(keys(other));
            assert!(reach(&me, &them) && reach(&them, &me), "{now:?} and {other:?}");
        }
        theirs.replace(keys("old"));
        assert!(!reach(&me, &them), "the key that was not given is accepted");
        let sealed = me.seal(b"hello", b"shop").unwrap();
        assert!(me.open(&sealed, b"bank").is_none() && me.open(&sealed[..20], b"shop").is_none());
    }
}
