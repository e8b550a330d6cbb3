// SPDX-License-Identifier: BSD-2-Clause
//! Programs that are asked something and fail, print nothing, or are BusyBox's. A plan may only be made from an answer.

mod common;

use common::{Fake, KEY, PEER, job};
use wg_quick::file::Job;
use wg_quick::host::Failure;
use wg_quick::os::Os;
use wg_quick::os::freebsd::FreeBsd;
use wg_quick::os::linux::Linux;
use wg_quick::{down, save, up};

/// What BusyBox 1.35 says to `ip -j` (and iproute2 before 4.17 in other words).
const USAGE: &str = "BusyBox v1.35.0 multi-call binary.; ; Usage: ip [OPTIONS] address|route";

/// Every question that Linux' way asks of ip(8) for a default route, as JSON; the same as text; BusyBox's answer.
const QUESTIONS: [(&str, &str, &str); 8] = [
    (
        "ip -j address show dev wg0",
        "ip address show dev wg0",
        "7: wg0: <POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu 8920 qdisc noqueue qlen 500\n    \
         link/[65534] \n    inet 10.77.0.1/24 scope global wg0\n       valid_lft forever preferred_lft forever\n    \
         inet 10.1.0.9 peer 10.1.0.10/32 scope global wg0\n       valid_lft forever preferred_lft forever\n    \
         inet6 fd77::1/64 scope global tentative \n       valid_lft forever preferred_lft forever\n    \
         inet6 fe80::7/64 scope link \n       valid_lft forever preferred_lft forever\n",
    ),
    (
        "ip -j -4 route show dev wg0",
        "ip -4 route show dev wg0",
        "10.77.0.0/24 dev wg0 scope link  src 10.77.0.1 \n10.1.0.10 dev wg0 scope link  src 10.1.0.9 \n",
    ),
    (
        "ip -j -6 route show dev wg0",
        "ip -6 route show dev wg0",
        "fd77::/64 dev wg0  metric 256 \nfe80::/64 dev wg0  metric 256 \nmulticast ff00::/8 dev wg0  metric 256 \n",
    ),
    (
        "ip -j route get 192.0.2.2",
        "ip route get 192.0.2.2",
        "192.0.2.2 via 198.51.100.1 dev eth0  src 198.51.100.9 \n",
    ),
    (
        "ip -j link show dev eth0",
        "ip link show dev eth0",
        "2: eth0@if9: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9000 qdisc noqueue qlen 1000\n    \
         link/ether e6:71:b2:58:34:0b brd ff:ff:ff:ff:ff:ff\n",
    ),
    (
        "ip -j -N -4 rule show",
        "ip -4 rule show",
        "0:\tfrom all lookup local \n32763:\tfrom all fwmark 0x5/0xff lookup 7 \n\
         32764:\tfrom all lookup main suppress_prefixlength 0 \n32765:\tfrom all fwmark 0xca6d lookup vpn \n\
         32766:\tfrom all lookup main \n32767:\tfrom all lookup default \n",
    ),
    (
        "ip -j -N -6 rule show",
        "ip -6 rule show",
        "0:\tfrom all lookup local \n32766:\tfrom all lookup main \n",
    ),
    (
        "ip -j -4 route show table 51820",
        "ip -4 route show table all",
        "default dev wg7 table 51820 scope link \ndefault via 10.1.0.2 dev v0 \n\
         default dev wg8 table vpn scope link \nlocal 10.1.0.1 dev v0 table local scope host  src 10.1.0.1 \n",
    ),
];

const IPS: &str = "0.0.0.0/0,10.77.0.0/24,10.1.0.10/32,172.16.0.0/12,fd77::/64,fd88::/64";

