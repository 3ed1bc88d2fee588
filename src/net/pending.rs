//! Connections that are not authenticated yet.
//!
//! A handshake takes as long as the caller makes it take, so each handshake needs a thread, and any
//! caller can begin one. Two limits apply to all callers together: [`limits::HANDSHAKES`] threads,
//! and [`limits::PARKED`] accepted connections that wait for a thread.
//!
//! Every caller is accepted. Four rules decide which callers wait and which are dropped:
//!
//! 1. A free thread serves the oldest parked caller that has sent something. It serves a silent
//!    caller only if there is no other. One address has at most [`limits::HANDSHAKES_PER_ADDRESS`]
//!    threads, unless it is a reverse proxy's.
//! 2. A caller that has a thread and has sent no byte within [`limits::FIRST_BYTE_WITHIN`] yields to a
//!    parked one.
//! 3. A caller that has sent something keeps its thread until its handshake completes or times out.
//! 4. If too many callers are parked, the address with the most of them loses its oldest silent
//!    caller, or its oldest one if none is silent.
//!
//! A longer accept backlog would not do: the kernel's backlog is first come, first served, so one
//! address can fill it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{HandshakeError, Network, Stream, host_of};
use crate::limits;
use crate::lock::Mutex;

/// Limits on pending callers, and the time that a silent one keeps its thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingLimits {
    pub(crate) threads: usize,
    pub(crate) threads_per_address: usize,
    pub(crate) parked: usize,
    pub(crate) first_byte: Duration,
}

impl Default for PendingLimits {
    fn default() -> PendingLimits {
        PendingLimits {
            threads: limits::HANDSHAKES,
            threads_per_address: limits::HANDSHAKES_PER_ADDRESS,
            parked: limits::PARKED,
            first_byte: limits::FIRST_BYTE_WITHIN,
        }
    }
}

/// The callers that have a thread, and those that wait for one.
pub(crate) struct PendingConnections {
    limits: PendingLimits,
    /// A leaf lock: nothing is written to a socket under it, and no thread is started.
    state: Mutex<State>,
    all_ended: Receiver<()>,
}

struct State {
    /// Each caller's thread has a clone, so the receiver disconnects when the last thread has
    /// ended. `None` once no more callers are admitted.
    running: Option<Sender<()>>,
    /// The oldest first.
    served: Vec<Arc<Caller>>,
    /// The oldest first.
    parked: VecDeque<Parked>,
    threads: Vec<JoinHandle<()>>,
    /// Number of threads started so far, for their names.
    started: u64,
    /// Reverse proxies, which connect for many clients: no share per address applies to them.
    proxies: Vec<Network>,
}

struct Caller {
    stream: Stream,
    host: IpAddr,
    /// The caller has sent nothing within [`PendingLimits::first_byte`].
    is_silent: AtomicBool,
}

type Serve = Box<dyn FnOnce(Pending) + Send>;

struct Parked {
    stream: Stream,
    host: IpAddr,
    thread_name: &'static str,
    serve: Serve,
}

/// A caller that this thread serves. Dropping it frees the place for the next caller, even if the
/// thread continues: a browser that has taken a seat is no longer pending.
pub(crate) struct Pending {
    callers: Arc<PendingConnections>,
    caller: Arc<Caller>,
    /// A thread has started to serve it.
    is_served: bool,
    _running: Option<Sender<()>>,
}

/// A caller with a place, and the function that its thread runs.
struct Start {
    pending: Pending,
    thread_name: String,
    serve: Serve,
}

impl Pending {
    pub(crate) fn stream(&self) -> &Stream {
        &self.caller.stream
    }

    /// Waits for the caller's first byte and, if the stream is encrypted, completes the TLS handshake.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection can't be used any more.
    pub(crate) fn handshake(&self) -> Result<(), HandshakeError> {
        self.handshake_within(limits::HANDSHAKE_WITHIN)
    }

    /// Like [`Pending::handshake`], within `patience`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn handshake_within(&self, patience: Duration) -> Result<(), HandshakeError> {
        let until = Instant::now() + patience;
        self.wait_for_first_byte(until)
            .map_err(HandshakeError::Io)?;
        self.stream().shake_hands(Some(until))
    }

    /// Waits for the caller's first byte, until `until` at most, and leaves it unread.
    ///
    /// # Errors
    /// `TimedOut` if no byte arrived, or if the caller had to yield. Otherwise the system's error.
    fn wait_for_first_byte(&self, until: Instant) -> io::Result<()> {
        let stream = self.stream();
        let soon = until.min(Instant::now() + self.callers.limits.first_byte);
        if stream.wait_for_input(soon)? {
            return Ok(());
        }
        {
            let state = self.callers.state.lock();
            if !state.parked.is_empty() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.caller.is_silent.store(true, Ordering::Release);
        }
        let has_input = stream.wait_for_input(until)?;
        self.caller.is_silent.store(false, Ordering::Release);
        if has_input {
            Ok(())
        } else {
            Err(ErrorKind::TimedOut.into())
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.callers.state.lock();
        state
            .served
            .retain(|there| !Arc::ptr_eq(there, &self.caller));
        drop(state);
        if self.is_served {
            self.callers.start_parked();
        }
    }
}

