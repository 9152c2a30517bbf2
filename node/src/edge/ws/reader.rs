//! What a client's bytes say: an incremental reader of frames and messages.
//!
//! A whole unfragmented frame is unmasked where it lies and handed out from there. Only what is incomplete when the
//! bytes end is copied, into a [`Held`] that exists no longer than it is needed.

use std::mem;

use super::{
    Kind, Opcode,
    close::parse_close,
    header::{CLIENT_HEADER_BYTES_MAX, Header, header_length},
    mask::unmask,
};

/// What a client did wrong; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the frames do not follow RFC 6455")]
    Protocol,
    #[error("a text is not UTF-8")]
    Text,
    #[error("the message is larger than the node accepts")]
    TooLarge,
}

impl Violation {
    /// The close code to answer with.
    pub const fn close_code(self) -> u16 {
        match self {
            Violation::Protocol => 1002,
            Violation::Text => 1007,
            Violation::TooLarge => 1009,
        }
    }
}

/// A message or control frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Message(Kind, &'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With the code that the client gave. Nothing that follows means anything.
    Close(Option<u16>),
}

/// Reads one connection.
#[derive(Debug)]
pub struct Reader {
    held: Option<Box<Held>>,
    message_bytes_max: u32,
}

impl Reader {
    /// `message_bytes_max` bounds a data message, fragments together; so the reader holds at most twice that.
    pub fn new(message_bytes_max: u32) -> Reader {
        Reader { held: None, message_bytes_max }
    }

    /// The next item of the input, which is taken off its front; none when the input is used up. The input is
    /// overwritten. After a violation or a close the reader is of no use any more.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i mut [u8]) -> Result<Option<Item<'s>>, Violation> {
        self.forget_lent();
        if self.held.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some((opcode, payload)) = whole_frame(input, self.message_bytes_max)? {
                return item(opcode, payload).map(Some);
            }
        }
        self.held.get_or_insert_default().next(input, self.message_bytes_max)
    }

    /// Keeps bytes to be read before any others, see [`Reader::take_kept`].
    pub fn keep(&mut self, rest: &[u8]) {
        self.forget_lent();
        if !rest.is_empty() {
            self.held.get_or_insert_default().kept.extend_from_slice(rest);
        }
    }

    pub fn has_kept(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.kept.is_empty())
    }

    /// The bytes that were kept, to be given to [`Reader::next`].
    pub fn take_kept(&mut self) -> Option<Vec<u8>> {
        let kept = self.held.as_mut().map(|held| mem::take(&mut held.kept))?;
        self.forget_lent();
        (!kept.is_empty()).then_some(kept)
    }

    /// Drops what the last item was read from, and the whole `Held` if nothing is under way.
    fn forget_lent(&mut self) {
        if let Some(held) = &mut self.held {
            held.forget_lent();
            if held.is_idle() {
                self.held = None;
            }
        }
    }
}

/// A whole, unfragmented frame at the front of the input, unmasked; none if there is no such.
fn whole_frame<'i>(input: &mut &'i mut [u8], max: u32) -> Result<Option<(Opcode, &'i [u8])>, Violation> {
    let Some((header, header_length)) = Header::parse(input)? else { return Ok(None) };
    if header.opcode == Opcode::Continuation {
        return Err(Violation::Protocol);
    }
    if header.length > u64::from(max) && !header.opcode.is_control() {
        return Err(Violation::TooLarge);
    }
    let end = header_length as u64 + header.length;
    if !header.fin || end > input.len() as u64 {
        return Ok(None);
    }
    let (frame, rest) = mem::take(input).split_at_mut(end as usize);
    *input = rest;
    let payload = &mut frame[header_length..];
    unmask(payload, header.mask, 0);
    if header.opcode == Opcode::Text && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(Violation::Text);
    }
    Ok(Some((header.opcode, payload)))
}

fn item(opcode: Opcode, payload: &[u8]) -> Result<Item<'_>, Violation> {
    Ok(match opcode {
        Opcode::Text => Item::Message(Kind::Text, payload),
        Opcode::Binary => Item::Message(Kind::Binary, payload),
        Opcode::Ping => Item::Ping(payload),
        Opcode::Pong => Item::Pong,
        Opcode::Close => Item::Close(parse_close(payload)?),
        Opcode::Continuation => return Err(Violation::Protocol),
    })
}

/// What is under way: an incomplete frame, a message of which fragments lack, or both.
#[derive(Debug, Default)]
struct Held {
    header: [u8; CLIENT_HEADER_BYTES_MAX],
    header_length: u8,
    frame: Option<Frame>,
    /// The kind of the message that the fragments so far begin.
    kind: Option<Kind>,
    message: Vec<u8>,
    /// How much of a text message is known to be UTF-8.
    checked: usize,
    control: Vec<u8>,
    lent: Lent,
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    header: Header,
    /// How much of the payload has come.
    come: u64,
}

