// SPDX-License-Identifier: BSD-2-Clause
//! What the Linux kernel answers: datagrams, and the attributes in them.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use wgtools::backend::genetlink::message::{Replies, Reply};
use wgtools::backend::genetlink::read::{Assembler, wireguard_link};
use wgtools::device::{AllowedIp, Device, Peer};
use wgtools::key::{PublicKey, SecretKey};

use crate::plain;

const BAD_MESSAGE: i32 = 74;

/// The attributes of a dump: acceptance and values are those of a naive reading, and it makes no difference whether they
/// come in one message or in many.
///
/// An odd first byte of the input asks for lengths to be brought into range first.
pub fn netlink_dump(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mode & 1 != 0 {
        mend(&mut bytes, 0);
    }
    let mut whole = Assembler::new("asked");
    let read = whole.add(&[&[0, 1, 0, 0], &bytes[..]].concat());
    let naive = device(&bytes);
    match (&read, naive) {
        (Ok(()), Some(naive)) => {
            let read = plain::device(&whole.finish());
            assert_eq!(read, plain::device(&naive));
            let mut pieces = Assembler::new("asked");
            for part in attributes(&bytes).expect("they were read before") {
                pieces
                    .add(&[&[0, 1, 0, 0], part.whole].concat())
                    .expect("nothing is wrong with it");
            }
            assert_eq!(plain::device(&pieces.finish()), read);
        }
        (Err(e), None) => assert_eq!(e.raw_os_error(), Some(BAD_MESSAGE)),
        (read, naive) => panic!("{read:?}, naive: {}", naive.is_some()),
    }
    match wireguard_link(&bytes) {
        Ok(Some(name)) => assert!(!name.contains('\0')),
        Ok(None) => {}
        Err(e) => assert_eq!(e.raw_os_error(), Some(BAD_MESSAGE)),
    }
}

/// A datagram: the messages for this request, and what each means, are those of a naive reading.
pub fn netlink_datagram(input: &[u8]) {
    const SEQUENCE: u32 = 5;
    let mut replies = Replies::new(input, SEQUENCE);
    let mut seen = Vec::new();
    for reply in replies.by_ref() {
        seen.push(match reply {
            Ok(Reply::Part(kind, payload)) => format!("part {kind} {payload:?}"),
            Ok(Reply::End(end)) => format!("end {end:?}"),
            Err(e) => format!("error {:?}", e.raw_os_error()),
        });
    }
    assert!(replies.next().is_none(), "the end is the end");

    let word = |at: usize| {
        input
            .get(at..at + 4)
            .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    };
    let (mut naive, mut inconsistent, mut at) = (Vec::new(), false, 0);
    while at < input.len() {
        let end = word(at).and_then(|len| at.checked_add(usize::try_from(len).ok()?));
        let Some(end) = end.filter(|&end| end >= at + 16 && end <= input.len()) else {
            naive.push(format!("error Some({BAD_MESSAGE})"));
            break;
        };
        let kind = u16::from_ne_bytes([input[at + 4], input[at + 5]]);
        let payload = &input[at + 16..end];
        if word(at + 8) == Some(SEQUENCE) {
            inconsistent |= input[at + 6..at + 8]
                != (u16::from_ne_bytes([input[at + 6], input[at + 7]]) & !0x10).to_ne_bytes();
            let code = payload.first_chunk().map(|b| i32::from_ne_bytes(*b));
            match (kind, code) {
                (1, _) => {}
                (4, _) => naive.push("error Some(105)".to_owned()),
                (3, None) if payload.is_empty() => naive.push("end Ok(())".to_owned()),
                (2 | 3, None | Some(i32::MIN)) => naive.push(format!("error Some({BAD_MESSAGE})")),
                (2 | 3, Some(code)) if code < 0 => naive.push(format!("end Err({})", -code)),
                (2 | 3, Some(_)) => naive.push("end Ok(())".to_owned()),
                _ => naive.push(format!("part {kind} {payload:?}")),
            }
        }
        at = end.next_multiple_of(4);
    }
    assert_eq!(seen, naive);
    assert_eq!(replies.inconsistent, inconsistent);
}

/// Brings the lengths of attributes into range, down to the level of allowed IPs.
fn mend(bytes: &mut [u8], level: u32) {
    let mut at = 0;
    while bytes.len() - at >= 4 {
        let most = bytes.len() - at;
        let len = usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]))
            .clamp(4, most)
            .min(0xffff);
        bytes[at..at + 2].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_ne_bytes());
        let kind = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]) & 0x3fff;
        if matches!((level, kind), (0, 8) | (1, _) | (2, 9) | (3, _)) {
            mend(&mut bytes[at + 4..at + len], level + 1);
        }
        at += len.next_multiple_of(4);
        if at > bytes.len() {
            break;
        }
    }
}

