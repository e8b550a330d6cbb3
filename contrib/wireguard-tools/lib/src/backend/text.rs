// SPDX-License-Identifier: BSD-2-Clause
//! The text protocol of WireGuard in user space, over a local socket: `/var/run/wireguard/NAME.sock`.

use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::Backend;
use crate::change::Change;
use crate::device::{AllowedIp, Device, Peer};
use crate::endpoint;
use crate::key::{HEX_LEN, KEY_LEN, PublicKey, SecretKey};

/// Where the sockets are.
pub const DIRECTORY: &str = "/var/run/wireguard";

/// What a socket's name has after the interface's.
const SUFFIX: &str = ".sock";

/// Bytes that are read or written at a time. No line of a reply may be longer.
const CHUNK: usize = 1 << 16;

/// Interfaces of processes that listen on sockets.
pub struct Text {
    directory: PathBuf,
}

impl Default for Text {
    /// The sockets in [`DIRECTORY`].
    fn default() -> Text {
        Text::at(DIRECTORY)
    }
}

impl Text {
    /// The sockets in another folder.
    pub fn at(directory: impl Into<PathBuf>) -> Text {
        Text {
            directory: directory.into(),
        }
    }

    /// Whether a process listens for this interface. A socket that nobody listens on any more is removed.
    #[must_use]
    pub fn serves(&self, name: &str) -> bool {
        match self.connect(name) {
            Ok(_) => true,
            Err(failure) => failure.occupied,
        }
    }

    /// Whether the caller may not even see if there is such a process.
    pub(super) fn is_forbidden(&self, name: &str) -> bool {
        let path = self.directory.join(format!("{name}{SUFFIX}"));
        let seen = std::fs::metadata(path);
        !name.contains('/') && seen.is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    }

    fn connect(&self, name: &str) -> Result<UnixStream, Failure> {
        let absent = |error| Failure {
            error,
            occupied: false,
        };
        if name.contains('/') {
            return Err(absent(Errno::INVAL.into()));
        }
        let path = self.directory.join(format!("{name}{SUFFIX}"));
        if !std::fs::metadata(&path)
            .map_err(absent)?
            .file_type()
            .is_socket()
        {
            return Err(absent(Errno::BADF.into()));
        }
        UnixStream::connect(&path).map_err(|error| {
            let gone = error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error());
            if gone {
                // Whoever listened there has died. If the file cannot be removed it stays.
                let _ = std::fs::remove_file(&path);
            }
            Failure {
                error,
                occupied: !gone,
            }
        })
    }
}

/// Why there is no connection.
struct Failure {
    error: io::Error,
    /// Whether somebody may be there nevertheless.
    occupied: bool,
}

