// SPDX-License-Identifier: BSD-2-Clause
//! Seeds that are text.

use super::Add;

/// The key of all ones, as base64 and as hexadecimal digits.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const HEX: &str = "0101010101010101010101010101010101010101010101010101010101010101";

fn add_all(add: &mut Add<'_>, target: &'static str, first: &[u8], cases: &[(&str, &str)]) {
    for (name, text) in cases {
        let text = text.replace("KEY", KEY).replace("HEX", HEX);
        add(target, name, [first, text.as_bytes()].concat());
    }
}

const CONFIGS: &[(&str, &str)] = &[
    (
        "everything",
        "# a comment\n[Interface]\nListenPort = 51820\nFwMark = 0xca6c\nPrivateKey = KEY\n\n[Peer]\n\
         PublicKey = KEY\nPresharedKey = KEY\nEndpoint = 192.0.2.1:51820\n\
         AllowedIPs = 10.0.0.0/8, fd00::/8,192.0.2.1\nPersistentKeepalive = 25\n",
    ),
    (
        "signs",
        "[Peer]\nPublicKey=KEY\nAllowedIPs=+10.0.0.0/8,-10.1.0.0/16\nAllowedIPs = ::/0\n",
    ),
    (
        "two-peers",
        "[Peer]\npublickey=KEY\n[PEER]\nPUBLICKEY=KEY\nendpoint=[fe80::1%3]:7\n",
    ),
    (
        "off",
        "[Interface]\nFwMark=off\nListenPort=0\n[Peer]\nPublicKey=KEY\nPersistentKeepalive=OFF",
    ),
    (
        "odd-spaces",
        "[ Peer ]\r\n Pub lic Key\t=\x0b KEY \x0c# x\n",
    ),
    ("no-section", "ListenPort = 1\n"),
    ("unknown", "[Interface]\nAddress = 10.0.0.1/8\n[Peers]\n"),
    (
        "no-key",
        "[Peer]\nAllowedIPs = 10.0.0.0/8\n[Peer]\n[Peer]\nPublicKey=KEY\n[Peer]\n",
    ),
    (
        "empty-values",
        "[Interface]\nListenPort =\nFwMark = #1\n[Peer]\nPublicKey\n=\n",
    ),
    (
        "ports",
        "[Interface]\nListenPort=65536\nListenPort=-1\nListenPort=domain\nListenPort=0x1\n",
    ),
    (
        "marks",
        "[Interface]\nFwMark=4294967296\nFwMark=0x\nFwMark=0X1\nFwMark=-1\nFwMark=1x\n",
    ),
    (
        "keys",
        "[Peer]\nPublicKey=AQ==\nPublicKey=KEY=\nPresharedKey=AQEB_QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
    ),
    (
        "key-not-canonical",
        "[Peer]\nPublicKey=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF=\n",
    ),
    (
        "prefixes",
        "[Peer]\nPublicKey=KEY\nAllowedIPs=10.0.0.0/33\nAllowedIPs=::/129\nAllowedIPs=,\nAllowedIPs=1/2/3\n\
         AllowedIPs=+-1.2.3.4\nAllowedIPs=01.2.3.4\nAllowedIPs=1.2.3.4/\nAllowedIPs=1.2.3.4/+8\nAllowedIPs=::1.2.3.4\n",
    ),
    (
        "host-bits",
        "[Peer]\nPublicKey=KEY\nAllowedIPs=10.0.0.1/0,fd00::1/7,0.0.0.1/31\n",
    ),
    (
        "endpoints",
        "[Peer]\nPublicKey=KEY\nEndpoint=name:1\nEndpoint=[::1\nEndpoint=::1:7\nEndpoint=:7\nEndpoint=1.2.3.4:\n",
    ),
    (
        "keepalives",
        "[Peer]\nPublicKey=KEY\nPersistentKeepalive=65536\nPersistentKeepalive=+1\n",
    ),
    (
        "nul",
        "[Interface]\nListenPort=7\0 8\n\0[Peer]\nPublicKey=KEY\n",
    ),
    (
        "secret-under-a-wrong-name",
        "[Interface]\nPrivatKey=KEY\nKEY\n[Peer]\nPreshared=KEY\n",
    ),
    (
        "no-last-line-feed",
        "[Interface]\nListenPort = 7\n\n[Peer]\nPublicKey = KEY",
    ),
    ("empty", ""),
    ("line-feeds", "\n\n\n"),
    (
        "not-utf8",
        "[Interface]\nFwMark = \u{fffd}\u{80}\n\u{feff}[Peer]\n",
    ),
];

