// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD's way, on paper.

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::{Fake, PEER, everything, job};
use wg_quick::file::Job;
use wg_quick::host::{Failure, Host};
use wg_quick::os::Os;
use wg_quick::os::freebsd::{FreeBsd, Routes, refresh};
use wg_quick::{down, save, up};

/// `netstat --libxo json -rnW` of a machine behind a router, with a tunnel that has its addresses.
fn netstat(family: &str, entries: &str) -> String {
    format!(
        r#"{{"statistics": {{"route-information": {{"route-table": {{"rt-family":
        [{{"address-family":"{family}", "rt-entry": [{entries}]}}]}}}}}}}}"#
    )
}

const V4: &str = r#"
    {"destination":"default","gateway":"198.51.100.1","flags":"UGS","mtu":1500,"interface-name":"em0"},
    {"destination":"10.77.0.0/24","gateway":"link#7","flags":"U","mtu":1420,"interface-name":"wg0"},
    {"destination":"10.77.0.1","gateway":"link#1","flags":"UHS","mtu":16384,"interface-name":"lo0"},
    {"destination":"127.0.0.1","gateway":"link#1","flags":"UH","mtu":16384,"interface-name":"lo0"},
    {"destination":"198.51.100.0/24","gateway":"link#2","flags":"U","mtu":9000,"interface-name":"em0"},
    {"destination":"198.51.100.9","gateway":"link#1","flags":"UHS","mtu":16384,"interface-name":"lo0"}"#;
const V6: &str = r#"
    {"destination":"default","gateway":"fe80::1%em0","flags":"UGS","mtu":1500,"interface-name":"em0"},
    {"destination":"::1","gateway":"link#1","flags":"UHS","mtu":16384,"interface-name":"lo0"},
    {"destination":"fd77::/64","gateway":"link#7","flags":"U","mtu":1420,"interface-name":"wg0"},
    {"destination":"fe80::%lo0/64","gateway":"link#1","flags":"U","mtu":16384,"interface-name":"lo0"}"#;

fn routed(v4: &str, v6: &str) -> Fake {
    Fake::default()
        .program("resolvconf")
        .answer(
            "netstat --libxo json -rnW -f inet",
            &netstat("Internet", v4),
        )
        .answer(
            "netstat --libxo json -rnW -f inet6",
            &netstat("Internet6", v6),
        )
}

/// A machine on which `wg show` tells what the file says.
fn machine(allowed_ips: &str) -> Fake {
    with_peer(routed(V4, V6), allowed_ips, "192.0.2.2:51820")
}

fn with_peer(fake: Fake, allowed_ips: &str, endpoint: &str) -> Fake {
    fake.answer(
        "wg show wg0 allowed-ips",
        &format!("{PEER}\t{}\n", allowed_ips.replace(',', " ")),
    )
    .answer("wg show wg0 endpoints", &format!("{PEER}\t{endpoint}\n"))
    .answer("wg show wg0 fwmark", "off\n")
    .answer("wg show interfaces", "wg0\n")
}

fn go(fake: &mut Fake, job: &Job) -> Result<(), Failure> {
    up::up(fake, &FreeBsd, job, "wireguard-go")
}

