// SPDX-License-Identifier: BSD-2-Clause
use super::*;

const KEY_A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_B: &str = "FFfeFDfcFBfaF9f8F7f6F5f4F3f2F1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0";

fn zone(name: &str) -> Option<u32> {
    (name == "eth7").then_some(7)
}

fn bytes_a() -> [u8; 32] {
    std::array::from_fn(|i| u8::try_from(i).unwrap())
}

fn bytes_b() -> [u8; 32] {
    std::array::from_fn(|i| 255 - u8::try_from(i).unwrap())
}

/// Everything that a whole input produces, then what its end produces.
fn run(input: &[u8], step: usize) -> Vec<Event> {
    let mut decoder = Decoder::new(zone);
    let mut events = Vec::new();
    for piece in input.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() {
            events.extend(decoder.feed(&mut rest));
        }
    }
    events.extend(decoder.end());
    events
}

fn only_set(text: &str) -> SetRequest {
    let mut events = run(text.as_bytes(), usize::MAX);
    assert_eq!(events.len(), 1, "{text:?}");
    match events.pop() {
        Some(Event::Request(Request::Set(set))) => set,
        Some(Event::Fault(_, fault)) => panic!("{text:?}: {fault}"),
        _ => panic!("{text:?}"),
    }
}

/// The fault of `set=1` with these lines; anything after it must be silent.
fn fault(lines: &str) -> Fault {
    let text = format!("set=1\n{lines}\n\n");
    for step in [1, 7, usize::MAX] {
        let events = run(text.as_bytes(), step);
        assert_eq!(events.len(), 1, "{text:?} by {step}");
    }
    match run(text.as_bytes(), usize::MAX).pop() {
        Some(Event::Fault(ErrnoStyle::Set, fault)) => fault,
        _ => panic!("no fault: {text:?}"),
    }
}

#[test]
fn every_key_is_understood() {
    let text = format!(
        "set=1\nprivate_key={KEY_A}\nlisten_port=51820\nfwmark=4294967295\nreplace_peers=true\n\
         public_key={KEY_B}\nupdate_only=true\npreshared_key={KEY_A}\nendpoint=192.0.2.1:65535\n\
         persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=-fd00::/7\nprotocol_version=1\n\
         public_key={KEY_A}\nremove=true\n\n"
    );
    for step in [1, 2, 3, 63, 4096] {
        let mut events = run(text.as_bytes(), step);
        assert_eq!(events.len(), 1, "by {step}");
        let Some(Event::Request(Request::Set(set))) = events.pop() else {
            panic!("by {step}");
        };
        assert_eq!(set.private_key.as_ref().unwrap().bytes(), &bytes_a());
        assert_eq!(set.listen_port, Some(51820));
        assert_eq!(set.fwmark, Some(u32::MAX));
        assert!(set.replace_peers);
        let [first, second] = &set.peers[..] else {
            panic!("{} peers", set.peers.len());
        };
        assert_eq!(first.public_key, bytes_b());
        assert!(first.update_only && !first.remove && first.replace_allowed_ips);
        assert_eq!(first.preshared_key.as_ref().unwrap().bytes(), &bytes_a());
        assert_eq!(first.endpoint, Some("192.0.2.1:65535".parse().unwrap()));
        assert_eq!(first.persistent_keepalive, Some(25));
        assert_eq!(
            first.allowed_ips,
            [
                AllowedIpChange {
                    addr: "10.0.0.0".parse().unwrap(),
                    cidr: 8,
                    remove: false
                },
                AllowedIpChange {
                    addr: "fd00::".parse().unwrap(),
                    cidr: 7,
                    remove: true
                },
            ]
        );
        assert_eq!(second.public_key, bytes_a());
        assert!(second.remove);
    }
}

#[test]
fn an_empty_set_changes_nothing() {
    let set = only_set("set=1\n\n");
    assert!(set.private_key.is_none() && set.listen_port.is_none() && set.fwmark.is_none());
    assert!(!set.replace_peers && set.peers.is_empty());
}

