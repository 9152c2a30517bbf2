use std::sync::Arc;

use mio::net::TcpStream;

use super::{
    connections::Permit,
    queue::Queue,
    secured::Secured,
    sse::Stream,
    ws::{Kind, Reader},
};

/// All that the edge keeps of one connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub generation: u32,
    pub link: Link,
    /// What waits for a WebSocket; a stream has its own.
    pub queue: Queue,
    /// In `Now::mono_ms`: when it is dropped if it is `waiting` and nothing changes.
    pub deadline_ms: u64,
    pub flags: Flags,
}

#[derive(Debug)]
pub(super) enum Link {
    Socket(Socket),
    /// Apart, so that sockets without TLS are as small as if there were none.
    Secured(Box<Secured>),
    Stream(Arc<Stream>),
}

impl Conn {
    /// Whether something is to be written to its socket.
    pub fn has_unwritten(&self) -> bool {
        !self.queue.is_empty() || self.link.wants_write()
    }
}

impl Link {
    /// Of a WebSocket.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Link::Socket(socket) => Some(socket),
            Link::Secured(secured) => Some(&secured.socket),
            Link::Stream(_) => None,
        }
    }

    /// Of a WebSocket.
    pub fn socket_mut(&mut self) -> Option<&mut Socket> {
        match self {
            Link::Socket(socket) => Some(socket),
            Link::Secured(secured) => Some(&mut secured.socket),
            Link::Stream(_) => None,
        }
    }

    /// Whether TLS has something to say.
    pub fn wants_write(&self) -> bool {
        matches!(self, Link::Secured(secured) if secured.wants_write())
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub tcp: TcpStream,
    pub reader: Reader,
    /// The only kind of message that the client may send, if it may not send both.
    pub kind: Option<Kind>,
    pub _permit: Option<Permit>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// The handler has been told that it ended, or ended it: what remains is the end of the socket.
    pub closing: bool,
    /// In the list of those to flush.
    pub dirty: bool,
    /// The kernel took no more; it will tell when it does.
    pub blocked: bool,
    /// A delivery was refused, so the handler waits for `drained`.
    pub full: bool,
    /// In the list of those to read.
    pub listed: bool,
    /// The kernel may have more to read.
    pub readable: bool,
    /// The kernel has told of an end or an error behind what there is to read.
    pub hung_up: bool,
    /// Read to its end.
    pub ended: bool,
    /// Half-closed by us.
    pub shut: bool,
    /// In the list of those with a deadline.
    pub waiting: bool,
}

#[cfg(test)]
mod tests {
    use super::{Conn, Link, Reader, Socket};

    #[test]
    fn an_idle_connection_is_small() {
        println!("Conn {} bytes, Link {}, Reader {}", size_of::<Conn>(), size_of::<Link>(), size_of::<Reader>());
        assert!(size_of::<Conn>() <= 120);
        assert_eq!(size_of::<Link>(), size_of::<Socket>(), "without TLS there is no room for it");
        assert!(size_of::<Reader>() <= 16);
    }
}