impl Backend for Text {
    fn interfaces(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            // A name that is not text cannot be an interface's.
            let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            if let Some(name) = name.filter(|name| !name.is_empty() && self.serves(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn get(&self, name: &str) -> io::Result<Device> {
        let mut socket = self.connect(name).map_err(|f| f.error)?;
        socket.write_all(b"get=1\n\n")?;
        read_device(name, socket)
    }

    fn set(&self, name: &str, change: &Change) -> io::Result<()> {
        let socket = self.connect(name).map_err(|f| f.error)?;
        let sent = write_change(&socket, change);
        let mut errno = None;
        // A process that refuses a request may close the connection before it has read all of it, in which case the
        // answer says more than the failed write.
        let answer = Lines::new(&socket).each(|line| {
            let (key, value) = pair(line)?;
            if key == "errno" {
                // Some write it negative, some do not.
                errno = Some(number(value.strip_prefix('-').unwrap_or(value))?);
            }
            Ok(())
        });
        match (answer, errno) {
            (Ok(()), Some(0)) => sent,
            (Ok(()), Some(errno)) => Err(io::Error::from_raw_os_error(errno)),
            (answer, _) => sent.and(answer).and(Err(Errno::PROTO.into())),
        }
    }
}

/// Reads the reply to a `get`.
///
/// # Errors
/// What the other side answers, EPROTO for what is no answer, ENETUNREACH for an endpoint of no kind that is known.
pub fn read_device(name: &str, from: impl Read) -> io::Result<Device> {
    let mut reply = Reply {
        device: Device::new(name),
        errno: None,
    };
    Lines::new(from).each(|line| reply.line(line))?;
    for peer in &mut reply.device.peers {
        peer.last_handshake = peer.last_handshake.filter(|&time| time != (0, 0));
    }
    match reply.errno {
        Some(0) => Ok(reply.device),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(Errno::PROTO.into()),
    }
}

/// Writes a `set`.
///
/// # Errors
/// The writer's.
pub fn write_change(to: impl Write, change: &Change) -> io::Result<()> {
    Request::new(to).send(change)
}

/// A `set` on its way.
struct Request<W> {
    to: W,
    /// Never grows, so that no copy of a key is left behind.
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> Request<W> {
    fn new(to: W) -> Request<W> {
        Request {
            to,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK)),
        }
    }

    /// Sends the whole request.
    fn send(&mut self, change: &Change) -> io::Result<()> {
        self.write_all(b"set=1\n")?;
        if let Some(key) = &change.private_key {
            self.hex("private_key", key.bytes())?;
        }
        if let Some(port) = change.listen_port {
            writeln!(self, "listen_port={port}")?;
        }
        if let Some(mark) = change.fwmark {
            writeln!(self, "fwmark={mark}")?;
        }
        if change.replace_peers {
            self.write_all(b"replace_peers=true\n")?;
        }
        for peer in &change.peers {
            self.hex("public_key", peer.public_key.bytes())?;
            if peer.remove {
                self.write_all(b"remove=true\n")?;
                continue;
            }
            if peer.update_only {
                self.write_all(b"update_only=true\n")?;
            }
            if let Some(key) = &peer.preshared_key {
                self.hex("preshared_key", key.bytes())?;
            }
            if let Some(address) = &peer.endpoint {
                self.write_all(b"endpoint=")?;
                endpoint::write(self, address)?;
                self.write_all(b"\n")?;
            }
            if let Some(seconds) = peer.persistent_keepalive {
                writeln!(self, "persistent_keepalive_interval={seconds}")?;
            }
            if peer.replace_allowed_ips {
                self.write_all(b"replace_allowed_ips=true\n")?;
            }
            for ip in &peer.allowed_ips {
                self.write_all(if ip.remove {
                    b"allowed_ip=-"
                } else {
                    b"allowed_ip="
                })?;
                endpoint::write_ip(self, ip.ip)?;
                writeln!(self, "/{}", ip.cidr)?;
            }
        }
        self.write_all(b"\n")?;
        self.flush()
    }

    fn hex(&mut self, name: &str, key: &[u8; KEY_LEN]) -> io::Result<()> {
        let mut digits = Zeroizing::new([0; HEX_LEN]);
        // 64 digits hold 32 bytes, so this cannot fail.
        let _ = base16ct::lower::encode(key, &mut *digits);
        self.write_all(name.as_bytes())?;
        self.write_all(b"=")?;
        self.write_all(&*digits)?;
        self.write_all(b"\n")
    }
}

impl<W: Write> Write for Request<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        let n = bytes.len().min(CHUNK);
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A reply, line by line.
struct Lines<R> {
    from: R,
    buffer: Zeroizing<Vec<u8>>,
    /// What of `buffer` was read and not yet given out.
    held: std::ops::Range<usize>,
}

impl<R: Read> Lines<R> {
    fn new(from: R) -> Lines<R> {
        Lines {
            from,
            buffer: Zeroizing::new(vec![0; CHUNK]),
            held: 0..0,
        }
    }

    /// Calls `f` with each line up to the empty one. EPROTO if that does not come, or if a line is not text.
    fn each(mut self, mut f: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        loop {
            while let Some(end) = self.buffer[self.held.clone()]
                .iter()
                .position(|&b| b == b'\n')
            {
                let line = &self.buffer[self.held.start..self.held.start + end];
                self.held.start += end + 1;
                if line.is_empty() {
                    return Ok(());
                }
                f(std::str::from_utf8(line).map_err(|_| Errno::PROTO)?)?;
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        loop {
            match self.from.read(&mut self.buffer[self.held.end..]) {
                // The end, or no room for the rest of a line.
                Ok(0) => return Err(Errno::PROTO.into()),
                Ok(n) => self.held.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            return Ok(());
        }
    }
}

/// What a `get` has said so far.
struct Reply {
    device: Device,
    errno: Option<i32>,
}

impl Reply {
    fn line(&mut self, line: &str) -> io::Result<()> {
        let (key, value) = pair(line)?;
        match self.device.peers.last_mut() {
            _ if key == "public_key" => {
                let mut bytes = [0; KEY_LEN];
                hex(value, &mut bytes)?;
                self.device.peers.push(Peer::new(PublicKey(bytes)));
            }
            _ if key == "errno" => self.errno = Some(number(value)?),
            Some(peer) => peer_line(peer, key, value)?,
            None => device_line(&mut self.device, key, value)?,
        }
        Ok(())
    }
}

fn device_line(device: &mut Device, key: &str, value: &str) -> io::Result<()> {
    match key {
        "private_key" => {
            let key = secret(value)?;
            device.public_key = Some(key.public());
            device.private_key = Some(key);
        }
        "listen_port" => device.listen_port = number(value)?,
        "fwmark" => device.fwmark = number(value)?,
        _ => {}
    }
    Ok(())
}

fn peer_line(peer: &mut Peer, key: &str, value: &str) -> io::Result<()> {
    let handshake = peer.last_handshake.unwrap_or_default();
    match key {
        "preshared_key" => peer.preshared_key = Some(secret(value)?).filter(|key| !key.is_zero()),
        "endpoint" => peer.endpoint = Some(endpoint::reported(value)?),
        "persistent_keepalive_interval" => peer.persistent_keepalive = number(value)?,
        "allowed_ip" => peer
            .allowed_ips
            .push(allowed_ip(value).ok_or(Errno::PROTO)?),
        "last_handshake_time_sec" => peer.last_handshake = Some((number(value)?, handshake.1)),
        "last_handshake_time_nsec" => {
            peer.last_handshake = Some((handshake.0, number(value)?));
        }
        "rx_bytes" => peer.rx_bytes = number(value)?,
        "tx_bytes" => peer.tx_bytes = number(value)?,
        _ => {}
    }
    Ok(())
}

fn pair(line: &str) -> io::Result<(&str, &str)> {
    line.split_once('=').ok_or_else(|| Errno::PROTO.into())
}

/// Digits alone, and as many as fit.
fn number<T: std::str::FromStr>(value: &str) -> io::Result<T> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| Errno::PROTO.into())
}

fn secret(value: &str) -> io::Result<SecretKey> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    hex(value, &mut bytes)?;
    Ok(SecretKey::new(&bytes))
}

/// In constant time.
fn hex(value: &str, key: &mut [u8; KEY_LEN]) -> io::Result<()> {
    match base16ct::mixed::decode(value, key) {
        Ok(bytes) if bytes.len() == KEY_LEN => Ok(()),
        _ => Err(Errno::PROTO.into()),
    }
}

fn allowed_ip(value: &str) -> Option<AllowedIp> {
    let (address, length) = value.split_once('/')?;
    let ip: std::net::IpAddr = address.parse().ok()?;
    let cidr: u8 = number(length).ok()?;
    (cidr <= if ip.is_ipv4() { 32 } else { 128 }).then_some(AllowedIp { ip, cidr })
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
