// SPDX-License-Identifier: BSD-2-Clause
//! The host's TUN device that stands for a `wgN` interface.
//!
//! Packets cross with offload in both directions: the host hands over up to 64 KiB of one flow, which is split here,
//! and takes what is put together here again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use tun_rs::{DeviceBuilder, GROTable, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

use super::abroad::Abroad;
use super::link::{Report, Watch};
use super::queue::{PortId, Queues};
use super::split::{LARGEST_READ, Splitter};
use super::wake::Stopper;
use super::{LinkEvent, OnLink};
use crate::backend::{Family, Flush, TunPort, TunRx, flush_later};
use crate::mbuf::Packet;
use crate::pace::Pace;
use crate::tally::{Count, Tally};

/// How many packets may wait before they are written without being asked.
const QUEUE: usize = IDEAL_BATCH_SIZE;

/// How often an interface is looked at that has moved to where reports about it do not reach us.
const POLL: Duration = Duration::from_secs(1);

thread_local! {
    static QUEUES: Queues<Packet> = const { Queues::new() };
    static WRITER: std::cell::RefCell<Writer> = std::cell::RefCell::default();
}

/// What writing a batch needs, kept for the next one.
#[derive(Default)]
struct Writer {
    table: GROTable,
    buffers: Vec<Vec<u8>>,
}

pub(super) struct Port {
    id: PortId,
    me: Weak<Port>,
    device: SyncDevice,
    index: u32,
    /// The interface has left this network namespace: what is said here of its name or its index is no longer about it,
    /// and it cannot be changed any more.
    moved: AtomicBool,
    /// As last seen or set, so that an echo of our own change is recognized.
    mtu: AtomicU32,
    up: AtomicBool,
    removed: AtomicBool,
    on_link: OnLink,
    stopper: Stopper,
    tally: Arc<Tally>,
}

impl Port {
    /// Creates the device, down, and starts reading from it.
    pub(super) fn open(
        name: &str,
        mtu: u32,
        rx: TunRx,
        on_link: &OnLink,
    ) -> Result<Arc<Port>, (io::Error, String)> {
        // TUNSETIFF would take over a TUN device that exists and is idle.
        let exists = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
            .and_then(|any| netdevice::name_to_index(any, name))
            .is_ok();
        if exists {
            return Err((
                rustix::io::Errno::EXIST.into(),
                format!("a network interface named {name} exists already"),
            ));
        }
        let describe = |e: io::Error| {
            let text = match e.raw_os_error() {
                Some(libc::EPERM) => {
                    format!("not permitted to create the network interface {name} (CAP_NET_ADMIN)")
                }
                Some(libc::EBUSY) => format!("a network interface named {name} exists already"),
                Some(libc::ENOENT) => "/dev/net/tun does not exist".to_owned(),
                _ => format!("cannot create the network interface {name}: {e}"),
            };
            (e, text)
        };
        Port::create(name, mtu, rx, on_link).map_err(describe)
    }

    fn create(name: &str, mtu: u32, rx: TunRx, on_link: &OnLink) -> io::Result<Arc<Port>> {
        // Before the device, so that no change of it is missed.
        let watch = Watch::open()?;
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(u16::try_from(mtu).unwrap_or(u16::MAX))
            .enable(false)
            .with(|options| {
                options.offload(true);
            })
            .build_sync()?;
        device.set_nonblocking(true)?;
        let index = device.if_index()?;
        // More at once than what is written at once only takes memory. Old kernels do not know the limit.
        let _ = watch.limit_segments(index, u32::try_from(IDEAL_BATCH_SIZE).unwrap_or(64));
        // What has been reported so far is how the device was made. Its state is asked for instead.
        watch.read(index, |_| {})?;
        watch.query(index)?;
        let stopper = Stopper::new()?;
        let port = Arc::new_cyclic(|me: &Weak<Port>| Port {
            id: PortId::new(),
            me: me.clone(),
            device,
            index,
            moved: AtomicBool::new(false),
            mtu: AtomicU32::new(mtu),
            up: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            on_link: on_link.clone(),
            stopper,
            tally: rx.tally(),
        });
        let reader = port.clone();
        port.stopper.spawn("wgd-tun", move || reader.read(&rx))?;
        let watcher = port.clone();
        port.stopper
            .spawn("wgd-link", move || watcher.watch(&watch))?;
        Ok(port)
    }

