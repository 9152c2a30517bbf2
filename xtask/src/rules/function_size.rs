//! No function of the product grows beyond a screen. Tests may be long: they are read one case at a time.

use anyhow::Result;

use super::{exceptions::Exceptions, rust, sources::Sources};

const LINES_MAX: usize = 70;

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let product = sources.rust("").filter(|(path, _)| !is_test(path));
    let sizes: Vec<_> = product.flat_map(|(path, text)| sizes(path, text)).collect();
    Ok(Exceptions::read(sources, "function-size")?.judge(&sizes, LINES_MAX))
}

/// The functions of a file as `PATH:NAME`.
fn sizes(path: &str, text: &str) -> Vec<(String, usize)> {
    let code = rust::without_tests(&rust::code_only(text));
    rust::functions(&code).iter().map(|function| (format!("{path}:{}", function.name), function.lines)).collect()
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, check};
    use crate::rules::sources::Sources;

    #[test]
    fn the_limit_holds_outside_of_tests() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "x();\n".repeat(lines - 2));
        let grown = function(LINES_MAX + 1);
        let test = format!("#[cfg(test)]\nmod tests {{\n{grown}}}\n");
        let files = [("a.rs", &*function(LINES_MAX)), ("b.rs", &*grown), ("c/tests/d.rs", &*grown), ("e.rs", &*test)]
            .map(|(path, text)| (path, text.to_owned()));
        let sources = Sources::of(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
        assert_eq!(check(&sources).unwrap(), ["b.rs:f has 71 lines, and at most 70 are allowed"]);
    }
}
