// SPDX-License-Identifier: BSD-2-Clause
//! The text protocol against nvlists: what a stock `wg` sends becomes what FreeBSD's `wg(8)` would send.

use std::sync::Mutex;

use nv::FnSink;
use nv::wgconf::{AllowedIp, GetInterface, GetPeer, GetWriter, SetRequest, get_size, get_write};
use rustix::io::Errno;
use wgd::control::Device;
use wgd::convert::{Configured, DriverErrno, Ioctl, decode, encode};
use wgd::uapi::{self, Decoder, Event, Request};
use zeroize::Zeroizing;

fn request(text: &str) -> uapi::SetRequest {
    let mut decoder = Decoder::new(|_| None);
    match decoder.feed(&mut text.as_bytes()) {
        Some(Event::Request(Request::Set(set))) => set,
        _ => panic!("{text:?}"),
    }
}

#[test]
fn a_set_becomes_the_reference_nvlist() {
    // Vector V1 has its keys in another order, so its meaning is compared, and an exact one where order agrees.
    let key: String = (1..=32).map(|i| format!("{i:02x}")).collect();
    let text = format!(
        "set=1\nlisten_port=51820\nreplace_peers=true\npublic_key={key}\nallowed_ip=10.0.0.0/24\nallowed_ip=fd00::/8\n\n"
    );
    let packed = encode(&request(&text)).unwrap();
    assert_eq!(packed.len(), 459);
    let hex: String = packed.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, V1);

    let port_only = encode(&request("set=1\nlisten_port=51820\n\n")).unwrap();
    assert_eq!(port_only.len(), 58);
    assert_eq!(encode(&request("set=1\n\n")).unwrap().len(), 19);
}

#[test]
fn every_field_arrives() {
    let a = "aa".repeat(32);
    let b = "bb".repeat(32);
    let text = format!(
        "set=1\nprivate_key={a}\nlisten_port=0\nfwmark=51820\npublic_key={b}\nupdate_only=true\npreshared_key={a}\n\
         endpoint=[fe80::1%3]:7\npersistent_keepalive_interval=0\nreplace_allowed_ips=true\nallowed_ip=-10.1.2.3/24\n\
         public_key={a}\nendpoint=1.2.3.4:5\nremove=true\n\n"
    );
    let packed = encode(&request(&text)).unwrap();
    let set = SetRequest::parse(&packed).unwrap();
    assert_eq!(set.private_key, Some(&[0xaa; 32]));
    assert_eq!((set.listen_port, set.user_cookie), (Some(0), Some(51820)));
    assert!(!set.replace_peers);
    let peers: Vec<_> = set.peers().collect();
    assert_eq!(peers.len(), 2);
    let p = &peers[0];
    assert_eq!(p.public_key, &[0xbb; 32]);
    assert!(p.update_only && p.replace_allowed_ips && !p.remove);
    assert_eq!(p.preshared_key, Some(&[0xaa; 32]));
    assert_eq!(p.endpoint, Some("[fe80::1%3]:7".parse().unwrap()));
    assert_eq!(p.keepalive, Some(0));
    let ips: Vec<_> = p.allowed_ips().collect();
    let expected = AllowedIp {
        addr: "10.1.2.3".parse().unwrap(),
        cidr: 24,
        remove: true,
    };
    assert_eq!(ips, [expected]);
    assert!(peers[1].remove);
    assert_eq!(peers[1].endpoint, None);
}

/// An nvlist as the driver makes it.
fn driver_reply() -> Zeroizing<Vec<u8>> {
    let interface = GetInterface {
        listen_port: 51820,
        user_cookie: 0xffff_ffff,
        public_key: Some(&[1; 32]),
        private_key: Some(&[2; 32]),
    };
    let peer = GetPeer {
        public_key: &[0xff; 32],
        preshared_key: Some(&[0; 32]),
        endpoint: Some(
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"
                .parse()
                .unwrap(),
        ),
        keepalive: 65535,
        last_handshake: (u64::MAX, 999_999_999),
        rx_bytes: u64::MAX,
        tx_bytes: u64::MAX,
    };
    let mut out = Zeroizing::new(Vec::new());
    let mut body = |w: &mut nv::wgconf::GetWriter<'_, '_>| {
        w.interface(&interface)?;
        w.peers(2)?;
        w.begin_peer(&peer, 2)?;
        w.allowed_ip(
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            128,
        )?;
        w.allowed_ip("10.0.0.0".parse().unwrap(), 8)?;
        w.end_peer()?;
        let bare = GetPeer {
            preshared_key: None,
            endpoint: None,
            last_handshake: (0, 0),
            ..peer
        };
        w.begin_peer(&bare, 0)?;
        w.end_peer()
    };
    let size = get_size(&mut body).unwrap();
    get_write(
        &mut FnSink(|b: &[u8]| {
            out.extend_from_slice(b);
            Ok(())
        }),
        size,
        &mut body,
    )
    .unwrap();
    out
}

