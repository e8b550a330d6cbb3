// SPDX-License-Identifier: BSD-2-Clause
//! Finds FreeBSD's kernel headers and runs bindgen over `wrapper.h`.
//!
//! Sources of headers, the first that is there wins:
//! 1. `$FREEBSD_SYS`, a kernel source tree (`/usr/src/sys`);
//! 2. on FreeBSD, `/usr/src/sys`;
//! 3. `$ZIG_HEADERS`, the `lib/libc/include` folder of a Zig installation, or the one beside the
//!    program `$ZIG`;
//! 4. the Python package `ziglang` of `$VIRTUAL_ENV`, of the checkout's `build/venv`, or of
//!    `python3`.
//!
//! 3 and 4 carry no Concurrency Kit headers: those come from `$CK_HEADERS` or `/usr/include`
//! (Debian: libck-dev). They also lack a header of one line, which is written here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Headers that the kernel build generates. Empty ones give the options that we define on the
/// command line.
const GENERATED: &[&str] = &[
    "bus_if.h",
    "device_if.h",
    "opt_bpf.h",
    "opt_global.h",
    "opt_inet.h",
    "opt_inet6.h",
    "opt_kern_tls.h",
    "opt_mac.h",
    "opt_rss.h",
];

/// Structures taken from the headers.
const TYPES: &[&str] = &[
    "mbuf",
    "m_ext",
    "pkthdr",
    "m_tag",
    "sockaddr",
    "sockaddr_in",
    "sockaddr_in6",
    "in_addr",
    "in6_addr",
    "callout",
    "mtx",
    "rwlock",
    "sx",
    "epoch_context",
    "epoch_tracker",
    "grouptask",
    "ifreq",
    "ift_counter",
    "kpi_ioctl",
    "cryptop",
    "crypto_session_params",
];

/// Constants taken from the headers.
const VARS: &[&str] = &[
    "E[A-Z0-9]+",
    "AF_(UNSPEC|INET|INET6)",
    "pseudo_AF_HDRCMPLT",
    "M_(NOWAIT|WAITOK|ZERO)",
    "KPI_.*",
    "EXT_FLAG_EMBREF",
    "MT_DATA",
    "M_HASHTYPE_NONE",
    "IFF_(UP|DEBUG|NOARP|MULTICAST|DYING)",
    "IFNAMSIZ",
    "LINK_STATE_(UP|DOWN|UNKNOWN)",
    "DLT_NULL",
    "ETHERTYPE_(IP|IPV6)",
    "PRIV_NET_(WG|SETIFFIB)",
    "CRYPTO_(CHACHA20_POLY1305|BUF_CONTIG|F_CBIMM|F_IV_SEPARATE)",
    "CRYPTO_OP_(ENCRYPT|DECRYPT|COMPUTE_DIGEST|VERIFY_DIGEST)",
    "CRYPTO_FLAG_SOFTWARE",
    "CRYPTOCAP_F_SYNC",
    "CSP_MODE_AEAD",
];

/// What a kernel for debugging has: the structures that we look into must not depend on it.
const DEBUG: &[&str] = &["-DINVARIANTS", "-DINVARIANT_SUPPORT", "-DWITNESS"];

/// Structures that stay opaque (a regular expression).
const OPAQUE: &str = "thread|ifnet|crypto_session|uio|vm_page|socket|ktls_session|m_snd_tag|_device|resource|gtaskqueue|witness|turnstile|(ifnet|thread)__.*|ifg_.*";

struct Headers {
    include: Vec<PathBuf>,
    origin: String,
}

fn is_dir(p: &Path) -> bool {
    p.is_dir()
}

/// A full source tree: the machine folders are reached through links, as the kernel's own build
/// makes them.
fn from_source(sys: &Path, out: &Path, machine: &str) -> Result<Headers, String> {
    if !sys.join("sys/mbuf.h").is_file() {
        return Err(format!(
            "{} is not a kernel source tree: it has no sys/mbuf.h",
            sys.display()
        ));
    }
    let links = out.join("machine-links");
    fs::create_dir_all(&links).map_err(|e| format!("{}: {e}", links.display()))?;
    for (name, target) in [
        ("machine", sys.join(machine).join("include")),
        ("x86", sys.join("x86/include")),
    ] {
        let link = links.join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link)
            .map_err(|e| format!("{}: {e}", link.display()))?;
    }
    Ok(Headers {
        include: vec![links, sys.to_path_buf(), sys.join("contrib/ck/include")],
        origin: sys.display().to_string(),
    })
}

