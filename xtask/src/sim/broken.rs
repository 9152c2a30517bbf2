//! `cargo xtask sim --broken`: shows that the simulation can fail. The protocol is broken on purpose, in many ways, one at
//! a time, and each has to be caught within so many seeds.
//!
//! All variants are built into one program, in a copy of the core, each behind a switch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::variant::{self, Variant};
use crate::{process, root};

/// How many seeds have to be enough.
const SEEDS: u64 = 1_000;

/// What the copy of the core has besides: the switch of the variants.
const SWITCH: &str = "
/// Whether the cluster is broken in this way.
pub fn broken(name: &str) -> bool {
    static IN_FORCE: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var(\"BROKEN\").ok());
    IN_FORCE.as_deref() == Some(name)
}
";

/// What came of a variant.
struct Verdict {
    caught: Option<String>,
    seconds: f32,
}

/// Breaks the cluster in the ways whose names hold one of these. Without any: in all ways that can be caught so far.
pub fn run(filter: &[String]) -> Result<()> {
    let variants = Variant::read_all(&root::root().join("core/tests/simulation/broken"))?;
    let program = build(&variants)?;
    let asked = |variant: &&Variant| match filter {
        [] => variant.waits_for.is_none(),
        parts => parts.iter().any(|part| variant.name.contains(&**part)),
    };
    let asked: Vec<_> = variants.iter().filter(asked).collect();
    // One that nothing can catch yet is tried only if it is asked for.
    let waits = |variant: &&Variant| filter.is_empty() && variant.waits_for.is_some();
    let (waiting, asked): (Vec<_>, Vec<_>) = asked.into_iter().partition(waits);
    if asked.is_empty() {
        bail!("no variant is named so");
    }
    if filter.is_empty() {
        stay_whole(&program, &asked)?;
    }
    let verdicts = hunt(&program, &asked)?;
    let mut missed = 0;
    for (variant, verdict) in asked.iter().zip(&verdicts) {
        missed += usize::from(verdict.caught.is_none());
        let said = verdict.caught.as_deref().unwrap_or("NOT CAUGHT");
        println!(
            "{:<22} {:>5.1} s  {said:.200}\n{:<22}          {}",
            variant.name, verdict.seconds, "", variant.sentence
        );
    }
    for waiting in waiting {
        let waits_for = waiting.waits_for.as_deref().unwrap_or_default();
        println!(
            "{:<22} not tried, until there is {waits_for}\n{:<22}          {}",
            waiting.name, "", waiting.sentence
        );
    }
    if missed > 0 {
        bail!("{missed} of {} variants are not caught in {SEEDS} seeds", asked.len());
    }
    println!("{} variants, each caught within {SEEDS} seeds", asked.len());
    Ok(())
}

/// Builds the simulation with all variants in it, and says where the program is.
fn build(variants: &[Variant]) -> Result<PathBuf> {
    let (root, scratch) = (root::root(), std::path::absolute(root::target().join("broken"))?);
    let core = scratch.join("core");
    let mut changed = variant::apply(&root, variants)?;
    let library = "core/src/lib.rs".to_owned();
    let text = fs::read_to_string(root.join(&library))?;
    changed.entry(library).or_insert(text).push_str(SWITCH);
    copy_folder(&root, "core", &scratch, &changed)?;
    let package = fs::read_to_string(root.join("core/Cargo.toml"))?;
    write_if_new(&core.join("Cargo.toml"), &without_section(&package, "[dev-dependencies]"))?;
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    write_if_new(&scratch.join("Cargo.toml"), &only_core(&workspace)?)?;
    fs::copy(root.join("Cargo.lock"), scratch.join("Cargo.lock"))?;
    let build = ["build", "--release", "--offline", "--quiet", "--package", "appsockets-core", "--example", "simulate"];
    let mut cargo = process::cargo(build);
    cargo.current_dir(&scratch).env("CARGO_TARGET_DIR", scratch.join("target")).env_remove("CARGO_MANIFEST_DIR");
    // Quick to build, and a panic is a verdict like others.
    for (setting, value) in [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1"), ("PANIC", "unwind")] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    process::run(&mut cargo)?;
    Ok(scratch.join("target/release/examples/simulate"))
}

/// Runs all of them, as many at a time as the machine has room for.
fn hunt(program: &Path, variants: &[&Variant]) -> Result<Vec<Verdict>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(variant) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = hunt_one(program, variant);
                    found.lock().expect("no hunter panics").push((&*variant.name, verdict));
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no hunter panics");
    found.sort_by_key(|(name, _)| variants.iter().position(|variant| variant.name == *name));
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

/// With no variant in force the same program finds nothing in the same plans.
fn stay_whole(program: &Path, variants: &[&Variant]) -> Result<()> {
    let aims: BTreeSet<_> = variants.iter().filter_map(|variant| variant.aimed.as_deref()).collect();
    for aim in aims {
        process::output(process::program(program, ["--seeds", "20", "--first", "--aimed", aim]).env_remove("BROKEN"))?;
    }
    Ok(())
}

fn hunt_one(program: &Path, variant: &Variant) -> Result<Verdict> {
    let began = Instant::now();
    let mut command = process::program(program, ["--seeds", &SEEDS.to_string(), "--first"]);
    if let Some(aimed) = &variant.aimed {
        command.args(["--aimed", aimed]);
    }
    let output = command.env("BROKEN", &variant.name).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("could not start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let caught = said.lines().find(|line| line.starts_with("seed ")).map(str::to_owned);
    if caught.is_none() && !output.status.success() {
        bail!("{} with {} ended {}: {said}", program.display(), variant.name, output.status);
    }
    Ok(Verdict { caught, seconds: began.elapsed().as_secs_f32() })
}

/// A copy of a folder's sources with some of them changed, without touching what is the same already, so that little is
/// built anew.
fn copy_folder(from: &Path, folder: &str, to: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(to.join(folder))?;
    let names = |folder: &Path| -> Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let wanted = names(&from.join(folder))?;
    for name in names(&to.join(folder))?.into_iter().filter(|name| !wanted.contains(name)) {
        let path = to.join(folder).join(name);
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    for path in wanted.iter().map(|name| format!("{folder}/{name}")) {
        if from.join(&path).is_dir() {
            copy_folder(from, &path, to, changed)?;
        } else if path.ends_with(".rs") {
            let text =
                changed.get(&path).map_or_else(|| fs::read_to_string(from.join(&path)), |text| Ok(text.clone()))?;
            write_if_new(&to.join(&path), &text)?;
        }
    }
    Ok(())
}

fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

fn without_section(text: &str, section: &str) -> String {
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        if line.starts_with('[') {
            inside = *line == section;
        }
        !inside
    });
    kept.collect::<Vec<_>>().join("\n") + "\n"
}

/// The workspace's description for a workspace of the core alone.
fn only_core(text: &str) -> Result<String> {
    let members = text.lines().find(|line| line.starts_with("members = [")).context("Cargo.toml names no members")?;
    Ok(text.replacen(members, "members = [\"core\"]", 1))
}

#[cfg(test)]
mod tests {
    use super::{only_core, without_section};

    #[test]
    fn a_section_ends_where_another_begins() {
        let text = "[a]\nb = 1\n[c]\nd = 2\n[e]\nf = 3\n";
        assert_eq!(without_section(text, "[c]"), "[a]\nb = 1\n[e]\nf = 3\n");
    }

    #[test]
    fn only_the_members_change() {
        assert_eq!(
            only_core("[workspace]\nmembers = [\"a\", \"b\"]\n").unwrap(),
            "[workspace]\nmembers = [\"core\"]\n"
        );
        assert!(only_core("[workspace]\n").is_err());
    }
}