struct Part<'a> {
    kind: u16,
    value: &'a [u8],
    whole: &'a [u8],
}

fn attributes(bytes: &[u8]) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let header = bytes.get(at..at + 4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let whole = bytes.get(at..at + len)?;
        parts.push(Part {
            kind,
            value: whole.get(4..)?,
            whole,
        });
        at += len.next_multiple_of(4);
    }
    Some(parts)
}

fn device(bytes: &[u8]) -> Option<Device> {
    let mut device = Device::new("asked");
    for Part { kind, value, .. } in attributes(bytes)? {
        match kind {
            2 => {
                let end = value.iter().position(|&b| b == 0)?;
                device.name = String::from_utf8_lossy(&value[..end]).into_owned();
            }
            3 => device.private_key = secret(value)?,
            4 => device.public_key = Some(PublicKey(value.try_into().ok()?)),
            6 => device.listen_port = u16::from_ne_bytes(value.try_into().ok()?),
            7 => device.fwmark = u32::from_ne_bytes(value.try_into().ok()?),
            8 => {
                for part in attributes(value)? {
                    let next = peer(part.value)?;
                    match device.peers.last_mut() {
                        Some(last) if last.public_key == next.public_key => {
                            go_on(last, part.value)?;
                        }
                        _ => device.peers.push(next),
                    }
                }
            }
            _ => {}
        }
    }
    Some(device)
}

fn secret(value: &[u8]) -> Option<Option<SecretKey>> {
    let key: [u8; 32] = value.try_into().ok()?;
    Some((key != [0; 32]).then(|| SecretKey::new(&key)))
}

fn peer(bytes: &[u8]) -> Option<Peer> {
    let parts = attributes(bytes)?;
    let keys: Option<Vec<[u8; 32]>> = parts
        .iter()
        .filter(|p| p.kind == 1)
        .map(|p| p.value.try_into().ok())
        .collect();
    let mut peer = Peer::new(PublicKey(*keys?.last()?));
    go_on(&mut peer, bytes)?;
    Some(peer)
}

fn go_on(peer: &mut Peer, bytes: &[u8]) -> Option<()> {
    for Part { kind, value, .. } in attributes(bytes)? {
        match kind {
            2 => peer.preshared_key = secret(value)?,
            4 => peer.endpoint = endpoint(value),
            5 => peer.persistent_keepalive = u16::from_ne_bytes(value.try_into().ok()?),
            6 => {
                let halves: [u8; 16] = value.try_into().ok()?;
                let (seconds, nanoseconds) = halves.split_at(8);
                let seconds = u64::from_ne_bytes(seconds.try_into().ok()?);
                let nanoseconds = u64::from_ne_bytes(nanoseconds.try_into().ok()?);
                let nanoseconds = u32::try_from(nanoseconds).ok()?;
                peer.last_handshake =
                    (seconds != 0 || nanoseconds != 0).then_some((seconds, nanoseconds));
            }
            7 => peer.rx_bytes = u64::from_ne_bytes(value.try_into().ok()?),
            8 => peer.tx_bytes = u64::from_ne_bytes(value.try_into().ok()?),
            9 => {
                for part in attributes(value)? {
                    peer.allowed_ips.push(allowed_ip(part.value)?);
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]);
    let family = u16::from_ne_bytes([value[0], value[1]]);
    let word = |at: usize| [value[at], value[at + 1], value[at + 2], value[at + 3]];
    match (family, value.len()) {
        (2, 16) => Some(SocketAddr::new(IpAddr::from(word(4)), port)),
        (10, 28) => {
            let ip: [u8; 16] = value[8..24].try_into().ok()?;
            let (flow, scope) = (u32::from_be_bytes(word(4)), u32::from_ne_bytes(word(24)));
            Some(SocketAddrV6::new(ip.into(), port, flow, scope).into())
        }
        _ => None,
    }
}

fn allowed_ip(bytes: &[u8]) -> Option<AllowedIp> {
    let parts = attributes(bytes)?;
    // Every one is of the right size, and the last one counts.
    let of = |kind: u16| parts.iter().filter(move |p| p.kind == kind);
    if !of(1).all(|p| p.value.len() == 2) || !of(3).all(|p| p.value.len() == 1) {
        return None;
    }
    let last = |kind: u16| of(kind).next_back().map(|p| p.value);
    let family = u16::from_ne_bytes(last(1)?.try_into().ok()?);
    let ip: IpAddr = match family {
        2 => <[u8; 4]>::try_from(last(2)?).ok()?.into(),
        10 => <[u8; 16]>::try_from(last(2)?).ok()?.into(),
        _ => return None,
    };
    let cidr = last(3)?[0];
    (cidr <= if ip.is_ipv4() { 32 } else { 128 }).then_some(AllowedIp { ip, cidr })
}
