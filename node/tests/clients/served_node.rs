//! The built node as a process.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use tempfile::TempDir;

use super::{DEADLINE, scratch};

/// A node on a free port, with a data folder of its own. Ends with its owner.
pub struct ServedNode {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl ServedNode {
    /// Starts a node with these resources and waits until it serves.
    pub fn start(hubs: &str) -> ServedNode {
        let folder = scratch();
        let file = folder.path().join("hubs.yaml");
        fs::write(&file, hubs).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_appsockets-node"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data")).arg("--hubs").arg(file);
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut node = ServedNode { process, address: String::new(), _folder: folder };
        node.address = node.told_address();
        node
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn told_address(&mut self) -> String {
        let stdout = self.process.stdout.take().unwrap();
        let (said, heard) = mpsc::channel();
        // Reads to the end, so that the node never writes into a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    let _ = said.send(address.to_owned());
                }
            }
        });
        heard.recv_timeout(DEADLINE).expect("the node ended, or did not say where it listens")
    }
}

impl Drop for ServedNode {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
