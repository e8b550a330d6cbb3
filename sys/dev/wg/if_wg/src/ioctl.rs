// SPDX-License-Identifier: BSD-2-Clause
//! The interface's ioctls.

use kpi::cred::{Priv, fib_exists, priv_check};
use kpi::ioctl::{self, IfReqFib, IfReqMtu, Ioctl, WgDataIo};
use kpi::thread::wipe_stack;
use kpi::user;
use kpi::{Errno, Result};
use kpi::{How, KArc, KVec, Sleepable};
use zeroize::Zeroize;

use crate::codec::{Reply, with_request};
use crate::softc::{MAX_MTU, Softc};

/// Greatest configuration that is taken in one call, in bytes. A peer with two allowed IPs takes
/// about 400; the bound is there for the hosts of jails, whose root may call this.
const MAX_SET: usize = 64 << 20;

/// Commands that need nothing of us: addresses and multicast groups. IPv6 joins and leaves groups
/// where it must not sleep, so these are answered before any lock.
pub(crate) fn ignores(cmd: u64) -> bool {
    matches!(
        cmd,
        ioctl::SIOCSIFADDR | ioctl::SIOCADDMULTI | ioctl::SIOCDELMULTI
    )
}

pub(crate) fn dispatch(this: &KArc<Softc>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result<()> {
    match io.cmd() {
        ioctl::SIOCSWG => wiped(|| set(this, io, cx)),
        ioctl::SIOCGWG => wiped(|| get(this, io, cx)),
        ioctl::SIOCSIFFLAGS => {
            if this.ifp.is_up() {
                // The kernel does not tell ifconfig(8) of this error, so it has to be told here.
                Softc::up(this, cx).inspect_err(|errno| {
                    // A new interface is in neither state.
                    this.ifp.link_up(false);
                    let errno = errno.to_raw();
                    this.ifp.log(format_args!("cannot come up, errno {errno}"));
                })
            } else {
                this.down(cx);
                Ok(())
            }
        }
        ioctl::SIOCSIFMTU => match u32::try_from(io.arg::<IfReqMtu>()?.mtu) {
            Ok(mtu) if (1..=MAX_MTU).contains(&mtu) => {
                this.ifp.set_mtu(mtu);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        },
        ioctl::SIOCGTUNFIB => {
            let fib = this.read_config(cx, |config| config.fib);
            io.arg::<IfReqFib>()?.fib = u32::from(fib);
            Ok(())
        }
        ioctl::SIOCSTUNFIB => {
            priv_check(Priv::NetWg)?;
            priv_check(Priv::NetSetIfFib)?;
            let fib = u16::try_from(io.arg::<IfReqFib>()?.fib).map_err(|_| Errno::EINVAL)?;
            if !fib_exists(fib) {
                return Err(Errno::EINVAL);
            }
            this.set_tunnel_fib(fib, cx)
        }
        _ => Err(Errno::ENOTTY),
    }
}

/// Runs `f`, which works with keys, and clears what it leaves on the stack.
fn wiped<R>(f: impl FnOnce() -> R) -> R {
    let result = f();
    wipe_stack();
    result
}

/// SIOCSWG. What is wrong with the arguments is told in this order, as by the C driver.
#[inline(never)] // Its frame is to lie in what is wiped.
fn set(this: &KArc<Softc>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result<()> {
    priv_check(Priv::NetWg)?;
    let arg = io.arg::<WgDataIo>()?;
    if arg.size == 0 || arg.data.is_null() {
        return Err(Errno::EFAULT);
    }
    let mut message = user::copy_in(arg.data, arg.size, MAX_SET, cx)?;
    let done = match with_request(&message, |request| crate::set::apply(this, request, cx)) {
        Ok(done) => done,
        Err(error) => {
            this.ifp
                .debug(format_args!("configuration refused: {error}"));
            Errno::check(error.errno())
        }
    };
    message.zeroize();
    done
}

/// SIOCGWG. With size 0 the caller asks how much room the answer needs.
#[inline(never)] // As above.
fn get(this: &KArc<Softc>, io: &mut Ioctl<'_>, cx: &Sleepable) -> Result<()> {
    let privileged = priv_check(Priv::NetWg).is_ok();
    let arg = io.arg::<WgDataIo>()?;
    let mut message = KVec::new();
    let view = this.read_config(cx, |config| {
        crate::get::View::of(this, config, privileged, cx)
    })?;
    let size = view.size()?;
    if arg.size == 0 {
        arg.size = size;
        return Ok(());
    }
    if arg.size < size {
        return Err(Errno::ENOSPC);
    }
    let prefixes = view.prefixes(cx)?;
    let reply = Reply::new(|w| view.emit(&prefixes, w))?;
    message.try_reserve(size, How::Wait(cx))?;
    let written = reply.write(&mut message, size);
    let done = written.and_then(|()| user::copy_out(&message, arg.data, cx));
    arg.size = message.len();
    message.zeroize();
    done
}