    /// Body of the thread that reads packets.
    fn read(&self, rx: &TunRx) {
        let mut whole = vec![0; LARGEST_READ];
        let mut splitter = Splitter::default();
        let mut pace = Pace::default();
        while !self.stopper.is_stopped() {
            match self.device.recv(&mut whole) {
                Ok(count) => {
                    self.tally.add(Count::DeviceReads, 1);
                    let read = whole.get_mut(..count).unwrap_or_default();
                    match splitter.split(read) {
                        Ok(packets) => {
                            let mut given = 0;
                            rx.inject(packets.inspect(|_| given += 1));
                            rx.catch_up(&mut pace, given, &|| self.stopper.is_stopped());
                        }
                        Err(e) => self.tally.lost(Count::DeviceSplit, &e),
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.stopper.wait(&self.device) {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => {
                    self.report_removed();
                    return;
                }
                // The host has taken the packet off its queue and could not hand it over.
                Err(e) => {
                    self.tally.lost(Count::DeviceReadFailed, &e);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// Body of the thread that watches the interface.
    fn watch(&self, watch: &Watch) {
        loop {
            let mut gone = false;
            let mut lost = false;
            let read = watch.read(self.index, |report| match report {
                Report::State { up, mtu } => self.report_state(up, mtu),
                Report::Gone => gone = true,
                Report::Lost => lost = true,
            });
            if gone {
                // Deleted, or moved to another network namespace, which leaves the device working.
                if self.device.name().is_err() {
                    self.report_removed();
                } else {
                    self.poll_state();
                }
                return;
            }
            if lost {
                let _ = watch.query(self.index);
            }
            if read.is_err() {
                std::thread::sleep(Duration::from_millis(100));
            }
            if !self.stopper.wait(watch.fd()) {
                return;
            }
        }
    }

    /// Where no report reaches us, the interface is asked. Where that is not possible either, the device itself tells
    /// whether it is up: an empty write is invalid then, and an I/O error when it is down. Changes of the MTU go
    /// unseen there, which costs nothing but padding.
    fn poll_state(&self) {
        self.moved.store(true, Ordering::Relaxed);
        let mut abroad = Abroad::open().ok();
        while !self.stopper.is_stopped() {
            let name = match self.device.name() {
                Err(e) if e.raw_os_error() == Some(libc::EBADFD) => return self.report_removed(),
                name => name.ok(),
            };
            let state = abroad
                .as_mut()
                .zip(name)
                .and_then(|(abroad, name)| abroad.state(&self.device, &name).ok());
            match state {
                Some((up, mtu)) => self.report_state(up, mtu),
                None => match self.device.send(&[]).map_err(|e| e.raw_os_error()) {
                    Ok(_) | Err(Some(libc::EINVAL)) => self.report_state(true, None),
                    Err(Some(libc::EIO)) => self.report_state(false, None),
                    Err(Some(libc::EBADFD)) => return self.report_removed(),
                    Err(_) => {}
                },
            }
            std::thread::sleep(POLL);
        }
    }

    fn report_state(&self, up: bool, mtu: Option<u32>) {
        // The MTU first: coming up with the new one is better than changing it right afterwards.
        if let Some(mtu) = mtu
            && self.mtu.swap(mtu, Ordering::Relaxed) != mtu
        {
            (self.on_link)(LinkEvent::Mtu(mtu));
        }
        if self.up.swap(up, Ordering::Relaxed) != up {
            (self.on_link)(LinkEvent::Up(up));
        }
    }

    fn report_removed(&self) {
        if !self.removed.swap(true, Ordering::Relaxed) {
            (self.on_link)(LinkEvent::Removed);
        }
    }
}

impl TunPort for Port {
    fn write(&self, packet: Packet, _family: Family) {
        match QUEUES.with(|q| q.push(self.id, packet)) {
            1 => {
                if let Some(me) = self.me.upgrade() {
                    let me: Arc<dyn Flush> = me;
                    flush_later(&me);
                }
            }
            n if n >= QUEUE => self.flush(),
            _ => {}
        }
    }

    fn set_mtu(&self, mtu: u32) {
        if !self.moved.load(Ordering::Relaxed)
            && self.mtu.swap(mtu, Ordering::Relaxed) != mtu
            && let Err(e) = self.device.set_mtu(u16::try_from(mtu).unwrap_or(u16::MAX))
        {
            crate::log::warning(format_args!("cannot set the interface's MTU: {e}"));
        }
    }

    fn set_up(&self, up: bool) {
        if !self.moved.load(Ordering::Relaxed)
            && self.up.swap(up, Ordering::Relaxed) != up
            && let Err(e) = self.device.enabled(up)
        {
            crate::log::warning(format_args!("cannot set the interface up or down: {e}"));
        }
    }

    fn close(&self) {
        self.stopper.stop();
    }
}

impl Flush for Port {
    fn flush(&self) {
        let queue = QUEUES.with(|q| q.take(self.id));
        WRITER.with_borrow_mut(|writer| {
            while writer.buffers.len() < queue.len() {
                writer
                    .buffers
                    .push(Vec::with_capacity(VIRTIO_NET_HDR_LEN + 65_536));
            }
            let buffers = writer.buffers.get_mut(..queue.len()).unwrap_or_default();
            for (buffer, packet) in buffers.iter_mut().zip(&queue) {
                buffer.clear();
                buffer.resize(VIRTIO_NET_HDR_LEN, 0);
                packet
                    .segments()
                    .for_each(|piece| buffer.extend_from_slice(piece));
            }
            // A device that is down or gone loses packets, as any link does. Which ones of a batch is not told, so all
            // of it is counted.
            let what =
                match self
                    .device
                    .send_multiple(&mut writer.table, buffers, VIRTIO_NET_HDR_LEN)
                {
                    Ok(_) => Count::DeviceOut,
                    Err(_) => Count::DeviceWrite,
                };
            self.tally.add(what, queue.len());
        });
        QUEUES.with(|q| q.recycle(self.id, queue));
    }
}