impl PendingConnections {
    pub(crate) fn new(limits: PendingLimits) -> PendingConnections {
        let (running, all_ended) = bounded(0);
        PendingConnections {
            limits,
            state: Mutex::new(State {
                running: Some(running),
                served: Vec::new(),
                parked: VecDeque::new(),
                threads: Vec::new(),
                started: 0,
                proxies: Vec::new(),
            }),
            all_ended,
        }
    }

    /// Exempts these reverse proxies from [`PendingLimits::threads_per_address`].
    pub(crate) fn trust(&self, proxies: &[Network]) {
        self.state.lock().proxies = proxies.to_vec();
    }

    /// Admits a caller. A thread named `thread_name-1` (and so on) runs `serve` for it as soon as
    /// the caller has a place.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: Stream,
        thread_name: &'static str,
        serve: impl FnOnce(Pending) + Send + 'static,
    ) {
        let host = host_of(stream.peer().ip());
        let mut state = self.state.lock();
        if state.running.is_none() {
            return;
        }
        state.threads.retain(|thread| !thread.is_finished());
        state.parked.push_back(Parked {
            stream,
            host,
            thread_name,
            serve: Box::new(serve),
        });
        let has_place = state.has_place(&self.limits, host);
        if !has_place {
            state.evict_silent(&self.limits, host);
        }
        let dropped = state.drop_surplus(self.limits.parked);
        drop(state);
        drop(dropped);
        if has_place {
            self.start_parked();
        }
    }

    /// Starts a thread for each parked caller, as long as there are places.
    fn start_parked(self: &Arc<Self>) {
        loop {
            let (start, left) = self.next();
            // Closing a socket is a system call, so it must not happen under the lock.
            drop(left);
            let Some(start) = start else { return };
            let Start {
                mut pending,
                thread_name,
                serve,
            } = start;
            let builder = Builder::new()
                .name(thread_name)
                .stack_size(limits::THREAD_STACK);
            let spawned = builder.spawn(move || {
                pending.is_served = true;
                serve(pending);
            });
            match spawned {
                Ok(thread) => self.state.lock().threads.push(thread),
                // The system refuses any thread: drop this caller and let the others wait.
                Err(_) => return,
            }
        }
    }

    /// Returns the next parked caller if there is a place for it, and the callers that have left.
    fn next(self: &Arc<Self>) -> (Option<Start>, Vec<Parked>) {
        let mut state = self.state.lock();
        let mut left = Vec::new();
        let Some(running) = state.running.clone() else {
            return (None, left);
        };
        let Some(index) = state.next_parked(&self.limits, &mut left) else {
            return (None, left);
        };
        let Some(parked) = state.parked.remove(index) else {
            return (None, left);
        };
        let caller = Arc::new(Caller {
            stream: parked.stream,
            host: parked.host,
            is_silent: AtomicBool::new(false),
        });
        state.served.push(Arc::clone(&caller));
        state.started += 1;
        let start = Start {
            thread_name: format!("{}-{}", parked.thread_name, state.started),
            serve: parked.serve,
            pending: Pending {
                callers: Arc::clone(self),
                caller,
                is_served: false,
                _running: Some(running),
            },
        };
        (Some(start), left)
    }

    /// Drops the parked callers and joins the threads of the others. A thread that waits for a
    /// silent caller stops at once; a thread that sends a reply may take `patience`.
    pub(crate) fn end(&self, patience: Duration) {
        let mut state = self.state.lock();
        state.running = None;
        let parked = std::mem::take(&mut state.parked);
        let served = state.served.clone();
        drop(state);
        drop(parked);
        for caller in &served {
            let _ = caller.stream.shutdown(Shutdown::Read);
        }
        let _ = self.all_ended.recv_timeout(patience);
        let mut state = self.state.lock();
        let threads = std::mem::take(&mut state.threads);
        let served = state.served.clone();
        drop(state);
        for caller in &served {
            let _ = caller.stream.shutdown(Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl State {
    fn has_place(&self, limits: &PendingLimits, host: IpAddr) -> bool {
        let of_host = self.served.iter().filter(|caller| caller.host == host);
        let is_proxy = || self.proxies.iter().any(|proxies| proxies.contains(host));
        self.served.len() < limits.threads
            && (of_host.count() < limits.threads_per_address || is_proxy())
    }

    /// Rule 1. Moves callers that have closed their connection to `left`.
    fn next_parked(&mut self, limits: &PendingLimits, left: &mut Vec<Parked>) -> Option<usize> {
        let (mut silent, mut index) = (None, 0);
        while index < self.parked.len() {
            if !self.has_place(limits, self.parked[index].host) {
                index += 1;
                continue;
            }
            match self.parked[index].stream.peek_now(&mut [0]) {
                Ok(1..) => return Some(index),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    silent = silent.or(Some(index));
                    index += 1;
                }
                Ok(0) | Err(_) => left.extend(self.parked.remove(index)),
            }
        }
        silent
    }

    /// Rule 2, for callers that were silent before another one was parked. The shutdown ends the
    /// read of the caller's thread, and its place is free when the thread has ended.
    fn evict_silent(&mut self, limits: &PendingLimits, host: IpAddr) {
        let is_full = self.served.len() >= limits.threads;
        let silent = self.served.iter().find(|caller| {
            (is_full || caller.host == host) && caller.is_silent.load(Ordering::Acquire)
        });
        if let Some(silent) = silent {
            // The next newcomer must evict another caller.
            silent.is_silent.store(false, Ordering::Release);
            let _ = silent.stream.shutdown(Shutdown::Both);
        }
    }

    /// Rule 4.
    fn drop_surplus(&mut self, most: usize) -> Option<Parked> {
        if self.parked.len() <= most {
            return None;
        }
        let host = greediest(self.parked.iter().map(|parked| parked.host))?;
        let of_host = |(_, parked): &(usize, &Parked)| parked.host == host;
        let mut candidates = self.parked.iter().enumerate().filter(of_host);
        let oldest = candidates.clone().next().map(|(index, _)| index);
        let silent = candidates.find(|(_, parked)| parked.stream.peek_now(&mut [0]).is_err());
        let index = silent.map(|(index, _)| index).or(oldest)?;
        self.parked.remove(index)
    }
}

/// Returns the host with the most entries; in a tie, the one with the earliest entry.
pub(crate) fn greediest(hosts: impl Iterator<Item = IpAddr> + Clone) -> Option<IpAddr> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for host in hosts.clone() {
        *counts.entry(host).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let mut hosts = hosts;
    hosts.find(|host| counts.get(host) == Some(&most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use crossbeam_channel::unbounded;

    use crate::net::Tap;

    /// Expires only if a test fails.
    const NEVER: Duration = Duration::from_secs(60);

    const LIMITS: PendingLimits = PendingLimits {
        threads: 1,
        threads_per_address: 1,
        parked: 3,
        first_byte: NEVER,
    };

    /// An entrance whose threads report the caller that they serve, and then wait to be released.
    struct Entrance {
        listener: TcpListener,
        callers: Arc<PendingConnections>,
        served: (Sender<SocketAddr>, Receiver<SocketAddr>),
        release: (Sender<()>, Receiver<()>),
    }

    impl Drop for Entrance {
        fn drop(&mut self) {
            // Release the threads that are still serving, so that `end` can join them.
            self.release.0 = unbounded().0;
        }
    }

    impl Entrance {
        fn new(limits: PendingLimits) -> Entrance {
            Entrance {
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                callers: Arc::new(PendingConnections::new(limits)),
                served: unbounded(),
                release: unbounded(),
            }
        }

        /// A caller from 127.0.0.`from`, which has sent `words`.
        fn call(&self, from: u8, words: &str) -> Stream {
            let there = self.listener.local_addr().unwrap();
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
            let client = Stream::unconnected(from, there, &Tap::default()).unwrap();
            client.call(|| true).unwrap();
            (&client).write_all(words.as_bytes()).unwrap();
            let (socket, _) = self.listener.accept().unwrap();
            let stream = Stream::from(socket);
            if !words.is_empty() {
                assert!(stream.wait_for_input(Instant::now() + NEVER).unwrap());
            }
            let (served, release) = (self.served.0.clone(), self.release.1.clone());
            self.callers.admit(stream, "caller", move |caller| {
                if caller.handshake_within(NEVER).is_ok() {
                    served.send(caller.stream().peer()).unwrap();
                    let _ = release.recv();
                }
            });
            client
        }

        /// Asserts that `client` is the next one to be served.
        fn serves(&self, client: &Stream) {
            let next = self.served.1.recv_timeout(NEVER).unwrap();
            assert_eq!(next, client.local_addr().unwrap());
        }

        fn release(&self) {
            self.release.0.send(()).unwrap();
        }
    }

    fn is_open(client: &Stream) -> bool {
        let nothing = client.peek_now(&mut [0]);
        nothing.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn assert_closed(mut client: &Stream) {
        client.set_read_timeout(Some(NEVER)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }

    #[test]
    fn a_freed_thread_goes_to_a_caller_that_has_sent_something() {
        let entrance = Entrance::new(LIMITS);
        let first = entrance.call(1, "hello");
        entrance.serves(&first);
        let silent = entrance.call(2, "");
        let speaking = entrance.call(3, "hello");
        entrance.release();
        entrance.serves(&speaking);
        entrance.release();
        // The silent caller is next, and is served as soon as it sends a byte.
        (&silent).write_all(b"hello").unwrap();
        entrance.serves(&silent);
        entrance.release();
    }

    #[test]
    fn a_silent_caller_yields_to_a_parked_one() {
        let entrance = Entrance::new(PendingLimits {
            first_byte: Duration::ZERO,
            ..LIMITS
        });
        let silent = entrance.call(1, "");
        let speaking = entrance.call(2, "hello");
        entrance.serves(&speaking);
        assert_closed(&silent);
        entrance.release();
    }

    #[test]
    fn a_caller_that_has_sent_something_is_not_evicted_by_newcomers() {
        let entrance = Entrance::new(PendingLimits {
            first_byte: Duration::ZERO,
            ..LIMITS
        });
        let first = entrance.call(1, "hello");
        entrance.serves(&first);
        let _newcomers: Vec<Stream> = (0..20).map(|_| entrance.call(2, "")).collect();
        assert!(is_open(&first));
        entrance.release();
    }

    #[test]
    fn the_address_with_the_most_parked_callers_loses_its_oldest_silent_one() {
        let entrance = Entrance::new(LIMITS);
        let first = entrance.call(1, "hello");
        entrance.serves(&first);
        let alone = entrance.call(2, "");
        let crowd = [
            entrance.call(3, "hello"),
            entrance.call(3, ""),
            entrance.call(3, ""),
        ];
        assert_closed(&crowd[1]);
        for kept in [&alone, &crowd[0], &crowd[2]] {
            assert!(is_open(kept));
        }
        let newcomer = entrance.call(4, "");
        assert_closed(&crowd[2]);
        let another = entrance.call(5, "");
        // One each, so the oldest goes.
        assert_closed(&alone);
        for kept in [&newcomer, &another, &crowd[0]] {
            assert!(is_open(kept));
        }
    }

    #[test]
    fn one_address_has_its_share_of_the_threads() {
        let entrance = Entrance::new(PendingLimits {
            threads: 3,
            threads_per_address: 2,
            ..LIMITS
        });
        let crowd: Vec<Stream> = (0..3).map(|_| entrance.call(1, "hello")).collect();
        let other = entrance.call(2, "hello");
        let mut served: Vec<SocketAddr> = (0..3)
            .map(|_| entrance.served.1.recv_timeout(NEVER).unwrap())
            .collect();
        let mut expected: Vec<SocketAddr> = [&crowd[0], &crowd[1], &other]
            .map(|client| client.local_addr().unwrap())
            .into();
        served.sort_unstable();
        expected.sort_unstable();
        assert_eq!(served, expected);
        entrance.release();
        // The third caller of the crowd is served when either of the other two has finished.
        while entrance.served.1.try_recv() != Ok(crowd[2].local_addr().unwrap()) {
            let _ = entrance.release.0.send(());
            std::thread::yield_now();
        }
        for _ in 0..4 {
            entrance.release();
        }
    }

    #[test]
    fn a_reverse_proxy_may_use_all_threads() {
        let entrance = Entrance::new(PendingLimits {
            threads: 3,
            threads_per_address: 1,
            ..LIMITS
        });
        entrance.callers.trust(&["127.0.0.1".parse().unwrap()]);
        for from in [1, 1, 2] {
            entrance.serves(&entrance.call(from, "hello"));
        }
        // The pool as a whole is full.
        let parked = entrance.call(1, "hello");
        assert!(is_open(&parked));
        assert!(entrance.served.1.try_recv().is_err());
        for _ in 0..3 {
            entrance.release();
        }
        entrance.serves(&parked);
        entrance.release();
    }

    #[test]
    fn parked_callers_that_have_hung_up_are_passed_over() {
        let entrance = Entrance::new(LIMITS);
        let first = entrance.call(1, "hello");
        entrance.serves(&first);
        let gone = entrance.call(2, "");
        let waiting = entrance.call(3, "hello");
        gone.close();
        entrance.release();
        entrance.serves(&waiting);
        entrance.release();
    }

    #[test]
    fn the_end_closes_parked_callers_and_joins_the_others() {
        let entrance = Entrance::new(LIMITS);
        let served = entrance.call(1, "");
        let parked = entrance.call(2, "");
        entrance.callers.end(Duration::ZERO);
        assert_closed(&parked);
        assert_closed(&served);
        let late = entrance.call(3, "");
        assert_closed(&late);
    }
}
