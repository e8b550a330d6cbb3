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

use super::link::{Report, Watch};
use super::queue::{PortId, Queues};
use super::wake::Stopper;
use super::{LinkEvent, OnLink};
use crate::backend::{Family, Flush, TunPort, TunRx, flush_later};
use crate::mbuf::Packet;

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
    /// As last seen or set, so that an echo of our own change is recognized.
    mtu: AtomicU32,
    up: AtomicBool,
    removed: AtomicBool,
    on_link: OnLink,
    stopper: Stopper,
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
        // A packet with more segments than there are buffers would be lost whole. Old kernels do not know the limit,
        // and only reach it with a very small MTU.
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
            mtu: AtomicU32::new(mtu),
            up: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            on_link: on_link.clone(),
            stopper,
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
        let mut whole = vec![0; VIRTIO_NET_HDR_LEN + 65_536];
        let mut sizes = [0; IDEAL_BATCH_SIZE];
        let mut packets: Vec<Vec<u8>> = vec![Vec::new(); IDEAL_BATCH_SIZE];
        while !self.stopper.is_stopped() {
            let room = usize::try_from(self.mtu.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            if packets.first().is_some_and(|p| p.len() != room) {
                packets.iter_mut().for_each(|p| *p = vec![0; room]);
            }
            match self
                .device
                .recv_multiple(&mut whole, &mut packets, &mut sizes, 0)
            {
                Ok(count) => {
                    let read = packets.iter().zip(sizes).take(count);
                    rx.inject(read.filter_map(|(packet, size)| packet.get(..size)));
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
                Err(e) if e.raw_os_error().is_some() => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                // A packet that cannot be split, for instance larger than the MTU was when the buffers were made.
                Err(_) => {}
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

    /// Where no report reaches us, the device itself tells whether it is up: an empty write is invalid then, and
    /// an I/O error when it is down. Changes of the MTU go unseen.
    fn poll_state(&self) {
        while !self.stopper.is_stopped() {
            match self.device.send(&[]).map_err(|e| e.raw_os_error()) {
                Ok(_) | Err(Some(libc::EINVAL)) => self.report_state(true, None),
                Err(Some(libc::EIO)) => self.report_state(false, None),
                Err(Some(libc::EBADFD)) => return self.report_removed(),
                Err(_) => {}
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
        if self.mtu.swap(mtu, Ordering::Relaxed) != mtu {
            let _ = self.device.set_mtu(u16::try_from(mtu).unwrap_or(u16::MAX));
        }
    }

    fn set_up(&self, up: bool) {
        if self.up.swap(up, Ordering::Relaxed) != up {
            let _ = self.device.enabled(up);
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
            // A device that is down, full or gone loses packets, as any link does.
            let _ = self
                .device
                .send_multiple(&mut writer.table, buffers, VIRTIO_NET_HDR_LEN);
        });
        QUEUES.with(|q| q.recycle(self.id, queue));
    }
}
