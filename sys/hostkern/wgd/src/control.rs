// SPDX-License-Identifier: BSD-2-Clause
//! The control socket: `/var/run/wireguard/<ifname>.sock`.
//!
//! Each client has a thread. A request is read completely, then carried out, then its reply is written, so a client
//! that is slow at reading or writing holds nothing that another waits for. Clients are limited in number; when the
//! limit is reached, the one that has been quiet for longest makes room.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::uapi::{Decoder, ErrnoStyle, Event, Hangup, Request, SetRequest, write_errno};
use crate::{error, warning};

/// Where stock `wg` looks for control sockets.
pub const DIRECTORY: &str = "/var/run/wireguard";

/// How many clients may be connected. Programs that watch an interface keep their connections; an idle one costs a
/// descriptor and a sleeping thread.
pub const MAX_CLIENTS: usize = 1000;

/// Stack of a client's thread, which is many times what a request of any size needs.
const STACK: usize = 256 << 10;

/// How long a client may pause within a request, or leave a reply unread.
pub const STALL: Duration = Duration::from_secs(10);

/// What requests are carried out on.
pub trait Device: Send + Sync + 'static {
    /// The complete reply to a `get`, its end included.
    ///
    /// # Errors
    /// What to tell the client instead, in numbers of this host.
    fn get(&self) -> Result<Zeroizing<Vec<u8>>, Errno>;

    /// Applies a `set`, all of it or nothing.
    ///
    /// # Errors
    /// What to tell the client, in numbers of this host.
    fn set(&self, request: &SetRequest) -> Result<(), Errno>;
}

/// The listening socket. Dropping it removes the file, if the file is still this socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    id: (u64, u64),
}

impl ControlSocket {
    /// Takes the name `<ifname>.sock` in `directory`, which is created if need be. A socket that nobody listens on
    /// is replaced.
    ///
    /// # Errors
    /// One line for the user.
    pub fn bind(directory: &Path, ifname: &str) -> Result<ControlSocket, String> {
        prepare_directory(directory)?;
        let path = directory.join(format!("{ifname}.sock"));
        let shown = path.display();
        if let Ok(meta) = fs::symlink_metadata(&path) {
            if !meta.file_type().is_socket() {
                return Err(format!("{shown} exists and is not a socket"));
            }
            match UnixStream::connect(&path) {
                Ok(_) => return Err(format!("already run by another process ({shown})")),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(&path)
                        .map_err(|e| format!("cannot replace the stale socket {shown}: {e}"))?;
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(format!("cannot tell who owns {shown}: {e}")),
            }
        }
        // The folder keeps others out until the mode is set.
        let listener = UnixListener::bind(&path).map_err(|e| match e.kind() {
            ErrorKind::AddrInUse => format!("being started by another process ({shown})"),
            _ => format!("cannot create {shown}: {e}"),
        })?;
        let meta = fs::set_permissions(&path, Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::symlink_metadata(&path))
            .map_err(|e| format!("cannot set up {shown}: {e}"))?;
        Ok(ControlSocket {
            listener,
            path,
            id: (meta.dev(), meta.ino()),
        })
    }

    /// The socket, which does not block.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still there and still this socket.
    #[must_use]
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.id)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.exists() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn prepare_directory(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(format!("cannot create {shown}: {e}")),
    }
    let meta =
        fs::symlink_metadata(directory).map_err(|e| format!("cannot look at {shown}: {e}"))?;
    if !meta.is_dir() {
        return Err(format!("{shown} is not a folder"));
    }
    // Another implementation may have made it readable for all, which the sockets' own modes make up for. One that
    // others can write to would let them take a name before us.
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(format!(
            "{shown} can be changed by other users; make it root's, mode 0700"
        ));
    }
    Ok(())
}

/// The clients of one interface.
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    device: Arc<dyn Device>,
    clients: Mutex<Clients>,
    /// A client has left.
    left: Condvar,
}

#[derive(Default)]
struct Clients {
    next: u64,
    closing: bool,
    list: Vec<Client>,
}

struct Client {
    id: u64,
    stream: Arc<UnixStream>,
    /// When its latest request was complete, or when it came.
    since: Instant,
    /// Its request is being carried out.
    busy: bool,
}

impl Server {
    /// A server without clients.
    #[must_use]
    pub fn new(device: Arc<dyn Device>) -> Server {
        Server {
            shared: Arc::new(Shared {
                device,
                clients: Mutex::default(),
                left: Condvar::new(),
            }),
        }
    }

