// SPDX-License-Identifier: BSD-2-Clause
//! Linux: ip(8), nft(8) or iptables(8), sysctl(8).
//!
//! A default route goes into a table of its own, which everything uses that does not carry the tunnel's mark; the mark
//! is set on the datagrams that carry the tunnel, by the kernel's driver as by wgd. Routes to endpoints are then left
//! alone, and nobody has to watch them. Names, numbers and order are those of the stock script, so that either can take
//! down what the other set up.

use std::net::IpAddr;

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::cmd;
use crate::command::Cmd;
use crate::config::{Address, Table};
use crate::dns;
use crate::file::Job;
use crate::host::{Failure, Host, failed};
use crate::os::{
    Os, Peers, Resolvconf, State, dns_step, has_default, named_table, peers, uncovered,
};
use crate::plan::{Action, Create, Step};
use crate::query;

pub mod ip;
use ip::Rule;

/// The system.
pub struct Linux;

/// First mark, and table of the same number, that is tried.
const FIRST_TABLE: u32 = 51_820;

/// The number of the usual table.
const MAIN: u32 = 254;

/// Where the kernel tells whether marks count in the reverse path check.
const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

impl Os for Linux {
    fn folders(&self) -> &'static [&'static str] {
        &["/etc/wireguard"]
    }

    fn process(&self) -> &'static str {
        "wgd"
    }

    fn create(&self, name: &str, process: &str) -> Create {
        Create {
            kernel: cmd!["ip", "link", "add", "dev", name, "type", "wireguard"],
            process: cmd![process, name],
            hint: "",
            unless_said: "File exists",
            unless_exists: Some("/sys/module/wireguard"),
        }
    }

    fn delete(&self, name: &str, _has_socket: bool) -> Cmd {
        // A process behind it ends when it loses its interface.
        cmd!["ip", "link", "delete", "dev", name]
    }

    fn address(&self, name: &str, address: &Address) -> Cmd {
        cmd![
            "ip",
            family(address.ip.is_ipv4()),
            "address",
            "add",
            address.text,
            "dev",
            name
        ]
    }

    fn resolvconf(&self, host: &mut dyn Host, name: &str) -> Resolvconf {
        let record = format!("{}{name}", record_prefix(host));
        Resolvconf {
            add: cmd![dns::PROGRAM, "-a", record, "-m", "0", "-x"],
            forget: cmd![dns::PROGRAM, "-d", record, "-f"],
            list: cmd![dns::PROGRAM, "-l", record],
        }
    }

    fn check(&self, host: &mut dyn Host, job: &Job) -> Result<(), Failure> {
        dns::check(host, &job.config)?;
        let ips = &job.config.allowed_ips;
        let default = has_default(ips, true) || has_default(ips, false);
        if job.config.table() == Table::Auto && default && firewall(host).is_none() {
            return failed(
                "a default route needs nft(8) or iptables-restore(8), and neither is installed",
            );
        }
        Ok(())
    }

    fn link(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure> {
        let mtu = match job.config.mtu {
            Some(mtu) => mtu,
            None => best_mtu(host, peers)?,
        };
        let mut steps = vec![Step::run(cmd![
            "ip", "link", "set", "mtu", mtu, "up", "dev", job.name
        ])];
        steps.extend(dns_step(self, host, job));
        Ok(steps)
    }

    fn routes(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure> {
        let seen = look(host, job, peers)?;
        Ok(route_steps(job, peers, &seen))
    }

    fn remove(&self, host: &mut dyn Host, job: &Job) -> Result<Vec<Action>, Failure> {
        let mut actions = Vec::new();
        if dns::wanted(&job.config) {
            actions.push(Action::Run(self.resolvconf(host, &job.name).forget));
        }
        let (peers, unknown) = match peers(host, job) {
            Ok(peers) => (peers, None),
            Err(Failure::Failed(text)) => (Peers::default(), Some(text)),
            Err(interrupted) => return Err(interrupted),
        };
        let ips = &peers.allowed_ips;
        let default = has_default(ips, true) || has_default(ips, false) || peers.fwmark != 0;
        // Without a default route there is nothing to filter, hence nothing that could be missed.
        let filters = unknown.is_some() || default && job.config.table() == Table::Auto;
        remove_filters(host, &job.name, filters, &mut actions)?;
        if job.config.table() == Table::Auto {
            actions.extend(unknown.map(Action::Complain));
            if peers.fwmark != 0 {
                host.lock().or_else(complain(&mut actions))?;
                for v4 in [true, false] {
                    match self.rules_to_remove(host, v4, peers.fwmark) {
                        Ok(cmds) => actions.extend(cmds.into_iter().map(Action::Run)),
                        Err(failure) => complain(&mut actions)(failure)?,
                    }
                }
            }
        }
        actions.push(Action::Delete);
        Ok(actions)
    }

    fn rules_to_remove(
        &self,
        host: &mut dyn Host,
        v4: bool,
        mark: u32,
    ) -> Result<Vec<Cmd>, Failure> {
        Ok(remove_rules(&ip::rules(host, v4)?, mark, v4))
    }

    fn state(&self, host: &mut dyn Host, job: &Job) -> Result<State, Failure> {
        let link = ip::link(host, &job.name)?;
        let configured = |ip: IpAddr| job.config.addresses.iter().any(|a| a.ip == ip);
        // The kernel makes up addresses of the link by itself.
        let kept = link
            .addresses
            .iter()
            .filter(|a| !a.of_link || configured(a.ip));
        Ok(State {
            addresses: kept.map(|a| format!("{}/{}", a.ip, a.len)).collect(),
            mtu: link.mtu,
        })
    }
}

/// What keeps a failure for the list of things to do, in its place; but not that a signal came.
fn complain(actions: &mut Vec<Action>) -> impl FnOnce(Failure) -> Result<(), Failure> {
    |failure| match failure {
        Failure::Failed(text) => {
            actions.push(Action::Complain(text));
            Ok(())
        }
        interrupted => Err(interrupted),
    }
}

/// What was seen of the system that the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The interface's addresses that can be reached from another link.
    pub addresses: Vec<IpAddr>,
    /// Networks that are routed to the interface already.
    pub connected: Vec<IpNet>,
    /// A mark that is free to use, and whose table is empty; or that which the interface has.
    pub mark: u32,
    /// What filters packets here, if a default route needs it.
    pub firewall: Option<Firewall>,
    /// `net.ipv4.conf.all.src_valid_mark`.
    pub src_valid_mark: bool,
}

