// SPDX-License-Identifier: BSD-2-Clause
//! Files: what they mean, what is wrong with them, what wg(8) gets of them; and the command line.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{KEY, PEER, job};
use wg_quick::cli::{self, Order};
use wg_quick::config::{Config, Table};
use wg_quick::host::Failure;
use wg_quick::os::State;
use wg_quick::os::freebsd::FreeBsd;
use wg_quick::{file, hook, save};
use wgtools::endpoint::Syntax;

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes(), &mut Syntax)
}

#[test]
fn every_key() {
    let config = job(&format!(
        "# a comment\n[interface] # again\nADDRESS=10.0.0.1/24 , 10.0.0.2\n address = fd00::1/64\n\
         dns = 9.9.9.9 fe80::1%em0, corp.example\nMtu = 1280\nTable = 0x10\nPreUp = a # b\npostup=c=d\n\
         PostUp = second %i %i\nPreDown = e\nPostDown = f\nSaveConfig = TRUE\nPrivateKey = {KEY}\n\
         FwMark = 7\n[Peer]\nPublicKey = {PEER}\nEndpoint = [2001:db8::1]:7\nAllowedIPs = 10.1.2.3/8, ::/0\n\
         [Interface]\nMTU = 1281\n"
    ))
    .config;
    let addresses: Vec<_> = config
        .addresses
        .iter()
        .map(|a| (a.text.as_str(), a.len))
        .collect();
    assert_eq!(
        addresses,
        [
            ("10.0.0.1/24", Some(24)),
            ("10.0.0.2", None),
            ("fd00::1/64", Some(64))
        ]
    );
    assert_eq!(config.dns, ["9.9.9.9", "fe80::1%em0"]);
    assert_eq!(config.search, ["corp.example"]);
    assert_eq!(config.mtu, Some(1281));
    assert_eq!(config.table, Some(Table::Other("0x10".to_owned())));
    assert_eq!(config.pre_up, ["a # b"]);
    assert_eq!(config.post_up, ["c=d", "second %i %i"]);
    assert_eq!(
        (config.pre_down, config.post_down),
        (vec![hook::Code::new(b"e")], vec![hook::Code::new(b"f")])
    );
    assert!(config.save);
    assert_eq!(config.fwmark, Some(7));
    assert_eq!(config.endpoints, ["[2001:db8::1]:7".parse().unwrap()]);
    let ips: Vec<_> = config.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.0.0.0/8", "::/0"]);
    assert_eq!(
        job("[Interface]\n").hook(&hook::Code::new(b"%i and %i")),
        "wg0 and wg0"
    );
}

