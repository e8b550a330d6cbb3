// SPDX-License-Identifier: BSD-2-Clause
//! Linux's way, on paper.

mod common;

use common::{Fake, PEER, everything, job};
use wg_quick::file::Job;
use wg_quick::host::Failure;
use wg_quick::os::linux::Linux;
use wg_quick::{down, up};

const RULES: &str = r#"[{"priority":0,"src":"all","table":"255"},
    {"priority":32764,"src":"all","table":"254","suppress_prefixlen":0},
    {"priority":32765,"not":null,"src":"all","fwmark":"0xca6c","table":"51820"},
    {"priority":32766,"src":"all","table":"254"},{"priority":32767,"src":"all","table":"253"}]"#;
const NO_RULES: &str =
    r#"[{"priority":0,"src":"all","table":"255"},{"priority":32766,"src":"all","table":"254"}]"#;
const NO_TABLE: &str = "Error: ipv4: FIB table does not exist.; Dump terminated";

/// A machine with an uplink of 1500 bytes, on which `wg show` tells this.
fn machine(allowed_ips: &str, endpoint: &str, mark: &str) -> Fake {
    Fake::default()
        .program("nft")
        .program("resolvconf")
        .program("wgd")
        .answer(
            "wg show wg0 allowed-ips",
            &format!("{PEER}\t{}\n", allowed_ips.replace(',', " ")),
        )
        .answer("wg show wg0 endpoints", &format!("{PEER}\t{endpoint}\n"))
        .answer("wg show wg0 fwmark", &format!("{mark}\n"))
        .answer("wg show interfaces", "wg0\n")
        .answer(
            "ip -j route get 192.0.2.2",
            r#"[{"dst":"192.0.2.2","dev":"eth0","flags":[]}]"#,
        )
        .answer(
            "ip -j route get 192.0.2.3",
            r#"[{"dst":"192.0.2.3","dev":"eth0","metrics":[{"mtu":1400}]}]"#,
        )
        .answer(
            "ip -j route show default",
            r#"[{"dst":"default","gateway":"192.0.2.254","dev":"eth1"}]"#,
        )
        .answer(
            "ip -j link show dev eth0",
            r#"[{"ifname":"eth0","mtu":1500}]"#,
        )
        .answer(
            "ip -j link show dev eth1",
            r#"[{"ifname":"eth1","mtu":9000}]"#,
        )
        .answer(
            "ip -j address show dev wg0",
            r#"[{"ifname":"wg0","mtu":1420,"addr_info":[
                {"family":"inet","local":"10.77.0.1","prefixlen":24,"scope":"global"},
                {"family":"inet6","local":"fd77::1","prefixlen":64,"scope":"global"},
                {"family":"inet6","local":"fe80::7","prefixlen":64,"scope":"link"}]}]"#,
        )
        .answer(
            "ip -j -4 route show dev wg0",
            r#"[{"dst":"10.77.0.0/24","protocol":"kernel","scope":"link"}]"#,
        )
        .answer(
            "ip -j -6 route show dev wg0",
            r#"[{"dst":"fd77::/64","protocol":"kernel"},{"dst":"fe80::/64"}]"#,
        )
        .answer("ip -j -N -4 rule show", NO_RULES)
        .answer("ip -j -N -6 rule show", NO_RULES)
        .refuse("ip -j -4 route show table 51820", NO_TABLE)
        .answer("ip -j -6 route show table 51820", "[]")
        .answer("nft list tables", "")
        .file(SRC_VALID_MARK, "0\n")
}

const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

fn go(fake: &mut Fake, job: &Job) -> Result<(), Failure> {
    up::up(fake, &Linux, job, "wgd")
}

const ALL: &str = "10.77.0.0/24,172.16.0.0/12,0.0.0.0/0,::/0";

