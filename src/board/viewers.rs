//! Limits the number of browsers that watch the board, so that one client can't block the others.
//!
//! Beyond the limit, the address with the most viewers loses its *newest* one, other than the
//! viewer that has just arrived. So a client that opens one stream after another replaces only its
//! own: a viewer that was there before keeps its stream, even one at the same address, and a viewer
//! that connects later gets one.

use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use portal_net::lock::{Condvar, Mutex};
use portal_net::{Stream, greediest, host_of};

/// The viewers of the board.
pub(super) struct Viewers {
    most: usize,
    state: Mutex<ViewerState>,
    /// Notified when a viewer leaves.
    left: Condvar,
}

/// Guarded by a leaf lock.
struct ViewerState {
    /// The viewers, oldest first.
    watching: Vec<Viewer>,
    /// Number of evicted viewers whose threads have not exited yet.
    leaving: usize,
    joined: u64,
}

struct Viewer {
    number: u64,
    host: IpAddr,
    stream: Stream,
    /// Dropped when the viewer is evicted, which wakes its thread.
    _stays: Sender<()>,
}

impl ViewerState {
    /// Returns the index of the newest viewer from `host`. It is `newcomer` only if there is no
    /// other.
    fn newest_of(&self, host: IpAddr, newcomer: u64) -> Option<usize> {
        let of_host = |there: &Viewer| there.host == host;
        let others = |there: &Viewer| of_host(there) && there.number != newcomer;
        let newest = self.watching.iter().rposition(others);
        newest.or_else(|| self.watching.iter().rposition(of_host))
    }
}

/// A registered viewer. Dropping this removes it.
pub(super) struct Watching {
    viewers: Arc<Viewers>,
    number: u64,
    /// Disconnects when this viewer is evicted.
    pub(super) evicted: Receiver<()>,
}

impl Viewers {
    pub(super) fn new(most: usize) -> Viewers {
        Viewers {
            most,
            state: Mutex::new(ViewerState {
                watching: Vec::new(),
                leaving: 0,
                joined: 0,
            }),
            left: Condvar::new(),
        }
    }

