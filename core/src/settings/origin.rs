//! Which pages may connect: the `Origin` header (RFC 6454) against a hub's allowed origins.

use std::str::FromStr;

use super::hub::Hub;

/// One allowed origin, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginPattern {
    /// `*`
    Anything,
    /// `https://shop.example`
    Exactly(Origin),
    /// `https://*.shop.example`: any number of labels more, at least one.
    Below(Origin),
    /// Stands for a pattern that can't be read.
    Nothing,
}

/// Scheme, host and port of a page, in lower case. Two are the same if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    /// None: the scheme's own.
    port: Option<u16>,
}

/// The text is not of the form `scheme://host` or `scheme://host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOrigin;

/// Whether a page of this origin may use the hub. Programs, which send no `Origin`, always may. If the hub lists no
/// origins, the page must come from the host that the request was sent to, its `Host` header.
pub fn origin_allowed(hub: &Hub, origin: Option<&str>, host: Option<&str>) -> bool {
    let Some(text) = origin else { return true };
    // `null`, a page without an origin that it could name, is no origin here and so falls to `*` alone.
    let origin = text.parse::<Origin>().ok();
    if hub.allowed_origins.is_empty() {
        return origin.zip(host).is_some_and(|(origin, host)| origin.is_of_host(host));
    }
    hub.allowed_origins.iter().any(|pattern| pattern.allows(origin.as_ref()))
}

impl OriginPattern {
    fn allows(&self, origin: Option<&Origin>) -> bool {
        match (self, origin) {
            (OriginPattern::Anything, _) => true,
            (OriginPattern::Exactly(wanted), Some(origin)) => origin == wanted,
            (OriginPattern::Below(wanted), Some(origin)) => origin.is_below(wanted),
            (OriginPattern::Nothing, _) | (_, None) => false,
        }
    }
}

impl FromStr for OriginPattern {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        if text == "*" {
            return Ok(OriginPattern::Anything);
        }
        match text.split_once("://*.") {
            Some((scheme, rest)) => Ok(OriginPattern::Below(Origin::new(scheme, rest)?)),
            None => text.parse().map(OriginPattern::Exactly),
        }
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(BadOrigin)?;
        Origin::new(scheme, authority)
    }
}

