// SPDX-License-Identifier: BSD-2-Clause
//! The interface's two UDP sockets, one of each family on the same port.

use kpi::epoch::EpochArc;
use kpi::mbuf::Mbuf;
use kpi::net::{Family, SocketOptions, UdpSocket};
use kpi::{Errno, Result};
use kpi::{How, KArc, Sleepable};

use crate::peer::Endpoint;
use crate::softc::Softc;

/// How often another ephemeral port is tried when the one that IPv4 got is taken in IPv6.
const EPHEMERAL_TRIES: usize = 16;

pub(crate) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    pub(crate) port: u16,
}

impl Sockets {
    /// Opens and binds both sockets. `port` 0 takes an ephemeral port, the same for both.
    ///
    /// A host may lack one family, so that it cannot be opened; both lacking is an error. So is a
    /// port that is taken in either family: half an interface would be a puzzle for whoever runs it.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say, EADDRINUSE above all; ENOMEM.
    pub(crate) fn open(
        sc: &KArc<Softc>,
        port: u16,
        options: &SocketOptions<'_>,
        cx: &Sleepable,
    ) -> Result<EpochArc<Self>> {
        let mut tries = 0;
        loop {
            match Self::open_once(sc, port, options, cx) {
                Err(Errno::EADDRINUSE) if port == 0 && tries < EPHEMERAL_TRIES => tries += 1,
                Err(errno) => return Err(errno),
                Ok(sockets) => {
                    return EpochArc::new(sockets, How::Wait(cx)).map_err(Errno::from);
                }
            }
        }
    }

    fn open_once(
        sc: &KArc<Softc>,
        port: u16,
        options: &SocketOptions<'_>,
        cx: &Sleepable,
    ) -> Result<Self> {
        let open = |family, port| match UdpSocket::open(family, port, options, sc.clone(), cx) {
            Ok(socket) => Ok(Some(socket)),
            Err(errno) if is_absent(errno) => Ok(None),
            Err(errno) => Err(errno),
        };
        let v4 = open(Family::V4, port)?;
        let port = v4.as_ref().map_or(port, UdpSocket::local_port);
        let v6 = match open(Family::V6, port) {
            Ok(v6) => v6,
            Err(errno) => {
                if let Some(v4) = v4 {
                    v4.close(cx);
                }
                return Err(errno);
            }
        };
        let port = v6.as_ref().map_or(port, UdpSocket::local_port);
        if v4.is_none() && v6.is_none() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        Ok(Self { v4, v6, port })
    }

    /// Sends `m`, which is gone in every case.
    ///
    /// # Errors
    /// EAFNOSUPPORT when there is no socket of the endpoint's family, else what the socket says.
    pub(crate) fn send(&self, m: Mbuf, to: &Endpoint) -> Result<()> {
        let socket = if to.remote.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let socket = socket.as_ref().ok_or(Errno::EAFNOSUPPORT)?;
        socket.send(m, &to.remote, to.local.as_ref())
    }

    fn each(&self) -> impl Iterator<Item = &UdpSocket> {
        self.v4.iter().chain(self.v6.iter())
    }

    pub(crate) fn set_fib(&self, fib: u16, cx: &Sleepable) -> Result<()> {
        self.each().try_for_each(|socket| socket.set_fib(fib, cx))
    }

    pub(crate) fn set_user_cookie(&self, cookie: u32, cx: &Sleepable) -> Result<()> {
        self.each()
            .try_for_each(|socket| socket.set_user_cookie(cookie, cx))
    }

    /// Closes both; when it returns no datagram comes in by them any more. The caller has taken them
    /// out of the interface.
    pub(crate) fn close(this: EpochArc<Self>, cx: &Sleepable) {
        // Whoever sends on them does it in an epoch section, without a handle of their own.
        if let Ok(Self { v4, v6, .. }) = EpochArc::into_inner(this, cx) {
            v4.into_iter().chain(v6).for_each(|socket| socket.close(cx));
        }
    }
}

/// Whether the host says with `errno` that it lacks the address family.
fn is_absent(errno: Errno) -> bool {
    [
        Errno::EAFNOSUPPORT,
        Errno::EPROTONOSUPPORT,
        Errno::EADDRNOTAVAIL,
    ]
    .contains(&errno)
}
