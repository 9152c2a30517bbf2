//! Lists, page by page: there may be more resources than one answer should hold.

use appsockets_core::settings::entry::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

const ITEMS_MAX: usize = 1_000;
const ITEMS_USUAL: usize = 100;

/// Which part of a list is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The name that came last so far.
    after: Option<String>,
    /// Items at most, 1 to 1000; 100 unless given.
    limit: Option<usize>,
}

impl Wanted {
    /// One page of entries that come in the order of their names.
    pub fn page<'a>(&self, entries: impl Iterator<Item = &'a Entry>, show: impl Fn(&Entry) -> Value) -> Value {
        let limit = self.limit.unwrap_or(ITEMS_USUAL).clamp(1, ITEMS_MAX);
        let after = self.after.as_deref();
        let mut rest = entries.filter(|entry| after.is_none_or(|after| &*entry.id.name > after)).peekable();
        let page: Vec<&Entry> = rest.by_ref().take(limit).collect();
        let next = rest.peek().and_then(|_| page.last()).map(|entry| &*entry.id.name);
        json!({ "items": page.iter().map(|entry| show(entry)).collect::<Vec<_>>(), "next": next })
    }
}
