// SPDX-License-Identifier: BSD-2-Clause
//! Between the text protocol and the driver's configuration ioctls.
//!
//! A `set` becomes one `SIOCSWG` with the nvlist that FreeBSD's `wg(8)` would send, a `get` is one `SIOCGWG`, so the
//! driver has a single configuration path and its promise, all or nothing, holds here too. `update_only` has no
//! counterpart in FreeBSD's own keys; the nvlist's `update-only` carries it, and the driver decides under its lock.
//! The mark is FreeBSD's user cookie.

use std::fmt;

use hostkern::real::errno;
use nv::wgconf::{AllowedIp, GetReply, SetInterface, SetPeer, SetWriter, set_size, set_write};
use nv::{FnSink, WriteError};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::control::Device;
use crate::error;
use crate::uapi::{PeerChange, PeerView, ReplyWriter, SetRequest};

/// A FreeBSD error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverErrno(pub i32);

impl DriverErrno {
    /// The number with the same meaning on this host.
    #[must_use]
    pub fn to_host(self) -> Errno {
        Errno::from_raw_os_error(errno::to_host(self.0))
    }
}

impl fmt::Display for DriverErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_host())
    }
}

/// The driver's two configuration calls on one interface.
pub trait Ioctl: Send + Sync + 'static {
    /// `SIOCSWG` with a packed nvlist.
    ///
    /// # Errors
    /// What the driver returns.
    fn set(&self, nvlist: Zeroizing<Vec<u8>>) -> Result<(), DriverErrno>;

    /// `SIOCGWG`: a packed nvlist.
    ///
    /// # Errors
    /// What the driver returns.
    fn get(&self) -> Result<Zeroizing<Vec<u8>>, DriverErrno>;
}

/// A driver that understands the text protocol's requests.
pub struct Configured<I>(pub I);

impl<I: Ioctl> Device for Configured<I> {
    fn get(&self) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let nvlist = self.0.get().map_err(|e| {
            error!("cannot read the configuration: {e}");
            e.to_host()
        })?;
        decode(&nvlist).ok_or_else(|| {
            error!("the driver's reply makes no sense");
            Errno::PROTO
        })
    }

    fn set(&self, request: &SetRequest) -> Result<(), Errno> {
        let nvlist = encode(request).map_err(|_| Errno::TOOBIG)?;
        self.0.set(nvlist).map_err(|e| {
            error!("the driver refused a configuration: {e}");
            e.to_host()
        })
    }
}

/// The nvlist of a request.
///
/// # Errors
/// Only if it is too large for an nvlist.
pub fn encode(request: &SetRequest) -> Result<Zeroizing<Vec<u8>>, WriteError> {
    let mut body = |w: &mut SetWriter<'_, '_>| write_request(w, request);
    let size = set_size(&mut body)?;
    // Its exact size, since growing would leave copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    set_write(
        &mut FnSink(|piece: &[u8]| {
            out.extend_from_slice(piece);
            Ok(())
        }),
        size,
        &mut body,
    )?;
    Ok(out)
}

fn write_request(w: &mut SetWriter<'_, '_>, request: &SetRequest) -> Result<(), WriteError> {
    w.interface(&SetInterface {
        replace_peers: request.replace_peers,
        listen_port: request.listen_port,
        private_key: request.private_key.as_ref().map(|k| k.bytes()),
        user_cookie: request.fwmark,
    })?;
    w.peers(request.peers.len())?;
    for peer in &request.peers {
        write_peer(w, peer)?;
    }
    Ok(())
}

fn write_peer(w: &mut SetWriter<'_, '_>, peer: &PeerChange) -> Result<(), WriteError> {
    if peer.remove {
        let entry = SetPeer {
            remove: true,
            ..SetPeer::new(&peer.public_key)
        };
        w.begin_peer(&entry, 0)?;
        return w.end_peer();
    }
    let entry = SetPeer {
        public_key: &peer.public_key,
        remove: false,
        update_only: peer.update_only,
        replace_allowed_ips: peer.replace_allowed_ips,
        endpoint: peer.endpoint,
        preshared_key: peer.preshared_key.as_ref().map(|k| k.bytes()),
        keepalive: peer.persistent_keepalive,
    };
    w.begin_peer(&entry, peer.allowed_ips.len())?;
    for ip in &peer.allowed_ips {
        w.allowed_ip(&AllowedIp {
            addr: ip.addr,
            cidr: ip.cidr,
            remove: ip.remove,
        })?;
    }
    w.end_peer()
}

/// The complete reply to a `get`; `None` if the driver's nvlist is not one.
#[must_use]
pub fn decode(nvlist: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let reply = GetReply::parse(nvlist).ok()?;
    // The text of anything is less than twice its nvlist; the rest is for the error number.
    let mut text = ReplyWriter::with_capacity(nvlist.len().saturating_mul(2).saturating_add(64));
    if let Some(key) = reply.private_key {
        text.private_key(key);
    }
    // Zero too, as the kernel says it: clients that know the protocol by its netlink form take a reply without a port
    // for an incomplete one. No key and no endpoint have no value that would say so, and stay away.
    text.listen_port(reply.listen_port);
    text.fwmark(reply.user_cookie);
    for entry in reply.peers() {
        let peer = &entry.peer;
        text.peer(&PeerView {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.unwrap_or(&[0; 32]),
            endpoint: peer.endpoint,
            last_handshake: peer.last_handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            persistent_keepalive: peer.keepalive,
        });
        for ip in entry.allowed_ips() {
            text.allowed_ip(ip.addr, ip.cidr);
        }
    }
    Some(text.finish())
}
