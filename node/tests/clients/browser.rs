//! Chromium without a window.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::scratch;

/// A browser of its own with one page. Ends with its owner.
pub struct Browser {
    process: Child,
    _profile: TempDir,
}

/// No sandbox, because the tests may run as root; nothing that calls home.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    // Keeps it running after the page has loaded.
    "--remote-debugging-port=0",
];

impl Browser {
    pub fn open(url: &str) -> Browser {
        let profile = scratch();
        let said = profile.path().join("said");
        let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| {
            let mut command = Command::new(name);
            command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().join("profile").display())).arg(url);
            // A group of its own, so that its many processes can be ended together.
            command.env("HOME", profile.path()).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
            command.spawn().ok()
        });
        let process = found.expect("Chromium is missing: cargo xtask test installs it");
        Browser { process, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = i32::try_from(self.process.id()).unwrap();
        // SAFETY: only sends a signal, to a group that is known to be ours since its leader was not waited for yet.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.process.wait();
    }
}