#[test]
fn everything_in_order() {
    let mut fake = machine("0.0.0.0/0,::/0,10.77.0.2/32,172.16.0.0/12");
    let job = everything("0.0.0.0/0, ::/0, 10.77.0.2/32, 172.16.0.0/12");
    assert_eq!(go(&mut fake, &job), Ok(()), "{:?}", fake.said);
    let expected = "\
ifconfig wg create name wg0
hook pre wg0
wg addconf wg0 /dev/stdin
ifconfig wg0 inet 10.77.0.1/24 alias
ifconfig wg0 inet6 fd77::1/64 alias
ifconfig wg0 mtu 1420
ifconfig wg0 up
resolvconf -a wg0 -x
route -q -n add -inet 172.16.0.0/12 -interface wg0
route -q -n add -inet 0.0.0.0/1 -interface wg0
route -q -n add -inet 128.0.0.0/1 -interface wg0
route -q -n add -inet6 ::/1 -interface wg0
route -q -n add -inet6 8000::/1 -interface wg0
route -q -n add -inet 192.0.2.2 -gateway 198.51.100.1
monitor wg0 7 46 [192.0.2.2]
hook post wg0";
    assert_eq!(fake.did.join("\n"), expected);
    let (conf, dns) = (&fake.inputs[0], &fake.inputs[1]);
    assert!(
        conf.1.contains("PrivateKey = ") && conf.1.contains("[Peer]"),
        "{}",
        conf.1
    );
    for ours in ["Address", "DNS", "PreUp", "PostDown"] {
        assert!(!conf.1.contains(ours), "{ours} in what wg gets");
    }
    assert_eq!(dns.1, "nameserver 10.77.0.53\nsearch example.org\n");
    // Keys are in no command and no message.
    let all = format!("{:?}{:?}", fake.did, fake.said);
    assert!(!all.contains(common::KEY));
}

/// Whichever step fails, or is interrupted, what was done before is undone in the reverse order, and nothing else.
#[test]
fn every_step_can_fail() {
    let ips = "0.0.0.0/0, 172.16.0.0/12";
    let mut whole = machine(ips);
    assert_eq!(go(&mut whole, &everything(ips)), Ok(()));
    for (fail_at, failed) in whole.did.iter().enumerate() {
        for by_signal in [false, true] {
            let mut fake = machine(ips);
            (fake.fail_at, fake.by_signal) = (Some(fail_at), by_signal);
            assert_eq!(
                go(&mut fake, &everything(ips)),
                Err(Failure::Failed(String::new()))
            );
            assert!(fake.shielded, "a signal must not stop the cleaning");
            assert!(
                fake.interfaces.is_empty(),
                "left the interface when {failed} failed"
            );
            let (did, undid) = fake.did.split_at(fail_at + 1);
            assert_eq!(did, &whole.did[..=fail_at]);
            // A step that was interrupted may have had its effect; one that failed has not.
            let effective = if by_signal { did } else { &did[..fail_at] };
            let mut expected = Vec::new();
            if did.contains(&"hook post wg0".to_owned()) {
                expected.push("hook unpost wg0".to_owned());
            }
            for step in effective.iter().rev() {
                match step.split(' ').collect::<Vec<_>>().as_slice() {
                    ["monitor", ..] => expected.push("stop monitor".to_owned()),
                    ["route", .., ip, "-gateway", _] => {
                        expected.push(format!("route -q -n delete -inet {ip}"));
                    }
                    ["resolvconf", ..] => expected.push("resolvconf -d wg0".to_owned()),
                    ["ifconfig", "wg", ..] => expected.push("ifconfig wg0 destroy".to_owned()),
                    _ => {}
                }
            }
            if did.contains(&"hook pre wg0".to_owned()) {
                expected.push("hook unpre wg0".to_owned());
            }
            assert_eq!(undid, expected, "after {failed}, by signal: {by_signal}");
        }
    }
}

/// The interface that appeared under the same name meanwhile is not ours to destroy.
#[test]
fn somebody_was_faster() {
    let mut fake = machine("10.0.0.0/8");
    fake.attempt_says = Some("ifconfig: ioctl SIOCSIFNAME (set name): File exists".to_owned());
    fake.programs.insert("wireguard-go".to_owned());
    assert!(go(&mut fake, &everything("10.0.0.0/8")).is_err());
    assert_eq!(fake.did, ["ifconfig wg create name wg0"]);
}