    /// Accepts all clients that wait on `listener`.
    pub fn accept(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.serve(stream),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => {
                    // Out of descriptors, most likely: do not spin.
                    error!("cannot accept a client: {e}");
                    thread::sleep(Duration::from_millis(100));
                    return;
                }
            }
        }
    }

    /// Serves one client on a thread of its own.
    pub fn serve(&self, stream: UnixStream) {
        let stream = Arc::new(stream);
        let id = {
            let mut clients = self.shared.lock();
            if clients.closing {
                return;
            }
            if clients.list.len() >= MAX_CLIENTS {
                let quiet = clients
                    .list
                    .iter()
                    .filter(|c| !c.busy)
                    .min_by_key(|c| c.since);
                match quiet {
                    // Its thread sees the end of the stream and leaves.
                    Some(victim) => {
                        let _ = victim.stream.shutdown(Shutdown::Both);
                        let id = victim.id;
                        clients.list.retain(|c| c.id != id);
                    }
                    None => {
                        warning!("too many control clients; one is turned away");
                        return;
                    }
                }
            }
            let id = clients.next;
            clients.next = clients.next.wrapping_add(1);
            clients.list.push(Client {
                id,
                stream: stream.clone(),
                since: Instant::now(),
                busy: false,
            });
            id
        };
        let shared = self.shared.clone();
        let started = thread::Builder::new()
            .name("wgd-client".into())
            .stack_size(STACK)
            .spawn(move || {
                shared.converse(&stream, id);
                shared.leave(id);
            });
        if let Err(e) = started {
            error!("cannot start a thread for a client: {e}");
            self.shared.leave(id);
        }
    }

    /// Disconnects everybody and waits for requests that are being carried out.
    pub fn close(&self) {
        let mut clients = self.shared.lock();
        clients.closing = true;
        for client in &clients.list {
            // A reply under way may still be read.
            let how = if client.busy {
                Shutdown::Read
            } else {
                Shutdown::Both
            };
            let _ = client.stream.shutdown(how);
        }
        let end = Instant::now() + STALL;
        while !clients.list.is_empty() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            clients = self
                .shared
                .left
                .wait_timeout(clients, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Clients> {
        // Every change of the list is complete before anything can panic.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, id: u64) {
        self.lock().list.retain(|c| c.id != id);
        self.left.notify_all();
    }

    fn set_busy(&self, id: u64, busy: bool) {
        if let Some(client) = self.lock().list.iter_mut().find(|c| c.id == id) {
            client.busy = busy;
            client.since = Instant::now();
        }
    }

    /// Reads requests until the client goes, errs beyond repair, or stalls.
    fn converse(&self, mut stream: &UnixStream, id: u64) {
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_write_timeout(Some(STALL));
        let mut decoder = Decoder::new(zone);
        let mut buffer = Zeroizing::new(vec![0; 16 << 10]);
        loop {
            // Between requests a client may be quiet for as long as it likes.
            let patience = decoder.mid_request().then_some(STALL);
            if stream.set_read_timeout(patience).is_err() {
                return;
            }
            let count = match stream.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if count == 0 {
                if let Some(event) = decoder.end() {
                    let _ = self.answer(stream, id, event);
                }
                return;
            }
            let mut input = buffer.get(..count).unwrap_or_default();
            while !input.is_empty() {
                if let Some(event) = decoder.feed(&mut input)
                    && !self.answer(stream, id, event)
                {
                    return;
                }
            }
        }
    }

    /// Carries out one request; false if the connection is finished.
    fn answer(&self, mut stream: &UnixStream, id: u64, event: Event) -> bool {
        self.set_busy(id, true);
        let reply = match event {
            Event::Request(Request::Get) => self
                .device
                .get()
                .unwrap_or_else(|errno| just_errno(Some(errno), ErrnoStyle::Get)),
            Event::Request(Request::Set(request)) => {
                just_errno(self.device.set(&request).err(), ErrnoStyle::Set)
            }
            Event::Fault(style, fault) => {
                error!("configuration refused, nothing changed: {fault}");
                just_errno(Some(fault.errno), style)
            }
            Event::Hangup(why) => {
                match why {
                    Hangup::UnknownOperation => {
                        warning!("a control client speaks another protocol")
                    }
                    Hangup::TooLong => warning!("a control client does not stop"),
                }
                return false;
            }
        };
        let written = stream.write_all(&reply).is_ok();
        self.set_busy(id, false);
        written
    }
}

fn just_errno(errno: Option<Errno>, style: ErrnoStyle) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::new());
    write_errno(&mut out, errno, style);
    out
}

/// The number of a network interface of this host.
fn zone(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(any, name).ok()
}
