// SPDX-License-Identifier: BSD-2-Clause
//! FreeBSD: ifconfig(8), route(8), netstat(1).
//!
//! A default route is two routes of half the Internet each, which win over the system's own without replacing it. The
//! datagrams that carry the tunnel must not go into it, so each endpoint gets a host route to where the system's own
//! default route goes. [`crate::monitor`] keeps those right when the default route changes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::cmd;
use crate::command::Cmd;
use crate::config::{Address, Table};
use crate::dns;
use crate::file::Job;
use crate::host::{Failure, Host, failed, socket};
use crate::monitor::Monitor;
use crate::os::{
    Os, Peers, Removed, Resolvconf, State, dns_step, has_default, named_table, uncovered,
};
use crate::plan::{Action, Create, Step};
use crate::query;

/// The system.
pub struct FreeBsd;

impl Os for FreeBsd {
    fn folders(&self) -> &'static [&'static str] {
        &["/etc/wireguard", "/usr/local/etc/wireguard"]
    }

    fn process(&self) -> &'static str {
        "wireguard-go"
    }

    fn create(&self, name: &str, process: &str) -> Create {
        Create {
            kernel: cmd!["ifconfig", "wg", "create", "name", name],
            process: cmd![process, name],
            hint: "; in a jail, only the host can load if_wg",
            unless_said: "SIOCSIFNAME (set name): File exists",
            unless_exists: None,
        }
    }

    fn delete(&self, name: &str, has_socket: bool) -> Cmd {
        if has_socket {
            // The process behind it takes that as the sign to end.
            cmd!["rm", "-f", socket(name)]
        } else {
            cmd!["ifconfig", name, "destroy"]
        }
    }

    fn address(&self, name: &str, address: &Address) -> Cmd {
        let (family, all) = if address.ip.is_ipv4() {
            ("inet", 32)
        } else {
            ("inet6", 128)
        };
        // Left to itself, ifconfig would guess a prefix length of the last century.
        let text = match address.len {
            Some(_) => address.text.clone(),
            None => format!("{}/{all}", address.text),
        };
        cmd!["ifconfig", name, family, text, "alias"]
    }

    fn resolvconf(&self, _host: &mut dyn Host, name: &str) -> Resolvconf {
        Resolvconf {
            add: cmd![dns::PROGRAM, "-a", name, "-x"],
            forget: cmd![dns::PROGRAM, "-d", name],
            list: cmd![dns::PROGRAM, "-l", name],
        }
    }

    fn check(&self, host: &mut dyn Host, job: &Job) -> Result<(), Failure> {
        dns::check(host, &job.config)?;
        let Some(table) = named_table(job) else {
            return Ok(());
        };
        let cmd = cmd!["sysctl", "-n", "net.fibs"];
        let fibs: u32 = query::parsed(host, &cmd, |text| text.trim().parse().ok())?;
        match table.parse::<u32>() {
            Ok(fib) if fib < fibs => Ok(()),
            _ => failed(format!(
                "Table = {table}: this system has FIBs 0 to {} (net.fibs in loader.conf(5))",
                fibs - 1
            )),
        }
    }

    fn link(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure> {
        let mut steps = link_steps(job, peers, &read_routes(host)?);
        steps.extend(dns_step(self, host, job));
        Ok(steps)
    }

    fn routes(&self, host: &mut dyn Host, job: &Job, peers: &Peers) -> Result<Vec<Step>, Failure> {
        let routes = read_routes(host)?;
        let index = host.index(&job.name).unwrap_or(0);
        Ok(route_steps(job, peers, &routes, index))
    }

    fn remove(&self, _host: &mut dyn Host, job: &Job) -> Result<Vec<Action>, Failure> {
        let mut actions = vec![Action::Delete];
        if dns::wanted(&job.config) {
            actions.push(Action::Run(cmd![dns::PROGRAM, "-d", job.name]));
        }
        Ok(actions)
    }

    fn before(&self, host: &mut dyn Host, job: &Job) -> Result<Removed, Failure> {
        if job.config.table() != Table::Auto {
            return Ok(Removed::default());
        }
        let peers = crate::os::peers(host, job)?;
        let routes = read_routes(host)?;
        let ours = |ip: &&IpAddr| {
            has_default(&peers.allowed_ips, ip.is_ipv4()) && routes.direct(**ip).is_some()
        };
        let direct = peers.endpoints.iter().filter(ours).copied().collect();
        Ok(Removed { direct })
    }

    /// The monitor removes the routes to the endpoints when the interface goes. If somebody ended it, they are still
    /// there.
    fn afterwards(&self, host: &mut dyn Host, removed: &Removed) -> Vec<Action> {
        let mut left = removed.direct.clone();
        for _ in 0..20 {
            let Ok(routes) = read_routes(host) else {
                break;
            };
            left.retain(|ip| routes.direct(*ip).is_some());
            if left.is_empty() {
                break;
            }
            host.pause();
        }
        left.iter()
            .map(|ip| Action::Run(delete_direct(*ip)))
            .collect()
    }

    fn state(&self, host: &mut dyn Host, job: &Job) -> Result<State, Failure> {
        let cmd = cmd!["ifconfig", "-f", "inet:cidr,inet6:cidr", job.name];
        Ok(query::parsed(host, &cmd, state_of)?)
    }
}