/// Programs that filter packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// nft(8).
    Nft,
    /// iptables-restore(8) and ip6tables-restore(8).
    Iptables,
}

fn firewall(host: &mut dyn Host) -> Option<Firewall> {
    if host.has_program("nft") {
        return Some(Firewall::Nft);
    }
    let both = ["iptables-restore", "ip6tables-restore"];
    both.iter()
        .all(|name| host.has_program(name))
        .then_some(Firewall::Iptables)
}

fn look(host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Seen, Failure> {
    let mut seen = Seen {
        addresses: Vec::new(),
        connected: Vec::new(),
        mark: peers.fwmark,
        firewall: firewall(host),
        src_valid_mark: false,
    };
    if job.config.table() != Table::Auto {
        return Ok(seen);
    }
    let ips = &peers.allowed_ips;
    if host.is_dry() {
        let addresses = &job.config.addresses;
        seen.addresses = addresses.iter().map(|a| a.ip).collect();
        seen.connected = addresses.iter().map(Address::net).collect();
    } else {
        // Hooks may have given it addresses and routes too.
        let link = ip::link(host, &job.name)?;
        let wide = link.addresses.iter().filter(|a| !a.of_link);
        seen.addresses = wide.map(|a| a.ip).collect();
        seen.connected = link.addresses.iter().map(|a| IpNet::from(a.ip)).collect();
        for v4 in [true, false] {
            let wanted = |net: &IpNet| net.prefix_len() > 0 && net.addr().is_ipv4() == v4;
            if ips.iter().any(wanted) {
                seen.connected.extend(ip::networks(host, &job.name, v4)?);
            }
        }
    }
    if has_default(ips, true) || has_default(ips, false) {
        host.lock()?;
        if seen.mark == 0 {
            seen.mark = free_mark(host)?;
        }
        let valid = host.read(SRC_VALID_MARK);
        seen.src_valid_mark = valid.is_some_and(|text| text.trim() == "1");
    }
    Ok(seen)
}

/// What fits on every way to the endpoints, less what the tunnel adds.
fn best_mtu(host: &mut dyn Host, peers: &Peers) -> Result<u32, Failure> {
    let mut best: Option<u32> = None;
    for ip in &peers.endpoints {
        let way = ip::way_to(host, *ip)?;
        if let Some(mtu) = mtu_of(host, way)? {
            best = Some(best.map_or(mtu, |best| best.min(mtu)));
        }
    }
    if best.is_none() {
        let way = ip::default_way(host)?;
        best = mtu_of(host, way)?;
    }
    // 65535 is the most that an interface of this kind takes; the loopback interface has one more.
    Ok(best.unwrap_or(1500).min(65_536) - 80)
}

/// The MTU of a route, or of its interface.
fn mtu_of(host: &mut dyn Host, way: Option<ip::Way>) -> Result<Option<u32>, Failure> {
    let mtu = match way {
        Some(ip::Way { mtu: Some(mtu), .. }) => Some(mtu),
        Some(ip::Way { dev: Some(dev), .. }) => Some(ip::mtu(host, &dev)?),
        _ => None,
    };
    Ok(mtu.filter(|mtu| *mtu > 80))
}

/// A mark that no rule is about and whose table is empty.
fn free_mark(host: &mut dyn Host) -> Result<u32, Failure> {
    let mut rules = ip::rules(host, true)?;
    rules.extend(ip::rules(host, false)?);
    let named = |mark: u32| {
        let about = |rule: &Rule| rule.not_mark == Some(mark) || rule.table == Some(mark);
        rules.iter().any(about)
    };
    for mark in FIRST_TABLE..FIRST_TABLE + 1000 {
        if !named(mark) && !ip::has_routes(host, mark, true)? && !ip::has_routes(host, mark, false)?
        {
            return Ok(mark);
        }
    }
    failed(format!(
        "the thousand routing tables from {FIRST_TABLE} on are all in use"
    ))
}

/// Routes for the allowed IPs, and what a default route needs.
pub fn route_steps(job: &Job, peers: &Peers, seen: &Seen) -> Vec<Step> {
    if job.config.table() == Table::Off {
        return Vec::new();
    }
    let route = |net: &IpNet| {
        let v4 = net.addr().is_ipv4();
        cmd!["ip", family(v4), "route", "add", net, "dev", job.name]
    };
    if let Some(table) = named_table(job) {
        let into = |net| {
            let v4 = family(IpNet::addr(net).is_ipv4());
            Step::run(cmd![
                "ip", v4, "route", "add", net, "dev", job.name, "table", table
            ])
        };
        return peers.allowed_ips.iter().map(into).collect();
    }
    let mut steps: Vec<Step> = uncovered(peers, &seen.connected)
        .map(|net| Step::run(route(net)))
        .collect();
    let defaults = [true, false]
        .into_iter()
        .filter(|v4| has_default(&peers.allowed_ips, *v4));
    let mut has_mark = peers.fwmark != 0;
    for v4 in defaults {
        if !has_mark {
            steps.push(Step::run(cmd!["wg", "set", job.name, "fwmark", seen.mark]));
            has_mark = true;
        }
        steps.extend(default_steps(job, seen, v4));
    }
    steps
}

/// A default route for one family: first what keeps strangers out and answers going the right way, the route last.
fn default_steps(job: &Job, seen: &Seen, v4: bool) -> Vec<Step> {
    let (family, mark) = (family(v4), seen.mark);
    let any = if v4 { "0.0.0.0/0" } else { "::/0" };
    let mut steps: Vec<Step> = match seen.firewall {
        Some(Firewall::Nft) => vec![nft_step(job, seen, v4)],
        Some(Firewall::Iptables) => vec![iptables_step(job, seen, v4)],
        None => Vec::new(),
    };
    // Where it is set already it need not be possible to set it: a container's settings can often not be written.
    if v4 && !seen.src_valid_mark {
        let set = |value| {
            cmd![
                "sysctl",
                "-q",
                format!("net.ipv4.conf.all.src_valid_mark={value}")
            ]
        };
        steps.push(Step::run(set(1)).undone_by(set(0)));
    }
    let rule = cmd![
        "ip", family, "rule", "add", "not", "fwmark", mark, "table", mark
    ];
    steps.extend([
        Step {
            action: Action::Run(rule),
            // And the one that comes next.
            undo: vec![Action::RemoveRules { v4, mark }],
        },
        // Each later rule comes before the earlier ones: what the usual table knows better than by its default route
        // is left to it.
        Step::run(suppressor(v4, "add", None)),
        Step::run(cmd![
            "ip", family, "route", "add", any, "dev", job.name, "table", mark
        ]),
    ]);
    steps
}

fn family(v4: bool) -> &'static str {
    if v4 { "-4" } else { "-6" }
}

