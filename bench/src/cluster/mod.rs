//! The nodes of an experiment, each a process.

pub mod network;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::network::Network;
use crate::{cpu, server::free_address};

/// How long nodes are given to come to what they must come to.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a token of the experiment";
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// What does not change while nodes come and go.
pub struct Nodes {
    program: PathBuf,
    folder: TempDir,
    network: Option<Network>,
    plans: Vec<Plan>,
    expected: usize,
    /// What the nodes are configured with besides.
    more: Value,
    pub running: Vec<Option<Child>>,
}

/// Where a node is.
#[derive(Clone)]
struct Plan {
    clients: SocketAddr,
    admin: SocketAddr,
    peers: SocketAddr,
}

impl Nodes {
    /// Plans so many nodes, of which `expected` found the cluster. On a network of their own, links can be cut.
    pub fn plan(program: PathBuf, hubs: &str, count: usize, expected: usize, cuttable: bool) -> Result<Nodes> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("hubs.yaml"), hubs)?;
        let network = cuttable.then(|| Network::build(count)).transpose()?;
        let plans = (0..count).map(|index| match &network {
            Some(network) => {
                let (clients, peers) = network.addresses(index);
                Ok(Plan { clients: (clients, 8080).into(), admin: (clients, 8081).into(), peers: (peers, 7946).into() })
            }
            None => Ok(Plan { clients: free_address()?, admin: free_address()?, peers: free_address()? }),
        });
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let running = plans.iter().map(|_| None).collect();
        Ok(Nodes { program, folder, network, plans, expected, more: json!({}), running })
    }

    /// The same with more in their configuration.
    pub fn with(mut self, more: Value) -> Nodes {
        self.more = more;
        self
    }

    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the nodes are not on a network of their own")
    }

    pub fn count(&self) -> usize {
        self.plans.len()
    }

    /// Where clients connect.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.plans[index].clients
    }

    /// Where administrators connect.
    pub fn admin(&self, index: usize) -> SocketAddr {
        self.plans[index].admin
    }

    /// Of a node that runs.
    pub fn pid(&self, index: usize) -> Result<u32> {
        Ok(self.running[index].as_ref().context("the node does not run")?.id())
    }

    pub fn urls(&self) -> Vec<String> {
        self.plans.iter().map(|plan| format!("ws://{}", plan.clients)).collect()
    }

    /// Starts a node, and returns when clients can connect to it.
    pub fn start(&mut self, index: usize) -> Result<()> {
        let Plan { clients, admin, peers } = self.plans[index].clone();
        let seeds: Vec<_> = self.plans.iter().map(|plan| plan.peers.to_string()).collect();
        let mut config = json!({
            "workers": 1,
            "engine": {"drainMs": 3000},
            "admin": {"token": TOKEN},
            "cluster": {
                "listen": peers, "node": index + 1, "expectedCoreNodes": self.expected,
                "membership": {"secretKey": "the members of the experiment"},
                "rpc": {"secretKey": "the calls of the experiment"},
            },
            "discovery": {"seeds": seeds},
        });
        if let (Some(config), Some(more)) = (config.as_object_mut(), self.more.as_object()) {
            config.extend(more.clone());
        }
        let own = self.folder.path().join(format!("node{}", index + 1));
        fs::create_dir_all(&own)?;
        // JSON is YAML as well.
        fs::write(own.join("config.yaml"), config.to_string())?;
        let mut command = match &self.network {
            Some(network) => network.within(index, &self.program),
            None => Command::new(&self.program),
        };
        command.args(["--listen", &clients.to_string(), "--admin", &admin.to_string(), "--config"]);
        command.arg(own.join("config.yaml")).arg("--hubs").arg(self.folder.path().join("hubs.yaml"));
        command.arg("--data").arg(own.join("data")).stdout(Stdio::piped()).stdin(Stdio::null());
        if std::env::var_os("APPSOCKETS_DEBUG__LEVEL").is_none() {
            command.env("APPSOCKETS_DEBUG__LEVEL", "error");
        }
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                cpu::raise_descriptors();
                Ok(())
            });
        }
        let mut child = command.spawn().context("a node can't be started")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a node has no output")?).read_line(&mut line)?;
        ensure!(line.starts_with("listening on "), "node {} does not listen", index + 1);
        self.running[index] = Some(child);
        Ok(())
    }

    /// Sends a signal to a node's process.
    pub fn signal(&self, index: usize, signal: libc::c_int) -> Result<()> {
        let child = self.running[index].as_ref().context("the node does not run")?;
        let pid = libc::pid_t::try_from(child.id())?;
        // SAFETY: the child has not been waited for, so the id is still its own.
        ensure!(unsafe { libc::kill(pid, signal) } == 0, "the signal was not sent");
        Ok(())
    }

    /// Waits for the end of a node that was told to end.
    pub fn ended(&mut self, index: usize) -> Result<()> {
        let mut child = self.running[index].take().context("the node does not run")?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                bail!("node {} did not end", index + 1);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    pub fn kill(&mut self, index: usize) -> Result<()> {
        let mut child = self.running[index].take().context("the node does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits until those that run are the full members of one settled view, which all of them have. Returns how long
    /// that took.
    pub fn all_serve(&self) -> Result<Duration> {
        let begin = Instant::now();
        while !self.serve_now() {
            if begin.elapsed() > PATIENCE {
                let indices = (0..self.count()).filter(|index| self.running[*index].is_some());
                let status: Vec<_> = indices.map(|index| format!("{:?}", self.status(index))).collect();
                bail!("the nodes do not come together: {}", status.join("\n"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(begin.elapsed())
    }

    fn serve_now(&self) -> bool {
        let running: Vec<_> = (0..self.count()).filter(|index| self.running[*index].is_some()).collect();
        let views = running.iter().map(|index| {
            let status = self.status(*index).ok()?;
            let members = status["view"]["members"].as_array()?;
            let full = members.iter().filter(|member| member["points"] == 128).count();
            let all = status["settled"] == true && full == running.len() && members.len() == full;
            all.then(|| (status["view"]["number"].clone(), members.clone()))
        });
        let Some(views) = views.collect::<Option<Vec<_>>>() else { return false };
        views.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// What a node knows of its cluster.
    pub fn status(&self, index: usize) -> Result<Value> {
        self.get(index, "/v1/cluster")
    }

    /// How many sessions are present in a channel, by the node.
    pub fn present(&self, index: usize, hub: &str, channel: &str) -> Result<usize> {
        let presence = self.get(index, &format!("/v1/hubs/{hub}/presence?channel={channel}"))?;
        Ok(presence["members"].as_array().map_or(0, Vec::len))
    }

    fn get(&self, index: usize, path: &str) -> Result<Value> {
        let admin = self.plans[index].admin;
        let mut tcp = TcpStream::connect_timeout(&admin, Duration::from_secs(1))?;
        tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
        let head = format!("host: {admin}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close");
        write!(tcp, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n")?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("the node does not answer")?;
        Ok(serde_json::from_str(body)?)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for mut child in self.running.drain(..).flatten() {
            // Fails only if it has ended by itself.
            _ = child.kill();
            _ = child.wait();
        }
    }
}