/// Reads what `ifconfig` prints about an interface, whose first line has the MTU.
fn state_of(text: &str) -> Option<State> {
    let (mut addresses, mut mtu) = (Vec::new(), None);
    for line in text.lines() {
        match *line.split_whitespace().collect::<Vec<_>>() {
            // An address of the link has a zone.
            ["inet" | "inet6", address, ..] if !address.contains('%') => {
                address.parse::<IpNet>().ok()?;
                addresses.push(address.to_owned());
            }
            [.., "mtu", number] => mtu = Some(number.parse().ok()?),
            _ => {}
        }
    }
    Some(State {
        addresses,
        mtu: mtu?,
    })
}

/// MTU and up.
fn link_steps(job: &Job, peers: &Peers, routes: &Routes) -> Vec<Step> {
    let mtu = job.config.mtu.unwrap_or_else(|| {
        let outside = |ip: &IpAddr| routes.best(*ip, &job.name).map(|route| route.mtu);
        let towards = peers
            .endpoints
            .iter()
            .filter_map(outside)
            .filter(|mtu| *mtu > 80)
            .min();
        let default = || routes.default_of(true, &job.name).map(|route| route.mtu);
        towards
            .or_else(default)
            .filter(|mtu| *mtu > 80)
            .unwrap_or(1500)
            - 80
    });
    // The loopback interface, on which an endpoint may be, has more than a tunnel can.
    let mtu = if job.config.mtu.is_some() {
        mtu
    } else {
        mtu.min(MAX_MTU)
    };
    vec![
        Step::run(cmd!["ifconfig", job.name, "mtu", mtu]),
        Step::run(cmd!["ifconfig", job.name, "up"]),
    ]
}

/// The largest MTU of wg(4).
const MAX_MTU: u32 = 65_455;

/// Routes for the allowed IPs and for the endpoints, and the monitor.
fn route_steps(job: &Job, peers: &Peers, routes: &Routes, index: u32) -> Vec<Step> {
    if job.config.table() == Table::Off {
        return Vec::new();
    }
    if let Some(table) = named_table(job) {
        return peers
            .allowed_ips
            .iter()
            .map(|net| into_fib(job, &table, net))
            .collect();
    }
    let through = |net: &dyn std::fmt::Display, v4: bool| {
        let cmd = cmd![
            "route",
            "-q",
            "-n",
            "add",
            family(v4),
            net,
            "-interface",
            job.name
        ];
        Step::run(cmd)
    };
    let connected: Vec<IpNet> = job.config.addresses.iter().map(Address::net).collect();
    let inside = uncovered(peers, &connected).filter(|net| !routes.has_through(net, &job.name));
    let mut steps: Vec<Step> = inside
        .map(|net| through(net, net.addr().is_ipv4()))
        .collect();
    let (v4, v6) = (
        has_default(&peers.allowed_ips, true),
        has_default(&peers.allowed_ips, false),
    );
    for half in [
        ("0.0.0.0/1", v4),
        ("128.0.0.0/1", v4),
        ("::/1", v6),
        ("8000::/1", v6),
    ] {
        if half.1 {
            steps.push(through(&half.0, !half.0.contains(':')));
        }
    }
    if !(v4 || v6) {
        return steps;
    }
    let mut monitor = Monitor {
        name: job.name.clone(),
        index,
        v4,
        v6,
        direct: Vec::new(),
    };
    for ip in peers
        .endpoints
        .iter()
        .filter(|ip| if ip.is_ipv4() { v4 } else { v6 })
    {
        let way = routes.way_outside(*ip, &job.name);
        // A route to the endpoint that is there already is somebody's, and stays.
        if let (Some(cmd), None) = (add_direct(*ip, &way), routes.host_route(*ip)) {
            monitor.direct.push(*ip);
            steps.push(Step::run(cmd).undone_by(delete_direct(*ip)));
        }
    }
    steps.push(Step {
        action: Action::StartMonitor(monitor),
        undo: vec![Action::StopMonitor],
    });
    steps
}

