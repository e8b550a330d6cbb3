// SPDX-License-Identifier: BSD-2-Clause

use super::*;
use crate::endpoint::Syntax;

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn read(
    text: &str,
    append: bool,
    all_errors: bool,
) -> (Result<Change, Vec<ConfigError>>, Vec<String>) {
    let mut warnings = Vec::new();
    let options = Options {
        append,
        all_errors,
        resolver: &mut Syntax,
        warn: &mut |warning| warnings.push(warning.text),
        own: None,
    };
    (parse(text.as_bytes(), options), warnings)
}

fn change(text: &str) -> Change {
    read(text, false, false).0.unwrap()
}

fn errors(text: &str) -> Vec<(usize, String)> {
    let (read, _) = read(text, false, true);
    read.unwrap_err()
        .into_iter()
        .map(|e| (e.line, e.text))
        .collect()
}

#[test]
fn a_file_replaces_everything_and_an_addition_nothing() {
    let replaced = change("");
    assert!(replaced.replace_peers);
    assert!(replaced.private_key.is_some_and(|key| key.is_zero()));
    assert_eq!((replaced.listen_port, replaced.fwmark), (Some(0), Some(0)));
    let added = read("", true, false).0.unwrap();
    assert!(!added.replace_peers && added.private_key.is_none());
    assert_eq!((added.listen_port, added.fwmark), (None, None));
}

#[test]
fn every_setting() {
    let text = format!(
        "[ interface ]\nlistenport=7\nFWMARK = 0x1F # mark\nPrivateKey={KEY}\n[PEER]\nPublicKey = {KEY}\nPresharedKey={KEY}\n\
         Endpoint = [2001:db8::1]:9\nAllowedIPs = 10.0.0.0 / 8, fd00::1\nPersistent Keepalive = 2 5\n"
    );
    let c = change(&text);
    assert_eq!((c.listen_port, c.fwmark), (Some(7), Some(31)));
    let key = SecretKey::from_base64(KEY.as_bytes()).unwrap();
    assert_eq!(c.private_key.unwrap().bytes(), key.bytes());
    let [peer] = &*c.peers else {
        panic!("{:?}", c.peers)
    };
    assert_eq!(peer.public_key.to_string(), KEY);
    assert_eq!(peer.preshared_key.as_ref().unwrap().bytes(), key.bytes());
    assert_eq!(peer.endpoint, "[2001:db8::1]:9".parse().ok());
    assert_eq!(peer.persistent_keepalive, Some(25));
    assert!(peer.replace_allowed_ips && !peer.remove && !peer.update_only);
    let ip = |ip: &str, cidr| AllowedIpChange {
        ip: ip.parse().unwrap(),
        cidr,
        remove: false,
    };
    assert_eq!(peer.allowed_ips, [ip("10.0.0.0", 8), ip("fd00::1", 128)]);
}

#[test]
fn all_errors_with_their_lines() {
    let text = format!(
        "x\n\n[Interface]\nFwMark=y\n[Peer]\nAllowedIPs=z\n[Peer]\nPublicKey={KEY}\n[Peer]\n"
    );
    assert_eq!(
        errors(&text),
        [
            (1, "Line unrecognized: `x'".to_owned()),
            (
                4,
                "Fwmark is neither 0/off nor 0-0xffffffff: `y'".to_owned()
            ),
            (5, NO_PUBLIC_KEY.to_owned()),
            (6, "Unable to parse IP address: `z'".to_owned()),
            (9, NO_PUBLIC_KEY.to_owned()),
        ]
    );
    let (first, _) = read(&text, false, false);
    assert_eq!(first.unwrap_err().len(), 1);
}

#[test]
fn signs_make_additions_and_removals() {
    for (list, replace) in [
        ("1.2.3.4", true),
        ("+1.2.3.4", false),
        ("-1.2.3.4", false),
        ("1.2.3.5, -1.2.3.4", false),
    ] {
        let c = change(&format!(
            "[Peer]\nPublicKey={KEY}\nAllowedIPs={list}\nAllowedIPs=::1"
        ));
        assert_eq!(c.peers[0].replace_allowed_ips, replace, "{list}");
        assert_eq!(
            c.peers[0].allowed_ips.iter().any(|ip| ip.remove),
            list.contains('-')
        );
    }
}