    /// Adds the viewer at `stream`. If there are too many viewers, evicts the newest viewer, other
    /// than this one, from the address that has the most, and waits until that viewer's thread has
    /// removed it, or until this viewer is evicted in turn.
    pub(super) fn add(self: &Arc<Self>, stream: &Stream) -> Watching {
        let (stays, evicted) = bounded(0);
        let mut state = self.state.lock();
        state.joined += 1;
        let number = state.joined;
        state.watching.push(Viewer {
            number,
            host: host_of(stream.peer().ip()),
            stream: stream.share(),
            _stays: stays,
        });
        let mut dropped = None;
        if state.watching.len() > self.most
            && let Some(host) = greediest(state.watching.iter().map(|viewer| viewer.host))
            && let Some(newest) = state.newest_of(host, number)
        {
            dropped = Some(state.watching.remove(newest));
            state.leaving += 1;
        }
        drop(state);
        if let Some(dropped) = dropped {
            let _ = dropped.stream.shutdown(Shutdown::Both);
            // The evicted viewer may still be waiting in this method.
            self.left.notify_all();
        }
        let mut state = self.state.lock();
        // If this viewer is evicted in turn while it waits, it must leave, too.
        while state.watching.len() + state.leaving > self.most
            && state.watching.iter().any(|viewer| viewer.number == number)
        {
            self.left.wait(&mut state);
        }
        drop(state);
        Watching {
            viewers: Arc::clone(self),
            number,
            evicted,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().watching.len()
    }

    /// Waits up to `patience` for the viewers to leave, then closes the remaining sockets.
    pub(super) fn end(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while !state.watching.is_empty() {
            if self.left.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let streams: Vec<Stream> = state
            .watching
            .iter()
            .map(|viewer| viewer.stream.share())
            .collect();
        drop(state);
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.viewers.state.lock();
        let there = state
            .watching
            .iter()
            .position(|viewer| viewer.number == self.number);
        let left = there.map(|there| state.watching.remove(there));
        if left.is_none() {
            state.leaving -= 1;
        }
        drop(state);
        self.viewers.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use portal_net::Tap;

    /// Creates a viewer from 127.0.0.`from`, with its end of the connection.
    fn viewer(listener: &TcpListener, from: u8) -> (Stream, Stream) {
        let there = listener.local_addr().unwrap();
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
        let ours = Stream::unconnected(from, there, &Tap::default()).unwrap();
        ours.call(|| true).unwrap();
        let (socket, _) = listener.accept().unwrap();
        (Stream::from(socket), ours)
    }

    #[test]
    fn the_address_with_the_most_viewers_loses_its_newest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let viewers = Arc::new(Viewers::new(3));
        let (alone, _keep) = viewer(&listener, 2);
        let alone = viewers.add(&alone);
        let mut others: Vec<_> = (0..2)
            .map(|_| {
                let (stream, peer) = viewer(&listener, 1);
                (viewers.add(&stream), peer)
            })
            .collect();
        // A viewer from another address is added only after the first viewer's thread has left.
        let (late, _keep) = viewer(&listener, 3);
        std::thread::scope(|threads| {
            let (newest, peer) = others.remove(1);
            let newcomer = threads.spawn(|| viewers.add(&late));
            assert!(newest.evicted.recv().is_err(), "its thread is woken");
            assert_eq!(
                (&peer).read(&mut [0]).unwrap_or(0),
                0,
                "its socket is closed"
            );
            drop(newest);
            let _late = newcomer.join().unwrap();
            assert_eq!(viewers.count(), 3);
        });
        assert_eq!(viewers.count(), 2);
        drop((alone, others));
        assert_eq!(viewers.count(), 0);
    }

    #[test]
    fn a_flood_of_viewers_replaces_only_its_own_also_at_one_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let viewers = Arc::new(Viewers::new(3));
        let (first, _keep) = viewer(&listener, 1);
        let first = viewers.add(&first);
        // Each viewer's thread leaves when it is evicted.
        std::thread::scope(|threads| {
            let mut flood = Vec::new();
            for _ in 0..20 {
                let (stream, peer) = viewer(&listener, 1);
                let watching = viewers.add(&stream);
                flood.push(peer);
                threads.spawn(move || watching.evicted.recv());
            }
            assert_eq!(viewers.count(), 3);
            assert_eq!(
                first.evicted.try_recv(),
                Err(crossbeam_channel::TryRecvError::Empty)
            );
            // A viewer that connects later also gets a place.
            let (late, _keep) = viewer(&listener, 1);
            let late = viewers.add(&late);
            assert_eq!(
                late.evicted.try_recv(),
                Err(crossbeam_channel::TryRecvError::Empty)
            );
            drop((first, late));
            // The rest of the flood is evicted when its entries are removed.
            let rest = std::mem::take(&mut viewers.state.lock().watching);
            viewers.state.lock().leaving += rest.len();
        });
    }

    #[test]
    fn viewers_that_are_evicted_while_they_wait_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let viewers = Arc::new(Viewers::new(2));
        let crowd: Vec<_> = (0..60)
            .map(|number| viewer(&listener, 1 + number % 3))
            .collect();
        std::thread::scope(|threads| {
            for (stream, _peer) in &crowd {
                let viewers = &viewers;
                threads.spawn(move || {
                    let watching = viewers.add(stream);
                    // Some viewers are never evicted, and leave after the timeout.
                    let _ = watching.evicted.recv_timeout(Duration::from_millis(50));
                });
            }
        });
        assert_eq!(viewers.count(), 0);
    }

    #[test]
    fn a_viewer_that_stays_at_the_end_loses_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let viewers = Arc::new(Viewers::new(3));
        let (stream, peer) = viewer(&listener, 1);
        let _watching = viewers.add(&stream);
        viewers.end(Duration::ZERO);
        assert_eq!((&peer).read(&mut [0]).unwrap_or(0), 0);
    }
}