/// A route in a FIB of its own. It goes with the interface.
fn into_fib(job: &Job, fib: &str, net: &IpNet) -> Step {
    let family = family(net.addr().is_ipv4());
    Step::run(cmd![
        "route",
        "-q",
        "-n",
        "add",
        family,
        "-fib",
        fib,
        net,
        "-interface",
        job.name
    ])
}

fn family(v4: bool) -> &'static str {
    if v4 { "-inet" } else { "-inet6" }
}

/// Where datagrams to an endpoint go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// There is a route other than the default one, or it is an address of this machine: nothing to do.
    Own,
    /// By this gateway.
    Gateway(String),
    /// Over this interface.
    Interface(String),
    /// Nowhere: better lost than sent into the tunnel that they carry.
    Nowhere,
}

/// What adds a route to an endpoint, where it needs one.
pub fn add_direct(ip: IpAddr, way: &Way) -> Option<Cmd> {
    let family = family(ip.is_ipv4());
    let here = if ip.is_ipv4() { "127.0.0.1" } else { "::1" };
    match way {
        Way::Own => None,
        Way::Gateway(to) => Some(cmd!["route", "-q", "-n", "add", family, ip, "-gateway", to]),
        Way::Interface(to) => Some(cmd![
            "route",
            "-q",
            "-n",
            "add",
            family,
            ip,
            "-interface",
            to
        ]),
        Way::Nowhere => Some(cmd![
            "route",
            "-q",
            "-n",
            "add",
            family,
            ip,
            here,
            "-blackhole"
        ]),
    }
}

/// What removes it.
pub fn delete_direct(ip: IpAddr) -> Cmd {
    cmd!["route", "-q", "-n", "delete", family(ip.is_ipv4()), ip]
}

/// One line of the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub net: IpNet,
    /// `None`: on the link.
    pub gateway: Option<String>,
    /// Flags as netstat(1) abbreviates them.
    pub flags: String,
    /// Interface.
    pub interface: String,
    /// Bytes.
    pub mtu: u32,
}

impl Route {
    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// Made by hand for one address, as are those to endpoints; and not one of an address that is this machine's own,
    /// which look the same but for where they lead.
    fn is_direct(&self) -> bool {
        self.has('H')
            && self.has('S')
            && (self.has('G') || self.has('B') || !self.interface.starts_with("lo"))
    }

    /// Where this route leads.
    fn way(&self) -> Way {
        match &self.gateway {
            _ if self.has('B') || self.has('R') => Way::Nowhere,
            Some(gateway) => Way::Gateway(gateway.clone()),
            None => Way::Interface(self.interface.clone()),
        }
    }
}

/// The routing table of this process's FIB, both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Vec<Route>);

/// Asks netstat(1), which tells more than route(8) does and in a form made for programs.
///
/// # Errors
/// It could not be started, or says what nobody understands.
pub fn read_routes(host: &mut dyn Host) -> Result<Routes, Failure> {
    let mut routes = Routes::default();
    for family in ["inet", "inet6"] {
        let cmd = cmd!["netstat", "--libxo", "json", "-rnW", "-f", family];
        query::parsed(host, &cmd, |text| {
            let said: Value = serde_json::from_str(text).ok()?;
            // It is there, and empty, where there are no routes.
            let table = &said["statistics"]["route-information"]["route-table"];
            table.is_object().then(|| routes.add(&said))
        })?;
    }
    Ok(routes)
}

