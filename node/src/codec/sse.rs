//! Server-Sent Events (WHATWG HTML, section 9.2): one block for each envelope.

/// Appends one block with the JSON text as its data.
///
/// A line break may stand between the tokens of a payload that was published as JSON. It would end the line of the
/// block, so it begins a further `data:` line; the reader joins these with a line feed, which to JSON is the same.
pub fn sse_block(json: &[u8], out: &mut Vec<u8>) {
    out.reserve(json.len() + 16);
    let mut rest = json;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, breaks) = rest.split_at(end);
        data_line(line, out);
        rest = breaks.strip_prefix(b"\r\n").unwrap_or(&breaks[1..]);
    }
    data_line(rest, out);
    out.push(b'\n');
}

fn data_line(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line);
    out.push(b'\n');
}