/// The table of nft(8) for an interface: packets to the tunnel's addresses have to come through the tunnel or from
/// this machine, and the mark of a tunnel's datagrams comes back on the answers, for the reverse path check.
fn nft_step(job: &Job, seen: &Seen, v4: bool) -> Step {
    let (ip, name, mark) = (if v4 { "ip" } else { "ip6" }, &job.name, seen.mark);
    let table = format!("{ip} wg-quick-{name}");
    let addresses = seen.addresses.iter().filter(|a| a.is_ipv4() == v4);
    let guards: String = addresses
        .map(|a| format!("    iifname != \"{name}\" {ip} daddr {a} fib saddr type != local drop\n"))
        .collect();
    let text = format!(
        "table {table} {{\n  \
           chain preraw {{\n    type filter hook prerouting priority -300;\n{guards}  }}\n  \
           chain premangle {{\n    type filter hook prerouting priority -150;\n    \
             meta l4proto udp meta mark set ct mark\n  }}\n  \
           chain postmangle {{\n    type filter hook postrouting priority -150;\n    \
             meta l4proto udp meta mark {mark} ct mark set meta mark\n  }}\n}}\n"
    );
    let input = Zeroizing::new(text.into_bytes());
    Step::run(cmd!["nft", "-f", "-"].with_input(input)).undone_by(cmd![
        "nft",
        "delete",
        "table",
        ip,
        format!("wg-quick-{name}")
    ])
}

