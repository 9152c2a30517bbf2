//! What breaks a cluster on purpose: texts of the source, and what stands there instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
};

use anyhow::{Context, Result, bail};

/// One way in which the protocol is broken, as a file of `core/tests/simulation/broken` says it.
#[derive(Debug)]
pub struct Variant {
    pub name: String,
    /// What is broken, in a sentence.
    pub sentence: String,
    /// The plans that are tried; none for those of any run.
    pub aimed: Option<String>,
    /// What the simulation lacks to catch it.
    pub waits_for: Option<String>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    path: String,
    before: String,
    after: String,
}

const BEFORE: &str = "\n--- before\n";
const AFTER: &str = "\n--- after\n";

impl Variant {
    /// All of a folder, by name.
    pub fn read_all(folder: &Path) -> Result<Vec<Variant>> {
        let files = fs::read_dir(folder).with_context(|| format!("there is no {}", folder.display()))?;
        let mut paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        paths.sort();
        let read = |path: &Path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(path)?;
            Variant::parse(&name, &text).with_context(|| format!("{} can't be understood", path.display()))
        };
        paths.iter().map(|path| read(path)).collect()
    }

    fn parse(name: &str, text: &str) -> Result<Variant> {
        let mut parts = text.split("\nfile: ");
        let head = parts.next().unwrap_or_default();
        let told =
            |what: &str| head.lines().find_map(|line| line.strip_prefix(what)).map(|text| text.trim().to_owned());
        let edits = parts.map(Edit::parse).collect::<Result<Vec<_>>>()?;
        if edits.is_empty() {
            bail!("it changes nothing");
        }
        Ok(Variant {
            name: name.to_owned(),
            sentence: head.lines().next().unwrap_or_default().to_owned(),
            aimed: told("aimed: "),
            waits_for: told("waits for: "),
            edits,
        })
    }
}

impl Edit {
    fn parse(part: &str) -> Result<Edit> {
        let (path, rest) = part.split_once(BEFORE).context("a file without a text before")?;
        let (before, after) = rest.split_once(AFTER).context("a text before without one after")?;
        Ok(Edit { path: path.trim().to_owned(), before: before.to_owned(), after: after.trim_end().to_owned() })
    }
}

/// The files that the variants change, with all changes in them. Each takes effect only where its variant is asked for.
pub fn apply(root: &Path, variants: &[Variant]) -> Result<BTreeMap<String, String>> {
    let all = || variants.iter().flat_map(|variant| variant.edits.iter().map(move |edit| (variant, edit)));
    let paths: BTreeSet<_> = all().map(|(_, edit)| edit.path.clone()).collect();
    let mut changed = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("could not read {path}"))?;
        let mut places = Vec::new();
        for (variant, edit) in all().filter(|(_, edit)| edit.path == path) {
            let place = find(&text, &edit.before).with_context(|| format!("the variant {} in {path}", variant.name))?;
            places.push((place, switched(&variant.name, &path, &edit.after)));
        }
        let text = splice(&text, places).with_context(|| format!("variants in {path}"))?;
        changed.insert(path, text);
    }
    Ok(changed)
}

/// Where the text stands, which has to be at one place.
fn find(text: &str, part: &str) -> Result<Range<usize>> {
    let mut places = text.match_indices(part).map(|(at, _)| at..at + part.len());
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => bail!("this is not there any more:\n{part}"),
        (Some(_), Some(_)) => bail!("this is there more than once:\n{part}"),
    }
}

fn splice(text: &str, mut places: Vec<(Range<usize>, String)>) -> Result<String> {
    places.sort_by_key(|(place, _)| place.start);
    let (mut spliced, mut at) = (String::new(), 0);
    for (place, after) in places {
        if place.start < at {
            bail!("two change the same text:\n{}", &text[place]);
        }
        spliced += &text[at..place.start];
        spliced += &after;
        at = place.end;
    }
    Ok(spliced + &text[at..])
}

/// `broken()` in a variant's text asks whether this variant is in force.
fn switched(name: &str, path: &str, after: &str) -> String {
    let home = if path.starts_with("core/src/") { "crate" } else { "appsockets_core" };
    after.replace("broken()", &format!("{home}::broken(\"{name}\")"))
}

#[cfg(test)]
mod tests {
    use super::{Variant, find, splice, switched};

    const TEXT: &str = "Nothing is kept.\nwaits for: better times\n\nfile: a.rs\n--- before\n    one\n    two\n--- after\n    \
                        three\n\nfile: b.rs\n--- before\nfour\n--- after\nfive\n";

    #[test]
    fn a_variant_is_a_sentence_and_texts_in_files() {
        let variant = Variant::parse("nothing", TEXT).unwrap();
        assert_eq!((&*variant.sentence, variant.aimed), ("Nothing is kept.", None));
        assert_eq!(variant.waits_for.as_deref(), Some("better times"));
        let edits: Vec<_> = variant.edits.iter().map(|edit| (&*edit.path, &*edit.before, &*edit.after)).collect();
        assert_eq!(edits, [("a.rs", "    one\n    two", "    three"), ("b.rs", "four", "five")]);
        assert!(Variant::parse("empty", "Nothing is changed.\n").is_err());
    }

    #[test]
    fn a_text_has_to_be_there_once() {
        assert_eq!(find("a b c", "b").unwrap(), 2..3);
        assert!(find("a b c", "d").is_err());
        assert!(find("a b b", "b").is_err());
    }

    #[test]
    fn two_may_not_change_the_same() {
        let change = |place, after: &str| (place, after.to_owned());
        assert_eq!(splice("abcd", vec![change(2..3, "y"), change(0..1, "x")]).unwrap(), "xbyd");
        assert!(splice("abcd", vec![change(0..2, "x"), change(1..3, "y")]).is_err());
    }

    #[test]
    fn a_variant_asks_for_itself() {
        assert_eq!(switched("a", "core/src/b.rs", "if broken() {"), "if crate::broken(\"a\") {");
        assert_eq!(switched("a", "core/tests/b.rs", "if broken() {"), "if appsockets_core::broken(\"a\") {");
    }
}