#[test]
fn by_a_process() {
    let mut fake = machine("10.0.0.0/8");
    fake.attempt_says = Some("ifconfig: SIOCIFCREATE2 (wg): Invalid argument".to_owned());
    let job = everything("10.0.0.0/8");
    assert!(go(&mut fake, &job).is_err());
    assert!(
        fake.said
            .iter()
            .any(|line| line.contains("no `wireguard-go'")),
        "{:?}",
        fake.said
    );

    fake.programs.insert("wireguard-go".to_owned());
    fake.did.clear();
    assert_eq!(go(&mut fake, &job), Ok(()));
    assert_eq!(
        fake.did[..2],
        ["ifconfig wg create name wg0", "wireguard-go wg0"]
    );
    fake.did.clear();
    assert_eq!(down::down(&mut fake, &FreeBsd, &job), Ok(()));
    assert!(
        fake.did
            .contains(&"rm -f /var/run/wireguard/wg0.sock".to_owned()),
        "{:?}",
        fake.did
    );
    assert!(!fake.did.contains(&"ifconfig wg0 destroy".to_owned()));
}

#[test]
fn down_in_order() {
    let mut fake = machine("0.0.0.0/0");
    fake.interfaces.insert("wg0".to_owned());
    assert_eq!(
        down::down(&mut fake, &FreeBsd, &everything("0.0.0.0/0")),
        Ok(())
    );
    assert_eq!(
        fake.did,
        [
            "hook unpost wg0",
            "ifconfig wg0 destroy",
            "resolvconf -d wg0",
            "hook unpre wg0"
        ]
    );
    assert!(fake.said.is_empty());
}

/// Once it has begun to take things away, `down` goes on.
#[test]
fn down_goes_on() {
    for fail_at in 1..4 {
        let mut fake = machine("0.0.0.0/0");
        fake.interfaces.insert("wg0".to_owned());
        fake.fail_at = Some(fail_at);
        let result = down::down(&mut fake, &FreeBsd, &everything("0.0.0.0/0"));
        assert_eq!(result, Err(Failure::Failed(String::new())));
        assert_eq!(fake.did.len(), 4, "{:?}", fake.did);
        assert_eq!(fake.said.len(), 1, "{:?}", fake.said);
    }
    // A hook before that stops it.
    let mut fake = machine("0.0.0.0/0");
    fake.fail_at = Some(0);
    assert!(down::down(&mut fake, &FreeBsd, &everything("0.0.0.0/0")).is_err());
    assert_eq!(fake.did, ["hook unpost wg0"]);
}

#[test]
fn twice() {
    let mut fake = machine("10.0.0.0/8");
    fake.interfaces.insert("wg0".to_owned());
    let job = everything("10.0.0.0/8");
    assert_eq!(
        go(&mut fake, &job),
        Err(Failure::Failed("`wg0' already exists".to_owned()))
    );
    let mut fake = machine("10.0.0.0/8").answer("wg show interfaces", "wg1 wg00\n");
    let result = down::down(&mut fake, &FreeBsd, &job);
    assert_eq!(
        result,
        Err(Failure::Failed(
            "`wg0' is not a WireGuard interface".to_owned()
        ))
    );
    assert!(fake.did.is_empty());
}

/// What cannot be done is said before anything is touched.
#[test]
fn checked_before() {
    let mut fake = machine("10.0.0.0/8");
    fake.programs.remove("resolvconf");
    let Err(Failure::Failed(text)) = go(&mut fake, &everything("10.0.0.0/8")) else {
        panic!("no failure");
    };
    assert!(text.contains("resolvconf"), "{text}");
    for (table, fibs) in [("2", "2\n"), ("main", "2\n"), ("1", "1\n"), ("-1", "2\n")] {
        let job = Job {
            name: "wg0".to_owned(),
            path: "/wg0.conf".into(),
            config: wg_quick::config::Config {
                table: Some(wg_quick::config::Table::Other(table.to_owned())),
                ..Default::default()
            },
        };
        let mut fake = machine("10.0.0.0/8").answer("sysctl -n net.fibs", fibs);
        assert!(go(&mut fake, &job).is_err(), "Table = {table}");
        assert!(fake.did.is_empty());
    }
}

