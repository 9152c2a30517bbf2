//! The wildcards of authorizations: `*` stands for any text, separators included; `#` for any text up to the
//! next `:`. Either may stand for nothing. Anything else stands for itself.

/// Whether the text matches the pattern. Takes at most pattern × text steps, whatever they are.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let literal = pattern.iter().take_while(|byte| !is_wildcard(**byte)).count();
    let (head, rest) = pattern.split_at(literal);
    match (text.strip_prefix(head), rest) {
        (None, _) => false,
        (Some(text), []) => text.is_empty(),
        (Some(_), [b'*']) => true,
        (Some(text), rest) => matches_wildcards(rest, text),
    }
}

/// Follows all ways to match at once, because trying one after the other takes a time that grows with the square of
/// the text, and the one who chooses the text is not the one who chose the pattern.
fn matches_wildcards(pattern: &[u8], text: &[u8]) -> bool {
    // reached[p]: the first p bytes of the pattern match the text so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    pass_wildcards(pattern, &mut reached);
    for &byte in text {
        let mut before = std::mem::replace(&mut reached[0], false);
        for (p, &wanted) in pattern.iter().enumerate() {
            let taken = match wanted {
                b'*' => reached[p + 1],
                b'#' => reached[p + 1] && byte != b':',
                literal => before && literal == byte,
            };
            before = std::mem::replace(&mut reached[p + 1], taken);
        }
        pass_wildcards(pattern, &mut reached);
    }
    reached[pattern.len()]
}

/// A wildcard may stand for nothing, so what reached it has also passed it.
fn pass_wildcards(pattern: &[u8], reached: &mut [bool]) {
    for (p, &wanted) in pattern.iter().enumerate() {
        reached[p + 1] |= reached[p] && is_wildcard(wanted);
    }
}

fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'#')
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    /// The meaning of the wildcards, word for word.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => {
                naive(rest, text) || text.split_first().is_some_and(|(_, text)| naive(pattern, text))
            }
            ([b'#', rest @ ..], text) => {
                let more = |(first, text): (&u8, &[u8])| *first != b':' && naive(pattern, text);
                naive(rest, text) || text.split_first().is_some_and(more)
            }
            ([wanted, rest @ ..], [first, text @ ..]) => wanted == first && naive(rest, text),
            (_, []) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn it_means_what_the_naive_matcher_means(pattern in "[ab:*#é]{0,8}", text in "[ab:é]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        /// A random text seldom matches, so here the text is made from the pattern.
        #[test]
        fn what_was_made_from_the_pattern_matches_it(
            parts in prop::collection::vec(
                prop_oneof![
                    "[ab:]{1,2}".prop_map(|text| (text.clone(), text)),
                    "[ab:]{0,4}".prop_map(|text| ("*".to_string(), text)),
                    "[ab]{0,4}".prop_map(|text| ("#".to_string(), text)),
                ],
                0..8,
            ),
        ) {
            let (pattern, text): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            prop_assert!(matches(&pattern.concat(), &text.concat()));
        }

        #[test]
        fn a_pattern_without_wildcards_matches_only_itself(pattern in "[^*#]{0,10}", text in "[^*#]{0,10}") {
            prop_assert!(matches(&pattern, &pattern));
            prop_assert_eq!(matches(&pattern, &text), pattern == text);
        }
    }

    #[test]
    fn examples() {
        for (pattern, text, expected) in [
            ("product:*", "product:1", true),
            ("product:*", "product:1:stock", true),
            ("product:*", "product:", true),
            ("product:*", "product", false),
            ("product:#:stock", "product:1:stock", true),
            ("product:#:stock", "product::stock", true),
            ("product:#:stock", "product:1:2:stock", false),
            ("product:#:stock", "product:1:stocks", false),
            ("product:#", "product:1", true),
            ("product:#", "product:1:stock", false),
            ("*:stock", "product:1:stock", true),
            ("#:stock", "product:1:stock", false),
            ("*", "", true),
            ("#", "", true),
            ("#", ":", false),
            ("#*", "a:b", true),
            ("", "", true),
            ("", "a", false),
            ("Product", "product", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// A matcher that goes back and tries again would never come to the end of these.
    #[test]
    fn a_costly_pattern_ends() {
        let text = "a".repeat(255);
        assert!(!matches(&"*a#a".repeat(60), &format!("{text}b")));
        assert!(matches(&"*a#a".repeat(60), &text));
    }
}