#[test]
fn several_requests_on_one_connection() {
    let text = format!(
        "get=1\n\nset=1\nlisten_port=1\n\n\n\nset=1\nbad\nx=y\n\nget=1\n\nset=1\npublic_key={KEY_A}\n\n"
    );
    for step in [1, 5, 1000] {
        let kinds: Vec<_> = run(text.as_bytes(), step)
            .iter()
            .map(|e| match e {
                Event::Request(Request::Get) => 'g',
                Event::Request(Request::Set(_)) => 's',
                Event::Fault(..) => 'f',
                Event::Hangup(_) => 'h',
            })
            .collect();
        assert_eq!(kinds, ['g', 's', 'f', 'g', 's'], "by {step}");
    }
}

#[test]
fn feed_leaves_what_follows_a_request() {
    let mut decoder = Decoder::new(zone);
    let mut input: &[u8] = b"get=1\n\nget=1\n";
    assert!(matches!(
        decoder.feed(&mut input),
        Some(Event::Request(Request::Get))
    ));
    assert_eq!(input, b"get=1\n");
    assert!(!decoder.mid_request());
    assert!(decoder.feed(&mut input).is_none());
    assert!(decoder.mid_request());
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    let peer = format!("public_key={KEY_A}\n");
    let long_hex = format!("{KEY_A}00");
    let cases: Vec<(String, Errno, u32)> = [
        ("nonsense".to_owned(), Errno::PROTO),
        ("private_key=".to_owned(), Errno::INVAL),
        (format!("private_key={}", &KEY_A[1..]), Errno::INVAL),
        (format!("private_key={long_hex}"), Errno::INVAL),
        (format!("private_key={}g", &KEY_A[1..]), Errno::INVAL),
        (format!("private_key={KEY_A} "), Errno::INVAL),
        (format!("private_key={KEY_A}\r"), Errno::INVAL),
        ("listen_port=".to_owned(), Errno::INVAL),
        ("listen_port=65536".to_owned(), Errno::INVAL),
        ("listen_port=-1".to_owned(), Errno::INVAL),
        ("listen_port=+1".to_owned(), Errno::INVAL),
        ("listen_port= 1".to_owned(), Errno::INVAL),
        ("listen_port=0x10".to_owned(), Errno::INVAL),
        (
            "listen_port=99999999999999999999999".to_owned(),
            Errno::INVAL,
        ),
        ("fwmark=4294967296".to_owned(), Errno::INVAL),
        ("fwmark=off".to_owned(), Errno::INVAL),
        ("replace_peers=false".to_owned(), Errno::INVAL),
        ("replace_peers=".to_owned(), Errno::INVAL),
        ("=x".to_owned(), Errno::INVAL),
        ("unknown=1".to_owned(), Errno::INVAL),
        ("LISTEN_PORT=1".to_owned(), Errno::INVAL),
        ("get=1".to_owned(), Errno::INVAL),
        // Peer keys before any peer.
        ("allowed_ip=1.2.3.4/32".to_owned(), Errno::INVAL),
        ("remove=true".to_owned(), Errno::INVAL),
    ]
    .into_iter()
    .map(|(l, e)| (l, e, 2))
    .chain(
        [
            "private_key=00",
            "listen_port=1",
            "fwmark=1",
            "replace_peers=true",
            "remove=1",
            "update_only=yes",
            "preshared_key=00",
            "endpoint=",
            "endpoint=1.2.3.4",
            "endpoint=1.2.3.4:",
            "endpoint=1.2.3.4:0",
            "endpoint=1.2.3.4:65536",
            "endpoint=1.2.3:5",
            "endpoint=01.2.3.4:5",
            "endpoint=host.example:5",
            "endpoint=::1:5",
            "endpoint=[::1]",
            "endpoint=[::1]5",
            "endpoint=[1.2.3.4]:5",
            "endpoint=[::1:5",
            "endpoint=[fe80::1%]:5",
            "endpoint=[fe80::1%nope]:5",
            "endpoint=[fe80::1%99999999999]:5",
            "persistent_keepalive_interval=off",
            "persistent_keepalive_interval=65536",
            "replace_allowed_ips=no",
            "allowed_ip=",
            "allowed_ip=/",
            "allowed_ip=1.2.3.4",
            "allowed_ip=1.2.3.4/",
            "allowed_ip=1.2.3.4/33",
            "allowed_ip=1.2.3.4/256",
            "allowed_ip=1.2.3.4/-1",
            "allowed_ip=::/129",
            "allowed_ip=--::/0",
            "allowed_ip=+::/0",
            "allowed_ip=fe80::%eth7/64",
            "protocol_version=2",
            "protocol_version=",
            "last_handshake_time_sec=1",
            "rx_bytes=1",
            "errno=0",
        ]
        .into_iter()
        .map(|l| (format!("{peer}{l}"), Errno::INVAL, 3)),
    )
    .collect();
    for (lines, errno, line) in cases {
        let f = fault(&lines);
        assert_eq!((f.errno, f.line), (errno, line), "{lines:?}: {f}");
    }
}