#[test]
fn everything_in_order() {
    let mut fake = machine(ALL, "192.0.2.2:51820", "off");
    assert_eq!(go(&mut fake, &everything(ALL)), Ok(()), "{:?}", fake.said);
    let expected = "\
ip link add dev wg0 type wireguard
hook pre wg0
wg addconf wg0 /dev/stdin
ip -4 address add 10.77.0.1/24 dev wg0
ip -6 address add fd77::1/64 dev wg0
ip link set mtu 1420 up dev wg0
resolvconf -a wg0 -m 0 -x
ip -4 route add 172.16.0.0/12 dev wg0
wg set wg0 fwmark 51820
nft -f -
sysctl -q net.ipv4.conf.all.src_valid_mark=1
ip -4 rule add not fwmark 51820 table 51820
ip -4 rule add table main suppress_prefixlength 0
ip -4 route add 0.0.0.0/0 dev wg0 table 51820
nft -f -
ip -6 rule add not fwmark 51820 table 51820
ip -6 rule add table main suppress_prefixlength 0
ip -6 route add ::/0 dev wg0 table 51820
hook post wg0";
    assert_eq!(fake.did.join("\n"), expected);
    let filters: Vec<_> = fake
        .inputs
        .iter()
        .filter(|(cmd, _)| cmd == "nft -f -")
        .collect();
    assert!(
        filters[0]
            .1
            .contains("ip daddr 10.77.0.1 fib saddr type != local drop"),
        "{}",
        filters[0].1
    );
    assert!(
        filters[1]
            .1
            .contains("ip6 daddr fd77::1 fib saddr type != local drop"),
        "{}",
        filters[1].1
    );
    assert!(!filters[0].1.contains("fd77") && !filters[1].1.contains("10.77"));
}

