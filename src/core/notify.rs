//! Notifications for a thread that waits for several things: a single channel carries ticks,
//! notifications of work, and the stop signal.
//!
//! A worker's timer thread waits for work in `recv` on this channel and nowhere else. The channel
//! has room for one item of each kind, so a sender never blocks. It holds at most one notification of
//! work, however often one is sent: a thousand messages wake the thread once. A tick that arrives
//! while another one is still in the channel is stored alongside it, and the thread reads the
//! latest one. A thread that was in a long write when a tick arrived therefore does not compare its
//! deadlines with an outdated tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::tick::Tick;

/// The reason why a thread was woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notification {
    /// The clock has advanced to this tick.
    Tick(Tick),
    /// There is work, such as output to write.
    Work,
    /// The clock has stopped: the server is shutting down.
    Stop,
}

/// The channel's capacity: one notification of each kind.
const ROOM: usize = 3;

/// The notifications that the thread has not read yet.
#[derive(Default)]
struct UnderWay {
    /// Set if a notification of work is in the channel.
    work: AtomicBool,
    /// The latest tick that was sent and has not been read; 0 if there is none.
    tick: AtomicU64,
}

/// The sending end. Clones wake the same thread.
#[derive(Clone)]
pub struct Notifier {
    sender: Sender<Notification>,
    under_way: Arc<UnderWay>,
}

impl Notifier {
    /// Notifies the thread of work. Never blocks. Repeated notifications that the thread has not
    /// read yet count as one.
    pub fn notify(&self) {
        if !self.under_way.work.swap(true, Ordering::AcqRel) {
            let _ = self.sender.try_send(Notification::Work);
        }
    }

    /// Sends a tick. Only the ticker calls this.
    pub fn tick(&self, now: Tick) {
        if self.under_way.tick.swap(now.0, Ordering::AcqRel) == 0 {
            let _ = self.sender.try_send(Notification::Tick(now));
        }
    }

    /// Sends the stop signal; called only once.
    pub fn stop(&self) {
        let _ = self.sender.try_send(Notification::Stop);
    }
}

/// The receiving end, which belongs to one thread.
pub struct NotifyReceiver {
    notifier: Notifier,
    receiver: Receiver<Notification>,
}

impl Default for NotifyReceiver {
    fn default() -> NotifyReceiver {
        NotifyReceiver::new()
    }
}

impl NotifyReceiver {
    /// Creates a channel without notifications.
    pub fn new() -> NotifyReceiver {
        let (sender, receiver) = bounded(ROOM);
        let under_way = Arc::default();
        NotifyReceiver {
            notifier: Notifier { sender, under_way },
            receiver,
        }
    }

    /// Returns a sending end.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Blocks until there is a notification, and returns it.
    pub fn next(&self) -> Notification {
        // This struct also holds a sending end, so the channel never disconnects.
        self.read(self.receiver.recv().unwrap_or(Notification::Stop))
    }

    /// Returns a notification if there is one already.
    pub fn try_next(&self) -> Option<Notification> {
        let wake = self.receiver.try_recv().ok()?;
        Some(self.read(wake))
    }

    /// Marks the notification as read, so that the next one is sent through the channel again. A
    /// sender stores its data before it notifies, and this thread checks for data after this call.
    fn read(&self, wake: Notification) -> Notification {
        let under_way = &self.notifier.under_way;
        match wake {
            Notification::Tick(sent) => {
                let latest = under_way.tick.swap(0, Ordering::AcqRel);
                Notification::Tick(Tick(latest.max(sent.0)))
            }
            Notification::Work => {
                // A swap, as in `notify`: of two concurrent swaps, the later one sees everything
                // that happened before the earlier one. With a plain store, this thread's next
                // reads could happen before the flag is cleared. A sender that stores data in
                // between would find the flag set and send no notification, and this thread would
                // find no data and sleep.
                under_way.work.swap(false, Ordering::AcqRel);
                Notification::Work
            }
            Notification::Stop => Notification::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Long enough for a thread to be scheduled on a very busy machine.
    const PATIENCE: Duration = Duration::from_secs(120);

    #[test]
    fn the_channel_holds_one_of_each_kind_and_repeats_coalesce() {
        let notifications = NotifyReceiver::new();
        let notifier = notifications.notifier();
        for now in 1..=5 {
            notifier.notify();
            notifier.tick(Tick(now));
        }
        notifier.stop();
        let mut heard = Vec::new();
        while let Some(wake) = notifications.try_next() {
            heard.push(wake);
        }
        assert_eq!(
            heard,
            [
                Notification::Work,
                Notification::Tick(Tick(5)),
                Notification::Stop
            ]
        );
        notifier.notify();
        notifier.tick(Tick(6));
        assert_eq!(notifications.next(), Notification::Work);
        assert_eq!(notifications.next(), Notification::Tick(Tick(6)));
    }

    /// Walks every order of ten steps of the ticker and the thread: the thread never waits with a
    /// tick unread, and the last tick that it reads is the latest.
    #[test]
    fn no_tick_is_missed_in_any_interleaving() {
        #[derive(Clone, Copy)]
        enum NotifyStep {
            Beat,
            Look,
        }
        for order in 0..1_u32 << 10 {
            let notifications = NotifyReceiver::new();
            let notifier = notifications.notifier();
            let (mut now, mut seen) = (0, 0);
            let steps = (0..10).map(|bit| {
                if order >> bit & 1 == 0 {
                    NotifyStep::Beat
                } else {
                    NotifyStep::Look
                }
            });
            for step in steps {
                match step {
                    NotifyStep::Beat => {
                        now += 1;
                        notifier.tick(Tick(now));
                    }
                    NotifyStep::Look => match notifications.try_next() {
                        Some(Notification::Tick(tick)) => seen = tick.0,
                        Some(other) => panic!("{other:?}"),
                        None => assert_eq!(seen, now, "it would sleep through a tick"),
                    },
                }
            }
        }
    }

    /// A sender notifies after it has stored its data, and the thread checks for data after it
    /// wakes. So no data is left over, regardless of the order in which the two run.
    #[test]
    fn no_work_is_missed() {
        const COUNT: u64 = 300_000;
        let (put, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let notifications = NotifyReceiver::new();
        let notifier = notifications.notifier();
        let missed = thread::scope(|threads| {
            threads.spawn(|| {
                while taken.load(Ordering::Acquire) < COUNT {
                    notifications.next();
                    taken.store(put.load(Ordering::Acquire), Ordering::Release);
                }
            });
            let mut missed = 0;
            for number in 1..=COUNT {
                put.store(number, Ordering::Release);
                notifier.notify();
                // Wait now and then: otherwise the next notification would hide that this one was
                // missed.
                let until = Instant::now() + PATIENCE;
                while number % 3 == 0 && taken.load(Ordering::Acquire) < number {
                    if Instant::now() > until {
                        missed += 1;
                        break;
                    }
                    thread::yield_now();
                }
                if missed > 0 {
                    // Lets the other thread exit, regardless of the flag.
                    let _ = notifier.sender.try_send(Notification::Work);
                }
            }
            missed
        });
        assert_eq!(missed, 0, "words missed");
    }
}
