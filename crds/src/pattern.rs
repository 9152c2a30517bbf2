//! What rules of several fields ask for. The API server ought to refuse all that the nodes would (the core's
//! `Resource::problems`), so that whoever writes it is told at once; `crds/src/tests/agreement.rs` compares the two.

/// Of a name: not empty, and without control characters. How many bytes it may have is a matter of its own: `maxLength`
/// counts characters.
pub const NAME: &str = r"^\\P{Cc}+$";
/// Of a subject of NATS that messages can be sent to: ASCII without spaces, `*` and `>`, nothing empty between dots, and
/// neither `$` nor `_` first.
pub const SUBJECT: &str = r"^[!-#%-)+-\\-/-=?-^`a-~][!-)+-\\-/-=?-~]*([.][!-)+-\\-/-=?-~]+)*$";
/// Of the port of an address, where there is one.
pub const PORT: &str = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?";
/// Of an IPv6 address as hosts are written, as far as can be said so; for the rest there is `bracketed`.
pub const BRACKETS: &str = r"\\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\\]";

/// Whether what stands in the first brackets of a text is an address.
pub fn bracketed(text: &str) -> String {
    format!("isIP({text}.substring({text}.indexOf('[') + 1, {text}.indexOf(']')))")
}

/// Whether `self` is an address that nodes can ask. Nobody but IDNA can tell whether a part of the host that begins with
/// `xn--` stands for anything, so that those that do not are told in the status.
pub fn address() -> String {
    // The last part of a name is no number: then the whole would have to be an IPv4 address, in any of its notations.
    let name = "([A-Za-z0-9_-]+[.])*([A-Za-z_-]|[1-9][0-9]*[A-Za-z_-]|0[0-9]*[A-WYZa-wyz_-])[A-Za-z0-9_-]*[.]?";
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let host = format!("({name}|({byte}[.]){{3}}{byte}|{BRACKETS})");
    let ipv6 = bracketed("self");
    format!(r"self.matches('^https?://{host}{PORT}([/?][^#]*)?$') && (!self.matches('^https?://\\[') || {ipv6})")
}
