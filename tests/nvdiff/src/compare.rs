// SPDX-License-Identifier: BSD-2-Clause
//! The two codecs beside each other.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::io::{Read, Write as _};
use std::process::{Command, ExitCode, Stdio};

use kpi_libnv::{Builder, Unpacked};
use nv::wgconf::{ConfError, GetReply, GetWriter, SetRequest, SetWriter};
use nv::{Error, ReadList, SliceSink};

use crate::generate::{Rng, any_list, configuration, damage, mend};

/// Messages of each kind that are generated.
const GENERATED: usize = 400;
/// Damaged ones that are made of them.
const DAMAGED: usize = 40_000;

/// What was compared.
#[derive(Default)]
pub struct Report {
    generated: usize,
    accepted: usize,
    refused: usize,
    /// What libnv ends a process over.
    died: usize,
    /// What was given to a process of its own, or would have been.
    children: usize,
    /// What libnv accepts and we do not, by our reason.
    stricter: BTreeMap<String, usize>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "nvdiff: {} generated messages the same; of damaged ones {} accepted by both and read the same, {} \
             refused by both, {} refused by us while libnv aborts, {} refused by us alone",
            self.generated,
            self.accepted,
            self.refused,
            self.died,
            self.stricter.values().sum::<usize>()
        )?;
        self.stricter
            .iter()
            .try_for_each(|(why, n)| write!(f, "\n  {why}: {n}"))
    }
}

/// Compares over messages of a seed.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let mut report = Report::default();
    let mut messages = Vec::new();
    for _ in 0..GENERATED {
        messages.extend(configurations(&mut rng)?);
        messages.push(any(&mut rng)?);
    }
    limits()?;
    for message in &messages {
        if !same(message, &mut report)? {
            return Err(told("a generated message is refused", message));
        }
    }
    report = Report {
        generated: messages.len(),
        ..Report::default()
    };
    // Every bit and every length of a few, then all kinds of damage to all.
    for message in messages
        .iter()
        .filter(|m| (100..700).contains(&m.len()))
        .take(6)
    {
        for bit in 0..message.len() * 8 {
            let mut bad = message.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            same(&bad, &mut report)?;
        }
        for len in 0..message.len() {
            let mut short = message[..len].to_vec();
            same(&short, &mut report)?;
            mend(&mut short);
            same(&short, &mut report)?;
        }
    }
    for _ in 0..DAMAGED {
        let mut bad = messages[rng.below(messages.len())].clone();
        damage(&mut rng, &mut bad);
        same(&bad, &mut report)?;
    }
    if report.accepted == 0 || report.refused == 0 {
        return Err("no damage, or nothing but damage".into());
    }
    Ok(report)
}

/// A configuration by both codecs, which must give the same bytes: as a request and as an answer.
fn configurations(rng: &mut Rng) -> Result<[Vec<u8>; 2], String> {
    let conf = configuration(rng);
    let failed = |e: nv::WriteError| format!("a configuration cannot be written: {e}");

    let mut body = |w: &mut SetWriter<'_, '_>| conf.write_set(w);
    let size = nv::wgconf::set_size(&mut body).map_err(failed)?;
    let mut set = vec![0; size];
    nv::wgconf::set_write(&mut SliceSink::new(&mut set), size, &mut body).map_err(failed)?;
    let mut builder = Builder::new().map_err(failed)?;
    conf.write_set(&mut SetWriter::over(&mut builder))
        .map_err(failed)?;
    compare_packed(&set, builder)?;

    let mut body = |w: &mut GetWriter<'_, '_>| conf.write_get(w);
    let size = nv::wgconf::get_size(&mut body).map_err(failed)?;
    let mut get = vec![0; size];
    nv::wgconf::get_write(&mut SliceSink::new(&mut get), size, &mut body).map_err(failed)?;
    let mut builder = Builder::new().map_err(failed)?;
    conf.write_get(&mut GetWriter::over(&mut builder))
        .map_err(failed)?;
    compare_packed(&get, builder)?;
    Ok([set, get])
}

fn compare_packed(ours: &[u8], builder: Builder) -> Result<(), String> {
    let list = builder.finish().map_err(|e| e.to_string())?;
    let theirs = list.packed(<[u8]>::to_vec).map_err(|e| e.to_string())?;
    if theirs != ours {
        return Err(format!("packed otherwise by libnv: {}", told("ours", ours))
            + &told(", libnv's", &theirs));
    }
    if list.size() != ours.len() {
        return Err(format!(
            "libnv counts {} bytes, we {}",
            list.size(),
            ours.len()
        ));
    }
    Ok(())
}