#[test]
fn tables() {
    let peer = format!("[Peer]\nPublicKey = {PEER}\nAllowedIPs = 0.0.0.0/0, 10.77.0.2/32, ::/0\n");
    let routes = |table: &str| -> Vec<String> {
        let job = job(&format!(
            "[Interface]\nAddress = 10.77.0.1/24\nTable = {table}\n{peer}"
        ));
        let mut fake = machine("0.0.0.0/0,10.77.0.2/32,::/0").answer("sysctl -n net.fibs", "4\n");
        assert_eq!(go(&mut fake, &job), Ok(()));
        let others = fake
            .did
            .into_iter()
            .filter(|line| !line.contains("ifconfig") && !line.contains("addconf"));
        others.collect()
    };
    assert_eq!(routes("off"), Vec::<String>::new());
    let fib = [
        "route -q -n add -inet -fib 3 10.77.0.2/32 -interface wg0",
        "route -q -n add -inet -fib 3 0.0.0.0/0 -interface wg0",
        "route -q -n add -inet6 -fib 3 ::/0 -interface wg0",
    ];
    assert_eq!(routes("3"), fib);
    assert_eq!(routes("AUTO").len(), 6);
}

#[test]
fn mtu_and_addresses() {
    let mtu = |file: &str, endpoint: &str| -> String {
        let mut fake = with_peer(routed(V4, V6), "10.0.0.0/8", endpoint);
        let job = job(&format!("[Interface]\nAddress = 10.1.1.1, fd01::1\n{file}"));
        assert_eq!(go(&mut fake, &job), Ok(()));
        assert_eq!(fake.did[2], "ifconfig wg0 inet 10.1.1.1/32 alias");
        assert_eq!(fake.did[3], "ifconfig wg0 inet6 fd01::1/128 alias");
        fake.did[4].clone()
    };
    assert_eq!(mtu("MTU = 1280\n", "192.0.2.2:1"), "ifconfig wg0 mtu 1280");
    // By the default route, by the link, by an unknown way, to this machine itself.
    assert_eq!(mtu("", "192.0.2.2:1"), "ifconfig wg0 mtu 1420");
    assert_eq!(mtu("", "198.51.100.2:1"), "ifconfig wg0 mtu 8920");
    assert_eq!(mtu("", "(none)"), "ifconfig wg0 mtu 1420");
    assert_eq!(mtu("", "127.0.0.1:1"), "ifconfig wg0 mtu 16304");
}

