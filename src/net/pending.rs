//! Connections that are not authenticated yet.
//!
//! A handshake takes as long as the caller makes it take, so each handshake needs its own thread,
//! and any caller can begin one. Two limits apply to all callers together: [`limits::HANDSHAKES`]
//! threads, and [`limits::PARKED`] accepted connections that wait for a thread.
//!
//! Every caller is accepted. Four rules decide which callers wait and which are dropped:
//!
//! 1. A free thread prefers a parked caller whose opening (a TLS record, a line) has arrived in
//!    full, then one that has sent part of it, then a silent one. Among equals, it chooses the
//!    address with the fewest threads and, among that address's callers, the oldest. An address
//!    never has more than its [share](Share) of the threads.
//! 2. While others are parked, a caller that keeps its thread waiting for
//!    [`limits::NEXT_BYTE_WITHIN`] at a stretch yields, and so does one that has kept it waiting
//!    for [`limits::WAITING_WITHIN`] in total. If no caller is parked at that moment, it yields to
//!    the next caller that needs its thread. The address with the most threads loses one first.
//! 3. A caller whose bytes keep arriving keeps its thread until its handshake completes or times
//!    out.
//! 4. If too many callers are parked, the address with the most parked callers loses the one that
//!    rule 1 would serve last, or the oldest of several.
//!
//! A longer accept backlog would not help: the kernel's backlog is first come, first served, so one
//! address can fill it.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::opening::TLS_HANDSHAKE;
use super::{HandshakeError, Stream, host_of};
use crate::limits;
use crate::lock::Mutex;
use crate::threads;

/// Limits on pending callers.
#[derive(Clone, Copy, Debug)]
pub struct PendingLimits {
    pub threads: usize,
    pub parked: usize,
    /// Maximum time that a thread waits for its caller's next byte while others are parked.
    pub next_byte: Duration,
    /// Like `next_byte`, but in total, for all bytes from the caller.
    pub waiting: Duration,
    /// Timeout for a handshake. Applies even while no caller is parked.
    pub handshake: Duration,
}

/// The maximum number of threads for callers from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub usize);

impl Default for Share {
    fn default() -> Share {
        Share(limits::HANDSHAKES_PER_ADDRESS)
    }
}

impl Default for PendingLimits {
    fn default() -> PendingLimits {
        PendingLimits {
            threads: limits::HANDSHAKES,
            parked: limits::PARKED,
            next_byte: limits::NEXT_BYTE_WITHIN,
            waiting: limits::WAITING_WITHIN,
            handshake: limits::HANDSHAKE_WITHIN,
        }
    }
}

/// The callers that have a thread, and those waiting for one.
pub struct PendingConnections {
    limits: PendingLimits,
    /// A leaf lock. No thread writes to a socket or starts a thread while it holds this lock.
    state: Mutex<PendingState>,
    all_ended: Receiver<()>,
}

struct PendingState {
    /// Each caller's thread has a clone, so the receiver disconnects when the last thread exits.
    /// `None` once no more callers are admitted.
    running: Option<Sender<()>>,
    /// Oldest first.
    served: Vec<Arc<Caller>>,
    /// Oldest first.
    parked: VecDeque<Parked>,
    threads: Vec<JoinHandle<()>>,
    /// Number of threads started so far, used in their names.
    started: u64,
}

struct Caller {
    stream: Stream,
    host: IpAddr,
    /// Set if the caller must yield as soon as another one needs its thread (rule 2).
    is_late: AtomicBool,
    is_evicted: AtomicBool,
}

/// A timeout that effectively never expires.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of bytes to peek at in a parked caller's opening. A longer opening counts as
/// complete.
const LOOK: usize = 2 * 1024;

type Serve = Box<dyn FnOnce(Pending) + Send>;

struct Parked {
    stream: Stream,
    host: IpAddr,
    share: Share,
    thread_name: &'static str,
    serve: Serve,
}

