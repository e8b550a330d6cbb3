// SPDX-License-Identifier: BSD-2-Clause
//! The Linux kernel's generic netlink family "wireguard".
//!
//! An interface is read by a dump, in which a long list of peers, or of one peer's allowed IPs, continues in further
//! messages ([`read`]). It is changed by one or more requests ([`mod@write`]), each of which the kernel applies as it
//! comes. [`message`] and `socket` are what any netlink family needs.

use std::io;

use rustix::io::Errno;
use rustix::net::netlink;

use super::Backend;
use crate::change::Change;
use crate::device::Device;
use message::{DUMP, Message, attributes};
use read::Assembler;
use socket::{Inconsistent, Socket};
use write::Requests;

pub mod message;
pub mod read;
mod socket;
pub mod write;

/// The family's name and version, and its commands.
const FAMILY: &[u8] = b"wireguard\0";
const VERSION: u8 = 1;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;

/// How often a dump is begun anew because the interface changed meanwhile. Stock wg(8) has no end to it.
const DUMPS: usize = 100;

/// The Linux kernel's interfaces.
#[derive(Default)]
pub struct Genetlink {}

impl Backend for Genetlink {
    fn interfaces(&self) -> io::Result<Vec<String>> {
        let mut socket = Socket::open(None)?;
        dumped(|| links(&mut socket))
    }

    fn get(&self, name: &str) -> io::Result<Device> {
        let mut socket = Socket::open(Some(netlink::GENERIC))?;
        let family = family_for(&mut socket, name)?;
        dumped(|| {
            let mut message = Message::generic(family, DUMP, GET_DEVICE, VERSION);
            message.name(write::IFNAME, name)?;
            let mut device = Assembler::new(name);
            let done = socket.request(&mut message, &mut |_, payload| device.add(payload))?;
            Ok(done.map(|()| device.finish()))
        })
    }

    fn set(&self, name: &str, change: &Change) -> io::Result<()> {
        let mut socket = Socket::open(Some(netlink::GENERIC))?;
        let family = family_for(&mut socket, name)?;
        let mut requests = Requests::new(family, name, change, message::CAPACITY)?;
        while let Some(mut message) = requests.next_message() {
            // Only a dump can be inconsistent.
            let _ = socket.request(&mut message, &mut |_, _| Ok(()))?;
        }
        Ok(())
    }
}

/// Repeats a dump until the kernel has shown one state from its beginning to its end.
fn dumped<T>(mut dump: impl FnMut() -> io::Result<Result<T, Inconsistent>>) -> io::Result<T> {
    for _ in 0..DUMPS {
        if let Ok(whole) = dump()? {
            return Ok(whole);
        }
    }
    Err(Errno::INTR.into())
}

/// The family's number, to ask about an interface.
///
/// # Errors
/// ENAMETOOLONG for what is no interface's name. ENODEV where neither the family nor the interface exists: that this
/// kernel has no WireGuard says nothing to somebody who has mistyped a name.
fn family_for(socket: &mut Socket, name: &str) -> io::Result<u16> {
    const IFNAMSIZ: usize = 16;
    if name.len() >= IFNAMSIZ {
        return Err(Errno::NAMETOOLONG.into());
    }
    family(socket).map_err(|e| {
        let unknown = e.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error());
        if unknown && !socket.has_link(name) {
            return Errno::NODEV.into();
        }
        e
    })
}

/// The number that the kernel has given to the family, which it loads for the question if it can.
///
/// # Errors
/// EPROTONOSUPPORT when the kernel has no such family.
fn family(socket: &mut Socket) -> io::Result<u16> {
    const CONTROLLER: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    let mut message = Message::generic(CONTROLLER, message::ACKNOWLEDGED, GET_FAMILY, 1);
    message.put(FAMILY_NAME, FAMILY);
    let mut id = None;
    let answer = socket.request(&mut message, &mut |_, payload| {
        for (kind, value) in attributes(message::generic_payload(payload)?) {
            if kind == FAMILY_ID {
                id = Some(message::number(value?)?);
            }
        }
        Ok(())
    });
    match (answer, id) {
        (Ok(_), Some(id)) => Ok(id),
        (Ok(_), None) => Err(Errno::PROTONOSUPPORT.into()),
        (Err(e), _) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            Err(Errno::PROTONOSUPPORT.into())
        }
        (Err(e), _) => Err(e),
    }
}

/// Names of the links that are WireGuard interfaces (rtnetlink(7)).
fn links(socket: &mut Socket) -> io::Result<Result<Vec<String>, Inconsistent>> {
    const NEW_LINK: u16 = 16;
    const GET_LINK: u16 = 18;
    let mut message = Message::new(GET_LINK, DUMP);
    // The fixed part, `struct ifinfomsg`: nothing chosen.
    message.raw(&[0; 16]);
    let mut names = Vec::new();
    let done = socket.request(&mut message, &mut |kind, payload| {
        if kind == NEW_LINK {
            names.extend(read::wireguard_link(payload)?);
        }
        Ok(())
    })?;
    Ok(done.map(|()| names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_repeated_until_it_is_of_one_piece() {
        let mut tries = 0;
        let mut after = |times: usize| {
            tries = 0;
            let answer = dumped(|| {
                tries += 1;
                Ok(if tries > times {
                    Ok(tries)
                } else {
                    Err(Inconsistent)
                })
            });
            answer.map_err(|e| e.raw_os_error())
        };
        assert_eq!(after(0), Ok(1));
        assert_eq!(after(2), Ok(3));
        assert_eq!(after(DUMPS - 1), Ok(DUMPS));
        assert_eq!(after(DUMPS), Err(Some(Errno::INTR.raw_os_error())));
        let fails = dumped::<()>(|| Err(Errno::NODEV.into()));
        assert_eq!(
            fails.unwrap_err().raw_os_error(),
            Some(Errno::NODEV.raw_os_error())
        );
    }

    /// This machine's kernel answers, whether it has the family or not. What it does with an interface is for the tests
    /// in an emulated machine.
    #[test]
    #[cfg(not(miri))]
    fn the_kernel_here() {
        assert!(Genetlink::default().interfaces().is_ok());
        let known = [Errno::NODEV, Errno::PROTONOSUPPORT, Errno::PERM].map(Errno::raw_os_error);
        let error = Genetlink::default().get("no-such-one").unwrap_err();
        assert_ne!(
            error.raw_os_error(),
            Some(Errno::PROTONOSUPPORT.raw_os_error())
        );
        let long = Genetlink::default().get("a-name-of-16-ch.").unwrap_err();
        assert_eq!(long.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
        let (get, set) = (
            Genetlink::default().get("no-such-one").unwrap_err(),
            Genetlink::default()
                .set("no-such-one", &Change::default())
                .unwrap_err(),
        );
        for error in [get, set] {
            assert!(known.map(Some).contains(&error.raw_os_error()), "{error}");
        }
    }
}