fn from_zig(inc: &Path, arch: &str) -> Result<Headers, String> {
    let generic = inc.join("generic-freebsd");
    if !generic.join("sys/mbuf.h").is_file() {
        return Err(format!(
            "{} has no generic-freebsd/sys/mbuf.h",
            inc.display()
        ));
    }
    let ck = env::var_os("CK_HEADERS").map_or_else(|| PathBuf::from("/usr/include"), PathBuf::from);
    if !ck.join("ck_queue.h").is_file() {
        return Err(format!(
            "Concurrency Kit headers are missing (no {}/ck_queue.h): install libck-dev or set CK_HEADERS",
            ck.display()
        ));
    }
    Ok(Headers {
        include: vec![
            inc.join(format!("{arch}-freebsd-none")),
            generic,
            ck_only(&ck)?,
        ],
        origin: inc.display().to_string(),
    })
}

/// A folder with links to the `ck` headers alone, so that nothing else of the host is found; and with
/// the one header that the installed ones lack.
fn ck_only(ck: &Path) -> Result<PathBuf, String> {
    let dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("ck");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in fs::read_dir(ck)
        .map_err(|e| format!("{}: {e}", ck.display()))?
        .flatten()
    {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("ck_") || text == "gcc" || text == "spinlock" {
            let link = dir.join(&name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(entry.path(), &link)
                .map_err(|e| format!("{}: {e}", link.display()))?;
        }
    }
    // Not installed with the others, and wanted by crypto/cryptodev.h.
    let opencrypto = dir.join("opencrypto");
    let session = "#pragma once\ntypedef struct crypto_session *crypto_session_t;\n";
    fs::create_dir_all(&opencrypto)
        .and_then(|()| fs::write(opencrypto.join("_cryptodev.h"), session))
        .map_err(|e| format!("{}: {e}", opencrypto.display()))?;
    Ok(dir)
}

fn zig_of_python(python: &Path) -> Option<PathBuf> {
    let out = Command::new(python)
        .args([
            "-c",
            "import os, ziglang; print(os.path.dirname(ziglang.__file__))",
        ])
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let dir = Path::new(text.trim()).join("lib/libc/include");
    is_dir(&dir).then_some(dir)
}

fn find_headers(out: &Path, arch: &str) -> Result<Headers, String> {
    let machine = if arch == "aarch64" { "arm64" } else { "amd64" };
    if let Some(sys) = env::var_os("FREEBSD_SYS") {
        return from_source(Path::new(&sys), out, machine);
    }
    if cfg!(target_os = "freebsd") && is_dir(Path::new("/usr/src/sys/sys")) {
        return from_source(Path::new("/usr/src/sys"), out, machine);
    }
    if let Some(zig) = env::var_os("ZIG_HEADERS") {
        return from_zig(Path::new(&zig), arch);
    }
    if let Some(dir) = env::var_os("ZIG")
        .as_deref()
        .and_then(|z| Some(Path::new(z).parent()?.join("lib/libc/include")))
        && is_dir(&dir)
    {
        return from_zig(&dir, arch);
    }
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?)
        .join("../../..");
    let venvs = env::var_os("VIRTUAL_ENV")
        .map(PathBuf::from)
        .into_iter()
        .chain([root.join("build/venv")]);
    let pythons = venvs.map(|v| v.join("bin/python3")).filter(|p| p.is_file());
    for python in pythons.chain([PathBuf::from("python3")]) {
        if let Some(dir) = zig_of_python(&python) {
            return from_zig(&dir, arch);
        }
    }
    Err("FreeBSD's kernel headers were not found. Run `make setup`, which installs the Python package `ziglang` \
         (it carries them); or set FREEBSD_SYS to a kernel source tree such as /usr/src/sys; or set ZIG_HEADERS to \
         the lib/libc/include folder of a Zig installation."
        .to_string())
}