/// Sound messages that we refuse for their size, as is documented, and those just below.
fn limits() -> Result<(), String> {
    let failed = |e: nv::WriteError| format!("a list cannot be made: {e}");
    let deep = |depth: usize| {
        let mut list = Builder::new()?.finish()?;
        for _ in 1..depth {
            let mut outer = Builder::new()?;
            outer.list("in", list.list())?;
            list = outer.finish()?;
        }
        list.packed(<[u8]>::to_vec)
    };
    let wide = |names: usize| {
        let mut list = Builder::new()?;
        for i in 0..names {
            list.null(&format!("name {i}"))?;
        }
        list.finish()?.packed(<[u8]>::to_vec)
    };
    for (message, verdict) in [
        (deep(nv::MAX_DEPTH), None),
        (deep(nv::MAX_DEPTH + 1), Some(Error::TooDeep)),
        (wide(nv::MAX_NAMES), None),
        (wide(nv::MAX_NAMES + 1), Some(Error::TooManyNames)),
    ] {
        let message = message.map_err(failed)?;
        let ours = nv::List::parse(&message).err();
        if ours != verdict || Unpacked::unpack(&message).is_none() {
            return Err(told(&format!("{ours:?} and not {verdict:?}"), &message));
        }
    }
    Ok(())
}

/// A list of any types, packed by libnv.
fn any(rng: &mut Rng) -> Result<Vec<u8>, String> {
    let made = Builder::new().and_then(|mut builder| {
        any_list(rng, &mut builder, 0)?;
        builder.finish()?.packed(<[u8]>::to_vec)
    });
    made.map_err(|e| format!("a list cannot be made: {e}"))
}

/// Compares the verdicts on a message and, if it is accepted, what is read. Says whether it was.
fn same(message: &[u8], report: &mut Report) -> Result<bool, String> {
    let ours = nv::List::parse(message);
    // libnv may not survive a name that occurs twice, which it can also meet behind what we refuse.
    if let Err(
        why @ (Error::Duplicate | Error::TooDeep | Error::TooManyNames | Error::Unbalanced),
    ) = ours
    {
        return in_a_child(message, why, report).map(|()| false);
    }
    match (ours, Unpacked::unpack(message)) {
        (Ok(ours), Some(theirs)) => {
            let (mut a, mut b) = (String::new(), String::new());
            show_ours(&ours, &mut a);
            show_theirs(&theirs.list(), &mut b);
            if a != b {
                return Err(told(&format!("we read {a}, libnv {b}"), message));
            }
            // The configuration, which is read through the one interface.
            let (a, b) = (
                request(SetRequest::read(ours)),
                request(SetRequest::read(theirs.list())),
            );
            if a != b {
                return Err(told(&format!("a request: {a} and {b}"), message));
            }
            let (a, b) = (
                reply(GetReply::read(ours)),
                reply(GetReply::read(theirs.list())),
            );
            if a != b {
                return Err(told(&format!("an answer: {a} and {b}"), message));
            }
            report.accepted += 1;
            Ok(true)
        }
        (Err(_), None) => {
            report.refused += 1;
            Ok(false)
        }
        (Err(why), Some(theirs)) => {
            if why != Error::Type || !has_descriptors(&theirs.list()) {
                return Err(told(&format!("libnv accepts it, we say: {why}"), message));
            }
            *report.stricter.entry(why.to_string()).or_default() += 1;
            Ok(false)
        }
        (Ok(_), None) => Err(told("libnv refuses what we accept", message)),
    }
}

/// Messages that are given to libnv in a process of their own; the others count as refused.
const CHILDREN: usize = 150;

/// Has another process unpack a message that we refuse for `why`.
fn in_a_child(message: &[u8], why: Error, report: &mut Report) -> Result<(), String> {
    report.children += 1;
    if report.children > CHILDREN {
        report.refused += 1;
        return Ok(());
    }
    let failed = |e: std::io::Error| format!("a process cannot be run: {e}");
    let mut child = std::env::current_exe()
        .and_then(|program| {
            Command::new(program)
                .arg(CHILD)
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        })
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(message).map_err(failed)?;
    }
    match child.wait().map_err(failed)?.code() {
        Some(0) if why == Error::Duplicate => Err(told("libnv accepts a name twice", message)),
        Some(0) => {
            *report.stricter.entry(why.to_string()).or_default() += 1;
            Ok(())
        }
        Some(1) => {
            report.refused += 1;
            Ok(())
        }
        // A signal: the assertion.
        _ => {
            report.died += 1;
            Ok(())
        }
    }
}

/// What a process does for [`in_a_child`].
pub fn child() -> ExitCode {
    let mut message = Vec::new();
    if std::io::stdin().read_to_end(&mut message).is_err() {
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(Unpacked::unpack(&message).is_none()))
}

/// The argument of such a process.
pub const CHILD: &str = "unpack";