/// All errors at once, ours and wg(8)'s, each with its line.
#[test]
fn every_error() {
    let text = "[Interface]\nAddress = 10.0.0.1/33, 10.0.0.1/24, nonsense, 1.2.3.4/+8\nMTU = 12x\nMTU = 67\nMTU = +1500\n\
        Table = a b\nSaveConfig = yes\nDNS = 1.2.3.400, a_b, c\u{7}d\nPrivateKey = short\nListenPort = 65536\nNonsense = 1\n\
        [Peer]\nAllowedIPs = 10.0.0.0/40\nMTU = 1400\n[Peer]\nEndpoint = 1.2.3.4\n";
    let config = parse(text);
    let lines: Vec<_> = config.problems.iter().map(|p| p.line).collect();
    assert_eq!(
        lines,
        [2, 2, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        "{:#?}",
        config.problems
    );
    let all = format!("{:?}", config.problems);
    for part in [
        "10.0.0.1/33",
        "nonsense",
        "1.2.3.4/+8",
        "12x",
        "+1500",
        "a b",
        "yes",
        "1.2.3.400'",
        "c\\\\u{7}d",
        "65536",
        "10.0.0.0/40",
    ] {
        assert!(all.contains(part), "{part} is not named in {all}");
    }
    assert_eq!(config.bad_save.unwrap().line, 7);
    // What was right is there all the same, for `down`.
    assert_eq!(config.addresses.len(), 1);
    let job = wg_quick::file::Job {
        name: "wg0".to_owned(),
        path: "/x/wg0.conf".into(),
        config: parse("[Interface]\nMTU = 1\n"),
    };
    assert_eq!(
        job.problems(),
        ["/x/wg0.conf:2: MTU is not a number from 68 to 65535: `1'"]
    );
}

/// Which lines are ours is decided as bash decides it.
#[test]
fn passed_lines() {
    let passed = |text: &str| String::from_utf8(parse(text).passed.to_vec()).unwrap();
    assert_eq!(passed(""), "");
    assert_eq!(passed("\n\n"), "\n\n");
    assert_eq!(passed("  a = b \t\n\t# c"), "a = b\n# c\n");
    assert_eq!(passed("x\n \t"), "x\n");
    assert_eq!(
        passed("[Interface]\nMTU\n\u{b}MTU\r=1\r\nmtu # = 1\n#MTU = 1\n"),
        "[Interface]\n#MTU = 1\n"
    );
    assert_eq!(
        passed("MTU = 1\n[ Interface ]\nMTU = 1\n"),
        "MTU = 1\n[ Interface ]\nMTU = 1\n"
    );
    assert_eq!(
        passed("[Interface]\n[Peer]\nDNS = x\n[Interface"),
        "[Interface]\n[Peer]\nDNS = x\n[Interface\n"
    );
    assert_eq!(
        passed("[INTERFACE]=x # y\nDns=\nKey = a\\\n"),
        "[INTERFACE]=x # y\nKey = a\\\n"
    );
    assert_eq!(passed("a\0b\n\0"), "ab\n");
    let bytes = Config::parse(b"[Interface]\nPostUp = \xff\nX = \xff\n", &mut Syntax);
    assert_eq!(*bytes.passed, b"[Interface]\nX = \xff\n");
}

/// No stricter than whoever uses the value.
#[test]
fn what_others_understand() {
    let file = b"[Interface]\nPostUp = true # \xe9\nPostUp = echo '\xff%i\xfe' %i\nPreUp =\nTable = 7\nTable =\nMTU = 1400\n\
        MTU = # none\nAddress =\nDNS =\nDNS = 10.0.0.1, ~corp.example,~. 127.1, fe80::1%em0\n\
        DNS = 9.9.9.9:9953%em0 m\xc3\xbcller.example\n\
        Address = 10.5.0.2/255.255.255.0, 10.6.0.2/0.0.0.0 10.7.0.2/255.255.255.255\n";
    let config = Config::parse(file, &mut Syntax);
    assert_eq!(config.problems, []);
    assert_eq!(config.post_up[0].bytes(), b"true # \xe9");
    let code = config.post_up[1].for_interface("wg%i");
    assert_eq!(code.bytes(), b"echo '\xffwg%i\xfe' wg%i");
    assert!(config.pre_up.is_empty());
    assert_eq!((config.table, config.mtu), (None, None));
    let dns = ["10.0.0.1", "127.1", "fe80::1%em0", "9.9.9.9:9953%em0"];
    assert_eq!(config.dns, dns);
    let search = ["~corp.example", "~.", "m\u{fc}ller.example"];
    assert_eq!(config.search, search);
    let addresses: Vec<_> = config.addresses.iter().map(|a| (&*a.text, a.len)).collect();
    assert_eq!(
        addresses,
        [
            ("10.5.0.2/24", Some(24)),
            ("10.6.0.2/0", Some(0)),
            ("10.7.0.2/32", Some(32))
        ]
    );
    for bad in [
        "Address = 10.5.0.2/255.0.255.0",
        "Address = fd00::1/255.255.255.0",
        "Address = 10.5.0.2/255.255.255",
        "DNS = 1.2.3.4.5",
        "DNS = 256.1",
        "DNS = 1..2",
        "SaveConfig =",
    ] {
        let config = parse(&format!("[Interface]\n{bad}\n"));
        assert_eq!(config.problems.len(), 1, "{bad}");
    }
    // What was read is written again.
    let shown = b"[Interface]\nListenPort = 7\n";
    let config = Config::parse(file, &mut Syntax);
    let saved = save::compose(&config, &State::default(), &[], shown).unwrap();
    let again = Config::parse(&saved, &mut Syntax);
    assert_eq!(again.post_up, config.post_up);
    assert_eq!((again.dns, again.search), (config.dns, config.search));
}

/// What hooks find in their environment: nothing secret.
#[test]
fn what_hooks_may_know() {
    let job = job(&format!(
        "[Interface]\nPrivateKey = {KEY}\nAddress = 10.0.0.1/24, fd00::1/64\nDNS = 10.0.0.2, corp.example\nMTU = 1400\n\
         Table = 7\nSaveConfig = true\n"
    ));
    let variables = hook::variables(&job);
    let get = |name: &str| &*variables.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(get("CONFIG_FILE"), "/etc/wireguard/wg0.conf");
    assert_eq!(get("INTERFACE"), "wg0");
    assert_eq!(get("ADDRESSES"), "10.0.0.1/24 fd00::1/64");
    assert_eq!(
        (get("DNS"), get("DNS_SEARCH")),
        ("10.0.0.2", "corp.example")
    );
    assert_eq!(
        (get("MTU"), get("TABLE"), get("SAVE_CONFIG")),
        ("1400", "7", "1")
    );
    assert!(variables.iter().all(|(_, value)| !value.contains(KEY)));
}

#[test]
fn names_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for name in ["wg0.conf", "a=b+c_d-e.f.conf", "0123456789abcde.conf"] {
        std::fs::write(at(name), "").unwrap();
        let (path, interface) = file::find(&FreeBsd, &at(name)).unwrap();
        assert_eq!(path, Path::new(&at(name)).canonicalize().unwrap());
        assert_eq!(format!("{interface}.conf"), name);
    }
    for name in [
        "wg0",
        "wg0.conf.bak",
        "0123456789abcdef.conf",
        ".conf",
        "..conf",
        "w g.conf",
        "wg%d.conf",
    ] {
        std::fs::write(at(name), "").unwrap();
        assert!(file::find(&FreeBsd, &at(name)).is_err(), "{name}");
    }
    let missing = Failure::Failed(format!("`{}' does not exist", at("none.conf")));
    assert_eq!(file::find(&FreeBsd, &at("none.conf")), Err(missing));
    let missing = Failure::Failed("`/etc/wireguard/no-such-tunnel.conf' does not exist".to_owned());
    assert_eq!(file::find(&FreeBsd, "no-such-tunnel"), Err(missing));
    for word in ["a-tunnel-of-17-by", "w%g"] {
        let error = file::find(&FreeBsd, word).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{word}' is no file, and no interface")),
            "{error}"
        );
    }
}

