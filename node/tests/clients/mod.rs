//! What the foreign clients need around them: a node, scripts that are run and judged, and a browser with its pages.

pub mod browser;
pub mod page_host;
pub mod served_node;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything may take that takes a moment.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Where the scripts are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The Python that has `websockets`.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/clients/bin/python");
    assert!(python.exists(), "{} is missing: cargo xtask test installs it", python.display());
    python
}

/// A scratch folder inside of Cargo's output folder.
pub fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The resources that the clients meet: `hubs.yaml`, with the origins of pages that may connect.
pub fn hubs(origins: &[&str]) -> String {
    let text = fs::read_to_string(folder().join("hubs.yaml")).unwrap();
    let listed: Vec<_> = origins.iter().map(|origin| format!("{origin:?}")).collect();
    let replaced = text.replace("allowedOrigins: []", &format!("allowedOrigins: [{}]", listed.join(", ")));
    assert!(replaced.contains("allowedOrigins: ["), "hubs.yaml says nothing of origins");
    replaced
}

/// Runs a script to its end, and fails with what it said if it fails or does not end.
pub fn run_script(script: &mut Command) {
    let folder = scratch();
    let said = folder.path().join("said");
    let file = fs::File::create(&said).unwrap();
    let error = file.try_clone().unwrap();
    let child = script.stdin(Stdio::null()).stdout(file).stderr(error).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{script:?}: {error}: cargo xtask test installs it"));
    let ended = ends(&mut child);
    let said = fs::read_to_string(&said).unwrap_or_default();
    assert!(ended, "{script:?} failed or did not end; it said:\n{said}");
}

/// Whether the program ends well, and in time. It is gone afterwards.
fn ends(child: &mut Child) -> bool {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.success(),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
        }
    }
}