/// A caller that this thread serves. Dropping it frees the thread slot for the next caller, even if
/// the thread continues: a browser that has taken a seat is no longer pending.
pub struct Pending {
    callers: Arc<PendingConnections>,
    caller: Arc<Caller>,
    /// Set once a thread serves the caller.
    is_served: bool,
    /// The unused part of [`PendingLimits::waiting`].
    patience: Cell<Duration>,
    _running: Option<Sender<()>>,
}

/// A caller with a thread slot, and the function that its thread will run.
struct Start {
    pending: Pending,
    thread_name: String,
    serve: Serve,
}

impl Pending {
    pub fn stream(&self) -> &Stream {
        &self.caller.stream
    }

    /// Waits for the caller's first byte and, if the stream is encrypted, completes the TLS
    /// handshake.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection can no longer be used.
    pub fn handshake(&self) -> Result<(), HandshakeError> {
        self.handshake_within(self.callers.limits.handshake)
    }

    /// Like [`Pending::handshake`], but times out after `patience`.
    ///
    /// # Errors
    /// The same errors as [`Pending::handshake`].
    pub fn handshake_within(&self, patience: Duration) -> Result<(), HandshakeError> {
        let until = Instant::now() + patience;
        let stream = self.stream();
        let wait = || match self.wait_until(until, || stream.peek(&mut [0]))? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        };
        if stream.is_secured() {
            stream.shake_hands_after(&wait)?;
        } else {
            wait().map_err(HandshakeError::Io)?;
        }
        stream.set_read_timeout(None).map_err(HandshakeError::Io)
    }

    /// Reads bytes from the caller, waiting until `until` at the latest. Unlike a read from a
    /// [`Stream`], this yields to a parked caller.
    ///
    /// # Errors
    /// `TimedOut` if no byte arrived or the caller had to yield; otherwise any I/O error.
    pub fn read_until(&self, until: Instant, into: &mut [u8]) -> io::Result<usize> {
        self.wait_until(until, || self.stream().read(into))
    }

    /// Repeats `read` until it succeeds, `until` has passed, or this caller must yield (rule 2).
    fn wait_until(
        &self,
        until: Instant,
        mut read: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let timed_out = || io::Error::from(ErrorKind::TimedOut);
        let mut read_until = |until: Instant| {
            loop {
                let left = until.saturating_duration_since(Instant::now());
                // A read timeout of zero is invalid.
                let timeout = left.max(Duration::from_millis(1));
                self.stream().set_read_timeout(Some(timeout))?;
                match read() {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if super::is_timeout(&error) => return Ok(None),
                    read => return read.map(Some),
                }
            }
        };
        let begun = Instant::now();
        if begun >= until {
            return Err(timed_out());
        }
        let patience = self.patience.get();
        let soon = begun + self.callers.limits.next_byte.min(patience);
        let mut read = read_until(soon.min(until))?;
        self.patience.set(patience.saturating_sub(begun.elapsed()));
        if read.is_none() {
            self.callers.note_late(&self.caller)?;
            let late_read = read_until(until);
            self.caller.is_late.store(false, Ordering::Release);
            read = late_read?;
        }
        // An eviction interrupts this read or, if it comes just after this read, the next one.
        if self.caller.is_evicted.load(Ordering::Acquire) {
            return Err(timed_out());
        }
        read.ok_or_else(timed_out)
    }
}

/// Reads without a deadline, for callers whose connections are closed by a timer.
impl Read for &Pending {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_until(Instant::now() + FAR, into)
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
    pub fn new(limits: PendingLimits) -> PendingConnections {
        let (running, all_ended) = bounded(0);
        PendingConnections {
            limits,
            state: Mutex::new(PendingState {
                running: Some(running),
                served: Vec::new(),
                parked: VecDeque::new(),
                threads: Vec::new(),
                started: 0,
            }),
            all_ended,
        }
    }

