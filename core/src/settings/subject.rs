//! Subjects of NATS, as far as settings name them.

use std::fmt::Write;

/// The longest subject, in bytes. NATS takes 4 KiB for a subject, an inbox and two lengths.
pub const SUBJECT_BYTES_MAX: usize = 1_000;
/// The longest template, in bytes: the longest name of a hub still fits in, escaped.
pub const TEMPLATE_BYTES_MAX: usize = 200;
/// Stands in a template for the name of a hub.
pub const HUB: &str = "{hub}";

/// Whether messages can be sent to it: tokens of ASCII without spaces, with `.` between them and without wildcards. It
/// does not begin with `$` or `_`, behind which are the server itself and other clients' answers.
pub fn is_subject(text: &str) -> bool {
    text.len() <= SUBJECT_BYTES_MAX && !text.starts_with(['$', '_']) && text.split('.').all(is_token)
}

/// Whether it names subjects: `*` stands for one token, and `>` at the end for one or more.
pub fn is_pattern(text: &str) -> bool {
    let (most, last) = text.rsplit_once('.').map_or((None, text), |(most, last)| (Some(most), last));
    let is_one = |token: &str| token == "*" || is_token(token);
    text.len() <= SUBJECT_BYTES_MAX
        && most.is_none_or(|most| most.split('.').all(is_one))
        && (last == ">" || is_one(last))
}

/// Whether a subject is one of those that a pattern names.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(want), Some(token)) if want == "*" || want == token => {}
            _ => return false,
        }
    }
}

/// Whether a name of a hub, put into it, makes a subject that is the hub's alone.
pub fn is_template(text: &str) -> bool {
    text.len() <= TEMPLATE_BYTES_MAX && is_subject(text) && text.split('.').filter(|token| *token == HUB).count() == 1
}

/// The subject of a hub. Whatever the name is, it becomes one token, and no other name becomes the same one: all but
/// letters and digits of ASCII, `-` and `_` is escaped as in URLs.
pub fn of_hub(template: &str, hub: &str) -> String {
    let escaped = hub.bytes().fold(String::new(), |mut token, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(token, "%{byte:02X}");
        }
        token
    });
    let tokens: Vec<_> = template.split('.').map(|token| if token == HUB { escaped.as_str() } else { token }).collect();
    tokens.join(".")
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::{SUBJECT_BYTES_MAX, TEMPLATE_BYTES_MAX, is_pattern, is_subject, is_template, matches, of_hub};
    use proptest::prelude::*;

    #[test]
    fn subjects_and_patterns() {
        let longest = "a".repeat(SUBJECT_BYTES_MAX);
        for subject in ["a", "a.b", "auth.shop-1_x", "a.$b._c", "a.{hub}.%2E", &longest] {
            assert!(is_subject(subject) && is_pattern(subject), "{subject}");
        }
        let long = format!("{longest}a");
        for text in ["", ".", "a.", ".a", "a..b", "a b", "a\t", "a\r\nPUB b", "ä", "a.*b", "a>", ">.a", &long] {
            assert!(!is_subject(text) && !is_pattern(text), "{text}");
        }
        for text in ["*", ">", "a.*", "*.a", "a.*.>"] {
            assert!(!is_subject(text) && is_pattern(text), "{text}");
        }
        for text in ["$SYS.REQ.SERVER.PING", "$JS.API.INFO", "_INBOX.x"] {
            assert!(!is_subject(text), "{text}");
        }
    }

    #[test]
    fn a_pattern_names_whole_tokens() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.b", "a", false),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "ab.c", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn templates() {
        for template in ["{hub}", "auth.{hub}", "auth.{hub}.who"] {
            assert!(is_template(template), "{template}");
        }
        let long = format!("{}.{{hub}}", "a".repeat(TEMPLATE_BYTES_MAX));
        for template in ["", "auth", "auth.x{hub}", "auth.{hub}.{hub}", "auth.{hub}.*", "$SYS.{hub}", &long] {
            assert!(!is_template(template), "{template}");
        }
        assert_eq!(of_hub("auth.{hub}.who", "shop_1-a"), "auth.shop_1-a.who");
        assert_eq!(of_hub("auth.{hub}", "a.b * >%ä"), "auth.a%2Eb%20%2A%20%3E%25%C3%A4");
        assert!(!of_hub("{hub}", "$SYS.x").starts_with('$'));
    }

    proptest! {
        #[test]
        fn every_name_has_a_subject_of_its_own(one in "\\PC{1,63}", other in "\\PC{1,63}") {
            let subject = of_hub("auth.{hub}", &one);
            prop_assert!(is_subject(&subject) && matches("auth.*", &subject), "{subject}");
            prop_assert_eq!(one == other, subject == of_hub("auth.{hub}", &other));
        }
    }
}
