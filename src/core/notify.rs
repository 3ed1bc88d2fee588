//! How a thread that sleeps for several reasons is woken for each of them: one channel, in which
//! ticks, the word that something waits, and the end arrive.
//!
//! A worker's timekeeper blocks in `recv` on it and on nothing else. There is room for one item of
//! each kind, so nobody who sends ever waits. Word of work is under way once at most, whoever sends
//! it how often: a thousand messages wake a thread once. A tick that comes while another one is
//! still in the channel is noted beside it, and the thread reads the latest: so no deadline is seen
//! late because a thread was in a long write when its tick came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::tick::Tick;

/// Why a thread was woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notification {
    /// The clock moved on, to this tick.
    Tick(Tick),
    /// Something waits to be written.
    Work,
    /// The clock has stopped: the server is going down.
    Stop,
}

/// One of each kind.
const ROOM: usize = 3;

/// What is under way to the thread.
#[derive(Default)]
struct UnderWay {
    /// Word of work is in the channel.
    work: AtomicBool,
    /// The latest tick that has been sent and not been read; 0 if there is none.
    tick: AtomicU64,
}

/// The sending end. Clones wake the same thread.
#[derive(Clone)]
pub struct Notifier {
    sender: Sender<Notification>,
    under_way: Arc<UnderWay>,
}

impl Notifier {
    /// Tells that something waits. Never waits itself; telling it twice before the thread looks is
    /// telling it once.
    pub fn notify(&self) {
        if !self.under_way.work.swap(true, Ordering::AcqRel) {
            let _ = self.sender.try_send(Notification::Work);
        }
    }

    /// Tells of a tick. The ticker alone does.
    pub fn tick(&self, now: Tick) {
        if self.under_way.tick.swap(now.0, Ordering::AcqRel) == 0 {
            let _ = self.sender.try_send(Notification::Tick(now));
        }
    }

    /// Tells of the end, which comes once.
    pub fn stop(&self) {
        let _ = self.sender.try_send(Notification::Stop);
    }
}

/// The receiving end: one thread's.
pub(crate) struct NotifyReceiver {
    notifier: Notifier,
    receiver: Receiver<Notification>,
}

impl Default for NotifyReceiver {
    fn default() -> NotifyReceiver {
        NotifyReceiver::new()
    }
}

impl NotifyReceiver {
    /// Nothing has happened yet.
    pub(crate) fn new() -> NotifyReceiver {
        let (sender, receiver) = bounded(ROOM);
        let under_way = Arc::default();
        NotifyReceiver {
            notifier: Notifier { sender, under_way },
            receiver,
        }
    }

    /// The other end.
    pub(crate) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Blocks until there is a reason to be awake.
    pub(crate) fn next(&self) -> Notification {
        // The sending end is here, too, so the channel never disconnects.
        self.read(self.receiver.recv().unwrap_or(Notification::Stop))
    }

    /// A reason, if there is one already.
    pub(crate) fn try_next(&self) -> Option<Notification> {
        let wake = self.receiver.try_recv().ok()?;
        Some(self.read(wake))
    }

    /// What comes from here on is told anew: whoever has something puts it where it belongs before
    /// telling of it, and this thread looks there after this.
    fn read(&self, wake: Notification) -> Notification {
        let under_way = &self.notifier.under_way;
        match wake {
            Notification::Tick(sent) => {
                let latest = under_way.tick.swap(0, Ordering::AcqRel);
                Notification::Tick(Tick(latest.max(sent.0)))
            }
            Notification::Work => {
                // A swap, as on the other side: of the two, one sees what the other did before.
                // With a plain store, what this thread looks at next may be read before the flag is
                // down. Then whoever puts something there in between finds the flag up and sends no
                // word, and this thread finds nothing and sleeps over it.
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

    /// Long enough for a thread to be scheduled on the busiest of machines.
    const PATIENCE: Duration = Duration::from_secs(120);

    #[test]
    fn there_is_room_for_one_of_each_and_telling_twice_is_telling_once() {
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

    /// Everything that the ticker and the thread can do, in every order, for four ticks: the thread
    /// never waits with a tick unread, and what it reads last is the latest.
    #[test]
    fn no_tick_is_missed_however_the_two_meet() {
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
                        None => assert_eq!(seen, now, "it would sleep over a tick"),
                    },
                }
            }
        }
    }

    /// Whoever has something says so after putting it there, and the sleeper looks after waking: so
    /// nothing is left lying, however the two meet.
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
                // Waited for now and then, or the next word would hide that this one was missed.
                let until = Instant::now() + PATIENCE;
                while number % 3 == 0 && taken.load(Ordering::Acquire) < number {
                    if Instant::now() > until {
                        missed += 1;
                        break;
                    }
                    thread::yield_now();
                }
                if missed > 0 {
                    // For the other thread to end, whatever the flag says.
                    let _ = notifier.sender.try_send(Notification::Work);
                }
            }
            missed
        });
        assert_eq!(missed, 0, "words missed");
    }
}
