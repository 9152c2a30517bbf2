//! `cargo xtask image`: the images of node and operator, without a daemon and without a registry.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{Consent, needs, process, root};

/// The programs, each in an image of its own.
pub const PROGRAMS: [&str; 2] = ["appsockets-node", "appsockets-operator"];
/// What the suite on Kubernetes runs there as well.
pub const LOAD: &str = "appsockets-bench";

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Where the archives go, which `kind load image-archive` and `ctr images import` take
    #[arg(long, default_value = "target/images")]
    output: PathBuf,
}

/// Builds the programs, makes their images, and says where they are.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER, needs::BUILDAH], &options.consent)?;
    for archive in make(&root::root().join(&options.output), Profile::Release, &PROGRAMS)? {
        println!("{}", archive.display());
    }
    Ok(())
}

/// How the programs are built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As users get them.
    Release,
    /// As the tests have built them already.
    Debug,
}

/// An archive for each program, in a folder.
pub fn make(folder: &Path, profile: Profile, programs: &[&str]) -> Result<Vec<PathBuf>> {
    let mut build = process::cargo(["build", "--locked"]);
    match profile {
        Profile::Release => {
            build.arg("--release");
            build.args(programs.iter().flat_map(|program| ["--package", program]));
        }
        // Of the whole workspace, since the features of a few packages alone would be others.
        Profile::Debug => drop(build.args(["--workspace", "--bins"])),
    }
    process::run(&mut build)?;
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    programs.iter().map(|program| image(program, profile, folder)).collect()
}

/// The name that an image has everywhere.
pub fn name(program: &str) -> String {
    format!("localhost/{program}:{}", env!("CARGO_PKG_VERSION"))
}

/// The program, the libraries that it is linked to, and the authorities that it trusts: nothing else.
fn image(program: &str, profile: Profile, folder: &Path) -> Result<PathBuf> {
    let built = if profile == Profile::Release { "release" } else { "debug" };
    let binary = root::target().join(built).join(program);
    let tree = root::target().join("image").join(program);
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("could not remove {}", tree.display()))?;
    }
    copy(&binary, &tree.join("usr/bin").join(program))?;
    for library in libraries(&binary)? {
        let path = library.strip_prefix("/").unwrap_or(&library);
        copy(&library, &tree.join(path))?;
    }
    let authorities = Path::new("etc/ssl/certs/ca-certificates.crt");
    if Path::new("/").join(authorities).exists() {
        copy(&Path::new("/").join(authorities), &tree.join(authorities))?;
    }
    let container = buildah(&["from", "--quiet", "scratch"])?;
    let made = assemble(program, &container, &tree, folder);
    buildah(&["rm", &container])?;
    made
}

fn assemble(program: &str, container: &str, tree: &Path, folder: &Path) -> Result<PathBuf> {
    let (name, entry) = (name(program), format!("[\"/usr/bin/{program}\"]"));
    buildah(&["copy", "--quiet", container, &tree.display().to_string(), "/"])?;
    buildah(&["config", "--entrypoint", &entry, "--user", "65532:65532", "--env", "PATH=/usr/bin", container])?;
    buildah(&["commit", "--quiet", "--timestamp", "0", container, &name])?;
    archive(&name, folder.join(format!("{program}.tar")))
}

fn archive(name: &str, archive: PathBuf) -> Result<PathBuf> {
    if archive.exists() {
        fs::remove_file(&archive)?;
    }
    buildah(&["push", "--quiet", name, &format!("docker-archive:{}:{name}", archive.display())])?;
    Ok(archive)
}

/// The same once more under the name of a next version, for a cluster to change to.
pub fn make_next(program: &str, folder: &Path) -> Result<()> {
    let name = name(program);
    let next = format!("{name}-next");
    buildah(&["tag", &name, &next])?;
    archive(&next, folder.join(format!("{program}-next.tar"))).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let said = || format!("could not copy {}", from.display());
    fs::create_dir_all(to.parent().context("a file is in a folder")?).with_context(said)?;
    fs::copy(from, to).with_context(said)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).with_context(said)
}

/// What the loader would load.
fn libraries(binary: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = process::output(process::program("ldd", [binary]).env("LC_ALL", "C"))?;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let libraries: BTreeSet<_> = paths.map(PathBuf::from).collect();
    match libraries.is_empty() {
        true => bail!("{} is linked to nothing: only programs for glibc are expected here", binary.display()),
        false => Ok(libraries),
    }
}

/// Without a daemon, and also where neither overlays nor new user namespaces are allowed.
fn buildah(arguments: &[&str]) -> Result<String> {
    let mut command = process::program("buildah", arguments);
    command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
    Ok(process::output(&mut command)?.trim().to_owned())
}
