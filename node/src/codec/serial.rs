//! The text of a serial on the stack, because its length is needed before it is written.

use std::fmt::{self, Write};

use appsockets_core::serial::Serial;

/// Four numbers of at most 13 digits in base 36 with three dashes, a colon, and at most 20 digits.
const BYTES_MAX: usize = 4 * 13 + 3 + 1 + 20;

pub(super) struct SerialText {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl SerialText {
    pub(super) fn new(serial: &Serial) -> Self {
        let mut text = SerialText { bytes: [0; BYTES_MAX], length: 0 };
        // The longest serial fits, so this can't fail.
        let _ = write!(text, "{serial}");
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for SerialText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use appsockets_core::serial::{Epoch, Serial};

    use super::{BYTES_MAX, SerialText};

    #[test]
    fn the_longest_serial_fits() {
        let epoch = Epoch { view: u64::MAX, node: u64::MAX, generation: u64::MAX, counter: u64::MAX };
        let serial = Serial { epoch, sequence: u64::MAX };
        let text = SerialText::new(&serial);
        assert_eq!(text.as_bytes(), serial.to_string().as_bytes());
        assert_eq!(text.as_bytes().len(), BYTES_MAX);
    }
}
