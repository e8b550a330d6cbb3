// SPDX-License-Identifier: BSD-2-Clause

use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use crate::change::{AllowedIpChange, PeerChange};

/// A folder that goes away with its sockets.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("wgtools-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// Answers one request, and gives what was asked. Connections that ask nothing do not count.
    fn serve(&self, name: &str, answer: &'static str) -> thread::JoinHandle<String> {
        let listener = UnixListener::bind(self.0.join(format!("{name}.sock"))).unwrap();
        thread::spawn(move || {
            loop {
                let (mut socket, _) = listener.accept().unwrap();
                let mut asked = Vec::new();
                let mut byte = [0];
                while !asked.ends_with(b"\n\n") && socket.read(&mut byte).unwrap() == 1 {
                    asked.push(byte[0]);
                }
                if !asked.is_empty() {
                    socket.write_all(answer.as_bytes()).unwrap();
                    return String::from_utf8(asked).unwrap();
                }
            }
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn errno(result: io::Result<impl Sized>) -> Option<Errno> {
    result.err().and_then(|e| Errno::from_io_error(&e))
}

#[test]
fn a_reply_is_read_whatever_its_pieces() {
    let reply = format!(
        "private_key={0}\nlisten_port=7\nfwmark=9\npublic_key={1}\npreshared_key={2}\nprotocol_version=1\nendpoint=[::1]:3\n\
         last_handshake_time_sec=4\nlast_handshake_time_nsec=5\ntx_bytes=6\nrx_bytes=7\npersistent_keepalive_interval=8\n\
         allowed_ip=10.0.0.0/8\nallowed_ip=::/0\nunknown=1\npublic_key={0}\npreshared_key={2}\nerrno=0\n\n",
        "77".repeat(32),
        "Ab".repeat(32),
        "00".repeat(32),
    );
    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);
    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(to.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    for step in [1, 2, 7, 100, 10_000] {
        let device = read_device("wg0", Slow(reply.as_bytes(), step)).unwrap();
        assert_eq!(
            (device.listen_port, device.fwmark, device.peers.len()),
            (7, 9, 2)
        );
        assert_eq!(
            device.public_key,
            device.private_key.map(|key| key.public())
        );
        let [first, second] = &*device.peers else {
            panic!()
        };
        assert_eq!(first.public_key.bytes(), &[0xab; 32]);
        assert!(first.preshared_key.is_none() && second.endpoint.is_none());
        assert_eq!(first.endpoint, "[::1]:3".parse().ok());
        assert_eq!(
            (first.last_handshake, second.last_handshake),
            (Some((4, 5)), None)
        );
        assert_eq!(
            (first.tx_bytes, first.rx_bytes, first.persistent_keepalive),
            (6, 7, 8)
        );
        assert_eq!(first.allowed_ips.len(), 2);
    }
    // Wherever it ends before its end, it is none.
    for end in 0..reply.len() {
        assert_eq!(
            errno(read_device("wg0", &reply.as_bytes()[..end])),
            Some(Errno::PROTO),
            "{end}"
        );
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let endless = vec![b'x'; 3 * CHUNK];
    assert_eq!(errno(read_device("wg0", &*endless)), Some(Errno::PROTO));
}

#[test]
fn what_a_change_looks_like() {
    let mut peer = PeerChange::new(PublicKey([0xab; 32]));
    peer.update_only = true;
    peer.preshared_key = Some(SecretKey::zero());
    peer.endpoint = "[fd00::1]:4".parse().ok();
    peer.persistent_keepalive = Some(0);
    peer.replace_allowed_ips = true;
    peer.allowed_ips = [("10.0.0.0", 8, false), ("::1", 128, true)]
        .map(|(ip, cidr, remove)| AllowedIpChange {
            ip: ip.parse().unwrap(),
            cidr,
            remove,
        })
        .into();
    let gone = PeerChange {
        remove: true,
        ..PeerChange::new(PublicKey([1; 32]))
    };
    let change = Change {
        private_key: Some(SecretKey::new(&[0x48; 32])),
        listen_port: Some(1),
        fwmark: Some(2),
        replace_peers: true,
        peers: vec![gone, peer],
    };
    let folder = Folder::new("change");
    let server = folder.serve("wg0", "errno=0\n\n");
    Text::at(&folder.0).set("wg0", &change).unwrap();
    let (key, first, second, none) = (
        "48".repeat(32),
        "01".repeat(32),
        "ab".repeat(32),
        "00".repeat(32),
    );
    assert_eq!(
        server.join().unwrap(),
        format!(
            "set=1\nprivate_key={key}\nlisten_port=1\nfwmark=2\nreplace_peers=true\npublic_key={first}\nremove=true\n\
             public_key={second}\nupdate_only=true\npreshared_key={none}\nendpoint=[fd00::1]:4\n\
             persistent_keepalive_interval=0\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=-::1/128\n\n"
        )
    );
}

#[test]
fn answers_to_a_change() {
    for (answer, expected) in [
        ("errno=0\n\n", None),
        ("unknown=1\nerrno=0\n\n", None),
        ("errno=-22\n\n", Some(Errno::INVAL)),
        ("errno=22\n\n", Some(Errno::INVAL)),
        ("errno=--22\n\n", Some(Errno::PROTO)),
        ("errno=99999999999\n\n", Some(Errno::PROTO)),
        ("errno=0\n", Some(Errno::PROTO)),
        ("\n", Some(Errno::PROTO)),
        ("", Some(Errno::PROTO)),
    ] {
        let folder = Folder::new("answers");
        let server = folder.serve("wg0", answer);
        let found = errno(Text::at(&folder.0).set("wg0", &Change::default()));
        assert_eq!(found, expected, "{answer:?}");
        server.join().unwrap();
    }
}

#[test]
fn names_and_sockets() {
    let folder = Folder::new("names");
    let text = Text::at(&folder.0);
    assert_eq!(errno(text.get("../wg0")), Some(Errno::INVAL));
    assert_eq!(errno(text.get("wg0")), Some(Errno::NOENT));
    std::fs::write(folder.0.join("file.sock"), "").unwrap();
    assert_eq!(errno(text.get("file")), Some(Errno::BADF));
    // Nobody listens there any more.
    let stale = folder.0.join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let server = folder.serve("wg0", "errno=0\n\n");
    assert_eq!(text.interfaces().unwrap(), ["wg0"]);
    assert!(!stale.exists() && folder.0.join("file.sock").exists());
    assert_eq!(text.get("wg0").unwrap().name, "wg0");
    assert_eq!(server.join().unwrap(), "get=1\n\n");
    assert!(
        Text::at(folder.0.join("none"))
            .interfaces()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_process_takes_precedence_over_the_kernel() {
    /// A kernel with an interface of each name, and port 1.
    struct Kernel;
    impl Backend for Kernel {
        fn interfaces(&self) -> io::Result<Vec<String>> {
            Ok(vec!["wg0".to_owned(), "wg1".to_owned()])
        }
        fn get(&self, name: &str) -> io::Result<Device> {
            Ok(Device {
                listen_port: 1,
                ..Device::new(name)
            })
        }
        fn set(&self, _: &str, _: &Change) -> io::Result<()> {
            Err(Errno::PERM.into())
        }
    }
    let folder = Folder::new("precedence");
    let server = folder.serve("wg0", "listen_port=2\nerrno=0\n\n");
    let both = super::super::Combined {
        text: Text::at(&folder.0),
        kernel: Some(Box::new(Kernel)),
    };
    assert_eq!(both.interfaces().unwrap(), ["wg0", "wg1", "wg0"]);
    assert_eq!(both.get("wg1").unwrap().listen_port, 1);
    assert_eq!(both.get("wg0").unwrap().listen_port, 2);
    assert_eq!(
        errno(both.set("wg1", &Change::default())),
        Some(Errno::PERM)
    );
    server.join().unwrap();
}
