// SPDX-License-Identifier: BSD-2-Clause
//! What the driver's ioctls carry: requests and replies, against a naive reading of the same lists.

use std::net::{IpAddr, SocketAddr};

use nv::wgconf::{
    AllowedIp, GetInterface, GetPeer, GetReply, SetInterface, SetPeer, SetRequest, endpoint_bytes,
    endpoint_from_bytes, get_size, get_write, set_size, set_write,
};
use nv::{FnSink, WriteError};

use crate::nvlist::{Node, message};

type Key = [u8; 32];

/// What a request or a reply says, copied.
#[derive(Debug, Default, PartialEq)]
struct Conf {
    replace_peers: bool,
    listen_port: Option<u16>,
    user_cookie: Option<u32>,
    public_key: Option<Key>,
    private_key: Option<Key>,
    peers: Vec<Peer>,
}

#[derive(Debug, Default, PartialEq)]
struct Peer {
    public_key: Key,
    remove: bool,
    update_only: bool,
    replace_allowed_ips: bool,
    preshared_key: Option<Key>,
    endpoint: Option<SocketAddr>,
    keepalive: Option<u16>,
    last_handshake: (u64, u64),
    bytes: (u64, u64),
    allowed_ips: Vec<AllowedIp>,
}

/// `SIOCSWG`: acceptance and values are those of a naive reading, and writing what was read gives the same again.
pub fn wgconf_set(input: &[u8]) {
    let Some((message, tree)) = message(input) else {
        return;
    };
    let read = SetRequest::parse(&message);
    if let Err(error) = &read {
        assert!(matches!(error.errno(), 7 | 22 | 45 | 89), "{error}");
        assert!(!error.to_string().is_empty());
    }
    let read = read.ok().map(|r| from_set(&r));
    assert_eq!(read, tree.and_then(|tree| naive_set(&tree)));
    let Some(conf) = read else { return };
    let again = written(|sink| {
        let size = set_size(&mut |w| write_set(w, &conf))?;
        set_write(sink, size, &mut |w| write_set(w, &conf)).map(|()| size)
    });
    let again = SetRequest::parse(&again).expect("what was written is a request");
    assert_eq!(from_set(&again), conf);
}

/// `SIOCGWG`: as [`wgconf_set`], for replies.
pub fn wgconf_get(input: &[u8]) {
    let Some((message, tree)) = message(input) else {
        return;
    };
    let read = GetReply::parse(&message);
    if let Err(error) = &read {
        assert!(matches!(error.errno(), 7 | 22 | 45 | 89), "{error}");
    }
    let read = read.ok().map(|r| from_get(&r));
    assert_eq!(read, tree.and_then(|tree| naive_get(&tree)));
    let Some(conf) = read else { return };
    let again = written(|sink| {
        let size = get_size(&mut |w| write_get(w, &conf))?;
        get_write(sink, size, &mut |w| write_get(w, &conf)).map(|()| size)
    });
    let again = GetReply::parse(&again).expect("what was written is a reply");
    assert_eq!(from_get(&again), conf);
}

fn written(write: impl FnOnce(&mut dyn nv::Sink) -> Result<usize, WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = FnSink(|b: &[u8]| {
        out.extend_from_slice(b);
        Ok(())
    });
    let size = write(&mut sink).expect("what was read can be written");
    assert_eq!(size, out.len());
    out
}

fn from_set(r: &SetRequest<'_>) -> Conf {
    assert!(r.peers().count() <= r.peer_count());
    Conf {
        replace_peers: r.replace_peers,
        listen_port: r.listen_port,
        user_cookie: r.user_cookie,
        public_key: None,
        private_key: r.private_key.copied(),
        peers: r
            .peers()
            .map(|p| Peer {
                public_key: *p.public_key,
                remove: p.remove,
                update_only: p.update_only,
                replace_allowed_ips: p.replace_allowed_ips,
                preshared_key: p.preshared_key.copied(),
                endpoint: p.endpoint,
                keepalive: p.keepalive,
                allowed_ips: p.allowed_ips().collect(),
                ..Peer::default()
            })
            .collect(),
    }
}

fn from_get(r: &GetReply<'_>) -> Conf {
    Conf {
        replace_peers: false,
        listen_port: Some(r.listen_port),
        user_cookie: Some(r.user_cookie),
        public_key: r.public_key.copied(),
        private_key: r.private_key.copied(),
        peers: r
            .peers()
            .map(|e| Peer {
                public_key: *e.peer.public_key,
                preshared_key: e.peer.preshared_key.copied(),
                endpoint: e.peer.endpoint,
                keepalive: Some(e.peer.keepalive),
                last_handshake: e.peer.last_handshake,
                bytes: (e.peer.rx_bytes, e.peer.tx_bytes),
                allowed_ips: e.allowed_ips().map(given).collect(),
                ..Peer::default()
            })
            .collect(),
    }
}

fn write_set(w: &mut nv::wgconf::SetWriter<'_, '_>, conf: &Conf) -> Result<(), WriteError> {
    w.interface(&SetInterface {
        replace_peers: conf.replace_peers,
        listen_port: conf.listen_port,
        private_key: conf.private_key.as_ref(),
        user_cookie: conf.user_cookie,
    })?;
    w.peers(conf.peers.len())?;
    for p in &conf.peers {
        let peer = SetPeer {
            public_key: &p.public_key,
            remove: p.remove,
            update_only: p.update_only,
            replace_allowed_ips: p.replace_allowed_ips,
            endpoint: p.endpoint,
            preshared_key: p.preshared_key.as_ref(),
            keepalive: p.keepalive,
        };
        w.begin_peer(&peer, p.allowed_ips.len())?;
        for ip in &p.allowed_ips {
            w.allowed_ip(ip)?;
        }
        w.end_peer()?;
    }
    Ok(())
}

