//! Chance, from the operating system. The core gets it as arguments.

/// 64 bits.
pub fn number() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}

/// 128 bits that nobody can guess.
pub fn secret() -> u128 {
    u128::from(number()) << 64 | u128::from(number())
}

/// A new session's id.
pub fn id() -> String {
    format!("{:032x}", secret())
}
