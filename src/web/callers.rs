//! The connections to a page's port: a thread for each, not too many, and an end for all of them.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::limits;
use crate::net::{Stream, host_of};

/// Connections that are open, to be shut at the end.
pub(crate) struct Callers {
    /// What their threads are called, before a number.
    thread_name: &'static str,
    most: usize,
    /// How many from one address, if that is limited.
    most_per_address: usize,
    open: Mutex<Open>,
    all_ended: Receiver<()>,
}

#[derive(Default)]
struct Open {
    /// Every caller's thread has a clone; the other end disconnects when the last one has ended.
    running: Option<Sender<()>>,
    /// The oldest first.
    callers: Vec<Arc<Caller>>,
    threads: Vec<JoinHandle<()>>,
    count: u64,
}

/// A connection.
pub(crate) struct Caller {
    pub(crate) stream: Stream,
    /// It has sent its request.
    has_asked: AtomicBool,
}

impl Caller {
    /// It has sent its request, and goes for nobody else from now on.
    pub(crate) fn has_asked(&self) {
        self.has_asked.store(true, Ordering::Release);
    }
}

/// A connection is among the callers for as long as this lives, whatever ends that.
pub(crate) struct Listed {
    callers: Arc<Callers>,
    pub(crate) caller: Arc<Caller>,
    _running: Option<Sender<()>>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self.callers.open.lock();
        open.callers
            .retain(|there| !Arc::ptr_eq(there, &self.caller));
    }
}

impl Callers {
    /// At most so many, whose threads are called `thread_name-1` and so on.
    pub(crate) fn new(thread_name: &'static str, most: usize) -> Callers {
        let (running, all_ended) = bounded(0);
        Callers {
            thread_name,
            most,
            most_per_address: usize::MAX,
            open: Mutex::new(Open {
                running: Some(running),
                ..Open::default()
            }),
            all_ended,
        }
    }

    /// Of one address, at most so many: the oldest of them gives way.
    pub(crate) fn with_most_per_address(self, most_per_address: usize) -> Callers {
        Callers {
            most_per_address,
            ..self
        }
    }

    /// Starts a thread that does `serve` for a connection.
    ///
    /// # Errors
    /// Gives the connection back when as many are open as may be. If there is no thread to be had, it is
    /// given up.
    pub(crate) fn take_in(
        self: &Arc<Self>,
        stream: Stream,
        serve: impl FnOnce(Listed) + Send + 'static,
    ) -> Result<(), Stream> {
        let mut open = self.open.lock();
        open.threads.retain(|thread| !thread.is_finished());
        let address = host_of(stream.peer().ip());
        let is_of_it = |caller: &Arc<Caller>| host_of(caller.stream.peer().ip()) == address;
        if self.most_per_address < self.most
            && open.callers.iter().filter(|there| is_of_it(there)).count() >= self.most_per_address
            && let Some(oldest) = open.callers.iter().position(is_of_it)
        {
            let _ = open.callers.remove(oldest).stream.shutdown(Shutdown::Both);
        }
        if open.callers.len() >= self.most {
            // Who only sits there, and for longest, goes for who may have something to ask.
            let silent = |caller: &Arc<Caller>| !caller.has_asked.load(Ordering::Acquire);
            let Some(oldest) = open.callers.iter().position(silent) else {
                return Err(stream);
            };
            let _ = open.callers.remove(oldest).stream.shutdown(Shutdown::Both);
        }
        let caller = Arc::new(Caller {
            stream,
            has_asked: AtomicBool::new(false),
        });
        open.callers.push(Arc::clone(&caller));
        open.count += 1;
        let name = format!("{}-{}", self.thread_name, open.count);
        let listed = Listed {
            callers: Arc::clone(self),
            caller,
            _running: open.running.clone(),
        };
        // Spawning may take a while, and a caller that is given up takes the lock.
        drop(open);
        let builder = Builder::new().name(name).stack_size(limits::THREAD_STACK);
        let spawned = builder.spawn(move || serve(listed));
        self.open.lock().threads.extend(spawned);
        Ok(())
    }

    /// Waits for all of them. Nobody is waited for who has asked for nothing yet; who is being answered gets
    /// the last of it, if the browser takes it within `patience`.
    pub(crate) fn end(&self, patience: Duration) {
        let mut open = self.open.lock();
        open.running = None;
        let threads = std::mem::take(&mut open.threads);
        for caller in &open.callers {
            let _ = caller.stream.shutdown(Shutdown::Read);
        }
        drop(open);
        let _ = self.all_ended.recv_timeout(patience);
        for caller in &self.open.lock().callers {
            let _ = caller.stream.shutdown(Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}