fn write_get(w: &mut nv::wgconf::GetWriter<'_, '_>, conf: &Conf) -> Result<(), WriteError> {
    w.interface(&GetInterface {
        listen_port: conf.listen_port.unwrap_or(0),
        user_cookie: conf.user_cookie.unwrap_or(0),
        public_key: conf.public_key.as_ref(),
        private_key: conf.private_key.as_ref(),
    })?;
    w.peers(conf.peers.len())?;
    for p in &conf.peers {
        let peer = GetPeer {
            public_key: &p.public_key,
            preshared_key: p.preshared_key.as_ref(),
            endpoint: p.endpoint,
            keepalive: p.keepalive.unwrap_or(0),
            last_handshake: p.last_handshake,
            rx_bytes: p.bytes.0,
            tx_bytes: p.bytes.1,
        };
        w.begin_peer(&peer, p.allowed_ips.len())?;
        for ip in &p.allowed_ips {
            w.allowed_ip(ip.addr, ip.cidr)?;
        }
        w.end_peer()?;
    }
    Ok(())
}

/// A key of the right type: absent, or 32 bytes, or the message is refused.
fn key(node: &Node, name: &str) -> Option<Option<Key>> {
    match node.binary(name) {
        None => Some(None),
        Some(b) => Some(Some(b.try_into().ok()?)),
    }
}

/// A number of the right type: absent, or in range, or the message is refused.
fn number<T: TryFrom<u64>>(node: &Node, name: &str) -> Option<Option<T>> {
    match node.number(name) {
        None => Some(None),
        Some(n) => Some(Some(T::try_from(n).ok()?)),
    }
}

fn naive_set(list: &Node) -> Option<Conf> {
    Some(Conf {
        replace_peers: list.boolean("replace-peers").unwrap_or(false),
        listen_port: number(list, "listen-port")?,
        user_cookie: number(list, "user-cookie")?,
        public_key: None,
        private_key: key(list, "private-key")?,
        peers: list
            .array("peers")
            .iter()
            .map(naive_set_peer)
            .collect::<Option<_>>()?,
    })
}

fn naive_set_peer(list: &Node) -> Option<Peer> {
    let public_key = key(list, "public-key")??;
    let mut peer = Peer {
        public_key,
        remove: list.boolean("remove").unwrap_or(false),
        update_only: list.boolean("update-only").unwrap_or(false),
        ..Peer::default()
    };
    if peer.remove {
        return Some(peer);
    }
    peer.replace_allowed_ips = list.boolean("replace-allowedips").unwrap_or(false);
    if let Some(b) = list.binary("endpoint") {
        let endpoint = endpoint_from_bytes(b)?;
        endpoint_bytes(&endpoint, |again| {
            assert_eq!(again.len(), b.len());
            assert_eq!(endpoint_from_bytes(again), Some(endpoint));
        });
        peer.endpoint = Some(endpoint);
    }
    peer.preshared_key = key(list, "preshared-key")?;
    peer.keepalive = number(list, "persistent-keepalive-interval")?;
    peer.allowed_ips = naive_ips(list)?;
    Some(peer)
}

fn naive_get(list: &Node) -> Option<Conf> {
    Some(Conf {
        replace_peers: false,
        listen_port: Some(number(list, "listen-port")?.unwrap_or(0)),
        user_cookie: Some(number(list, "user-cookie")?.unwrap_or(0)),
        public_key: key(list, "public-key")?,
        private_key: key(list, "private-key")?,
        peers: list
            .array("peers")
            .iter()
            .map(naive_get_peer)
            .collect::<Option<_>>()?,
    })
}

fn naive_get_peer(list: &Node) -> Option<Peer> {
    let time = match list.binary("last-handshake-time") {
        None => [0; 16],
        Some(b) => b.try_into().ok()?,
    };
    let half = |i: usize| time[i..i + 8].try_into().map_or(0, u64::from_ne_bytes);
    Some(Peer {
        public_key: key(list, "public-key")??,
        preshared_key: key(list, "preshared-key")?,
        endpoint: list.binary("endpoint").and_then(endpoint_from_bytes),
        keepalive: Some(number(list, "persistent-keepalive-interval")?.unwrap_or(0)),
        last_handshake: (half(0), half(8)),
        bytes: (
            list.number("rx-bytes").unwrap_or(0),
            list.number("tx-bytes").unwrap_or(0),
        ),
        allowed_ips: naive_ips(list)?.into_iter().map(given).collect(),
        ..Peer::default()
    })
}

/// Removal means nothing in a reply, and is not written there.
fn given(ip: AllowedIp) -> AllowedIp {
    AllowedIp {
        remove: false,
        ..ip
    }
}

fn naive_ips(list: &Node) -> Option<Vec<AllowedIp>> {
    let mut ips = Vec::new();
    for element in list.array("allowed-ips") {
        let flags = element.number("flags").unwrap_or(0);
        if flags > 1 {
            return None;
        }
        let Some(cidr) = element.number("cidr") else {
            continue;
        };
        let addr: IpAddr = match (element.binary("ipv4"), element.binary("ipv6")) {
            (Some(b), _) => <[u8; 4]>::try_from(b).ok()?.into(),
            (None, Some(b)) => <[u8; 16]>::try_from(b).ok()?.into(),
            (None, None) => continue,
        };
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let cidr = u8::try_from(cidr).ok().filter(|&c| c <= most)?;
        let remove = flags == 1;
        ips.push(AllowedIp { addr, cidr, remove });
    }
    Some(ips)
}
