//! What somebody may have meant who made a typing mistake.

/// Mistakes that a nearest word may be away.
const MISTAKES_MAX: usize = 2;
/// A longer word is near to nothing.
const CHARS_MAX: usize = 64;

/// The word that differs least from what was written, if it differs little.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: String = written.chars().take(CHARS_MAX).collect();
    let distance = |known: &str| strsim::osa_distance(&written.to_lowercase(), &known.to_lowercase());
    let nearest = known.into_iter().map(|known| (distance(known), known)).min()?;
    (nearest.0 <= MISTAKES_MAX).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn few_mistakes_are_forgiven() {
        let known = ["rateLimit", "channelsMax"];
        for written in ["rateLimit", "RATELIMIT", "ratelimit", "rateLimitt", "artelimit", "rate_limit"] {
            assert_eq!(nearest(written, known), Some("rateLimit"), "{written}");
        }
        assert_eq!(nearest("rate", known), None);
        assert_eq!(nearest(&"rateLimit".repeat(1000), known), None);
        assert_eq!(nearest("rateLimit", []), None);
    }
}