fn told(what: &str, message: &[u8]) -> String {
    let hex = message.iter().fold(String::new(), |mut hex, b| {
        let _ = write!(hex, "{b:02x}");
        hex
    });
    format!("{what}: {} bytes {hex}", message.len())
}

fn pair(out: &mut String, name: &[u8], value: &dyn Debug) {
    let _ = write!(out, "{}={value:?};", name.escape_ascii());
}

fn show_ours(list: &nv::List<'_>, out: &mut String) {
    for p in list.pairs() {
        match p.value {
            nv::Value::Null => pair(out, p.name, &()),
            nv::Value::Bool(b) => pair(out, p.name, &b),
            nv::Value::Number(n) => pair(out, p.name, &n),
            nv::Value::String(s) => pair(out, p.name, &("s", s)),
            nv::Value::Binary(b) => pair(out, p.name, &("b", b)),
            nv::Value::BoolArray(b) => pair(out, p.name, &("t", b)),
            nv::Value::NumberArray(n) => pair(out, p.name, &n.collect::<Vec<_>>()),
            nv::Value::StringArray(s) => {
                let strings = s.split(|b| *b == 0);
                let mut strings: Vec<_> = strings.collect();
                strings.pop();
                pair(out, p.name, &strings);
            }
            nv::Value::List(l) => {
                let _ = write!(out, "{}={{", p.name.escape_ascii());
                show_ours(&l, out);
                out.push_str("};");
            }
            nv::Value::ListArray(a) => {
                let _ = write!(out, "{}={}[", p.name.escape_ascii(), a.count());
                for l in a.elements() {
                    show_ours(&l, out);
                    out.push('|');
                }
                out.push_str("];");
            }
            _ => out.push_str("another type;"),
        }
    }
}

fn show_theirs(list: &kpi_libnv::List<'_>, out: &mut String) {
    use kpi_libnv::Value;
    for (name, value) in list.pairs() {
        match value {
            Value::Null => pair(out, name, &()),
            Value::Bool(b) => pair(out, name, &b),
            Value::Number(n) => pair(out, name, &n),
            Value::String(s) => pair(out, name, &("s", s)),
            Value::Binary(b) => pair(out, name, &("b", b)),
            Value::BoolArray(b) => pair(out, name, &("t", b)),
            Value::NumberArray(n) => pair(out, name, &n),
            Value::StringArray(s) => pair(out, name, &s.collect::<Vec<_>>()),
            Value::List(l) => {
                let _ = write!(out, "{}={{", name.escape_ascii());
                show_theirs(&l, out);
                out.push_str("};");
            }
            Value::ListArray(a) => {
                use nv::ReadArray;
                let _ = write!(out, "{}={}[", name.escape_ascii(), a.count());
                for l in a.elements() {
                    show_theirs(&l, out);
                    out.push('|');
                }
                out.push_str("];");
            }
            Value::Descriptors => out.push_str("descriptors;"),
        }
    }
}

fn has_descriptors(list: &kpi_libnv::List<'_>) -> bool {
    use kpi_libnv::Value;
    use nv::ReadArray;
    list.pairs().any(|(_, value)| match value {
        Value::Descriptors => true,
        Value::List(l) => has_descriptors(&l),
        Value::ListArray(a) => a.elements().any(|l| has_descriptors(&l)),
        _ => false,
    })
}

fn request<'a, L: ReadList<'a>>(read: Result<SetRequest<'a, L>, ConfError>) -> String {
    let r = match read {
        Ok(r) => r,
        Err(e) => return format!("{e}"),
    };
    let mut out = format!(
        "{:?}",
        (
            r.replace_peers,
            r.listen_port,
            r.private_key,
            r.user_cookie,
            r.peer_count()
        )
    );
    for p in r.peers() {
        let _ = write!(
            out,
            "{:?}",
            (
                p.public_key,
                p.remove,
                p.update_only,
                p.replace_allowed_ips,
                p.endpoint,
                p.preshared_key,
                p.keepalive
            )
        );
        for ip in p.allowed_ips() {
            let _ = write!(out, "{ip:?}");
        }
    }
    out
}

fn reply<'a, L: ReadList<'a>>(read: Result<GetReply<'a, L>, ConfError>) -> String {
    let r = match read {
        Ok(r) => r,
        Err(e) => return format!("{e}"),
    };
    let mut out = format!(
        "{:?}",
        (
            r.listen_port,
            r.user_cookie,
            r.public_key,
            r.private_key,
            r.peer_count()
        )
    );
    for entry in r.peers() {
        let p = entry.peer;
        let _ = write!(
            out,
            "{:?}",
            (
                p.public_key,
                p.preshared_key,
                p.endpoint,
                p.keepalive,
                p.last_handshake,
                p.rx_bytes,
                p.tx_bytes
            )
        );
        for ip in entry.allowed_ips() {
            let _ = write!(out, "{ip:?}");
        }
    }
    out
}