/// A machine with BusyBox, on which one tunnel has the table 51820 and another one 51821, which is called vpn.
fn busybox() -> Fake {
    let mut fake = wg_answers(Fake::default().program("nft"))
        .answer("nft list tables", "")
        .answer("ip -6 route show table all", "")
        .file(
            "/etc/iproute2/rt_tables",
            "#\n# reserved\n255\tlocal\n254\tmain\n51821 vpn\n",
        )
        .file("/proc/sys/net/ipv4/conf/all/src_valid_mark", "1\n");
    for (json, text, answer) in QUESTIONS {
        fake = fake.refuse(json, USAGE).answer(text, answer);
    }
    fake
}

fn wg_answers(fake: Fake) -> Fake {
    fake.answer("wg show interfaces", "wg0\n")
        .answer(
            "wg show wg0 allowed-ips",
            &format!("{PEER}\t{}\n", IPS.replace(',', " ")),
        )
        .answer(
            "wg show wg0 endpoints",
            &format!("{PEER}\t192.0.2.2:51820\n"),
        )
        .answer("wg show wg0 fwmark", "off\n")
        .answer(
            "wg showconf wg0",
            &format!("[Interface]\nPrivateKey = {KEY}\n"),
        )
}

fn tunnel() -> Job {
    job(&format!(
        "[Interface]\nAddress = 10.77.0.1/24, fd77::1/64\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = {IPS}\n"
    ))
}

fn go(fake: &mut Fake) -> Result<(), Failure> {
    up::up(fake, &Linux, &tunnel(), "wgd")
}

#[test]
fn busybox_is_understood() {
    let mut fake = busybox();
    assert_eq!(go(&mut fake), Ok(()), "{:?}", fake.said);
    assert_eq!(
        fake.did[4..],
        [
            "ip link set mtu 8920 up dev wg0",
            "ip -6 route add fd88::/64 dev wg0",
            "ip -4 route add 172.16.0.0/12 dev wg0",
            "wg set wg0 fwmark 51822",
            "nft -f -",
            "ip -4 rule add not fwmark 51822 table 51822",
            "ip -4 rule add table main suppress_prefixlength 0",
            "ip -4 route add 0.0.0.0/0 dev wg0 table 51822"
        ]
    );
    let filter = fake.inputs.iter().find(|(cmd, _)| cmd == "nft -f -");
    let filter = &filter.unwrap().1;
    for ip in ["10.77.0.1", "10.1.0.9"] {
        assert!(filter.contains(&format!("ip daddr {ip} fib")), "{filter}");
    }
    // What is removed: of a rule, BusyBox does not print the "not".
    let mut fake = busybox().answer("wg show wg0 fwmark", "0xca6d\n");
    assert_eq!(down::down(&mut fake, &Linux, &tunnel()), Ok(()));
    assert_eq!(
        fake.did,
        [
            "ip -4 rule delete table 51821",
            "ip -4 rule delete table main suppress_prefixlength 0",
            "ip link delete dev wg0"
        ]
    );
    let state = Linux.state(&mut busybox(), &tunnel()).unwrap();
    assert_eq!(
        state.addresses,
        ["10.77.0.1/24", "10.1.0.9/32", "fd77::1/64"]
    );
    assert_eq!(state.mtu, 8920);
}