/// Whichever step fails, or is interrupted, what was done before is undone in the reverse order, and nothing else.
#[test]
fn every_step_can_fail() {
    let mut whole = machine(ALL, "192.0.2.2:51820", "off");
    assert_eq!(go(&mut whole, &everything(ALL)), Ok(()));
    for (fail_at, failed) in whole.did.iter().enumerate() {
        for by_signal in [false, true] {
            let mut fake = machine(ALL, "192.0.2.2:51820", "off");
            // Otherwise the next way to make the interface would be tried.
            fake.paths.insert("/sys/module/wireguard".to_owned());
            (fake.fail_at, fake.by_signal) = (Some(fail_at), by_signal);
            assert_eq!(
                go(&mut fake, &everything(ALL)),
                Err(Failure::Failed(String::new()))
            );
            assert!(
                fake.shielded && fake.interfaces.is_empty(),
                "after {failed}"
            );
            let (did, undid) = fake.did.split_at(fail_at + 1);
            let effective = if by_signal { did } else { &did[..fail_at] };
            let mut expected = Vec::new();
            if did.contains(&"hook post wg0".to_owned()) {
                expected.push("hook unpost wg0".to_owned());
            }
            let mut tables = effective.iter().filter(|step| *step == "nft -f -").count();
            let mut suppressor = None;
            for step in effective.iter().rev() {
                match step.split(' ').collect::<Vec<_>>().as_slice() {
                    ["ip", family, "rule", "add", "not", ..] => {
                        expected.push(format!("ip {family} rule delete table 51820"));
                        expected.extend(suppressor.take());
                    }
                    ["ip", _, "rule", "add", ..] => {
                        suppressor = Some(step.replace("add", "delete"));
                    }
                    ["sysctl", ..] => expected.push(step.replace("=1", "=0")),
                    ["nft", ..] => {
                        let family = if tables == 2 { "ip6" } else { "ip" };
                        tables -= 1;
                        expected.push(format!("nft delete table {family} wg-quick-wg0"));
                    }
                    ["resolvconf", ..] => expected.push("resolvconf -d wg0 -f".to_owned()),
                    ["ip", "link", "add", ..] => expected.push("ip link delete dev wg0".to_owned()),
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

#[test]
fn by_a_process_or_not() {
    let job = everything("10.0.0.0/8");
    let made = |says: &str, module: bool, wgd: bool| {
        let mut fake = machine("10.0.0.0/8", "(none)", "off");
        fake.attempt_says = Some(says.to_owned());
        if module {
            fake.paths.insert("/sys/module/wireguard".to_owned());
        }
        if !wgd {
            fake.programs.remove("wgd");
        }
        let result = go(&mut fake, &job);
        (result.is_ok(), fake.did.contains(&"wgd wg0".to_owned()))
    };
    let unknown = "Error: Unknown device type.";
    assert_eq!(made(unknown, false, true), (true, true));
    assert_eq!(made(unknown, false, false), (false, false));
    assert_eq!(made(unknown, true, true), (false, false));
    assert_eq!(
        made("RTNETLINK answers: File exists", false, true),
        (false, false)
    );
}

/// A mark that the file gives is used; else the first number whose table is empty in both families.
#[test]
fn marks() {
    let up = |fake: &mut Fake, file: &str| -> Vec<String> {
        let job = job(&format!(
            "[Interface]\n{file}[Peer]\nPublicKey = {PEER}\nAllowedIPs = 0.0.0.0/0\n"
        ));
        assert_eq!(go(fake, &job), Ok(()));
        fake.did
            .iter()
            .filter(|line| line.contains("mark ") || line.contains("table "))
            .cloned()
            .collect()
    };
    let mut fake = machine("0.0.0.0/0", "192.0.2.2:1", "0x99");
    assert_eq!(
        up(&mut fake, "FwMark = 0x99\n"),
        [
            "ip -4 rule add not fwmark 153 table 153",
            "ip -4 rule add table main suppress_prefixlength 0",
            "ip -4 route add 0.0.0.0/0 dev wg0 table 153"
        ]
    );
    let mut fake = machine("0.0.0.0/0", "192.0.2.2:1", "off")
        .answer("ip -j -4 route show table 51820", r#"[{"dst":"default"}]"#)
        .answer("ip -j -6 route show table 51821", r#"[{"dst":"default"}]"#)
        .answer("ip -j -4 route show table 51821", "[]")
        .answer("ip -j -4 route show table 51822", "[]")
        .answer("ip -j -6 route show table 51822", "[]");
    assert_eq!(up(&mut fake, "")[0], "wg set wg0 fwmark 51822");
    // Its rules come before its routes: another tunnel is being set up, and this is its table already.
    let mut fake = machine("0.0.0.0/0", "192.0.2.2:1", "off")
        .answer("ip -j -N -6 rule show", RULES)
        .answer("ip -j -4 route show table 51821", "[]")
        .answer("ip -j -6 route show table 51821", "[]");
    assert_eq!(up(&mut fake, "")[0], "wg set wg0 fwmark 51821");
}

/// From the choice of a table until it has its route nobody else chooses one, nor while rules are removed.
#[test]
fn locked() {
    let mut fake = machine(ALL, "192.0.2.2:1", "off");
    assert_eq!(go(&mut fake, &everything(ALL)), Ok(()));
    let at = |what: &str| fake.did.iter().position(|line| line == what).unwrap();
    let (from, to) = (
        at("ip link set mtu 1420 up dev wg0") + 2,
        at("ip -6 route add ::/0 dev wg0 table 51820") + 1,
    );
    assert_eq!(fake.locks, [("lock", from), ("unlock", to)]);

    let mut fake = machine(ALL, "192.0.2.2:1", "off");
    fake.fail_at = Some(to - 1);
    assert!(go(&mut fake, &everything(ALL)).is_err());
    let hook = fake.did.iter().position(|line| line == "hook unpre wg0");
    assert_eq!(fake.locks, [("lock", from), ("unlock", hook.unwrap())]);

    let mut fake = machine(ALL, "192.0.2.2:1", "0xca6c").answer("ip -j -N -4 rule show", RULES);
    assert_eq!(down::down(&mut fake, &Linux, &everything(ALL)), Ok(()));
    let hook = fake.did.iter().position(|line| line == "hook unpre wg0");
    assert_eq!(fake.locks, [("lock", 1), ("unlock", hook.unwrap())]);

    let mut fake = machine("10.0.0.0/8", "192.0.2.2:1", "off");
    assert_eq!(go(&mut fake, &everything("10.0.0.0/8")), Ok(()));
    assert!(!fake.locks.iter().any(|(what, _)| *what == "lock"));
}

/// Where the setting is right already, it may be one that cannot be written.
#[test]
fn src_valid_mark() {
    let mut fake = machine(ALL, "192.0.2.2:1", "off").file(SRC_VALID_MARK, "1\n");
    assert_eq!(go(&mut fake, &everything(ALL)), Ok(()));
    assert!(
        !fake.did.iter().any(|line| line.starts_with("sysctl")),
        "{:?}",
        fake.did
    );
    let mut fake = machine(ALL, "192.0.2.2:1", "off");
    fake.files.remove(SRC_VALID_MARK);
    assert_eq!(go(&mut fake, &everything(ALL)), Ok(()));
    assert!(
        fake.did
            .contains(&"sysctl -q net.ipv4.conf.all.src_valid_mark=1".to_owned())
    );
}

/// Addresses and routes that a hook gave the interface count like those of the file.
#[test]
fn what_hooks_did() {
    let ips = "10.66.0.0/24,10.67.0.0/16,10.68.0.0/16,0.0.0.0/0";
    let link = r#"[{},{"ifname":"wg0","mtu":1420,"addr_info":[
        {"local":"10.66.0.2","prefixlen":24,"scope":"global"},
        {"local":"10.68.0.2","prefixlen":16,"scope":"global","noprefixroute":true}]}]"#;
    let routes = r#"[{"dst":"10.66.0.0/24"},{"dst":"10.67.0.0/16"},
        {"type":"blackhole","dst":"10.68.0.0/16"}]"#;
    let job = job(&format!(
        "[Interface]\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = {ips}\n"
    ));
    let mut fake = machine(ips, "192.0.2.2:1", "off")
        .answer("ip -j address show dev wg0", link)
        .answer("ip -j -4 route show dev wg0", routes);
    assert_eq!(go(&mut fake, &job), Ok(()), "{:?}", fake.said);
    let added: Vec<_> = fake
        .did
        .iter()
        .filter(|line| line.contains("route add"))
        .collect();
    assert_eq!(
        added,
        [
            "ip -4 route add 10.68.0.0/16 dev wg0",
            "ip -4 route add 0.0.0.0/0 dev wg0 table 51820"
        ]
    );
    for ip in ["10.66.0.2", "10.68.0.2"] {
        let guard = format!("iifname != \"wg0\" ip daddr {ip} fib saddr type != local drop");
        let text = fake
            .inputs
            .iter()
            .find(|(cmd, _)| cmd == "nft -f -")
            .unwrap();
        assert!(text.1.contains(&guard), "{}", text.1);
    }
}

#[test]
fn tables() {
    let routes = |table: &str| -> Vec<String> {
        let peer =
            format!("[Peer]\nPublicKey = {PEER}\nAllowedIPs = 0.0.0.0/0, 10.77.0.2/32, ::/0\n");
        let job = job(&format!("[Interface]\nTable = {table}\n{peer}"));
        let mut fake = machine("0.0.0.0/0,10.77.0.2/32,::/0", "192.0.2.2:1", "off");
        // Nothing that filters is needed without a default route of our own.
        fake.programs.remove("nft");
        assert_eq!(go(&mut fake, &job), Ok(()));
        fake.did[3..].to_vec()
    };
    assert_eq!(routes("off"), Vec::<String>::new());
    let named = [
        "ip -4 route add 10.77.0.2/32 dev wg0 table vpn",
        "ip -4 route add 0.0.0.0/0 dev wg0 table vpn",
        "ip -6 route add ::/0 dev wg0 table vpn",
    ];
    assert_eq!(routes("vpn"), named);
}

#[test]
fn mtu() {
    let mtu = |endpoint: &str| -> String {
        let mut fake = machine("10.0.0.0/8", endpoint, "off")
            .answer(
                "ip -j route get 192.0.2.4",
                r#"[{"dst":"192.0.2.4","dev":"eth1"}]"#,
            )
            .refuse(
                "ip -j route get 192.0.2.9",
                "RTNETLINK answers: Network is unreachable",
            );
        let job = job(&format!(
            "[Interface]\n[Peer]\nPublicKey = {PEER}\nAllowedIPs = 10.0.0.0/8\n"
        ));
        assert_eq!(go(&mut fake, &job), Ok(()));
        fake.did
            .iter()
            .find(|line| line.contains(" mtu "))
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(mtu("192.0.2.2:1"), "ip link set mtu 1420 up dev wg0");
    assert_eq!(mtu("192.0.2.3:1"), "ip link set mtu 1320 up dev wg0");
    assert_eq!(mtu("(none)"), "ip link set mtu 8920 up dev wg0");
    // The narrowest way counts, in whichever order; one that there is not, does not.
    let both = [
        format!("192.0.2.4:1\n{PEER}\t192.0.2.3:1"),
        format!("192.0.2.3:1\n{PEER}\t192.0.2.4:1\n{PEER}\t192.0.2.9:1"),
    ];
    for endpoints in both {
        assert_eq!(mtu(&endpoints), "ip link set mtu 1320 up dev wg0");
    }
    let mut fake = machine("10.0.0.0/8", "(none)", "off").answer("ip -j route show default", "[]");
    assert_eq!(go(&mut fake, &job("[Interface]\n")), Ok(()));
    assert_eq!(fake.did[2], "ip link set mtu 1420 up dev wg0");
}

#[test]
fn without_a_filter() {
    let mut fake = machine(ALL, "192.0.2.2:1", "off");
    fake.programs.remove("nft");
    let Err(Failure::Failed(text)) = go(&mut fake, &everything(ALL)) else {
        panic!("no failure");
    };
    assert!(text.contains("nft"), "{text}");
    assert!(fake.did.is_empty());

    let mut fake = fake
        .program("iptables-restore")
        .program("ip6tables-restore");
    assert_eq!(go(&mut fake, &everything(ALL)), Ok(()));
    let inputs: Vec<_> = fake
        .inputs
        .iter()
        .filter(|(cmd, _)| cmd.contains("tables"))
        .collect();
    assert_eq!(inputs[0].0, "iptables-restore -n");
    assert_eq!(inputs[1].0, "ip6tables-restore -n");
    assert!(inputs[0].1.contains(
        "-I PREROUTING ! -i wg0 -d 10.77.0.1 -m addrtype ! --src-type LOCAL -j DROP -m comment --comment \
         \"wg-quick(8) rule for wg0\"\n"
    ));
    // Those rules are found again, and only those.
    let listed = "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i x -j DROP\n\
        -A PREROUTING ! -i wg0 -m comment --comment \"wg-quick(8) rule for wg0\" -j DROP\n\
        -A PREROUTING ! -i wg01 -m comment --comment \"wg-quick(8) rule for wg01\" -j DROP\nCOMMIT\n";
    let mut fake = machine(ALL, "192.0.2.2:1", "0xca6c")
        .answer("iptables-save", listed)
        .answer("ip6tables-save", "");
    fake.programs = [
        "iptables-save",
        "iptables-restore",
        "ip6tables-save",
        "ip6tables-restore",
    ]
    .map(String::from)
    .into();
    assert_eq!(down::down(&mut fake, &Linux, &job("[Interface]\n")), Ok(()));
    assert_eq!(fake.did, ["iptables-restore -n", "ip link delete dev wg0"]);
    assert_eq!(
        fake.inputs[0].1,
        "*raw\n-D PREROUTING ! -i wg0 -m comment --comment \"wg-quick(8) rule for wg0\" -j DROP\nCOMMIT\n"
    );
}

#[test]
fn down_in_order() {
    let mut fake = machine(ALL, "192.0.2.2:1", "0xca6c")
        .answer("ip -j -N -4 rule show", RULES)
        .answer("ip -j -N -6 rule show", RULES)
        .answer("nft list tables", "table ip filter\ntable ip wg-quick-wg0\ntable ip6 wg-quick-wg0\ntable ip wg-quick-wg01\n");
    fake.files.insert(
        "/etc/resolvconf/interface-order".to_owned(),
        "lo*\n# x\n".to_owned(),
    );
    fake.interfaces.insert("wg0".to_owned());
    assert_eq!(down::down(&mut fake, &Linux, &everything(ALL)), Ok(()));
    let expected = "\
hook unpost wg0
resolvconf -d lo.wg0 -f
nft delete table ip wg-quick-wg0
nft delete table ip6 wg-quick-wg0
ip -4 rule delete table 51820
ip -4 rule delete table main suppress_prefixlength 0
ip -6 rule delete table 51820
ip -6 rule delete table main suppress_prefixlength 0
ip link delete dev wg0
hook unpre wg0";
    assert_eq!(fake.did.join("\n"), expected);
}

/// Two tunnels that are both a default route: the older can go first without taking the younger's rules along.
#[test]
fn down_leaves_the_other_tunnel() {
    let two = r#"[{"priority":0,"src":"all","table":"255"},
        {"priority":32762,"src":"all","table":"254","suppress_prefixlen":0},
        {"priority":32763,"not":null,"src":"all","fwmark":"0xca6d","table":"51821"},
        {"priority":32764,"src":"all","table":"254","suppress_prefixlen":0},
        {"priority":32765,"not":null,"src":"all","fwmark":"0xca6c","table":"51820"},
        {"priority":32766,"src":"all","table":"254"}]"#;
    let rules = |mark: &str| -> Vec<String> {
        let mut fake = machine(ALL, "192.0.2.2:1", mark).answer("ip -j -N -4 rule show", two);
        assert_eq!(down::down(&mut fake, &Linux, &job("[Interface]\n")), Ok(()));
        fake.did
            .into_iter()
            .filter(|line| line.contains("rule"))
            .collect()
    };
    assert_eq!(
        rules("0xca6c"),
        [
            "ip -4 rule delete table 51820",
            "ip -4 rule delete table main suppress_prefixlength 0 priority 32764"
        ]
    );
    assert_eq!(
        rules("0xca6d"),
        [
            "ip -4 rule delete table 51821",
            "ip -4 rule delete table main suppress_prefixlength 0 priority 32762"
        ]
    );
    // A mark that has nothing to do with routes.
    assert_eq!(rules("0x1"), Vec::<String>::new());
    assert_eq!(rules("off"), Vec::<String>::new());
}
