// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD's driver, by its ioctls: packed nvlists in the format of the crate `nv`.

use std::io;
use std::sync::OnceLock;

use kpi_user::Control;
use nv::wgconf::{self, GetReply, SetInterface, SetPeer, SetWriter};
use nv::{SliceSink, WriteError};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::Backend;
use crate::change::Change;
use crate::device::{AllowedIp, Device, Peer};
use crate::key::{PublicKey, SecretKey};

/// The group that every interface of the driver joins, renamed or not.
const GROUP: &str = "wg";

/// How often a description may grow between the question for its size and the one for its bytes.
const TRIES: usize = 100;

/// The kernel's interfaces.
#[derive(Default)]
pub struct Freebsd {
    control: OnceLock<Control>,
}

impl Freebsd {
    fn control(&self) -> io::Result<&Control> {
        if let Some(control) = self.control.get() {
            return Ok(control);
        }
        let opened = Control::open()?;
        Ok(self.control.get_or_init(|| opened))
    }

    /// The packed description of an interface.
    fn message(&self, name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let control = self.control()?;
        let mut slack = 0;
        for _ in 0..TRIES {
            let size = control.size(name)?;
            // Peers come and go meanwhile, so each try leaves more room.
            let mut buffer = Zeroizing::new(vec![0; size + slack]);
            match control.get(name, &mut buffer) {
                Err(e) if e.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => {
                    slack = 2 * slack + 4096;
                }
                Err(e) => return Err(e),
                Ok(size) => {
                    buffer.truncate(size);
                    return Ok(buffer);
                }
            }
        }
        Err(Errno::NOSPC.into())
    }
}

impl Backend for Freebsd {
    fn interfaces(&self) -> io::Result<Vec<String>> {
        self.control()?.group_members(GROUP)
    }

    fn get(&self, name: &str) -> io::Result<Device> {
        let message = self.message(name)?;
        let reply =
            GetReply::parse(&message).map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        Ok(device(name, &reply))
    }

    fn set(&self, name: &str, change: &Change) -> io::Result<()> {
        let message = pack(change).map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        self.control()?.set(name, &message)
    }
}

fn device(name: &str, reply: &GetReply<'_>) -> Device {
    let peers = reply.peers().map(|entry| {
        let peer = &entry.peer;
        let (seconds, nanos) = peer.last_handshake;
        Peer {
            public_key: PublicKey(*peer.public_key),
            preshared_key: peer
                .preshared_key
                .map(SecretKey::new)
                .filter(|key| !key.is_zero()),
            endpoint: peer.endpoint,
            allowed_ips: entry
                .allowed_ips()
                .map(|ip| AllowedIp {
                    ip: ip.addr,
                    cidr: ip.cidr,
                })
                .collect(),
            last_handshake: Some((seconds, u32::try_from(nanos).unwrap_or(0)))
                .filter(|&time| time != (0, 0)),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            persistent_keepalive: peer.keepalive,
        }
    });
    Device {
        name: name.to_owned(),
        public_key: reply.public_key.map(|key| PublicKey(*key)),
        private_key: reply.private_key.map(SecretKey::new),
        listen_port: reply.listen_port,
        fwmark: reply.user_cookie,
        peers: peers.collect(),
    }
}

/// The change as the driver reads it.
fn pack(change: &Change) -> Result<Zeroizing<Vec<u8>>, WriteError> {
    let mut body = |w: &mut SetWriter<'_, '_>| write(w, change);
    let size = wgconf::set_size(&mut body)?;
    let mut message = Zeroizing::new(vec![0; size]);
    wgconf::set_write(&mut SliceSink::new(&mut message), size, &mut body)?;
    Ok(message)
}

fn write(w: &mut SetWriter<'_, '_>, change: &Change) -> Result<(), WriteError> {
    w.interface(&SetInterface {
        replace_peers: change.replace_peers,
        listen_port: change.listen_port,
        private_key: change.private_key.as_ref().map(SecretKey::bytes),
        user_cookie: change.fwmark,
    })?;
    w.peers(change.peers.len())?;
    for peer in &change.peers {
        let entry = SetPeer {
            public_key: peer.public_key.bytes(),
            remove: peer.remove,
            update_only: peer.update_only,
            replace_allowed_ips: peer.replace_allowed_ips,
            endpoint: peer.endpoint,
            preshared_key: peer.preshared_key.as_ref().map(SecretKey::bytes),
            keepalive: peer.persistent_keepalive,
        };
        w.begin_peer(&entry, peer.allowed_ips.len())?;
        for ip in &peer.allowed_ips {
            w.allowed_ip(&wgconf::AllowedIp {
                addr: ip.ip,
                cidr: ip.cidr,
                remove: ip.remove,
            })?;
        }
        w.end_peer()?;
    }
    Ok(())
}