#[test]
fn a_reply_becomes_text() {
    let nvlist = driver_reply();
    let text = decode(&nvlist).unwrap();
    assert!(
        text.len() <= 2 * nvlist.len(),
        "the buffer must not have grown"
    );
    let text = std::str::from_utf8(&text).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("private_key={}", "02".repeat(32)));
    assert_eq!(&lines[1..3], ["listen_port=51820", "fwmark=4294967295"]);
    assert_eq!(lines[3], format!("public_key={}", "ff".repeat(32)));
    assert!(lines.contains(&"endpoint=[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"));
    assert!(lines.contains(&"allowed_ip=10.0.0.0/8"));
    assert_eq!(
        lines
            .iter()
            .filter(|l| l.starts_with("preshared_key="))
            .count(),
        2
    );
    assert!(text.ends_with("\nerrno=0\n\n"));
    assert!(decode(b"junk").is_none());
}

/// What an interface says that nobody has configured.
#[test]
fn zeros_are_said() {
    let mut nvlist = Vec::new();
    let mut body = |w: &mut GetWriter<'_, '_>| {
        w.interface(&GetInterface {
            listen_port: 0,
            private_key: None,
            public_key: None,
            user_cookie: 0,
        })?;
        w.peers(0)
    };
    let size = get_size(&mut body).unwrap();
    let mut sink = FnSink(|b: &[u8]| {
        nvlist.extend_from_slice(b);
        Ok(())
    });
    get_write(&mut sink, size, &mut body).unwrap();
    let text = decode(&nvlist).unwrap();
    assert_eq!(&text[..], b"listen_port=0\nfwmark=0\nerrno=0\n\n");
}

struct Stub(Mutex<Option<i32>>);

impl Ioctl for Stub {
    fn set(&self, _: Zeroizing<Vec<u8>>) -> Result<(), DriverErrno> {
        self.0
            .lock()
            .unwrap()
            .map_or(Ok(()), |e| Err(DriverErrno(e)))
    }
    fn get(&self) -> Result<Zeroizing<Vec<u8>>, DriverErrno> {
        self.0
            .lock()
            .unwrap()
            .map_or_else(|| Ok(driver_reply()), |e| Err(DriverErrno(e)))
    }
}

#[test]
fn errors_are_in_numbers_of_this_host() {
    let device = Configured(Stub(Mutex::new(Some(48))));
    assert_eq!(device.set(&request("set=1\n\n")), Err(Errno::ADDRINUSE));
    assert_eq!(device.get().err(), Some(Errno::ADDRINUSE));
    *device.0.0.lock().unwrap() = None;
    assert!(device.set(&request("set=1\n\n")).is_ok());
    assert!(device.get().is_ok());
}

const V1: &str = "6c00000000000000000000b801000000000000030c00080000000000000000000000000000006c697374656e2d706f7274006cca000000000000020e00010000000000000000000000000000007265706c6163652d706565727300010b0600000000000000000001000000000000007065657273006c000000000000000000004301000000000000070b00200000000000000000000000000000007075626c69632d6b6579000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f200b0c0000000000000000000200000000000000616c6c6f7765642d697073006c00000000000000000000d30000000000000003050008000000000000000000000000000000636964720018000000000000000705000400000000000000000000000000000069707634000a000000fe010000000000000000000000000000000000006c0000000000000000000070000000000000000305000800000000000000000000000000000063696472000800000000000000070500100000000000000000000000000000006970763600fd000000000000000000000000000000fe01000000000000000000000000000000000000fe01000000000000000000000000000000000000";
