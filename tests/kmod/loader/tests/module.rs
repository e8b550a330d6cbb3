// SPDX-License-Identifier: BSD-2-Clause
//! The very `if_wg.ko` that a kernel gets, where `$IF_WG_KO` says.

use hostkern::kld::{self, Metadata};
use hostkern::sim::Sim;

fn bytes() -> Vec<u8> {
    let file = std::env::var_os("IF_WG_KO").expect("IF_WG_KO is set");
    std::fs::read(file).expect("the module can be read")
}

#[test]
fn it_says_what_it_is() {
    let metadata = kmod_loader::metadata(bytes()).expect("metadata");
    let versions: Vec<_> = metadata
        .iter()
        .filter_map(|m| match m {
            Metadata::Version(name, version) => Some((name.as_str(), *version)),
            _ => None,
        })
        .collect();
    assert_eq!(versions, [("if_wg", 20_261_101)]);
    let modules = metadata
        .iter()
        .filter(|m| matches!(m, Metadata::Module(name, _) if name == "if_wg"));
    assert_eq!(modules.count(), 1);
    let depends = |on: &str| {
        metadata.iter().find_map(|m| match m {
            Metadata::Depend(name, versions) if name == on => Some(*versions),
            _ => None,
        })
    };
    assert_eq!(depends("crypto"), Some([1, 1, 1]));
    // Any kernel of 14 from the one of the headers on.
    let [least, _, greatest] = depends("kernel").expect("a kernel");
    assert!((1_400_000..=1_402_000).contains(&least), "{least}");
    assert_eq!(greatest, 1_499_999);
}

#[test]
fn nothing_of_it_is_replaced() {
    // Whatever it defines is bound to itself; what it imports has FreeBSD's names, none of our own.
    let placed = kmod_loader::place(bytes()).expect("an image");
    assert!(placed.sysinits.len() > placed.sysuninits.len());
    assert!(
        kld::functions()
            .keys()
            .all(|name| !name.starts_with("kpi_"))
    );
}

/// kldload(8) and kldunload(8) through the functions that a kernel would call, and nothing else.
#[test]
fn it_comes_and_goes() {
    let sim = Sim::new(1);
    let file = std::env::var_os("IF_WG_KO").expect("IF_WG_KO is set");
    let ops = kmod_loader::module_ops(file.as_ref()).expect("the module");
    let host = sim.host("a", &["192.0.2.1"]);
    for _ in 0..3 {
        sim.load(ops).expect("the module loads");
        assert_eq!(sim.create(&host, "wg"), Ok("wg0".into()));
        // A vnet that comes later has its own cloner, by its own sysinit.
        let later = sim.host("later", &["192.0.2.9"]);
        assert_eq!(sim.create(&later, "wg7"), Ok("wg7".into()));
        assert!(
            sim.interface(&later, "wg7").setup().0,
            "no link-local address, no DAD"
        );
        sim.unload()
            .expect("the module goes, and its interfaces with it");
        assert!(sim.kernel().interfaces(&host).is_empty());
        sim.assert_no_leaks();
    }
    sim.finish();
}
