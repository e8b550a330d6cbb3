// SPDX-License-Identifier: BSD-2-Clause
//! What ip(8) is asked.
//!
//! iproute2 answers in JSON since 4.17. Its older versions, and BusyBox, fail at the option for that; then the same
//! question is put without it, and the text read. BusyBox leaves out some of it, and filters less.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::family;
use crate::cmd;
use crate::command::Cmd;
use crate::host::{Failure, Host};
use crate::query::{self, QueryError};

/// Files with names of routing tables.
const TABLE_NAMES: [&str; 4] = [
    "/etc/iproute2/rt_tables",
    "/run/iproute2/rt_tables",
    "/usr/share/iproute2/rt_tables",
    "/usr/lib/iproute2/rt_tables",
];

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes.
    pub mtu: u32,
    /// In the kernel's order.
    pub addresses: Vec<LinkAddress>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix, or of its peer's.
    pub len: u8,
    /// It counts on this link only.
    pub of_link: bool,
}

/// Where packets go, as far as the MTU is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface, if there is one.
    pub dev: Option<String>,
    /// The MTU of the route itself, if it has one.
    pub mtu: Option<u32>,
}

/// A rule of the policy routing that is of interest here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lower comes first.
    pub priority: u64,
    /// `Some`: "everything without this mark".
    pub not_mark: Option<u32>,
    /// Its number; `None` if only a name is known, or it leads to none.
    pub table: Option<u32>,
    /// It ignores default routes.
    pub suppresses: bool,
}

/// MTU and addresses of an interface.
///
/// # Errors
/// `ip` could not tell.
pub fn link(host: &mut dyn Host, name: &str) -> Result<Link, Failure> {
    let first = json(
        host,
        &cmd!["ip", "-j", "address", "show", "dev", name],
        |said| link_of_json(said, name),
    );
    query::or_else(host, first, |host| {
        let cmd = cmd!["ip", "address", "show", "dev", name];
        query::parsed(host, &cmd, |text| link_of_text(text, name))
    })
}

/// MTU of an interface, in bytes.
///
/// # Errors
/// See [`link`].
pub fn mtu(host: &mut dyn Host, name: &str) -> Result<u32, Failure> {
    let first = json(
        host,
        &cmd!["ip", "-j", "link", "show", "dev", name],
        |said| mtu_of(entry_of(said, name)?),
    );
    query::or_else(host, first, |host| {
        let cmd = cmd!["ip", "link", "show", "dev", name];
        query::parsed(host, &cmd, |text| link_of_text(text, name)).map(|link| link.mtu)
    })
}

/// The way to an address, if there is one.
///
/// # Errors
/// See [`link`].
pub fn way_to(host: &mut dyn Host, ip: IpAddr) -> Result<Option<Way>, Failure> {
    // That the kernel knows no way is an answer.
    let refused = |result: Result<Way, QueryError>| match result {
        Err(e) if e.told("RTNETLINK answers: ") => Ok(None),
        other => other.map(Some),
    };
    let first = json(host, &cmd!["ip", "-j", "route", "get", ip], |said| {
        way_of_json(said.first()?)
    });
    query::or_else(host, refused(first), |host| {
        let cmd = cmd!["ip", "route", "get", ip];
        refused(query::parsed(host, &cmd, way_of_text))
    })
}

/// The default route for IPv4, if there is one.
///
/// # Errors
/// See [`link`].
pub fn default_way(host: &mut dyn Host) -> Result<Option<Way>, Failure> {
    let first = json(
        host,
        &cmd!["ip", "-j", "route", "show", "default"],
        |said| match said.first() {
            None => Some(None),
            Some(route) => way_of_json(route).map(Some),
        },
    );
    query::or_else(host, first, |host| {
        let cmd = cmd!["ip", "route", "show", "default"];
        query::parsed(host, &cmd, |text| {
            // BusyBox lists the others too.
            match text.split("default ").nth(1) {
                None => Some(None),
                Some(route) => way_of_text(route).map(Some),
            }
        })
    })
}

/// The networks that the usual table has through an interface.
///
/// # Errors
/// See [`link`].
pub fn networks(host: &mut dyn Host, name: &str, v4: bool) -> Result<Vec<IpNet>, Failure> {
    let family = family(v4);
    let first = json(
        host,
        &cmd!["ip", "-j", family, "route", "show", "dev", name],
        |said| {
            let plain = said.iter().filter(|route| route.get("type").is_none());
            plain
                .map(|route| network(route["dst"].as_str()?, v4))
                .collect()
        },
    );
    let first = unless_unsupported(first);
    query::or_else(host, first, |host| {
        let cmd = cmd!["ip", family, "route", "show", "dev", name];
        let said = query::parsed(host, &cmd, |text| {
            let begin = |line: &str| line.split_whitespace().next().map(str::to_owned);
            let words: Vec<String> = text.lines().filter_map(begin).collect();
            // A route of another type begins with that.
            let typed = |word: &String| word.bytes().all(|b| b.is_ascii_lowercase());
            let plain = words
                .iter()
                .filter(|word| *word == "default" || !typed(word));
            plain.map(|word| network(word, v4)).collect()
        });
        unless_unsupported(said)
    })
}