pub(super) fn config(add: &mut Add<'_>) {
    add_all(add, "config", b"0", CONFIGS);
    for (name, text) in &CONFIGS[..4] {
        add_all(add, "config", b"1", &[(&format!("{name}-added"), text)]);
    }
}

pub(super) fn quick_config(add: &mut Add<'_>) {
    add_all(add, "quick_config", b"", CONFIGS);
    add_all(
        add,
        "quick_config",
        b"",
        &[
            (
                "own",
                "[Interface]\nAddress = 10.0.0.1/24, fd00::1/64\nDNS = 192.0.2.53, fe80::53%eth0, example.org\n\
                 MTU = 1420\nTable = off\nPreUp = echo %i # not a comment\nPostUp=true\nPreDown = a=b\nPostDown=:\n\
                 SaveConfig = true\nPrivateKey = KEY\n\n[Peer]\nPublicKey = KEY\nAllowedIPs = 0.0.0.0/0, ::/0\n\
                 Endpoint = 192.0.2.1:51820\n",
            ),
            (
                "tables",
                "[Interface]\nTable=auto\nTable=7\ntable=OFF\nTable=-x\nTable=a b\nTable=\n",
            ),
            (
                "mtus",
                "[Interface]\nMTU=67\nMTU=68\nMTU=65535\nMTU=65536\nMTU=+99\nMTU=\n",
            ),
            (
                "saves",
                "[Interface]\nSaveConfig=TRUE\nSaveConfig=yes\nSaveConfig=\nSaveConfig\n",
            ),
            (
                "addresses",
                "[Interface]\nAddress=10.0.0.1/33,::/129,10.0.0.1,1.2.3,10.0.0.1/,/8\nAddress=\n",
            ),
            (
                "name-servers",
                "[Interface]\nDNS=1.2.3,a b\tc,;x,-,%,::1%,::1%a/b,1.2.3.4%eth0\n",
            ),
            (
                "own-in-a-peer",
                "[Peer]\nAddress=10.0.0.1/8\nPostUp=x\n[interface]\nAddress=10.0.0.1/8\n",
            ),
            (
                "headings",
                "[Interface\nAddress=1\n[ Interface ]\nAddress=1\n[Interface] x\n[Interface]=1\nDNS=1\n",
            ),
            (
                "hooks",
                "[Interface]\nPostUp\nPostUp=#\nPostUp= \t \nPostUp=a\0b\n PostUp \t= x \x0b\n",
            ),
        ],
    );
}

/// Of `wgd`'s requests; the first byte is the size of pieces.
pub(super) fn uapi(add: &mut Add<'_>) {
    add_all(
        add,
        "uapi_request",
        b"\x07",
        &[
            ("get", "get=1\n\n"),
            ("get-with-lines", "get=1\nlisten_port=1\n\nget=1\n\n"),
            (
                "everything",
                "set=1\nprivate_key=HEX\nlisten_port=51820\nfwmark=4294967295\nreplace_peers=true\npublic_key=HEX\n\
                 update_only=true\npreshared_key=HEX\nendpoint=192.0.2.1:65535\npersistent_keepalive_interval=25\n\
                 replace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=-fd00::/7\nprotocol_version=1\n\
                 public_key=HEX\nremove=true\nendpoint=[fe80::1%eth7]:1\n\n",
            ),
            (
                "zones",
                "set=1\npublic_key=HEX\nendpoint=[fe80::1%7]:1\nendpoint=[fe80::1%4294967296]:1\n\n",
            ),
            (
                "mapped",
                "set=1\npublic_key=HEX\nendpoint=[::ffff:1.2.3.4]:7\nendpoint=1.2.3.4:0\n\n",
            ),
            ("empty-set", "set=1\n\nset=1\n\n\n\nget=1\n\n"),
            ("no-operation", "listen_port=1\n\n"),
            (
                "no-equals",
                "set=1\nlisten_port\nlisten_port=1\n\nget=1\n\n",
            ),
            (
                "peer-key-first",
                "set=1\nremove=true\n\nset=1\npublic_key=HEX\nlisten_port=1\n\n",
            ),
            (
                "numbers",
                "set=1\nlisten_port=00080\n\nset=1\nlisten_port=+1\n\nset=1\nfwmark=4294967296\n\n",
            ),
            (
                "keys",
                "set=1\nprivate_key=HEX0\n\nset=1\nprivate_key=0\n\nset=1\nprivate_key=\n\n",
            ),
            (
                "prefixes",
                "set=1\npublic_key=HEX\nallowed_ip=--1.2.3.4/5\n\nset=1\npublic_key=HEX\nallowed_ip=::/0/0\n\n",
            ),
            (
                "replaced",
                "set=1\npublic_key=HEX\nallowed_ip=::/0\nreplace_allowed_ips=true\nallowed_ip=-::/1\n\n",
            ),
            ("version", "set=1\npublic_key=HEX\nprotocol_version=2\n\n"),
            ("cut-short", "set=1\nlisten_port=1\n"),
            ("cut-in-a-line", "set=1\nlisten_po"),
            (
                "escapes",
                "set=1\n\x1b[2J=1\n\nset=1\npublic_key=\x1b[2J\n\n",
            ),
        ],
    );
    let long = |n: usize| "x".repeat(n);
    for (name, text) in [
        (
            "line-of-512",
            format!("set=1\n{}\nlisten_port=1\n\nget=1\n\n", long(512)),
        ),
        (
            "line-of-513",
            format!("set=1\n{}\nlisten_port=1\n\nget=1\n\n", long(513)),
        ),
        (
            "line-of-2000",
            format!("set=1\n{}\nlisten_port=1\n\nget=1\n\n", long(2000)),
        ),
        (
            "long-line-after-an-error",
            format!("set=1\nx=1\n{}\n\nget=1\n\n", long(513)),
        ),
        ("long-line-and-no-more", format!("get=1\n{}", long(513))),
        ("long-first-line", long(600)),
    ] {
        add("uapi_request", name, format!("\x01{text}").into_bytes());
    }
}