#[test]
fn errors_do_not_repeat_what_they_refuse() {
    for lines in [
        format!("private_key={}z", &KEY_A[1..]),
        "\x1b[31mred=1".to_owned(),
        format!("public_key={KEY_A}\npreshared_key={}", &KEY_B[2..]),
    ] {
        let text = fault(&lines).to_string();
        assert!(
            !text.contains(&KEY_A[4..20]) && !text.contains(&KEY_B[4..20]),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn endpoints() {
    let cases = [
        ("[2001:db8::1]:51820", "[2001:db8::1]:51820"),
        ("[fe80::1%3]:1", "[fe80::1%3]:1"),
        ("[fe80::1%eth7]:1", "[fe80::1%7]:1"),
        ("[::ffff:192.0.2.7]:9", "192.0.2.7:9"),
        ("255.255.255.255:1", "255.255.255.255:1"),
    ];
    for (given, meant) in cases {
        let set = only_set(&format!("set=1\npublic_key={KEY_A}\nendpoint={given}\n\n"));
        assert_eq!(set.peers[0].endpoint.unwrap().to_string(), meant, "{given}");
    }
}

#[test]
fn replacing_allowed_ips_forgets_those_of_earlier_lines() {
    let set = only_set(&format!(
        "set=1\npublic_key={KEY_A}\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=::/0\n\n"
    ));
    assert_eq!(set.peers[0].allowed_ips.len(), 1);
    assert!(set.peers[0].allowed_ips[0].addr.is_ipv6());
}

#[test]
fn a_request_cut_short_is_never_applied() {
    for text in ["set=1\n", "set=1\nlisten_port=5\n", "set=1\nlisten_port=5"] {
        let events = run(text.as_bytes(), usize::MAX);
        assert!(
            matches!(&events[..], [Event::Fault(ErrnoStyle::Set, f)] if f.errno == Errno::PROTO)
        );
    }
    let events = run(b"get=1\n", usize::MAX);
    assert!(matches!(&events[..], [Event::Fault(ErrnoStyle::Get, _)]));
    assert!(run(b"", 1).is_empty());
    assert!(run(b"get", 1).is_empty());
}

#[test]
fn a_get_has_no_arguments() {
    let events = run(b"get=1\nfoo=1\n\nget=1\n\n", usize::MAX);
    assert!(matches!(
        &events[..],
        [Event::Fault(ErrnoStyle::Get, f), Event::Request(Request::Get)] if f.line == 2
    ));
}

#[test]
fn an_unknown_operation_hangs_up() {
    for text in [
        "hello\n",
        "get=2\n\n",
        "set=1 \n",
        "GET / HTTP/1.1\r\n",
        "\0\n",
    ] {
        let events = run(text.as_bytes(), usize::MAX);
        assert!(
            matches!(
                events.first(),
                Some(Event::Hangup(Hangup::UnknownOperation))
            ),
            "{text:?}"
        );
    }
}

#[test]
fn long_lines() {
    // The longest line passes; one byte more is refused, and the request after it is served.
    let fits = format!("set=1\npublic_key={KEY_A}\n{:=<MAX_LINE$}\n\n", "x");
    let events = run(fits.as_bytes(), usize::MAX);
    assert!(matches!(&events[..], [Event::Fault(_, f)] if f.errno == Errno::INVAL));
    // However long, and wherever it is cut: what is left of it after the answer is no line of its own.
    for len in [MAX_LINE + 1, MAX_LINE + 7, 4 * MAX_LINE] {
        let over = format!("set=1\n{:=<len$}\nlisten_port=1\n\nget=1\n\n", "x");
        for step in [1, 100, MAX_LINE, MAX_LINE + 1, MAX_LINE + 7, usize::MAX] {
            let events = run(over.as_bytes(), step);
            assert!(
                matches!(
                    &events[..],
                    [Event::Fault(ErrnoStyle::Set, f), Event::Request(Request::Get)]
                        if f.errno == Errno::TOOBIG && f.line == 2
                ),
                "{len} by {step}"
            );
        }
    }
    // An endless line is given up.
    let mut decoder = Decoder::new(zone);
    let flood = vec![b'a'; 64 * 1024];
    let mut input: &[u8] = &flood;
    assert!(matches!(
        decoder.feed(&mut input),
        Some(Event::Hangup(Hangup::UnknownOperation))
    ));
}

#[test]
fn a_request_may_not_grow_without_bound() {
    let mut decoder = Decoder::new(zone);
    let mut head: &[u8] = b"set=1\nreplace_peers=true\n";
    assert!(decoder.feed(&mut head).is_none());
    let line = b"replace_peers=true\n".repeat(1 << 16);
    let mut fed = 0;
    let errno = loop {
        let mut input: &[u8] = &line;
        fed += line.len();
        match decoder.feed(&mut input) {
            None => assert!(fed <= MAX_REQUEST + line.len()),
            Some(Event::Fault(_, f)) => break f.errno,
            Some(_) => panic!("unexpected event"),
        }
    };
    assert_eq!(errno, Errno::TOOBIG);
    // It is not skipped for ever either.
    let mut input: &[u8] = &line;
    assert!(matches!(
        decoder.feed(&mut input),
        Some(Event::Hangup(Hangup::TooLong))
    ));
}

#[test]
fn random_bytes_and_mutations_never_panic() {
    let good = format!(
        "set=1\nprivate_key={KEY_A}\nlisten_port=1\npublic_key={KEY_B}\nendpoint=[fe80::1%eth7]:5\n\
         allowed_ip=-10.0.0.0/8\nallowed_ip=::/0\nremove=true\n\nget=1\n\n"
    );
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..3000 {
        let mut text = good.clone().into_bytes();
        for _ in 0..next() % 4 {
            let at = usize::try_from(next() % text.len() as u64).unwrap();
            match next() % 3 {
                0 => text[at] = next().to_le_bytes()[0],
                1 => drop(text.remove(at)),
                _ => text.insert(at, next().to_le_bytes()[1]),
            }
        }
        let step = 1 + usize::try_from(next() % 40).unwrap();
        let whole = run(&text, usize::MAX).len();
        assert_eq!(
            run(&text, step).len(),
            whole,
            "pieces must not change the meaning"
        );
    }
}

#[test]
fn replies() {
    let mut reply = ReplyWriter::with_capacity(0);
    reply.private_key(&bytes_a());
    reply.listen_port(51820);
    reply.fwmark(7);
    reply.peer(&PeerView {
        public_key: &bytes_b(),
        preshared_key: &[0; 32],
        endpoint: Some("[2001:db8::1]:9".parse().unwrap()),
        last_handshake: (1, 2),
        rx_bytes: 3,
        tx_bytes: 4,
        persistent_keepalive: 5,
    });
    reply.allowed_ip("10.0.0.0".parse().unwrap(), 8);
    reply.allowed_ip("fd00::".parse().unwrap(), 64);
    let text = String::from_utf8(reply.finish().to_vec()).unwrap();
    let zeros = "0".repeat(64);
    assert_eq!(
        text,
        format!(
            "private_key={KEY_A}\nlisten_port=51820\nfwmark=7\npublic_key={}\npreshared_key={zeros}\n\
             protocol_version=1\nendpoint=[2001:db8::1]:9\nlast_handshake_time_sec=1\n\
             last_handshake_time_nsec=2\ntx_bytes=4\nrx_bytes=3\npersistent_keepalive_interval=5\n\
             allowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\nerrno=0\n\n",
            KEY_B.to_lowercase()
        )
    );
}

#[test]
fn the_sign_of_errors_is_what_wg_expects() {
    let mut out = Vec::new();
    write_errno(&mut out, Some(Errno::ADDRINUSE), ErrnoStyle::Set);
    write_errno(&mut out, Some(Errno::NOMEM), ErrnoStyle::Get);
    write_errno(&mut out, None, ErrnoStyle::Set);
    assert_eq!(out, b"errno=-98\n\nerrno=12\n\nerrno=0\n\n");
}
