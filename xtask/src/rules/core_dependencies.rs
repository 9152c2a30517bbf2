//! The core depends on a closed list of crates, none of which does I/O or brings an async runtime.

use anyhow::{Context, Result};
use serde_json::Value;

use super::sources::Sources;
use crate::process;

const CORE: &str = "appsockets-core";
const ALLOWED: [&str; 10] =
    ["bytes", "foldhash", "hashbrown", "serde", "serde_json", "slab", "smallvec", "thiserror", "url", "xxhash-rust"];
/// `postcard` is how nodes write what shards say, which a measurement of them has to pay for.
const ALLOWED_IN_TESTS: [&str; 2] = ["postcard", "proptest"];

pub fn check(_: &Sources) -> Result<Vec<String>> {
    let metadata = process::cargo(["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    findings(&serde_json::from_str(&process::output(&mut { metadata })?)?)
}

fn findings(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let core =
        packages.iter().find(|package| package["name"] == CORE).with_context(|| format!("there is no {CORE}"))?;
    let dependencies = core["dependencies"].as_array().context("cargo metadata names no dependencies")?;
    Ok(dependencies.iter().filter_map(finding).collect())
}

fn finding(dependency: &Value) -> Option<String> {
    let name = dependency["name"].as_str().unwrap_or_default();
    let in_tests = dependency["kind"] == "dev";
    let allowed = ALLOWED.contains(&name) || (in_tests && ALLOWED_IN_TESTS.contains(&name));
    (!allowed).then(|| format!("{CORE} may not depend on {name}: see the list in {}", file!()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::findings;

    fn core(name: &str, kind: Value) -> Value {
        json!({"packages": [
            {"name": "appsockets-node", "dependencies": [{"name": "tokio", "kind": null}]},
            {"name": "appsockets-core", "dependencies": [{"name": "bytes", "kind": null}, {"name": name, "kind": kind}]},
        ]})
    }

    #[test]
    fn only_listed_crates_pass() {
        assert_eq!(findings(&core("serde", Value::Null)).unwrap(), [""; 0]);
        assert_eq!(findings(&core("proptest", json!("dev"))).unwrap(), [""; 0]);
        assert_eq!(findings(&core("proptest", Value::Null)).unwrap().len(), 1);
        assert_eq!(findings(&core("tokio", Value::Null)).unwrap().len(), 1);
        assert_eq!(findings(&core("tokio", json!("dev"))).unwrap().len(), 1);
        assert_eq!(findings(&core("cc", json!("build"))).unwrap().len(), 1);
    }

    #[test]
    fn without_the_core_nothing_can_be_said() {
        assert!(findings(&json!({"packages": []})).is_err());
    }
}