impl Origin {
    fn new(scheme: &str, authority: &str) -> Result<Origin, BadOrigin> {
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority).ok_or(BadOrigin)?;
        if !is_scheme(&scheme) || !is_host(host) {
            return Err(BadOrigin);
        }
        let port = port.filter(|port| default_port(&scheme) != Some(*port));
        Ok(Origin { host: host.to_ascii_lowercase(), port, scheme })
    }

    fn is_below(&self, parent: &Origin) -> bool {
        let more = self.host.strip_suffix(&parent.host).and_then(|host| host.strip_suffix('.'));
        self.scheme == parent.scheme && self.port == parent.port && more.is_some_and(|labels| !labels.is_empty())
    }

    /// The scheme of the request is not known where a proxy ends TLS, so the page's own decides which port is meant.
    fn is_of_host(&self, host: &str) -> bool {
        default_port(&self.scheme).is_some() && Origin::new(&self.scheme, host).is_ok_and(|own| own == *self)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A port has digits only, which `parse` alone does not ask for.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_host = authority.rfind(']').unwrap_or(0);
    match authority[after_host..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(after_host + colon);
            let digits = port[1..].bytes().all(|byte| byte.is_ascii_digit());
            let port = port[1..].parse().ok().filter(|port| digits && *port > 0)?;
            Some((host, Some(port)))
        }
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// A name without empty labels, or an address; browsers send names of other scripts in their ASCII form.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Origin, OriginPattern, origin_allowed};
    use crate::settings::{hub::Hub, resource::HubSpec};

    fn allowed(patterns: &[&str], origin: &str, host: Option<&str>) -> bool {
        let allowed_origins = patterns.iter().map(|pattern| pattern.to_string()).collect();
        let hub = Hub::with_spec("demo", &HubSpec { allowed_origins, ..HubSpec::default() });
        origin_allowed(&hub, Some(origin), host)
    }

    #[test]
    fn programs_send_no_origin_and_are_let_in() {
        let hub = Hub::with_spec("demo", &HubSpec::default());
        assert!(origin_allowed(&hub, None, Some("hub.example")));
        assert!(origin_allowed(&hub, None, None));
    }

    #[test]
    fn without_a_list_the_page_must_be_of_the_same_host() {
        for (origin, host, expected) in [
            ("https://hub.example", Some("hub.example"), true),
            ("http://hub.example", Some("hub.example"), true),
            ("https://HUB.example", Some("Hub.Example"), true),
            ("https://hub.example", Some("hub.example:443"), true),
            ("https://hub.example:443", Some("hub.example"), true),
            ("https://hub.example", Some("hub.example:80"), false),
            ("http://localhost:8080", Some("localhost:8080"), true),
            ("http://localhost:8081", Some("localhost:8080"), false),
            ("http://localhost", Some("localhost:8080"), false),
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080"), true),
            ("http://[::1]:8080", Some("[::1]:8080"), true),
            ("http://[::1]", Some("[::1]:8080"), false),
            ("https://evil.example", Some("hub.example"), false),
            ("https://hub.example.evil.example", Some("hub.example"), false),
            ("https://x.hub.example", Some("hub.example"), false),
            ("https://hub.example", None, false),
            ("https://hub.example", Some(""), false),
            ("capacitor://localhost", Some("localhost"), false),
            ("null", Some("null"), false),
            ("", Some(""), false),
            ("hub.example", Some("hub.example"), false),
            ("https://user@hub.example", Some("user@hub.example"), false),
        ] {
            assert_eq!(allowed(&[], origin, host), expected, "{origin} {host:?}");
        }
    }

    #[test]
    fn listed_origins() {
        for (pattern, origin, expected) in [
            ("https://shop.example", "https://shop.example", true),
            ("https://Shop.example", "https://shop.example", true),
            ("https://shop.example", "https://shop.example:443", true),
            ("https://shop.example:443", "https://shop.example", true),
            ("https://shop.example", "http://shop.example", false),
            ("https://shop.example", "https://shop.example:8443", false),
            ("https://shop.example:8443", "https://shop.example:8443", true),
            ("https://shop.example:8443", "https://shop.example", false),
            ("https://shop.example", "https://x.shop.example", false),
            ("https://shop.example", "https://shop.example.evil.example", false),
            ("https://shop.example", "https://evil.example/https://shop.example", false),
            ("https://shop.example", "null", false),
            ("https://*.shop.example", "https://x.shop.example", true),
            ("https://*.shop.example", "https://x.y.shop.example", true),
            ("https://*.shop.example", "https://shop.example", false),
            ("https://*.shop.example", "https://.shop.example", false),
            ("https://*.shop.example", "https://evilshop.example", false),
            ("https://*.shop.example", "http://x.shop.example", false),
            ("https://*.shop.example", "https://x.shop.example:444", false),
            ("https://*.shop.example:444", "https://x.shop.example:444", true),
            ("https://*.shop.example", "https://evil.example/.shop.example", false),
            ("https://*.shop.example", "https://evil.example#.shop.example", false),
            ("https://*.shop.example", "https://evil.example\\.shop.example", false),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("*", "https://anything.example", true),
            ("*", "null", true),
            ("shop.example", "https://shop.example", false),
            ("null", "null", false),
        ] {
            assert_eq!(allowed(&[pattern], origin, Some("hub.example")), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn any_of_several_is_enough_and_the_own_host_is_no_longer_one() {
        let patterns = ["https://a.example", "https://b.example"];
        assert!(allowed(&patterns, "https://b.example", Some("hub.example")));
        assert!(!allowed(&patterns, "https://hub.example", Some("hub.example")));
        assert!(!allowed(&["not an origin"], "https://hub.example", Some("hub.example")));
    }

    #[test]
    fn what_is_no_pattern() {
        for text in [
            "",
            "null",
            "shop.example",
            "https://",
            "https://*",
            "https://*.",
            "https://shop.*",
            "https://a.*.example",
            "https://*shop.example",
            "https://shop.example/",
            "https://shop.example/x",
            "https://shop.example?x",
            "https://a@shop.example",
            "https://shop.example:",
            "https://shop.example:0",
            "https://shop.example:+80",
            "https://shop.example:65536",
            "https://shop..example",
            "https://shop.example.",
            "https:// shop.example",
            "://shop.example",
            "9p://shop.example",
            "https://[::1",
            "https://[zz]",
            "https://läden.example",
            "**",
        ] {
            assert!(text.parse::<OriginPattern>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(pattern in "\\PC{0,30}|[a-z]{1,5}://[a-z.*:\\[\\]0-9]{0,20}", origin in "\\PC{0,30}", host in "\\PC{0,20}") {
            allowed(&[&pattern], &origin, Some(&host));
            allowed(&[], &origin, Some(&host));
            let _ = (pattern.parse::<OriginPattern>(), pattern.parse::<Origin>());
        }

        #[test]
        fn only_hosts_that_end_in_the_parent_are_below_it(host in "[ab.]{1,12}", parent in "[ab]{1,2}(\\.[ab]{1,2})?") {
            let labels = |text: &str| text.split('.').map(str::to_string).collect::<Vec<_>>();
            let (ours, theirs) = (labels(&host), labels(&parent));
            let expected = ours.iter().all(|label| !label.is_empty())
                && ours.len() > theirs.len()
                && ours[ours.len() - theirs.len()..] == theirs[..];
            let pattern = format!("https://*.{parent}");
            prop_assert_eq!(allowed(&[&pattern], &format!("https://{host}"), None), expected);
        }
    }
}
