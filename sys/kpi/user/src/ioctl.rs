// SPDX-License-Identifier: BSD-2-Clause
//! `SIOCSWG`, `SIOCGWG` and the list of an interface group's members.

use std::ffi::c_ulong;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Room for an interface's name, its terminating NUL included (`IFNAMSIZ`).
const NAME: usize = 16;

/// `struct wg_data_io`: 32 bytes.
#[repr(C)]
struct WgData {
    name: [u8; NAME],
    data: *mut u8,
    size: usize,
}

/// `struct ifgroupreq` as `SIOCGIFGMEMB` uses it: 40 bytes. After the length comes a union whose largest member is a
/// name; its first bytes hold the pointer here.
#[repr(C)]
struct GroupRequest {
    name: [u8; NAME],
    /// Bytes at `members`.
    len: u32,
    members: *mut [u8; NAME],
    unused: [u8; 8],
}

/// `_IOWR('i', n, T)`.
const fn iowr<T>(n: c_ulong) -> c_ulong {
    0xc000_0000 | (size_of::<T>() as c_ulong & 0x1fff) << 16 | (b'i' as c_ulong) << 8 | n
}

const SIOCSWG: c_ulong = iowr::<WgData>(210);
const SIOCGWG: c_ulong = iowr::<WgData>(211);
const SIOCGIFGMEMB: c_ulong = iowr::<GroupRequest>(138);

/// How often a group may grow between the question for its size and the one for its members.
const TRIES: usize = 100;

const _: () = assert!(SIOCSWG == 0xc020_69d2 && SIOCGWG == 0xc020_69d3);
const _: () = assert!(SIOCGIFGMEMB == 0xc028_698a);

/// A socket through which interfaces are configured.
pub struct Control(OwnedFd);

impl Control {
    /// Opens the socket. It is a local one, which a kernel without IPv4 has too.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Control> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_LOCAL, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `socket` has just made this descriptor, and nothing else knows it.
        Ok(Control(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Names of the members of an interface group, which a cloner's interfaces form. A group that does not exist has
    /// none.
    ///
    /// # Errors
    /// The system's.
    pub fn group_members(&self, group: &str) -> io::Result<Vec<String>> {
        for _ in 0..TRIES {
            let mut request = GroupRequest {
                name: field(group)?,
                len: 0,
                members: std::ptr::null_mut(),
                unused: [0; 8],
            };
            // SAFETY: `request` is the structure that this number stands for; with length 0 the kernel writes
            // nothing but the length.
            match unsafe { self.ioctl(SIOCGIFGMEMB, &raw mut request) } {
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
                other => other?,
            }
            let mut members = vec![[0; NAME]; request.len as usize / NAME];
            if members.is_empty() {
                return Ok(Vec::new());
            }
            request.members = members.as_mut_ptr();
            // SAFETY: as above; `members` points to `len` bytes that live until the call has returned.
            match unsafe { self.ioctl(SIOCGIFGMEMB, &raw mut request) } {
                // Another member has joined since.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => continue,
                // The group was removed with its last member.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
                other => other?,
            }
            // Where members have left, the end is still zero.
            return Ok(members.iter().map(text).filter(|m| !m.is_empty()).collect());
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// The size in bytes of what [`get`](Self::get) would give now.
    ///
    /// # Errors
    /// ENXIO for no such interface, ENOTTY or EINVAL for one of another kind, ENOMEM.
    pub fn size(&self, interface: &str) -> io::Result<usize> {
        let mut data = WgData {
            name: field(interface)?,
            data: std::ptr::null_mut(),
            size: 0,
        };
        // SAFETY: `data` is the structure that this number stands for; with size 0 the kernel touches no buffer.
        unsafe { self.ioctl(SIOCGWG, &raw mut data) }?;
        Ok(data.size)
    }

    /// Reads the packed nvlist that describes an interface into `buffer`; the result is its size in bytes.
    ///
    /// # Errors
    /// As [`size`](Self::size), and ENOSPC when `buffer` is too small.
    pub fn get(&self, interface: &str, buffer: &mut [u8]) -> io::Result<usize> {
        let mut data = WgData {
            name: field(interface)?,
            data: buffer.as_mut_ptr(),
            size: buffer.len(),
        };
        // SAFETY: as above; `data` and `size` describe `buffer`, which is ours alone during the call.
        unsafe { self.ioctl(SIOCGWG, &raw mut data) }?;
        Ok(data.size.min(buffer.len()))
    }

    /// Applies a packed nvlist to an interface. The kernel reads `message` and does not write it.
    ///
    /// # Errors
    /// As [`size`](Self::size); EPERM without the privilege, and why the driver refuses the message.
    pub fn set(&self, interface: &str, message: &[u8]) -> io::Result<()> {
        let mut data = WgData {
            name: field(interface)?,
            data: message.as_ptr().cast_mut(),
            size: message.len(),
        };
        // SAFETY: as above; for this number the kernel only copies from `data`.
        unsafe { self.ioctl(SIOCSWG, &raw mut data) }
    }

    /// # Safety
    /// `argument` is the structure that `request` stands for, and its pointers are good for the kernel's access.
    unsafe fn ioctl<T>(&self, request: c_ulong, argument: *mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open; the rest is the caller's promise.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// A name in the kernel's field for it. Nothing can have a longer one, hence the error ENXIO.
fn field(name: &str) -> io::Result<[u8; NAME]> {
    let mut field = [0; NAME];
    match field[..NAME - 1].get_mut(..name.len()) {
        Some(room) => room.copy_from_slice(name.as_bytes()),
        None => return Err(io::Error::from_raw_os_error(libc::ENXIO)),
    }
    Ok(field)
}

/// The name in the kernel's field.
fn text(field: &[u8; NAME]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(NAME);
    String::from_utf8_lossy(&field[..end]).into_owned()
}
