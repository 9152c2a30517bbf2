//! Enough of Rust's grammar to judge sources by: where code is, what is imported, where an item ends.

/// The source with comments, strings and characters blanked; lines keep their numbers and bytes their places.
pub fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match opaque_length(rest, in_word) {
            Some(length) => {
                let (opaque, after) = rest.split_at(length);
                code.extend(opaque.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

/// The length of the comment, string or character that begins here, if one does.
fn opaque_length(text: &str, in_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    if text.starts_with('"') {
        return Some(quoted_length(text, '"'));
    }
    if text.starts_with('\'') {
        // Without a closing quote after one character it is a lifetime.
        let is_char = text.starts_with("'\\") || text.chars().nth(2) == Some('\'');
        return is_char.then(|| quoted_length(text, '\''));
    }
    let raw = text.strip_prefix('b').unwrap_or(text).strip_prefix('r').filter(|_| !in_word)?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    raw[hashes..].starts_with('"').then(|| raw_string_length(text, hashes))
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn raw_string_length(text: &str, hashes: usize) -> usize {
    let start = text.find('"').map_or(text.len(), |quote| quote + 1);
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// What the `use` declarations import, groups expanded, each with the line of its declaration.
pub fn use_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let begins = code[..at].trim_end_matches([' ', '\n']).chars().next_back();
        let is_declaration = begins.is_none_or(|c| ";{})]".contains(c)) || code[..at].trim_end().ends_with("pub");
        if let (true, Some((tree, _))) = (is_declaration, code[at + 4..].split_once(';')) {
            let line = line_of(code, at);
            let mut expanded = Vec::new();
            expand("", tree, &mut expanded);
            paths.extend(expanded.into_iter().map(|path| (line, path)));
        }
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    for branch in split_at_commas(tree) {
        let branch = branch.trim();
        match branch.split_once('{') {
            Some((start, group)) => {
                let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
                expand(&format!("{prefix}{}", start.trim()), group, paths);
            }
            None if branch.is_empty() => {}
            None => {
                let name = branch.split_whitespace().next().unwrap_or_default();
                let path = format!("{prefix}{name}");
                let path = path.strip_suffix("::self").unwrap_or(&path).trim_start_matches(':');
                paths.push(path.to_owned());
            }
        }
    }
}

/// The parts between commas that stand in no inner group.
fn split_at_commas(tree: &str) -> Vec<&str> {
    let mut depth = 0;
    tree.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

/// A function's name, its line, and how many lines it takes with its signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: &'a str,
    pub line: usize,
    pub lines: usize,
}

/// The functions with a body, also those inside others.
pub fn functions(code: &str) -> Vec<Function<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name = code[at + 3..].split(|c| !is_word(c)).next().unwrap_or_default();
        let end = item_end(code, at);
        // `fn` ends other words too, and a type such as `fn (u8)` has no name.
        if !name.is_empty() && !code[..at].ends_with(is_word) && code[..end].ends_with('}') {
            functions.push(Function { name, line: line_of(code, at), lines: code[at..end].lines().count() });
        }
    }
    functions
}

/// The code with every item under `#[cfg(test)]` blanked.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = code.to_owned();
    while let Some(at) = kept.find(MARK) {
        let end = item_end(&kept, at + MARK.len());
        let blank: String = kept[at..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        kept.replace_range(at..end, &blank);
    }
    kept
}

/// Where the item that begins here ends: after its body, or after a semicolon that comes before any body.
fn item_end(code: &str, start: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            _ => {}
        }
        if matches!(c, '}' | ';') && braces == 0 && brackets == 0 {
            return start + at + 1;
        }
    }
    code.len()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::{Function, code_only, functions, use_paths, without_tests};

    #[test]
    fn what_is_no_code_is_blanked() {
        let source = "a /* x /* y */ } */ b // {\n\"}\\\"{\" c r#\"}\"{\"# d '}' e '\\'' f 'life g br\"{\" h\n\"\n\" i";
        let code = code_only(source);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f", "'life", "g", "h", "i"]);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn groups_of_imports_are_expanded() {
        let code = "pub use a::b;\nuse c::{self, d as e, f::{g, h::*}};\nlet reuse = 1;";
        let expected = [(1, "a::b"), (2, "c"), (2, "c::d"), (2, "c::f::g"), (2, "c::f::h::*")];
        assert_eq!(use_paths(code), expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let code = "trait T {\n  fn none(a: [u8; 3]);\n}\nfn two(f: fn(u8)) -> X {\n  if a {} }\nfn one() {}";
        let expected = [Function { name: "two", line: 4, lines: 2 }, Function { name: "one", line: 6, lines: 1 }];
        assert_eq!(functions(code), expected);
    }

    #[test]
    fn test_modules_do_not_count() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n#[cfg(test)]\nmod c;\nfn d() {}";
        let names: Vec<_> = functions(&without_tests(code)).iter().map(|function| function.line).collect();
        assert_eq!(names, [1, 8]);
    }
}