#[test]
fn a_list_may_be_empty_in_a_command_only() {
    let mut peer = PeerChange::new(PublicKey([0; 32]));
    allowed_ips(&mut peer, b"", &mut |_| {}).unwrap();
    assert!(peer.replace_allowed_ips && peer.allowed_ips.is_empty());
    assert_eq!(
        errors(&format!("[Peer]\nPublicKey={KEY}\nAllowedIPs=\n")),
        [(3, "Line unrecognized: `AllowedIPs='".to_owned())]
    );
}

#[test]
fn bits_beyond_the_prefix_are_noted() {
    let file = |list: &str| format!("[Peer]\nPublicKey={KEY}\nAllowedIPs={list}");
    for clean in [
        "10.0.0.0/8",
        "1.2.3.4/32",
        "::/0",
        "::1/128",
        "fd00::/8",
        "128.0.0.0/1",
    ] {
        assert_eq!(read(&file(clean), false, false).1, [""; 0], "{clean}");
    }
    for odd in ["10.0.0.1/8", "1.2.3.4/0", "::1/127", "::1/0", "fd00::/6"] {
        let warning = format!("Warning: AllowedIP has nonzero host part: {odd}");
        assert_eq!(read(&file(odd), false, false).1, [warning]);
    }
}

#[test]
fn secrets_are_not_in_messages() {
    let short = &KEY[..43];
    for text in [
        format!("[Interface]\nPrivateKey={short}"),
        format!("[Interface]\nPrivateKye={KEY}"),
        format!("[Peer]\nPrivateKey={KEY}"),
        format!("[Peer]\nPublicKey={KEY}\nPresharedKey={short}"),
        format!("PrivateKey={KEY}"),
        KEY.to_owned(),
        short.to_owned(),
    ] {
        for (_, said) in errors(&text) {
            let hidden = said.contains("(hidden)") || said == NO_PUBLIC_KEY;
            assert!(!said.contains(&short[..20]) && hidden, "{said}");
        }
    }
    // A public key is none.
    for (text, key) in [
        (format!("[Peer]\nPublicKey={short}"), short),
        (format!("[Interface]\nPublicKey={KEY}"), KEY),
    ] {
        assert!(errors(&text).iter().any(|(_, said)| said.contains(key)));
    }
}

#[test]
fn own_lines() {
    let mut taken = Vec::new();
    let mut own = |line: &Line<'_>| {
        if let Some(value) = line.value_of("address") {
            taken.push((
                line.number,
                line.section,
                String::from_utf8_lossy(value).into_owned(),
            ));
            return if value == b"bad" {
                Claim::Wrong("bad address".to_owned())
            } else {
                Claim::Yes
            };
        }
        Claim::No
    };
    let text = "[Interface]\nAddress = 10.0.0.1 / 24\nADDRESS=bad\nFwMark=1\n";
    let options = Options {
        append: true,
        all_errors: true,
        resolver: &mut Syntax,
        warn: &mut |_| {},
        own: Some(&mut own),
    };
    let read = parse(text.as_bytes(), options).unwrap_err();
    assert_eq!(
        read,
        [ConfigError {
            line: 3,
            text: "bad address".to_owned()
        }]
    );
    let section = Section::Interface;
    assert_eq!(
        taken,
        [
            (2, section, "10.0.0.1/24".to_owned()),
            (3, section, "bad".to_owned())
        ]
    );
}

#[test]
fn key_files() {
    let path = std::env::temp_dir().join(format!("wgtools-key-{}", std::process::id()));
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        key_file(&path).map(|key| key.is_zero())
    };
    assert_eq!(read(KEY), Ok(false));
    assert_eq!(read(&format!("{KEY} \n\t\n")), Ok(false));
    assert_eq!(read(""), Ok(true));
    assert_eq!(read("short").unwrap_err(), "Invalid length key in key file");
    assert_eq!(
        read(&format!("{KEY}\nx")).unwrap_err(),
        "Found trailing character in key file: `x'"
    );
    let said = read(&"x".repeat(44)).unwrap_err();
    assert_eq!(said, "Key is not the correct length or format: `(hidden)'");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        key_file(&path).unwrap_err(),
        "fopen: No such file or directory"
    );
}