    /// Admits a caller. As soon as a thread slot is free for it, a thread named `thread_name-1`
    /// (and so on) runs `serve` for it. `share` limits the threads for the caller's address.
    pub fn admit(
        self: &Arc<Self>,
        stream: Stream,
        share: Share,
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
            share,
            thread_name,
            serve: Box::new(serve),
        });
        let has_place = state.has_place(&self.limits, host, share);
        if !has_place {
            state.evict_late(&self.limits, host);
        }
        let dropped = state.drop_surplus(self.limits.parked);
        drop(state);
        drop(dropped);
        if has_place {
            self.start_parked();
        }
    }

    /// Marks a caller as late, so that the next caller that needs its thread evicts it.
    ///
    /// # Errors
    /// `TimedOut` if the caller must yield now.
    fn note_late(&self, caller: &Caller) -> io::Result<()> {
        let state = self.state.lock();
        if state.needs_place_of(&self.limits, caller.host) {
            return Err(ErrorKind::TimedOut.into());
        }
        caller.is_late.store(true, Ordering::Release);
        Ok(())
    }

    /// Starts threads for parked callers while thread slots are free.
    fn start_parked(self: &Arc<Self>) {
        loop {
            let (start, left) = self.next();
            // Closing a socket may take long, so it must not happen while the lock is held.
            drop(left);
            let Some(start) = start else { return };
            let Start {
                mut pending,
                thread_name,
                serve,
            } = start;
            let spawned = threads::start(thread_name, move || {
                pending.is_served = true;
                serve(pending);
            });
            match spawned {
                Ok(thread) => self.state.lock().threads.push(thread),
                // The system can't create a thread: drop this caller and let the others wait.
                Err(_) => return,
            }
        }
    }

    /// Returns the next parked caller, if there is a thread slot for it, and the callers that have
    /// closed their connections.
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
            is_late: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
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
                patience: Cell::new(self.limits.waiting),
                _running: Some(running),
            },
        };
        (Some(start), left)
    }

    /// Drops the parked callers and joins the threads of the others. A thread that is waiting for a
    /// silent caller stops immediately. A thread that is sending a reply has `patience` to finish.
    pub fn end(&self, patience: Duration) {
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

/// The part of its opening that a parked caller has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    Nothing,
    APart,
    AnOpening,
}

impl Sent {
    /// # Errors
    /// `UnexpectedEof` if the caller has closed the connection; otherwise any I/O error.
    fn by(stream: &Stream) -> io::Result<Sent> {
        let mut bytes = [0; LOOK];
        match stream.peek_now(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Sent::of(&bytes[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Sent::Nothing),
            Err(error) => Err(error),
        }
    }

    fn of(bytes: &[u8]) -> Sent {
        let is_complete = match *bytes {
            [] => return Sent::Nothing,
            _ if bytes.len() >= LOOK => true,
            [TLS_HANDSHAKE, ..] => match *bytes {
                [_, _, _, high, low, ..] => {
                    bytes.len() - 5 >= usize::from(u16::from_be_bytes([high, low]))
                }
                _ => false,
            },
            [.., last] => last == b'\n',
        };
        if is_complete {
            Sent::AnOpening
        } else {
            Sent::APart
        }
    }
}

impl PendingState {
    fn threads_of(&self, host: IpAddr) -> usize {
        self.served
            .iter()
            .filter(|caller| caller.host == host)
            .count()
    }

    fn has_place(&self, limits: &PendingLimits, host: IpAddr, share: Share) -> bool {
        self.served.len() < limits.threads && self.threads_of(host) < share.0
    }

    /// Returns whether a parked caller could be served instead of one from `host`.
    fn needs_place_of(&self, limits: &PendingLimits, host: IpAddr) -> bool {
        let is_full = self.served.len() >= limits.threads;
        self.parked.iter().any(|parked| {
            parked.host == host || is_full && self.threads_of(parked.host) < parked.share.0
        })
    }

    /// Applies rule 1. Moves callers that have closed their connections to `left`.
    fn next_parked(&mut self, limits: &PendingLimits, left: &mut Vec<Parked>) -> Option<usize> {
        if self.served.len() >= limits.threads {
            return None;
        }
        let mut best = None;
        let mut index = 0;
        while let Some(Parked { host, share, .. }) = self.parked.get(index) {
            let threads = self.threads_of(*host);
            if threads >= share.0 {
                index += 1;
                continue;
            }
            match Sent::by(&self.parked[index].stream) {
                Ok(sent) => {
                    let rank = (sent, Reverse(threads));
                    if best.is_none_or(|(_, highest)| rank > highest) {
                        best = Some((index, rank));
                    }
                    index += 1;
                }
                Err(_) => left.extend(self.parked.remove(index)),
            }
        }
        best.map(|(index, _)| index)
    }

