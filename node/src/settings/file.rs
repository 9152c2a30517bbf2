//! Settings in a file: YAML, one resource for each document.
//!
//! Everything that is wrong is told at once, with its line, and a file with anything wrong is not used at all.

use std::{
    collections::HashMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use appsockets_core::settings::{
    entry::{Entry, Source},
    problem::Problem,
    resource::Resource,
    snapshot::Snapshot,
};
use xxhash_rust::xxh3::xxh3_128;

use super::document;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// All resources of a file, or all that is wrong with it.
///
/// # Errors
/// A document can't be read or is not valid, two documents are about the same resource, or a resource names another
/// one that is not in the file.
pub fn parse(text: &str) -> Result<Vec<Resource>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut resources = Vec::new();
    let mut lines = HashMap::new();
    for document in document::split(text) {
        match document.parse() {
            Ok(resource) => {
                let found = resource.problems().into_iter().map(|problem| problem.within(&document));
                problems.extend(found);
                if let Some(first) = lines.insert(resource.id(), document.line) {
                    let sentence = format!("{} is in line {first} already: leave one of them out.", resource.id());
                    problems.push(Problem::new(document.to_string(), sentence));
                }
                resources.push(resource);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        problems = missing(&resources);
    }
    if problems.is_empty() { Ok(resources) } else { Err(problems) }
}

/// As the snapshot takes them.
pub fn entries(resources: Vec<Resource>) -> Vec<Arc<Entry>> {
    resources.into_iter().map(|resource| Arc::new(Entry::new(Source::File, "", 0, resource))).collect()
}

/// What the resources name and the file does not have.
fn missing(resources: &[Resource]) -> Vec<Problem> {
    let compiled = Snapshot::from_sources(entries(resources.to_vec())).compile(None);
    compiled.problems.into_values().flatten().collect()
}

/// A file that is looked at again and again.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    /// What was last acted upon.
    taken: Option<Stamp>,
    /// What was found when it was last looked at.
    seen: Option<Stamp>,
}

/// Tells one state of the file from another. Not by its time, which stays the same for two writes in one tick.
type Stamp = Result<u128, io::ErrorKind>;

impl Watched {
    pub fn new(path: impl Into<PathBuf>) -> Watched {
        Watched { path: path.into(), taken: None, seen: None }
    }

    /// Reads the file, whatever it was before.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub async fn read(&mut self) -> Result<Vec<Arc<Entry>>, Vec<Problem>> {
        let (stamp, bytes) = stamped(&self.path).await;
        (self.seen, self.taken) = (Some(stamp), Some(stamp));
        self.outcome(bytes)
    }

    /// Reads the file if it has changed and is no longer being written: found the same twice. None: nothing new.
    pub async fn poll(&mut self) -> Option<Result<Vec<Arc<Entry>>, Vec<Problem>>> {
        let (stamp, bytes) = stamped(&self.path).await;
        let settled = self.seen.replace(stamp) == Some(stamp);
        if !settled || self.taken == Some(stamp) {
            return None;
        }
        self.taken = Some(stamp);
        Some(self.outcome(bytes))
    }

    fn outcome(&self, bytes: io::Result<Vec<u8>>) -> Result<Vec<Arc<Entry>>, Vec<Problem>> {
        let place = self.path.display().to_string();
        let refuse = |sentence: String| vec![Problem::new(&place, sentence)];
        let bytes = bytes.map_err(|error| refuse(format!("The file can't be read: {error}.")))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("Write the file in UTF-8.".to_string()))?;
        let resources = parse(&text)
            .map_err(|problems| problems.into_iter().map(|problem| problem.within(&place)).collect::<Vec<_>>())?;
        Ok(entries(resources))
    }
}

async fn stamped(path: &Path) -> (Stamp, io::Result<Vec<u8>>) {
    let path = path.to_owned();
    let bytes =
        tokio::task::spawn_blocking(move || read_bounded(&path)).await.unwrap_or_else(|error| Err(error.into()));
    let stamp = bytes.as_ref().map(|bytes| xxh3_128(bytes)).map_err(io::Error::kind);
    (stamp, bytes)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
