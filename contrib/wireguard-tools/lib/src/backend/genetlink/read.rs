// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel says of an interface.
//!
//! A dump is any number of messages, each with some of the interface's attributes. Lists that did not fit one continue
//! in the next: the interface's peers simply go on, and a peer whose allowed IPs go on appears again, with its public
//! key and the further allowed IPs alone.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::message::{attributes, generic_payload, malformed, number};
use super::write::{AF_INET, AF_INET6, device, ip, peer};
use crate::device::{AllowedIp, Device, Peer};
use crate::key::{KEY_LEN, PublicKey, SecretKey};

/// Puts an interface together from the messages of a dump.
pub struct Assembler {
    device: Device,
}

impl Assembler {
    /// Nothing is known but the name that was asked for.
    #[must_use]
    pub fn new(name: &str) -> Assembler {
        Assembler {
            device: Device::new(name),
        }
    }

    /// Takes a message: what follows its netlink header. Attributes that are not known are passed over.
    ///
    /// # Errors
    /// EBADMSG for a value of the wrong size or out of range. What was read until then is not to be used.
    pub fn add(&mut self, payload: &[u8]) -> io::Result<()> {
        for (kind, value) in attributes(generic_payload(payload)?) {
            let value = value?;
            match kind {
                device::IFNAME => self.device.name = text(value)?,
                device::PRIVATE_KEY => self.device.private_key = secret(value)?,
                device::PUBLIC_KEY => self.device.public_key = Some(PublicKey(*key(value)?)),
                device::LISTEN_PORT => self.device.listen_port = number(value)?,
                device::FWMARK => self.device.fwmark = number(value)?,
                device::PEERS => {
                    for (_, value) in attributes(value) {
                        self.peer(value?)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The interface, when there are no more messages.
    #[must_use]
    pub fn finish(self) -> Device {
        self.device
    }

    fn peer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut public_key = None;
        for (kind, value) in attributes(bytes) {
            if kind == peer::PUBLIC_KEY {
                public_key = Some(PublicKey(*key(value?)?));
            }
        }
        let public_key = public_key.ok_or_else(malformed)?;
        let peers = &mut self.device.peers;
        if peers
            .last()
            .is_none_or(|last| last.public_key != public_key)
        {
            peers.push(Peer::new(public_key));
        }
        let Some(peer) = peers.last_mut() else {
            return Err(malformed());
        };
        for (kind, value) in attributes(bytes) {
            let value = value?;
            match kind {
                peer::PRESHARED_KEY => peer.preshared_key = secret(value)?,
                peer::ENDPOINT => peer.endpoint = endpoint(value),
                peer::PERSISTENT_KEEPALIVE => peer.persistent_keepalive = number(value)?,
                peer::LAST_HANDSHAKE => peer.last_handshake = handshake(value)?,
                peer::RX_BYTES => peer.rx_bytes = number(value)?,
                peer::TX_BYTES => peer.tx_bytes = number(value)?,
                peer::ALLOWED_IPS => {
                    for (_, value) in attributes(value) {
                        peer.allowed_ips.push(allowed_ip(value?)?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The name of the link that a message of rtnetlink(7) describes, if it is a WireGuard interface.
///
/// # Errors
/// EBADMSG for a message that makes no sense.
pub fn wireguard_link(payload: &[u8]) -> io::Result<Option<String>> {
    const FIXED: usize = 16;
    const NAME: u16 = 3;
    const INFO: u16 = 18;
    const INFO_KIND: u16 = 1;
    let (mut name, mut ours) = (None, false);
    for (kind, value) in attributes(payload.get(FIXED..).ok_or_else(malformed)?) {
        let value = value?;
        match kind {
            NAME => name = Some(text(value)?),
            INFO => {
                for (kind, value) in attributes(value) {
                    ours |= value? == b"wireguard\0" && kind == INFO_KIND;
                }
            }
            _ => {}
        }
    }
    Ok(name.filter(|_| ours))
}

/// The bytes before the NUL. A name may be anything but `/`; what is not UTF-8 can at least be shown.
fn text(value: &[u8]) -> io::Result<String> {
    let end = value.iter().position(|&b| b == 0).ok_or_else(malformed)?;
    Ok(String::from_utf8_lossy(&value[..end]).into_owned())
}

fn key(value: &[u8]) -> io::Result<&[u8; KEY_LEN]> {
    value.try_into().map_err(|_| malformed())
}

/// Zeros are no key.
fn secret(value: &[u8]) -> io::Result<Option<SecretKey>> {
    Ok(Some(SecretKey::new(key(value)?)).filter(|key| !key.is_zero()))
}

/// Linux's `struct sockaddr_in` or `sockaddr_in6`; anything else is no endpoint.
fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = value.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match (u16::from_ne_bytes(*family), rest.len()) {
        (AF_INET, 12) => Some((*rest.first_chunk::<4>()?, port).into()),
        (AF_INET6, 24) => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (ip, scope) = rest.split_first_chunk::<16>()?;
            let (flow, scope) = (u32::from_be_bytes(*flow), number(scope).ok()?);
            Some(SocketAddrV6::new((*ip).into(), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Seconds and nanoseconds, 64 bits each; both zero before the first handshake.
fn handshake(value: &[u8]) -> io::Result<Option<(u64, u32)>> {
    let (seconds, nanoseconds) = value.split_first_chunk().ok_or_else(malformed)?;
    let seconds = u64::from_ne_bytes(*seconds);
    let nanoseconds: u64 = number(nanoseconds)?;
    let nanoseconds = u32::try_from(nanoseconds).map_err(|_| malformed())?;
    Ok(Some((seconds, nanoseconds)).filter(|&time| time != (0, 0)))
}

fn allowed_ip(bytes: &[u8]) -> io::Result<AllowedIp> {
    let (mut family, mut address, mut cidr) = (None, None, None);
    for (kind, value) in attributes(bytes) {
        let value = value?;
        match kind {
            ip::FAMILY => family = Some(number::<u16>(value)?),
            ip::ADDRESS => address = Some(value),
            ip::CIDR => cidr = Some(number::<u8>(value)?),
            _ => {}
        }
    }
    let (ip, longest): (IpAddr, u8) = match (family, address) {
        (Some(AF_INET), Some(v4)) => (<[u8; 4]>::try_from(v4).map_err(|_| malformed())?.into(), 32),
        (Some(AF_INET6), Some(v6)) => (
            <[u8; 16]>::try_from(v6).map_err(|_| malformed())?.into(),
            128,
        ),
        _ => return Err(malformed()),
    };
    let cidr = cidr.filter(|&cidr| cidr <= longest).ok_or_else(malformed)?;
    Ok(AllowedIp { ip, cidr })
}