/// A default route of several next hops, and an MTU that is locked, in both forms.
#[test]
fn ways_of_several_kinds() {
    let mtu = |json: bool, said: &str| -> String {
        let mut fake = busybox().answer("wg show wg0 endpoints", "");
        let question = if json {
            "ip -j route show default"
        } else {
            "ip route show default"
        };
        fake = fake.answer(question, said);
        assert_eq!(go(&mut fake), Ok(()), "{:?}", fake.said);
        fake.did[4].clone()
    };
    let wide = "ip link set mtu 8920 up dev wg0";
    let narrow = "ip link set mtu 1412 up dev wg0";
    assert_eq!(
        mtu(true, r#"[{"dst":"default","nexthops":[{"dev":"eth0"}]}]"#),
        wide
    );
    assert_eq!(
        mtu(
            false,
            "default \n\tnexthop via 10.0.0.1 dev eth0 weight 1 \n10.0.0.0/24 dev eth5 mtu 600 \n"
        ),
        wide
    );
    assert_eq!(
        mtu(false, "default via 10.0.0.1 dev eth0 mtu lock 1492 \n"),
        narrow
    );
    assert_eq!(
        mtu(false, "10.0.0.0/24 dev eth5 \n"),
        "ip link set mtu 1420 up dev wg0"
    );
}

#[test]
fn a_question_of_up_that_fails() {
    let wg = ["allowed-ips", "endpoints", "fwmark"].map(|field| format!("wg show wg0 {field}"));
    let texts = QUESTIONS.map(|(_, text, _)| text.to_owned());
    for question in texts.into_iter().chain(wg) {
        let mut fake = busybox().refuse(&question, "out of luck");
        assert!(go(&mut fake).is_err(), "{question}");
        assert!(fake.interfaces.is_empty(), "left the interface");
        let told = format!("wg-quick: `{question}' failed: out of luck");
        assert!(
            fake.said.iter().any(|line| line.starts_with(&told)),
            "{:?}",
            fake.said
        );
    }
}

#[test]
fn a_question_of_up_to_which_nothing_is_printed() {
    // Lists of routes, peers and their endpoints can be empty.
    let never_empty = [0, 3, 4, 5, 6].map(|n| QUESTIONS[n].1);
    for question in never_empty.into_iter().chain(["wg show wg0 fwmark"]) {
        let mut fake = busybox().answer(question, "");
        assert!(go(&mut fake).is_err(), "{question}");
        assert!(fake.interfaces.is_empty(), "left the interface");
        let told = format!("wg-quick: `{question}' printed nothing");
        assert!(
            fake.said.iter().any(|line| line.starts_with(&told)),
            "{:?}",
            fake.said
        );
    }
    // With a JSON option that is taken and does nothing, the text is read as well.
    let mut fake = busybox();
    for (json, _, _) in QUESTIONS {
        fake = fake.answer(json, "");
    }
    assert_eq!(go(&mut fake), Ok(()), "{:?}", fake.said);
    assert!(fake.did.contains(&"wg set wg0 fwmark 51822".to_owned()));
}

#[test]
fn nonsense_is_no_answer() {
    for (question, nonsense) in [
        ("wg show wg0 allowed-ips", "key 10.0.0.0/x"),
        ("wg show wg0 endpoints", "key somewhere"),
        ("wg show wg0 fwmark", "0xx"),
        ("ip address show dev wg0", "7: wg1: <UP> mtu 1420"),
        (
            "ip address show dev wg0",
            "7: wg0: <UP> mtu 1420\n    inet addr:10.0.0.1",
        ),
        ("ip -4 rule show", "no rules today"),
    ] {
        let mut fake = busybox().answer(question, nonsense);
        assert!(go(&mut fake).is_err(), "{question}: {nonsense}");
        assert!(fake.interfaces.is_empty(), "left the interface");
        let told = format!("wg-quick: `{question}' printed what is not understood: ");
        assert!(
            fake.said.iter().any(|line| line.starts_with(&told)),
            "{:?}",
            fake.said
        );
    }
}

/// `down` goes on, and tells what it could not find out.
#[test]
fn a_question_of_down_that_fails() {
    for (question, left) in [
        (
            "ip -4 rule show",
            "nft delete table ip wg-quick-wg0,ip link delete dev wg0",
        ),
        (
            "ip -6 rule show",
            "nft delete table ip wg-quick-wg0,ip -4 rule delete table 51821,\
            ip -4 rule delete table main suppress_prefixlength 0,ip link delete dev wg0",
        ),
        (
            "nft list tables",
            "ip -4 rule delete table 51821,\
            ip -4 rule delete table main suppress_prefixlength 0,ip link delete dev wg0",
        ),
        (
            "wg show wg0 fwmark",
            "nft delete table ip wg-quick-wg0,ip link delete dev wg0",
        ),
    ] {
        let mut fake = busybox()
            .answer("wg show wg0 fwmark", "0xca6d\n")
            .answer("nft list tables", "table ip wg-quick-wg0\n")
            .refuse(question, "out of luck");
        assert!(
            down::down(&mut fake, &Linux, &tunnel()).is_err(),
            "{question}"
        );
        assert_eq!(fake.did.join(","), left);
        let told = format!("wg-quick: `{question}' failed: out of luck");
        assert!(
            fake.said.iter().any(|line| line.starts_with(&told)),
            "{:?}",
            fake.said
        );
    }
    // That the kernel has no IPv6, or no nftables, is an answer.
    for question in [
        "ip -6 rule show",
        "ip -j -N -6 rule show",
        "nft list tables",
    ] {
        let mut fake = busybox()
            .answer("wg show wg0 fwmark", "0xca6d\n")
            .refuse(question, "RTNETLINK answers: Operation not supported");
        assert_eq!(
            down::down(&mut fake, &Linux, &tunnel()),
            Ok(()),
            "{:?}",
            fake.said
        );
    }
    // Nor is anything taken for gone because wg(8) cannot list.
    let mut fake = busybox().refuse("wg show interfaces", "out of luck");
    let Err(Failure::Failed(text)) = down::down(&mut fake, &Linux, &tunnel()) else {
        panic!("no failure");
    };
    assert_eq!(text, "`wg show interfaces' failed: out of luck");
    assert!(fake.did.is_empty());
}

/// A file keeps its addresses unless the interface's are known.
#[test]
fn a_question_of_save() {
    let folder = tempfile::tempdir().unwrap();
    let before = "[Interface]\nAddress = 10.77.0.1/24\n";
    let ifconfig = "ifconfig -f inet:cidr,inet6:cidr wg0";
    // As BusyBox' ifconfig has it.
    let strange = "wg0       Link encap:UNSPEC  HWaddr 00-00\n          inet addr:10.77.0.1  Mask:255.255.255.0\n          \
        UP RUNNING NOARP  MTU:1420  Metric:1\n";
    let systems: [(&dyn Os, &str, &str); 2] = [
        (&Linux, "ip address show dev wg0", "7: wg0: <UP>"),
        (&FreeBsd, ifconfig, strange),
    ];
    for (os, question, strange) in systems {
        let good = || {
            busybox().answer(
                ifconfig,
                "wg0: flags=1 metric 0 mtu 1420\n\tinet 10.9.9.9/24\n",
            )
        };
        let fakes = [
            good().refuse(question, "out of luck"),
            good().answer(question, ""),
            good().answer(question, strange),
            good().refuse("wg showconf wg0", "out of luck"),
            good().answer("wg showconf wg0", ""),
        ];
        let mut job = tunnel();
        job.path = folder.path().join("wg0.conf");
        for mut fake in fakes {
            std::fs::write(&job.path, before).unwrap();
            let Err(Failure::Failed(text)) = save::save(&mut fake, os, &job) else {
                panic!("saved, though `{question}' was not answered");
            };
            assert!(text.ends_with("wg0.conf' is as it was"), "{text}");
            assert_eq!(std::fs::read_to_string(&job.path).unwrap(), before);
        }
        assert_eq!(save::save(&mut good(), os, &job), Ok(()));
        let saved = std::fs::read_to_string(&job.path).unwrap();
        assert!(saved.starts_with("[Interface]\nAddress = 10."), "{saved}");
    }
}

/// FreeBSD's questions to netstat(1), sysctl(8) and wg(8).
#[test]
fn freebsd() {
    let table = r#"{"statistics":{"route-information":{"route-table":{}}}}"#;
    let netstat = ["inet", "inet6"].map(|f| format!("netstat --libxo json -rnW -f {f}"));
    let machine = || {
        wg_answers(Fake::default())
            .answer(&netstat[0], table)
            .answer(&netstat[1], table)
            .answer("sysctl -n net.fibs", "2\n")
    };
    let file = |table: &str| {
        job(&format!(
            "[Interface]\nTable = {table}\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = 10.0.0.0/8\n"
        ))
    };
    let go = |fake: &mut Fake, table: &str| up::up(fake, &FreeBsd, &file(table), "wireguard-go");
    assert_eq!(go(&mut machine(), "auto"), Ok(()));
    assert_eq!(go(&mut machine(), "1"), Ok(()));
    for (asked, table) in [
        (netstat[0].as_str(), "auto"),
        (netstat[1].as_str(), "auto"),
        ("wg show wg0 fwmark", "auto"),
        ("sysctl -n net.fibs", "1"),
    ] {
        // BusyBox' netstat and sysctl print no such thing at all.
        for mut fake in [
            machine().refuse(asked, "out of luck"),
            machine().answer(asked, ""),
            machine().answer(asked, "Kernel IP routing table\nDestination Gateway\n"),
            machine().answer(asked, r#"{"statistics":{}}"#),
        ] {
            let result = go(&mut fake, table);
            assert!(fake.interfaces.is_empty(), "left the interface");
            let Err(Failure::Failed(text)) = result else {
                panic!("{asked} was not answered");
            };
            let told = fake.said.join("\n") + &text;
            assert!(told.contains(&format!("`{asked}' ")), "{told}");
        }
    }
    // `down` still takes the interface down.
    let mut fake = machine().refuse(&netstat[0], "out of luck");
    fake.interfaces.insert("wg0".to_owned());
    assert!(down::down(&mut fake, &FreeBsd, &file("auto")).is_err());
    assert_eq!(fake.did, ["ifconfig wg0 destroy"]);
    assert!(fake.said[0].contains(&netstat[0]), "{:?}", fake.said);
}

/// The route monitor keeps its routes when wg(8) does not answer.
#[test]
fn endpoints() {
    use wg_quick::os::known_endpoints;
    let question = "wg show wg0 endpoints";
    let mut fake = Fake::default().answer(
        question,
        "a\t192.0.2.2:1\nb\t(none)\nc\t[fe80::1%em0]:1\nd\t192.0.2.2:2\ne\t[2001:db8::1]:1\n",
    );
    let known = known_endpoints(&mut fake, "wg0").unwrap();
    assert_eq!(
        known,
        ["192.0.2.2", "2001:db8::1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
    );
    assert!(known_endpoints(&mut fake.refuse(question, ""), "wg0").is_err());
}

/// Only Debian's resolvconf takes a prefix; what is a link is another's.
#[test]
fn resolvconf_by_a_link() {
    let order = ("/etc/resolvconf/interface-order", "lo.*\ntun*\n");
    let mut fake = Fake::default().file(order.0, order.1);
    assert_eq!(
        Linux.resolvconf(&mut fake, "wg0").add.to_string(),
        "resolvconf -a tun.wg0 -m 0 -x"
    );
    fake.links.insert("resolvconf".to_owned());
    let calls = Linux.resolvconf(&mut fake, "wg0");
    assert_eq!(calls.add.to_string(), "resolvconf -a wg0 -m 0 -x");
    assert_eq!(calls.forget.to_string(), "resolvconf -d wg0 -f");
    // One that cannot list leaves what the file says.
    let folder = tempfile::tempdir().unwrap();
    let mut job = job("[Interface]\nDNS = 10.0.0.53\n");
    job.path = folder.path().join("wg0.conf");
    for mut fake in [busybox(), busybox().answer("resolvconf -l wg0", "")] {
        assert_eq!(save::save(&mut fake, &Linux, &job), Ok(()));
        let saved = std::fs::read_to_string(&job.path).unwrap();
        assert!(saved.contains("DNS = 10.0.0.53\n"), "{saved}");
    }
}
