//! The keys of tenants, each with the algorithms that fit it. A token names its algorithm, but never gets to use a key
//! in a way that the key is not meant for: a public key is no shared secret, and a set of keys holds no secrets.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header,
    crypto::rust_crypto::DEFAULT_PROVIDER,
    jwk::{Jwk, PublicKeyUse},
};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned, der::DecodePem};

/// The shortest shared secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;
/// The longest PEM; an RSA key of 4096 bits has 800 bytes.
const PEM_BYTES_MAX: usize = 2_048;
/// RSA keys of 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

// The kinds of keys (RFC 3279, RFC 5480, RFC 8410).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that can verify signatures.
#[derive(Clone, Debug)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub decoding: DecodingKey,
}

impl Key {
    /// Fails with a sentence for the key's owner, as do the others.
    pub fn from_secret(secret: &str) -> Result<Self, &'static str> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err("the secret must have at least 32 bytes");
        }
        let algorithms = AlgorithmFamily::Hmac.algorithms().to_vec();
        Ok(Key { id: None, algorithms, decoding: DecodingKey::from_secret(secret.as_bytes()) })
    }

    pub fn from_pem(pem: &str) -> Result<Self, &'static str> {
        if pem.len() > PEM_BYTES_MAX {
            return Err("the public key is longer than 2048 bytes");
        }
        let info = SubjectPublicKeyInfoOwned::from_pem(pem.trim());
        let info = info.map_err(|_| "the public key must be PEM that begins with -----BEGIN PUBLIC KEY-----")?;
        public_key(&info)
            .and_then(|decoding| Self::checked(None, decoding))
            .ok_or("the public key can't be used: give RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519")
    }

    /// None: not a key that verifies signatures of others, or one that can't be used.
    pub fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut key = Self::checked(jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk).ok()?)?;
        if let Some(only) = jwk.common.key_algorithm {
            key.restrict(&[only.try_into().ok()?]);
        }
        Some(key)
    }

    /// Leaves only algorithms of the list; none may be left.
    pub fn restrict(&mut self, allowed: &[Algorithm]) {
        self.algorithms.retain(|algorithm| allowed.contains(algorithm));
    }

    pub fn is_useless(&self) -> bool {
        self.algorithms.is_empty()
    }

    /// Whether this key may have signed a token with the header.
    pub fn fits(&self, header: &Header) -> bool {
        self.algorithms.contains(&header.alg) && (header.kid.is_none() || self.id.is_none() || header.kid == self.id)
    }

    /// Only what is certain to work is handed to the library later: it does not expect keys of the wrong size.
    fn checked(id: Option<String>, decoding: DecodingKey) -> Option<Self> {
        let algorithms = match decoding.family() {
            AlgorithmFamily::Hmac => return None,
            AlgorithmFamily::Rsa => rsa_algorithms(&decoding)?,
            AlgorithmFamily::Ec | AlgorithmFamily::Ed => vec![curve_algorithm(&decoding)?],
        };
        Some(Key { id, algorithms, decoding })
    }
}

/// Not by the parser of the library that verifies: that one goes as deep as the text tells it to, until the stack ends.
fn public_key(info: &SubjectPublicKeyInfoOwned) -> Option<DecodingKey> {
    let bytes = info.subject_public_key.as_bytes()?;
    match info.algorithm.oid {
        RSA => Some(DecodingKey::from_rsa_der(bytes)),
        EC => Some(DecodingKey::from_ec_der(bytes)),
        ED25519 => Some(DecodingKey::from_ed_der(bytes)),
        _ => None,
    }
}

fn rsa_algorithms(key: &DecodingKey) -> Option<Vec<Algorithm>> {
    let (modulus, exponent) = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n.len(), e.len()),
        DecodingKeyKind::SecretOrDer(der) => {
            let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).ok()?;
            (n.len(), e.len())
        }
    };
    (MODULUS_BYTES.contains(&modulus) && exponent <= 8).then(|| AlgorithmFamily::Rsa.algorithms().to_vec())
}

fn curve_algorithm(key: &DecodingKey) -> Option<Algorithm> {
    let algorithm = match (key.family(), key.try_get_as_bytes().ok()?.len()) {
        (AlgorithmFamily::Ec, 33 | 65) => Algorithm::ES256,
        (AlgorithmFamily::Ec, 49 | 97) => Algorithm::ES384,
        (AlgorithmFamily::Ed, 32) => Algorithm::EdDSA,
        _ => return None,
    };
    (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key).ok().map(|_| algorithm)
}