    /// Applies rule 2 to callers that were late before another one was parked. The shutdown
    /// interrupts the read in the caller's thread, and the thread slot is free once that thread has
    /// exited.
    fn evict_late(&mut self, limits: &PendingLimits, host: IpAddr) {
        let is_full = self.served.len() >= limits.threads;
        let late = self.served.iter().filter(|caller| {
            (is_full || caller.host == host) && caller.is_late.load(Ordering::Acquire)
        });
        let Some(greediest) = greediest(late.clone().map(|caller| caller.host)) else {
            return;
        };
        let mut late = late.filter(|caller| caller.host == greediest);
        if let Some(late) = late.next() {
            // The next newcomer must evict a different caller.
            late.is_late.store(false, Ordering::Release);
            late.is_evicted.store(true, Ordering::Release);
            let _ = late.stream.shutdown(Shutdown::Read);
        }
    }

    /// Applies rule 4.
    fn drop_surplus(&mut self, most: usize) -> Option<Parked> {
        if self.parked.len() <= most {
            return None;
        }
        let host = greediest(self.parked.iter().map(|parked| parked.host))?;
        let of_host = self
            .parked
            .iter()
            .enumerate()
            .filter(|(_, parked)| parked.host == host);
        let sent = of_host.map(|(index, parked)| (index, Sent::by(&parked.stream).ok()));
        let (index, _) = sent.min_by_key(|(_, sent)| *sent)?;
        self.parked.remove(index)
    }
}

/// Returns the host with the most entries; in a tie, the one with the earliest entry.
pub fn greediest(hosts: impl Iterator<Item = IpAddr> + Clone) -> Option<IpAddr> {
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
    use std::io::Write as _;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use crossbeam_channel::unbounded;

    use crate::Tap;

    /// Expires only if a test fails.
    const NEVER: Duration = Duration::from_secs(60);

    const LIMITS: PendingLimits = PendingLimits {
        threads: 1,
        parked: 3,
        next_byte: NEVER,
        waiting: NEVER,
        handshake: NEVER,
    };

    /// An entrance whose threads report the caller that they serve and then wait to be released.
    struct TestEntrance {
        listener: TcpListener,
        callers: Arc<PendingConnections>,
        share: Share,
        served: (Sender<SocketAddr>, Receiver<SocketAddr>),
        release: (Sender<()>, Receiver<()>),
    }

    impl Drop for TestEntrance {
        fn drop(&mut self) {
            // Release the threads that are still serving, so that `end` can join them.
            self.release.0 = unbounded().0;
        }
    }

    impl TestEntrance {
        fn new(limits: PendingLimits) -> TestEntrance {
            TestEntrance {
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                callers: Arc::new(PendingConnections::new(limits)),
                share: Share(limits.threads),
                served: unbounded(),
                release: unbounded(),
            }
        }

        /// Returns both ends of a connection from 127.0.0.`from` on which `words` have arrived.
        fn connect(&self, from: u8, words: &str) -> (Stream, Stream) {
            let there = self.listener.local_addr().unwrap();
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
            let client = Stream::unconnected(from, there, &Tap::default()).unwrap();
            client.call(|| true).unwrap();
            (&client).write_all(words.as_bytes()).unwrap();
            let (socket, _) = self.listener.accept().unwrap();
            let stream = Stream::from(socket);
            if !words.is_empty() {
                stream.set_read_timeout(Some(NEVER)).unwrap();
                assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
            }
            (client, stream)
        }

        /// Admits a caller from 127.0.0.`from` that has sent `words`.
        fn call(&self, from: u8, words: &str) -> Stream {
            let (client, stream) = self.connect(from, words);
            let (served, release) = (self.served.0.clone(), self.release.1.clone());
            self.callers
                .admit(stream, self.share, "caller", move |caller| {
                    if caller.handshake_within(NEVER).is_ok() {
                        served.send(caller.stream().peer()).unwrap();
                        let _ = release.recv();
                    }
                });
            client
        }

        /// Admits a caller whose thread reads until a read fails. The receiver gets the reason.
        fn call_and_read(&self, from: u8, words: &str) -> (Stream, Receiver<ErrorKind>) {
            let (client, stream) = self.connect(from, words);
            let (ended, end) = unbounded();
            self.callers
                .admit(stream, self.share, "caller", move |caller| {
                    let until = Instant::now() + NEVER;
                    loop {
                        if let Err(error) = caller.read_until(until, &mut [0; 64]) {
                            ended.send(error.kind()).unwrap();
                            return;
                        }
                    }
                });
            (client, end)
        }

        fn is_late(&self, client: &Stream) -> bool {
            let address = client.local_addr().unwrap();
            let state = self.callers.state.lock();
            let mut there = state.served.iter();
            there.any(|caller| {
                caller.stream.peer() == address && caller.is_late.load(Ordering::Acquire)
            })
        }

        /// Asserts that `client` is the next caller to be served.
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
        let entrance = TestEntrance::new(LIMITS);
        let first = entrance.call(1, "hello");
        entrance.serves(&first);
        let silent = entrance.call(2, "");
        let speaking = entrance.call(3, "hello");
        entrance.release();
        entrance.serves(&speaking);
        entrance.release();
        // The silent caller is next, and is served once it sends a byte.
        (&silent).write_all(b"hello").unwrap();
        entrance.serves(&silent);
        entrance.release();
    }

    #[test]
    fn a_silent_caller_yields_to_a_parked_one() {
        let entrance = TestEntrance::new(PendingLimits {
            next_byte: Duration::ZERO,
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
        let entrance = TestEntrance::new(PendingLimits {
            next_byte: Duration::ZERO,
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
        let entrance = TestEntrance::new(LIMITS);
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
        // Each address has one parked caller, so the oldest one is dropped.
        assert_closed(&alone);
        for kept in [&newcomer, &another, &crowd[0]] {
            assert!(is_open(kept));
        }
    }

    #[test]
    fn a_complete_opening_is_served_before_a_part_of_one() {
        let entrance = TestEntrance::new(LIMITS);
        let first = entrance.call(1, "hello\n");
        entrance.serves(&first);
        let part = entrance.call(2, "G");
        let whole = entrance.call(2, "GET / HTTP/1.1\r\n\r\n");
        entrance.release();
        entrance.serves(&whole);
        entrance.release();
        entrance.serves(&part);
        entrance.release();
    }

    #[test]
    fn among_equals_the_address_with_the_fewest_threads_is_next() {
        let entrance = TestEntrance::new(PendingLimits {
            threads: 2,
            ..LIMITS
        });
        let crowd = [(); 3].map(|()| entrance.call(1, "hello\n"));
        let alone = entrance.call(2, "hello\n");
        let mut first = [(); 2].map(|()| entrance.served.1.recv_timeout(NEVER).unwrap());
        first.sort_unstable();
        let mut expected = [&crowd[0], &crowd[1]].map(|client| client.local_addr().unwrap());
        expected.sort_unstable();
        assert_eq!(first, expected);
        entrance.release();
        entrance.serves(&alone);
        for _ in 0..3 {
            entrance.release();
        }
        entrance.serves(&crowd[2]);
    }

    /// Tests callers that stop sending after their first bytes.
    #[test]
    fn a_caller_that_stops_in_the_middle_yields_to_a_parked_one() {
        for part in ["", "G", "GET / HTTP/1.1\r\n"] {
            let entrance = TestEntrance::new(PendingLimits {
                next_byte: Duration::ZERO,
                ..LIMITS
            });
            let (stalled, ended) = entrance.call_and_read(1, part);
            let waiting = entrance.call(1, "hello\n");
            entrance.serves(&waiting);
            assert_eq!(ended.recv_timeout(NEVER), Ok(ErrorKind::TimedOut));
            assert_closed(&stalled);
            entrance.release();
        }
    }

    /// Sending one byte at a time does not help, because the waiting times add up.
    #[test]
    fn a_caller_that_uses_up_its_waiting_time_yields_to_a_parked_one() {
        let entrance = TestEntrance::new(PendingLimits {
            waiting: Duration::ZERO,
            ..LIMITS
        });
        let (dripping, ended) = entrance.call_and_read(1, "GET");
        let waiting = entrance.call(1, "hello\n");
        entrance.serves(&waiting);
        assert_eq!(ended.recv_timeout(NEVER), Ok(ErrorKind::TimedOut));
        assert_closed(&dripping);
        entrance.release();
    }

    /// The shutdown for an eviction may come after the read that it was meant to interrupt.
    #[test]
    fn a_caller_that_is_evicted_between_two_reads_does_not_see_the_end_of_the_stream() {
        let entrance = TestEntrance::new(LIMITS);
        let (_client, stream) = entrance.connect(1, "G");
        let ((go, going), (ended, end)) = (unbounded::<()>(), unbounded());
        entrance
            .callers
            .admit(stream, entrance.share, "caller", move |caller| {
                going.recv().unwrap();
                let read = caller.read_until(Instant::now() + NEVER, &mut [0; 64]);
                ended.send(read.map_err(|error| error.kind())).unwrap();
            });
        let late = Arc::clone(&entrance.callers.state.lock().served[0]);
        late.is_late.store(true, Ordering::Release);
        let waiting = entrance.call(1, "hello\n");
        go.send(()).unwrap();
        assert_eq!(end.recv_timeout(NEVER), Ok(Err(ErrorKind::TimedOut)));
        entrance.serves(&waiting);
        entrance.release();
    }

    /// A slow caller's thread slot is of no use to callers whose address already has its share.
    #[test]
    fn no_caller_yields_to_callers_that_could_not_be_served() {
        let mut entrance = TestEntrance::new(PendingLimits {
            threads: 3,
            next_byte: Duration::ZERO,
            ..LIMITS
        });
        entrance.share = Share(1);
        let crowd = [(); 3].map(|()| entrance.call(1, "hello\n"));
        entrance.serves(&crowd[0]);
        let slow = entrance.call(2, "");
        // The slow caller's thread finds no caller to yield to.
        while !entrance.is_late(&slow) {
            std::thread::yield_now();
        }
        assert!(is_open(&slow));
        (&slow).write_all(b"hello\n").unwrap();
        entrance.serves(&slow);
        for _ in 0..4 {
            entrance.release();
        }
    }

    #[test]
    fn an_opening_is_a_tls_record_or_lines() {
        let hello = [&[0x16, 3, 1, 0, 4][..], b"abcd"].concat();
        for (bytes, sent) in [
            (&b""[..], Sent::Nothing),
            (b"\x16", Sent::APart),
            (&hello[..5], Sent::APart),
            (&hello[..8], Sent::APart),
            (&hello, Sent::AnOpening),
            (b"GET / HT", Sent::APart),
            (b"GET / HTTP/1.1\r\n\r\n", Sent::AnOpening),
            (&[b'a'; LOOK], Sent::AnOpening),
        ] {
            assert_eq!(Sent::of(bytes), sent, "{bytes:?}");
        }
    }

    #[test]
    fn one_address_has_its_share_of_the_threads() {
        let mut entrance = TestEntrance::new(PendingLimits {
            threads: 3,
            ..LIMITS
        });
        entrance.share = Share(2);
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
    fn parked_callers_that_have_disconnected_are_skipped() {
        let entrance = TestEntrance::new(LIMITS);
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
        let entrance = TestEntrance::new(LIMITS);
        let served = entrance.call(1, "");
        let parked = entrance.call(2, "");
        entrance.callers.end(Duration::ZERO);
        assert_closed(&parked);
        assert_closed(&served);
        let late = entrance.call(3, "");
        assert_closed(&late);
    }
}