/// The same for iptables, whose rules are found again by their comment.
fn iptables_step(job: &Job, seen: &Seen, v4: bool) -> Step {
    let rules = iptables_rules(job, seen, v4);
    let text = |option: &str| Zeroizing::new(rules.replace("-I ", option).into_bytes());
    let program = if v4 {
        "iptables-restore"
    } else {
        "ip6tables-restore"
    };
    Step::run(cmd![program, "-n"].with_input(text("-I ")))
        .undone_by(cmd![program, "-n"].with_input(text("-D ")))
}

fn iptables_rules(job: &Job, seen: &Seen, v4: bool) -> String {
    let (name, mark) = (&job.name, seen.mark);
    let comment = format!("-m comment --comment \"{}\"", iptables_comment(name));
    let addresses = seen.addresses.iter().filter(|a| a.is_ipv4() == v4);
    let guard = |ip: &IpAddr| {
        format!(
            "-I PREROUTING ! -i {name} -d {ip} -m addrtype ! --src-type LOCAL -j DROP {comment}\n"
        )
    };
    let guards: String = addresses.map(guard).collect();
    format!(
        "*raw\n{guards}COMMIT\n*mangle\n\
         -I POSTROUTING -m mark --mark {mark} -p udp -j CONNMARK --save-mark {comment}\n\
         -I PREROUTING -p udp -j CONNMARK --restore-mark {comment}\nCOMMIT\n"
    )
}

fn iptables_comment(name: &str) -> String {
    format!("wg-quick(8) rule for {name}")
}

