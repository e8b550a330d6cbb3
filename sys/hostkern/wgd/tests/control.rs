// SPDX-License-Identifier: BSD-2-Clause
//! The control socket with a device that only takes notes.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use wgd::control::{ControlSocket, Device, MAX_CLIENTS, STALL, Server};
use wgd::uapi::{ReplyWriter, SetRequest};
use zeroize::Zeroizing;

/// Replies to `get` with its port, and refuses port 13.
#[derive(Default)]
struct Notes {
    port: Mutex<u16>,
    /// A `set` of port 1 waits for this.
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Device for Notes {
    fn get(&self) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let mut reply = ReplyWriter::with_capacity(100);
        reply.listen_port(*self.port.lock().unwrap());
        Ok(reply.finish())
    }

    fn set(&self, request: &SetRequest) -> Result<(), Errno> {
        let port = request.listen_port.unwrap_or(0);
        if port == 13 {
            return Err(Errno::ADDRINUSE);
        }
        if port == 1
            && let Some(gate) = self.gate.lock().unwrap().take()
        {
            gate.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        *self.port.lock().unwrap() = port;
        Ok(())
    }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("wgd-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn client(server: &Server) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.serve(theirs);
    ours.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    ours
}

/// Reads one reply.
fn reply(mut stream: &UnixStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\n\n") {
        match stream.read(&mut byte).unwrap() {
            0 => return format!("{text}<end>"),
            _ => text.push(char::from(byte[0])),
        }
    }
    text
}

fn ask(mut stream: &UnixStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    reply(stream)
}

#[test]
fn requests_and_replies() {
    let server = Server::new(Arc::new(Notes::default()));
    let c = client(&server);
    assert_eq!(ask(&c, "set=1\nlisten_port=7\n\n"), "errno=0\n\n");
    assert_eq!(ask(&c, "get=1\n\n"), "listen_port=7\nerrno=0\n\n");
    // The device's refusal and the parser's have the sign that wg(8) wants.
    assert_eq!(ask(&c, "set=1\nlisten_port=13\n\n"), "errno=-98\n\n");
    assert_eq!(
        ask(&c, "set=1\nlisten_port=x\nfwmark=1\n\n"),
        "errno=-22\n\n"
    );
    assert_eq!(ask(&c, "set=1\nlisten_port\n\n"), "errno=-71\n\n");
    assert_eq!(ask(&c, "get=1\nx=1\n\n"), "errno=22\n\n");
    // Two at once.
    assert_eq!(ask(&c, "set=1\nlisten_port=9\n\nget=1\n\n"), "errno=0\n\n");
    assert_eq!(reply(&c), "listen_port=9\nerrno=0\n\n");
    // Cut short: an error, and nothing is changed.
    (&c).write_all(b"set=1\nlisten_port=10\n").unwrap();
    c.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reply(&c), "errno=-71\n\n");
    assert_eq!(reply(&c), "<end>");
    assert_eq!(
        ask(&client(&server), "get=1\n\n"),
        "listen_port=9\nerrno=0\n\n"
    );
    assert_eq!(ask(&client(&server), "hello\n"), "<end>");
    server.close();
}

#[test]
fn one_byte_at_a_time() {
    let server = Server::new(Arc::new(Notes::default()));
    let c = client(&server);
    for byte in b"set=1\nlisten_port=1234\n\n" {
        (&c).write_all(&[*byte]).unwrap();
    }
    assert_eq!(reply(&c), "errno=0\n\n");
    assert_eq!(ask(&c, "get=1\n\n"), "listen_port=1234\nerrno=0\n\n");
}

#[test]
fn a_slow_client_blocks_nobody() {
    let (open, gate) = mpsc::channel();
    let server = Server::new(Arc::new(Notes {
        port: Mutex::new(5),
        gate: Mutex::new(Some(gate)),
    }));
    let half = client(&server);
    (&half).write_all(b"set=1\nlisten_port=").unwrap();
    let executing = client(&server);
    (&executing).write_all(b"set=1\nlisten_port=1\n\n").unwrap();
    let begin = Instant::now();
    assert_eq!(
        ask(&client(&server), "get=1\n\n"),
        "listen_port=5\nerrno=0\n\n"
    );
    assert!(begin.elapsed() < STALL / 2);
    open.send(()).unwrap();
    assert_eq!(reply(&executing), "errno=0\n\n");
    // The slow one is served in the end.
    assert_eq!(ask(&half, "2\n\n"), "errno=0\n\n");
}

#[test]
fn too_many_clients_push_out_the_quietest() {
    // Both ends of each connection are here.
    wgd::privileges::allow_descriptors();
    let server = Server::new(Arc::new(Notes::default()));
    let clients: Vec<_> = (0..MAX_CLIENTS).map(|_| client(&server)).collect();
    for c in &clients[1..] {
        assert_eq!(ask(c, "get=1\n\n"), "listen_port=0\nerrno=0\n\n");
    }
    assert_eq!(
        ask(&client(&server), "get=1\n\n"),
        "listen_port=0\nerrno=0\n\n"
    );
    assert_eq!(reply(&clients[0]), "<end>");
    assert_eq!(ask(&clients[1], "get=1\n\n"), "listen_port=0\nerrno=0\n\n");
}

#[test]
fn closing_disconnects() {
    let server = Server::new(Arc::new(Notes::default()));
    let idle = client(&server);
    let half = client(&server);
    (&half).write_all(b"set=1\n").unwrap();
    server.close();
    assert_eq!(reply(&idle), "<end>");
    let mut rest = String::new();
    (&half).read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty() || rest == "errno=-71\n\n", "{rest:?}");
    let late = client(&server);
    assert_eq!(reply(&late), "<end>");
}

#[test]
fn the_socket_file() {
    let folder = Folder::new("file");
    let first = ControlSocket::bind(&folder.0, "wg0").unwrap();
    let mode = |p: &std::path::Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.0), 0o700);
    assert_eq!(mode(first.path()), 0o600);
    assert!(first.exists());

    // A second one on the same name fails and leaves the first alone.
    let refused = ControlSocket::bind(&folder.0, "wg0").unwrap_err();
    assert!(refused.contains("already"), "{refused}");
    assert!(first.exists());
    drop(ControlSocket::bind(&folder.0, "wg1").unwrap());

    // Dropping removes the file.
    let path = first.path().to_owned();
    drop(first);
    assert!(!path.exists());

    // A stale one is replaced.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let second = ControlSocket::bind(&folder.0, "wg0").unwrap();

    // Removed and made anew by another: not ours to remove.
    fs::remove_file(&path).unwrap();
    assert!(!second.exists());
    let other = UnixListener::bind(&path).unwrap();
    assert!(!second.exists());
    drop(second);
    assert!(path.exists());
    drop(other);
    fs::remove_file(&path).unwrap();

    // Something else under the name.
    fs::write(&path, "x").unwrap();
    assert!(ControlSocket::bind(&folder.0, "wg0").is_err());
    assert!(path.exists());
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let folder = Folder::new("open");
    fs::create_dir(&folder.0).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(ControlSocket::bind(&folder.0, "wg0").is_err());
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ControlSocket::bind(&folder.0, "wg0").is_ok());
}