/// Of wg(8)'s: what processes answer to a `get`.
pub(super) fn replies(add: &mut Add<'_>) {
    let peer = "public_key=HEX\npreshared_key=HEX\nprotocol_version=1\nendpoint=192.0.2.1:51820\n\
                last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=999999999\ntx_bytes=1\n\
                rx_bytes=18446744073709551615\npersistent_keepalive_interval=65535\n\
                allowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\n";
    let whole = format!("private_key=HEX\nlisten_port=51820\nfwmark=7\n{peer}{peer}errno=0\n\n");
    add_all(
        add,
        "text_reply",
        b"\x83",
        &[
            ("everything", &whole),
            ("nothing", "errno=0\n\n"),
            ("error", "errno=1\n\n"),
            ("negative-error", "errno=-1\n\n"),
            ("no-errno", "listen_port=1\n\n"),
            ("no-end", "errno=0\n"),
            ("empty-line-first", "\nerrno=0\n\n"),
            ("no-equals", "listen_port\nerrno=0\n\n"),
            ("unknown-keys", "x=1\npublic_key=HEX\ny=\nerrno=0\n\n"),
            ("peer-key-first", "allowed_ip=::/0\nerrno=0\n\n"),
            ("prefix", "public_key=HEX\nallowed_ip=::/129\nerrno=0\n\n"),
            (
                "never",
                "public_key=HEX\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\nerrno=0\n\n",
            ),
            (
                "nanoseconds",
                "public_key=HEX\nlast_handshake_time_nsec=4294967296\nerrno=0\n\n",
            ),
            (
                "endpoint-of-no-kind",
                "public_key=HEX\nendpoint=name:1\nerrno=0\n\n",
            ),
            (
                "endpoint-without-port",
                "public_key=HEX\nendpoint=1.2.3.4\nerrno=0\n\n",
            ),
            (
                "endpoint-with-zone",
                "public_key=HEX\nendpoint=[fe80::1%7]:1\nerrno=0\n\n",
            ),
            (
                "endpoint-mapped",
                "public_key=HEX\nendpoint=[::ffff:1.2.3.4]:1\nerrno=0\n\n",
            ),
            (
                "upper-case",
                &format!("private_key={}\nerrno=0\n\n", "AB".repeat(32)),
            ),
            ("short-key", "private_key=0101\nerrno=0\n\n"),
        ],
    );
    let mut bytes = b"\x20public_key=\xff\xfe\nerrno=0\n\n".to_vec();
    add("text_reply", "not-utf8", bytes.clone());
    bytes.truncate(12);
    bytes.resize(9000, b'x');
    add("text_reply", "long-line", bytes);
}