impl Routes {
    /// Takes in what `netstat --libxo json -rnW` printed.
    pub fn add(&mut self, said: &Value) {
        let families = &said["statistics"]["route-information"]["route-table"]["rt-family"];
        for family in families.as_array().into_iter().flatten() {
            let v4 = family["address-family"] == "Internet";
            let entries = family["rt-entry"].as_array();
            self.0.extend(
                entries
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| route(entry, v4)),
            );
        }
    }

    /// The best route to an address, leaving out those through interface `not` and those made for that address alone.
    fn best(&self, ip: IpAddr, not: &str) -> Option<&Route> {
        let fitting = self.0.iter().filter(|route| {
            route.net.contains(&ip)
                && route.interface != not
                && !(route.is_direct() && is_only(route, ip))
        });
        // Of several routes to one network the first counts, where max_by_key takes the last.
        fitting.rev().max_by_key(|route| route.net.prefix_len())
    }

    fn default_of(&self, v4: bool, not: &str) -> Option<&Route> {
        let any: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
        self.0.iter().find(|route| {
            route.net.prefix_len() == 0 && route.net.addr() == any && route.interface != not
        })
    }

    /// Where datagrams to `ip` would go if there were neither the tunnel `name` nor a route for `ip` alone.
    pub fn way_outside(&self, ip: IpAddr, name: &str) -> Way {
        match self.best(ip, name) {
            None => Way::Nowhere,
            Some(route) if route.net.prefix_len() == 0 => route.way(),
            Some(_) => Way::Own,
        }
    }

    /// Any route to this address alone.
    pub fn host_route(&self, ip: IpAddr) -> Option<&Route> {
        self.0.iter().find(|route| is_only(route, ip))
    }

    /// Where the route to this address alone leads that is like the ones made for endpoints.
    pub fn direct(&self, ip: IpAddr) -> Option<Way> {
        self.0
            .iter()
            .find(|route| is_only(route, ip) && route.is_direct())
            .map(Route::way)
    }

    /// Whether this very prefix is routed through an interface.
    fn has_through(&self, net: &IpNet, name: &str) -> bool {
        self.0
            .iter()
            .any(|route| route.interface == name && route.net.contains(net))
    }
}

fn is_only(route: &Route, ip: IpAddr) -> bool {
    route.has('H') && route.net.addr() == ip
}

/// One entry; `None` for what has no use here, such as a network with a zone.
fn route(entry: &Value, v4: bool) -> Option<Route> {
    let text = |key: &str| entry[key].as_str();
    let destination = text("destination")?;
    let net = match (destination, v4) {
        ("default", true) => "0.0.0.0/0".parse().ok()?,
        ("default", false) => "::/0".parse().ok()?,
        (net, _) if net.contains('/') => net.parse().ok()?,
        (ip, _) => IpNet::from(ip.parse::<IpAddr>().ok()?),
    };
    let gateway = text("gateway").filter(|gateway| {
        let ip = gateway.split('%').next().unwrap_or_default();
        ip.parse::<IpAddr>().is_ok()
    });
    Some(Route {
        net,
        gateway: gateway.map(str::to_owned),
        flags: text("flags").unwrap_or_default().to_owned(),
        interface: text("interface-name").unwrap_or_default().to_owned(),
        mtu: entry["mtu"]
            .as_u64()
            .and_then(|mtu| mtu.try_into().ok())
            .unwrap_or(0),
    })
}

/// What makes the routes to the endpoints what they should be, and which of them are ours afterwards.
pub fn refresh(
    routes: &Routes,
    name: &str,
    endpoints: &[IpAddr],
    ours: &BTreeSet<IpAddr>,
) -> (Vec<Cmd>, BTreeSet<IpAddr>) {
    let mut cmds = Vec::new();
    let mut kept = BTreeSet::new();
    for ip in ours.iter().filter(|ip| !endpoints.contains(ip)) {
        if routes.direct(*ip).is_some() {
            cmds.push(delete_direct(*ip));
        }
    }
    for ip in endpoints {
        let way = routes.way_outside(*ip, name);
        let add = add_direct(*ip, &way);
        match (routes.host_route(*ip), ours.contains(ip)) {
            // Somebody else's, or an address of this machine.
            (Some(_), false) => continue,
            (Some(_), true) if routes.direct(*ip).is_none() => continue,
            (Some(route), true) if add.is_some() && route.way() == way => {}
            (Some(_), true) => {
                cmds.push(delete_direct(*ip));
                cmds.extend(add.clone());
            }
            (None, _) => cmds.extend(add.clone()),
        }
        if add.is_some() {
            kept.insert(*ip);
        }
    }
    (cmds, kept)
}
