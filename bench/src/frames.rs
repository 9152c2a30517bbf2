//! As much of the WebSocket framing as the load and the reference servers need.

/// A frame that was found at the beginning of some bytes.
pub struct Frame {
    /// Where the payload begins, and where the frame ends.
    pub start: usize,
    pub end: usize,
    pub mask: Option<[u8; 4]>,
}

/// The first frame, if all of it is there.
pub fn first(bytes: &[u8]) -> Option<Frame> {
    let &second = bytes.get(1)?;
    let (length, mut start) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask = if second & 0x80 == 0 {
        None
    } else {
        let mask = bytes.get(start..start + 4)?.try_into().ok()?;
        start += 4;
        Some(mask)
    };
    let end = start + length;
    (bytes.len() >= end).then_some(Frame { start, end, mask })
}

/// Appends a client's binary frame. The mask is fixed: it protects proxies, and there is none.
pub fn push_masked(payload: &[u8], out: &mut Vec<u8>) {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    push_header(payload.len(), 0x80, out);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a server's binary frame.
pub fn push(payload: &[u8], out: &mut Vec<u8>) {
    push_header(payload.len(), 0, out);
    out.extend_from_slice(payload);
}

fn push_header(length: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(0x82);
    match length {
        0..=125 => out.push(masked | length as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}
