//! Writing JSON piece by piece, straight into the output.

use serde::Serialize;

/// Appends an object; the closure writes its fields.
pub fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields<'_>)) {
    out.push(b'{');
    write(&mut Fields { out, first: true });
    out.push(b'}');
}

/// Appends a list; the closure writes one item.
pub fn list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Appends a string, a number, or what is made of them.
pub fn value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // A Vec takes everything, and what is written here has only strings for keys, so this can't fail.
    let _ = serde_json::to_writer(out, value);
}

/// The fields of an object that is being written.
pub struct Fields<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    /// The name must not need escaping.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, field: &T) -> &mut Self {
        self.put_with(name, |out| value(field, out))
    }

    /// Writes nothing where there is nothing.
    pub fn put_some<T: Serialize>(&mut self, name: &str, field: Option<T>) -> &mut Self {
        match field {
            Some(field) => self.put(name, &field),
            None => self,
        }
    }

    pub fn put_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out);
        self
    }
}
