// SPDX-License-Identifier: BSD-2-Clause
//! The nvlist codec of the ioctls: our own or, with the feature `libnv`, the kernel's.

#[cfg(feature = "libnv")]
pub(crate) use kernels::{Entry, Reply, Request, with_request};
#[cfg(not(feature = "libnv"))]
pub(crate) use ours::{Entry, Reply, Request, with_request};

#[cfg(not(feature = "libnv"))]
mod ours {
    use kpi::{How, KVec, Result};
    use nv::WriteError;
    use nv::wgconf::{ConfError, GetWriter, PeerEntry, SetRequest, get_write};

    /// A request to SIOCSWG.
    pub(crate) type Request<'a> = SetRequest<'a>;
    /// A peer in it.
    pub(crate) type Entry<'a> = PeerEntry<'a>;

    /// Validates a request and passes it to `f`.
    pub(crate) fn with_request<R>(
        message: &[u8],
        f: impl FnOnce(&Request<'_>) -> R,
    ) -> Result<R, ConfError> {
        SetRequest::parse(message).map(|request| f(&request))
    }

    /// An answer to SIOCGWG: what writes it, which is done anew for each purpose.
    pub(crate) struct Reply<F>(F);

    impl<F: Fn(&mut GetWriter<'_, '_>) -> Result<(), WriteError>> Reply<F> {
        pub(crate) fn new(emit: F) -> Result<Self> {
            Ok(Self(emit))
        }

        /// Appends the reply, `size` bytes, to `to`, which has room for it.
        pub(crate) fn write(&self, to: &mut KVec<u8>, size: usize) -> Result<()> {
            let mut sink = nv::FnSink(|bytes: &[u8]| {
                // Room was made for it: growing would leave an unwiped copy of the keys behind.
                if to.capacity() - to.len() < bytes.len() {
                    return Err(WriteError::NoSpace);
                }
                to.try_extend_from_slice(bytes, How::NoWait)
                    .map_err(|_| WriteError::NoSpace)
            });
            get_write(&mut sink, size, &mut |w| (self.0)(w)).map_err(super::errno)
        }
    }
}

#[cfg(feature = "libnv")]
mod kernels {
    use core::marker::PhantomData;

    use kpi::{How, KVec, Result};
    use kpi_libnv::{Builder, List, Unpacked};
    use nv::WriteError;
    use nv::wgconf::{ConfError, GetWriter, PeerEntry, SetRequest};

    /// A request to SIOCSWG.
    pub(crate) type Request<'a> = SetRequest<'a, List<'a>>;
    /// A peer in it.
    pub(crate) type Entry<'a> = PeerEntry<'a, List<'a>>;

    /// Validates a request and passes it to `f`.
    pub(crate) fn with_request<R>(
        message: &[u8],
        f: impl FnOnce(&Request<'_>) -> R,
    ) -> Result<R, ConfError> {
        match Unpacked::new(message) {
            Some(list) => SetRequest::read(list.list()).map(|request| f(&request)),
            // Our own reader knows why, unless it was for want of memory.
            None => Err(match nv::List::parse(message) {
                Err(why) => why.into(),
                Ok(_) => nv::Error::Foreign.into(),
            }),
        }
    }

    /// An answer to SIOCGWG: a list.
    pub(crate) struct Reply<F> {
        list: Unpacked,
        _written_by: PhantomData<F>,
    }

    impl<F: Fn(&mut GetWriter<'_, '_>) -> Result<(), WriteError>> Reply<F> {
        #[inline(never)] // The builder is large.
        pub(crate) fn new(emit: F) -> Result<Self> {
            let made = Builder::new().and_then(|mut builder| {
                emit(&mut GetWriter::over(&mut builder))?;
                builder.finish()
            });
            Ok(Self {
                list: made.map_err(super::errno)?,
                _written_by: PhantomData,
            })
        }

        /// Appends the reply, `size` bytes, to `to`, which has room for it.
        pub(crate) fn write(&self, to: &mut KVec<u8>, size: usize) -> Result<()> {
            let written = self.list.packed(|bytes| {
                // Growing would leave an unwiped copy of the keys behind.
                if bytes.len() != size || to.capacity() - to.len() < size {
                    return Err(WriteError::NoSpace);
                }
                to.try_extend_from_slice(bytes, How::NoWait)
                    .map_err(|_| WriteError::NoSpace)
            });
            written.and_then(|done| done).map_err(super::errno)
        }
    }
}

pub(crate) fn errno(error: nv::WriteError) -> kpi::Errno {
    kpi::Errno::check(error.errno())
        .err()
        .unwrap_or(kpi::Errno::EINVAL)
}
