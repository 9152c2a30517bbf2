//! Lists, page by page: there may be more resources than one answer should hold.

use appsockets_core::settings::entry::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

const ITEMS_MAX: usize = 1_000;
const ITEMS_USUAL: Limit = Limit(100);

/// Which part of a list is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The name that came last so far.
    after: Option<String>,
    limit: Option<Limit>,
}

/// Items at most.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
struct Limit(usize);

impl TryFrom<usize> for Limit {
    type Error = String;

    fn try_from(items: usize) -> Result<Self, String> {
        let fits = (1..=ITEMS_MAX).contains(&items);
        fits.then_some(Limit(items)).ok_or_else(|| format!("1 to {ITEMS_MAX} items are given at a time"))
    }
}

impl Wanted {
    /// One page of entries that come in the order of their names.
    pub fn page<'a>(&self, entries: impl Iterator<Item = &'a Entry>, show: impl Fn(&Entry) -> Value) -> Value {
        let Limit(limit) = self.limit.unwrap_or(ITEMS_USUAL);
        let after = self.after.as_deref();
        let mut rest = entries.filter(|entry| after.is_none_or(|after| &*entry.id.name > after)).peekable();
        let page: Vec<&Entry> = rest.by_ref().take(limit).collect();
        let next = rest.peek().and_then(|_| page.last()).map(|entry| &*entry.id.name);
        json!({ "items": page.iter().map(|entry| show(entry)).collect::<Vec<_>>(), "next": next })
    }
}