/// Where the datagrams of the tunnel go while it is the default route.
#[test]
fn ways_to_endpoints() {
    let way = |v4: &str, v6: &str, endpoint: &str| -> Vec<String> {
        let mut fake = with_peer(routed(v4, v6), "0.0.0.0/0,::/0", endpoint);
        let job = job(&format!(
            "[Interface]\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        ));
        assert_eq!(go(&mut fake, &job), Ok(()));
        fake.did
            .into_iter()
            .filter(|line| line.starts_with("route") && !line.contains("wg0"))
            .collect()
    };
    let one = |text: &str| vec![text.to_owned()];
    assert_eq!(
        way(V4, V6, "192.0.2.2:1"),
        one("route -q -n add -inet 192.0.2.2 -gateway 198.51.100.1")
    );
    assert_eq!(
        way(V4, V6, "[2001:db8::2]:1"),
        one("route -q -n add -inet6 2001:db8::2 -gateway fe80::1%em0")
    );
    let none = r#"{"destination":"127.0.0.1","gateway":"link#1","flags":"UH","mtu":1,"interface-name":"lo0"}"#;
    assert_eq!(
        way(none, "", "192.0.2.2:1"),
        one("route -q -n add -inet 192.0.2.2 127.0.0.1 -blackhole")
    );
    assert_eq!(
        way("", none, "[2001:db8::2]:1"),
        one("route -q -n add -inet6 2001:db8::2 ::1 -blackhole")
    );
    let ppp = r#"{"destination":"default","gateway":"link#9","flags":"US","mtu":1492,"interface-name":"tun0"}"#;
    assert_eq!(
        way(ppp, V6, "192.0.2.2:1"),
        one("route -q -n add -inet 192.0.2.2 -interface tun0")
    );
    // On the link; an address of this machine; a route that somebody made already.
    assert_eq!(way(V4, V6, "198.51.100.2:1"), Vec::<String>::new());
    assert_eq!(way(V4, V6, "198.51.100.9:1"), Vec::<String>::new());
    assert_eq!(way(V4, V6, "127.0.0.1:1"), Vec::<String>::new());
    let made = format!(
        r#"{V4},{{"destination":"192.0.2.2","gateway":"198.51.100.7","flags":"UGHS","mtu":1500,"interface-name":"em0"}}"#
    );
    assert_eq!(way(&made, V6, "192.0.2.2:1"), Vec::<String>::new());
}

/// What the monitor does about a change: first what is there, then what is expected to be done.
#[test]
fn refreshing() {
    let routes = |v4: &str| {
        let mut routes = Routes::default();
        routes.add(&serde_json::from_str(&netstat("Internet", v4)).unwrap());
        routes
    };
    let default = |gateway: &str| {
        format!(
            r#"{{"destination":"default","gateway":"{gateway}","flags":"UGS","mtu":1500,"interface-name":"em0"}}"#
        )
    };
    let host = |ip: &str, gateway: &str, flags: &str| {
        format!(
            r#",{{"destination":"{ip}","gateway":"{gateway}","flags":"{flags}","mtu":1500,"interface-name":"em0"}}"#
        )
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let go = |v4: &str, endpoints: &[&str], ours: &[&str]| -> (Vec<String>, Vec<String>) {
        let endpoints: Vec<IpAddr> = endpoints.iter().map(|text| ip(text)).collect();
        let ours: BTreeSet<IpAddr> = ours.iter().map(|text| ip(text)).collect();
        let (cmds, kept) = refresh(&routes(v4), "wg0", &endpoints, &ours);
        (
            cmds.iter().map(ToString::to_string).collect(),
            kept.iter().map(ToString::to_string).collect(),
        )
    };
    let (add, delete) = (
        "route -q -n add -inet 192.0.2.2",
        "route -q -n delete -inet 192.0.2.2",
    );
    let right = default("10.0.0.1") + &host("192.0.2.2", "10.0.0.1", "UGHS");
    let e = "192.0.2.2";
    // As it should be: nothing to do, and once more nothing.
    assert_eq!(go(&right, &[e], &[e]), (vec![], vec![e.to_owned()]));
    // Another gateway.
    let moved = default("10.0.0.2") + &host(e, "10.0.0.1", "UGHS");
    let new = format!("{add} -gateway 10.0.0.2");
    assert_eq!(
        go(&moved, &[e], &[e]),
        (vec![delete.to_owned(), new.clone()], vec![e.to_owned()])
    );
    // The system dropped it together with the interface it led over; now there is a way again.
    assert_eq!(
        go(&default("10.0.0.2"), &[e], &[e]),
        (vec![new.clone()], vec![e.to_owned()])
    );
    // No way at all.
    let lost = host(e, "10.0.0.1", "UGHS")
        .trim_start_matches(',')
        .to_owned();
    let hole = format!("{add} 127.0.0.1 -blackhole");
    assert_eq!(
        go(&lost, &[e], &[e]),
        (vec![delete.to_owned(), hole], vec![e.to_owned()])
    );
    // A hole, and a way again.
    let held = default("10.0.0.2") + &host(e, "link#1", "UHSB");
    assert_eq!(
        go(&held, &[e], &[e]),
        (vec![delete.to_owned(), new], vec![e.to_owned()])
    );
    // The endpoint moved: the old route goes.
    let (cmds, kept) = go(&right, &["192.0.2.3"], &[e]);
    assert_eq!(
        cmds,
        [delete, "route -q -n add -inet 192.0.2.3 -gateway 10.0.0.1"]
    );
    assert_eq!(kept, ["192.0.2.3"]);
    // It moved to where there is a better route than the default one.
    let near = right.clone()
        + r#",{"destination":"192.0.2.0/24","gateway":"link#2","flags":"U","mtu":1500,"interface-name":"em1"}"#;
    assert_eq!(go(&near, &[e], &[e]), (vec![delete.to_owned()], vec![]));
    // Somebody else's route is left alone, and never becomes ours.
    assert_eq!(go(&moved, &[e], &[]), (vec![], vec![]));
}

/// What the monitor of a tunnel that went did not remove is removed by `down`.
#[test]
fn left_over() {
    let made = format!(
        r#"{V4},{{"destination":"192.0.2.2","gateway":"198.51.100.1","flags":"UGHS","mtu":1500,"interface-name":"em0"}}"#
    );
    let mut fake = with_peer(routed(&made, V6), "0.0.0.0/0", "192.0.2.2:1");
    fake.interfaces.insert("wg0".to_owned());
    let job = job(&format!(
        "[Interface]\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = 0.0.0.0/0\n"
    ));
    assert_eq!(down::down(&mut fake, &FreeBsd, &job), Ok(()));
    assert_eq!(
        fake.did,
        ["ifconfig wg0 destroy", "route -q -n delete -inet 192.0.2.2"]
    );
    // Without a default route through the tunnel it made none.
    let mut fake = with_peer(routed(&made, V6), "10.0.0.0/8", "192.0.2.2:1");
    fake.interfaces.insert("wg0".to_owned());
    assert_eq!(down::down(&mut fake, &FreeBsd, &job), Ok(()));
    assert_eq!(fake.did, ["ifconfig wg0 destroy"]);
}

#[test]
fn state_to_save() {
    let mut fake = Fake::default()
        .answer(
            "ifconfig -f inet:cidr,inet6:cidr wg0",
            "wg0: flags=10080c1<UP,RUNNING,NOARP,MULTICAST,LOWER_UP> metric 0 mtu 1400\n\
             \toptions=80000<LINKSTATE>\n\tinet 10.0.0.1/24\n\tinet6 fd00::1/64\n\
             \tinet6 fe80::1%wg0/64 scopeid 0x2\n\tgroups: wg\n",
        )
        .answer(
            "resolvconf -l wg0",
            "# resolv.conf from wg0\nnameserver 10.0.0.53\nsearch a.example b.example\n",
        )
        .answer(
            "wg showconf wg0",
            &format!("[Interface]\nListenPort = 7\n\n[Peer]\nPublicKey = {PEER}\n"),
        );
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(
        "[Interface]\nMTU = 1300\nTable = off\nPostUp = a # b\nSaveConfig = true\nDNS = 9.9.9.9\n",
    );
    job.path = folder.path().join("wg0.conf");
    assert_eq!(save::save(&mut fake, &FreeBsd, &job), Ok(()));
    let text = std::fs::read_to_string(&job.path).unwrap();
    assert_eq!(
        text,
        format!(
            "[Interface]\nAddress = 10.0.0.1/24\nAddress = fd00::1/64\nDNS = 10.0.0.53\nDNS = a.example\n\
             DNS = b.example\nMTU = 1400\nTable = off\nSaveConfig = true\nPostUp = a # b\nListenPort = 7\n\n\
             [Peer]\nPublicKey = {PEER}\n"
        )
    );
    // Read again, it says the same.
    let again = common::job(&text);
    assert_eq!(again.config.post_up, ["a # b"]);
    assert_eq!(again.config.mtu, Some(1400));
    assert_eq!(fake.said, ["[#] wg showconf wg0"]);
    assert!(fake.index("wg0").is_none());
}

#[test]
fn places_of_files() {
    assert_eq!(
        FreeBsd.folders(),
        ["/etc/wireguard", "/usr/local/etc/wireguard"]
    );
}