/// Others must be able to get at both the file and its folder for a warning.
#[test]
fn exposed_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wg0.conf");
    std::fs::write(&path, "").unwrap();
    for (mode, folder_mode, warns) in [
        (0o644, 0o755, true),
        (0o600, 0o755, false),
        (0o644, 0o700, false),
        (0o640, 0o755, false),
    ] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(folder_mode)).unwrap();
        let warning = file::exposed(&path);
        assert_eq!(warning.is_some(), warns, "{mode:o} in {folder_mode:o}");
        if let Some(text) = warning {
            assert_eq!(
                text,
                format!("Warning: `{}' is world accessible", path.display())
            );
        }
    }
}

/// A file is replaced as a whole, readable for its owner only, or not at all.
#[test]
fn written_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wg0.conf");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let mut reader = std::fs::File::open(&path).unwrap();
    save::write(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "old");
    // A folder in the way.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert!(save::write(&taken, b"new").is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // What `wg` printed is no configuration.
    assert!(save::compose(&Config::default(), &State::default(), &[], b"nonsense").is_none());
}

#[test]
fn command_line() {
    let parse = |line: &str| cli::parse(line.split_whitespace().map(Into::into).collect());
    let up = |what: &str, dry| {
        Ok(Order::Up {
            what: what.to_owned(),
            dry,
        })
    };
    assert_eq!(parse("up wg0"), up("wg0", false));
    assert_eq!(parse("up --dry-run wg0"), up("wg0", true));
    assert_eq!(parse("up ./wg0.conf -n"), up("./wg0.conf", true));
    assert_eq!(parse("down wg0"), Ok(Order::Down("wg0".to_owned())));
    assert_eq!(parse("save wg0"), Ok(Order::Save("wg0".to_owned())));
    assert_eq!(parse("strip wg0"), Ok(Order::Strip("wg0".to_owned())));
    for help in ["--help", "-h", "help", "up --help"] {
        assert_eq!(parse(help), Ok(Order::Help));
    }
    assert_eq!(parse("-V"), Ok(Order::Version));
    for wrong in [
        "",
        "up",
        "up a b",
        "sideways wg0",
        "down --dry-run wg0",
        "up --fast wg0",
        "UP wg0",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