/// What takes the filters of an interface away again, by whichever program they came. With `expected`, that a program
/// cannot list them is told.
fn remove_filters(
    host: &mut dyn Host,
    name: &str,
    expected: bool,
    actions: &mut Vec<Action>,
) -> Result<(), Failure> {
    let list = |host: &mut dyn Host, cmd: &Cmd, actions: &mut Vec<Action>| {
        match query::text(host, cmd) {
            Ok(text) => Ok(text),
            // Nothing can be there.
            Err(e) if e.is_unsupported() || !expected => Ok(Zeroizing::default()),
            Err(e) => complain(actions)(e.into()).map(|()| Zeroizing::default()),
        }
    };
    if host.has_program("nft") {
        let said = list(host, &cmd!["nft", "list", "tables"], actions)?;
        let ours = format!("wg-quick-{name}");
        for line in said.lines() {
            if let ["table", family, table] = *line.split_whitespace().collect::<Vec<_>>()
                && table == ours
            {
                actions.push(Action::Run(cmd!["nft", "delete", "table", family, table]));
            }
        }
    }
    for (save, restore) in [
        ("iptables-save", "iptables-restore"),
        ("ip6tables-save", "ip6tables-restore"),
    ] {
        if host.has_program(save) && host.has_program(restore) {
            let said = list(host, &cmd![save], actions)?;
            if let Some(text) = iptables_removal(&said, name) {
                let input = Zeroizing::new(text.into_bytes());
                actions.push(Action::Run(cmd![restore, "-n"].with_input(input)));
            }
        }
    }
    Ok(())
}

/// Input of iptables-restore that deletes the rules for an interface from those listed, if there are any.
fn iptables_removal(listed: &str, name: &str) -> Option<String> {
    let mark = format!("--comment \"{}\"", iptables_comment(name));
    let mut text = String::new();
    let mut any = false;
    for line in listed.lines() {
        match line.strip_prefix("-A ") {
            Some(rule) if rule.contains(&mark) => {
                any = true;
                text += &format!("-D {rule}\n");
            }
            None if line.starts_with('*') || line == "COMMIT" => text += &format!("{line}\n"),
            _ => {}
        }
    }
    any.then_some(text)
}

/// What adds or deletes a rule that takes all but the default routes of the usual table.
fn suppressor(v4: bool, verb: &str, priority: Option<u64>) -> Cmd {
    let rule = [family(v4), "rule", verb, "table", "main"];
    let words = rule.into_iter().chain(["suppress_prefixlength", "0"]);
    let priority = priority.map(|p| ["priority".to_owned(), p.to_string()]);
    Cmd::new(
        "ip",
        words
            .map(str::to_owned)
            .chain(priority.into_iter().flatten()),
    )
}

/// What removes the rules that a default route with this mark brought: for each rule about the mark that one which
/// was added after it, hence stands before it. Another tunnel's stay.
pub fn remove_rules(rules: &[Rule], mark: u32, v4: bool) -> Vec<Cmd> {
    let family = family(v4);
    // Of a table with a name that cannot be looked up, the number may be that.
    let is_ours =
        |rule: &&Rule| rule.not_mark == Some(mark) && rule.table.is_none_or(|table| table == mark);
    let suppressors: Vec<_> = rules
        .iter()
        .filter(|rule| rule.suppresses && rule.table == Some(MAIN))
        .collect();
    let mut cmds = Vec::new();
    for ours in rules.iter().filter(is_ours) {
        cmds.push(cmd!["ip", family, "rule", "delete", "table", mark]);
        let before = suppressors
            .iter()
            .rfind(|rule| rule.priority < ours.priority);
        let Some(rule) = before else { continue };
        // The stock script names no priority, which will do as long as it cannot mean another's.
        let priority = (suppressors.len() > 1).then_some(rule.priority);
        cmds.push(suppressor(v4, "delete", priority));
    }
    cmds
}

/// Debian's resolvconf sorts by the name of the record; its list has a pattern for tunnels. A link is what stands in for
/// it, such as systemd's, which wants the name of an interface; the list may be a leftover.
fn record_prefix(host: &mut dyn Host) -> String {
    if host.is_link(dns::PROGRAM) {
        return String::new();
    }
    let order = host
        .read("/etc/resolvconf/interface-order")
        .unwrap_or_default();
    order.lines().find_map(prefix_of).unwrap_or_default()
}

fn prefix_of(line: &str) -> Option<String> {
    let name = line.strip_suffix('*')?;
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| format!("{name}."))
}
