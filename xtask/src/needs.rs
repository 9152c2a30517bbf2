//! What the tests need of the machine, and how it gets there.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::Path,
};

use anyhow::{Result, bail};

use crate::{Consent, process, tools};

/// Something of the distribution that the tests use.
pub struct Need {
    /// As one would name it to a person.
    name: &'static str,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    is_there: fn() -> bool,
}

pub const C_COMPILER: Need = Need {
    name: "a C compiler and make (SQLite and jemalloc are built from source)",
    packages: &["build-essential"],
    is_there: || process::works("cc", &["--version"]) && process::works("make", &["--version"]),
};
pub const PYTHON: Need = Need {
    name: "Python 3 with venv",
    packages: &["python3", "python3-venv"],
    is_there: || tools::python3().is_some(),
};
pub const BUILDAH: Need =
    Need { name: "buildah", packages: &["buildah"], is_there: || process::works("buildah", &["--version"]) };
pub const PROMTOOL: Need = Need {
    name: "promtool, of Prometheus",
    packages: &["prometheus"],
    is_there: || process::works("promtool", &["--version"]),
};
const NODE_JS: Need = Need {
    name: "Node.js with npm",
    packages: &["nodejs", "npm"],
    is_there: || process::works("node", &["--version"]) && process::works("npm", &["--version"]),
};
const CHROMIUM: Need = Need {
    name: "Chromium",
    packages: &["chromium"],
    is_there: || {
        ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| process::works(name, &["--version"]))
    },
};
const CURL: Need = Need { name: "curl", packages: &["curl"], is_there: || process::works("curl", &["--version"]) };

const NATS: Need = Need {
    name: "nats-server",
    packages: &["nats-server"],
    is_there: || process::works("nats-server", &["--version"]),
};

pub const GO: Need =
    Need { name: "Go 1.26 or later", packages: &["golang"], is_there: || process::works("go", &["version"]) };
/// What it takes to run Kubernetes as processes of this machine.
pub const KUBERNETES: &[Need] = &[
    Need {
        name: "containerd with runc",
        packages: &["containerd", "runc"],
        is_there: || process::works("containerd", &["--version"]) && process::works("runc", &["--version"]),
    },
    Need {
        name: "the network plug-ins of containers",
        packages: &["containernetworking-plugins"],
        is_there: || Path::new("/usr/lib/cni/bridge").exists(),
    },
    Need {
        name: "iptables, ipset, conntrack and socat",
        packages: &["iptables", "ipset", "conntrack", "socat", "iproute2"],
        is_there: || {
            let there = |name: &str| process::works(name, &["--version"]) || process::works(name, &["-V"]);
            ["iptables", "ipset", "conntrack", "socat", "ip"].iter().all(|name| there(name))
        },
    },
    Need { name: "openssl", packages: &["openssl"], is_there: || process::works("openssl", &["version"]) },
];

/// All that the tests of the whole workspace need.
pub const TESTS: &[Need] = &[C_COMPILER, PYTHON, NODE_JS, CHROMIUM, CURL, NATS];

/// Sees to it that all of it is there, and fails naming what is not.
pub fn ensure(needs: &[Need], consent: &Consent) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.name).collect();
    if !has_apt() {
        bail!("missing here: {}. Install it and run this again.", names.join(", "));
    }
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !consent.yes && !agreed(&packages)? {
        bail!("missing here: {}. Install {}, or run this again with --yes.", names.join(", "), packages.join(" "));
    }
    install(&packages)?;
    match self::missing(needs).first() {
        None => Ok(()),
        Some(need) => bail!("{} is still missing after installing {}", need.name, packages.join(" ")),
    }
}

fn missing(needs: &[Need]) -> Vec<&Need> {
    needs.iter().filter(|need| !(need.is_there)()).collect()
}

fn has_apt() -> bool {
    Path::new("/etc/debian_version").exists() && process::works("apt-get", &["--version"])
}

/// Asks the person at the terminal; where there is none, the answer is no.
fn agreed(packages: &[&str]) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    eprint!("Install {} with apt-get? [y/N] ", packages.join(" "));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn install(packages: &[&str]) -> Result<()> {
    process::run(&mut apt_get(&["update"])?)?;
    process::run(apt_get(&["install", "--yes", "--no-install-recommends"])?.args(packages))
}

fn apt_get(arguments: &[&str]) -> Result<std::process::Command> {
    let mut command = if process::output(&mut process::program("id", ["-u"]))?.trim() == "0" {
        process::program("apt-get", arguments)
    } else if process::works("sudo", &["--version"]) {
        let mut sudo = process::program("sudo", ["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo.args(arguments);
        sudo
    } else {
        bail!("installing packages takes root or sudo, and neither is here");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::{Need, missing};

    #[test]
    fn only_what_is_not_there_is_missing() {
        let needs = [
            Need { name: "there", packages: &["a"], is_there: || true },
            Need { name: "absent", packages: &["b"], is_there: || false },
        ];
        let names: Vec<_> = missing(&needs).iter().map(|need| need.name).collect();
        assert_eq!(names, ["absent"]);
    }
}
