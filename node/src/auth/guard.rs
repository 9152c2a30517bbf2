//! Where an address that a tenant chose may lead. Without this guard, a tenant could have the node send requests into
//! the network that it stands in: to the cloud's metadata service, to databases, to other tenants' services.
//!
//! An address is checked where it is used: literals when the [`Target`] is made, names by the [`Resolver`], whose
//! answer is what gets connected to. So a name that changes between two lookups gains nothing.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// What the administrator allows.
#[derive(Clone, Debug)]
pub struct Guard {
    allow_private: bool,
    allowed: Arc<[IpNet]>,
}

/// An `http` or `https` address whose host, if it is a literal, may be connected to.
#[derive(Clone, Debug)]
pub struct Target(Uri);

/// Looks names up and leaves out the addresses that the guard refuses.
#[derive(Clone, Debug)]
pub struct Resolver(pub Guard);

/// All addresses of a name are refused.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address that may be connected to")]
pub struct Refused;

/// More than enough for one name.
const ADDRESSES_MAX: usize = 16;

impl Guard {
    pub fn new(allow_private: bool, allowed: &[IpNet]) -> Self {
        Guard { allow_private, allowed: allowed.into() }
    }

    /// Checks an address as somebody wrote it; `Url` first brings odd spellings of a literal into their plain form.
    /// Fails with a sentence for its author.
    pub fn target(&self, address: &str) -> Result<Target, &'static str> {
        let mut url = Url::parse(address).map_err(|_| "the URL can't be read")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the URL must begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not hold a user or a password: use a header");
        }
        let permitted = match url.host() {
            Some(Host::Ipv4(ip)) => self.permits(ip.into()),
            Some(Host::Ipv6(ip)) => self.permits(ip.into()),
            Some(Host::Domain(name)) => !name.is_empty(),
            None => false,
        };
        if !permitted {
            return Err("the URL leads to an address that the administrator does not allow");
        }
        url.set_fragment(None);
        url.as_str().parse().map(Target).map_err(|_| "the URL can't be used for HTTP")
    }

    /// Whether a connection to the address may be made.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.allow_private || is_public(ip) || self.allowed.iter().any(|network| network.contains(&ip))
    }
}

impl Target {
    pub fn uri(&self) -> Uri {
        self.0.clone()
    }
}

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.0.clone();
        Box::pin(async move {
            // The connector puts in the port.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<_> = found.filter(|found| guard.permits(found.ip())).take(ADDRESSES_MAX).collect();
            if permitted.is_empty() { Err(io::Error::other(Refused)) } else { Ok(permitted.into_iter()) }
        })
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|network| network.contains(&ip))
}

/// Only global unicast, less its special parts; an address that carries one of IPv4 is as public as that one.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [_, a, b, .., y, z] = ip.segments();
    if TRANSLATED_V6.contains(&ip) {
        return is_public_v4(joined(y, z));
    }
    if SIX_TO_FOUR_V6.contains(&ip) {
        return is_public_v4(joined(a, b));
    }
    GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|network| network.contains(&ip))
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    (u32::from(high) << 16 | u32::from(low)).into()
}

/// The IPv4 networks that are not public: the registry of special purposes (RFC 6890) and multicast.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),       // this network, unspecified
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // shared by a carrier's customers
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, metadata services
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // relays of 6to4
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarking
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, broadcast
];

const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);
/// NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
const TRANSLATED_V6: Ipv6Net = v6([0x64, 0xff9b], 96);
/// 6to4 (RFC 3056): the bits after the prefix are an IPv4 address.
const SIX_TO_FOUR_V6: Ipv6Net = v6([0x2002, 0], 16);
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0], 23),     // protocol assignments, among them Teredo, benchmarking and ORCHID
    v6([0x2001, 0xdb8], 32), // documentation
    v6([0x3fff, 0], 20),     // documentation
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b]: [u16; 2], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

#[cfg(test)]
mod tests {
    use super::{Guard, Refused, Resolver};
    use std::net::IpAddr;
    use tower::Service;

    fn strict() -> Guard {
        Guard::new(false, &[])
    }

    #[test]
    fn special_addresses_are_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.8.9.10 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 \
            198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 \
            ::7f00:1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 \
            64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000::1 2001:2::1 2001:10::1 \
            2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 \
            fe80::1 fec0::1 ff02::1";
        for text in refused.split(' ') {
            let ip: IpAddr = text.parse().expect(text);
            assert!(!strict().permits(ip), "{text}");
            assert!(Guard::new(true, &[]).permits(ip), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        let permitted = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 \
            192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:1.1.1.1 64:ff9b::101:101 \
            2002:101:101::1 2001:4860:4860::8888 2606:4700::1111 2a00:1450::1";
        for text in permitted.split(' ') {
            assert!(strict().permits(text.parse().expect(text)), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_opens_only_itself() {
        let guard = Guard::new(false, &["10.1.0.0/16".parse().expect("a network"), "fd00::/64".parse().expect("too")]);
        for (text, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::5", true),
            ("fd00:0:0:1::5", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(guard.permits(text.parse().expect(text)), expected, "{text}");
        }
    }

    #[test]
    fn urls_are_checked_however_they_are_spelled() {
        let refused = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://0x7f.0.0.1/",
            "http://127.0.0.1./",
            "http://127.0.0.1:8080/a",
            "https://169.254.169.254/latest",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[fd00:ec2::254]/",
            "http://１２７.0.0.1/",
            "http://%31%32%37.0.0.1/",
            "http:127.0.0.1",
            "http:\\\\127.0.0.1\\",
            "http://user@1.1.1.1/",
            "http://:secret@1.1.1.1/",
            "ftp://1.1.1.1/",
            "file:///etc/passwd",
            "gopher://x/",
            "unix:/run/x",
            "javascript:0",
            "http://",
            "http:///",
            "//1.1.1.1/",
            "",
            "a",
            "http://[fe80::1%25eth0]/",
        ];
        for text in refused {
            assert!(strict().target(text).is_err(), "{text}");
        }
        for text in ["http://1.1.1.1", "https://auth.example:8443/check?a=b#c", "http://[2606:4700::1111]:80/"] {
            assert!(strict().target(text).is_ok(), "{text}");
        }
        let target = strict().target("https://AUTH.example/a b?c#d").expect("a good one");
        assert_eq!(target.uri().to_string(), "https://auth.example/a%20b?c");
    }

    #[tokio::test]
    async fn a_name_of_refused_addresses_has_none() {
        for name in ["localhost", "127.0.0.1", "0x7f.1"] {
            let answer = Resolver(strict()).call(name.parse().expect("a name")).await;
            let error = answer.expect_err(name);
            assert!(error.get_ref().is_some_and(|inner| inner.is::<Refused>()), "{name}: {error}");
            let answer = Resolver(Guard::new(true, &[])).call(name.parse().expect("a name")).await;
            assert!(answer.is_ok_and(|mut found| found.all(|found| found.ip().is_loopback())), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(https?:)?[/\\\\]{0,3}\\PC{0,40}") {
            let _ = strict().target(&text);
        }
    }
}