/// One module is for kernels with and without [`DEBUG`], so what we know of them must be the same.
fn the_same(
    plain: bindgen::Bindings,
    debug: bindgen::Bindings,
    headers: &Headers,
) -> Result<bindgen::Bindings, String> {
    if plain.to_string() == debug.to_string() {
        return Ok(plain);
    }
    Err(format!(
        "by the headers of {}, structures differ between kernels with and without {DEBUG:?}",
        headers.origin
    ))
}

fn generate(out: &Path) -> Result<(), String> {
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => "aarch64",
        _ => "x86_64",
    };
    let headers = find_headers(out, arch)?;
    let generated = out.join("generated");
    fs::create_dir_all(&generated).map_err(|e| format!("{}: {e}", generated.display()))?;
    for name in GENERATED {
        fs::write(generated.join(name), "").map_err(|e| format!("{name}: {e}"))?;
    }

    let clang = |header: &str| {
        let mut b = bindgen::Builder::default()
            .header(header)
            .clang_arg(format!("--target={arch}-unknown-freebsd14.2"))
            .clang_args(["-std=gnu17", "-ffreestanding", "-nostdinc", "-w"])
            // The one extension that wrapper.h uses: an enum with a given type.
            .clang_arg("-fms-extensions")
            .clang_args([
                "-D_KERNEL",
                "-DKLD_MODULE",
                "-DINET",
                "-DINET6",
                "-DVIMAGE",
                "-DSMP",
            ])
            .clang_arg(format!("-I{}", generated.display()));
        for dir in &headers.include {
            b = b.clang_arg("-isystem").clang_arg(dir.display().to_string());
        }
        b
    };
    let failed = |e: bindgen::BindgenError| {
        format!(
            "bindgen failed over the headers of {}: {e}. It needs libclang (Debian: libclang-dev); `make setup` \
             installs what is missing.",
            headers.origin
        )
    };
    let offsets = |options: &[&str]| {
        clang("offsets.h")
            .clang_args(options)
            .allowlist_var("KPI_.*")
            .allowlist_recursively(false)
            .default_enum_style(bindgen::EnumVariation::Consts)
            .prepend_enum_name(false)
            .use_core()
            .generate_comments(false)
            .generate()
            .map_err(failed)
    };
    the_same(offsets(&[])?, offsets(DEBUG)?, &headers)?
        .write_to_file(out.join("offsets.rs"))
        .map_err(|e| format!("offsets.rs: {e}"))?;

    let layouts = |options: &[&str]| {
        let mut b = clang("wrapper.h")
            .clang_args(options)
            .use_core()
            .rust_edition(bindgen::RustEdition::Edition2024)
            .default_enum_style(bindgen::EnumVariation::Consts)
            .prepend_enum_name(false)
            .wrap_unsafe_ops(true)
            .default_non_copy_union_style(bindgen::NonCopyUnionStyle::ManuallyDrop)
            .derive_debug(false)
            .derive_copy(true)
            .derive_default(false)
            .generate_comments(false)
            .allowlist_recursively(true)
            // Reached through pointers only, and their layouts are not ours to know: `src/opaque.rs`
            // has stand-ins.
            .opaque_type(OPAQUE)
            .blocklist_type(OPAQUE)
            .raw_line("use crate::opaque::*;");
        for t in TYPES {
            b = b.allowlist_type(t);
        }
        for v in VARS {
            b = b.allowlist_var(v);
        }
        b.generate().map_err(failed)
    };
    let bindings = the_same(layouts(&[])?, layouts(DEBUG)?, &headers)?;
    bindings
        .write_to_file(out.join("bindings.rs"))
        .map_err(|e| format!("bindings.rs: {e}"))
}

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=offsets.h");
    for v in [
        "FREEBSD_SYS",
        "ZIG",
        "ZIG_HEADERS",
        "CK_HEADERS",
        "VIRTUAL_ENV",
        "LIBCLANG_PATH",
    ] {
        println!("cargo::rerun-if-env-changed={v}");
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        println!("cargo::error=no OUT_DIR");
        return ExitCode::FAILURE;
    };
    match generate(&out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("cargo::error={e}");
            ExitCode::FAILURE
        }
    }
}
