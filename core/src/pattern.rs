//! The wildcards of authorizations: `*` stands for any text, separators included; `#` for any text up to the
//! next `:`. Anything else stands for itself.

/// Whether the text matches the pattern. Takes at most pattern × text steps, whatever the pattern.
///
/// Only the last wildcard of each kind is ever tried again: a longer match of an earlier one reaches nothing that the
/// later one could not reach as well, except across a `:`, which only `*` can cross.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after the wildcard, and where the text that it stands for ends so far.
    let (mut star, mut hash) = (None, None);
    loop {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                (star, hash) = (Some((p, t)), None);
                continue;
            }
            Some(b'#') => {
                p += 1;
                hash = Some((p, t));
                continue;
            }
            Some(byte) if text.get(t) == Some(byte) => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            None if t == text.len() => return true,
            _ => {}
        }
        if let Some((after, end)) = hash
            && text.get(end).is_some_and(|byte| *byte != b':')
        {
            hash = Some((after, end + 1));
            (p, t) = (after, end + 1);
        } else if let Some((after, end)) = star
            && end < text.len()
        {
            (star, hash) = (Some((after, end + 1)), None);
            (p, t) = (after, end + 1);
        } else {
            return false;
        }
    }
}