/// Whether there are routes in a table.
///
/// # Errors
/// See [`link`].
pub fn has_routes(host: &mut dyn Host, table: u32, v4: bool) -> Result<bool, Failure> {
    let family = family(v4);
    let first = json(
        host,
        &cmd!["ip", "-j", family, "route", "show", "table", table],
        |said| Some(!said.is_empty()),
    );
    let first = match first {
        // The kernel makes a table with its first route.
        Err(e) if e.told("FIB table does not exist") || e.is_unsupported() => Ok(false),
        other => other,
    };
    query::or_else(host, first, |host| {
        // BusyBox does not take a table's number over 255 here.
        let names = table_names(host);
        let cmd = cmd!["ip", family, "route", "show", "table", "all"];
        let said = query::text(host, &cmd).map(|text| {
            let of_line =
                |line: &str| value_after(line, "table").and_then(|t| number_of(t, &names));
            text.lines().any(|line| of_line(line) == Some(table))
        });
        match said {
            Err(e) if e.is_unsupported() => Ok(false),
            other => other,
        }
    })
}

/// The rules of the policy routing, the first to count first.
///
/// # Errors
/// See [`link`].
pub fn rules(host: &mut dyn Host, v4: bool) -> Result<Vec<Rule>, Failure> {
    let family = family(v4);
    let names = table_names(host);
    let first = json(
        host,
        // Tables by number, not by the names that the administrator gave them.
        &cmd!["ip", "-j", "-N", family, "rule", "show"],
        |said| {
            said.iter()
                .map(|entry| rule_of_json(entry, &names))
                .collect()
        },
    );
    let first = unless_unsupported(first);
    query::or_else(host, first, |host| {
        let cmd = cmd!["ip", family, "rule", "show"];
        let said = query::parsed(host, &cmd, |text| {
            let rules: Option<Vec<Rule>> = text
                .lines()
                .map(|line| rule_of_text(line, &names))
                .collect();
            // Where there is policy routing there are rules.
            rules.filter(|rules| !rules.is_empty())
        });
        unless_unsupported(said)
    })
}

fn unless_unsupported<T>(result: Result<Vec<T>, QueryError>) -> Result<Vec<T>, QueryError> {
    match result {
        Err(e) if e.is_unsupported() => Ok(Vec::new()),
        other => other,
    }
}

/// What `read` makes of the list that a program prints in JSON.
fn json<T>(
    host: &mut dyn Host,
    cmd: &Cmd,
    read: impl FnOnce(&[Value]) -> Option<T>,
) -> Result<T, QueryError> {
    query::parsed(host, cmd, |text| {
        let said: Value = serde_json::from_str(text).ok()?;
        read(said.as_array()?)
    })
}

/// Some versions also list, as empty objects, the interfaces that were not asked for.
fn entry_of<'a>(said: &'a [Value], name: &str) -> Option<&'a Value> {
    said.iter().find(|entry| entry["ifname"] == name)
}

fn link_of_json(said: &[Value], name: &str) -> Option<Link> {
    let entry = entry_of(said, name)?;
    let address = |entry: &Value| {
        Some(LinkAddress {
            ip: entry["local"].as_str()?.parse().ok()?,
            len: entry["prefixlen"].as_u64()?.try_into().ok()?,
            of_link: entry["scope"] == "link",
        })
    };
    let known = entry["addr_info"].as_array()?;
    Some(Link {
        mtu: mtu_of(entry)?,
        addresses: known.iter().map(address).collect::<Option<_>>()?,
    })
}

fn link_of_text(text: &str, name: &str) -> Option<Link> {
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    // "7: wg0: <UP> mtu 1420 ...", "7: veth0@veth1: ...".
    let found = head.split_whitespace().nth(1)?.trim_end_matches(':');
    if found != name && found.split_once('@').map(|(own, _)| own) != Some(name) {
        return None;
    }
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (ip, with_len) = match words.as_slice() {
            ["inet" | "inet6", local, "peer", peer, ..] => (*local, *peer),
            ["inet" | "inet6", local, ..] => (local.split('/').next()?, *local),
            // Something else than an address.
            _ => return Some(None),
        };
        Some(Some(LinkAddress {
            ip: ip.parse().ok()?,
            len: with_len.split_once('/')?.1.parse().ok()?,
            of_link: value_after(line, "scope") == Some("link"),
        }))
    };
    let addresses: Option<Vec<_>> = rest.lines().map(address).collect();
    Some(Link {
        mtu: value_after(head, "mtu")?.parse().ok()?,
        addresses: addresses?.into_iter().flatten().collect(),
    })
}