/// Which buffer the last item was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lent {
    #[default]
    Nothing,
    Message,
    Control,
}

impl Held {
    fn next(&mut self, input: &mut &mut [u8], max: u32) -> Result<Option<Item<'_>>, Violation> {
        loop {
            let Some(frame) = self.frame else {
                if !self.take_header(input, max)? {
                    return Ok(None);
                }
                continue;
            };
            if !self.take_payload(frame, input)? {
                return Ok(None);
            }
            self.frame = None;
            if frame.header.opcode.is_control() {
                self.lent = Lent::Control;
                return item(frame.header.opcode, &self.control).map(Some);
            }
            if frame.header.fin {
                return self.finish_message().map(Some);
            }
        }
    }

    /// Whether a whole header has come and begins a frame.
    fn take_header(&mut self, input: &mut &mut [u8], max: u32) -> Result<bool, Violation> {
        loop {
            let have = usize::from(self.header_length);
            if let Some((header, _)) = Header::parse(&self.header[..have])? {
                self.header_length = 0;
                self.begin(header, max)?;
                return Ok(true);
            }
            let lacking = header_length(&self.header[..have]) - have;
            let bytes = take(input, lacking);
            if bytes.is_empty() {
                return Ok(false);
            }
            self.header[have..have + bytes.len()].copy_from_slice(bytes);
            self.header_length += bytes.len() as u8;
        }
    }

    fn begin(&mut self, header: Header, max: u32) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            self.kind = Some(match (header.opcode, self.kind) {
                (Opcode::Continuation, Some(kind)) => kind,
                (Opcode::Text, None) => Kind::Text,
                (Opcode::Binary, None) => Kind::Binary,
                _ => return Err(Violation::Protocol),
            });
            if header.length > u64::from(max).saturating_sub(self.message.len() as u64) {
                return Err(Violation::TooLarge);
            }
        }
        self.frame = Some(Frame { header, come: 0 });
        Ok(())
    }

    /// Whether the whole payload of the frame has come.
    fn take_payload(&mut self, mut frame: Frame, input: &mut &mut [u8]) -> Result<bool, Violation> {
        let lacking = frame.header.length - frame.come;
        let bytes = take(input, usize::try_from(lacking).unwrap_or(usize::MAX));
        unmask(bytes, frame.header.mask, (frame.come % 4) as usize);
        frame.come += bytes.len() as u64;
        self.frame = Some(frame);
        if frame.header.opcode.is_control() {
            self.control.extend_from_slice(bytes);
        } else {
            self.message.extend_from_slice(bytes);
            self.check_text()?;
        }
        Ok(frame.come == frame.header.length)
    }

    /// Fails as soon as no further bytes could make the text UTF-8.
    fn check_text(&mut self) -> Result<(), Violation> {
        if self.kind != Some(Kind::Text) {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::Text),
        }
        Ok(())
    }

    fn finish_message(&mut self) -> Result<Item<'_>, Violation> {
        let kind = self.kind.take().ok_or(Violation::Protocol)?;
        if kind == Kind::Text && self.checked < self.message.len() {
            return Err(Violation::Text);
        }
        self.lent = Lent::Message;
        Ok(Item::Message(kind, &self.message))
    }

    fn forget_lent(&mut self) {
        match mem::take(&mut self.lent) {
            Lent::Nothing => {}
            Lent::Message => (self.message, self.checked) = (Vec::new(), 0),
            Lent::Control => self.control = Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.header_length == 0 && self.frame.is_none() && self.kind.is_none() && self.kept.is_empty()
    }
}

/// At most so many bytes off the front.
fn take<'i>(input: &mut &'i mut [u8], count: usize) -> &'i mut [u8] {
    let count = count.min(input.len());
    let (front, rest) = mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::{Item, Kind, Reader};

    #[test]
    fn holds_nothing_between_messages_and_little_within_one() {
        let mut reader = Reader::new(1 << 30);
        let mut half = [0x82, 0xff, 0, 0, 0, 0, 0x3f, 0, 0, 0, 0, 0, 0, 0, b'x'];
        assert_eq!(reader.next(&mut &mut half[..]), Ok(None));
        let held = reader.held.as_ref().expect("a frame is under way");
        assert!(held.message.capacity() < 100, "grows with what comes, not with what is announced");

        let mut reader = Reader::new(100);
        for part in [&mut [0x81, 0x83, 0, 0][..], &mut [0, 0, b'a', b'b'], &mut [b'c']] {
            let Some((last, first)) = part.split_last_mut() else { continue };
            assert_eq!(reader.next(&mut &mut *first), Ok(None));
            let mut last = [*last];
            match reader.next(&mut &mut last[..]) {
                Ok(None) => assert!(reader.held.is_some()),
                item => assert_eq!(item, Ok(Some(Item::Message(Kind::Text, b"abc")))),
            }
        }
        assert_eq!(reader.next(&mut &mut [][..]), Ok(None));
        assert!(reader.held.is_none());
    }
}
