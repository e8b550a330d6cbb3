// SPDX-License-Identifier: BSD-2-Clause
//! Linux: ip(8), nft(8) or iptables(8), sysctl(8).
//!
//! A default route goes into a table of its own, which everything uses that does not carry the tunnel's mark; the mark
//! is set on the datagrams that carry the tunnel, by the kernel's driver as by wgd. Routes to endpoints are then left
//! alone, and nobody has to watch them. Names, numbers and order are those of the stock script, so that either can take
//! down what the other set up.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cmd;
use crate::command::Cmd;
use crate::config::{Address, Table};
use crate::dns;
use crate::file::Job;
use crate::host::{Failure, Host, failed};
use crate::os::{Os, Peers, Resolvconf, dns_step, has_default, named_table, peers, uncovered};
use crate::plan::{Action, Create, Step};

/// The system.
pub struct Linux;

/// First mark, and table of the same number, that is tried.
const FIRST_TABLE: u32 = 51_820;

impl Os for Linux {
    fn folders(&self) -> &'static [&'static str] {
        &["/etc/wireguard"]
    }

    fn process(&self) -> &'static str {
        "wgd"
    }

    fn create(&self, name: &str, process: &str) -> Create {
        Create {
            kernel: cmd!["ip", "link", "add", name, "type", "wireguard"],
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

    fn finish(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure> {
        let seen = look(host, job, peers)?;
        let mut steps = vec![Step::run(cmd![
            "ip", "link", "set", "mtu", seen.mtu, "up", "dev", job.name
        ])];
        steps.extend(dns_step(self, host, job));
        steps.extend(route_steps(job, peers, &seen));
        Ok(steps)
    }

    fn remove(&self, host: &mut dyn Host, job: &Job) -> Result<Vec<Action>, Failure> {
        let mut cmds = Vec::new();
        if dns::wanted(&job.config) {
            cmds.push(self.resolvconf(host, &job.name).forget);
        }
        cmds.extend(remove_filters(host, &job.name)?);
        if job.config.table() == Table::Auto {
            let mark = peers(host, job)?.fwmark;
            for v4 in [true, false] {
                cmds.extend(remove_rules(&rules(host, v4)?, mark, v4));
            }
        }
        let actions = cmds.into_iter().map(Action::Run);
        Ok(actions.chain([Action::Delete]).collect())
    }

    fn state(&self, host: &mut dyn Host, job: &Job) -> Result<(Vec<String>, Option<u32>), Failure> {
        let said = ask(host, &cmd!["ip", "-j", "address", "show", "dev", job.name])?;
        let configured = |ip: &str| job.config.addresses.iter().any(|a| Ok(a.ip) == ip.parse());
        let address = |entry: &Value| {
            let ip = entry["local"].as_str()?;
            // The kernel makes up addresses of the link by itself.
            let kept = entry["scope"] != "link" || configured(ip);
            kept.then(|| Some(format!("{ip}/{}", entry["prefixlen"].as_u64()?)))?
        };
        let entries = said[0]["addr_info"].as_array();
        let addresses = entries.into_iter().flatten().filter_map(address).collect();
        Ok((
            addresses,
            said[0]["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok()),
        ))
    }
}

/// What was seen of the system that the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The MTU to set, in bytes.
    pub mtu: u32,
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
    let mtu = match job.config.mtu {
        Some(mtu) => mtu,
        None => best_mtu(host, peers)?,
    };
    let mark = match peers.fwmark {
        0 => free_mark(host)?,
        mark => mark,
    };
    let valid = host.query(&cmd!["sysctl", "-n", "net.ipv4.conf.all.src_valid_mark"])?;
    Ok(Seen {
        mtu,
        mark,
        firewall: firewall(host),
        src_valid_mark: valid.text().trim() == "1",
    })
}

/// What fits on the way to the endpoints, less what the tunnel adds.
fn best_mtu(host: &mut dyn Host, peers: &Peers) -> Result<u32, Failure> {
    let mut best = 0;
    for ip in &peers.endpoints {
        best = best.max(mtu_of(host, &cmd!["ip", "-j", "route", "get", ip])?);
    }
    if best == 0 {
        best = mtu_of(host, &cmd!["ip", "-j", "route", "show", "default"])?;
    }
    // 65535 is the most that an interface of this kind takes; the loopback interface has one more.
    Ok(if best > 80 { best.min(65_536) } else { 1500 } - 80)
}

/// The MTU of the first route that `ip` lists, or of its interface; 0 if there is none.
fn mtu_of(host: &mut dyn Host, cmd: &Cmd) -> Result<u32, Failure> {
    let said = ask(host, cmd)?;
    let route = &said[0];
    let mtu = |value: &Value| value["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok());
    if let Some(mtu) = mtu(&route["metrics"][0]) {
        return Ok(mtu);
    }
    let Some(interface) = route["dev"].as_str() else {
        return Ok(0);
    };
    let said = ask(host, &cmd!["ip", "-j", "link", "show", "dev", interface])?;
    Ok(mtu(&said[0]).unwrap_or(0))
}

fn free_mark(host: &mut dyn Host) -> Result<u32, Failure> {
    for mark in FIRST_TABLE..FIRST_TABLE + 1000 {
        let mut used = false;
        for v4 in [true, false] {
            let said = ask(
                host,
                &cmd!["ip", "-j", family(v4), "route", "show", "table", mark],
            )?;
            used |= said.as_array().is_some_and(|routes| !routes.is_empty());
        }
        if !used {
            return Ok(mark);
        }
    }
    failed(format!(
        "the thousand routing tables from {FIRST_TABLE} on are all in use"
    ))
}

/// What a program says in JSON; null if it failed, as `ip` does about what is not there.
fn ask(host: &mut dyn Host, cmd: &Cmd) -> Result<Value, Failure> {
    let answer = host.query(cmd)?;
    Ok(serde_json::from_str(&answer.text()).unwrap_or_default())
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
    let mut steps: Vec<Step> = uncovered(job, peers)
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
        Some(Firewall::Nft) => vec![nft_step(job, mark, v4)],
        Some(Firewall::Iptables) => vec![iptables_step(job, mark, v4)],
        None => Vec::new(),
    };
    if v4 {
        let set = Step::run(cmd!["sysctl", "-q", "net.ipv4.conf.all.src_valid_mark=1"]);
        let unset = cmd!["sysctl", "-q", "net.ipv4.conf.all.src_valid_mark=0"];
        steps.push(if seen.src_valid_mark {
            set
        } else {
            set.undone_by(unset)
        });
    }
    steps.extend([
        Step::run(cmd![
            "ip", family, "rule", "add", "not", "fwmark", mark, "table", mark
        ])
        .undone_by(cmd!["ip", family, "rule", "delete", "table", mark]),
        // Each later rule comes before the earlier ones: what the usual table knows better than by its default route
        // is left to it.
        Step::run(suppressor(v4, "add", None)).undone_by(suppressor(v4, "delete", None)),
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
fn nft_step(job: &Job, mark: u32, v4: bool) -> Step {
    let (ip, name) = (if v4 { "ip" } else { "ip6" }, &job.name);
    let table = format!("{ip} wg-quick-{name}");
    let addresses = job.config.addresses.iter().filter(|a| a.ip.is_ipv4() == v4);
    let guards: String = addresses
        .map(|a| {
            format!(
                "    iifname != \"{name}\" {ip} daddr {} fib saddr type != local drop\n",
                a.ip
            )
        })
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
fn iptables_step(job: &Job, mark: u32, v4: bool) -> Step {
    let rules = iptables_rules(job, mark, v4);
    let text = |option: &str| Zeroizing::new(rules.replace("-I ", option).into_bytes());
    let program = if v4 {
        "iptables-restore"
    } else {
        "ip6tables-restore"
    };
    Step::run(cmd![program, "-n"].with_input(text("-I ")))
        .undone_by(cmd![program, "-n"].with_input(text("-D ")))
}

fn iptables_rules(job: &Job, mark: u32, v4: bool) -> String {
    let name = &job.name;
    let comment = format!("-m comment --comment \"{}\"", iptables_comment(name));
    let addresses = job.config.addresses.iter().filter(|a| a.ip.is_ipv4() == v4);
    let guard = |ip: IpAddr| {
        format!(
            "-I PREROUTING ! -i {name} -d {ip} -m addrtype ! --src-type LOCAL -j DROP {comment}\n"
        )
    };
    let guards: String = addresses.map(|a| guard(a.ip)).collect();
    format!(
        "*raw\n{guards}COMMIT\n*mangle\n\
         -I POSTROUTING -m mark --mark {mark} -p udp -j CONNMARK --save-mark {comment}\n\
         -I PREROUTING -p udp -j CONNMARK --restore-mark {comment}\nCOMMIT\n"
    )
}

fn iptables_comment(name: &str) -> String {
    format!("wg-quick(8) rule for {name}")
}

/// What takes the filters of an interface away again, by whichever program they came.
fn remove_filters(host: &mut dyn Host, name: &str) -> Result<Vec<Cmd>, Failure> {
    let mut cmds = Vec::new();
    if host.has_program("nft") {
        let said = host.query(&cmd!["nft", "list", "tables"])?.text();
        let ours = format!("wg-quick-{name}");
        for line in said.lines() {
            if let ["table", family, table] = *line.split_whitespace().collect::<Vec<_>>()
                && table == ours
            {
                cmds.push(cmd!["nft", "delete", "table", family, table]);
            }
        }
    }
    for (save, restore) in [
        ("iptables-save", "iptables-restore"),
        ("ip6tables-save", "ip6tables-restore"),
    ] {
        if host.has_program(save) && host.has_program(restore) {
            let said = host.query(&cmd![save])?.text();
            if let Some(text) = iptables_removal(&said, name) {
                cmds.push(cmd![restore, "-n"].with_input(Zeroizing::new(text.into_bytes())));
            }
        }
    }
    Ok(cmds)
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

/// A rule of the policy routing that is of interest here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lower comes first.
    pub priority: u64,
    /// `Some`: "everything without this mark".
    pub not_mark: Option<u32>,
    /// Name or number.
    pub table: String,
    /// It ignores default routes.
    pub suppresses: bool,
}

fn rules(host: &mut dyn Host, v4: bool) -> Result<Vec<Rule>, Failure> {
    let said = ask(host, &cmd!["ip", "-j", family(v4), "rule", "show"])?;
    Ok(said.as_array().into_iter().flatten().map(rule).collect())
}

fn rule(entry: &Value) -> Rule {
    // Without a mask, the mark is one string.
    let mark = entry["fwmark"].as_str().map_or(0, crate::os::number);
    Rule {
        priority: entry["priority"].as_u64().unwrap_or(0),
        not_mark: (entry.get("not").is_some() && mark != 0).then_some(mark),
        table: entry["table"].as_str().unwrap_or_default().to_owned(),
        suppresses: entry["suppress_prefixlen"] == 0
            && entry["src"] == "all"
            && entry.get("fwmark").is_none(),
    }
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
    let is_ours = |rule: &&Rule| rule.not_mark == Some(mark) && rule.table == mark.to_string();
    let suppressors: Vec<_> = rules
        .iter()
        .filter(|rule| rule.suppresses && rule.table == "main")
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

/// Debian's resolvconf sorts by the name of the record; its list has a pattern for tunnels.
fn record_prefix(host: &mut dyn Host) -> String {
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