fn mtu_of(entry: &Value) -> Option<u32> {
    entry["mtu"].as_u64()?.try_into().ok()
}

fn way_of_json(route: &Value) -> Option<Way> {
    // A route by several interfaces counts as one by its first.
    let dev = [&route["dev"], &route["nexthops"][0]["dev"]];
    Some(Way {
        dev: dev.into_iter().find_map(Value::as_str).map(str::to_owned),
        mtu: mtu_of(&route["metrics"][0]),
    })
    .filter(|_| route["dst"].is_string())
}

/// Beginning with the destination's line, which is followed by those of next hops if there are several.
fn way_of_text(text: &str) -> Option<Way> {
    let mut lines = text.lines();
    let first = lines.next()?;
    let more = lines.take_while(|line| line.starts_with(char::is_whitespace));
    let route: String = std::iter::once(first)
        .chain(more)
        .collect::<Vec<_>>()
        .join(" ");
    let mtu = value_after(&route, "mtu").filter(|word| *word != "lock");
    let mtu = mtu.or_else(|| value_after(&route, "lock"));
    let way = Way {
        dev: value_after(&route, "dev").map(str::to_owned),
        mtu: mtu.and_then(|word| word.parse().ok()),
    };
    (way.dev.is_some() || way.mtu.is_some()).then_some(way)
}

fn network(text: &str, v4: bool) -> Option<IpNet> {
    match text {
        "default" if v4 => "0.0.0.0/0".parse().ok(),
        "default" => "::/0".parse().ok(),
        net if net.contains('/') => net.parse().ok(),
        ip => ip.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

fn rule_of_json(entry: &Value, names: &[(u32, String)]) -> Option<Rule> {
    // Without a mask, the mark is one string.
    let masked = entry.get("fwmask").is_some();
    let mark = entry["fwmark"]
        .as_str()
        .and_then(crate::os::mark)
        .filter(|_| !masked);
    let has = |key: &&str| entry.get(*key).is_some();
    Some(Rule {
        priority: entry["priority"].as_u64()?,
        not_mark: mark.filter(|mark| *mark != 0 && has(&"not")),
        table: entry["table"].as_str().and_then(|t| number_of(t, names)),
        suppresses: entry["suppress_prefixlen"] == 0
            && entry["src"] == "all"
            && !["not", "fwmark", "dst", "iif", "oif", "tos"]
                .iter()
                .any(has),
    })
}

/// As in "32765: not from all fwmark 0xca6c lookup 51820".
fn rule_of_text(line: &str, names: &[(u32, String)]) -> Option<Rule> {
    let (priority, rest) = line.split_once(':')?;
    // BusyBox does not print "not". Nor could a rule that sends just what carries the tunnel's mark into the table
    // of that number let the tunnel work.
    let mark = value_after(rest, "fwmark").and_then(crate::os::mark);
    let words: Vec<&str> = rest.split_whitespace().collect();
    let table = ["lookup", "table"]
        .iter()
        .find_map(|word| value_after(rest, word));
    Some(Rule {
        priority: priority.trim().parse().ok()?,
        not_mark: mark.filter(|mark| *mark != 0),
        table: table.and_then(|table| number_of(table, names)),
        suppresses: matches!(
            words.as_slice(),
            ["from", "all", "lookup", _, "suppress_prefixlength", "0"]
        ),
    })
}

/// The word after a word.
fn value_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut words = text.split_whitespace();
    words.find(|found| *found == word)?;
    words.next()
}

/// Number and name of each table that this system has given a name.
fn table_names(host: &mut dyn Host) -> Vec<(u32, String)> {
    let mut names = Vec::new();
    for path in TABLE_NAMES {
        let text = host.read(path).unwrap_or_default();
        names.extend(text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let number = words.next().and_then(crate::os::mark)?;
            Some((number, words.next()?.to_owned()))
        }));
    }
    names
}

/// The number of a table, from its number or name.
fn number_of(table: &str, names: &[(u32, String)]) -> Option<u32> {
    let known = || {
        names
            .iter()
            .find(|(_, name)| name == table)
            .map(|(n, _)| *n)
    };
    match table {
        "local" => Some(255),
        "main" => Some(super::MAIN),
        "default" => Some(253),
        _ => table.parse().ok().or_else(known),
    }
}
